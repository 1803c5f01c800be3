//! Who is connected: producers and consumers by group, as their heartbeats say.
//!
//! Everything is keyed by connection, as in RocketMQ: a client that reconnects is briefly there
//! twice. Logic only; the connection is a type parameter, so that tests need no sockets.

mod members;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use members::{ConsumerGroup, Registry};
use protocol::frame::Language;

use crate::filter::Filter;

/// One member of a group.
#[derive(Clone, Debug)]
pub(crate) struct Member<C> {
    /// How to reach it.
    pub(crate) connection: C,
    /// Identifies the connection in this process.
    pub(crate) connection_id: u64,
    /// What the client calls itself.
    pub(crate) client_id: Box<str>,
    /// Where it connects from.
    pub(crate) address: SocketAddr,
    /// What it says it is written in.
    pub(crate) language: Language,
    /// Its protocol version.
    pub(crate) version: i32,
    /// Its last heartbeat, Unix milliseconds.
    pub(crate) seen_ms: i64,
}

/// How a consumer group reads. Texts are RocketMQ's enum names, shown to operators.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Manner {
    /// `CONSUME_ACTIVELY` or `CONSUME_PASSIVELY`.
    pub(crate) consume_type: String,
    /// Whether every member gets every message.
    pub(crate) broadcast: bool,
    /// Where a new member starts.
    pub(crate) from: String,
}

/// One topic that a group reads.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    /// Topic.
    pub(crate) topic: String,
    /// The expression as the client wrote it.
    pub(crate) expression: String,
    /// `TAG` or `SQL92`.
    pub(crate) expression_type: String,
    /// The client's version of the subscription; larger is newer.
    pub(crate) version: i64,
    /// The client filters by class: the broker does not filter.
    pub(crate) class_filter: bool,
    /// Tags of the expression.
    pub(crate) tags: Vec<String>,
    /// Hashes of the tags.
    pub(crate) codes: Vec<i32>,
    /// The compiled expression; `None` for a type that is not served.
    pub(crate) filter: Option<Filter>,
}

/// What a heartbeat changed about one consumer group.
#[derive(Debug)]
pub(crate) struct Registered<C> {
    /// Members to tell that the group changed, if it did and they want to know.
    pub(crate) notice: Option<Notice<C>>,
    /// The broker has no subscriptions of this group: the client should send them.
    pub(crate) wants_subscriptions: bool,
}

/// The members of a group that changed.
#[derive(Debug)]
pub(crate) struct Notice<C> {
    /// Consumer group.
    pub(crate) group: Box<str>,
    /// Every member's connection.
    pub(crate) connections: Vec<C>,
}

/// What a pull needs to know of its group.
#[derive(Debug)]
pub(crate) enum Lookup {
    /// The group has no members and has had none for long.
    NoGroup,
    /// The group does not read this topic.
    NoSubscription,
    /// It does.
    Subscribed {
        /// How the group reads.
        broadcast: bool,
        /// What of the topic it wants.
        subscription: Arc<Subscription>,
    },
}

/// What operators see of a consumer group.
#[derive(Debug)]
pub(crate) struct GroupView<C> {
    /// How it reads.
    pub(crate) manner: Manner,
    /// Its members.
    pub(crate) members: Vec<Member<C>>,
    /// What it reads.
    pub(crate) subscriptions: Vec<Arc<Subscription>>,
}

/// The registry.
#[derive(Debug)]
pub(crate) struct Clients<C> {
    expiry_ms: i64,
    subscription_expiry_ms: i64,
    registry: RwLock<Registry<C>>,
}

impl<C: Clone> Clients<C> {
    /// Nobody yet. Members expire after `expiry_ms` of silence, the subscriptions of a group
    /// without members after `subscription_expiry_ms`.
    pub(crate) fn new(expiry_ms: i64, subscription_expiry_ms: i64) -> Self {
        Self { expiry_ms, subscription_expiry_ms, registry: RwLock::default() }
    }

    /// A producer is alive.
    pub(crate) fn produces(&self, group: &str, member: Member<C>) {
        let mut registry = self.write();
        registry.index(member.connection_id).producers.insert(group.into());
        registry.producers.entry(group.into()).or_default().insert(member.connection_id, member);
    }

    /// A consumer is alive. Without `subscriptions` those known stay as they are.
    pub(crate) fn consumes(
        &self,
        group: &str,
        member: Member<C>,
        manner: Manner,
        subscriptions: Option<Vec<Subscription>>,
    ) -> Registered<C> {
        let mut registry = self.write();
        registry.index(member.connection_id).consumers.insert(group.into());
        let state = registry
            .consumers
            .entry(group.into())
            .or_insert_with(|| ConsumerGroup::new(manner.clone()));
        state.manner = manner;
        let mut changed = state.join(member);
        if let Some(subscriptions) = subscriptions {
            changed |= state.subscribe(subscriptions);
        }
        Registered {
            notice: changed.then(|| state.notice(group)).flatten(),
            wants_subscriptions: state.subscriptions.is_empty(),
        }
    }

    /// Notes the fingerprint of a heartbeat; `true` if another one was known.
    pub(crate) fn fingerprint(&self, group: &str, fingerprint: i32) -> bool {
        let mut registry = self.write();
        let known = registry.fingerprints.insert(group.into(), fingerprint);
        known.is_some_and(|known| known != fingerprint)
    }

    /// A client leaves groups. Returns whom to tell.
    pub(crate) fn leave(
        &self,
        connection_id: u64,
        producer_group: Option<&str>,
        consumer_group: Option<&str>,
        now_ms: i64,
    ) -> Option<Notice<C>> {
        let mut registry = self.write();
        if let Some(group) = producer_group {
            registry.drop_producer(group, connection_id);
        }
        consumer_group.and_then(|group| registry.drop_consumer(group, connection_id, now_ms).1)
    }

    /// A connection ended. Returns whom to tell.
    pub(crate) fn gone(&self, connection_id: u64, now_ms: i64) -> Vec<Notice<C>> {
        let mut registry = self.write();
        let Some(index) = registry.connections.remove(&connection_id) else { return Vec::new() };
        for group in &index.producers {
            registry.drop_producer(group, connection_id);
        }
        let groups = index.consumers.iter();
        groups.filter_map(|group| registry.drop_consumer(group, connection_id, now_ms).1).collect()
    }

    /// Drops who was silent too long, group by group. Returns whom to tell, and the connections
    /// that are in no group any more.
    pub(crate) fn expire(&self, now_ms: i64) -> (Vec<Notice<C>>, Vec<C>) {
        let mut registry = self.write();
        let silent = registry.silent_since(now_ms - self.expiry_ms);
        let mut dropped = HashMap::new();
        for (group, id) in &silent.producers {
            dropped.extend(registry.drop_producer(group, *id).map(|connection| (*id, connection)));
        }
        let mut notices = Vec::new();
        for (group, id) in &silent.consumers {
            let (connection, notice) = registry.drop_consumer(group, *id, now_ms);
            dropped.extend(connection.map(|connection| (*id, connection)));
            notices.extend(notice);
        }
        registry.forget_empty_since(now_ms - self.subscription_expiry_ms);
        dropped.retain(|id, _| registry.forget_idle(*id));
        (notices, dropped.into_values().collect())
    }

    /// What a pull of `group` on `topic` needs to know.
    pub(crate) fn lookup(&self, group: &str, topic: &str) -> Lookup {
        let registry = self.read();
        let Some(state) = registry.consumers.get(group) else { return Lookup::NoGroup };
        match state.subscriptions.get(topic) {
            None => Lookup::NoSubscription,
            Some(subscription) => Lookup::Subscribed {
                broadcast: state.manner.broadcast,
                subscription: Arc::clone(subscription),
            },
        }
    }

    /// The client ids of a group's live members, sorted, each once.
    pub(crate) fn client_ids(&self, group: &str) -> Vec<String> {
        let registry = self.read();
        let Some(state) = registry.consumers.get(group) else { return Vec::new() };
        let mut ids: Vec<String> =
            state.members.values().map(|member| member.client_id.to_string()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A consumer group with at least one live member.
    pub(crate) fn consumer_group(&self, group: &str) -> Option<GroupView<C>> {
        let registry = self.read();
        let state = registry.consumers.get(group).filter(|state| !state.members.is_empty())?;
        Some(GroupView {
            manner: state.manner.clone(),
            members: state.members.values().cloned().collect(),
            subscriptions: state.subscriptions.values().cloned().collect(),
        })
    }

    /// The live members of a producer group.
    pub(crate) fn producers(&self, group: &str) -> Vec<Member<C>> {
        let registry = self.read();
        registry
            .producers
            .get(group)
            .into_iter()
            .flat_map(|members| members.values())
            .cloned()
            .collect()
    }

    /// The consumer groups with a live member that read `topic`.
    pub(crate) fn groups_reading(&self, topic: &str) -> Vec<String> {
        let registry = self.read();
        let reads = |state: &ConsumerGroup<C>| {
            !state.members.is_empty() && state.subscriptions.contains_key(topic)
        };
        let groups = registry.consumers.iter().filter(|(_, state)| reads(state));
        groups.map(|(group, _)| group.to_string()).collect()
    }

    /// The topics that a group is subscribed to.
    pub(crate) fn topics_of(&self, group: &str) -> Vec<String> {
        let registry = self.read();
        let state = registry.consumers.get(group);
        state.into_iter().flat_map(|state| state.subscriptions.keys()).cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Registry<C>> {
        self.registry.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Registry<C>> {
        self.registry.write().unwrap_or_else(PoisonError::into_inner)
    }
}
