//! What a broker needs before it serves: checks, sockets, its role, its store and its replication.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
};

use protocol::{
    clock::Clock,
    connection::Bounds,
    limits,
    server::{BindError, ServeOptions, Server},
};
use storage::{
    FlushMode, OpenError, ReadError, StateError, Store,
    replica::{Identity, Role, save_role, saved_role},
};
use thiserror::Error;
use tokio::time::Duration;

use crate::{
    config::{Config, Contradiction},
    ha::{AckKind, Ha, Settings},
    master::MasterPlace,
    rivals::{Account, Lookout, Rival},
    role::{Claim, Members, Standing, Verdict, contest, free_id},
    state::{AROUND_BODY_BYTES, Host, Part, State, blocking},
};

/// How much of the index's log is kept for slaves that are behind; who is further behind gets a
/// copy of the index.
const KEPT_WAL_BYTES: u64 = 256 << 20;

/// Why a broker does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A topic that must exist cannot be created.
    #[error("cannot create the topics of the broker itself: {0}")]
    Topics(#[from] StateError),
    /// Keys of the configuration contradict each other.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// The saved role cannot be read or written.
    #[error("the role of the store {path} cannot be {action}: {source}", path = .path.display())]
    Role {
        /// Directory of the store.
        path: PathBuf,
        /// `read` or `saved`.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Another broker has the name.
    #[error(
        "the broker at {address} is the master of {name} with another store: give this broker another \
         name, or start it with an empty store and it becomes a slave"
    )]
    NameTaken {
        /// The broker's name.
        name: String,
        /// Where the other one is.
        address: String,
    },
    /// The store does not say what it is.
    #[error("the store's identity cannot be read: {0}")]
    Identity(#[from] ReadError),
    /// Slaves cannot connect.
    #[error("cannot listen on {address} for slaves: {source}; set ha_listen")]
    Replication {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The host that clients are told has no address.
    #[error("advertise = {host:?} does not resolve to an address: {reason}")]
    Advertise {
        /// The configured host.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// The name of the broker or the cluster cannot be part of routes.
    #[error("{key} = {value:?} must have 1 to 127 characters, no blanks among them")]
    Name {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
    },
}

/// Looks for what is wrong about the configuration as a whole.
///
/// # Errors
///
/// The first thing.
pub(crate) fn check(config: &Config) -> Result<(), StartError> {
    check_names(config)?;
    Ok(config.check()?)
}

/// RocketMQ does not check these names either, but a blank one could never be reached.
fn check_names(config: &Config) -> Result<(), StartError> {
    for (key, value) in [("name", &config.name), ("cluster", &config.cluster)] {
        let blank = |c: char| c.is_whitespace() || c.is_control();
        if value.is_empty() || value.len() > limits::TOPIC_MAX_BYTES || value.contains(blank) {
            return Err(StartError::Name { key, value: value.clone() });
        }
    }
    Ok(())
}

pub(crate) fn serve_options(config: &Config) -> ServeOptions {
    ServeOptions {
        max_connections: config.connections_max,
        connection: Bounds {
            idle: Duration::from_millis(config.connection_idle_ms),
            ..Bounds::default()
        },
        ..ServeOptions::default()
    }
}

/// The port on which old clients send. Another broker of this machine may have it: no harm done.
pub(crate) async fn bind_vip(config: &Config, local: SocketAddr) -> Option<Server> {
    if !config.vip_listen || config.listen.port() == 0 {
        return None;
    }
    let address =
        SocketAddr::new(local.ip(), local.port().checked_sub(2).filter(|port| *port > 0)?);
    match Server::bind(&address.to_string(), serve_options(config)).await {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%error, "clients older than 4.5.1 cannot send to this broker");
            None
        }
    }
}

/// The settings of the store, opened with this role.
pub(crate) fn store_config(config: &Config, standing: Standing) -> storage::Config {
    let mut store = storage::Config::new(&config.store);
    store.segment_size_bytes = config.segment_size_bytes;
    store.flush = match config.flush.as_str() {
        "sync" => FlushMode::Sync,
        _ => FlushMode::Async { interval_ms: config.flush_interval_ms },
    };
    store.checkpoint_interval_ms = config.checkpoint_interval_ms;
    store.checkpoint_log_bytes = config.checkpoint_log_bytes;
    store.block_cache_bytes = config.block_cache_bytes;
    store.hot_log_bytes = config.hot_log_bytes;
    store.max_message_bytes = config.message_max_bytes + AROUND_BODY_BYTES;
    store.retention_hours = config.retention_hours;
    store.delete_hours.clone_from(&config.delete_hours.0);
    store.disk_clean_percent = config.disk_clean_percent;
    store.disk_force_clean_percent = config.disk_force_clean_percent;
    store.disk_refuse_percent = config.disk_refuse_percent;
    store.delete_unexpired = config.delete_unexpired;
    store.role = standing.role;
    store.wait_for_slaves = standing.is_master() && config.copies() > 1;
    store.kept_wal_bytes = KEPT_WAL_BYTES;
    store
}

/// An address of the host, IPv4 if it has one: several clients read no other message ids.
async fn resolve(host: &str) -> Result<IpAddr, StartError> {
    let fail = |reason: String| StartError::Advertise { host: host.to_owned(), reason };
    let found =
        tokio::net::lookup_host((host, 0)).await.map_err(|error| fail(error.to_string()))?;
    let addresses: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    v4.or(addresses.first()).copied().ok_or_else(|| fail("no address".to_owned()))
}

/// Where clients reach this broker.
///
/// # Errors
///
/// [`StartError::Advertise`].
pub(crate) async fn host(config: &Config, port: u16) -> Result<Host, StartError> {
    let name = config.advertised_host();
    let address = SocketAddr::new(resolve(&name).await?, port);
    Ok(Host { name, address })
}

/// The role to start with: what was saved, else what is configured. A master whose place another
/// one has taken becomes its slave, and never opens its store as a master.
///
/// # Errors
///
/// The role cannot be read or saved, or the name belongs to another store.
pub(crate) async fn standing(
    config: &Config,
    host: &Host,
    lookout: &Lookout,
) -> Result<Standing, StartError> {
    let path = config.store.clone();
    let saved = blocking(move || saved_role(&path))
        .await
        .map_err(|source| failed(config, "read", source))?;
    let standing = Standing::of(config, saved);
    let configured = Standing::of(config, None);
    if (standing.role, standing.broker_id()) != (configured.role, configured.broker_id()) {
        tracing::warn!(
            role = standing.name(config.copies()),
            broker_id = standing.broker_id(),
            configured = config.role,
            "the role that was changed while the broker ran wins over the configured one"
        );
    }
    if !standing.is_master() {
        return Ok(standing);
    }
    let members = lookout.members().await;
    let nothing = Account {
        ha_address: None,
        address: host.advertised(),
        flushed: 0,
        is_master: false,
        claim: Claim::default(),
        slave_id: standing.slave_id,
    };
    let rivals = lookout.rivals(&members, &nothing).await;
    if rivals.is_empty() {
        return Ok(standing);
    }
    let ours = Claim::of(&identity(config).await?, i64::MAX);
    // A slave that was promoted has not begun its epoch yet.
    let ours = Claim { epoch: ours.epoch.max(standing.seen_epoch), ..ours };
    for rival in rivals {
        match contest(&ours, &rival.claim) {
            Verdict::Keep => {}
            Verdict::Foreign => {
                return Err(StartError::NameTaken {
                    name: config.name.clone(),
                    address: rival.address,
                });
            }
            Verdict::Outdated | Verdict::Later => {
                return follow(config, &members, (standing, &nothing.address), &rival).await;
            }
        }
    }
    Ok(standing)
}

/// Saves that a former master is a slave now.
async fn follow(
    config: &Config,
    members: &Members,
    (standing, own_address): (Standing, &str),
    rival: &Rival,
) -> Result<Standing, StartError> {
    let wishes = [standing.slave_id, config.broker_id, rival.slave_id];
    let slave_id = free_id(members, own_address, wishes);
    let seen_epoch = standing.seen_epoch.max(rival.claim.epoch);
    let standing = Standing { role: Role::Slave, slave_id, seen_epoch };
    tracing::warn!(
        master = rival.address,
        epoch = rival.claim.epoch,
        broker_id = slave_id,
        "another broker has become the master of this name; this one starts as its slave"
    );
    let (path, saved) = (config.store.clone(), standing.saved());
    let outcome = blocking(move || save_role(&path, &saved)).await;
    outcome.map_err(|source| failed(config, "saved", source))?;
    Ok(standing)
}

fn failed(config: &Config, action: &'static str, source: io::Error) -> StartError {
    StartError::Role { path: config.store.clone(), action, source }
}

/// Who the store is. A store is opened as a slave for that, which changes nothing in it.
async fn identity(config: &Config) -> Result<Identity, StartError> {
    let standing = Standing { role: Role::Slave, slave_id: 0, seen_epoch: 0 };
    let settings = store_config(config, standing);
    blocking(move || {
        let store = Store::open(settings, Clock::system())?;
        let identity = store.identity();
        store.close();
        Ok(identity?)
    })
    .await
}

/// A store that is open, and who opened it.
pub(crate) struct Opened {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<Store>,
    pub(crate) host: Host,
    pub(crate) standing: Standing,
    pub(crate) lookout: Lookout,
}

impl Opened {
    /// Starts replication.
    ///
    /// # Errors
    ///
    /// The address for slaves cannot be listened on, or the store cannot be read.
    pub(crate) async fn replicating(self, local: SocketAddr) -> Result<Arc<State>, StartError> {
        let Self { config, clock, store, host, standing, lookout } = self;
        let master = Arc::new(MasterPlace::default());
        let (found, named) = (Arc::clone(&master), config.ha_master.clone());
        let settings = |listen| Settings {
            cluster: config.cluster.clone(),
            broker_name: config.name.clone(),
            broker_id: standing.broker_id(),
            listen,
            in_sync_replicas: config.copies(),
            ack: match config.replica_ack.as_str() {
                "durable" => AckKind::Durable,
                _ => AckKind::Received,
            },
            store_path: config.store.clone(),
            master: {
                let (found, named) = (Arc::clone(&found), named.clone());
                Box::new(move || named.clone().or_else(|| found.wanted().map(|at| at.ha_address)))
            },
        };
        let listen = ha_listen(&config, local);
        let ha = if standing.is_master() {
            start_master(&store, &config, listen, settings)
        } else {
            Ha::start_slave(Arc::clone(&store), settings(listen))
        };
        let ha = ha.map_err(|source| StartError::Replication { address: listen, source })?;
        let claim = if standing.is_master() {
            Claim::of(&store.identity()?, clock.now_ms())
        } else {
            Claim::default()
        };
        let part = Part { standing, claim, ha, master, lookout };
        Ok(Arc::new(State::new(config, clock, store, &host, part)))
    }
}

/// Where a master waits for slaves.
fn ha_listen(config: &Config, local: SocketAddr) -> SocketAddr {
    config.ha_listen.unwrap_or_else(|| {
        let port =
            if config.listen.port() == 0 { 0 } else { local.port().checked_add(1).unwrap_or(0) };
        SocketAddr::new(local.ip(), port)
    })
}

/// Starts a master's replication. The port after the one for clients may be another broker's: any
/// other does as well, because slaves learn it from the name servers.
fn start_master(
    store: &Arc<Store>,
    config: &Config,
    listen: SocketAddr,
    settings: impl Fn(SocketAddr) -> Settings,
) -> io::Result<Ha> {
    match Ha::start_master(Arc::clone(store), settings(listen)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && config.ha_listen.is_none() => {
            tracing::warn!(
                address = %listen,
                "another process listens where slaves would connect; they connect to a free port \
                 instead, which the name servers tell them"
            );
            Ha::start_master(Arc::clone(store), settings(SocketAddr::new(listen.ip(), 0)))
        }
        outcome => outcome,
    }
}
