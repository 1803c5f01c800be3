//! Queue locks for ordered consumption: codes 41 and 42.

use protocol::{
    body::{
        MessageQueue,
        lock::{Locked, QueueSet},
    },
    frame::Frame,
    json,
};

use super::reply::{Answer, Handled};
use crate::{locks::QueueKey, state::State};

/// Code 41. The answer names the queues that the client holds now.
pub(super) fn lock(state: &State, frame: &Frame) -> Handled {
    let request: QueueSet = json::decode(&frame.body)?;
    let now_ms = state.clock.now_ms();
    let mut held = request.mq_set;
    held.retain(|queue| {
        // Locks of queues that do not exist would only fill the memory.
        exists(state, queue)
            && state.locks.lock(&request.consumer_group, key(queue), &request.client_id, now_ms)
    });
    Ok(Answer::bytes(json::encode(&Locked { lock_ok_mq_set: held })))
}

/// Code 42.
pub(super) fn unlock(state: &State, frame: &Frame) -> Handled {
    let request: QueueSet = json::decode(&frame.body)?;
    for queue in &request.mq_set {
        state.locks.unlock(&request.consumer_group, &key(queue), &request.client_id);
    }
    Ok(Answer::done())
}

fn key(queue: &MessageQueue) -> QueueKey {
    (queue.topic.as_str().into(), queue.queue_id)
}

fn exists(state: &State, queue: &MessageQueue) -> bool {
    let topic = state.store.topic(&queue.topic);
    let id = u32::try_from(queue.queue_id);
    topic.is_some_and(|topic| {
        id.is_ok_and(|id| id < topic.config.read_queues.max(topic.config.write_queues))
    })
}
