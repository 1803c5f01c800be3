//! What the rest of the broker tells replication, and learns of it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// What replication needs to know of the configuration.
pub(crate) struct Settings {
    /// The cluster's name; both sides must have the same.
    pub(crate) cluster: String,
    /// The broker's name; both sides must have the same.
    pub(crate) broker_name: String,
    /// This broker's number; no two of a name may have the same.
    pub(crate) broker_id: u64,
    /// Where a master waits for slaves; a slave ignores it.
    pub(crate) listen: SocketAddr,
    /// Copies that a message needs, the master's own among them; 1 waits for nobody.
    pub(crate) in_sync_replicas: usize,
    /// What counts as a copy.
    pub(crate) ack: AckKind,
    /// Directory of the store, for what is carried out while the store is closed.
    pub(crate) store_path: PathBuf,
    /// Asked by a slave before each attempt to connect; `None` when nobody knows. May block for
    /// some seconds.
    pub(crate) master: Box<dyn Fn() -> Option<String> + Send + Sync>,
}

/// What counts as a slave's copy of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckKind {
    /// The slave's process has it.
    Received,
    /// The slave's disk has it.
    Durable,
}

/// Why replication has ended and the broker must start anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Close the store and open it again with the same role: work is planned that needs it closed.
    Reopen,
    /// A slave has seen a newer master: this one must not serve any more.
    Demoted {
        /// Number of the epoch that was seen.
        seen_epoch: u64,
    },
}

/// How replication stands.
#[derive(Clone, Debug)]
pub(crate) enum HaStatus {
    /// Of a master.
    Master {
        /// Its epoch.
        epoch: u64,
        /// The slaves that are connected, by id.
        slaves: Vec<SlaveStatus>,
    },
    /// Of a slave.
    Slave(MasterStatus),
}

/// A connected slave, as its master sees it.
#[derive(Clone, Debug)]
pub(crate) struct SlaveStatus {
    /// Its broker id.
    pub(crate) broker_id: u64,
    /// Where it connects from.
    pub(crate) address: SocketAddr,
    /// What it does.
    pub(crate) state: SlaveState,
    /// Whether it is little behind and was heard lately.
    pub(crate) in_sync: bool,
    /// End of the log that it has.
    pub(crate) received: u64,
    /// Last change of the index that it has.
    pub(crate) sequence: u64,
    /// Bytes of log that it lacks.
    pub(crate) lag_bytes: u64,
    /// Time since its last acknowledgement.
    pub(crate) since_ack: Duration,
}

/// What a connected slave does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SlaveState {
    /// It prepares to follow: a snapshot is sent, or it cuts its log.
    Preparing,
    /// It follows.
    Streaming,
}

/// The master, as a slave sees it.
#[derive(Clone, Debug, Default)]
pub(crate) struct MasterStatus {
    /// Its address as last told; none as long as nobody knows it.
    pub(crate) address: Option<String>,
    /// Whether its log is being followed.
    pub(crate) streaming: bool,
    /// Its epoch; 0 before the first contact.
    pub(crate) epoch: u64,
    /// Bytes of log that the slave knows of and lacks.
    pub(crate) lag_bytes: u64,
    /// Time since it was last heard.
    pub(crate) since_heard: Option<Duration>,
    /// Why the last session ended or did not begin.
    pub(crate) last_error: Option<String>,
}

/// Why a change is not on enough slaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReplicated {
    /// The time is up.
    #[error("change {sequence} is not on {needed} slaves within {waited_ms} ms")]
    Timeout {
        /// Sequence number that was waited for.
        sequence: u64,
        /// How many slaves must have it.
        needed: usize,
        /// How long was waited.
        waited_ms: u128,
    },
    /// Replication has ended.
    #[error("replication has ended while change {sequence} waited for {needed} slaves")]
    Ended {
        /// Sequence number that was waited for.
        sequence: u64,
        /// How many slaves must have it.
        needed: usize,
    },
}
