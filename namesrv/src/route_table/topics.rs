//! Topics of registered groups: single changes by administrators and brokers, permissions, lists.

use super::{
    ENTRIES_MAX, Name, PERM_READ_WRITE, PERM_WRITE, Queues, Refused, RouteTable,
    state::{State, is_name},
};

/// Topic flag: belongs to a unit. # Source: `TopicSysFlag`
const FLAG_UNIT: i32 = 1;
/// Topic flag: subscribed to across units.
const FLAG_UNIT_SUBSCRIPTION: i32 = 2;

/// Which topics a list holds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    All,
    Unit,
    UnitSubscription,
    UnitSubscriptionOnly,
}

impl Kind {
    fn holds(self, sys_flag: i32) -> bool {
        let unit = sys_flag & FLAG_UNIT != 0;
        let subscription = sys_flag & FLAG_UNIT_SUBSCRIPTION != 0;
        match self {
            Self::All => true,
            Self::Unit => unit,
            Self::UnitSubscription => subscription,
            Self::UnitSubscriptionOnly => subscription && !unit,
        }
    }
}

impl RouteTable {
    /// Adds a topic to registered broker groups that do not have it. Others are left alone.
    pub(crate) fn add_topic(
        &self,
        topic: &str,
        layout: &[(String, Queues)],
    ) -> Result<(), Refused> {
        if !is_name(topic) {
            return Err(Refused::Name { what: "topic name", bytes: topic.len() });
        }
        self.change(|state| state.add_topic(topic, layout))
    }

    /// Removes a topic from all groups, or from those of one cluster. Returns from how many.
    pub(crate) fn delete_topic(&self, topic: &str, cluster: Option<&str>) -> usize {
        self.change(|state| state.delete_topic(topic, cluster))
    }

    /// Forbids writing to every topic of a broker group. Returns how many it has.
    pub(crate) fn wipe_write_permission(&self, broker: &str) -> usize {
        self.change(|state| state.set_permissions(broker, |perm| perm & !PERM_WRITE))
    }

    /// Allows reading and writing every topic of a broker group. Returns how many it has.
    pub(crate) fn add_write_permission(&self, broker: &str) -> usize {
        self.change(|state| state.set_permissions(broker, |_| PERM_READ_WRITE))
    }

    /// Topic names in order. A kind is decided by the topic's first group, as RocketMQ does.
    pub(crate) fn topics(&self, kind: Kind) -> Vec<String> {
        let state = self.read();
        let first_flag = |queues: &std::collections::BTreeMap<Name, Queues>| {
            queues.values().next().map_or(0, |queues| queues.sys_flag)
        };
        let holds = state.topics.iter().filter(|(_, queues)| kind.holds(first_flag(queues)));
        sorted(holds.map(|(name, _)| name))
    }

    /// Names of the topics that any group of a cluster has, in order.
    pub(crate) fn topics_of_cluster(&self, cluster: &str) -> Vec<String> {
        let state = self.read();
        let groups = state.groups.values().filter(|group| group.cluster == cluster);
        sorted(groups.flat_map(|group| &group.topics))
    }
}

fn sorted<'a>(names: impl Iterator<Item = &'a Name>) -> Vec<String> {
    let mut names: Vec<String> = names.map(ToString::to_string).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl State {
    fn add_topic(&mut self, topic: &str, layout: &[(String, Queues)]) -> Result<(), Refused> {
        if self.entries + layout.len() > ENTRIES_MAX {
            return Err(Refused::TooManyTopics { added: layout.len() });
        }
        for (broker, queues) in layout {
            let lacking = self.groups.get_key_value(broker.as_str());
            let lacking = lacking.filter(|(_, group)| !group.topics.contains(topic));
            if let Some(name) = lacking.map(|(name, _)| Name::clone(name)) {
                self.put_entry(topic, &name, *queues);
            }
        }
        Ok(())
    }

    fn delete_topic(&mut self, topic: &str, cluster: Option<&str>) -> usize {
        let Some(groups) = self.topics.get(topic) else { return 0 };
        let mut deleted = 0;
        for broker in groups.keys().cloned().collect::<Vec<_>>() {
            let Some(group) = self.groups.get_mut(&broker) else { continue };
            if cluster.is_none_or(|cluster| cluster == group.cluster) {
                group.topics_deleted = true;
                self.drop_entry(topic, &broker);
                deleted += 1;
            }
        }
        deleted
    }

    pub(super) fn set_permissions(&mut self, broker: &str, perm: impl Fn(i32) -> i32) -> usize {
        let Some(group) = self.groups.get(broker) else { return 0 };
        let topics: Vec<Name> = group.topics.iter().cloned().collect();
        for topic in &topics {
            let groups = self.topics.get_mut(topic);
            if let Some(queues) = groups.and_then(|groups| groups.get_mut(broker)) {
                queues.perm = perm(queues.perm);
            }
            self.touch(topic);
        }
        topics.len()
    }

    /// Sets the layout of a topic on a group.
    pub(super) fn put_entry(&mut self, topic: &str, broker: &Name, queues: Queues) {
        let Some(group) = self.groups.get_mut(broker) else { return };
        let name = self.topics.get_key_value(topic).map(|(name, _)| Name::clone(name));
        let name = name.unwrap_or_else(|| Name::from(topic));
        let entry = self.topics.entry(Name::clone(&name)).or_default();
        let old = entry.insert(Name::clone(broker), queues);
        if old.is_none() {
            self.entries += 1;
            group.topics.insert(name);
        }
        if old != Some(queues) {
            self.touch(topic);
        }
    }

    /// Removes a topic from a group, and with its last group the topic.
    pub(super) fn drop_entry(&mut self, topic: &str, broker: &str) {
        self.touch(topic);
        if let Some(group) = self.groups.get_mut(broker) {
            group.topics.remove(topic);
        }
        let Some(groups) = self.topics.get_mut(topic) else { return };
        if groups.remove(broker).is_some() {
            self.entries -= 1;
        }
        if groups.is_empty() {
            self.topics.remove(topic);
        }
    }
}
