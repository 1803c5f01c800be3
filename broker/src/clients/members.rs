//! The tables behind the registry, kept consistent with each other.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use super::{Manner, Member, Notice, Subscription};

/// The members of a group by connection.
type Members<C> = BTreeMap<u64, Member<C>>;

/// Everything by group, and the groups of each connection, so that a disconnect touches only them.
#[derive(Debug)]
pub(super) struct Registry<C> {
    pub(super) producers: HashMap<Box<str>, Members<C>>,
    pub(super) consumers: HashMap<Box<str>, ConsumerGroup<C>>,
    pub(super) connections: HashMap<u64, Index>,
    pub(super) fingerprints: HashMap<Box<str>, i32>,
}

/// The groups of one connection.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) producers: HashSet<Box<str>>,
    pub(super) consumers: HashSet<Box<str>>,
}

impl Index {
    fn is_empty(&self) -> bool {
        self.producers.is_empty() && self.consumers.is_empty()
    }
}

/// Memberships to end: group and connection.
#[derive(Debug)]
pub(super) struct Silent {
    pub(super) producers: Vec<(Box<str>, u64)>,
    pub(super) consumers: Vec<(Box<str>, u64)>,
}

fn silent<'a, C: 'a>(
    groups: impl Iterator<Item = (&'a Box<str>, &'a Members<C>)>,
    before_ms: i64,
) -> Vec<(Box<str>, u64)> {
    groups
        .flat_map(|(group, members)| members.values().map(move |member| (group, member)))
        .filter(|(_, member)| member.seen_ms <= before_ms)
        .map(|(group, member)| (group.clone(), member.connection_id))
        .collect()
}

/// One consumer group.
#[derive(Debug)]
pub(super) struct ConsumerGroup<C> {
    pub(super) manner: Manner,
    pub(super) members: Members<C>,
    pub(super) subscriptions: BTreeMap<String, Arc<Subscription>>,
    empty_since_ms: i64,
}

impl<C> Default for Registry<C> {
    fn default() -> Self {
        Self {
            producers: HashMap::new(),
            consumers: HashMap::new(),
            connections: HashMap::new(),
            fingerprints: HashMap::new(),
        }
    }
}

impl<C: Clone> Registry<C> {
    pub(super) fn index(&mut self, connection_id: u64) -> &mut Index {
        self.connections.entry(connection_id).or_default()
    }

    /// Ends a membership; returns the connection if there was one.
    pub(super) fn drop_producer(&mut self, group: &str, connection_id: u64) -> Option<C> {
        if let Some(index) = self.connections.get_mut(&connection_id) {
            index.producers.remove(group);
        }
        let members = self.producers.get_mut(group)?;
        let member = members.remove(&connection_id);
        if members.is_empty() {
            self.producers.remove(group);
        }
        member.map(|member| member.connection)
    }

    /// Ends a membership; returns the connection if there was one, and whom to tell.
    pub(super) fn drop_consumer(
        &mut self,
        group: &str,
        connection_id: u64,
        now_ms: i64,
    ) -> (Option<C>, Option<Notice<C>>) {
        if let Some(index) = self.connections.get_mut(&connection_id) {
            index.consumers.remove(group);
        }
        let Some(state) = self.consumers.get_mut(group) else { return (None, None) };
        let Some(member) = state.members.remove(&connection_id) else { return (None, None) };
        if state.members.is_empty() {
            state.empty_since_ms = now_ms;
        }
        (Some(member.connection), state.notice(group))
    }

    /// The memberships last renewed at or before `before_ms`.
    pub(super) fn silent_since(&self, before_ms: i64) -> Silent {
        Silent {
            producers: silent(self.producers.iter(), before_ms),
            consumers: silent(
                self.consumers.iter().map(|(group, state)| (group, &state.members)),
                before_ms,
            ),
        }
    }

    /// Forgets a connection that is in no group any more.
    pub(super) fn forget_idle(&mut self, connection_id: u64) -> bool {
        let idle = self.connections.get(&connection_id).is_some_and(Index::is_empty);
        if idle {
            self.connections.remove(&connection_id);
        }
        idle
    }

    pub(super) fn forget_empty_since(&mut self, before_ms: i64) {
        self.consumers
            .retain(|_, state| !state.members.is_empty() || state.empty_since_ms > before_ms);
        let consumers = &self.consumers;
        self.fingerprints.retain(|group, _| consumers.contains_key(group));
    }
}

impl<C: Clone> ConsumerGroup<C> {
    pub(super) fn new(manner: Manner) -> Self {
        Self { manner, members: BTreeMap::new(), subscriptions: BTreeMap::new(), empty_since_ms: 0 }
    }

    /// Adds or renews a member; `true` if it is new.
    pub(super) fn join(&mut self, member: Member<C>) -> bool {
        self.members.insert(member.connection_id, member).is_none()
    }

    /// Takes the subscriptions of the member that spoke last for the whole group, as RocketMQ
    /// does; `true` if topics came or went.
    pub(super) fn subscribe(&mut self, subscriptions: Vec<Subscription>) -> bool {
        let named: HashSet<&str> = subscriptions.iter().map(|new| new.topic.as_str()).collect();
        let before = self.subscriptions.len();
        self.subscriptions.retain(|topic, _| named.contains(topic.as_str()));
        let mut changed = self.subscriptions.len() != before;
        for new in subscriptions {
            match self.subscriptions.get(&new.topic) {
                Some(known) if new.version <= known.version => {}
                known => {
                    changed |= known.is_none();
                    self.subscriptions.insert(new.topic.clone(), Arc::new(new));
                }
            }
        }
        changed
    }

    /// Whom to tell of a change: nobody in a broadcasting group, where nothing is shared out.
    pub(super) fn notice(&self, group: &str) -> Option<Notice<C>> {
        if self.manner.broadcast || self.members.is_empty() {
            return None;
        }
        let connections = self.members.values().map(|member| member.connection.clone()).collect();
        Some(Notice { group: group.into(), connections })
    }
}
