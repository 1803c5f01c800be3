//! Reading a queue: from an offset to slices of the log.

use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use bytes::Bytes;

use crate::{
    LogOffset, Queue, QueueOffset, ReadError,
    bug::{self, Bug},
    commit_log::check,
    index::consume_queue::{self, BLOCK_ENTRIES, BlockEntry},
    num::to_usize,
};

/// Most entries that one read looks at when a filter refuses them, so that a read of a long queue
/// ends.
///
/// # Source: `maxFilterMessageSize` = 16000 bytes of 20 each
const SCAN_MAX: usize = 800;

/// What most consumers ask for: a read makes room for so many at once.
const USUAL_MESSAGES: usize = 32;

/// Most damaged records that are remembered as reported.
const REPORTED_MAX: usize = 4_096;

/// Whether a read may leave memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Memory only; [`ReadError::Cold`] otherwise. For async workers.
    HotOnly,
    /// Disk and RocksDB may be read. For blocking threads.
    MayBlock,
}

/// How much one read returns at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Most messages.
    pub max_messages: usize,
    /// Most bytes; one message is returned even when it is larger.
    pub max_bytes: usize,
}

/// What a read met, in RocketMQ's words for it.
///
/// # Source: `GetMessageStatus`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadStatus {
    /// Messages are returned.
    Found,
    /// The messages that were scanned did not pass the filter.
    NoMatchedMessage,
    /// The messages are no longer in the commit log.
    MessageWasRemoving,
    /// The queue has no entries around the offset.
    OffsetFoundNull,
    /// The offset is far beyond the end.
    OffsetOverflowBadly,
    /// The offset is the end: nothing there yet.
    OffsetOverflowOne,
    /// The offset is below the smallest.
    OffsetTooSmall,
    /// The queue does not exist (any more).
    NoMatchedLogicQueue,
    /// The queue has never held a message.
    NoMessageInQueue,
}

/// The answer of [`Queue::read`].
#[derive(Clone, Debug)]
pub struct Read {
    /// What was met.
    pub status: ReadStatus,
    /// Whole records, the adjacent ones merged into one slice of the log.
    pub slices: Vec<Bytes>,
    /// Number of records in `slices`.
    pub messages: usize,
    /// Where to read next.
    pub next: QueueOffset,
    /// Smallest offset of the queue.
    pub min: QueueOffset,
    /// Offset that the next confirmed message will get.
    pub max: QueueOffset,
}

/// Where one message of a queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Position of its record.
    pub log_offset: LogOffset,
    /// Size of its record in bytes.
    pub size: u32,
    /// Hash of its tag, 0 without one.
    pub tag_hash: i64,
}

/// Which of several messages of the same time is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// The first message at or after the time.
    Lower,
    /// The last message at or before the time.
    Upper,
}

impl Queue {
    /// Reads messages from `from` on, as far as they are confirmed. `accept` is asked with the tag
    /// hash of each; it is called with the queue locked and must not come back to it.
    ///
    /// With [`Mode::MayBlock`] every record is verified. One that is damaged is passed over and
    /// reported once; [`ReadStatus::MessageWasRemoving`] if there is no other.
    ///
    /// # Errors
    /// [`ReadError::Cold`] in [`Mode::HotOnly`]: repeat on a blocking thread. Others: the disk does
    /// not give the first message back, or the index cannot be read.
    pub fn read(
        &self,
        from: QueueOffset,
        limits: ReadLimits,
        mode: Mode,
        accept: &dyn Fn(i64) -> bool,
    ) -> Result<Read, ReadError> {
        if self.is_deleted() {
            return Ok(Read::empty(ReadStatus::NoMatchedLogicQueue, 0, (0, 0)));
        }
        let log = &self.core.log;
        let early = bug::on(Bug::EarlyVisible);
        let confirmed = if early { log.appended() } else { log.confirmed.get() };
        let tail = self.tail_in_log(mode)?;
        let max = tail.confirmed_next(confirmed);
        let bounds = (tail.min().min(max), max);
        if let Some(read) = Read::out_of_bounds(from.0, bounds, tail.next()) {
            return Ok(read);
        }
        drop(tail);
        let found = Vec::with_capacity(limits.max_messages.min(USUAL_MESSAGES));
        let mut gather = Gather { limits, accept, found, ..Gather::new(from.0, &self.core) };
        if mode == Mode::HotOnly {
            gather.cold_below = self.cold_below();
        }
        while gather.stop.is_none() && gather.next < max {
            match self.gather_some(&mut gather, max, mode) {
                Err(ReadError::Cold) if !gather.found.is_empty() => break,
                other => other?,
            }
        }
        if gather.found.is_empty() && gather.stop == Some(Stop::Cold) {
            return Err(ReadError::Cold);
        }
        self.finish(gather, bounds, mode)
    }

    /// Offers the entries of one place, memory or one block, to `gather`.
    fn gather_some(&self, gather: &mut Gather<'_>, max: u64, mode: Mode) -> Result<(), ReadError> {
        {
            let tail = self.tail(mode)?;
            if gather.next >= tail.first() {
                let entries = tail.from(gather.next);
                gather.offer_all(entries.take(to_usize(max - gather.next)));
                return Ok(());
            }
        }
        if mode == Mode::HotOnly {
            return Err(ReadError::Cold);
        }
        let number = gather.next / BLOCK_ENTRIES;
        let at = (self.topic, self.queue_id);
        let index = &self.core.index;
        let block = index.derived(|guard| consume_queue::at_or_after(guard, at, number))?;
        match block {
            Some(block) if block.first() <= gather.next => {
                let skip = to_usize(gather.next - block.first());
                let left = to_usize(max - gather.next);
                gather.offer_all(block.entries.iter().skip(skip).take(left).copied());
                if gather.stop.is_none() && gather.next < (number + 1) * BLOCK_ENTRIES {
                    gather.skip_to((number + 1) * BLOCK_ENTRIES);
                }
            }
            Some(block) => gather.skip_to(block.first().min(max)),
            None => gather.skip_to(self.tail(mode)?.first().min(max)),
        }
        Ok(())
    }

    /// Records before this log offset may be on disk only.
    fn cold_below(&self) -> u64 {
        self.core.log.appended().saturating_sub(self.core.config.hot_log_bytes)
    }

    /// Turns what was gathered into slices of the log, adjacent records merged.
    fn finish(
        &self,
        mut gather: Gather<'_>,
        (min, max): (u64, u64),
        mode: Mode,
    ) -> Result<Read, ReadError> {
        let mut good = Good {
            span: self.span(&gather.found, mode),
            slices: Vec::with_capacity(gather.found.len()),
            ..Good::default()
        };
        let adjacent =
            |one: &(u64, BlockEntry), next: &(u64, BlockEntry)| one.1.end() == next.1.log_offset;
        for run in gather.found.chunk_by(adjacent) {
            if let Err((offset, error)) = self.take_run(run, mode, &mut good) {
                if offset == gather.first_found() {
                    return Err(error);
                }
                // What was found before is answered; the next read meets the error first.
                gather.next = offset;
                break;
            }
        }
        gather.gone |= good.passed_over;
        let status = match gather {
            _ if good.messages > 0 => ReadStatus::Found,
            Gather { filtered: true, .. } => ReadStatus::NoMatchedMessage,
            Gather { gone: true, .. } => ReadStatus::MessageWasRemoving,
            _ => ReadStatus::OffsetFoundNull,
        };
        Ok(Read {
            status,
            slices: good.slices,
            messages: good.messages,
            next: QueueOffset(gather.next),
            min: QueueOffset(min),
            max: QueueOffset(max),
        })
    }

    /// One slice of the log from the first to the last of the records, in which each of them is a
    /// part: a handle of its own for each would cost more than the rest of the read. Only where
    /// nothing is read from the disk, and `None` if they lie in several segments.
    fn span(&self, found: &[(u64, BlockEntry)], mode: Mode) -> Option<(u64, Bytes)> {
        let (&(_, first), &(_, last)) = (found.first()?, found.last()?);
        let len = last.end().checked_sub(first.log_offset)?;
        let bytes = match mode {
            Mode::HotOnly => self.core.log.read(first.log_offset, to_usize(len))?,
            Mode::MayBlock => return None,
        };
        Some((first.log_offset, bytes))
    }

    /// Reads records that lie one behind the other in the log, and passes over those that are
    /// damaged. On an error says which queue offset cannot be read.
    fn take_run(
        &self,
        run: &[(u64, BlockEntry)],
        mode: Mode,
        good: &mut Good,
    ) -> Result<(), (u64, ReadError)> {
        let Some(&(offset, first)) = run.first() else { return Ok(()) };
        let size = |entry: &BlockEntry| to_usize(u64::from(entry.size));
        let len = run.iter().map(|(_, entry)| size(entry)).sum();
        if let Some(bytes) = good.part_of_span(first.log_offset, len) {
            good.add(bytes, run.len());
            return Ok(());
        }
        let bytes = match self.bytes(first.log_offset, len, mode) {
            Ok(Some(bytes)) => bytes,
            // One of them is the reason: find it.
            _ if run.len() > 1 => {
                return run.chunks(1).try_for_each(|one| self.take_run(one, mode, good));
            }
            Ok(None) => {
                self.pass_over(first, "the log does not hold what the index says", good);
                return Ok(());
            }
            Err(error) => return Err((offset, error)),
        };
        if mode == Mode::HotOnly {
            good.add(bytes, run.len());
            return Ok(());
        }
        let (mut from, mut at, mut count) = (0, 0, 0);
        for &(_, entry) in run {
            let end = at + size(&entry);
            match verify(bytes.get(at..end).unwrap_or_default(), entry) {
                Ok(()) => count += 1,
                Err(reason) => {
                    good.add(bytes.slice(from..at), std::mem::take(&mut count));
                    from = end;
                    self.pass_over(entry, &reason, good);
                }
            }
            at = end;
        }
        good.add(bytes.slice(from..at), count);
        Ok(())
    }

    /// Bytes of the log: from the mapping where they are in memory, from the disk where a page that
    /// cannot be read must be an error and not a signal.
    fn bytes(&self, at: u64, len: usize, mode: Mode) -> Result<Option<Bytes>, ReadError> {
        let log = &self.core.log;
        if mode == Mode::HotOnly || at >= self.cold_below() || log.is_being_written(at) {
            return Ok(log.read(at, len));
        }
        log.read_cold(at, len)
    }

    fn pass_over(&self, entry: BlockEntry, reason: &str, good: &mut Good) {
        good.passed_over = true;
        // Retention may have deleted it since the read began.
        if entry.log_offset >= self.core.log.min() && self.core.reported.is_new(entry.log_offset) {
            let (topic, queue_id, log_offset) = (self.topic.0, self.queue_id, entry.log_offset);
            tracing::error!(log_offset, topic, queue_id, reason, "a damaged record is passed over");
        }
    }

    /// Where the message at `offset` is, if it is confirmed and still in the log. Blocking.
    ///
    /// # Errors
    /// [`ReadError::Index`] when the index cannot be read.
    pub fn entry(&self, offset: QueueOffset) -> Result<Option<Entry>, ReadError> {
        let found = self.block_entry(offset.0)?;
        let confirmed = self.core.log.confirmed.get();
        let log_min = self.core.log.min();
        Ok(found
            .filter(|entry| !entry.is_hole())
            .filter(|entry| entry.end() <= confirmed && entry.log_offset >= log_min)
            .map(|entry| Entry {
                log_offset: LogOffset(entry.log_offset),
                size: entry.size,
                tag_hash: entry.tag_hash.into(),
            }))
    }

    /// The entry at `offset`, wherever it is.
    pub(crate) fn block_entry(&self, offset: u64) -> Result<Option<BlockEntry>, ReadError> {
        let tail = self.tail(Mode::MayBlock)?;
        if offset >= tail.first() {
            return Ok(tail.get(offset));
        }
        drop(tail);
        let at = (self.topic, self.queue_id);
        let number = offset / BLOCK_ENTRIES;
        let block = self.core.index.derived(|guard| consume_queue::get(guard, at, number))?;
        Ok(block.and_then(|block| {
            let skip = offset.checked_sub(block.first())?;
            block.entries.get(to_usize(skip)).copied()
        }))
    }
}

impl Read {
    fn empty(status: ReadStatus, next: u64, (min, max): (u64, u64)) -> Self {
        Self {
            status,
            slices: Vec::new(),
            messages: 0,
            next: QueueOffset(next),
            min: QueueOffset(min),
            max: QueueOffset(max),
        }
    }

    /// The answer for an offset that has no message, if it has none. Messages up to `end` are there
    /// and not confirmed: who asks for one has seen those before, and waits. A master that starts
    /// again does not know at once how much its slaves have.
    fn out_of_bounds(from: u64, (min, max): (u64, u64), end: u64) -> Option<Self> {
        let (status, next) = match from {
            _ if max == 0 && (from == 0 || end == 0) => (ReadStatus::NoMessageInQueue, 0),
            _ if from < min => (ReadStatus::OffsetTooSmall, min),
            _ if (max..=end).contains(&from) => (ReadStatus::OffsetOverflowOne, from),
            _ if from > max => (ReadStatus::OffsetOverflowBadly, max),
            _ => return None,
        };
        Some(Self::empty(status, next, (min, max)))
    }
}

/// Whether `bytes` are the record that the index speaks of.
fn verify(bytes: &[u8], entry: BlockEntry) -> Result<(), String> {
    let record = check(bytes, entry.log_offset)?;
    if record.total_size == entry.size {
        Ok(())
    } else {
        // Whoever takes the answer apart would lose the place.
        Err(format!("it says {} bytes, the index says {}", record.total_size, entry.size))
    }
}

/// What a read answers.
#[derive(Debug, Default)]
struct Good {
    slices: Vec<Bytes>,
    messages: usize,
    /// A record was left out.
    passed_over: bool,
    /// See [`Queue::span`]: its log offset and its bytes.
    span: Option<(u64, Bytes)>,
}

impl Good {
    fn part_of_span(&self, at: u64, len: usize) -> Option<Bytes> {
        let (from, span) = self.span.as_ref()?;
        let start = to_usize(at.checked_sub(*from)?);
        let end = start.checked_add(len)?;
        (end <= span.len()).then(|| span.slice(start..end))
    }

    fn add(&mut self, bytes: Bytes, messages: usize) {
        if messages > 0 {
            self.slices.push(bytes);
            self.messages += messages;
        }
    }
}

/// Which damaged records were reported: a consumer that comes again must not fill the disk with
/// lines.
#[derive(Debug, Default)]
pub(crate) struct Reported(Mutex<HashSet<u64>>);

impl Reported {
    /// Whether the record at this log offset was not reported yet; now it is.
    pub(crate) fn is_new(&self, log_offset: u64) -> bool {
        let mut reported = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.len() >= REPORTED_MAX {
            // Rather a few lines twice than memory without end.
            reported.clear();
        }
        reported.insert(log_offset)
    }
}

/// What a read has collected so far.
struct Gather<'a> {
    limits: ReadLimits,
    accept: &'a dyn Fn(i64) -> bool,
    /// Queue offset to look at next.
    next: u64,
    found: Vec<(u64, BlockEntry)>,
    bytes: usize,
    scanned: usize,
    /// Records before this log offset are gone.
    log_min: u64,
    /// Records before this log offset may be on disk only, and that is not allowed.
    cold_below: u64,
    /// The filter has refused something.
    filtered: bool,
    /// Something is no longer in the log.
    gone: bool,
    /// Why the read ends at `next`, once it does.
    stop: Option<Stop>,
}

/// Why a read ends before the end of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// A limit was reached, or a gap.
    Enough,
    /// The next record may be on disk only.
    Cold,
}

impl Gather<'_> {
    fn new(from: u64, core: &crate::core::Core) -> Self {
        Self {
            limits: ReadLimits { max_messages: 1, max_bytes: 0 },
            accept: &|_| true,
            next: from,
            found: Vec::new(),
            bytes: 0,
            scanned: 0,
            log_min: core.log.min(),
            cold_below: 0,
            filtered: false,
            gone: false,
            stop: None,
        }
    }

    /// The first queue offset that was found.
    fn first_found(&self) -> u64 {
        self.found.first().map_or(self.next, |&(offset, _)| offset)
    }

    fn offer_all(&mut self, entries: impl Iterator<Item = BlockEntry>) {
        for entry in entries {
            self.stop = self.offer(entry);
            if self.stop.is_some() {
                return;
            }
            self.next += 1;
        }
    }

    /// Takes the entry at `next` or passes over it, unless the read ends before it.
    fn offer(&mut self, entry: BlockEntry) -> Option<Stop> {
        if self.found.len() >= self.limits.max_messages.max(1) || self.scanned >= SCAN_MAX {
            return Some(Stop::Enough);
        }
        if entry.is_hole() || entry.log_offset < self.log_min {
            self.gone = true;
        } else if !(self.accept)(entry.tag_hash.into()) {
            self.filtered = true;
        } else if entry.log_offset < self.cold_below {
            return Some(Stop::Cold);
        } else {
            let bytes = self.bytes + to_usize(u64::from(entry.size));
            if bytes > self.limits.max_bytes && !self.found.is_empty() {
                return Some(Stop::Enough);
            }
            self.bytes = bytes;
            self.found.push((self.next, entry));
            return None;
        }
        self.scanned += 1;
        None
    }

    /// Passes over offsets that have no entries. What was found before is answered first.
    fn skip_to(&mut self, offset: u64) {
        if self.found.is_empty() {
            self.next = self.next.max(offset);
        }
        self.stop = Some(Stop::Enough);
    }
}
