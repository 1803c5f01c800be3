//! The route of a topic: body of the reply to code 105 and of code 217.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the queues of a topic are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicRoute {
    /// The brokers.
    pub broker_datas: Vec<BrokerData>,
    /// Filter servers by broker address; a feature of the past, always empty today.
    pub filter_server_table: BTreeMap<String, Vec<String>>,
    /// `broker-a:4;broker-b:4` if the topic is ordered.
    pub order_topic_conf: Option<String>,
    /// The queues by broker.
    pub queue_datas: Vec<QueueData>,
}

/// The master and the slaves of one broker name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BrokerData {
    /// Addresses by broker id; 0 is the master.
    pub broker_addrs: BTreeMap<i64, String>,
    /// Broker name.
    pub broker_name: String,
    /// Cluster.
    pub cluster: String,
    /// Whether a slave may stand in for the master.
    pub enable_acting_master: bool,
    /// Zone, if the brokers are in one.
    pub zone_name: Option<String>,
}

/// The queues of a topic on one broker name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueData {
    /// Broker name.
    pub broker_name: String,
    /// 4 may be read, 2 may be written, 1 may be inherited, added up.
    pub perm: i32,
    /// Queues that may be read.
    pub read_queue_nums: i32,
    /// 1 unit, 2 unit subscription.
    pub topic_sys_flag: i32,
    /// Queues that may be written.
    pub write_queue_nums: i32,
}
