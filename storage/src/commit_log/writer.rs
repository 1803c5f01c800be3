//! Appending to the log: which segment, where in it, and staying ahead with memory.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::record::{BLANK_BYTES, blank};

use super::{CommitLog, allocate::Allocator, segment};
use crate::num::{to_u64, to_usize};

/// Memory is prepared at least this far ahead of the end of the log…
const AHEAD_MIN_BYTES: u64 = 4 << 20;
/// …and at most this far, when it is used up quickly.
const AHEAD_MAX_BYTES: u64 = 64 << 20;
/// Two wishes for memory within this time mean a busy log.
const BUSY: Duration = Duration::from_millis(50);

/// The end of the log. There is one, behind the append lock.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: Arc<CommitLog>,
    allocator: Arc<Allocator>,
    current: segment::Writer,
    /// Segments that follow `current`, taken before anything of a batch is written.
    next: VecDeque<segment::Writer>,
    segment_size_bytes: u64,
    /// Log offset up to which memory was asked for.
    populated: u64,
    ahead_bytes: u64,
    /// When memory was asked for last.
    asked: Option<Instant>,
}

impl LogWriter {
    pub(crate) fn new(
        log: Arc<CommitLog>,
        allocator: Arc<Allocator>,
        current: segment::Writer,
        segment_size_bytes: u64,
    ) -> Self {
        let populated = current.end_offset();
        allocator.want(current.segment().limit_offset());
        let mut writer = Self {
            log,
            allocator,
            current,
            next: VecDeque::new(),
            segment_size_bytes,
            populated,
            ahead_bytes: AHEAD_MIN_BYTES,
            asked: None,
        };
        writer.populate_ahead();
        writer
    }

    /// Log offset that the next record gets if it fits.
    pub(crate) fn end(&self) -> u64 {
        self.current.end_offset()
    }

    /// Whether a record of `size` bytes fits behind `pending` bytes that are not yet written. Room
    /// for the filler's head always remains.
    pub(crate) fn fits(&self, pending: usize, size: usize) -> bool {
        pending + size + BLANK_BYTES <= self.current.remaining()
    }

    /// Makes sure that records of these sizes can be written, in this order, before the first is.
    ///
    /// # Errors
    /// Why there is no further segment. Nothing has changed.
    pub(crate) fn reserve(&mut self, sizes: impl Iterator<Item = usize>) -> Result<(), Arc<str>> {
        let mut left = self.current.remaining();
        let mut needed = 0;
        for size in sizes {
            if size + BLANK_BYTES > left {
                needed += 1;
                left = to_usize(self.segment_size_bytes);
            }
            left = left.saturating_sub(size);
        }
        while self.next.len() < needed {
            let last = self.next.back().unwrap_or(&self.current).segment();
            let base_offset = last.limit_offset();
            let taken = self.allocator.take(base_offset)?;
            self.allocator.want(taken.segment().limit_offset());
            self.next.push_back(taken);
        }
        Ok(())
    }

    /// Ends the current segment and begins the next, which [`LogWriter::reserve`] has taken.
    pub(crate) fn roll(&mut self) {
        let next = self.next.pop_front().expect("reserve() has counted the segments");
        let remaining = u32::try_from(self.current.remaining()).unwrap_or(u32::MAX);
        self.current.fill(&blank(remaining));
        self.current.segment().allow_read_ahead();
        self.log.push_segment(next.segment());
        self.current = next;
        self.populated = self.current.segment().base_offset();
        self.populate_ahead();
    }

    /// Writes records that fit, as one copy.
    pub(crate) fn write(&mut self, records: &[u8]) {
        self.current.append(records).expect("fits() was asked for every record");
        if self.end() + self.ahead_bytes / 2 >= self.populated {
            self.populate_ahead();
        }
    }

    fn populate_ahead(&mut self) {
        let limit = self.current.segment().limit_offset();
        if self.populated >= limit {
            return;
        }
        self.ahead_bytes = if self.asked.is_some_and(|asked| asked.elapsed() < BUSY) {
            (self.ahead_bytes * 2).min(AHEAD_MAX_BYTES)
        } else {
            AHEAD_MIN_BYTES
        };
        self.asked = Some(Instant::now());
        let from = self.populated.max(self.end());
        let to = (self.end() + self.ahead_bytes).min(limit);
        if from < to {
            self.allocator.populate(self.current.segment(), from, to);
            self.populated = to;
        }
    }
}

/// Largest record that a segment of `segment_size_bytes` takes.
pub(crate) fn largest_record(segment_size_bytes: u64) -> usize {
    to_usize(segment_size_bytes.saturating_sub(to_u64(BLANK_BYTES)))
}
