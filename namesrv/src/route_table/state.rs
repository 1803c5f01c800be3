//! Registered processes: who is there, in which group, since when; and the rules of registration,
//! removal and expiry.

use std::collections::{BTreeMap, HashMap, HashSet};

use protocol::body::DataVersion;

use super::{
    BROKERS_MAX, ENTRIES_MAX, Identity, LowestChanged, MASTER_ID, NAME_MAX_BYTES, Name, PERM_WRITE,
    Queues, Refused, Registered, Registration, Removed, SILENCE_MAX_MS,
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
    pub(super) fn register(&mut self, new: &Registration<'_>) -> Result<Registered, Refused> {
        check_names(new)?;
        let who = new.identity;
        let group = self.groups.get(who.broker);
        let holder = group.and_then(|group| group.members.get(&new.id));
        let stale = holder.is_some_and(|holder| {
            holder.address != who.address
                && holder.version.state_version > new.version.state_version
        });
        if stale {
            // An old master that came back: the newer one keeps the id, and RocketMQ answers yes.
            if let Some((id, _)) = group.and_then(|group| group.member_at(who.address)) {
                self.remove(who.broker, id);
            }
            return Ok(Registered::default());
        }
        if holder.is_none() && new.topics.len() == 1 {
            return Err(Refused::Incomplete);
        }
        self.check_room(new, holder.is_none())?;
        let known = group.and_then(|group| group.member_at(who.address));
        if let Some((id, _)) = known.filter(|(id, _)| *id != new.id) {
            self.detach(who.broker, id); // the same process with another id: a promoted slave
        }
        Ok(self.admit(new))
    }

    /// Registration after all checks: the member, then its topics.
    fn admit(&mut self, new: &Registration<'_>) -> Registered {
        let who = new.identity;
        let name = self.groups.get_key_value(who.broker).map(|(name, _)| Name::clone(name));
        let name = name.unwrap_or_else(|| Name::from(who.broker));
        let group = self.groups.entry(Name::clone(&name)).or_default();
        let view = (group.cluster.as_str(), group.zone.as_deref(), group.enable_acting_master);
        let acting = new.enable_acting_master.unwrap_or(false);
        let mut changed = view != (who.cluster, new.zone, acting);
        who.cluster.clone_into(&mut group.cluster);
        group.zone = new.zone.map(str::to_owned);
        group.enable_acting_master = acting;

        let before = group.lowest();
        let old = group.members.insert(new.id, Member::new(new));
        let first = old.is_none();
        let same_process = old.as_ref().is_some_and(|old| old.address == who.address);
        let same_topics =
            same_process && old.as_ref().is_some_and(|old| old.version == new.version);
        changed |= !same_process;
        let lowest = before
            .is_some_and(|before| new.id < before)
            .then(|| group.lowest_changed(who.broker, None))
            .flatten();
        self.brokers += usize::from(first);
        if let Some(old) = old.filter(|old| old.connection != new.connection) {
            self.unlink(old.connection, who.broker);
        }
        self.connections.entry(new.connection).or_default().insert(Name::clone(&name));
        if changed {
            self.touch_group(who.broker);
        }
        self.take_topics(&name, new, same_topics);
        Registered { master: self.master_for(new), lowest, first }
    }

    /// Queue data come from the master or, where slaves may act for it, from the lowest of them,
    /// then without the right to write.
    fn take_topics(&mut self, name: &Name, new: &Registration<'_>, same_topics: bool) {
        let Some(group) = self.groups.get(name) else { return };
        let master = new.id == MASTER_ID;
        let prime_slave =
            !master && new.enable_acting_master.is_some() && group.lowest() == Some(new.id);
        if !(master || prime_slave) || (same_topics && !group.topics_deleted) {
            return;
        }
        let read_only = prime_slave && group.enable_acting_master;
        if new.complete && !same_topics && new.topics.len() > 1 {
            let held: HashSet<&str> = new.topics.iter().map(|(topic, _)| topic.as_str()).collect();
            let gone: Vec<Name> =
                group.topics.iter().filter(|topic| !held.contains(&***topic)).cloned().collect();
            for topic in gone {
                self.drop_entry(&topic, name);
            }
        }
        for (topic, queues) in new.topics {
            let missing = |state: &Self| {
                state.groups.get(name).is_some_and(|group| !group.topics.contains(topic.as_str()))
            };
            if is_name(topic) && (!same_topics || missing(self)) {
                let perm = if read_only { queues.perm & !PERM_WRITE } else { queues.perm };
                self.put_entry(topic, name, Queues { perm, ..*queues });
            }
        }
        if let Some(group) = self.groups.get_mut(name) {
            group.topics_deleted = false;
        }
    }

    fn master_for(&self, new: &Registration<'_>) -> Option<(String, String)> {
        let group = self.groups.get(new.identity.broker).filter(|_| new.id != MASTER_ID)?;
        let master = group.members.get(&MASTER_ID)?;
        Some((master.address.clone(), master.ha_address.clone()))
    }

    fn check_room(&self, new: &Registration<'_>, first: bool) -> Result<(), Refused> {
        if first && self.brokers >= BROKERS_MAX {
            return Err(Refused::TooManyBrokers);
        }
        if self.entries + new.topics.len() > ENTRIES_MAX {
            let known = self.groups.get(new.identity.broker).map(|group| &group.topics);
            let is_new = |topic: &str| known.is_none_or(|known| !known.contains(topic));
            let added = new.topics.iter().filter(|(topic, _)| is_new(topic)).count();
            if self.entries + added > ENTRIES_MAX {
                return Err(Refused::TooManyTopics { added });
            }
        }
        Ok(())
    }

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
    fn new(new: &Registration<'_>) -> Self {
        Self {
            address: new.identity.address.to_owned(),
            ha_address: new.ha_address.to_owned(),
            version: new.version,
            last_seen_ms: new.now_ms,
            silence_max_ms: new.silence_max_ms.filter(|ms| *ms > 0).unwrap_or(SILENCE_MAX_MS),
            connection: new.connection,
        }
    }
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= NAME_MAX_BYTES
}

fn check_names(new: &Registration<'_>) -> Result<(), Refused> {
    let Identity { cluster, broker, address } = new.identity;
    for (what, name) in
        [("cluster name", cluster), ("broker name", broker), ("broker address", address)]
    {
        if !is_name(name) {
            return Err(Refused::Name { what, bytes: name.len() });
        }
    }
    let zone = new.zone.unwrap_or_default();
    for (what, text) in [("replication address", new.ha_address), ("zone name", zone)] {
        if text.len() > NAME_MAX_BYTES {
            return Err(Refused::Name { what, bytes: text.len() });
        }
    }
    Ok(())
}
