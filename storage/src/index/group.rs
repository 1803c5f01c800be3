//! The `group` family: name to configuration.

use std::collections::BTreeMap;

use prost::{Message, Oneof};

use crate::{GroupConfig, RetryPolicy, StaticSubscription};

/// What is stored of a group; the name is the key.
#[derive(Clone, PartialEq, Eq, Message)]
#[expect(clippy::struct_excessive_bools, reason = "RocketMQ's fields, independent of each other")]
pub(crate) struct GroupRow {
    #[prost(bool, tag = "1")]
    consume_enable: bool,
    #[prost(bool, tag = "2")]
    consume_from_min_enable: bool,
    #[prost(bool, tag = "3")]
    consume_broadcast_enable: bool,
    #[prost(bool, tag = "4")]
    consume_message_orderly: bool,
    #[prost(sint32, tag = "5")]
    retry_queues: i32,
    #[prost(sint32, tag = "6")]
    retry_max_times: i32,
    #[prost(oneof = "RetryRow", tags = "7, 8")]
    retry_policy: Option<RetryRow>,
    #[prost(sint64, tag = "9")]
    broker_id: i64,
    #[prost(sint64, tag = "10")]
    which_broker_when_consume_slowly: i64,
    #[prost(bool, tag = "11")]
    notify_consumer_ids_changed_enable: bool,
    #[prost(sint32, tag = "12")]
    sys_flag: i32,
    #[prost(sint32, tag = "13")]
    consume_timeout_minutes: i32,
    #[prost(message, repeated, tag = "14")]
    subscriptions: Vec<SubscriptionRow>,
    #[prost(btree_map = "string, string", tag = "15")]
    attributes: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum RetryRow {
    #[prost(message, tag = "7")]
    Customized(CustomizedRow),
    #[prost(message, tag = "8")]
    Exponential(ExponentialRow),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct CustomizedRow {
    #[prost(sint64, repeated, tag = "1")]
    next_ms: Vec<i64>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct ExponentialRow {
    #[prost(sint64, tag = "1")]
    initial_ms: i64,
    #[prost(sint64, tag = "2")]
    max_ms: i64,
    #[prost(sint64, tag = "3")]
    multiplier: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct SubscriptionRow {
    #[prost(string, tag = "1")]
    topic: String,
    #[prost(string, tag = "2")]
    expression_type: String,
    #[prost(string, tag = "3")]
    expression: String,
    #[prost(sint64, tag = "4")]
    version: i64,
}

impl From<RetryPolicy> for RetryRow {
    fn from(policy: RetryPolicy) -> Self {
        match policy {
            RetryPolicy::Customized { next_ms } => Self::Customized(CustomizedRow { next_ms }),
            RetryPolicy::Exponential { initial_ms, max_ms, multiplier } => {
                Self::Exponential(ExponentialRow { initial_ms, max_ms, multiplier })
            }
        }
    }
}

impl From<RetryRow> for RetryPolicy {
    fn from(row: RetryRow) -> Self {
        match row {
            RetryRow::Customized(CustomizedRow { next_ms }) => Self::Customized { next_ms },
            RetryRow::Exponential(ExponentialRow { initial_ms, max_ms, multiplier }) => {
                Self::Exponential { initial_ms, max_ms, multiplier }
            }
        }
    }
}

impl From<StaticSubscription> for SubscriptionRow {
    fn from(of: StaticSubscription) -> Self {
        Self {
            topic: of.topic,
            expression_type: of.expression_type,
            expression: of.expression,
            version: of.version,
        }
    }
}

impl From<SubscriptionRow> for StaticSubscription {
    fn from(row: SubscriptionRow) -> Self {
        Self {
            topic: row.topic,
            expression_type: row.expression_type,
            expression: row.expression,
            version: row.version,
        }
    }
}

impl GroupRow {
    pub(crate) fn new(of: GroupConfig) -> Self {
        Self {
            consume_enable: of.consume_enable,
            consume_from_min_enable: of.consume_from_min_enable,
            consume_broadcast_enable: of.consume_broadcast_enable,
            consume_message_orderly: of.consume_message_orderly,
            retry_queues: of.retry_queues,
            retry_max_times: of.retry_max_times,
            retry_policy: Some(of.retry_policy.into()),
            broker_id: of.broker_id,
            which_broker_when_consume_slowly: of.which_broker_when_consume_slowly,
            notify_consumer_ids_changed_enable: of.notify_consumer_ids_changed_enable,
            sys_flag: of.sys_flag,
            consume_timeout_minutes: of.consume_timeout_minutes,
            subscriptions: of.subscriptions.into_iter().map(Into::into).collect(),
            attributes: of.attributes,
        }
    }

    pub(crate) fn into_config(self, name: String) -> GroupConfig {
        let default = GroupConfig::new(name);
        GroupConfig {
            consume_enable: self.consume_enable,
            consume_from_min_enable: self.consume_from_min_enable,
            consume_broadcast_enable: self.consume_broadcast_enable,
            consume_message_orderly: self.consume_message_orderly,
            retry_queues: self.retry_queues,
            retry_max_times: self.retry_max_times,
            retry_policy: self.retry_policy.map_or(default.retry_policy, Into::into),
            broker_id: self.broker_id,
            which_broker_when_consume_slowly: self.which_broker_when_consume_slowly,
            notify_consumer_ids_changed_enable: self.notify_consumer_ids_changed_enable,
            sys_flag: self.sys_flag,
            consume_timeout_minutes: self.consume_timeout_minutes,
            subscriptions: self.subscriptions.into_iter().map(Into::into).collect(),
            attributes: self.attributes,
            name: default.name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_survives() {
        let mut config = GroupConfig::new("G");
        config.consume_enable = false;
        config.retry_queues = -3;
        config.subscriptions = vec![StaticSubscription {
            topic: "T".to_owned(),
            expression_type: "TAG".to_owned(),
            expression: "a || b".to_owned(),
            version: 1 << 60,
        }];
        config.attributes.insert("k".to_owned(), "v".to_owned());
        for policy in [
            RetryPolicy::Customized { next_ms: vec![1_000, 5_000] },
            RetryPolicy::Customized { next_ms: Vec::new() },
            RetryPolicy::Exponential { initial_ms: 5_000, max_ms: 7_200_000, multiplier: 2 },
        ] {
            config.retry_policy = policy;
            let bytes = GroupRow::new(config.clone()).encode_to_vec();
            let read = GroupRow::decode(bytes.as_slice()).unwrap();
            assert_eq!(read.into_config("G".to_owned()), config);
        }
    }
}
