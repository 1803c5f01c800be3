//! Topics as the broker manages them: which exist from the start, which come into being by
//! themselves, and how a new one becomes known.

use std::{collections::BTreeMap, sync::Arc};

use protocol::{frame::Frame, names, request::send::Send};
use storage::{FilterType, Topic, TopicConfig};

use crate::{
    confirm,
    request::{reply::Refusal, retry},
    state::State,
};

/// A new topic inherits from the one that has this bit.
pub(crate) const PERM_INHERIT: u32 = 1;
/// Producers may write.
pub(crate) const PERM_WRITE: u32 = 2;
/// Consumers may read.
pub(crate) const PERM_READ: u32 = 4;
/// Both.
pub(crate) const PERM_BOTH: u32 = PERM_READ | PERM_WRITE;
/// `topicSysFlag`: a topic of unit mode.
const UNIT: i32 = 1;
/// `topicSysFlag`: read by consumers of unit mode.
const UNIT_SUBSCRIBED: i32 = 2;

/// A topic with RocketMQ's defaults.
pub(crate) fn config(name: &str, queues: u32, perm: u32) -> TopicConfig {
    TopicConfig {
        name: name.to_owned(),
        read_queues: queues,
        write_queues: queues,
        perm,
        filter_type: FilterType::SingleTag,
        sys_flag: 0,
        order: false,
        attributes: BTreeMap::new(),
    }
}

/// The topics that exist from the start. Those of features that are not built yet are left out.
fn from_the_start(state: &State) -> Vec<TopicConfig> {
    let config_ = &state.config;
    let shared = |allowed: bool| if allowed { PERM_INHERIT | PERM_BOTH } else { PERM_INHERIT };
    let mut topics = vec![
        config(names::SELF_TEST_TOPIC, 1, PERM_BOTH),
        config(names::BENCHMARK_TOPIC, 1024, PERM_BOTH),
        config(&config_.cluster, 16, shared(config_.cluster_topic)),
        config(&config_.name, 1, shared(config_.broker_topic)),
        config(names::OFFSET_MOVED_TOPIC, 1, PERM_BOTH),
    ];
    if config_.auto_create_topic {
        let queues = config_.auto_topic_queues;
        topics.push(config(names::AUTO_CREATE_TOPIC, queues, PERM_INHERIT | PERM_BOTH));
    }
    if config_.trace_topic {
        topics.push(config(names::TRACE_TOPIC, 1, PERM_BOTH));
    }
    topics
}

/// Creates what is missing of the topics that exist from the start, and closes auto-creation if it
/// was switched off since.
///
/// # Errors
///
/// When the store refuses.
pub(crate) async fn create_system_topics(state: &State) -> Result<(), storage::StateError> {
    for topic in from_the_start(state) {
        if state.store.topic(&topic.name).is_none() {
            state.store.put_topic(topic).await?;
        }
    }
    if !state.config.auto_create_topic && state.store.topic(names::AUTO_CREATE_TOPIC).is_some() {
        state.store.delete_topic(names::AUTO_CREATE_TOPIC).await?;
    }
    Ok(())
}

/// Whether a topic is the broker's own: users may neither create nor delete it.
pub(crate) fn is_system(state: &State, topic: &str) -> bool {
    names::is_system_topic(topic) || topic == state.config.cluster || topic == state.config.name
}

/// The topic that a send to a missing one would create, or nothing if it may not.
///
/// # Source: `TopicConfigManager.createTopicInSendMessageMethod`
pub(crate) fn for_send(state: &State, frame: &Frame) -> Option<TopicConfig> {
    let header = Send::decode(&frame.fields).ok()?;
    let name = retry::destination(state, &header, frame.version).ok()?;
    if names::is_retry_topic(&name) || names::is_dlq_topic(&name) {
        let mut topic = config(&name, 1, PERM_BOTH);
        topic.sys_flag = if header.unit_mode { UNIT_SUBSCRIBED } else { 0 };
        return Some(topic);
    }
    if name.starts_with('%') {
        return None;
    }
    let template = state.store.topic(header.default_topic?)?;
    if template.config.perm & PERM_INHERIT == 0 {
        return None;
    }
    let wanted = u32::try_from(header.default_topic_queues).unwrap_or(0);
    let queues = wanted.min(template.config.write_queues);
    Some(TopicConfig {
        filter_type: template.config.filter_type,
        sys_flag: if header.unit_mode { UNIT } else { 0 },
        ..config(&name, queues, template.config.perm & !PERM_INHERIT)
    })
}

/// The retry topic of a group.
pub(crate) fn retry(group: &str, queues: u32, unit_mode: bool) -> TopicConfig {
    let mut topic = config(&names::retry_topic(group), queues, PERM_BOTH);
    topic.sys_flag = if unit_mode { UNIT_SUBSCRIBED } else { 0 };
    topic
}

/// Creates a topic unless it exists, and returns when the name servers know it: the client's next
/// step is to ask them for its route.
///
/// # Errors
///
/// When the store refuses.
pub(crate) async fn create(state: &State, config: TopicConfig) -> Result<Arc<Topic>, Refusal> {
    // Many first sends arrive together; one of them creates the topic.
    let creating = state.creating(&config.name).await;
    if let Some(topic) = state.store.topic(&config.name) {
        return Ok(topic);
    }
    let topic = state.store.put_topic(config).await?;
    drop(creating);
    tracing::info!(
        topic = topic.config.name,
        queues = topic.config.write_queues,
        perm = topic.config.perm,
        "topic created"
    );
    state.registrar.publish(&topic).await;
    // What cannot be confirmed is in the log; the messages that follow are answered accordingly.
    let _ = confirm::change(state, &format!("topic {}", topic.config.name)).await;
    Ok(topic)
}

/// The refusal of something that the topic's permission excludes.
pub(crate) fn forbids(topic: &Topic, action: &'static str) -> Refusal {
    Refusal::TopicForbids {
        topic: topic.config.name.clone(),
        action,
        permission: topic.config.perm,
    }
}

/// The refusal of a queue that does not exist.
pub(crate) fn no_queue(topic: &Topic, queue_id: i32) -> Refusal {
    let config = &topic.config;
    Refusal::NoQueue {
        topic: config.name.clone(),
        queue_id,
        queues: config.read_queues.max(config.write_queues),
    }
}
