//! Retries: the return of a message whose consumption failed (code 36), and sends to retry topics.
//!
//! Delay levels are not built yet, so a retry cannot wait. Nothing is lost by that: the message goes
//! to the group's retry topic at once with its count raised, and to the dead-letter topic after the
//! group's maximum, exactly as RocketMQ counts. What differs is the pause between two attempts, of
//! which the log tells once per group. Refusing instead would lose messages: some clients drop what
//! they cannot send back.

use std::{borrow::Cow, sync::Arc};

use protocol::{
    frame::Frame,
    message_id::OffsetId,
    names, property,
    record::{NewRecord, RecordView},
    request::send::{Send, SendBack},
};
use storage::{AppendBatch, GroupConfig, LogOffset, Topic};

use super::reply::{Answer, Handled, Refusal};
use crate::{
    confirm::{self, Unconfirmed},
    groups,
    state::State,
    topics,
};

/// Clients from this version on may say how often a message may fail. Source: `MQVersion.V3_4_9`.
const VERSION_WITH_MAXIMUM: i32 = 121;

/// The topic that a send really goes to: a retry past its maximum, or of a group that consumes in
/// order, is dead.
///
/// # Errors
///
/// When the group of a retry topic does not exist.
///
/// # Source: `SendMessageProcessor.handleRetryAndDLQ`
pub(crate) fn destination<'a>(
    state: &State,
    header: &Send<'a>,
    version: i32,
) -> Result<Cow<'a, str>, Refusal> {
    let Some(group) = header.topic.strip_prefix(names::RETRY_PREFIX) else {
        return Ok(Cow::Borrowed(header.topic));
    };
    let config = match state.store.group(group) {
        Some(config) => config,
        // A producer may be the first that names the group; its first consumer creates it.
        None if state.config.auto_create_group => Arc::new(GroupConfig::new(group)),
        None => return Err(Refusal::NoGroup { group: group.to_owned() }),
    };
    let max = max_times(&config, header.max_reconsume_times, version);
    let ordered = state.locks.holds_any(group, state.clock.now_ms());
    if header.reconsume_times > max || ordered {
        tracing::debug!(group, times = header.reconsume_times, max, ordered, "retry is dead");
        return Ok(Cow::Owned(names::dlq_topic(group)));
    }
    tell_about_pauses(state, group);
    Ok(Cow::Borrowed(header.topic))
}

fn max_times(group: &GroupConfig, wanted: Option<i32>, version: i32) -> i32 {
    match wanted {
        Some(max) if version >= VERSION_WITH_MAXIMUM => max,
        _ => group.retry_max_times,
    }
}

/// Code 36.
pub(super) async fn send_back(state: Arc<State>, frame: Frame) -> Handled {
    let header = SendBack::decode(&frame.fields)?;
    let group = groups::ensure(&state, header.group).await?;
    if state.config.permission & topics::PERM_WRITE == 0 {
        return Err(state.forbids("write"));
    }
    if group.retry_queues <= 0 {
        // The group wants no retries: RocketMQ drops the message and says that all is well.
        return Ok(Answer::done());
    }
    let bytes = state.record_at(header.log_offset).await?;
    let record = RecordView::parse(&bytes)
        .map_err(|error| Refusal::NotFound(format!("log offset {}: {error}", header.log_offset)))?;
    let max = max_times(&group, header.max_reconsume_times, frame.version);
    let dead = record.reconsume_times >= max || header.delay_level < 0;
    let topic = if dead {
        let name = names::dlq_topic(&group.name);
        topics::create(&state, topics::config(&name, 1, topics::PERM_BOTH)).await?
    } else {
        tell_about_pauses(&state, &group.name);
        let queues = u32::try_from(group.retry_queues).unwrap_or(1);
        topics::create(&state, topics::retry(&group.name, queues, header.unit_mode)).await?
    };
    let mut batch = AppendBatch::default();
    push_copy(&state, &record, &topic, &mut batch)?;
    store(&state, &mut batch).await?;
    Ok(Answer::done())
}

/// Adds the copy that the group will get: one failure more, and where it came from.
fn push_copy(
    state: &State,
    record: &RecordView<'_>,
    topic: &Arc<Topic>,
    batch: &mut AppendBatch,
) -> Result<(), Refusal> {
    // The copy gets a seal of its own.
    let gone = [property::DELAY, property::WAIT, property::CRC32];
    let kept = property::without(record.properties, &gone);
    let mut properties = kept.into_owned();
    if record.property(property::RETRY_TOPIC).is_none() {
        property::push(&mut properties, property::RETRY_TOPIC, record.topic);
    }
    if record.property(property::ORIGIN_MESSAGE_ID).is_none() {
        let id = OffsetId { host: record.store_host, log_offset: record.log_offset };
        property::push(&mut properties, property::ORIGIN_MESSAGE_ID, &id.to_string());
    }
    let queue_id = state.any_below(topic.config.write_queues);
    let copy = NewRecord {
        topic: &topic.config.name,
        queue_id: i32::try_from(queue_id).map_err(|_| topics::no_queue(topic, i32::MAX))?,
        flag: record.flag,
        sys_flag: record.sys_flag,
        born_timestamp: record.born_timestamp,
        born_host: record.born_host,
        store_host: state.store_host,
        reconsume_times: record.reconsume_times.saturating_add(1),
        prepared_transaction_offset: 0,
        body: record.body,
        properties: &[&properties],
    };
    batch.push(topic, queue_id, &copy)?;
    Ok(())
}

/// Appends, and waits until the store calls it safe.
async fn store(state: &State, batch: &mut AppendBatch) -> Result<(), Refusal> {
    state.store.append(batch)?;
    let results = batch.results();
    let bytes = results.iter().map(|record| u64::from(record.size)).sum();
    state.stats.put(results.len(), bytes);
    let end = results.last().map_or(0, |last| last.log_offset.0 + u64::from(last.size));
    match confirm::records(state, LogOffset(end)).await {
        Err(Unconfirmed::Poisoned(poison)) => Err(poison.into()),
        // Stored all the same, and RocketMQ counts that as done.
        _ => Ok(()),
    }
}

fn tell_about_pauses(state: &State, group: &str) {
    if state.told_about_pauses(group) {
        tracing::warn!(
            group,
            "retries of this group come back at once: delay levels are not built yet"
        );
    }
}
