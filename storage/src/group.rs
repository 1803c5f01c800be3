//! Consumer groups as the broker sees them.

use std::collections::BTreeMap;

use crate::table::Named;

/// The configuration of a consumer group, as RocketMQ's `SubscriptionGroupConfig`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "RocketMQ's fields, independent of each other")]
pub struct GroupConfig {
    /// Name, already checked.
    pub name: String,
    /// Whether the group may consume at all.
    pub consume_enable: bool,
    /// Whether it may begin at the smallest offset.
    pub consume_from_min_enable: bool,
    /// Whether it may consume in broadcasting mode.
    pub consume_broadcast_enable: bool,
    /// Whether it consumes in order.
    pub consume_message_orderly: bool,
    /// Number of queues of the retry topic.
    pub retry_queues: i32,
    /// Deliveries before a message is dead.
    pub retry_max_times: i32,
    /// How long a message waits between deliveries.
    pub retry_policy: RetryPolicy,
    /// Broker to read from.
    pub broker_id: i64,
    /// Broker to read from when the group is far behind.
    pub which_broker_when_consume_slowly: i64,
    /// Whether members are told when others come and go.
    pub notify_consumer_ids_changed_enable: bool,
    /// RocketMQ's `groupSysFlag`.
    pub sys_flag: i32,
    /// Minutes after which a message counts as not consumed.
    pub consume_timeout_minutes: i32,
    /// Subscriptions that are fixed by the administrator.
    pub subscriptions: Vec<StaticSubscription>,
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
}

/// How long a message waits between deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetryPolicy {
    /// A table of waits in milliseconds; empty means RocketMQ's 18 levels.
    Customized {
        /// Milliseconds before each delivery.
        next_ms: Vec<i64>,
    },
    /// Waits that grow by a factor.
    Exponential {
        /// First wait in milliseconds.
        initial_ms: i64,
        /// Longest wait in milliseconds.
        max_ms: i64,
        /// Factor from one wait to the next.
        multiplier: i64,
    },
}

/// A subscription that is fixed by the administrator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StaticSubscription {
    /// The topic.
    pub topic: String,
    /// `TAG` or `SQL92`.
    pub expression_type: String,
    /// The expression.
    pub expression: String,
    /// Version of the subscription.
    pub version: i64,
}

impl Named for GroupConfig {
    fn name(&self) -> &str {
        &self.name
    }
}

impl GroupConfig {
    /// A group with RocketMQ's defaults.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            consume_enable: true,
            consume_from_min_enable: true,
            consume_broadcast_enable: true,
            consume_message_orderly: false,
            retry_queues: 1,
            retry_max_times: 16,
            retry_policy: RetryPolicy::Customized { next_ms: Vec::new() },
            broker_id: 0,
            which_broker_when_consume_slowly: 1,
            notify_consumer_ids_changed_enable: true,
            sys_flag: 0,
            consume_timeout_minutes: 15,
            subscriptions: Vec::new(),
            attributes: BTreeMap::new(),
        }
    }
}
