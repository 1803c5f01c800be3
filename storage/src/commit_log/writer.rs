//! Appending to the log: which segment, and where in it.

use std::{collections::VecDeque, io, sync::Arc};

use protocol::record::{BLANK_BYTES, blank};

use super::{CommitLog, allocate::Allocator, segment};
use crate::{
    num::{to_u64, to_usize},
    replica::{ReplicaError, Role},
};

/// The end of the log. There is one, behind the append lock.
#[derive(Debug)]
pub(crate) struct LogWriter {
    log: Arc<CommitLog>,
    allocator: Arc<Allocator>,
    current: segment::Writer,
    /// Segments that follow `current`, taken before anything of a batch is written.
    next: VecDeque<segment::Writer>,
    segment_size_bytes: u64,
}

impl LogWriter {
    /// Asks for the next segment at once; a slave makes them when its master says how large.
    pub(crate) fn new(
        log: Arc<CommitLog>,
        allocator: Arc<Allocator>,
        current: segment::Writer,
        (segment_size_bytes, role): (u64, Role),
    ) -> Self {
        if role == Role::Master {
            allocator.want(current.segment().limit_offset());
        }
        Self { log, allocator, current, next: VecDeque::new(), segment_size_bytes }
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
    ///
    /// # Errors
    /// The disk failed: do not append again.
    pub(crate) fn roll(&mut self) -> io::Result<()> {
        let next = self.next.pop_front().expect("reserve() has counted the segments");
        let remaining = u32::try_from(self.current.remaining()).unwrap_or(u32::MAX);
        self.current.fill(&blank(remaining))?;
        self.current.segment().allow_read_ahead();
        self.log.push_segment(next.segment());
        self.current = next;
        Ok(())
    }

    /// Makes the segment that begins at `base_offset` and has so many bytes the one to write to,
    /// creating it if the current one is full, or empty and of another size.
    ///
    /// # Errors
    /// [`ReplicaError::Segment`] if the current one is neither, [`ReplicaError::NoSpace`]; nothing
    /// has changed.
    pub(crate) fn begin_segment(
        &mut self,
        base_offset: u64,
        bytes: u64,
        room_for: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<(), ReplicaError> {
        let current = self.current.segment();
        let here = current.limit_offset() - current.base_offset();
        let empty = self.end() == current.base_offset();
        if base_offset == current.base_offset() && bytes == here {
            return Ok(());
        }
        let replaced = empty && base_offset == current.base_offset();
        if !replaced && (self.current.remaining() > 0 || base_offset != current.limit_offset()) {
            return Err(ReplicaError::Segment { got: bytes, here });
        }
        let created = room_for(bytes).and_then(|()| {
            if replaced {
                self.allocator.remove(base_offset)?;
            }
            self.allocator.create(base_offset, bytes)
        });
        let next = created.map_err(|error| ReplicaError::NoSpace { reason: error.to_string() })?;
        if replaced {
            self.log.pop_segment();
        } else {
            self.current.segment().allow_read_ahead();
        }
        self.log.push_segment(next.segment());
        self.current = next;
        Ok(())
    }

    /// Writes records that fit, with one system call.
    ///
    /// # Errors
    /// The disk failed: do not append again.
    pub(crate) fn write(&mut self, records: &[u8]) -> io::Result<()> {
        self.current.append(records)
    }
}

/// Largest record that a segment of `segment_size_bytes` takes.
pub(crate) fn largest_record(segment_size_bytes: u64) -> usize {
    to_usize(segment_size_bytes.saturating_sub(to_u64(BLANK_BYTES)))
}
