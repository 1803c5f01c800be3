//! Consumer groups: their configuration (200, 201, 352), their members (38) and lists of names
//! (300).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DataVersion;

/// Client ids of the members of a group, reply to code 38.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerList {
    /// The client ids.
    pub consumer_id_list: Vec<String>,
}

/// Names of groups, reply to code 300.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupList {
    /// The names.
    pub group_list: Vec<String>,
}

/// Configuration of a consumer group: codes 200 and 352.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[expect(clippy::struct_excessive_bools, reason = "the fields are RocketMQ's")]
pub struct GroupConfig {
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// Id of the broker to read from.
    pub broker_id: i64,
    /// Whether it may consume in broadcasting mode.
    pub consume_broadcast_enable: bool,
    /// Whether it may consume at all.
    pub consume_enable: bool,
    /// Whether it may begin at the smallest offset.
    pub consume_from_min_enable: bool,
    /// Whether it consumes in order.
    pub consume_message_orderly: bool,
    /// Minutes after which a message counts as not consumed.
    pub consume_timeout_minute: i32,
    /// Consumer group.
    pub group_name: String,
    /// How long a message waits between deliveries.
    pub group_retry_policy: RetryPolicy,
    /// RocketMQ's flags of a group.
    pub group_sys_flag: i32,
    /// Whether members are told when others come and go.
    pub notify_consumer_ids_changed_enable: bool,
    /// Deliveries after the first one, before a message is dead.
    pub retry_max_times: i32,
    /// Number of queues of the retry topic.
    pub retry_queue_nums: i32,
    /// Subscriptions that are fixed by the administrator.
    pub subscription_data_set: Option<Vec<SimpleSubscription>>,
    /// Id of the broker to read from when the group is far behind.
    pub which_broker_when_consume_slowly: i64,
}

/// # Source: `SubscriptionGroupConfig`
impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            broker_id: 0,
            consume_broadcast_enable: true,
            consume_enable: true,
            consume_from_min_enable: true,
            consume_message_orderly: false,
            consume_timeout_minute: 15,
            group_name: String::new(),
            group_retry_policy: RetryPolicy::default(),
            group_sys_flag: 0,
            notify_consumer_ids_changed_enable: true,
            retry_max_times: 16,
            retry_queue_nums: 1,
            subscription_data_set: None,
            which_broker_when_consume_slowly: 1,
        }
    }
}

/// A subscription that is fixed by the administrator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SimpleSubscription {
    /// The expression.
    pub expression: String,
    /// `TAG` or `SQL92`.
    pub expression_type: String,
    /// Topic.
    pub topic: String,
    /// Version.
    pub version: i64,
}

/// How long a message waits between deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RetryPolicy {
    /// A table of waits, if `kind` says so and it is not RocketMQ's own.
    pub customized_retry_policy: Option<CustomizedRetry>,
    /// Growing waits, if `kind` says so.
    pub exponential_retry_policy: Option<ExponentialRetry>,
    /// Which of the two.
    #[serde(rename = "type")]
    pub kind: RetryKind,
}

/// How waits are given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RetryKind {
    /// Growing by a factor.
    Exponential,
    /// From a table.
    #[default]
    Customized,
}

/// A table of waits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CustomizedRetry {
    /// Milliseconds before each delivery; the last one repeats.
    pub next: Vec<i64>,
}

/// Waits that grow by a factor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExponentialRetry {
    /// First wait in milliseconds.
    pub initial: i64,
    /// Longest wait in milliseconds.
    pub max: i64,
    /// Factor from one wait to the next.
    pub multiplier: i64,
}

/// # Source: `ExponentialRetryPolicy`, 5 s doubling up to 2 h
impl Default for ExponentialRetry {
    fn default() -> Self {
        Self { initial: 5_000, max: 7_200_000, multiplier: 2 }
    }
}

/// All groups of a broker, reply to code 201.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupTable {
    /// Version of the groups.
    pub data_version: DataVersion,
    /// What groups may not do, by group and topic.
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// By group.
    pub subscription_group_table: BTreeMap<String, GroupConfig>,
}
