//! The task of one owned queue: pull, take in, hand on, for as long as there is room.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::mpsc, time::sleep};

use super::{
    assigned::Assigned,
    group::{Batch, Group},
};
use crate::{
    error::Error,
    pull::{Answer, Ask, Outcome},
};

/// Pauses after failures: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Fills the queue's window until the task is aborted or nobody listens any more.
pub(super) async fn fill(group: Arc<Group>, assigned: Arc<Assigned>, ready: mpsc::Sender<Batch>) {
    let mut pause = PAUSES.0;
    loop {
        let (generation, from, committable) = assigned.room(group.settings.limits).await;
        match pull(&group, &assigned, from, committable).await {
            Ok(answer) => {
                pause = PAUSES.0;
                if let Some(batch) = take_in(&group, &assigned, generation, answer)
                    && ready.send(batch).await.is_err()
                {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    group = group.name(), queue = %assigned.queue(), %error,
                    retry_in_ms = pause.as_millis(), "a pull failed"
                );
                sleep(pause).await;
                pause = PAUSES.1.min(pause * 2);
            }
        }
    }
}

async fn pull(
    group: &Group,
    assigned: &Assigned,
    from: i64,
    committable: i64,
) -> Result<Answer, Error> {
    let queue = assigned.queue();
    let route = group.core.route(queue.topic()).await?;
    let suggested = assigned.suggested_broker_id.load(Ordering::Relaxed);
    let outcome = match route.reader(queue, suggested) {
        Ok((address, is_master)) => {
            let subscription = group
                .member
                .subscription(queue.topic())
                .map_or(("*", 0), |own| (own.expression(), own.version_ms()));
            let ask = Ask {
                group: group.name(),
                queue,
                from,
                max_messages: group.settings.pull_batch,
                subscription,
                // Slaves keep no offsets, and nothing is known yet at 0.
                commit: (is_master && !group.is_broadcasting() && committable > 0)
                    .then_some(committable),
                hold: Some(group.settings.pull_hold),
            };
            group.core.pull(address, ask).await
        }
        Err(error) => Err(error),
    };
    match &outcome {
        Ok(answer) => {
            assigned.suggested_broker_id.store(answer.suggested_broker_id, Ordering::Relaxed);
        }
        // The broker may have moved or gone; a changed route also makes the group divide anew.
        Err(_) => {
            assigned.suggested_broker_id.store(0, Ordering::Relaxed);
            let _ = group.core.refresh_route(queue.topic(), route.read_at()).await;
        }
    }
    outcome
}

fn take_in(
    group: &Group,
    assigned: &Arc<Assigned>,
    generation: u64,
    answer: Answer,
) -> Option<Batch> {
    let messages = match answer.outcome {
        Outcome::Found(messages) => messages,
        Outcome::Nothing | Outcome::Filtered => Vec::new(),
        Outcome::Moved => {
            tracing::warn!(
                group = group.name(), queue = %assigned.queue(), next = answer.next,
                min = answer.min, max = answer.max,
                "the queue does not reach the group's offset; going on from where it does"
            );
            assigned.reset(answer.next);
            return None;
        }
    };
    let subscription = group.member.subscription(assigned.queue().topic());
    let admitted = assigned.admit(generation, answer.next, messages, |message| {
        subscription.is_none_or(|own| own.accepts(message.tag()))
    })?;
    let batch = Batch::new(Arc::clone(assigned), generation, admitted.into_iter().map(|m| (m, 0)));
    (!batch.is_empty()).then_some(batch)
}
