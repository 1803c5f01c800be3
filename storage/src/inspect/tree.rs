//! What is in the directory of a store.

use std::{collections::HashMap, io, ops::ControlFlow, path::Path};

use super::{
    Error,
    files::{self, Files},
    log::{self, Event},
    rows,
};
use crate::{
    TopicId,
    commit_log::{
        durable,
        recover::Found,
        scan::{Scanner, Step},
    },
    index::{self, Family, Guard, Index, consumer_offset, for_each, read_error},
};

/// Lengths of log in which the last record of a segment is looked for.
const TAIL_STEPS_BYTES: [u64; 3] = [64 << 10, 2 << 20, 40 << 20];

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// Segment files in order.
    pub segments: Vec<SegmentInfo>,
    /// Other files of the log's directory.
    pub other_files: Vec<String>,
    /// The slots of the watermark that are intact, the newest first.
    pub slots: Vec<SlotInfo>,
    /// End of the log, or where it will be cut.
    pub log_end: u64,
    /// The families of RocksDB; empty when it cannot be read.
    pub families: Vec<FamilyInfo>,
    /// Why RocksDB cannot be read.
    pub index_failure: Option<String>,
    /// RocksDB's last sequence number.
    pub index_sequence: u64,
    /// The index holds everything before this log offset.
    pub checkpoint: u64,
    /// No row refers to the log at or behind this.
    pub index_log_end: u64,
    /// Topics by name.
    pub topics: Vec<TopicInfo>,
    /// Consumer groups.
    pub groups: u64,
    /// Consumer offsets.
    pub consumer_offsets: u64,
    /// Bytes of the segments on the disk.
    pub log_bytes: u64,
    /// Bytes of RocksDB on the disk.
    pub index_bytes: u64,
    /// Bytes of what recovery or repair has set aside.
    pub aside_bytes: u64,
}

/// One segment file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Log offset of its first byte.
    pub base_offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Bytes it takes on the disk.
    pub disk_bytes: u64,
    /// When its first record was stored, Unix ms.
    pub first_ms: Option<i64>,
    /// When its last record was stored, Unix ms.
    pub last_ms: Option<i64>,
    /// Its valid records, if they were counted.
    pub records: Option<u64>,
}

/// One slot of the durable watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    /// The larger one counts.
    pub sequence: u64,
    /// Everything before this log offset was synced.
    pub durable: u64,
    /// RocksDB's changes up to this one were synced.
    pub index_sequence: u64,
    /// Whether the store was closed in order.
    pub clean: bool,
}

/// One family of RocksDB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FamilyInfo {
    /// Its name.
    pub name: &'static str,
    /// Whether it can be built again from the log.
    pub derived: bool,
    /// Its rows: counted, or RocksDB's estimate.
    pub rows: u64,
    /// Bytes of its tables on the disk.
    pub table_bytes: u64,
}

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// The id of this incarnation.
    pub id: u32,
    /// Queues that ever were.
    pub queues: u32,
    /// Earlier records of this name belong to a deleted topic.
    pub since_log_offset: u64,
    /// Its valid records, if they were counted.
    pub records: Option<u64>,
}

/// Reads what is in the store in `dir`; with `count` the whole log and all rows. Blocking.
///
/// # Errors
/// [`Error`]: the store could not be looked at.
pub fn tree(dir: &Path, count: bool) -> Result<Tree, Error> {
    let _lock = super::lock(dir)?;
    let files = Files::read(dir)?;
    let mut tree = of_files(&files);
    let path = dir.join(index::DIR);
    match Index::read_only(&path) {
        Ok(index) => of_index(&mut tree, &index.db()?, count)?,
        Err(error) => tree.index_failure = Some(error.to_string()),
    }
    let certain = log::certain_end(&files);
    let from = certain.unwrap_or_else(|| files.min());
    let limit = files.segments.last().map_or(0, Found::limit_offset);
    let nothing = &mut |_: Event<'_>| Ok(ControlFlow::Continue(()));
    tree.log_end = log::walk(&files, from, certain, nothing)?.at.min(limit);
    times(&mut tree, &files)?;
    if count {
        records(&mut tree, &files)?;
    }
    Ok(tree)
}

fn of_files(files: &Files) -> Tree {
    let segments = files.segments.iter().map(|segment| SegmentInfo {
        base_offset: segment.base_offset,
        len: segment.len,
        disk_bytes: files::bytes_on_disk(&segment.path),
        ..SegmentInfo::default()
    });
    let mut slots: Vec<_> = files.marks.into_iter().flatten().map(slot).collect();
    slots.sort_unstable_by_key(|slot| std::cmp::Reverse(slot.sequence));
    let name = |path: &std::path::PathBuf| {
        path.file_name().map(|name| name.to_string_lossy().into_owned())
    };
    let aside = std::fs::read_dir(&files.dir).into_iter().flatten().flatten().filter(|entry| {
        let name = entry.file_name();
        name == "cut" || name.to_string_lossy().starts_with("rocksdb.broken-")
    });
    Tree {
        segments: segments.collect(),
        other_files: files.others.iter().filter_map(name).collect(),
        slots,
        log_bytes: files::bytes_on_disk(&files.dir.join("commitlog")),
        index_bytes: files::bytes_on_disk(&files.dir.join(index::DIR)),
        aside_bytes: aside.map(|entry| files::bytes_on_disk(&entry.path())).sum(),
        ..Tree::default()
    }
}

fn slot(mark: durable::Mark) -> SlotInfo {
    let durable::Mark { sequence, durable, index_sequence, clean } = mark;
    SlotInfo { sequence, durable, index_sequence, clean }
}

fn of_index(tree: &mut Tree, guard: &Guard<'_>, count: bool) -> Result<(), Error> {
    let ignored = &mut |_| {};
    let meta = rows::meta(guard, ignored);
    let rows = rows::read(guard, (meta, u64::MAX), ignored)?;
    tree.index_sequence = guard.db().latest_sequence_number();
    tree.checkpoint = meta.checkpoint;
    tree.index_log_end = meta.log_end;
    tree.groups = rows.groups;
    tree.topics = rows
        .topics
        .into_values()
        .map(|topic| TopicInfo {
            name: topic.name,
            id: topic.id.0,
            queues: topic.queues,
            since_log_offset: topic.since,
            records: None,
        })
        .collect();
    tree.topics.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    for family in Family::ALL {
        let number = |name: &str| {
            guard.db().property_int_value_cf(guard.family(family), name).map_err(read_error)
        };
        let mut rows = number("rocksdb.estimate-num-keys")?.unwrap_or_default();
        if count {
            rows = 0;
            let all = guard.db().raw_iterator_cf(guard.family(family));
            for_each(all, |_, _| {
                rows += 1;
                Ok(())
            })?;
        }
        let table_bytes = number("rocksdb.total-sst-files-size")?.unwrap_or_default();
        let derived = matches!(family, Family::ConsumeQueue | Family::KeyIndex);
        tree.families.push(FamilyInfo { name: family.name(), derived, rows, table_bytes });
    }
    consumer_offset::scan(guard, None, |_, _, _, _| {
        tree.consumer_offsets += 1;
        Ok(())
    })?;
    Ok(())
}

/// First and last time of each segment, from its head and its tail.
fn times(tree: &mut Tree, files: &Files) -> io::Result<()> {
    for (info, segment) in tree.segments.iter_mut().zip(&files.segments) {
        let end = segment.limit_offset().min(tree.log_end);
        if segment.len == 0 || end <= segment.base_offset {
            continue;
        }
        let mut scanner = Scanner::open(&segment.path, segment.base_offset)?;
        info.first_ms = match scanner.step(segment.base_offset)? {
            Step::Record(record) => Some(record.store_timestamp),
            _ => None,
        };
        for len in TAIL_STEPS_BYTES {
            let from = end.saturating_sub(len).max(segment.base_offset);
            info.last_ms = last_time(&mut scanner, from, end)?;
            if info.last_ms.is_some() || from == segment.base_offset {
                break;
            }
        }
    }
    Ok(())
}

/// When the last record that begins in `from..end` was stored.
fn last_time(scanner: &mut Scanner, from: u64, end: u64) -> io::Result<Option<i64>> {
    let mut last = None;
    let mut offset = from;
    // The first byte is rarely the first of a record.
    while let Some(next) = scanner.find_record(offset, end)? {
        offset = next;
        while offset < end {
            match scanner.step(offset)? {
                Step::Record(record) => {
                    last = Some(record.store_timestamp);
                    offset += u64::from(record.total_size);
                }
                Step::Filled => return Ok(last),
                Step::Empty | Step::Invalid(_) => break,
            }
        }
        offset += 1;
    }
    Ok(last)
}

/// Counts the records of each segment and topic.
fn records(tree: &mut Tree, files: &Files) -> Result<(), Error> {
    let mut topics: HashMap<TopicId, u64> = HashMap::new();
    let names: HashMap<_, _> = tree
        .topics
        .iter()
        .map(|topic| (topic.name.clone(), (TopicId(topic.id), topic.since_log_offset)))
        .collect();
    let mut segments = vec![0_u64; files.segments.len()];
    log::walk(files, files.min(), Some(tree.log_end), &mut |event| {
        let Event::Record(record) = event else { return Ok(ControlFlow::Continue(())) };
        let offset = u64::try_from(record.log_offset).unwrap_or_default();
        if offset >= tree.log_end {
            return Ok(ControlFlow::Break(()));
        }
        let after = files.segments.partition_point(|segment| segment.base_offset <= offset);
        if let Some(count) = after.checked_sub(1).and_then(|at| segments.get_mut(at)) {
            *count += 1;
        }
        if let Some((id, _)) = names.get(record.topic).filter(|(_, since)| *since <= offset) {
            *topics.entry(*id).or_default() += 1;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (info, count) in tree.segments.iter_mut().zip(segments) {
        info.records = Some(count);
    }
    for topic in &mut tree.topics {
        topic.records = Some(topics.get(&TopicId(topic.id)).copied().unwrap_or_default());
    }
    Ok(())
}
