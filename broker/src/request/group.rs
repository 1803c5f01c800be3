//! Consumer groups: create or change (200), delete (207), read (201, 352), progress (208), and which
//! group reads which topic (300, 343).

use std::{collections::BTreeSet, sync::Arc};

use protocol::{
    body::{
        MessageQueue,
        group::{GroupConfig, GroupList, GroupTable},
        stats::{ConsumeStats, Progress},
        topic::TopicList,
    },
    frame::Frame,
    json, names,
    request::{
        group::{AllGroups, ConsumeStats as StatsHeader, DeleteGroup, Group, GroupCount},
        topic::Topic as TopicHeader,
    },
};
use storage::{QueueOffset, ReadError, Topic, bodies};

use super::{
    reply::{Answer, Handled, Refusal},
    topic::{Page, changed, version},
};
use crate::{groups, state::State};

/// Code 200.
pub(super) async fn create(state: Arc<State>, frame: Frame) -> Handled {
    let wanted: GroupConfig = json::decode(&frame.body)?;
    names::check_group(&wanted.group_name)?;
    let config = bodies::to_group(&wanted.group_name.clone(), wanted);
    if state.store.group(&config.name).is_some_and(|known| *known == config) {
        return Ok(Answer::done());
    }
    let group = state.store.put_group(config).await?;
    tracing::info!(group = group.name, config = ?group, "consumer group created or changed");
    Ok(changed(&state, "consumer group", &group.name).await)
}

/// Code 207. RocketMQ deletes the retry topic of a group with the group's offsets.
pub(super) async fn delete(state: Arc<State>, frame: Frame) -> Handled {
    let header = DeleteGroup::decode(&frame.fields)?;
    groups::existing(&state, header.group)?;
    state.store.delete_group(header.group, header.clean_offset).await?;
    state.progress.forget_group(header.group);
    let retry_topic = names::retry_topic(header.group);
    if header.clean_offset && state.store.topic(&retry_topic).is_some() {
        state.store.delete_topic(&retry_topic).await?;
    }
    tracing::info!(group = header.group, offsets = header.clean_offset, "consumer group deleted");
    Ok(changed(&state, "consumer group", header.group).await)
}

/// Code 352.
pub(super) fn one(state: &State, frame: &Frame) -> Handled {
    let header = Group::decode(&frame.fields)?;
    let group = groups::existing(state, header.group)?;
    Ok(Answer::bytes(json::encode(&bodies::of_group(&group))))
}

/// Code 201: everything, or a page of it in the order of names.
pub(super) fn all(state: &State, frame: &Frame) -> Handled {
    let header = AllGroups::decode(&frame.fields)?;
    let version = version(state.store.group_version());
    let mut all = state.store.groups();
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let total = i32::try_from(all.len()).unwrap_or(i32::MAX);
    let page = Page::of(header.from, header.max, header.data_version, version);
    let table = GroupTable {
        data_version: version,
        subscription_group_table: page
            .cut(all.iter())
            .map(|group| (group.name.clone(), bodies::of_group(group)))
            .collect(),
        ..GroupTable::default()
    };
    Ok(Answer::header(GroupCount { total }).with_json(&table))
}

/// Code 300: the groups that are connected and those that left offsets behind.
pub(super) fn groups_of_topic(state: &State, frame: &Frame) -> Handled {
    let header = TopicHeader::decode(&frame.fields)?;
    let mut groups: BTreeSet<String> =
        state.clients.groups_reading(header.topic).into_iter().collect();
    if let Some(topic) = state.store.topic(header.topic) {
        groups.extend(state.store.groups_with_offsets_on(topic.id)?);
    }
    let group_list = groups.into_iter().collect();
    Ok(Answer::bytes(json::encode(&GroupList { group_list })))
}

/// Code 343.
pub(super) fn topics_of_group(state: &State, frame: &Frame) -> Handled {
    let header = Group::decode(&frame.fields)?;
    let topics = read_topics(state, header.group)?;
    let topic_list = topics.iter().map(|topic| topic.config.name.clone()).collect();
    Ok(Answer::bytes(json::encode(&TopicList { topic_list, broker_addr: None })))
}

/// The topics that a group is subscribed to or has offsets of, in the order of names.
fn read_topics(state: &State, group: &str) -> Result<Vec<Arc<Topic>>, ReadError> {
    let with_offsets: BTreeSet<_> =
        state.store.offsets_of_group(group)?.into_iter().map(|(id, ..)| id).collect();
    let subscribed: BTreeSet<String> = state.clients.topics_of(group).into_iter().collect();
    let mut topics = state.store.topics();
    topics.retain(|topic| {
        with_offsets.contains(&topic.id) || subscribed.contains(&topic.config.name)
    });
    topics.sort_unstable_by(|a, b| a.config.name.cmp(&b.config.name));
    Ok(topics)
}

/// Code 208.
pub(super) fn consume_stats(state: &State, frame: &Frame) -> Handled {
    let header = StatsHeader::decode(&frame.fields)?;
    let group = header.consumer_group;
    let named = header.topic.unwrap_or_default().split(';');
    let named = named.chain(frame.fields.get("topicList").unwrap_or_default().split(';'));
    let named: BTreeSet<&str> = named.filter(|topic| !topic.is_empty()).collect();
    let topics = if named.is_empty() {
        read_topics(state, group)?
    } else {
        named.into_iter().filter_map(|topic| state.store.topic(topic)).collect()
    };
    let mut stats = ConsumeStats {
        consume_tps: state.progress.rate(group, state.clock.now_ms()),
        ..ConsumeStats::default()
    };
    for topic in topics {
        for queue_id in 0..topic.config.read_queues {
            if let Some(progress) = progress(state, group, &topic, queue_id)? {
                let queue = MessageQueue {
                    broker_name: state.config.name.clone(),
                    queue_id: i32::try_from(queue_id).unwrap_or(i32::MAX),
                    topic: topic.config.name.clone(),
                };
                stats.offset_table.insert(queue, progress);
            }
        }
    }
    Ok(Answer::bytes(json::encode(&stats)))
}

/// How far a group is in a queue: from the start, if it has not committed anything there.
fn progress(
    state: &State,
    group: &str,
    topic: &Topic,
    queue_id: u32,
) -> Result<Option<Progress>, Refusal> {
    let Some(queue) = topic.queue(queue_id) else { return Ok(None) };
    let committed = state.store.committed_offset(group, topic.id, queue_id)?;
    let consumer = committed.unwrap_or_default();
    let pulled = state.progress.pulled_to(group, (topic.id, queue_id));
    let last = consumer.0.checked_sub(1).map(QueueOffset);
    let last_ms = match last {
        Some(last) => queue.store_time_at(last)?.unwrap_or(0),
        None => 0,
    };
    Ok(Some(Progress {
        broker_offset: queue.max()?.0.cast_signed(),
        consumer_offset: consumer.0.cast_signed(),
        last_timestamp: last_ms,
        pull_offset: pulled.unwrap_or(consumer).0.cast_signed(),
    }))
}

#[cfg(test)]
mod tests {
    use protocol::body::group::{ExponentialRetry, RetryKind, RetryPolicy, SimpleSubscription};

    use super::*;

    #[test]
    fn a_groups_configuration_survives_the_way_there_and_back() {
        let wire = GroupConfig {
            group_name: "g".to_owned(),
            retry_queue_nums: 3,
            consume_enable: false,
            group_retry_policy: RetryPolicy {
                exponential_retry_policy: Some(ExponentialRetry {
                    initial: 1,
                    max: 2,
                    multiplier: 3,
                }),
                kind: RetryKind::Exponential,
                ..RetryPolicy::default()
            },
            subscription_data_set: Some(vec![SimpleSubscription {
                topic: "T".to_owned(),
                ..SimpleSubscription::default()
            }]),
            ..GroupConfig::default()
        };
        assert_eq!(bodies::of_group(&bodies::to_group("g", wire.clone())), wire);
        let plain = GroupConfig { group_name: "g".to_owned(), ..GroupConfig::default() };
        assert_eq!(bodies::of_group(&bodies::to_group("g", plain.clone())), plain);
        assert_eq!(bodies::to_group("g", plain), storage::GroupConfig::new("g"));
    }
}
