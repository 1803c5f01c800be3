//! What a master gives to its slaves, and what a slave does with it; the wire between them is the
//! broker's.
//!
//! A slave's log has the bytes of the master's, and its RocksDB gets the master's write batches in
//! the same order, so that sequence numbers are equal on both sides. A slave writes neither by
//! itself. What it shows are the records that the master has confirmed: they are dispatched into
//! the tails of queues by the function that recovery uses, and a block that arrives stands for the
//! part of a tail that it covers.
//!
//! The role of a store that is open is fixed. Changing it, cutting the log or putting a snapshot in
//! place is work for the next open ([`plan`]), which also ends what a crash has interrupted.

pub(crate) mod aside;
pub(crate) mod batch;
pub(crate) mod delta;
pub(crate) mod digest;
pub(crate) mod epochs;
pub(crate) mod follow;
pub(crate) mod keep;
mod role;
mod sealed;
mod sink;
mod snapshot;
mod source;
pub(crate) mod watch;
pub(crate) mod work;

pub use aside::PendingOffset;
pub use delta::{Delta, Deltas};
pub use digest::{StateDigest, StoreDigest, digest};
pub use epochs::Epoch;
pub use role::{SavedRole, save_role, saved_role};
pub use snapshot::{Snapshot, SnapshotFile, Stage, stage};
pub use source::{Identity, LogPiece, Position};
pub use watch::{Wake, WatchGuard};
pub use work::{Work, plan};

use crate::{Poison, ReadError};

/// Whether a store leads or follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// It appends what producers send, and gives it to slaves.
    #[default]
    Master,
    /// It takes everything from its master.
    Slave,
}

/// Why something cannot be replicated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(clippy::module_name_repetitions, reason = "it is used beside the other errors of stores")]
pub enum ReplicaError {
    /// The log does not go back that far.
    #[error("the log begins at {log_min}, bytes from {wanted} on are deleted")]
    Behind {
        /// Where it begins.
        log_min: u64,
        /// What was asked for.
        wanted: u64,
    },
    /// What came does not follow what is there.
    #[error("{what} {expected} comes next, {got} came")]
    Gap {
        /// What is counted.
        what: &'static str,
        /// What would follow.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// A change speaks of records that are not here yet.
    #[error("the change speaks of the log up to {needs}, which ends at {appended} here")]
    Early {
        /// How much log it needs.
        needs: u64,
        /// How much there is.
        appended: u64,
    },
    /// The segments do not match.
    #[error("the log bytes for a segment of {got} bytes do not fit to one of {here} bytes here")]
    Segment {
        /// Size of the master's segment.
        got: u64,
        /// Size of ours.
        here: u64,
    },
    /// The bytes are no records.
    #[error("the master's log has no record at {log_offset}: {reason}")]
    Record {
        /// Where one should be.
        log_offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The change cannot be read.
    #[error("the master's change at {sequence} cannot be applied: {reason}")]
    Batch {
        /// Its sequence number.
        sequence: u64,
        /// What is wrong.
        reason: String,
    },
    /// The store has another role.
    #[error("this store is open as a {}", if *.master { "master" } else { "slave" })]
    Role {
        /// Which it has.
        master: bool,
    },
    /// There is no space for another segment.
    #[error("no space for another commit-log segment: {reason}; free some disk space")]
    NoSpace {
        /// The operating system's reason.
        reason: String,
    },
    /// A file cannot be used.
    #[error("{reason}")]
    File {
        /// Which, and why.
        reason: String,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store has failed before, or with this.
    #[error(transparent)]
    Poisoned(#[from] Poison),
    /// The store is being closed.
    #[error("the store is closing")]
    Closed,
}
