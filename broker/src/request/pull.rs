//! Pulls: codes 11 and 361. A read that memory can serve is answered where it was read; one that
//! needs the disk goes to a blocking thread; one that finds nothing is held.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    code::ResponseCode,
    connection::{Body, Connection},
    frame::Frame,
    header::NoFields,
    limits,
    request::pull::{Pull, Pulled, flag},
};
use storage::{
    GroupConfig, Mode, Queue, QueueOffset, Read, ReadError, ReadLimits, ReadStatus, Topic,
};

use super::{
    reply::{Refusal, refuse},
    suggest::{Instead, Scene},
};
use crate::{
    clients::Lookup,
    filter::{self, Filter},
    groups,
    hold::{Wait, hold},
    state::{State, blocking},
    topics,
};

/// Longest time that a pull is held, whatever the client says: connections end after as long a
/// silence.
const HOLD_MAX_MS: u64 = 120_000;

/// What one try to read gave.
pub(crate) struct Attempt {
    code: ResponseCode,
    status: &'static str,
    header: Pulled,
    slices: Vec<Bytes>,
    messages: usize,
    wait: Option<Wait>,
}

/// Which try it is: only the first one commits an offset and may be held.
#[derive(Clone, Copy)]
struct Pass {
    first: bool,
    from: Option<QueueOffset>,
    mode: Mode,
}

/// Serves a pull as far as memory can.
pub(crate) fn request(state: &Arc<State>, connection: &Arc<Connection>, frame: Frame) {
    let pass = Pass { first: true, from: None, mode: Mode::HotOnly };
    match attempt(state, &frame, pass) {
        Err(Refusal::Read(ReadError::Cold)) => off_the_turn(state, connection, frame, None),
        Err(Refusal::NoGroup { group }) if state.config.auto_create_group => {
            off_the_turn(state, connection, frame, Some(group));
        }
        outcome => conclude(state, connection, frame, outcome),
    }
}

/// Serves a pull that must create its group or read the disk first.
fn off_the_turn(
    state: &Arc<State>,
    connection: &Arc<Connection>,
    frame: Frame,
    missing_group: Option<String>,
) {
    let place = match state.places.take() {
        Ok(place) => place,
        Err(refusal) => return refuse(connection, frame.ticket(), &refusal, &NoFields),
    };
    let (state, connection_) = (Arc::clone(state), Arc::clone(connection));
    connection.spawn(frame.ticket(), async move {
        let _place = place;
        if let Some(group) = missing_group
            && let Err(refusal) = groups::ensure(&state, &group).await
        {
            return answer(&state, &connection_, &frame, Err(refusal));
        }
        let pass = Pass { first: true, from: None, mode: Mode::MayBlock };
        let _room = connection_.room().await;
        let outcome = attempt_blocking(&state, &frame, pass).await;
        conclude(&state, &connection_, frame, outcome);
    });
}

/// Reads again for a held pull.
pub(crate) async fn again(
    state: &Arc<State>,
    frame: &Frame,
    from: QueueOffset,
) -> Result<Attempt, Refusal> {
    let pass = Pass { first: false, from: Some(from), mode: Mode::HotOnly };
    match attempt(state, frame, pass) {
        Err(Refusal::Read(ReadError::Cold)) => {
            attempt_blocking(state, frame, Pass { mode: Mode::MayBlock, ..pass }).await
        }
        outcome => outcome,
    }
}

async fn attempt_blocking(
    state: &Arc<State>,
    frame: &Frame,
    pass: Pass,
) -> Result<Attempt, Refusal> {
    // One message is read even if it is larger than what was asked for.
    let share = state.budget.share(state.largest_record().max(state.config.pull_max_bytes)).await;
    let (state, frame) = (Arc::clone(state), frame.clone());
    let attempt = blocking(move || attempt(&state, &frame, pass)).await?;
    Ok(Attempt { slices: share.spend(attempt.slices), ..attempt })
}

/// Holds the pull if it may wait, answers it otherwise.
fn conclude(
    state: &Arc<State>,
    connection: &Arc<Connection>,
    frame: Frame,
    outcome: Result<Attempt, Refusal>,
) {
    match outcome {
        Ok(Attempt { wait: Some(wait), .. }) => {
            let ticket = frame.ticket();
            if let Err(refusal) = hold(state, connection, frame, wait) {
                refuse(connection, ticket, &refusal, &NoFields);
            }
        }
        outcome => answer(state, connection, &frame, outcome),
    }
}

/// Writes the answer.
pub(crate) fn answer(
    state: &State,
    connection: &Arc<Connection>,
    frame: &Frame,
    outcome: Result<Attempt, Refusal>,
) {
    let ticket = frame.ticket();
    match outcome {
        Ok(attempt) => {
            state.stats.pulled(attempt.messages);
            let body =
                if attempt.slices.is_empty() { Body::Empty } else { Body::Slices(attempt.slices) };
            connection.reply(ticket, attempt.code, Some(attempt.status), &attempt.header, body);
        }
        Err(refusal) => match refusal.forbidden_type() {
            Some(kind) => {
                refuse(
                    connection,
                    ticket,
                    &refusal,
                    &[("forbiddenType", kind.to_string().as_str())],
                );
            }
            None => refuse(connection, ticket, &refusal, &NoFields),
        },
    }
}

fn attempt(state: &State, frame: &Frame, pass: Pass) -> Result<Attempt, Refusal> {
    let header = Pull::decode(&frame.fields)?;
    let (group, topic) = check(state, &header)?;
    let queue_id = u32::try_from(header.queue_id)
        .ok()
        .filter(|id| *id < topic.config.read_queues)
        .ok_or_else(|| topics::no_queue(&topic, header.queue_id))?;
    let queue = topic.queue(queue_id).ok_or_else(|| topics::no_queue(&topic, header.queue_id))?;
    let filter = filter(state, &header, &group)?;
    if pass.first
        && header.sys_flag & flag::COMMIT_OFFSET != 0
        && let Ok(offset) = u64::try_from(header.commit_offset)
    {
        state.store.commit_offset(header.consumer_group, &topic, queue_id, QueueOffset(offset));
    }
    let from = pass.from.map_or(header.queue_offset, |from| from.0.cast_signed());
    let read = match u64::try_from(from) {
        Ok(from) => queue.read(QueueOffset(from), limits(state, &header), pass.mode, &|hash| {
            filter.accepts(hash)
        })?,
        Err(_) => before_the_start(&queue)?,
    };
    let next = (topic.id, queue_id);
    state.progress.pulled(header.consumer_group, next, read.next, read.messages);
    Ok(Attempt::of(state, &header, pass, read, (&group, &topic, queue)))
}

/// Who asks for what, in RocketMQ's order of checks.
fn check(state: &State, header: &Pull<'_>) -> Result<(Arc<GroupConfig>, Arc<Topic>), Refusal> {
    if state.config.permission & topics::PERM_READ == 0 {
        return Err(state.forbids("read"));
    }
    let group = groups::reading(state, header.consumer_group)?;
    if !group.consume_enable {
        return Err(forbidden(header, "consume: its consumeEnable is false", 2));
    }
    let topic = state.topic(header.topic)?;
    if topic.config.perm & topics::PERM_READ == 0 {
        return Err(topics::forbids(&topic, "read"));
    }
    Ok((group, topic))
}

/// What of the topic is wanted: as the request says, or as the group's heartbeats said.
fn filter(state: &State, header: &Pull<'_>, group: &GroupConfig) -> Result<Filter, Refusal> {
    let expression_type = header.expression_type;
    if header.sys_flag & flag::SUBSCRIPTION != 0 {
        if !filter::is_tag_type(expression_type) {
            let kind = expression_type.unwrap_or_default().to_owned();
            return Err(Refusal::ExpressionType { kind });
        }
        let filter = Filter::parse(header.subscription).ok_or_else(|| Refusal::Expression {
            topic: header.topic.to_owned(),
            expression: header.subscription.unwrap_or_default().to_owned(),
        })?;
        return Ok(if header.sys_flag & flag::CLASS_FILTER == 0 { filter } else { Filter::All });
    }
    match state.clients.lookup(header.consumer_group, header.topic) {
        Lookup::NoGroup | Lookup::NoSubscription => Err(Refusal::NoSubscription {
            group: header.consumer_group.to_owned(),
            topic: header.topic.to_owned(),
        }),
        Lookup::Subscribed { broadcast: true, .. } if !group.consume_broadcast_enable => {
            Err(forbidden(header, "broadcast: its consumeBroadcastEnable is false", 4))
        }
        Lookup::Subscribed { subscription, .. } => match &subscription.filter {
            None => Err(Refusal::ExpressionType { kind: subscription.expression_type.clone() }),
            // RocketMQ answers SUBSCRIPTION_NOT_LATEST to a client that is ahead of its own
            // heartbeat, and a 5.x client then waits up to 30 s for the next one. Unfiltered
            // messages do no harm: every client checks the tags again.
            Some(_)
                if subscription.class_filter
                    || subscription.version < header.subscription_version =>
            {
                Ok(Filter::All)
            }
            Some(filter) => Ok(filter.clone()),
        },
    }
}

fn forbidden(header: &Pull<'_>, action: &'static str, kind: i32) -> Refusal {
    Refusal::GroupForbidden { group: header.consumer_group.to_owned(), action, kind }
}

fn limits(state: &State, header: &Pull<'_>) -> ReadLimits {
    let wanted =
        usize::try_from(header.max_messages).unwrap_or(0).clamp(1, limits::PULL_MAX_MESSAGES);
    let max_bytes = state.config.pull_max_bytes;
    let wanted_bytes = header.max_bytes.and_then(|max| usize::try_from(max).ok());
    ReadLimits {
        max_messages: wanted.min(state.config.pull_max_messages),
        max_bytes: wanted_bytes.filter(|max| *max > 0).map_or(max_bytes, |max| max.min(max_bytes)),
    }
}

/// The read of an offset below zero, which no [`QueueOffset`] can say.
fn before_the_start(queue: &Queue) -> Result<Read, ReadError> {
    let (min, max) = (queue.min()?, queue.max()?);
    Ok(Read {
        status: ReadStatus::OffsetTooSmall,
        slices: Vec::new(),
        messages: 0,
        next: min,
        min,
        max,
    })
}

/// What clients are told of a read that began at `from`.
fn outcome(status: ReadStatus, from: i64) -> (ResponseCode, &'static str) {
    let gone =
        if from == 0 { ResponseCode::PULL_NOT_FOUND } else { ResponseCode::PULL_OFFSET_MOVED };
    match status {
        ReadStatus::Found => (ResponseCode::SUCCESS, "FOUND"),
        ReadStatus::NoMatchedMessage => {
            (ResponseCode::PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE")
        }
        ReadStatus::MessageWasRemoving => {
            (ResponseCode::PULL_RETRY_IMMEDIATELY, "MESSAGE_WAS_REMOVING")
        }
        ReadStatus::OffsetFoundNull => (ResponseCode::PULL_NOT_FOUND, "OFFSET_FOUND_NULL"),
        ReadStatus::OffsetOverflowBadly => {
            (ResponseCode::PULL_OFFSET_MOVED, "OFFSET_OVERFLOW_BADLY")
        }
        ReadStatus::OffsetOverflowOne => (ResponseCode::PULL_NOT_FOUND, "OFFSET_OVERFLOW_ONE"),
        ReadStatus::OffsetTooSmall => (ResponseCode::PULL_OFFSET_MOVED, "OFFSET_TOO_SMALL"),
        ReadStatus::NoMatchedLogicQueue => (gone, "NO_MATCHED_LOGIC_QUEUE"),
        ReadStatus::NoMessageInQueue => (gone, "NO_MESSAGE_IN_QUEUE"),
    }
}

impl Attempt {
    fn of(
        state: &State,
        header: &Pull<'_>,
        pass: Pass,
        read: Read,
        (group, topic, queue): (&GroupConfig, &Topic, Arc<Queue>),
    ) -> Self {
        let from = pass.from.map_or(header.queue_offset, |from| from.0.cast_signed());
        let scene = Scene::of(state, group, &read);
        let (mut code, mut status) = outcome(read.status, from);
        let mut next = read.next.0.cast_signed();
        match scene.instead(read.status, code) {
            Instead::Nothing => {}
            Instead::AskMaster => {
                (code, status) = outcome(ReadStatus::NoMatchedMessage, from);
                next = from;
            }
            Instead::Wait => {
                (code, status) = outcome(ReadStatus::OffsetOverflowOne, from);
                next = from;
            }
        }
        let may_wait = pass.first
            && code == ResponseCode::PULL_NOT_FOUND
            && header.sys_flag & flag::SUSPEND != 0
            && next == from;
        let wait = may_wait.then(|| Wait {
            queue,
            from: QueueOffset(next.cast_unsigned()),
            timeout: Duration::from_millis(if state.config.long_poll {
                u64::try_from(header.suspend_timeout_ms).unwrap_or(0).min(HOLD_MAX_MS)
            } else {
                state.config.short_poll_ms
            }),
        });
        Self {
            code,
            status,
            header: Pulled {
                suggested_broker_id: scene.broker(),
                next_offset: next,
                min_offset: read.min.0.cast_signed(),
                max_offset: read.max.0.cast_signed(),
                topic_sys_flag: Some(topic.config.sys_flag),
                group_sys_flag: Some(group.sys_flag),
                forbidden_type: None,
            },
            slices: read.slices,
            messages: read.messages,
            wait,
        }
    }

    /// Whether there were only messages that the subscription does not want.
    pub(crate) fn is_unmatched(&self) -> bool {
        self.code == ResponseCode::PULL_RETRY_IMMEDIATELY
    }

    /// Where to go on.
    pub(crate) fn next(&self) -> QueueOffset {
        QueueOffset(self.header.next_offset.cast_unsigned())
    }

    /// The same answer for a client that asked from `first` on: if unwanted messages were passed
    /// over while it waited, "nothing there" would make some clients start over at `first`.
    pub(crate) fn since(mut self, first: QueueOffset) -> Self {
        if self.code == ResponseCode::PULL_NOT_FOUND && self.next() > first {
            (self.code, self.status) = outcome(ReadStatus::NoMatchedMessage, 0);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_rocketmqs_code() {
        for (status, from, code, name) in [
            (ReadStatus::Found, 5, 0, "FOUND"),
            (ReadStatus::NoMatchedMessage, 5, 20, "NO_MATCHED_MESSAGE"),
            (ReadStatus::MessageWasRemoving, 5, 20, "MESSAGE_WAS_REMOVING"),
            (ReadStatus::OffsetFoundNull, 5, 19, "OFFSET_FOUND_NULL"),
            (ReadStatus::OffsetOverflowBadly, 5, 21, "OFFSET_OVERFLOW_BADLY"),
            (ReadStatus::OffsetOverflowOne, 5, 19, "OFFSET_OVERFLOW_ONE"),
            (ReadStatus::OffsetTooSmall, 5, 21, "OFFSET_TOO_SMALL"),
            (ReadStatus::NoMatchedLogicQueue, 0, 19, "NO_MATCHED_LOGIC_QUEUE"),
            (ReadStatus::NoMatchedLogicQueue, 5, 21, "NO_MATCHED_LOGIC_QUEUE"),
            (ReadStatus::NoMessageInQueue, 0, 19, "NO_MESSAGE_IN_QUEUE"),
            (ReadStatus::NoMessageInQueue, 5, 21, "NO_MESSAGE_IN_QUEUE"),
        ] {
            assert_eq!(outcome(status, from), (ResponseCode(code), name));
        }
    }
}
