//! Configurations of topics and groups as they travel and as they stand in RocketMQ's files, and as
//! the store has them.

use protocol::body::{
    self,
    group::{CustomizedRetry, ExponentialRetry, RetryKind, SimpleSubscription},
};

use crate::{FilterType, GroupConfig, RetryPolicy, StaticSubscription, TopicConfig};

/// A topic of RocketMQ as ours; the key of the table is its name.
pub fn to_topic(name: &str, of: body::topic::TopicConfig) -> TopicConfig {
    let count = |count: i32| u32::try_from(count).unwrap_or(0);
    TopicConfig {
        name: name.to_owned(),
        read_queues: count(of.read_queue_nums),
        write_queues: count(of.write_queue_nums),
        perm: count(of.perm),
        filter_type: match of.topic_filter_type {
            body::topic::FilterType::SingleTag => FilterType::SingleTag,
            body::topic::FilterType::MultiTag => FilterType::MultiTag,
        },
        sys_flag: of.topic_sys_flag,
        order: of.order,
        attributes: of.attributes,
    }
}

/// The form in which a topic's configuration travels and stands in files.
pub fn of_topic(of: &TopicConfig) -> body::topic::TopicConfig {
    let count = |count: u32| i32::try_from(count).unwrap_or(i32::MAX);
    body::topic::TopicConfig {
        attributes: of.attributes.clone(),
        order: of.order,
        perm: count(of.perm),
        read_queue_nums: count(of.read_queues),
        topic_filter_type: match of.filter_type {
            FilterType::SingleTag => body::topic::FilterType::SingleTag,
            FilterType::MultiTag => body::topic::FilterType::MultiTag,
        },
        topic_name: of.name.clone(),
        topic_sys_flag: of.sys_flag,
        write_queue_nums: count(of.write_queues),
    }
}

/// A group of RocketMQ as ours; the key of the table is its name.
pub fn to_group(name: &str, of: body::group::GroupConfig) -> GroupConfig {
    let subscription = |fixed: SimpleSubscription| StaticSubscription {
        topic: fixed.topic,
        expression_type: fixed.expression_type,
        expression: fixed.expression,
        version: fixed.version,
    };
    let policy = of.group_retry_policy;
    let retry_policy = match policy.kind {
        RetryKind::Customized => RetryPolicy::Customized {
            next_ms: policy.customized_retry_policy.map_or_else(Vec::new, |table| table.next),
        },
        RetryKind::Exponential => {
            let waits = policy.exponential_retry_policy.unwrap_or_default();
            RetryPolicy::Exponential {
                initial_ms: waits.initial,
                max_ms: waits.max,
                multiplier: waits.multiplier,
            }
        }
    };
    GroupConfig {
        name: name.to_owned(),
        consume_enable: of.consume_enable,
        consume_from_min_enable: of.consume_from_min_enable,
        consume_broadcast_enable: of.consume_broadcast_enable,
        consume_message_orderly: of.consume_message_orderly,
        retry_queues: of.retry_queue_nums,
        retry_max_times: of.retry_max_times,
        retry_policy,
        broker_id: of.broker_id,
        which_broker_when_consume_slowly: of.which_broker_when_consume_slowly,
        notify_consumer_ids_changed_enable: of.notify_consumer_ids_changed_enable,
        sys_flag: of.group_sys_flag,
        consume_timeout_minutes: of.consume_timeout_minute,
        subscriptions: of
            .subscription_data_set
            .unwrap_or_default()
            .into_iter()
            .map(subscription)
            .collect(),
        attributes: of.attributes,
    }
}

/// The form in which a group's configuration travels and stands in files.
pub fn of_group(of: &GroupConfig) -> body::group::GroupConfig {
    let subscription = |fixed: &StaticSubscription| SimpleSubscription {
        expression: fixed.expression.clone(),
        expression_type: fixed.expression_type.clone(),
        topic: fixed.topic.clone(),
        version: fixed.version,
    };
    let fixed: Vec<_> = of.subscriptions.iter().map(subscription).collect();
    body::group::GroupConfig {
        attributes: of.attributes.clone(),
        broker_id: of.broker_id,
        consume_broadcast_enable: of.consume_broadcast_enable,
        consume_enable: of.consume_enable,
        consume_from_min_enable: of.consume_from_min_enable,
        consume_message_orderly: of.consume_message_orderly,
        consume_timeout_minute: of.consume_timeout_minutes,
        group_name: of.name.clone(),
        group_retry_policy: policy_body(&of.retry_policy),
        group_sys_flag: of.sys_flag,
        notify_consumer_ids_changed_enable: of.notify_consumer_ids_changed_enable,
        retry_max_times: of.retry_max_times,
        retry_queue_nums: of.retry_queues,
        subscription_data_set: (!fixed.is_empty()).then_some(fixed),
        which_broker_when_consume_slowly: of.which_broker_when_consume_slowly,
    }
}

fn policy_body(of: &RetryPolicy) -> body::group::RetryPolicy {
    match of {
        RetryPolicy::Customized { next_ms } => body::group::RetryPolicy {
            customized_retry_policy: (!next_ms.is_empty())
                .then(|| CustomizedRetry { next: next_ms.clone() }),
            exponential_retry_policy: None,
            kind: RetryKind::Customized,
        },
        RetryPolicy::Exponential { initial_ms, max_ms, multiplier } => body::group::RetryPolicy {
            customized_retry_policy: None,
            exponential_retry_policy: Some(ExponentialRetry {
                initial: *initial_ms,
                max: *max_ms,
                multiplier: *multiplier,
            }),
            kind: RetryKind::Exponential,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_and_groups_survive_both_ways() {
        let config = TopicConfig {
            name: "T".to_owned(),
            read_queues: 8,
            write_queues: 4,
            perm: 6,
            filter_type: FilterType::MultiTag,
            sys_flag: 1,
            order: true,
            attributes: [("message.type".to_owned(), "FIFO".to_owned())].into(),
        };
        assert_eq!(to_topic("T", of_topic(&config)), config);
        let mut config = GroupConfig::new("g");
        config.consume_enable = false;
        config.retry_policy = RetryPolicy::Exponential { initial_ms: 1, max_ms: 9, multiplier: 3 };
        config.subscriptions = vec![StaticSubscription {
            topic: "T".to_owned(),
            expression_type: "TAG".to_owned(),
            expression: "a".to_owned(),
            version: 5,
        }];
        assert_eq!(to_group("g", of_group(&config)), config);
    }
}
