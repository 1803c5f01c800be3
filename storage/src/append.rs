//! Preparing records outside of any lock, and what became of them.

use std::sync::Arc;

use protocol::record::NewRecord;

use crate::{AppendError, LogOffset, QueueOffset, Topic};

/// Records that go to the log together. Keep it and [`AppendBatch::clear`] it: its memory is used
/// again.
#[derive(Debug, Default)]
#[expect(clippy::module_name_repetitions, reason = "used without its module")]
pub struct AppendBatch {
    results: Vec<Appended>,
}

/// Where one record of a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position of the record.
    pub log_offset: LogOffset,
    /// Its offset in its queue.
    pub queue_offset: QueueOffset,
    /// Size of the record in bytes.
    pub size: u32,
    /// When it was stored, in Unix milliseconds.
    pub store_timestamp: i64,
}

impl AppendBatch {
    /// Encodes a record. May read RocksDB when the queue is touched for the first time.
    ///
    /// # Errors
    /// [`AppendError::NoQueue`], [`AppendError::TooLarge`], [`AppendError::Record`]: this record
    /// is refused and the batch is as before.
    pub fn push(
        &mut self,
        _topic: &Arc<Topic>,
        _queue_id: u32,
        _record: &NewRecord<'_>,
    ) -> Result<(), AppendError> {
        unimplemented!("skeleton")
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        unimplemented!("skeleton")
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the records went, in the order of [`AppendBatch::push`]; empty before the append.
    pub fn results(&self) -> &[Appended] {
        &self.results
    }

    /// Empties the batch and keeps its memory.
    pub fn clear(&mut self) {
        self.results.clear();
    }
}
