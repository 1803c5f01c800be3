//! A running broker: how it starts, what it does besides serving, and how it ends.

use std::{net::SocketAddr, sync::Arc};

use protocol::{clock::Clock, server::Server};
use storage::Store;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Duration, Instant, MissedTickBehavior, interval, sleep},
};

use crate::{
    config::Config,
    ha,
    request::Requests,
    rivals::{self, Lookout},
    run::Ended,
    start::{self, Opened, StartError},
    state::{State, blocking},
    tell, topics,
};

/// A broker that serves. Dropping it ends it without ceremony; [`Broker::shutdown`] is the proper
/// way.
pub struct Broker {
    state: Arc<State>,
    local: SocketAddr,
    stop: watch::Sender<bool>,
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
        // On the heap: it holds all that a broker is made of.
        Box::pin(Self::begin(config, clock)).await
    }

    async fn begin(config: Config, clock: Clock) -> Result<Self, StartError> {
        start::check(&config)?;
        let server =
            Server::bind(&config.listen.to_string(), start::serve_options(&config)).await?;
        let local = server.local_addr();
        let vip = start::bind_vip(&config, local).await;
        let host = start::host(&config, local.port()).await?;
        let lookout = Lookout::new(&config);
        let standing = start::standing(&config, &host, &lookout).await?;
        let settings = start::store_config(&config, standing);
        let store_clock = clock.clone();
        let store = blocking(move || Store::open(settings, store_clock)).await?;
        tell::about_recovery(store.recovery());
        tell::about_promises(&config, standing);
        let opened = Opened { config, clock, store, host, standing, lookout };
        let state = opened.replicating(local).await?;
        if state.is_master()
            && let Err(error) = topics::create_system_topics(&state).await
        {
            close(&state).await;
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
        let mut broker =
            Self { state, local, stop: watch::Sender::new(false), tasks: JoinSet::new() };
        broker.accept(server);
        let state = Arc::clone(&broker.state);
        broker.until_stopped(async move { keep_house(&state).await });
        let state = Arc::clone(&broker.state);
        broker.until_stopped(async move { heed_replication(&state).await });
        broker
    }

    fn until_stopped(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let stopped = self.stopped();
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped => {}
                () = task => {}
            }
        });
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
        self.until_stopped(async move { state.registrar.run(&state).await });
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

    /// Where slaves connect, if this broker is a master.
    pub fn ha_addr(&self) -> Option<SocketAddr> {
        self.state.part.ha.local_addr()
    }

    /// Whether this broker is the master of its name.
    pub fn is_master(&self) -> bool {
        self.state.is_master()
    }

    /// Resolves when the broker cannot go on as it is, with the reason. [`crate::run`] does what
    /// follows from it.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.state.ended();
        match ended.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(Some(why)) => why,
            // It ends with the broker only, and then nobody waits here any more.
            _ => std::future::pending().await,
        }
    }

    /// Leaves the name servers, answers what is being handled, and closes the store.
    pub async fn shutdown(mut self) {
        self.state.registrar.unregister().await;
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        hand_over(&self.state).await;
        close(&self.state).await;
    }
}

/// Lets slaves have everything before their master goes: then they hold the same.
async fn hand_over(state: &State) {
    if state.part.ha.connected_in_sync() == 0 {
        return;
    }
    if let Err(error) = state.store.settle().await {
        tracing::warn!(%error, "the slaves may lack the last changes of the index");
        return;
    }
    let deadline = Instant::now() + HAND_OVER;
    while !state.part.ha.slaves_have_all() {
        if Instant::now() >= deadline {
            tracing::warn!(
                waited_ms = HAND_OVER.as_millis(),
                "a slave does not have everything yet"
            );
            return;
        }
        sleep(HAND_OVER_LOOK).await;
    }
}

/// Ends replication, then closes the store.
async fn close(state: &Arc<State>) {
    let state = Arc::clone(state);
    blocking(move || {
        state.part.ha.stop();
        state.store.close();
    })
    .await;
}

/// How long a broker that stops waits for its slaves, and how often it looks.
const HAND_OVER: Duration = Duration::from_secs(2);
const HAND_OVER_LOOK: Duration = Duration::from_millis(5);

/// How often silent clients and expired locks are looked for, milliseconds.
const SWEEP_MS: i64 = 10_000;

/// What is due regularly: rates, expiry, and a look at the store's health.
async fn keep_house(state: &Arc<State>) {
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut swept_ms = state.clock.now_ms();
    loop {
        second.tick().await;
        let now_ms = state.clock.now_ms();
        state.stats.tick(now_ms);
        state.note_reach();
        if let Err(poison) = state.store.health() {
            tracing::error!(%poison, "the store has failed");
            return state.end(Ended::Failed(poison.to_string()));
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

/// Does what replication cannot do by itself: ends the broker so that it starts anew.
async fn heed_replication(state: &Arc<State>) {
    let mut ended = state.part.ha.ended();
    let why = match ended.wait_for(Option::is_some).await.map(|why| why.clone()) {
        Ok(Some(why)) => why,
        // Replication is being stopped.
        _ => return std::future::pending().await,
    };
    match why {
        ha::Ended::Reopen => state.end(Ended::Reopen),
        ha::Ended::Demoted { seen_epoch } => {
            tracing::warn!(
                seen_epoch,
                epoch = state.part.claim.epoch,
                "a slave follows a newer master; this one becomes a slave"
            );
            rivals::give_up(state, seen_epoch, 0).await;
        }
    }
}
