//! Reading a queue: from an offset to slices of the log.

use bytes::Bytes;

use crate::{
    LogOffset, Queue, QueueOffset, ReadError,
    commit_log::check,
    index::consume_queue::{self, BLOCK_ENTRIES, BlockEntry},
    num::{to_u64, to_usize},
};

/// Most entries that one read looks at when a filter refuses them, so that a read of a long queue
/// ends.
///
/// # Source: `maxFilterMessageSize` = 16000 bytes of 20 each
const SCAN_MAX: usize = 800;

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
    /// Reads far behind the end of the log verify each record's checksum.
    ///
    /// # Errors
    /// [`ReadError::Cold`] in [`Mode::HotOnly`]: repeat on a blocking thread. Others: the first
    /// message or the index is damaged.
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
        let confirmed = self.core.log.confirmed.get();
        let tail = self.tail(mode)?;
        let max = tail.confirmed_next(confirmed);
        let bounds = (tail.min().min(max), max);
        if let Some(read) = Read::out_of_bounds(from.0, bounds) {
            return Ok(read);
        }
        drop(tail);
        let mut gather = Gather { limits, accept, ..Gather::new(from.0, &self.core) };
        if mode == Mode::HotOnly {
            gather.cold_below =
                self.core.log.appended().saturating_sub(self.core.config.hot_log_bytes);
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
        let guard = self.core.index.db()?;
        let number = gather.next / BLOCK_ENTRIES;
        let block = consume_queue::at_or_after(&guard, (self.topic, self.queue_id), number)?;
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

    /// Turns what was gathered into slices of the log, adjacent records merged.
    fn finish(
        &self,
        mut gather: Gather<'_>,
        (min, max): (u64, u64),
        mode: Mode,
    ) -> Result<Read, ReadError> {
        if mode == Mode::MayBlock {
            self.verify(&mut gather)?;
        }
        let mut runs: Vec<(u64, usize)> = Vec::new();
        for &(_, entry) in &gather.found {
            let size = to_usize(u64::from(entry.size));
            match runs.last_mut() {
                Some((start, len)) if *start + to_u64(*len) == entry.log_offset => *len += size,
                _ => runs.push((entry.log_offset, size)),
            }
        }
        let read = |(start, len)| {
            self.core.log.read(start, len).ok_or_else(|| ReadError::Damaged {
                log_offset: LogOffset(start),
                reason: "the log does not hold what the index says".to_owned(),
            })
        };
        let slices = runs.into_iter().map(read).collect::<Result<Vec<_>, _>>()?;
        let status = match gather {
            _ if !slices.is_empty() => ReadStatus::Found,
            Gather { filtered: true, .. } => ReadStatus::NoMatchedMessage,
            Gather { gone: true, .. } => ReadStatus::MessageWasRemoving,
            _ => ReadStatus::OffsetFoundNull,
        };
        Ok(Read {
            status,
            slices,
            messages: gather.found.len(),
            next: QueueOffset(gather.next),
            min: QueueOffset(min),
            max: QueueOffset(max),
        })
    }

    /// Verifies what was gathered; drops the first damaged record and everything behind it.
    fn verify(&self, gather: &mut Gather<'_>) -> Result<(), ReadError> {
        for at in 0..gather.found.len() {
            let Some(&(offset, entry)) = gather.found.get(at) else { break };
            let log_offset = LogOffset(entry.log_offset);
            let bytes = self.core.log.read(entry.log_offset, to_usize(u64::from(entry.size)));
            let reason = match bytes.as_deref().map(|bytes| check(bytes, entry.log_offset)) {
                Some(Ok(_)) => continue,
                Some(Err(reason)) => reason,
                None => "the log does not hold what the index says".to_owned(),
            };
            tracing::error!(%log_offset, reason, "a record is damaged");
            if at == 0 {
                return Err(ReadError::Damaged { log_offset, reason });
            }
            gather.found.truncate(at);
            gather.next = offset;
            break;
        }
        Ok(())
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
        let guard = self.core.index.db()?;
        let at = (self.topic, self.queue_id);
        let block = consume_queue::get(&guard, at, offset / BLOCK_ENTRIES)?;
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

    /// The answer for an offset that has no message, if it has none.
    fn out_of_bounds(from: u64, (min, max): (u64, u64)) -> Option<Self> {
        let (status, next) = match from {
            _ if max == 0 => (ReadStatus::NoMessageInQueue, 0),
            _ if from < min => (ReadStatus::OffsetTooSmall, min),
            _ if from == max => (ReadStatus::OffsetOverflowOne, from),
            _ if from > max => (ReadStatus::OffsetOverflowBadly, max),
            _ => return None,
        };
        Some(Self::empty(status, next, (min, max)))
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
