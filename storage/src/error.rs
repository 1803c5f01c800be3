//! What can go wrong, one enum per kind of call.

use std::{io, path::PathBuf, sync::Arc};

use crate::{LogOffset, TopicId};

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the store open.
    #[error(
        "the store {path} is in use by {holder}; stop that process or choose another store path",
        path = path.display()
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds the lock, as far as it is known.
        holder: String,
    },
    /// The store was written by a later version.
    #[error(
        "the store {path} has schema version {found}, this program knows versions up to {known}; \
         run the version that wrote it or a newer one",
        path = path.display()
    )]
    Schema {
        /// Directory of the store.
        path: PathBuf,
        /// Version found in the store.
        found: u32,
        /// Newest version that this program reads.
        known: u32,
    },
    /// A setting is outside its bounds.
    #[error("{setting} is {value}, it must be {bounds}")]
    Setting {
        /// Name of the setting.
        setting: &'static str,
        /// The value that was refused.
        value: u64,
        /// What would be accepted.
        bounds: &'static str,
    },
    /// A file operation failed.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// Segments of the commit log are missing or have the wrong length.
    #[error(
        "the commit log {path} has a gap: a segment should start at {expected}, the next one \
         starts at {found}; restore the missing segment, or run `mqtool store repair` to see what \
         is lost without it",
        path = path.display()
    )]
    LogGap {
        /// Directory of the commit log.
        path: PathBuf,
        /// Where the next segment should start.
        expected: LogOffset,
        /// Where it starts.
        found: LogOffset,
    },
    /// The log ends before the position that was durable.
    #[error(
        "the commit log {path} ends at {end}, but everything up to {durable} had been made \
         durable; restore the missing segments, or run `mqtool store repair` to see what is lost \
         without them",
        path = path.display()
    )]
    LogShort {
        /// Directory of the commit log.
        path: PathBuf,
        /// Where the log ends.
        end: LogOffset,
        /// Position that had been durable.
        durable: LogOffset,
    },
    /// A directory of Apache RocketMQ cannot be taken over.
    #[error("RocketMQ's {path} cannot be taken over: {reason}", path = path.display())]
    Adopt {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// There is a log and no index: topics and consumer offsets cannot be rebuilt from the log.
    #[error(
        "the commit log holds records up to {end}, but the index {path} is missing or empty; \
         restore the index directory, or run `mqtool store repair`",
        path = path.display()
    )]
    IndexMissing {
        /// Directory of the index.
        path: PathBuf,
        /// Where the log ends.
        end: LogOffset,
    },
    /// Changes of topics, groups or offsets that had been durable are gone from the index.
    #[error(
        "the index {path} ends at change {found}, but {durable} changes had been made durable; \
         run `mqtool store repair` on the store, or restore the directory from a backup",
        path = path.display()
    )]
    IndexBehind {
        /// Directory of the index.
        path: PathBuf,
        /// RocksDB's last sequence number.
        found: u64,
        /// The sequence number that had been durable.
        durable: u64,
    },
    /// RocksDB reports an error.
    #[error(
        "cannot open the index {path}: {source}; run `mqtool store repair` on the store to see what \
         can be saved",
        path = path.display()
    )]
    Index {
        /// Directory of the index.
        path: PathBuf,
        /// RocksDB's reason.
        source: rocksdb::Error,
    },
    /// The index holds something that cannot be read.
    #[error("{0}; run `mqtool store repair` on the store to see what can be saved")]
    Read(#[from] ReadError),
}

/// The store has stopped for good: the first reason, kept until the process ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has stopped accepting writes: {reason}; repair the disk and restart the broker")]
pub struct Poison {
    /// What failed first.
    pub reason: Arc<str>,
}

/// Why nothing of a batch was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The store has failed before.
    #[error(transparent)]
    Poisoned(#[from] Poison),
    /// The disk failed under this append: a part of it may be in the log.
    #[error("{0}; whether the message is stored is unknown")]
    Torn(Poison),
    /// The record is larger than the configured limit or a segment.
    #[error("the record has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Size of the record in bytes.
        size: usize,
        /// Largest accepted size in bytes.
        limit: usize,
    },
    /// The queue is not one of the topic's.
    #[error("the topic {topic} has no queue {queue_id}; it has {queues}")]
    NoQueue {
        /// Name of the topic.
        topic: String,
        /// The queue that was asked for.
        queue_id: u32,
        /// Number of queues.
        queues: u32,
    },
    /// The topic was deleted after the batch was prepared.
    #[error("a topic of the batch (id {topic}) has just been deleted; look it up again")]
    TopicDeleted {
        /// Its id.
        topic: TopicId,
    },
    /// The record cannot be encoded.
    #[error("the record cannot be encoded: {0}")]
    Record(#[from] protocol::record::RecordError),
    /// No segment could be allocated.
    #[error("no space for another commit-log segment: {reason}; free some disk space")]
    NoSpace {
        /// The operating system's reason.
        reason: Arc<str>,
    },
    /// The disk is too full for more messages; everything else goes on.
    #[error(
        "the broker's disk is full: {reason}; free some space or let retention delete older \
         messages, then send again"
    )]
    DiskFull {
        /// How full it is and what would do.
        reason: Arc<str>,
    },
    /// The index is too far behind the log.
    #[error("the index is {pending} blocks or slices behind the log; send again later")]
    Busy {
        /// Blocks and slices that wait for the index writer.
        pending: usize,
    },
    /// The state of a queue cannot be read from the index.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Only the master takes messages.
    #[error("this broker is a slave; send to its master")]
    Slave,
    /// The store is being closed.
    #[error("the store is closing")]
    Closed,
}

/// Why something cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The read would touch the disk or RocksDB and the caller asked for memory only.
    #[error("the data is not in memory; repeat the read where blocking is allowed")]
    Cold,
    /// The record at this position is damaged.
    #[error("the record at log offset {log_offset} is damaged: {reason}")]
    Damaged {
        /// Position of the record.
        log_offset: LogOffset,
        /// What is wrong.
        reason: String,
    },
    /// The disk does not give the record back.
    #[error("the record at log offset {log_offset} cannot be read from the disk: {reason}")]
    Disk {
        /// Position of the record.
        log_offset: LogOffset,
        /// The operating system's reason.
        reason: String,
    },
    /// A part of the index that the log can rebuild cannot be read.
    #[error("consume queues and key index cannot be read: {reason}; they are rebuilt from the log")]
    Lost {
        /// RocksDB's reason.
        reason: String,
    },
    /// A part of the index was lost and is being built again from the log.
    #[error("this part of the index is being rebuilt from the log; try again later")]
    Rebuilding,
    /// RocksDB reports an error, or holds a value that cannot be decoded.
    #[error("the index cannot be read: {reason}")]
    Index {
        /// RocksDB's reason.
        reason: String,
    },
}

/// Why a change of topics or groups did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The store has failed before, or with this change.
    #[error(transparent)]
    Poisoned(#[from] Poison),
    /// There is no such topic.
    #[error("there is no topic {name}")]
    NoTopic {
        /// Its name.
        name: String,
    },
    /// There is no such consumer group.
    #[error("there is no consumer group {name}")]
    NoGroup {
        /// Its name.
        name: String,
    },
    /// More queues than a topic may have.
    #[error("the topic {name} would have {queues} queues, the limit is {limit}")]
    TooManyQueues {
        /// Its name.
        name: String,
        /// What was asked for.
        queues: u32,
        /// Largest number of queues.
        limit: u32,
    },
    /// Too many changes wait already.
    #[error("{pending} changes of topics and groups wait already; try again later")]
    Busy {
        /// Number of waiting changes.
        pending: usize,
    },
    /// Only the master changes anything.
    #[error("this broker is a slave; ask its master for the change")]
    Slave,
    /// The store is being closed.
    #[error("the store is closing")]
    Closed,
}

/// Why old messages were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetentionError {
    /// The index cannot be changed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The index cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}
