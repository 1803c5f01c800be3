//! Finding a message of a queue by its store time.

use crate::{
    Boundary, Queue, QueueOffset, ReadError,
    index::consume_queue::{self, BLOCK_ENTRIES},
    queue::TailGuard,
    read::Mode,
};

impl Queue {
    /// The offset of the message stored at `time_ms`, as `boundary` says. [`Boundary::Lower`] of a
    /// time after the last message is [`Queue::max`], [`Boundary::Upper`] of a time before the
    /// first message is [`Queue::min`]. Blocking.
    ///
    /// # Errors
    /// [`ReadError`] when the index or a record on the way cannot be read.
    ///
    /// # Source: `ConsumeQueue.getOffsetInQueueByTime`
    pub fn offset_at_time(
        &self,
        time_ms: i64,
        boundary: Boundary,
    ) -> Result<QueueOffset, ReadError> {
        let (min, max) = (self.min()?.0, self.max()?.0);
        let offset = match boundary {
            Boundary::Lower => self.first_where(min, max, &|stored| stored >= time_ms)?,
            Boundary::Upper => {
                let after = self.first_where(min, max, &|stored| stored > time_ms)?;
                after.saturating_sub(1).max(min)
            }
        };
        Ok(QueueOffset(offset))
    }

    /// When the message at `offset` was stored, in Unix milliseconds. Blocking.
    ///
    /// # Errors
    /// [`ReadError`] when the index or the record cannot be read.
    pub fn store_time_at(&self, offset: QueueOffset) -> Result<Option<i64>, ReadError> {
        match self.entry(offset)? {
            Some(entry) => self.core.log.store_time(entry.log_offset.0),
            None => Ok(None),
        }
    }

    /// The tail, its smallest offset where the log has it now. In [`Mode::HotOnly`] that offset may
    /// be smaller than it is.
    pub(crate) fn tail_in_log(&self, mode: Mode) -> Result<TailGuard<'_>, ReadError> {
        let log_min = self.core.log.min();
        let mut tail = self.tail(mode)?;
        if tail.follow(log_min) || mode == Mode::HotOnly {
            return Ok(tail);
        }
        // Everything in memory is in the log.
        let in_memory = tail.first();
        drop(tail);
        let at = (self.topic, self.queue_id);
        let stored =
            self.core.index.derived(|guard| consume_queue::first_at(guard, at, log_min))?;
        let mut tail = self.tail(mode)?;
        tail.set_min(stored.map_or(in_memory, |stored| stored.min(in_memory)), log_min);
        Ok(tail)
    }

    /// Hides the messages before `offset`, until the queue leaves memory.
    pub(crate) fn raise_min(&self, offset: QueueOffset) -> Result<(), ReadError> {
        self.tail(Mode::MayBlock)?.raise_min(offset.0);
        Ok(())
    }

    /// The first offset in `min..max` whose store time satisfies `late`, or `max`. Store times of
    /// a queue never descend, so this halves: first over blocks, whose first time the index has,
    /// then inside one block, where each probe reads a record.
    fn first_where(
        &self,
        min: u64,
        max: u64,
        late: &dyn Fn(i64) -> bool,
    ) -> Result<u64, ReadError> {
        if min >= max {
            return Ok(max);
        }
        let (mut low, mut high) = (min / BLOCK_ENTRIES, (max - 1) / BLOCK_ENTRIES + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.block_time(middle)?.is_none_or(late) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        // Block `low` is the first that begins late; the one before may turn late inside.
        let (mut low, mut high) =
            ((low.saturating_sub(1) * BLOCK_ENTRIES).max(min), (low * BLOCK_ENTRIES).min(max));
        while low < high {
            let middle = low + (high - low) / 2;
            match self.time_at_or_after(middle, high)? {
                Some((_, stored)) if !late(stored) => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low.max(min))
    }

    /// Store time of the first entry of a block, or of the next block if it does not exist.
    fn block_time(&self, number: u64) -> Result<Option<i64>, ReadError> {
        if let Some(time) = self.tail(Mode::MayBlock)?.block_time(number) {
            return Ok(Some(time));
        }
        let at = (self.topic, self.queue_id);
        let index = &self.core.index;
        let block = index.derived(|guard| consume_queue::at_or_after(guard, at, number))?;
        Ok(block.map(|block| block.first_ms))
    }

    /// Store time of the first readable message in `offset..end`.
    fn time_at_or_after(&self, offset: u64, end: u64) -> Result<Option<(u64, i64)>, ReadError> {
        for offset in offset..end {
            match self.store_time_at(QueueOffset(offset)) {
                Ok(Some(time)) => return Ok(Some((offset, time))),
                Ok(None) | Err(ReadError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}
