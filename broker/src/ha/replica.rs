//! What replication asks of a store. The real one and the simulated one answer alike.

use std::io;

use bytes::Bytes;

/// Where a store stands. Offsets of the log in bytes, sequence numbers of RocksDB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Smallest offset that the log holds.
    pub(crate) log_min: u64,
    /// End of the log's complete records.
    pub(crate) appended: u64,
    /// End of what the log's disk has.
    pub(crate) flushed: u64,
    /// End of what is shown to anybody.
    pub(crate) confirmed: u64,
    /// Last change of the index.
    pub(crate) sequence: u64,
    /// Last change of the index that its disk has.
    pub(crate) durable_sequence: u64,
    /// End of the log that the index speaks of.
    pub(crate) index_end: u64,
}

/// A stretch of the log that one master wrote.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct Epoch {
    /// Grows with every one.
    #[prost(uint64, tag = "1")]
    pub(crate) number: u64,
    /// Random, so that two masters that begin the same number are told apart.
    #[prost(uint64, tag = "2")]
    pub(crate) leader: u64,
    /// Log offset at which it begins.
    #[prost(uint64, tag = "3")]
    pub(crate) log_start: u64,
    /// Sequence number before its first change.
    #[prost(uint64, tag = "4")]
    pub(crate) sequence_start: u64,
}

/// Whose data a store holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    /// Random, made by the first master; 0 in a store that never had one.
    pub(crate) store_id: u64,
    /// Ascending.
    pub(crate) epochs: Vec<Epoch>,
    /// Names of the column families and their ids in batches.
    pub(crate) families: Vec<(String, u32)>,
}

impl Identity {
    /// Number of the newest epoch, 0 without one.
    pub(crate) fn newest(&self) -> u64 {
        self.epochs.last().map_or(0, |epoch| epoch.number)
    }
}

/// Bytes of one segment of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogPiece {
    /// Log offset of the first byte.
    pub(crate) offset: u64,
    /// Log offset at which the segment begins.
    pub(crate) segment_base: u64,
    /// Length of the segment's file.
    pub(crate) segment_bytes: u64,
    /// The bytes.
    pub(crate) bytes: Bytes,
}

/// One batch of changes of the index, as RocksDB logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    /// Sequence number of its first operation.
    pub(crate) first_sequence: u64,
    /// Sequence number of its last operation.
    pub(crate) last_sequence: u64,
    /// Nothing in it speaks of the log at or beyond this offset.
    pub(crate) needs: u64,
    /// The batch.
    pub(crate) batch: Bytes,
}

/// What follows a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Deltas {
    /// These, without a gap; none if there is nothing new.
    Next(Vec<Delta>),
    /// They are not kept any more: only a snapshot helps.
    Gone,
}

/// Digest of the rows that cannot be rebuilt from the log, at one sequence number.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub(crate) struct StateDigest {
    /// The sequence number.
    #[prost(uint64, tag = "1")]
    pub(crate) sequence: u64,
    /// Number of rows.
    #[prost(uint64, tag = "2")]
    pub(crate) rows: u64,
    /// CRC-32 over all of them in order.
    #[prost(uint32, tag = "3")]
    pub(crate) crc: u32,
}

/// A file of a snapshot.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct SnapshotFile {
    /// Its name, no path.
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// Its length.
    #[prost(uint64, tag = "2")]
    pub(crate) bytes: u64,
}

/// A consumer offset that was committed on a slave.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct PendingOffset {
    /// The consumer group.
    #[prost(string, tag = "1")]
    pub(crate) group: String,
    /// The topic.
    #[prost(string, tag = "2")]
    pub(crate) topic: String,
    /// Its queue.
    #[prost(uint32, tag = "3")]
    pub(crate) queue_id: u32,
    /// Queue offset of the next message that the group wants.
    #[prost(uint64, tag = "4")]
    pub(crate) offset: u64,
}

/// What happens with a slave's store while it is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// The log is cut here; what is cut is set aside.
    pub(crate) cut_log_at: Option<u64>,
    /// The log is set aside and begins anew here.
    pub(crate) restart_log_at: Option<u64>,
    /// The index is replaced by this snapshot.
    pub(crate) install_snapshot: Option<u64>,
}

/// Why a store does not do what it is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    /// The log does not reach back so far.
    #[error("{0}")]
    Behind(String),
    /// What was received cannot be taken.
    #[error("{0}")]
    Refused(String),
    /// The store or its disk has failed.
    #[error("{0}")]
    Failed(String),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What both sides ask. All of it may block.
pub(crate) trait Replica {
    /// Whose data this is.
    fn identity(&self) -> Result<Identity, StoreError>;
    /// Where the store stands.
    fn position(&self) -> Position;
    /// CRC-32 of the log's bytes in this range.
    fn log_crc(&self, from: u64, to: u64) -> Result<u32, StoreError>;
    /// Digest of the primary rows as they are now.
    fn state_digest(&self) -> Result<StateDigest, StoreError>;
}

/// What a master's side asks.
pub(crate) trait Master: Replica {
    /// A consistent copy of the index; dropping it removes it.
    type Snapshot: Snapshot;
    /// Bytes of the log from here; `None` at its end.
    fn log_piece(&self, from: u64, max_bytes: usize) -> Result<Option<LogPiece>, StoreError>;
    /// Changes of the index that follow; at least one if there is any.
    fn deltas_after(&self, sequence: u64, max_bytes: usize) -> Result<Deltas, StoreError>;
    /// Makes a snapshot of the index as it is now.
    fn snapshot(&self) -> Result<Self::Snapshot, StoreError>;
    /// The log up to here is on enough slaves.
    fn set_replicated(&self, log_offset: u64);
    /// Commits an offset if it is larger than what is there.
    fn merge_offset(&self, offset: &PendingOffset);
}

/// A snapshot that is sent.
pub(crate) trait Snapshot {
    /// A number that no other snapshot of the store has.
    fn id(&self) -> u64;
    /// The index's last change in it.
    fn sequence(&self) -> u64;
    /// End of the log that it speaks of.
    fn needs(&self) -> u64;
    /// Its files.
    fn files(&self) -> &[SnapshotFile];
    /// Bytes of a file.
    fn read(&self, name: &str, offset: u64, max_bytes: usize) -> io::Result<Bytes>;
}

/// What a slave's side asks.
pub(crate) trait Slave: Replica {
    /// A snapshot that is being received.
    type Stage: Stage;
    /// Takes bytes that follow [`Slave::received`]; returns the end of complete records.
    fn receive_log(&self, piece: &LogPiece) -> Result<u64, StoreError>;
    /// Where the next piece must begin.
    fn received(&self) -> u64;
    /// Applies the changes that come next; the log must have what they need.
    fn apply(&self, delta: &Delta) -> Result<(), StoreError>;
    /// Makes the applied changes durable.
    fn sync_index(&self) -> Result<(), StoreError>;
    /// What the master shows.
    fn set_master_confirmed(&self, log_offset: u64);
    /// Offsets that were committed here and have not come back from the master.
    fn pending_offsets(&self) -> Vec<PendingOffset>;
    /// Ends serving until the store is opened anew: what it holds is not the master's.
    fn stop_serving(&self, reason: &str);
    /// The newest epoch this broker has heard of, durably.
    fn seen_epoch(&self) -> Result<u64, StoreError>;
    /// Notes it, durably.
    fn remember_epoch(&self, number: u64) -> Result<(), StoreError>;
    /// The snapshot that was being received when the last session ended.
    fn staged(&self) -> Result<Option<Self::Stage>, StoreError>;
    /// Begins to receive a snapshot, or goes on with the one of this id.
    fn stage(&self, snapshot_id: u64) -> Result<Self::Stage, StoreError>;
    /// Notes durably what the next open of the store carries out.
    fn plan(&self, work: Work) -> Result<(), StoreError>;
}

/// A snapshot that is being received.
pub(crate) trait Stage {
    /// Its number.
    fn id(&self) -> u64;
    /// Files and how much of each is here.
    fn have(&self) -> Vec<SnapshotFile>;
    /// Appends to a file.
    fn write(&mut self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// All is here: checks the lengths and makes it durable.
    fn finish(&mut self, files: &[SnapshotFile]) -> io::Result<()>;
}
