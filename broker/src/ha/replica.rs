//! What replication asks of a store. The real one and the simulated one answer alike.

use std::io;

use bytes::Bytes;
use storage::ReadError;
pub(crate) use storage::replica::{
    Delta, Deltas, Epoch, Identity, LogPiece, PendingOffset, Position, ReplicaError, SnapshotFile,
    StateDigest, Wake, Work,
};

/// Number of the newest epoch, 0 without one.
pub(crate) fn newest(epochs: &[Epoch]) -> u64 {
    epochs.last().map_or(0, |epoch| epoch.number)
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

impl From<ReplicaError> for StoreError {
    fn from(error: ReplicaError) -> Self {
        let text = error.to_string();
        match error {
            ReplicaError::Behind { .. } => Self::Behind(text),
            ReplicaError::Gap { .. }
            | ReplicaError::Early { .. }
            | ReplicaError::Segment { .. }
            | ReplicaError::Record { .. }
            | ReplicaError::Batch { .. } => Self::Refused(text),
            ReplicaError::Role { .. }
            | ReplicaError::NoSpace { .. }
            | ReplicaError::File { .. }
            | ReplicaError::Read(_)
            | ReplicaError::Poisoned(_)
            | ReplicaError::Closed => Self::Failed(text),
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What both sides ask. All of it may block, but [`Replica::watch`] and [`Replica::position`].
pub(crate) trait Replica {
    /// Ends the waking when it is dropped.
    type Watch: Send;
    /// Calls this whenever the store has come further.
    fn watch(&self, wake: Wake) -> Self::Watch;
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
    /// Changes of the index that follow; at least one if there is any and none is being written.
    fn deltas_after(&self, sequence: u64, max_bytes: usize) -> Result<Deltas, StoreError>;
    /// Whether all changes that follow are kept.
    fn keeps_after(&self, sequence: u64) -> Result<bool, StoreError>;
    /// Makes a snapshot of the index as it is now.
    fn snapshot(&self) -> Result<Self::Snapshot, StoreError>;
    /// The log up to here is on enough slaves.
    fn set_replicated(&self, log_offset: u64);
    /// Commits an offset if it is larger than what is there.
    fn merge_offset(&self, offset: &PendingOffset) -> Result<(), StoreError>;
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
    fn received(&self) -> Result<u64, StoreError>;
    /// Applies the changes that come next; the log must have what they need.
    fn apply(&self, delta: &Delta) -> Result<(), StoreError>;
    /// Makes the applied changes durable.
    fn sync_index(&self) -> Result<(), StoreError>;
    /// What the master shows.
    fn set_master_confirmed(&self, log_offset: u64) -> Result<(), StoreError>;
    /// Offsets that were committed here and have not come back from the master.
    fn pending_offsets(&self) -> Vec<PendingOffset>;
    /// Ends serving until the store is opened anew: what it holds is not the master's.
    fn stop_serving(&self);
    /// The newest epoch this broker has heard of, durably.
    fn seen_epoch(&self) -> Result<u64, StoreError>;
    /// Notes it, durably.
    fn remember_epoch(&self, number: u64) -> Result<(), StoreError>;
    /// Begins to receive a snapshot, or goes on with the one of this id.
    fn stage(&self, snapshot_id: u64) -> Result<Self::Stage, StoreError>;
    /// Notes durably what the next open of the store carries out.
    fn plan(&self, work: Work) -> Result<(), StoreError>;
}

/// A snapshot that is being received.
pub(crate) trait Stage {
    /// How much of a file is here.
    fn have(&self, name: &str) -> io::Result<u64>;
    /// Appends to a file.
    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// All is here: checks the lengths and makes it durable.
    fn finish(&self, files: &[SnapshotFile]) -> io::Result<()>;
}
