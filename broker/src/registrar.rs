//! Registration with the name servers: all of them, at the same time, at the start, when a topic
//! changes, and regularly.
//!
//! Topics that are created at the same time share one registration: who creates a topic adds it to
//! the next round and waits for that round's end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    channel::{Channels, DialOptions},
    code::{RequestCode, ResponseCode},
    connection::CallError,
    json,
    request::register::Broker as BrokerHeader,
};
use storage::{Topic, TopicConfig};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{config::Config, request::topic, state::State, topics};

/// How long the creation of a topic waits for name servers before it is answered: sends, which
/// create topics too, have three seconds in all.
const PUBLISH_WAIT: Duration = Duration::from_millis(1_500);

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
    /// The connection over which each name server got everything last. On another one, the name
    /// server may have been restarted and know nothing.
    complete_on: Mutex<HashMap<String, u64>>,
}

/// The round that is yet to start.
#[derive(Debug, Default)]
struct Round {
    number: u64,
    topics: Vec<TopicConfig>,
}

impl Registrar {
    /// Nothing registered yet.
    pub(crate) fn new(identity: Identity, config: &Config) -> Self {
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
            complete_on: Mutex::default(),
        }
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
                _ = regular.tick() => self.round(state, Vec::new()).await,
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
        let all = Arc::new(std::sync::OnceLock::new());
        let some = (!changed.is_empty()).then(|| body(state, &changed));
        let mut answers = JoinSet::new();
        for server in self.servers.clone() {
            let (state, all, some) = (Arc::clone(state), Arc::clone(&all), some.clone());
            answers.spawn(async move {
                let everything = || all.get_or_init(|| everything(&state)).clone();
                let outcome = state.registrar.tell(&server, some, everything).await;
                if let Err(reason) = outcome {
                    state.registrar.forget(&server);
                    tracing::warn!(%server, %reason, "cannot register with this name server; trying again");
                }
            });
        }
        while answers.join_next().await.is_some() {}
    }

    async fn tell(
        &self,
        server: &str,
        some: Option<Bytes>,
        everything: impl Fn() -> Bytes,
    ) -> Result<(), String> {
        let connection = self.channels.get(server).await.map_err(|error| error.to_string())?;
        let known = {
            let complete = self.complete_on.lock().unwrap_or_else(PoisonError::into_inner);
            complete.get(server) == Some(&connection.id())
        };
        let send = async |body: Bytes| -> Result<(), String> {
            let header = self.identity.header();
            let reply = connection
                .request(RequestCode::RegisterBroker, &header, body, self.request_timeout)
                .await
                .map_err(|error: CallError| error.to_string())?;
            match reply.response_code() {
                ResponseCode::SUCCESS => Ok(()),
                code => Err(format!("{code}: {}", reply.remark.unwrap_or_default())),
            }
        };
        // A name server that lost its table may refuse a part of it, so everything follows then.
        if let (Some(some), true) = (some, known)
            && send(some).await.is_ok()
        {
            return Ok(());
        }
        send(everything()).await?;
        if !known {
            tracing::info!(%server, "registered");
        }
        let mut complete = self.complete_on.lock().unwrap_or_else(PoisonError::into_inner);
        complete.insert(server.to_owned(), connection.id());
        Ok(())
    }

    fn forget(&self, server: &str) {
        self.complete_on.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}

impl Identity {
    fn header(&self) -> BrokerHeader<'_> {
        BrokerHeader {
            broker_name: &self.name,
            broker_addr: &self.address,
            cluster_name: &self.cluster,
            broker_id: 0,
            ha_server_addr: Some(&self.ha_address),
            heartbeat_timeout_ms: None,
            enable_acting_master: Some(false),
            compressed: false,
            body_crc32: 0,
            zone: None,
        }
    }
}

fn everything(state: &State) -> Bytes {
    let topics: Vec<TopicConfig> =
        state.store.topics().iter().map(|topic| topic.config.clone()).collect();
    body(state, &topics)
}

/// The body of a registration with these topics, as far as the broker's own permission lets them.
fn body(state: &State, topics: &[TopicConfig]) -> Bytes {
    let allowed = state.config.permission;
    let masked = topics.iter().map(|config| {
        let mut config = config.clone();
        if allowed != topics::PERM_BOTH {
            config.perm &= allowed;
        }
        config
    });
    json::encode(&topic::registration(state, masked))
}
