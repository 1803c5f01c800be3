//! Topics: create or change (17), delete (215), read (21, 351), statistics (202) and the broker's own
//! (305).

use std::{collections::BTreeMap, sync::Arc};

use protocol::{
    body::{
        DataVersion, MessageQueue,
        register::RegisterBody,
        stats::{QueueBounds, TopicStats},
        topic::{FilterType, TopicConfigTable, TopicList},
    },
    frame::Frame,
    json, names,
    request::topic::{AllTopics, CreateTopic, Topic as TopicHeader, TopicCount},
};
use storage::{Boundary, QueueOffset, ReadError, Topic, bodies};

use super::reply::{Answer, Handled, Refusal};
use crate::{confirm, state::State, stats::per_second, topics};

/// Most queues of one topic.
const QUEUES_MAX: i32 = 65_536;
/// How far back the rate of a topic looks.
const RATE_WINDOW_MS: i64 = 60_000;

/// Code 17. Answered when the name servers know the topic.
pub(super) async fn create(state: Arc<State>, frame: Frame) -> Handled {
    let header = CreateTopic::decode(&frame.fields)?;
    names::check_topic(header.topic)?;
    if topics::is_system(&state, header.topic) {
        return Err(system_topic(header.topic));
    }
    let creating = state.creating(header.topic).await;
    let known = state.store.topic(header.topic);
    let known_attributes = known.as_ref().map(|topic| &topic.config.attributes);
    let config = storage::TopicConfig {
        name: header.topic.to_owned(),
        read_queues: queue_count("readQueueNums", header.read_queues)?,
        write_queues: queue_count("writeQueueNums", header.write_queues)?,
        perm: u32::try_from(header.perm).ok().filter(|perm| *perm < 16).ok_or_else(|| {
            parameter("perm", header.perm, "expected 0 to 15: 4 read, 2 write, 1 inherit")
        })?,
        filter_type: stored(FilterType::from_name(header.filter_type.unwrap_or_default())),
        sys_flag: header.sys_flag,
        order: header.order,
        attributes: changed_attributes(known_attributes, header.attributes.unwrap_or_default())?,
    };
    if known.is_some_and(|topic| topic.config == config) {
        return Ok(Answer::done());
    }
    let topic = state.store.put_topic(config).await?;
    drop(creating);
    tracing::info!(topic = topic.config.name, config = ?topic.config, "topic created or changed");
    state.registrar.publish(&topic).await;
    Ok(changed(&state, "topic", header.topic).await)
}

/// The answer to a change that was made: success when as many slaves have it as it takes.
pub(super) async fn changed(state: &State, kind: &str, name: &str) -> Answer {
    match confirm::change(state, &format!("{kind} {name}")).await {
        Ok(()) => Answer::done(),
        Err(reason) => Answer::done().with_code(reason.code(), reason.to_string()),
    }
}

fn queue_count(field: &'static str, count: i32) -> Result<u32, Refusal> {
    let valid = (0..=QUEUES_MAX).contains(&count).then_some(count);
    valid
        .and_then(|count| u32::try_from(count).ok())
        .ok_or_else(|| parameter(field, count, "expected 0 to 65536"))
}

fn parameter(field: &'static str, value: impl ToString, expected: &str) -> Refusal {
    Refusal::Parameter { field, value: value.to_string(), expected: expected.to_owned() }
}

fn system_topic(topic: &str) -> Refusal {
    parameter("topic", topic, "which belongs to the broker; choose another name")
}

/// Applies `+key=value,-key` to the attributes a topic has.
fn changed_attributes(
    known: Option<&BTreeMap<String, String>>,
    changes: &str,
) -> Result<BTreeMap<String, String>, Refusal> {
    let mut attributes = known.cloned().unwrap_or_default();
    for change in changes.split(',').map(str::trim).filter(|change| !change.is_empty()) {
        let wrong = |expected| parameter("attributes", change, expected);
        match (change.strip_prefix('+'), change.strip_prefix('-')) {
            (Some(pair), _) => {
                let (key, value) =
                    pair.split_once('=').ok_or_else(|| wrong("expected +key=value or -key"))?;
                check_attribute(key, value).map_err(wrong)?;
                attributes.insert(key.to_owned(), value.to_owned());
            }
            (_, Some(key)) => {
                attributes.remove(key);
            }
            _ => return Err(wrong("expected +key=value or -key")),
        }
    }
    Ok(attributes)
}

/// # Source: `TopicAttributes`
fn check_attribute(key: &str, value: &str) -> Result<(), &'static str> {
    const TYPES: [&str; 6] = ["UNSPECIFIED", "NORMAL", "FIFO", "DELAY", "TRANSACTION", "MIXED"];
    match (key, value) {
        ("queue.type", "SimpleCQ" | "RocksDBCQ") | ("cleanup.policy", "DELETE") => Ok(()),
        ("queue.type", _) => Err("queues of batches are not supported yet; leave queue.type out"),
        ("cleanup.policy", _) => Err("compaction is not supported yet; leave cleanup.policy out"),
        ("message.type", value) if TYPES.contains(&value) => Ok(()),
        ("message.type", _) => {
            Err("expected NORMAL, FIFO, DELAY, TRANSACTION, MIXED or UNSPECIFIED")
        }
        ("reserve.time", value) if value.parse::<i64>().is_ok() => Ok(()),
        ("reserve.time", _) => Err("expected a number"),
        _ => Err("expected queue.type, cleanup.policy, message.type or reserve.time"),
    }
}

/// Code 215.
pub(super) async fn delete(state: Arc<State>, frame: Frame) -> Handled {
    let header = TopicHeader::decode(&frame.fields)?;
    names::check_topic(header.topic)?;
    if topics::is_system(&state, header.topic) {
        return Err(system_topic(header.topic));
    }
    // Deleting what is not there is done already, as RocketMQ sees it.
    if let Some(topic) = state.store.topic(header.topic) {
        state.store.delete_topic(header.topic).await?;
        state.progress.forget_topic(topic.id);
        tracing::info!(topic = header.topic, "topic deleted");
        return Ok(changed(&state, "topic", header.topic).await);
    }
    Ok(Answer::done())
}

/// Code 351.
pub(super) fn one(state: &State, frame: &Frame) -> Handled {
    let header = TopicHeader::decode(&frame.fields)?;
    let topic = state.topic(header.topic)?;
    Ok(Answer::bytes(json::encode(&bodies::of_topic(&topic.config))))
}

/// Code 21: everything, or a page of it in the order of names.
pub(super) fn all(state: &State, frame: &Frame) -> Handled {
    let header = AllTopics::decode(&frame.fields)?;
    let version = version(state.store.topic_version());
    let mut all: Vec<Arc<Topic>> = state.store.topics();
    all.sort_unstable_by(|a, b| a.config.name.cmp(&b.config.name));
    let total = i32::try_from(all.len()).unwrap_or(i32::MAX);
    let page = Page::of(header.from, header.max, header.data_version, version);
    let table = page.cut(all.iter().map(|topic| topic.config.clone()));
    let answer = Answer::header(TopicCount { total });
    Ok(answer.with_json(&table_of(version, table)))
}

/// Which part of a list is wanted.
pub(super) struct Page {
    from: usize,
    max: usize,
}

impl Page {
    /// Everything unless a part is asked for; from the start if the list changed since.
    pub(super) fn of(
        from: Option<i32>,
        max: Option<i32>,
        seen: Option<&str>,
        now: DataVersion,
    ) -> Self {
        let Some(from) = from else { return Self { from: 0, max: usize::MAX } };
        let seen = seen.and_then(|seen| json::decode::<DataVersion>(seen.as_bytes()).ok());
        let changed = from > 0 && seen.is_some_and(|seen| seen != now);
        Self {
            from: if changed { 0 } else { usize::try_from(from).unwrap_or(0) },
            max: max
                .and_then(|max| usize::try_from(max).ok())
                .filter(|max| *max > 0)
                .unwrap_or(2_000),
        }
    }

    /// The part.
    pub(super) fn cut<T>(&self, all: impl Iterator<Item = T>) -> impl Iterator<Item = T> {
        all.skip(self.from).take(self.max)
    }
}

/// Code 202.
pub(super) fn stats(state: &State, frame: &Frame) -> Handled {
    let header = TopicHeader::decode(&frame.fields)?;
    let topic = state.topic(header.topic)?;
    let mut stats = TopicStats::default();
    let since_ms = state.clock.now_ms() - RATE_WINDOW_MS;
    let mut recent = 0;
    for queue_id in 0..topic.config.write_queues.max(topic.config.read_queues) {
        let (bounds, new) = queue_stats(&topic, queue_id, since_ms)?;
        recent += new;
        let queue = MessageQueue {
            broker_name: state.config.name.clone(),
            queue_id: i32::try_from(queue_id).unwrap_or(i32::MAX),
            topic: header.topic.to_owned(),
        };
        stats.offset_table.insert(queue, bounds);
    }
    stats.topic_put_tps = per_second(recent, RATE_WINDOW_MS);
    Ok(Answer::bytes(json::encode(&stats)))
}

/// The bounds of a queue, and how many messages it got since a time.
fn queue_stats(topic: &Topic, id: u32, since_ms: i64) -> Result<(QueueBounds, u64), ReadError> {
    let Some(queue) = topic.queue(id) else { return Ok((QueueBounds::default(), 0)) };
    let (min, max) = (queue.min()?, queue.max()?);
    let last = max.0.checked_sub(1).map(QueueOffset);
    let stored_ms = match last {
        Some(last) => queue.store_time_at(last)?.unwrap_or(0),
        None => 0,
    };
    let recent = if stored_ms > since_ms {
        max.0.saturating_sub(queue.offset_at_time(since_ms, Boundary::Lower)?.0)
    } else {
        0
    };
    let bounds = QueueBounds {
        last_update_timestamp: stored_ms,
        max_offset: max.0.cast_signed(),
        min_offset: min.0.cast_signed(),
    };
    Ok((bounds, recent))
}

/// Code 305.
pub(super) fn system_list(state: &State, _: &Frame) -> Handled {
    let mut topic_list: Vec<String> = state
        .store
        .topics()
        .iter()
        .map(|topic| topic.config.name.clone())
        .filter(|name| topics::is_system(state, name))
        .collect();
    topic_list.sort_unstable();
    Ok(Answer::bytes(json::encode(&TopicList { topic_list, broker_addr: None })))
}

/// The body of a registration with these topics.
pub(crate) fn registration(
    version: DataVersion,
    configs: impl Iterator<Item = storage::TopicConfig>,
) -> RegisterBody {
    RegisterBody {
        filter_server_list: Vec::new(),
        topic_config_serialize_wrapper: table_of(version, configs),
    }
}

fn table_of(
    version: DataVersion,
    configs: impl Iterator<Item = storage::TopicConfig>,
) -> TopicConfigTable {
    TopicConfigTable {
        data_version: version,
        mapping_data_version: Some(version),
        topic_config_table: configs
            .map(|config| (config.name.clone(), bodies::of_topic(&config)))
            .collect(),
        ..TopicConfigTable::default()
    }
}

/// A version as it travels.
pub(crate) fn version(version: storage::DataVersion) -> DataVersion {
    DataVersion {
        counter: version.counter,
        state_version: version.state_version,
        timestamp: version.timestamp,
    }
}

fn stored(filter: FilterType) -> storage::FilterType {
    match filter {
        FilterType::SingleTag => storage::FilterType::SingleTag,
        FilterType::MultiTag => storage::FilterType::MultiTag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_changed_one_by_one() {
        let known = BTreeMap::from([("message.type".to_owned(), "FIFO".to_owned())]);
        let changed = changed_attributes(Some(&known), "+reserve.time=5,-message.type").unwrap();
        assert_eq!(changed, BTreeMap::from([("reserve.time".to_owned(), "5".to_owned())]));
        assert_eq!(changed_attributes(Some(&known), "").unwrap(), known);
        for wrong in [
            "message.type=FIFO",
            "+message.type",
            "+message.type=LIFO",
            "+colour=red",
            "+queue.type=BatchCQ",
        ] {
            assert_eq!(changed_attributes(None, wrong).unwrap_err().code().0, 29, "{wrong}");
        }
    }

    #[test]
    fn pages_start_over_when_the_list_changed() {
        let now = DataVersion { counter: 2, ..DataVersion::default() };
        let cut = |from, seen: Option<&str>| {
            let page = Page::of(from, Some(2), seen, now);
            page.cut(0..5).collect::<Vec<i32>>()
        };
        assert_eq!(cut(None, None), [0, 1, 2, 3, 4], "older peers get everything");
        assert_eq!(cut(Some(2), Some("{\"counter\":2}")), [2, 3]);
        assert_eq!(cut(Some(2), Some("{\"counter\":1}")), [0, 1]);
        assert_eq!(cut(Some(9), None), [0; 0]);
    }
}
