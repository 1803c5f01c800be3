//! The accept loop that every process runs: bounded connections, graceful end.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

pub use crate::connection::Service;
use crate::connection::{Bounds, Connection, drive};

/// Bounds of a server.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Connections beyond this number are closed at once.
    pub max_connections: usize,
    /// How long a graceful end waits for requests that are being handled.
    pub drain: Duration,
    /// Bounds of each connection.
    pub connection: Bounds,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            drain: Duration::from_secs(5),
            connection: Bounds::default(),
        }
    }
}

/// The address cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}: {source}{hint}")]
pub struct BindError {
    /// The address asked for.
    pub address: String,
    /// What the system said.
    pub source: io::Error,
    hint: &'static str,
}

/// A bound listener that does not accept yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    local: SocketAddr,
    config: ServeOptions,
}

impl Server {
    /// Listens on `address` (`host:port`; port 0 lets the system choose).
    ///
    /// # Errors
    ///
    /// When the address cannot be resolved or listened on.
    pub async fn bind(address: &str, config: ServeOptions) -> Result<Self, BindError> {
        let fail = |source: io::Error| {
            let hint = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "; another process uses this port: stop it or choose another port"
                }
                io::ErrorKind::PermissionDenied => "; ports below 1024 need privileges",
                _ => "",
            };
            BindError { address: address.to_owned(), source, hint }
        };
        let listener = TcpListener::bind(address).await.map_err(fail)?;
        let local = listener.local_addr().map_err(fail)?;
        Ok(Self { listener, local, config })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Accepts and serves until `shutdown` resolves; then stops reading, lets what is being
    /// handled answer within [`ServeOptions::drain`], and returns with every connection ended.
    pub async fn run<S: Service>(self, service: Arc<S>, shutdown: impl Future<Output = ()>) {
        let mut tasks = JoinSet::new();
        let connections = Connections::default();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => {
                        if connections.count.load(Ordering::Relaxed) >= self.config.max_connections {
                            tracing::warn!(%peer, limit = self.config.max_connections, "connection refused: too many");
                            continue;
                        }
                        self.serve(stream, &service, &connections, &mut tasks);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection; trying again");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = tasks.join_next(), if !tasks.is_empty() => {}
            }
        }
        drop(self.listener);
        connections.each(Connection::drain);
        let ended = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(self.config.drain, ended).await.is_err() {
            connections.each(|connection| connection.close("the server ends"));
            while tasks.join_next().await.is_some() {}
        }
    }

    fn serve<S: Service>(
        &self,
        stream: TcpStream,
        service: &Arc<S>,
        connections: &Connections,
        tasks: &mut JoinSet<()>,
    ) {
        // A peer may be gone already; its connection then ends at the first read.
        let _ = stream.set_nodelay(true);
        let Ok(connection) = Connection::new(&stream, self.config.connection) else { return };
        let count = connections.add(&connection);
        let service = Arc::clone(service);
        tasks.spawn(async move {
            drive(connection, stream, service).await;
            count.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

#[derive(Default)]
struct Connections {
    live: Mutex<Vec<Weak<Connection>>>,
    count: Arc<AtomicUsize>,
}

impl Connections {
    fn add(&self, connection: &Arc<Connection>) -> Arc<AtomicUsize> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if live.len() > 2 * count + 64 {
            live.retain(|connection| connection.strong_count() > 0);
        }
        live.push(Arc::downgrade(connection));
        Arc::clone(&self.count)
    }

    fn each(&self, act: impl Fn(&Connection)) {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        for connection in live.iter().filter_map(Weak::upgrade) {
            act(&connection);
        }
    }
}
