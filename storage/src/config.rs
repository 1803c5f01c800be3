//! What can be set about a store.

use std::path::PathBuf;

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
    /// How far behind the end of the log a record is still taken to be in memory, in bytes.
    /// Default 1 GiB.
    pub hot_log_bytes: u64,
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
            hot_log_bytes: 1 << 30,
        }
    }
}
