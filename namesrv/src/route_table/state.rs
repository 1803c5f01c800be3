//! Registered processes: who is there, in which group, since when; and how they leave. How they
//! come: `register`.

mod register;

use std::collections::{BTreeMap, HashMap, HashSet};

use protocol::body::DataVersion;

use super::{
    Identity, LowestChanged, MASTER_ID, NAME_MAX_BYTES, Name, PERM_WRITE, Queues, Registration,
    Removed, SILENCE_MAX_MS,
};

/// Everything registered. Invariants: a group has a member; a topic has a group; a pair of topic
/// and group is in `topics` and in the group's `topics`, or in neither.
#[derive(Default)]
pub(super) struct State {
    pub(super) groups: BTreeMap<Name, Group>,
    pub(super) topics: HashMap<Name, BTreeMap<Name, Queues>>,
    /// The groups whose members registered over a connection.
    connections: HashMap<u64, HashSet<Name>>,
    brokers: usize,
    pub(super) entries: usize,
    /// Topics whose route changed since it was last asked.
    touched: Vec<Name>,
}

/// A master and its slaves: all processes with one broker name.
#[derive(Default)]
pub(super) struct Group {
    pub(super) cluster: String,
    pub(super) zone: Option<String>,
    pub(super) enable_acting_master: bool,
    pub(super) members: BTreeMap<i64, Member>,
    pub(super) topics: HashSet<Name>,
    /// A topic was deleted here: the next registration brings it back although its version is old.
    pub(super) topics_deleted: bool,
}

/// One process.
pub(super) struct Member {
    pub(super) address: String,
    ha_address: String,
    version: DataVersion,
    fingerprint: u64,
    last_seen_ms: i64,
    silence_max_ms: i64,
    connection: u64,
}

impl Group {
    fn member_at(&self, address: &str) -> Option<(i64, &Member)> {
        self.members.iter().find(|(_, m)| m.address == address).map(|(id, m)| (*id, m))
    }

    fn lowest(&self) -> Option<i64> {
        self.members.keys().next().copied()
    }

    fn lowest_changed(&self, broker: &str, gone: Option<&str>) -> Option<LowestChanged> {
        let (id, lowest) = self.members.iter().next()?;
        Some(LowestChanged {
            broker: broker.to_owned(),
            id: *id,
            address: lowest.address.clone(),
            ha_address: lowest.ha_address.clone(),
            gone: gone.map(str::to_owned),
            tell: self
                .members
                .iter()
                .filter(|(other, _)| gone.is_some() || *other != id)
                .map(|(_, member)| member.address.clone())
                .collect(),
        })
    }
}

impl State {
    pub(super) fn unregister(&mut self, who: Identity<'_>) -> Option<Removed> {
        let (id, _) = self.groups.get(who.broker)?.member_at(who.address)?;
        self.remove(who.broker, id)
    }

    pub(super) fn has_connection(&self, connection: u64) -> bool {
        self.connections.contains_key(&connection)
    }

    pub(super) fn disconnected(&mut self, connection: u64) -> Vec<Removed> {
        let groups = self.connections.remove(&connection).unwrap_or_default();
        let over = |(id, member): (&i64, &Member)| (member.connection == connection).then_some(*id);
        let members = groups.into_iter().flat_map(|name| {
            let ids: Vec<i64> = self
                .groups
                .get(&name)
                .map(|group| group.members.iter().filter_map(over).collect())
                .unwrap_or_default();
            ids.into_iter().map(move |id| (Name::clone(&name), id))
        });
        let members: Vec<_> = members.collect();
        members.into_iter().filter_map(|(name, id)| self.remove(&name, id)).collect()
    }

    /// Who is silent for longer than allowed.
    pub(super) fn silent(&self, now_ms: i64) -> Vec<(Name, i64)> {
        let is_silent =
            |member: &Member| now_ms > member.last_seen_ms.saturating_add(member.silence_max_ms);
        let members = self.groups.iter().flat_map(|(name, group)| {
            group.members.iter().map(move |(id, member)| (name, *id, member))
        });
        members
            .filter(|(_, _, member)| is_silent(member))
            .map(|(name, id, _)| (Name::clone(name), id))
            .collect()
    }

    pub(super) fn expire(&mut self, now_ms: i64) -> Vec<Removed> {
        let silent = self.silent(now_ms);
        silent.into_iter().filter_map(|(name, id)| self.remove(&name, id)).collect()
    }

    pub(super) fn heartbeat(&mut self, who: Identity<'_>, now_ms: i64) -> bool {
        let group = self.groups.get_mut(who.broker);
        let member = group.and_then(|group| {
            group.members.values_mut().find(|member| member.address == who.address)
        });
        member.map(|member| member.last_seen_ms = now_ms).is_some()
    }

    pub(super) fn version(&self, who: Identity<'_>) -> Option<DataVersion> {
        let (_, member) = self.groups.get(who.broker)?.member_at(who.address)?;
        Some(member.version)
    }

    /// Removes a member, and with the last one the group and its topics.
    fn remove(&mut self, broker: &str, id: i64) -> Option<Removed> {
        let before = self.groups.get(broker)?.lowest();
        let member = self.detach(broker, id)?;
        let group = self.groups.get(broker)?;
        let mut lowest = None;
        if group.members.is_empty() {
            for topic in group.topics.clone() {
                self.drop_entry(&topic, broker);
            }
            self.groups.remove(broker);
        } else {
            if group.enable_acting_master && !group.members.contains_key(&MASTER_ID) {
                self.set_permissions(broker, |perm| perm & !PERM_WRITE);
            }
            let group = self.groups.get(broker)?;
            if group.lowest() != before {
                lowest = group.lowest_changed(broker, Some(&member.address));
            }
        }
        let Member { address, connection, .. } = member;
        Some(Removed { broker: broker.to_owned(), id, address, connection, lowest })
    }

    /// Takes a member out of its group, which may be left empty.
    fn detach(&mut self, broker: &str, id: i64) -> Option<Member> {
        let member = self.groups.get_mut(broker)?.members.remove(&id)?;
        self.brokers -= 1;
        self.unlink(member.connection, broker);
        self.touch_group(broker);
        Some(member)
    }

    /// Forgets that a group is reached over a connection, if no member is.
    fn unlink(&mut self, connection: u64, broker: &str) {
        let used = self
            .groups
            .get(broker)
            .is_some_and(|group| group.members.values().any(|m| m.connection == connection));
        if let Some(groups) = self.connections.get_mut(&connection).filter(|_| !used) {
            groups.remove(broker);
            if groups.is_empty() {
                self.connections.remove(&connection);
            }
        }
    }

    fn touch_group(&mut self, broker: &str) {
        if let Some(group) = self.groups.get(broker) {
            self.touched.extend(group.topics.iter().cloned());
        }
    }

    /// Notes that the route of a topic is not what it was.
    pub(super) fn touch(&mut self, topic: &str) {
        if let Some((name, _)) = self.topics.get_key_value(topic) {
            self.touched.push(Name::clone(name));
        }
    }

    pub(super) fn take_touched(&mut self) -> Vec<Name> {
        std::mem::take(&mut self.touched)
    }
}

impl Member {
    fn new(new: &Registration<'_>, version: DataVersion) -> Self {
        Self {
            address: new.identity.address.to_owned(),
            ha_address: new.ha_address.to_owned(),
            version,
            fingerprint: new.fingerprint,
            last_seen_ms: new.now_ms,
            silence_max_ms: new.silence_max_ms.filter(|ms| *ms > 0).unwrap_or(SILENCE_MAX_MS),
            connection: new.connection,
        }
    }

    fn repeats(&self, new: &Registration<'_>) -> bool {
        self.address == new.identity.address && self.fingerprint == new.fingerprint
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX_BYTES
}

#[cfg(test)]
impl State {
    /// The invariants that [`State`] promises.
    pub(super) fn check(&self) {
        let mut entries = 0;
        for (topic, groups) in &self.topics {
            assert!(!groups.is_empty(), "{topic} has no group");
            entries += groups.len();
            for broker in groups.keys() {
                assert!(self.groups[broker].topics.contains(topic), "{topic} of {broker}");
            }
        }
        assert_eq!(entries, self.entries);
        assert_eq!(entries, self.groups.values().map(|group| group.topics.len()).sum::<usize>());
        let brokers: usize = self.groups.values().map(|group| group.members.len()).sum();
        assert_eq!(brokers, self.brokers);
        let mut connections: HashMap<u64, HashSet<Name>> = HashMap::new();
        for (name, group) in &self.groups {
            assert!(!group.members.is_empty(), "{name} has no member");
            for member in group.members.values() {
                connections.entry(member.connection).or_default().insert(Name::clone(name));
            }
        }
        assert_eq!(connections, self.connections);
    }
}
