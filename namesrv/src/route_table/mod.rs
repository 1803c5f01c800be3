//! Which broker serves which queues of which topic: the registry behind every answer. Pure: no
//! socket, no clock, no file; times and connections come in as numbers.
//!
//! [`RouteTable`] holds the [`state::State`] under one lock, because the rules of a registration
//! must see and change all of it at once, and beside it the routes that are ready to be sent.
//! A route is serialised when it is first asked for after a change, and never again until the next.
//! Changes drop exactly the routes that they touch.

mod ready;
mod state;
mod topics;
mod view;

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use protocol::{body::DataVersion, json};

use ready::Ready;
use state::State;
pub(crate) use topics::Kind;
pub(crate) use view::RouteOptions;

/// The id of a group's master.
pub(crate) const MASTER_ID: i64 = 0;
/// Permission bit: messages may be written.
const PERM_WRITE: i32 = 2;
/// Permission bits: messages may be read and written.
const PERM_READ_WRITE: i32 = 6;

/// A broker is taken for dead after this silence, unless it announced its own limit.
///
/// # Source: `DEFAULT_BROKER_CHANNEL_EXPIRED_TIME` = 120000
const SILENCE_MAX_MS: i64 = 120_000;

/// Bytes of the name of a broker, cluster or zone, and of an address.
const NAME_MAX_BYTES: usize = 255;
/// Processes that can be registered at once.
const BROKERS_MAX: usize = 10_000;
/// Pairs of a topic and a broker group: 100,000 topics on 40 groups each. About 150 bytes each.
const ENTRIES_MAX: usize = 4_000_000;

/// How a topic is laid out on one broker group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Queues {
    pub(crate) read: i32,
    pub(crate) write: i32,
    pub(crate) perm: i32,
    pub(crate) sys_flag: i32,
}

/// Who a broker process says it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity<'a> {
    pub(crate) cluster: &'a str,
    /// The group: the same for a master and its slaves.
    pub(crate) broker: &'a str,
    pub(crate) address: &'a str,
}

/// What a broker process registers.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    pub(crate) identity: Identity<'a>,
    /// [`MASTER_ID`] or the number of the slave.
    pub(crate) id: i64,
    pub(crate) ha_address: &'a str,
    pub(crate) zone: Option<&'a str>,
    /// Absent from brokers that know nothing of acting masters.
    pub(crate) enable_acting_master: Option<bool>,
    /// Longest silence in milliseconds; absent or not positive is [`SILENCE_MAX_MS`].
    pub(crate) silence_max_ms: Option<i64>,
    /// A hash of the whole body, compared with that of the process's last registration.
    pub(crate) fingerprint: u64,
    /// `None` claims that the body is the same as last time, so that nobody has to read it:
    /// brokers repeat themselves every 30 s.
    pub(crate) topics: Option<Topics<'a>>,
    /// Remove topics that this registration does not hold.
    pub(crate) complete: bool,
    /// The connection it came over: when that closes, the broker is gone.
    pub(crate) connection: u64,
    pub(crate) now_ms: i64,
}

/// The topics of a registration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topics<'a> {
    pub(crate) version: DataVersion,
    pub(crate) layout: &'a [(String, Queues)],
}

/// What a registration is answered with, and what else it caused.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Registered {
    /// For a slave: its master's address and replication address.
    pub(crate) master: Option<(String, String)>,
    pub(crate) lowest: Option<LowestChanged>,
    /// This process was not registered before.
    pub(crate) first: bool,
}

/// Another member of a broker group has the lowest id now.
#[derive(Debug, PartialEq)]
pub(crate) struct LowestChanged {
    pub(crate) broker: String,
    pub(crate) id: i64,
    pub(crate) address: String,
    pub(crate) ha_address: String,
    /// Who had it before, if that process is gone.
    pub(crate) gone: Option<String>,
    /// The addresses of all members to be told.
    pub(crate) tell: Vec<String>,
}

/// A process that is no longer registered.
#[derive(Debug, PartialEq)]
pub(crate) struct Removed {
    pub(crate) broker: String,
    pub(crate) id: i64,
    pub(crate) address: String,
    pub(crate) connection: u64,
    pub(crate) lowest: Option<LowestChanged>,
}

/// Why a registration or a topic was refused; nothing was changed.
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum Refused {
    /// The remark of RocketMQ; its brokers register completely at the next attempt.
    #[error("register broker failed")]
    Incomplete,
    /// It is not the same as last time: register again with the topics.
    #[error("the registration is not the one that is known")]
    NotTheSame,
    #[error("the {what} has {bytes} bytes, 1 to {NAME_MAX_BYTES} are possible")]
    Name { what: &'static str, bytes: usize },
    #[error("{BROKERS_MAX} brokers are registered, no more are accepted")]
    TooManyBrokers,
    #[error(
        "with these {added} topics more than {ENTRIES_MAX} pairs of topic and broker would be \
         registered; delete topics"
    )]
    TooManyTopics { added: usize },
}

/// See the module.
#[derive(Default)]
pub(crate) struct RouteTable {
    state: RwLock<State>,
    ready: Ready,
}

impl RouteTable {
    /// Registers a broker process or renews its registration.
    ///
    /// # Source: `RouteInfoManager.registerBroker`
    pub(crate) fn register(&self, new: &Registration<'_>) -> Result<Registered, Refused> {
        self.change(|state| state.register(new))
    }

    /// Removes one broker process at its own request.
    pub(crate) fn unregister(&self, who: Identity<'_>) -> Option<Removed> {
        self.change(|state| state.unregister(who))
    }

    /// Removes every process that had registered over a connection that is closed now.
    pub(crate) fn disconnected(&self, connection: u64) -> Vec<Removed> {
        // Most connections that close are clients': they must not wait for a registration.
        if !self.read().has_connection(connection) {
            return Vec::new();
        }
        self.change(|state| state.disconnected(connection))
    }

    /// Removes every process that has been silent for longer than its limit.
    pub(crate) fn expire(&self, now_ms: i64) -> Vec<Removed> {
        let silent = self.read().silent(now_ms);
        if silent.is_empty() {
            return Vec::new();
        }
        // One that spoke in between is left alone: the decision is made again under the lock.
        self.change(|state| state.expire(now_ms))
    }

    /// Notes that a registered process is alive. Returns whether it is known.
    pub(crate) fn heartbeat(&self, who: Identity<'_>, now_ms: i64) -> bool {
        self.change(|state| state.heartbeat(who, now_ms))
    }

    /// The version of the topics that a process registered last.
    pub(crate) fn version(&self, who: Identity<'_>) -> Option<DataVersion> {
        self.read().version(who)
    }

    /// The route of `topic` as strict JSON; `None` if no broker has it. `options` is called with
    /// the state locked and only if the route is not ready.
    pub(crate) fn route(
        &self,
        topic: &str,
        options: impl FnOnce() -> RouteOptions,
    ) -> Option<Bytes> {
        if let Some(route) = self.ready.get(topic) {
            return Some(route);
        }
        let state = self.read();
        let (name, route) = state.route(topic, &options())?;
        let route = json::encode(&route);
        self.ready.keep(name, route.clone());
        Some(route)
    }

    /// The route of `topic` without the brokers of other zones. Rare, so never kept ready.
    pub(crate) fn route_in_zone(
        &self,
        topic: &str,
        zone: &str,
        options: &RouteOptions,
    ) -> Option<Bytes> {
        let (_, mut route) = self.read().route(topic, options)?;
        view::keep_zone(&mut route, zone);
        Some(json::encode(&route))
    }

    /// Drops the ready route of one topic, because its order configuration changed.
    pub(crate) fn forget(&self, topic: &str) {
        self.change(|state| state.touch(topic));
    }

    /// Drops all ready routes, because the options they were made with changed.
    pub(crate) fn forget_all(&self) {
        let state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        self.ready.forget_all();
        drop(state);
    }

    /// Runs a change and then, before anyone else sees the new state, drops the routes it touched.
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut state);
        for topic in state.take_touched() {
            self.ready.forget(&topic);
        }
        outcome
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // A panic while the lock was held fails that request only; no rule leaves a dangling name.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A shared name: each topic and broker name is stored once.
type Name = Arc<str>;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod tests;
