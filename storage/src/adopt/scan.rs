//! Reading a log that another program has written, from its first record to its end: what is in
//! it, and where it ends.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use protocol::{record::RecordView, sys_flag};

use crate::{
    DamagedRange, LogOffset, OpenError,
    commit_log::{
        recover::Found,
        scan::{Scanner, Step},
    },
    file::failed,
};

/// What a log holds.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) segments: Vec<Found>,
    /// Where the log ends.
    pub(super) end: u64,
    pub(super) records: u64,
    /// Store times of the first and the last record, Unix ms.
    pub(super) first_store_ms: i64,
    pub(super) last_store_ms: i64,
    pub(super) topics: HashMap<String, SeenTopic>,
    /// Damage between valid records.
    pub(super) damaged: Vec<DamagedRange>,
    /// Why what follows the last record is no record, if it is not nothing.
    pub(super) torn: Option<String>,
}

/// The records of one topic that its queues hold.
#[derive(Debug, Default)]
pub(super) struct SeenTopic {
    pub(super) records: u64,
    /// Records before this log offset belong to an earlier topic of the same name.
    pub(super) since: u64,
    pub(super) queues: BTreeMap<u32, SeenQueue>,
}

/// The records of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SeenQueue {
    /// Queue offset behind the last record.
    pub(super) next: u64,
    /// Position of the last record.
    pub(super) last: u64,
}

/// Reads the whole log in `store` and shows every record to `each`. Changes nothing.
///
/// An invalid place ends the log, unless a valid record follows that RocketMQ knew to be on the
/// disk: stored no earlier than the record before and no later than its checkpoint. What follows
/// otherwise was cut off by RocketMQ without being overwritten, or never became durable.
///
/// # Errors
/// The log cannot be read, or a segment is missing.
pub(super) fn scan(store: &Path, mut each: impl FnMut(&RecordView<'_>)) -> Result<Seen, OpenError> {
    let log_dir = store.join("commitlog");
    let mut seen = Seen { segments: segments(&log_dir)?, ..Seen::default() };
    let durable_ms = durable_ms(store)?;
    let segments = seen.segments.clone();
    let mut offset = segments.first().map_or(0, |first| first.base_offset);
    seen.end = offset;
    for (i, segment) in segments.iter().enumerate() {
        let failed = || failed("read", &segment.path);
        if segment.limit_offset() <= offset {
            continue;
        }
        if segment.base_offset > offset {
            let (expected, found) = (LogOffset(offset), LogOffset(segment.base_offset));
            return Err(OpenError::LogGap { path: log_dir, expected, found });
        }
        let mut scanner = Scanner::open(&segment.path, segment.base_offset).map_err(failed())?;
        loop {
            let reason = match scanner.step(offset).map_err(failed())? {
                Step::Record(record) => {
                    seen.add(&record);
                    each(&record);
                    offset += u64::from(record.total_size);
                    seen.end = offset;
                    continue;
                }
                Step::Filled => {
                    seen.end = segment.limit_offset();
                    break;
                }
                Step::Empty => None,
                Step::Invalid(reason) => Some(reason),
            };
            // Zeros may go on for long; only what later segments hold tells more about them.
            let here = reason.as_ref().map(|_| &mut scanner);
            let later = segments.get(i + 1..).unwrap_or_default();
            let times = (seen.last_store_ms, durable_ms);
            match next_durable(here, later, offset, times)? {
                Some(next) => {
                    seen.damaged
                        .push(DamagedRange { from: LogOffset(offset), to: LogOffset(next) });
                    offset = next;
                    if next >= segment.limit_offset() {
                        break;
                    }
                }
                None => {
                    seen.torn = reason;
                    return Ok(seen);
                }
            }
        }
        offset = offset.max(segment.limit_offset());
    }
    Ok(seen)
}

/// Where the log goes on behind an invalid place, if it does: in the segment that is being read,
/// or at the start of a later one.
fn next_durable(
    here: Option<&mut Scanner>,
    later: &[Found],
    from: u64,
    (last_ms, durable_ms): (i64, i64),
) -> Result<Option<u64>, OpenError> {
    let durable = |step: Step<'_>| match step {
        Step::Record(record) => (last_ms..=durable_ms).contains(&record.store_timestamp),
        Step::Filled | Step::Empty | Step::Invalid(_) => false,
    };
    let mut place = None;
    for segment in later {
        let failed = || failed("read", &segment.path);
        let mut scanner = Scanner::open(&segment.path, segment.base_offset).map_err(failed())?;
        if durable(scanner.step(segment.base_offset).map_err(failed())?) {
            place = Some(segment.base_offset);
            break;
        }
    }
    let Some(scanner) = here else { return Ok(place) };
    let limit = scanner.limit_offset();
    let failed = || failed("read", format!("the segment that ends at {limit}"));
    let mut at = from;
    while let Some(next) = scanner.find_record(at + 1, limit).map_err(failed())? {
        if durable(scanner.step(next).map_err(failed())?) {
            return Ok(Some(next));
        }
        at = next;
    }
    Ok(place)
}

impl Seen {
    fn add(&mut self, record: &RecordView<'_>) {
        let log_offset = u64::try_from(record.log_offset).unwrap_or_default();
        if self.records == 0 {
            self.first_store_ms = record.store_timestamp;
        }
        self.records += 1;
        self.last_store_ms = record.store_timestamp;
        let (Ok(queue_id), Ok(queue_offset), true) = (
            u32::try_from(record.queue_id),
            u64::try_from(record.queue_offset),
            is_in_queue(record.sys_flag),
        ) else {
            return;
        };
        if !self.topics.contains_key(record.topic) {
            self.topics.insert(record.topic.to_owned(), SeenTopic::default());
        }
        let Some(topic) = self.topics.get_mut(record.topic) else { return };
        topic.records += 1;
        let queue = topic.queues.entry(queue_id).or_default();
        if queue_offset < queue.next {
            // The count begins again: the topic was deleted and created anew in between.
            topic.since = topic.since.max(queue.last + 1);
        }
        *queue = SeenQueue { next: queue_offset + 1, last: log_offset };
    }
}

impl SeenTopic {
    /// The queues that the topic still has: those with a record since it was last created.
    pub(super) fn live_queues(&self) -> impl Iterator<Item = (u32, SeenQueue)> {
        let since = self.since;
        let queues = self.queues.iter().map(|(&queue_id, &queue)| (queue_id, queue));
        queues.filter(move |(_, queue)| queue.last >= since)
    }
}

/// Whether a message is in its queue. Half and rolled-back messages are not, and count no offset.
///
/// # Source: `DefaultMessageStore.CommitLogDispatcherBuildConsumeQueue`
pub(crate) fn is_in_queue(flags: i32) -> bool {
    !matches!(
        sys_flag::transaction(flags),
        sys_flag::TRANSACTION_PREPARED | sys_flag::TRANSACTION_ROLLBACK
    )
}

/// The segments in order; an empty last file does not count.
pub(super) fn segments(dir: &Path) -> Result<Vec<Found>, OpenError> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(failed("read", dir)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed("read", dir))?;
        let (path, name) = (entry.path(), entry.file_name());
        let Some(name) = name.to_str() else { continue };
        if let (20, Ok(base_offset)) = (name.len(), name.parse()) {
            let len = entry.metadata().map_err(failed("read", &path))?.len();
            found.push(Found { base_offset, len, path });
        }
    }
    found.sort_unstable_by_key(|segment| segment.base_offset);
    found.pop_if(|last| last.len == 0);
    Ok(found)
}

/// Store time up to which RocketMQ knew its records to be on the disk. Without a checkpoint a
/// store that was closed in order knows it of all, another one of none.
///
/// # Source: `StoreCheckpoint`, whose first 8 bytes are `physicMsgTimestamp`
fn durable_ms(store: &Path) -> Result<i64, OpenError> {
    let path = store.join("checkpoint");
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let stored = bytes.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
    let unclean = store.join("abort").exists();
    Ok(match stored {
        0 if !unclean => i64::MAX,
        stored => stored,
    })
}
