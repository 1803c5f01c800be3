//! Registration with the name servers: all of them, at the same time, at the start, when a topic
//! changes, and regularly.
//!
//! Topics that are created at the same time share one registration: who creates a topic adds it to
//! the next round and waits for that round's end. Name servers that know the current version of
//! the topics are only asked whether they still do, and a registration of very many topics goes in
//! pieces: 100,000 of them would not fit into a frame.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    body::DataVersion,
    channel::{Channels, DialOptions},
    code::{RequestCode, ResponseCode},
    connection::{CallError, Connection},
    json,
    request::register::{Broker as BrokerHeader, Registered},
};
use storage::{Topic, TopicConfig};
use tokio::{
    sync::{Notify, OnceCell, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep, timeout},
};

use crate::{
    config::Config,
    master::{Master, MasterPlace},
    request::topic,
    rivals,
    state::{State, blocking},
    topics,
};

/// How long the creation of a topic waits for name servers before it is answered: sends, which
/// create topics too, have three seconds in all.
const PUBLISH_WAIT: Duration = Duration::from_millis(1_500);

/// How often a slave that cannot reach its master asks for it at most.
const MASTER_PAUSE: Duration = Duration::from_millis(500);

/// Most topics in one registration, about 400 KiB of it.
const PIECE_TOPICS: usize = 2_000;

/// Who registers.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// Broker name.
    pub(crate) name: String,
    /// Cluster.
    pub(crate) cluster: String,
    /// Host and port for clients.
    pub(crate) address: String,
    /// Host and port for slaves.
    pub(crate) ha_address: String,
    /// 0 for a master.
    pub(crate) broker_id: u64,
}

/// The registration of one broker.
pub(crate) struct Registrar {
    identity: Arc<Identity>,
    servers: Vec<String>,
    channels: Arc<Channels<()>>,
    request_timeout: Duration,
    every: Duration,
    next: Mutex<Round>,
    wake: Notify,
    ended: watch::Sender<u64>,
    /// What each name server was told.
    told: Mutex<HashMap<String, Told>>,
    /// Of a slave.
    master: Arc<MasterPlace>,
}

/// What a name server knows, as far as we do.
#[derive(Clone, Copy, Debug)]
struct Told {
    /// The connection over which it got everything. On another one, it may have been restarted
    /// and know nothing.
    connection: u64,
    /// The version it was told last.
    version: DataVersion,
}

/// Topics on their way to name servers.
#[derive(Clone, Debug)]
struct Pieces {
    version: DataVersion,
    bodies: Arc<[Bytes]>,
}

/// The round that is yet to start.
#[derive(Debug, Default)]
struct Round {
    number: u64,
    topics: Vec<TopicConfig>,
}

impl Registrar {
    /// Nothing registered yet.
    pub(crate) fn new(identity: Identity, config: &Config, master: Arc<MasterPlace>) -> Self {
        let request_timeout = Duration::from_millis(config.register_timeout_ms);
        let channel = DialOptions { connect_timeout: request_timeout, ..DialOptions::default() };
        Self {
            identity: Arc::new(identity),
            servers: config.namesrv.clone(),
            channels: Arc::new(Channels::new(Arc::new(()), channel)),
            request_timeout,
            every: Duration::from_millis(config.register_interval_ms),
            next: Mutex::new(Round { number: 1, topics: Vec::new() }),
            wake: Notify::new(),
            ended: watch::Sender::new(0),
            told: Mutex::default(),
            master,
        }
    }

    /// Host and port that slaves are told.
    pub(crate) fn ha_address(&self) -> &str {
        &self.identity.ha_address
    }

    /// Registers every topic with every name server; returns when all have answered or timed out.
    pub(crate) async fn register_all(&self, state: &Arc<State>) {
        self.round(state, Vec::new()).await;
    }

    /// Registers regularly, and at once when topics were published. Never returns.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn run(&self, state: &Arc<State>) {
        let mut regular = interval(self.every);
        regular.set_missed_tick_behavior(MissedTickBehavior::Delay);
        regular.tick().await;
        loop {
            tokio::select! {
                _ = regular.tick() => {
                    rivals::look(state).await;
                    self.round(state, Vec::new()).await;
                }
                () = self.master.is_wanted() => {
                    // Only a whole registration is answered with the master.
                    self.told().clear();
                    self.round(state, Vec::new()).await;
                    sleep(MASTER_PAUSE).await;
                }
                () = self.wake.notified() => {
                    let round = {
                        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
                        let number = next.number;
                        std::mem::replace(&mut *next, Round { number: number + 1, topics: Vec::new() })
                    };
                    self.round(state, round.topics).await;
                    self.ended.send_replace(round.number);
                }
            }
        }
    }

    /// Makes a topic that was created or changed known, and waits for the name servers a moment.
    pub(crate) async fn publish(&self, topic: &Topic) {
        if self.servers.is_empty() {
            return;
        }
        let number = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            next.topics.push(topic.config.clone());
            next.number
        };
        self.wake.notify_one();
        let mut ended = self.ended.subscribe();
        if timeout(PUBLISH_WAIT, ended.wait_for(|ended| *ended >= number)).await.is_err() {
            tracing::warn!(
                topic = topic.config.name,
                waited_ms = PUBLISH_WAIT.as_millis(),
                "a name server has not answered yet; clients may not find the topic there"
            );
        }
    }

    /// Leaves every name server.
    pub(crate) async fn unregister(&self) {
        let mut leaving = JoinSet::new();
        for server in self.servers.clone() {
            let (channels, identity) = (Arc::clone(&self.channels), Arc::clone(&self.identity));
            let patience = self.request_timeout;
            leaving.spawn(async move {
                let left = channels
                    .request(&server, RequestCode::UnregisterBroker, &identity.header(), Bytes::new(), patience)
                    .await;
                if let Err(error) = left {
                    tracing::warn!(%server, %error, "cannot unregister; the name server will notice");
                }
            });
        }
        while leaving.join_next().await.is_some() {}
        self.channels.close_all().await;
    }

    /// Tells every name server these topics, or all of them if it may not know the others.
    async fn round(&self, state: &Arc<State>, changed: Vec<TopicConfig>) {
        let all = Arc::new(OnceCell::new());
        let changed: Arc<[TopicConfig]> = changed.into();
        let mut answers = JoinSet::new();
        for server in self.servers.clone() {
            let (state, all, changed) = (Arc::clone(state), Arc::clone(&all), Arc::clone(&changed));
            answers.spawn(async move {
                let outcome = state.registrar.tell(&state, &server, &changed, &all).await;
                if let Err(reason) = outcome {
                    state.registrar.told().remove(&server);
                    tracing::warn!(%server, %reason, "cannot register with this name server; trying again");
                }
            });
        }
        while answers.join_next().await.is_some() {}
    }

    async fn tell(
        &self,
        state: &Arc<State>,
        server: &str,
        changed: &[TopicConfig],
        all: &OnceCell<Pieces>,
    ) -> Result<(), String> {
        let connection = self.channels.get(server).await.map_err(|error| error.to_string())?;
        let told = self.told().get(server).copied();
        let told = told.filter(|told| told.connection == connection.id());
        if let Some(told) = told {
            let known = if changed.is_empty() {
                self.is_up_to_date(&connection, version(state)).await
            } else {
                // A name server that lost its table may refuse a part of it; then everything follows.
                let some = some(state, changed, told.version);
                let sent = self.send(&connection, &some).await.is_ok();
                if sent {
                    self.note(server, connection.id(), some.version);
                }
                sent
            };
            if known {
                return Ok(());
            }
        }
        let everything = all.get_or_init(|| everything(Arc::clone(state))).await;
        if let Some(master) = self.send(&connection, everything).await? {
            self.master.learn(master);
        }
        if told.is_none() {
            tracing::info!(%server, "registered");
        }
        self.note(server, connection.id(), everything.version);
        Ok(())
    }

    /// Whether a name server still knows this version; asking counts as a sign of life there.
    async fn is_up_to_date(&self, connection: &Connection, version: DataVersion) -> bool {
        let (header, body) = (self.identity.header(), json::encode(&version));
        let code = RequestCode::QueryDataVersion;
        let answer = connection.request(code, &header, body, self.request_timeout).await;
        answer.is_ok_and(|reply| {
            reply.response_code() == ResponseCode::SUCCESS
                && reply.fields.get("changed") == Some("false")
        })
    }

    /// Sends a registration; the answer names the master of a slave.
    async fn send(
        &self,
        connection: &Connection,
        pieces: &Pieces,
    ) -> Result<Option<Master>, String> {
        let mut master = None;
        for body in pieces.bodies.iter() {
            let (header, code) = (self.identity.header(), RequestCode::RegisterBroker);
            let reply = connection
                .request(code, &header, body.clone(), self.request_timeout)
                .await
                .map_err(|error: CallError| error.to_string())?;
            let code = reply.response_code();
            if code != ResponseCode::SUCCESS {
                return Err(format!("{code}: {}", reply.remark.unwrap_or_default()));
            }
            let Registered { ha_server_addr, master_addr } =
                Registered::decode(&reply.fields).map_err(|error| error.to_string())?;
            master = master_addr.zip(ha_server_addr);
        }
        Ok(master.map(|(address, ha_address)| Master { address, ha_address }))
    }

    fn note(&self, server: &str, connection: u64, version: DataVersion) {
        self.told().insert(server.to_owned(), Told { connection, version });
    }

    fn told(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Identity {
    fn header(&self) -> BrokerHeader<'_> {
        BrokerHeader {
            broker_name: &self.name,
            broker_addr: &self.address,
            cluster_name: &self.cluster,
            broker_id: self.broker_id.cast_signed(),
            ha_server_addr: Some(&self.ha_address),
            heartbeat_timeout_ms: None,
            enable_acting_master: Some(false),
            compressed: false,
            body_crc32: 0,
            zone: None,
        }
    }
}

/// The version of the topics. The epoch is part of it: name servers, RocketMQ's too, pass over a
/// master that comes back after another one has taken its place.
fn version(state: &State) -> DataVersion {
    let version = topic::version(state.store.topic_version());
    let epoch = state.part.claim.epoch.cast_signed();
    DataVersion { state_version: version.state_version.saturating_add(epoch), ..version }
}

/// A registration of these topics for a name server that was told `known` last. Name servers of
/// version 4 pass over one with the version that they know, and topics that are created together
/// share a version: such a one gets a version of its own, and with the next regular round, when it
/// is found to be none of ours, everything is registered once.
fn some(state: &State, topics: &[TopicConfig], known: DataVersion) -> Pieces {
    let mut version = version(state);
    if (known.counter, known.state_version) == (version.counter, version.state_version) {
        version.timestamp = known.timestamp.saturating_sub(1);
    }
    Pieces {
        version,
        bodies: topics.chunks(PIECE_TOPICS).map(|topics| body(state, topics, version)).collect(),
    }
}

/// A registration of all topics: takes a while if they are many.
async fn everything(state: Arc<State>) -> Pieces {
    blocking(move || {
        let version = version(&state);
        let topics = state.store.topics();
        if topics.is_empty() {
            // A new slave has none until its master has told it, which it finds by registering.
            return Pieces { version, bodies: Arc::new([body(&state, &[], version)]) };
        }
        let pieces = topics.chunks(PIECE_TOPICS);
        let count = pieces.len();
        let piece = |(at, topics): (usize, &[Arc<Topic>])| {
            let configs: Vec<_> = topics.iter().map(|topic| topic.config.clone()).collect();
            // Only the last one says that the name server knows this version.
            let left = i64::try_from(count - 1 - at).unwrap_or(i64::MAX);
            let timestamp = version.timestamp.saturating_sub(left);
            body(&state, &configs, DataVersion { timestamp, ..version })
        };
        Pieces { version, bodies: pieces.enumerate().map(piece).collect() }
    })
    .await
}

/// The body of a registration with these topics, as far as the broker's own permission lets them.
fn body(state: &State, topics: &[TopicConfig], version: DataVersion) -> Bytes {
    let allowed = state.config.permission;
    let masked = topics.iter().map(|config| {
        let mut config = config.clone();
        if allowed != topics::PERM_BOTH {
            config.perm &= allowed;
        }
        config
    });
    json::encode(&topic::registration(version, masked))
}
