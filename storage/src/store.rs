//! The one type that a broker sees.

use std::sync::Arc;

use bytes::Bytes;
use protocol::clock::Clock;

use crate::{
    AppendBatch, AppendError, Config, DataVersion, GroupConfig, LogOffset, OpenError, Poison,
    QueueOffset, ReadError, StateError, Topic, TopicConfig, TopicId,
};

/// A store that is open. Dropping the last handle closes it.
#[derive(Debug)]
pub struct Store {}

/// The answer of [`Store::query_key`].
#[derive(Clone, Debug)]
pub struct KeyQuery {
    /// Whole records, newest first.
    pub records: Vec<Bytes>,
    /// The key index covers everything stored up to this time, in Unix milliseconds.
    pub indexed_to_time_ms: i64,
    /// The key index covers the log up to here.
    pub indexed_to: LogOffset,
}

/// How much space the store takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    /// Used share of the file system that holds the store, 0 to 1.
    pub disk_ratio: f64,
    /// Size of that file system in bytes.
    pub disk_total_bytes: u64,
    /// Bytes on it that the store may still use.
    pub disk_free_bytes: u64,
    /// Bytes of commit log from its smallest to its largest offset.
    pub log_bytes: u64,
}

/// A range of the log that recovery found damaged below the durable watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// First damaged byte.
    pub from: LogOffset,
    /// First good byte after it.
    pub to: LogOffset,
}

impl Store {
    /// Opens the store, creating it when it does not exist, and recovers it. Blocking.
    ///
    /// # Errors
    /// [`OpenError`] says what to do; nothing was changed when the lock is held by another process.
    pub fn open(_config: Config, _clock: Clock) -> Result<Arc<Self>, OpenError> {
        unimplemented!("skeleton")
    }

    /// Syncs the log, writes a last index checkpoint and stops. Blocking; the second call does
    /// nothing.
    pub fn close(&self) {
        unimplemented!("skeleton")
    }

    /// Whether the store accepts writes.
    ///
    /// # Errors
    /// The first failure, for good.
    pub fn health(&self) -> Result<(), Poison> {
        unimplemented!("skeleton")
    }

    /// Ranges that recovery found damaged below the durable watermark; their records are gone.
    pub fn damaged(&self) -> &[DamagedRange] {
        unimplemented!("skeleton")
    }

    /// A topic by name.
    pub fn topic(&self, _name: &str) -> Option<Arc<Topic>> {
        unimplemented!("skeleton")
    }

    /// All topics, in no order.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        unimplemented!("skeleton")
    }

    /// Creates a topic or changes its configuration; durable when it returns.
    ///
    /// # Errors
    /// [`StateError`].
    ///
    /// # Cancel safety
    /// The change happens or does not; drop it when the outcome does not matter.
    pub async fn put_topic(&self, _config: TopicConfig) -> Result<Arc<Topic>, StateError> {
        unimplemented!("skeleton")
    }

    /// Deletes a topic with its queues and its consumer offsets.
    ///
    /// # Errors
    /// [`StateError::NoTopic`] and others.
    ///
    /// # Cancel safety
    /// As [`Store::put_topic`].
    pub async fn delete_topic(&self, _name: &str) -> Result<(), StateError> {
        unimplemented!("skeleton")
    }

    /// Version of the topic table.
    pub fn topic_version(&self) -> DataVersion {
        unimplemented!("skeleton")
    }

    /// A consumer group by name.
    pub fn group(&self, _name: &str) -> Option<Arc<GroupConfig>> {
        unimplemented!("skeleton")
    }

    /// All consumer groups, in no order.
    pub fn groups(&self) -> Vec<Arc<GroupConfig>> {
        unimplemented!("skeleton")
    }

    /// Creates a group or changes its configuration; durable when it returns.
    ///
    /// # Errors
    /// [`StateError`].
    ///
    /// # Cancel safety
    /// As [`Store::put_topic`].
    pub async fn put_group(&self, _config: GroupConfig) -> Result<Arc<GroupConfig>, StateError> {
        unimplemented!("skeleton")
    }

    /// Deletes a group, and its offsets if `clean_offsets`.
    ///
    /// # Errors
    /// [`StateError::NoGroup`] and others.
    ///
    /// # Cancel safety
    /// As [`Store::put_topic`].
    pub async fn delete_group(&self, _name: &str, _clean_offsets: bool) -> Result<(), StateError> {
        unimplemented!("skeleton")
    }

    /// Version of the group table.
    pub fn group_version(&self) -> DataVersion {
        unimplemented!("skeleton")
    }

    /// Notes how far a group has consumed a queue. Does not wait: it is written with the next
    /// batch, at the latest one second later and at close.
    pub fn commit_offset(
        &self,
        _group: &str,
        _topic: &Arc<Topic>,
        _queue_id: u32,
        _offset: QueueOffset,
    ) {
        unimplemented!("skeleton")
    }

    /// How far a group has consumed a queue.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn committed_offset(
        &self,
        _group: &str,
        _topic_id: TopicId,
        _queue_id: u32,
    ) -> Result<Option<QueueOffset>, ReadError> {
        unimplemented!("skeleton")
    }

    /// Everything a group has committed. Blocking.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn offsets_of_group(
        &self,
        _group: &str,
    ) -> Result<Vec<(TopicId, u32, QueueOffset)>, ReadError> {
        unimplemented!("skeleton")
    }

    /// The groups that have committed an offset of a topic. Blocking; reads all offsets.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn groups_with_offsets_on(&self, _topic_id: TopicId) -> Result<Vec<String>, ReadError> {
        unimplemented!("skeleton")
    }

    /// Appends a batch: all of it or, on an error, nothing.
    ///
    /// # Errors
    /// [`AppendError`]: nothing of the batch was appended.
    pub fn append(&self, _batch: &mut AppendBatch) -> Result<(), AppendError> {
        unimplemented!("skeleton")
    }

    /// End of what is appended.
    pub fn appended(&self) -> LogOffset {
        unimplemented!("skeleton")
    }

    /// End of what is synced.
    pub fn flushed(&self) -> LogOffset {
        unimplemented!("skeleton")
    }

    /// End of what the flush mode calls safe; nothing beyond it is visible.
    pub fn confirmed(&self) -> LogOffset {
        unimplemented!("skeleton")
    }

    /// Waits until everything below `offset` is confirmed.
    ///
    /// # Errors
    /// The store has failed; whether the records are stored is unknown.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn wait_confirmed(&self, _offset: LogOffset) -> Result<(), Poison> {
        unimplemented!("skeleton")
    }

    /// The record that starts at `offset`, verified; `None` if no confirmed record starts there.
    /// Blocking.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when what starts there is a damaged record.
    pub fn record_at(&self, _offset: LogOffset) -> Result<Option<Bytes>, ReadError> {
        unimplemented!("skeleton")
    }

    /// Finds messages of a topic by one of their keys or their unique key, newest first, at most
    /// `max`, stored between `begin_ms` and `end_ms` inclusive. Blocking.
    ///
    /// # Errors
    /// [`ReadError`].
    #[expect(clippy::too_many_arguments, reason = "RocketMQ's five parameters of a query")]
    pub fn query_key(
        &self,
        _topic: &str,
        _key: &str,
        _max: usize,
        _begin_ms: i64,
        _end_ms: i64,
    ) -> Result<KeyQuery, ReadError> {
        unimplemented!("skeleton")
    }

    /// Smallest offset that the log holds.
    pub fn min_log_offset(&self) -> LogOffset {
        unimplemented!("skeleton")
    }

    /// End of the confirmed log.
    pub fn max_log_offset(&self) -> LogOffset {
        unimplemented!("skeleton")
    }

    /// How much space the store takes. Blocking.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn usage(&self) -> std::io::Result<Usage> {
        unimplemented!("skeleton")
    }
}
