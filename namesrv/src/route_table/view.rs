//! What the registry looks like from outside: routes, clusters, members.

use std::collections::BTreeMap;

use protocol::body::{
    cluster::{ClusterInfo, MemberGroup},
    route::{BrokerData, QueueData, TopicRoute},
};

use super::{
    MASTER_ID, Name, PERM_WRITE, RouteTable,
    state::{Group, State},
};

/// What of a route depends on the name server's configuration.
#[derive(Debug, Default)]
pub(crate) struct RouteOptions {
    /// Show the lowest slave of a group without master as its master.
    pub(crate) acting_master: bool,
    /// The topic's order configuration.
    pub(crate) order: Option<String>,
}

impl RouteTable {
    /// All groups and the clusters they are in.
    pub(crate) fn clusters(&self) -> ClusterInfo {
        let state = self.read();
        let mut clusters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, group) in &state.groups {
            clusters.entry(group.cluster.clone()).or_default().push(name.to_string());
        }
        ClusterInfo {
            broker_addr_table: state
                .groups
                .iter()
                .map(|(name, group)| (name.to_string(), broker_data(name, group)))
                .collect(),
            cluster_addr_table: clusters,
        }
    }

    /// The members of a group; none if it is not registered.
    pub(crate) fn members(&self, cluster: &str, broker: &str) -> MemberGroup {
        let state = self.read();
        MemberGroup {
            cluster: cluster.to_owned(),
            broker_name: broker.to_owned(),
            broker_addrs: state.groups.get(broker).map(addresses).unwrap_or_default(),
        }
    }

    /// Names of clusters and groups, and the address of some broker.
    pub(crate) fn system_topics(&self) -> (Vec<String>, Option<String>) {
        let state = self.read();
        let mut names: Vec<String> = state
            .groups
            .iter()
            .flat_map(|(name, group)| [group.cluster.clone(), name.to_string()])
            .collect();
        names.sort_unstable();
        names.dedup();
        let member = state.groups.values().flat_map(|group| group.members.values()).next();
        (names, member.map(|member| member.address.clone()))
    }
}

impl State {
    /// The route of a topic, groups in the order of their names.
    pub(super) fn route(&self, topic: &str, options: &RouteOptions) -> Option<(Name, TopicRoute)> {
        let (name, layout) = self.topics.get_key_value(topic)?;
        let mut route =
            TopicRoute { order_topic_conf: options.order.clone(), ..Default::default() };
        for (broker, queues) in layout {
            let Some(group) = self.groups.get(broker) else { continue };
            let mut data = broker_data(broker, group);
            if options.acting_master && group.enable_acting_master && queues.perm & PERM_WRITE == 0
            {
                act_as_master(&mut data);
            }
            route.broker_datas.push(data);
            route.queue_datas.push(QueueData {
                broker_name: broker.to_string(),
                read_queue_nums: queues.read,
                write_queue_nums: queues.write,
                perm: queues.perm,
                topic_sys_flag: queues.sys_flag,
            });
        }
        (!route.broker_datas.is_empty()).then(|| (Name::clone(name), route))
    }
}

/// Lets the lowest slave of a group without master appear as its master, to be read from.
fn act_as_master(data: &mut BrokerData) {
    if !data.broker_addrs.contains_key(&MASTER_ID)
        && let Some((_, address)) = data.broker_addrs.pop_first()
    {
        data.broker_addrs.insert(MASTER_ID, address);
    }
}

/// Keeps the groups of one zone, and those without master: another zone may have to help out.
///
/// # Source: `ZoneRouteRPCHook`
pub(super) fn keep_zone(route: &mut TopicRoute, zone: &str) {
    route.broker_datas.retain(|data| {
        let here = data.zone_name.as_deref().is_some_and(|name| name.eq_ignore_ascii_case(zone));
        here || !data.broker_addrs.contains_key(&MASTER_ID)
    });
    let TopicRoute { broker_datas, queue_datas, .. } = route;
    queue_datas.retain(|queues| {
        // Both are in the order of group names.
        broker_datas
            .binary_search_by(|data| data.broker_name.as_str().cmp(&queues.broker_name))
            .is_ok()
    });
}

fn broker_data(name: &str, group: &Group) -> BrokerData {
    BrokerData {
        cluster: group.cluster.clone(),
        broker_name: name.to_owned(),
        broker_addrs: addresses(group),
        zone_name: group.zone.clone(),
        enable_acting_master: group.enable_acting_master,
    }
}

fn addresses(group: &Group) -> BTreeMap<i64, String> {
    group.members.iter().map(|(id, member)| (*id, member.address.clone())).collect()
}
