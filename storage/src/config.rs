//! What can be set about a store.

use std::path::PathBuf;

use crate::replica::Role;

/// Settings of one store. [`Config::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directory of the store; it is created when it does not exist.
    pub path: PathBuf,
    /// Size of a new commit-log segment in bytes, at least 64 KiB. Default 1 GiB. Segments that
    /// exist keep their size.
    pub segment_size_bytes: u64,
    /// When appended records are made durable. Default: every 500 ms.
    pub flush: FlushMode,
    /// Longest time between two index checkpoints, in milliseconds. Default 30,000.
    pub checkpoint_interval_ms: u64,
    /// Most bytes of log between two index checkpoints, which recovery would have to read again.
    /// Default 512 MiB.
    pub checkpoint_log_bytes: u64,
    /// Messages per slice of the key index. Default 262,144.
    pub slice_messages: u32,
    /// RocksDB's cache of uncompressed blocks, in bytes. Default 64 MiB.
    pub block_cache_bytes: usize,
    /// Largest record that is accepted, in bytes. Default 4 MiB of body and what surrounds it.
    pub max_message_bytes: usize,
    /// Entries kept in memory for reading after they are stored, over all queues, 16 bytes each.
    /// Default 1,048,576.
    pub tail_entries: usize,
    /// Queues that stay in memory however idle they are. Of more than that, those leave that nobody
    /// has used since the last index checkpoint. Default 16,384.
    pub queues_in_memory: usize,
    /// How far behind the end of the log a record is still taken to be in memory, in bytes.
    /// Default 1 GiB.
    pub hot_log_bytes: u64,
    /// Messages may be deleted after so many hours. Default 72.
    pub retention_hours: u64,
    /// Hours of the local day in which they are deleted. Default 4 in the morning.
    pub delete_hours: Vec<u8>,
    /// They are deleted at any hour while more than this share of the disk is used, in percent.
    /// Default 75.
    pub disk_clean_percent: u64,
    /// Younger messages are deleted too while more than this share of the disk is used, in percent.
    /// Default 85.
    pub disk_force_clean_percent: u64,
    /// Messages are refused while this share of the disk is used, in percent. Default 90.
    pub disk_refuse_percent: u64,
    /// Whether [`Config::disk_force_clean_percent`] counts. Without it messages are refused at last
    /// and none is deleted before its time. Default true.
    pub delete_unexpired: bool,
    /// How often the store looks for messages to delete, in milliseconds. Default 10,000.
    pub retention_interval_ms: u64,
    /// Whether this store leads or follows; see [`crate::replica`]. Default: it leads.
    pub role: Role,
    /// Whether slaves must have a record before it is confirmed; then
    /// [`crate::Store::set_replicated`] says what they have. Default false.
    pub wait_for_slaves: bool,
    /// How much of the index's WAL is kept for slaves that are behind, in bytes; 0 means that there
    /// will be no slaves. Default 0.
    pub kept_wal_bytes: u64,
}

/// When appended records are made durable, and so when a send may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushMode {
    /// Confirmed when appended; synced at this interval.
    Async {
        /// Milliseconds between two syncs.
        interval_ms: u64,
    },
    /// Confirmed when synced; everything that waits shares one sync.
    Sync,
}

impl Config {
    /// The default settings for a store at `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            segment_size_bytes: 1 << 30,
            flush: FlushMode::Async { interval_ms: 500 },
            checkpoint_interval_ms: 30_000,
            checkpoint_log_bytes: 512 << 20,
            slice_messages: 262_144,
            block_cache_bytes: 64 << 20,
            max_message_bytes: (4 << 20) + (64 << 10),
            tail_entries: 1 << 20,
            queues_in_memory: 16_384,
            hot_log_bytes: 1 << 30,
            retention_hours: 72,
            delete_hours: vec![4],
            disk_clean_percent: 75,
            disk_force_clean_percent: 85,
            disk_refuse_percent: 90,
            delete_unexpired: true,
            retention_interval_ms: 10_000,
            role: Role::Master,
            wait_for_slaves: false,
            kept_wal_bytes: 0,
        }
    }
}
