//! A running broker: what its handlers share, how it starts and how it ends.

use std::{
    collections::HashSet,
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use protocol::{
    clock::Clock,
    connection::{Bounds, Connection},
    message_id::{OffsetId, UniqueIds},
    server::{BindError, ServeOptions, Server},
};
use storage::{FlushMode, LogOffset, OpenError, Poison, Recovery, StateError, Store, Topic};
use thiserror::Error;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use crate::{
    clients::{Clients, Notice},
    config::Config,
    hold::Places,
    locks::Locks,
    progress::Progress,
    registrar::{Identity, Registrar},
    request::{Requests, reply::Refusal, stamp},
    stats::Stats,
    topics,
};

/// What the handlers of one broker share.
pub(crate) struct State {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<Store>,
    pub(crate) clients: Clients<Arc<Connection>>,
    pub(crate) locks: Locks,
    pub(crate) places: Places,
    pub(crate) progress: Progress,
    pub(crate) stats: Stats,
    pub(crate) registrar: Registrar,
    /// Held while a topic or group comes into being.
    pub(crate) creating: tokio::sync::Mutex<()>,
    /// The host and port that clients are told.
    pub(crate) address: String,
    /// The same as stored in records.
    pub(crate) store_host: SocketAddr,
    /// The properties that every stored message carries, encoded.
    pub(crate) stamps: String,
    /// Largest body: as configured, but no more than a log segment holds.
    pub(crate) body_max_bytes: usize,
    /// When this process began to serve, Unix milliseconds.
    pub(crate) started_ms: i64,
    unique_ids: UniqueIds,
    picks: AtomicU32,
    told_about_pauses: Mutex<HashSet<Box<str>>>,
}

impl State {
    /// A topic, or the refusal of what needs it.
    pub(crate) fn topic(&self, name: &str) -> Result<Arc<Topic>, Refusal> {
        self.store.topic(name).ok_or_else(|| Refusal::NoTopic {
            topic: name.to_owned(),
            broker: self.config.name.clone(),
        })
    }

    /// The refusal of something that the broker's permission excludes.
    pub(crate) fn forbids(&self, action: &'static str) -> Refusal {
        let broker = self.config.name.clone();
        Refusal::BrokerForbids { broker, action, permission: self.config.permission }
    }

    /// A number below `count`, another one each time; 0 if there is none.
    pub(crate) fn any_below(&self, count: u32) -> u32 {
        self.picks.fetch_add(1, Relaxed).checked_rem(count).unwrap_or(0)
    }

    /// Appends an id for a message whose client gave it none.
    pub(crate) fn push_unique_id(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{}", self.unique_ids.make());
    }

    /// Appends the offset message id of the record at `offset`.
    pub(crate) fn push_message_id(&self, text: &mut String, offset: LogOffset) {
        let id = OffsetId { host: self.store_host, log_offset: offset.0.cast_signed() };
        let _ = write!(text, "{id}");
    }

    /// The whole record at a log offset that a client named.
    pub(crate) async fn record_at(self: &Arc<Self>, log_offset: i64) -> Result<Bytes, Refusal> {
        let no_message = || Refusal::NoMessage {
            log_offset,
            broker: self.config.name.clone(),
            min: self.store.min_log_offset().0,
            max: self.store.max_log_offset().0,
        };
        let offset = LogOffset(u64::try_from(log_offset).map_err(|_| no_message())?);
        let store = Arc::clone(&self.store);
        let record = blocking(move || store.record_at(offset)).await?;
        record.ok_or_else(no_message)
    }

    /// Whether this is the first time that someone asks for `group`.
    pub(crate) fn told_about_pauses(&self, group: &str) -> bool {
        let mut told = self.told_about_pauses.lock().unwrap_or_else(PoisonError::into_inner);
        !told.contains(group) && told.insert(group.into())
    }

    /// Tells the members of groups that changed, unless they do not want to know.
    pub(crate) fn notify(&self, notices: impl IntoIterator<Item = Notice<Arc<Connection>>>) {
        for notice in notices {
            let config = self.store.group(&notice.group);
            let wanted = config.is_none_or(|config| config.notify_consumer_ids_changed_enable);
            if self.config.notify_consumer_changes && wanted {
                crate::request::heartbeat::notify(&notice);
            }
        }
    }
}

/// Runs what may block on a thread for it. A panic goes on in the caller.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

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
    /// The host that clients are told has no address.
    #[error("advertise = {host:?} does not resolve to an address: {reason}")]
    Advertise {
        /// The configured host.
        host: String,
        /// What the system said.
        reason: String,
    },
    /// A name cannot be that of a topic, which broker and cluster need.
    #[error("{key} = {value:?} is no topic name: {reason}")]
    Name {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is wrong.
        reason: protocol::names::NameError,
    },
}

/// A broker that serves. Dropping it ends it without ceremony; [`Broker::shutdown`] is the proper
/// way.
pub struct Broker {
    state: Arc<State>,
    local: SocketAddr,
    stop: watch::Sender<bool>,
    failed: watch::Receiver<Option<Poison>>,
    tasks: JoinSet<()>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens the store, listens, and registers with the name servers. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address or the store cannot be had; the sentence says what to do. Name servers that
    /// do not answer are no error: they are tried again.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_at(config, Clock::system()).await
    }

    /// As [`Broker::start`], with a clock of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Broker::start`].
    pub async fn start_at(config: Config, clock: Clock) -> Result<Self, StartError> {
        for (key, value) in [("name", &config.name), ("cluster", &config.cluster)] {
            protocol::names::check_topic(value).map_err(|reason| StartError::Name {
                key,
                value: value.clone(),
                reason,
            })?;
        }
        let server = Server::bind(&config.listen.to_string(), server_config(&config)).await?;
        let local = server.local_addr();
        let vip = bind_vip(&config, local).await;
        let store_config = store_config(&config);
        let store_clock = clock.clone();
        let store = blocking(move || Store::open(store_config, store_clock)).await?;
        let state = match state(config, clock, Arc::clone(&store), local.port()).await {
            Ok(state) => state,
            Err(error) => {
                blocking(move || store.close()).await;
                return Err(error);
            }
        };
        let mut broker = Self::serve(state, server, local);
        if let Some(vip) = vip {
            broker.accept(vip);
        }
        broker.register().await;
        Ok(broker)
    }

    fn serve(state: Arc<State>, server: Server, local: SocketAddr) -> Self {
        let (health, failed) = watch::channel(None);
        let stop = watch::Sender::new(false);
        let mut broker = Self { state, local, stop, failed, tasks: JoinSet::new() };
        broker.accept(server);
        let state = Arc::clone(&broker.state);
        let stopped = broker.stopped();
        broker.tasks.spawn(async move {
            tokio::select! {
                () = stopped => {}
                () = keep_house(&state, &health) => {}
            }
        });
        broker
    }

    fn accept(&mut self, server: Server) {
        let service = Arc::new(Requests(Arc::clone(&self.state)));
        let stopped = self.stopped();
        self.tasks.spawn(server.run(service, stopped));
    }

    /// Registers for the first time, and then whenever something changes.
    async fn register(&mut self) {
        self.state.registrar.register_all(&self.state).await;
        let state = Arc::clone(&self.state);
        let stopped = self.stopped();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped => {}
                () = state.registrar.run(&state) => {}
            }
        });
    }

    /// Resolves when the broker ends; its handle being dropped counts.
    fn stopped(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            let _ = stop.wait_for(|stop| *stop).await;
        }
    }

    /// The address that is listened on, with the port that was chosen if it was 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The host and port that clients are told.
    pub fn advertised(&self) -> &str {
        &self.state.address
    }

    /// For tests that serve the broker's requests in another way.
    #[cfg(test)]
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }

    /// Resolves with the reason when the store has failed for good. The process should then end
    /// with an error, so that somebody looks and clients go elsewhere.
    pub async fn failed(&self) -> Poison {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await.map(|poison| poison.clone()) {
            Ok(Some(poison)) => poison,
            // The watcher ends with the broker only, and then nobody waits here any more.
            _ => std::future::pending().await,
        }
    }

    /// Leaves the name servers, answers what is being handled, and closes the store.
    pub async fn shutdown(mut self) {
        self.state.registrar.unregister().await;
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        let store = Arc::clone(&self.state.store);
        blocking(move || store.close()).await;
    }
}

fn server_config(config: &Config) -> ServeOptions {
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
async fn bind_vip(config: &Config, local: SocketAddr) -> Option<Server> {
    if !config.vip_listen || config.listen.port() == 0 {
        return None;
    }
    let address =
        SocketAddr::new(local.ip(), local.port().checked_sub(2).filter(|port| *port > 0)?);
    match Server::bind(&address.to_string(), server_config(config)).await {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%error, "clients older than 4.5.1 cannot send to this broker");
            None
        }
    }
}

/// What surrounds a body in its record: hosts, topic, properties.
const AROUND_BODY_BYTES: usize = 64 * 1024;

fn body_max_bytes(config: &Config) -> usize {
    let segment = usize::try_from(config.segment_size_bytes).unwrap_or(usize::MAX);
    config.message_max_bytes.min(segment.saturating_sub(AROUND_BODY_BYTES))
}

fn store_config(config: &Config) -> storage::Config {
    let mut store = storage::Config::new(&config.store);
    store.segment_size_bytes = config.segment_size_bytes;
    store.flush = match config.flush.as_str() {
        "sync" => FlushMode::Sync,
        _ => FlushMode::Async { interval_ms: config.flush_interval_ms },
    };
    store.checkpoint_interval_ms = config.checkpoint_interval_ms;
    store.checkpoint_log_bytes = config.checkpoint_log_bytes;
    store.block_cache_bytes = config.block_cache_bytes;
    store.max_message_bytes = config.message_max_bytes + AROUND_BODY_BYTES;
    store
}

async fn state(
    config: Config,
    clock: Clock,
    store: Arc<Store>,
    port: u16,
) -> Result<Arc<State>, StartError> {
    let host = config.advertised_host();
    let store_host = SocketAddr::new(resolve(&host).await?, port);
    let address = match host.parse() {
        Ok(IpAddr::V6(host)) => format!("[{host}]:{port}"),
        _ => format!("{host}:{port}"),
    };
    let lease = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    let identity = Identity {
        name: config.name.clone(),
        cluster: config.cluster.clone(),
        address: address.clone(),
        ha_address: format!("{host}:{}", port.saturating_add(1)),
    };
    let state = Arc::new(State {
        clients: Clients::new(lease(config.client_expiry_ms), lease(config.subscription_expiry_ms)),
        locks: Locks::new(lease(config.lock_lease_ms)),
        places: Places::new(config.held_pulls_max),
        progress: Progress::default(),
        stats: Stats::default(),
        registrar: Registrar::new(identity, &config),
        creating: tokio::sync::Mutex::default(),
        body_max_bytes: body_max_bytes(&config),
        stamps: stamp::stamps(&config.region, config.trace_on, &config.cluster),
        started_ms: clock.now_ms(),
        picks: AtomicU32::new(0),
        told_about_pauses: Mutex::default(),
        unique_ids: UniqueIds::new(store_host.ip(), clock.clone()),
        address,
        store_host,
        config,
        clock,
        store,
    });
    tell_about_recovery(state.store.recovery());
    topics::create_system_topics(&state).await?;
    Ok(state)
}

fn tell_about_recovery(recovery: &Recovery) {
    tracing::info!(
        end = recovery.end.0,
        replayed_records = recovery.replayed_records,
        removed_entries = recovery.removed_entries,
        "store opened"
    );
    if let Some(cut) = &recovery.cut {
        tracing::warn!(at = cut.at.0, reason = cut.reason, "the log's torn end was cut off");
    }
    for damage in &recovery.damaged {
        tracing::error!(
            from = damage.from.0,
            to = damage.to.0,
            "the messages in this range of the log are damaged and cannot be read"
        );
    }
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

/// What is due every second and every ten: rates, expiry, and a look at the store's health.
async fn keep_house(state: &Arc<State>, health: &watch::Sender<Option<Poison>>) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ticks = 0_u64;
    loop {
        second.tick().await;
        ticks += 1;
        let now_ms = state.clock.now_ms();
        state.stats.tick(now_ms);
        if let Err(poison) = state.store.health() {
            tracing::error!(%poison, "the store has failed");
            health.send_replace(Some(poison));
            return;
        }
        if ticks.is_multiple_of(10) {
            state.progress.sample(now_ms);
            state.locks.expire(now_ms);
            let (notices, silent) = state.clients.expire(now_ms);
            state.notify(notices);
            for connection in silent {
                connection.close("no heartbeat for too long");
            }
        }
    }
}
