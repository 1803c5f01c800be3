//! A running name server: what its handlers share, its start and its end.

use std::{
    collections::HashMap,
    hash::RandomState,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use arc_swap::ArcSwap;
use protocol::{
    clock::Clock,
    connection::Connection,
    server::{BindError, ServeOptions, Server},
};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{config::Config, expire, kv, route_table::RouteTable};

/// What all handlers share.
pub(crate) struct Shared {
    pub(crate) table: RouteTable,
    pub(crate) kv: Arc<kv::Store>,
    pub(crate) config: ArcSwap<Config>,
    pub(crate) clock: Clock,
    pub(crate) started_ms: i64,
    /// For fingerprints of registrations. Keyed at random: nobody can make two bodies meet.
    pub(crate) hasher: RandomState,
    /// The connections that brokers registered over, to be closed when those expire.
    links: Mutex<HashMap<u64, Arc<Connection>>>,
}

impl Shared {
    pub(crate) fn links(&self) -> MutexGuard<'_, HashMap<u64, Arc<Connection>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a name server does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The key-value configuration cannot be read.
    #[error(transparent)]
    Kv(#[from] kv::Error),
}

/// A name server that accepts connections. Dropping it ends it without waiting for that.
#[derive(Debug)]
pub struct NameServer {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl NameServer {
    /// Starts a name server in the current Tokio runtime. It serves when this returns.
    ///
    /// # Errors
    /// The port is in use, or the key-value file is damaged or unreadable.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_at(config, Clock::system()).await
    }

    /// As [`NameServer::start`], with a clock that decides which brokers are silent.
    ///
    /// # Errors
    /// See [`NameServer::start`].
    pub async fn start_at(config: Config, clock: Clock) -> Result<Self, StartError> {
        let bounds =
            ServeOptions { max_connections: config.max_connections, ..ServeOptions::default() };
        let server = Server::bind(&config.listen().to_string(), bounds).await?;
        let address = server.local_addr();
        // A small file, read once before anything is served.
        let kv = Arc::new(kv::Store::open(&config.kv_config_path)?);
        let shared = Arc::new(Shared {
            table: RouteTable::default(),
            kv,
            started_ms: clock.now_ms(),
            hasher: RandomState::new(),
            clock,
            config: ArcSwap::from_pointee(config),
            links: Mutex::default(),
        });
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let expiry = expire::run(Arc::clone(&shared));
            // An error is the sender dropped: the name server is not wanted any more either.
            let stopped = async { drop(stopped.await) };
            tokio::select! {
                () = server.run(shared, stopped) => {}
                never = expiry => match never {},
            }
        });
        tracing::info!(%address, "name server ready");
        Ok(Self { address, stop, task })
    }

    /// The address that is listened on, with the port that was chosen if 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nothing new, answers what was received, closes every connection, and returns.
    pub async fn shutdown(self) {
        drop(self.stop);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the name server had failed before it was stopped");
        }
    }
}
