//! A running broker: how it starts, what it does besides serving, and how it ends.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use protocol::{
    clock::Clock,
    connection::Bounds,
    limits,
    server::{BindError, ServeOptions, Server},
};
use storage::{FlushMode, OpenError, Poison, Recovery, StateError, Store};
use thiserror::Error;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, MissedTickBehavior, interval},
};

use crate::{
    config::Config,
    request::Requests,
    state::{AROUND_BODY_BYTES, Host, State, blocking},
    topics,
};

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
    /// The name of the broker or the cluster cannot be part of routes.
    #[error("{key} = {value:?} must have 1 to 127 characters, no blanks among them")]
    Name {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
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
        check_names(&config)?;
        let server = Server::bind(&config.listen.to_string(), serve_options(&config)).await?;
        let local = server.local_addr();
        let vip = bind_vip(&config, local).await;
        let name = config.advertised_host();
        let address = SocketAddr::new(resolve(&name).await?, local.port());
        let (settings, store_clock) = (store_config(&config), clock.clone());
        let store = blocking(move || Store::open(settings, store_clock)).await?;
        tell_about_recovery(store.recovery());
        tell_about_promises(&config);
        let state = Arc::new(State::new(config, clock, store, Host { name, address }));
        if let Err(error) = topics::create_system_topics(&state).await {
            blocking(move || state.store.close()).await;
            return Err(error.into());
        }
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

fn serve_options(config: &Config) -> ServeOptions {
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
    match Server::bind(&address.to_string(), serve_options(config)).await {
        Ok(server) => Some(server),
        Err(error) => {
            tracing::warn!(%error, "clients older than 4.5.1 cannot send to this broker");
            None
        }
    }
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
    store.hot_log_bytes = config.hot_log_bytes;
    store.max_message_bytes = config.message_max_bytes + AROUND_BODY_BYTES;
    store.retention_hours = config.retention_hours;
    store.delete_hours.clone_from(&config.delete_hours.0);
    store.disk_clean_percent = config.disk_clean_percent;
    store.disk_force_clean_percent = config.disk_force_clean_percent;
    store.disk_refuse_percent = config.disk_refuse_percent;
    store.delete_unexpired = config.delete_unexpired;
    store
}

/// What an operator must know of the settings: what may be lost, and when messages are deleted.
fn tell_about_promises(config: &Config) {
    if config.flush == "sync" {
        tracing::info!("flush is sync: a message is on the disk before its send is answered");
    } else {
        let lost_ms = config.flush_interval_ms;
        tracing::info!(
            "flush is async: a power cut may lose the last {lost_ms} ms of messages; a crash of \
             this process loses none"
        );
    }
    tracing::info!(
        hours = config.retention_hours,
        at = %config.delete_hours,
        disk_clean_percent = config.disk_clean_percent,
        disk_force_clean_percent = config.disk_force_clean_percent,
        disk_refuse_percent = config.disk_refuse_percent,
        delete_unexpired = config.delete_unexpired,
        "messages are deleted after their hours, or sooner when the disk fills up"
    );
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

/// How often silent clients and expired locks are looked for, milliseconds.
const SWEEP_MS: i64 = 10_000;

/// What is due regularly: rates, expiry, and a look at the store's health.
async fn keep_house(state: &Arc<State>, health: &watch::Sender<Option<Poison>>) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut swept_ms = state.clock.now_ms();
    loop {
        second.tick().await;
        let now_ms = state.clock.now_ms();
        state.stats.tick(now_ms);
        if let Err(poison) = state.store.health() {
            tracing::error!(%poison, "the store has failed");
            health.send_replace(Some(poison));
            return;
        }
        if (now_ms - swept_ms).abs() >= SWEEP_MS {
            swept_ms = now_ms;
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
