//! One queue of a topic: where its messages are, and reading them.

use bytes::Bytes;

use crate::{LogOffset, QueueOffset, ReadError};

/// One queue of one incarnation of a topic.
#[derive(Debug)]
pub struct Queue {}

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
    /// Smallest offset whose message is still in the log. May read RocksDB when the queue is
    /// touched for the first time.
    ///
    /// # Errors
    /// [`ReadError::Index`] when the queue's state cannot be read.
    pub fn min(&self) -> Result<QueueOffset, ReadError> {
        unimplemented!("skeleton")
    }

    /// The offset that the next confirmed message will get. May read RocksDB when the queue is
    /// touched for the first time.
    ///
    /// # Errors
    /// [`ReadError::Index`] when the queue's state cannot be read.
    pub fn max(&self) -> Result<QueueOffset, ReadError> {
        unimplemented!("skeleton")
    }

    /// Reads messages from `from` on, as far as they are confirmed. `accept` is asked with the tag
    /// hash of each.
    ///
    /// # Errors
    /// [`ReadError::Cold`] in [`Mode::HotOnly`]: repeat on a blocking thread. Others: the message
    /// or the index is damaged.
    pub fn read(
        &self,
        _from: QueueOffset,
        _limits: ReadLimits,
        _mode: Mode,
        _accept: &dyn Fn(i64) -> bool,
    ) -> Result<Read, ReadError> {
        unimplemented!("skeleton")
    }

    /// Waits until there is a confirmed message at or beyond `offset`, or the topic is deleted, or
    /// the store has failed.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn wait_beyond(&self, _offset: QueueOffset) {
        unimplemented!("skeleton")
    }

    /// Where the message at `offset` is, if it is confirmed and still in the log. Blocking.
    ///
    /// # Errors
    /// [`ReadError::Index`] when the index cannot be read.
    pub fn entry(&self, _offset: QueueOffset) -> Result<Option<Entry>, ReadError> {
        unimplemented!("skeleton")
    }

    /// The offset of the message stored at `time_ms`, as `boundary` says. Blocking.
    ///
    /// # Errors
    /// [`ReadError`] when the index or a record on the way cannot be read.
    pub fn offset_at_time(
        &self,
        _time_ms: i64,
        _boundary: Boundary,
    ) -> Result<QueueOffset, ReadError> {
        unimplemented!("skeleton")
    }

    /// When the message at `offset` was stored, in Unix milliseconds. Blocking.
    ///
    /// # Errors
    /// [`ReadError`] when the index or the record cannot be read.
    pub fn store_time_at(&self, _offset: QueueOffset) -> Result<Option<i64>, ReadError> {
        unimplemented!("skeleton")
    }
}
