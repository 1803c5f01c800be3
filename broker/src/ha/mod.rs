//! Replication between a master and its slaves: who connects to whom, what is sent in which order,
//! and when a message counts as replicated.
//!
//! Deciding is apart from doing. `plan`, `acks`, `source` and `sink` know no socket, no thread and no
//! clock; `link` has the sockets. This module is the door for the rest of the broker. The protocol is in
//! `REPLICATION.md`.

mod acker;
mod acks;
mod frame;
mod greet;
mod incoming;
mod link;
mod local;
mod plan;
mod replica;
mod sending;
mod session;
#[cfg(test)]
mod sim;
mod sink;
mod source;
mod status;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use storage::Store;
use tokio::sync::watch;

use link::{MasterLink, SlaveLink};
use local::Local;
use sink::Who;

pub(crate) use status::{
    AckKind, Ended, HaStatus, MasterStatus, NotReplicated, Settings, SlaveState, SlaveStatus,
};

/// Running replication of one open store. Dropping it stops it, as [`Ha::stop`].
pub(crate) struct Ha {
    side: Side,
    ended: watch::Receiver<Option<Ended>>,
}

enum Side {
    Master { link: MasterLink<Local>, epoch: u64 },
    Slave(SlaveLink<Local>),
}

impl std::fmt::Debug for Ha {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ha").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Ha {
    /// Waits for slaves, in tasks of the caller's runtime.
    ///
    /// # Errors
    /// The address cannot be listened on, or the store cannot be read.
    pub(crate) fn start_master(store: Arc<Store>, settings: Settings) -> io::Result<Self> {
        let identity = store.identity().map_err(io::Error::other)?;
        let epoch = identity.epochs.last().copied().unwrap_or_default();
        let (end, ended) = watch::channel(None);
        let (local, name) = local(&store, &settings);
        let needed = settings.in_sync_replicas.saturating_sub(1);
        let counted = (needed, settings.ack, epoch);
        let link = MasterLink::start(local, name, settings.listen, counted, end)?;
        let epoch = epoch.number;
        tracing::info!(address = %link.local_addr(), epoch, "waiting for slaves");
        Ok(Self { side: Side::Master { link, epoch }, ended })
    }

    /// Follows the master.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start_slave(store: Arc<Store>, settings: Settings) -> io::Result<Self> {
        let (end, ended) = watch::channel(None);
        let (local, who) = local(&store, &settings);
        let link = SlaveLink::start(local, who, settings.master, end)?;
        Ok(Self { side: Side::Slave(link), ended })
    }

    /// Ends all sessions and waits for their ends. Blocking; the second call does nothing. Comes
    /// before the store is closed.
    pub(crate) fn stop(&self) {
        match &self.side {
            Side::Master { link, .. } => link.stop(),
            Side::Slave(link) => link.stop(),
        }
    }

    /// How replication stands.
    pub(crate) fn status(&self) -> HaStatus {
        match &self.side {
            Side::Master { link, epoch } => {
                HaStatus::Master { epoch: *epoch, slaves: link.slaves() }
            }
            Side::Slave(link) => HaStatus::Slave(link.status()),
        }
    }

    /// The address that a master listens on, with the port that was chosen if it was 0.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match &self.side {
            Side::Master { link, .. } => Some(link.local_addr()),
            Side::Slave(_) => None,
        }
    }

    /// Slaves that follow, are little behind and were heard lately. 0 on a slave.
    pub(crate) fn connected_in_sync(&self) -> usize {
        match &self.side {
            Side::Master { link, .. } => link.in_sync(),
            Side::Slave(_) => 0,
        }
    }

    /// Whether the slaves that are little behind have everything.
    pub(crate) fn slaves_have_all(&self) -> bool {
        match &self.side {
            Side::Master { link, .. } => link.have_all(),
            Side::Slave(_) => true,
        }
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
        sequence: u64,
        timeout: Duration,
    ) -> Result<(), NotReplicated> {
        let Side::Master { link, .. } = &self.side else { return Ok(()) };
        let (mut replicated, needed) = link.replicated();
        if needed == 0 {
            return Ok(());
        }
        match tokio::time::timeout(timeout, replicated.wait_for(|at| *at >= sequence)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(NotReplicated::Ended { sequence, needed }),
            Err(_) => {
                let waited_ms = timeout.as_millis();
                Err(NotReplicated::Timeout { sequence, needed, waited_ms })
            }
        }
    }

    /// Tells when the broker must start anew, and why; once set it stays.
    pub(crate) fn ended(&self) -> watch::Receiver<Option<Ended>> {
        self.ended.clone()
    }
}

impl Drop for Ha {
    fn drop(&mut self) {
        self.stop();
    }
}

fn local(store: &Arc<Store>, settings: &Settings) -> (Local, Who) {
    let broker_id = settings.broker_id;
    let path = settings.store_path.clone();
    let local = Local { store: Arc::clone(store), path, broker_id };
    let (cluster, broker_name) = (settings.cluster.clone(), settings.broker_name.clone());
    (local, Who { cluster, broker_name, broker_id })
}
