//! The rules of registration, all applied under one lock.
//!
//! # Source: `RouteInfoManager.registerBroker`

use std::collections::HashSet;

use super::{Member, State, is_name};
use crate::route_table::{
    BROKERS_MAX, ENTRIES_MAX, Identity, MASTER_ID, NAME_MAX_BYTES, Name, PERM_WRITE, Queues,
    Refused, Registered, Registration, Topics,
};

impl State {
    pub(in crate::route_table) fn register(
        &mut self,
        new: &Registration<'_>,
    ) -> Result<Registered, Refused> {
        check_names(new)?;
        let who = new.identity;
        let group = self.groups.get(who.broker);
        let holder = group.and_then(|group| group.members.get(&new.id));
        let topics = match (new.topics, group, holder) {
            (Some(topics), ..) => topics,
            (None, Some(group), Some(holder)) if holder.repeats(new) && !group.topics_deleted => {
                Topics { version: holder.version, layout: &[] }
            }
            (None, ..) => return Err(Refused::NotTheSame),
        };
        let stale = holder.is_some_and(|holder| {
            holder.address != who.address
                && holder.version.state_version > topics.version.state_version
        });
        if stale {
            // An old master that came back: the newer one keeps the id, and RocketMQ answers yes.
            if let Some((id, _)) = group.and_then(|group| group.member_at(who.address)) {
                self.remove(who.broker, id);
            }
            return Ok(Registered::default());
        }
        if holder.is_none() && topics.layout.len() == 1 {
            return Err(Refused::Incomplete);
        }
        self.check_room(who.broker, topics, holder.is_none())?;
        let known = group.and_then(|group| group.member_at(who.address));
        if let Some((id, _)) = known.filter(|(id, _)| *id != new.id) {
            self.detach(who.broker, id); // the same process with another id: a promoted slave
        }
        Ok(self.admit(new, topics))
    }

    /// Registration after all checks: the member, then its topics.
    fn admit(&mut self, new: &Registration<'_>, topics: Topics<'_>) -> Registered {
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
        let old = group.members.insert(new.id, Member::new(new, topics.version));
        let first = old.is_none();
        let same_process = old.as_ref().is_some_and(|old| old.address == who.address);
        let same_topics =
            same_process && old.as_ref().is_some_and(|old| old.version == topics.version);
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
        if !same_topics || self.groups.get(&name).is_some_and(|group| group.topics_deleted) {
            self.take_topics(&name, new, topics, same_topics);
        }
        Registered { master: self.master_for(new), lowest, first }
    }

    /// Queue data come from the master or, where slaves may act for it, from the lowest of them,
    /// then without the right to write.
    fn take_topics(
        &mut self,
        name: &Name,
        new: &Registration<'_>,
        topics: Topics<'_>,
        same_topics: bool,
    ) {
        let Some(group) = self.groups.get(name) else { return };
        let master = new.id == MASTER_ID;
        let prime_slave =
            !master && new.enable_acting_master.is_some() && group.lowest() == Some(new.id);
        if !(master || prime_slave) {
            return;
        }
        let read_only = prime_slave && group.enable_acting_master;
        if new.complete && !same_topics && topics.layout.len() > 1 {
            let held: HashSet<&str> =
                topics.layout.iter().map(|(topic, _)| topic.as_str()).collect();
            let gone: Vec<Name> =
                group.topics.iter().filter(|topic| !held.contains(&***topic)).cloned().collect();
            for topic in gone {
                self.drop_entry(&topic, name);
            }
        }
        for (topic, queues) in topics.layout {
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

    fn check_room(&self, broker: &str, topics: Topics<'_>, first: bool) -> Result<(), Refused> {
        if first && self.brokers >= BROKERS_MAX {
            return Err(Refused::TooManyBrokers);
        }
        if self.entries + topics.layout.len() > ENTRIES_MAX {
            let known = self.groups.get(broker).map(|group| &group.topics);
            let is_new = |topic: &str| known.is_none_or(|known| !known.contains(topic));
            let added = topics.layout.iter().filter(|(topic, _)| is_new(topic)).count();
            if self.entries + added > ENTRIES_MAX {
                return Err(Refused::TooManyTopics { added });
            }
        }
        Ok(())
    }
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
