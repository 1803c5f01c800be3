//! Offsets: what groups committed (14, 15) and where queues begin and end (29 to 32).

use std::sync::Arc;

use protocol::{
    frame::Frame,
    request::offset::{Commit, Offset, Query, Queue as QueueHeader, Search, StoreTime},
};
use storage::{Boundary, Mode, Queue, QueueOffset, ReadError, ReadLimits, ReadStatus, Topic};

use super::reply::{Answer, Handled, Refusal};
use crate::{groups, state::State, topics};

/// Code 15.
pub(super) fn commit(state: &State, frame: &Frame) -> Handled {
    let header = Commit::decode(&frame.fields)?;
    groups::existing(state, header.consumer_group)?;
    let topic = state.topic(header.topic)?;
    let queue_id = queue_id(&topic, header.queue_id)?;
    let offset = u64::try_from(header.commit_offset).map_err(|_| Refusal::Parameter {
        field: "commitOffset",
        value: header.commit_offset.to_string(),
        expected: "expected 0 or more".to_owned(),
    })?;
    state.store.commit_offset(header.consumer_group, &topic, queue_id, QueueOffset(offset));
    Ok(Answer::done())
}

/// Code 14. A group without an offset may be told 0 while the topic is young: its first consumers
/// then miss nothing that was sent before they came.
///
/// # Source: `ConsumerManageProcessor.queryConsumerOffset`
pub(super) fn query(state: &State, frame: &Frame) -> Handled {
    let header = Query::decode(&frame.fields)?;
    let (topic, queue, queue_id) = named_queue(state, header.topic, header.queue_id)?;
    let committed = state.store.committed_offset(header.consumer_group, topic.id, queue_id)?;
    if let Some(offset) = committed {
        return Ok(at(offset));
    }
    let allowed = header.set_zero_if_not_found != Some(false);
    if allowed && queue.min()? == QueueOffset(0) && starts_in_memory(&queue)? {
        return Ok(at(QueueOffset(0)));
    }
    Err(Refusal::NotFound(format!(
        "group {} has committed no offset of queue {queue_id} of topic {}",
        header.consumer_group, header.topic
    )))
}

/// Whether the queue's first message, if there is one, is still in memory.
fn starts_in_memory(queue: &Queue) -> Result<bool, ReadError> {
    let limits = ReadLimits { max_messages: 1, max_bytes: 1 };
    match queue.read(QueueOffset(0), limits, Mode::HotOnly, &|_| true) {
        Ok(read) => Ok(read.status != ReadStatus::OffsetTooSmall),
        Err(ReadError::Cold) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Code 30.
pub(super) fn max(state: &State, frame: &Frame) -> Handled {
    let header = QueueHeader::decode(&frame.fields)?;
    let (_, queue, _) = named_queue(state, header.topic, header.queue_id)?;
    Ok(at(queue.max()?))
}

/// Code 31.
pub(super) fn min(state: &State, frame: &Frame) -> Handled {
    let header = QueueHeader::decode(&frame.fields)?;
    let (_, queue, _) = named_queue(state, header.topic, header.queue_id)?;
    Ok(at(queue.min()?))
}

/// Code 29.
pub(super) fn search(state: &State, frame: &Frame) -> Handled {
    let header = Search::decode(&frame.fields)?;
    let (_, queue, _) = named_queue(state, header.topic, header.queue_id)?;
    let boundary = match header.boundary {
        Some(text) if text.eq_ignore_ascii_case("upper") => Boundary::Upper,
        _ => Boundary::Lower,
    };
    Ok(at(queue.offset_at_time(header.timestamp, boundary)?))
}

/// Code 32.
pub(super) fn earliest_store_time(state: &State, frame: &Frame) -> Handled {
    let header = QueueHeader::decode(&frame.fields)?;
    let (_, queue, _) = named_queue(state, header.topic, header.queue_id)?;
    let timestamp = queue.store_time_at(queue.min()?)?.unwrap_or(-1);
    Ok(Answer::header(StoreTime { timestamp }))
}

fn at(offset: QueueOffset) -> Answer {
    Answer::header(Offset { offset: offset.0.cast_signed() })
}

fn named_queue(
    state: &State,
    topic: &str,
    id: i32,
) -> Result<(Arc<Topic>, Arc<Queue>, u32), Refusal> {
    let topic = state.topic(topic)?;
    let queue_id = queue_id(&topic, id)?;
    let queue = topic.queue(queue_id).ok_or_else(|| topics::no_queue(&topic, id))?;
    Ok((topic, queue, queue_id))
}

/// The queue's number, if the topic has it.
fn queue_id(topic: &Topic, id: i32) -> Result<u32, Refusal> {
    let queues = topic.config.read_queues.max(topic.config.write_queues);
    let valid = u32::try_from(id).ok().filter(|id| *id < queues);
    valid.ok_or_else(|| topics::no_queue(topic, id))
}
