//! One pull: what consumers and readers share.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    code::{RequestCode, ResponseCode},
    request::pull::{Pull, Pulled, flag},
};

use crate::{
    core::{Core, header, refused, unreadable},
    error::Error,
    queue::Queue,
    stored::{StoredMessage, decode_all},
};

/// Answers to held pulls may come this much later: RocketMQ's brokers look for expired ones every
/// 5 s, and a cold read takes its time.
const HELD_GRACE: Duration = Duration::from_secs(15);

/// What is wanted of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask<'a> {
    pub(crate) group: &'a str,
    pub(crate) queue: &'a Queue,
    pub(crate) from: i64,
    pub(crate) max_messages: i32,
    /// Tag expression and its version.
    pub(crate) subscription: (&'a str, i64),
    pub(crate) commit: Option<i64>,
    /// How long the broker may hold the pull while there is nothing.
    pub(crate) hold: Option<Duration>,
}

/// A broker's answer to a pull.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) next: i64,
    pub(crate) min: i64,
    pub(crate) max: i64,
    /// The broker id to ask next time.
    pub(crate) suggested_broker_id: i64,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    /// Messages, at least one.
    Found(Vec<StoredMessage>),
    /// Nothing at this offset yet.
    Nothing,
    /// Nothing that passes the filter up to `next`.
    Filtered,
    /// The offset is outside the queue; `next` is inside.
    Moved,
}

impl Core {
    /// Pulls once.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn pull(&self, address: &str, ask: Ask<'_>) -> Result<Answer, Error> {
        const CODE: RequestCode = RequestCode::PullMessage;
        let timeout = match ask.hold {
            Some(hold) => hold + HELD_GRACE,
            None => self.settings.request_timeout,
        };
        let request = request(&ask);
        let frame = self.request_within(timeout, address, CODE, (&request, Bytes::new())).await?;
        let found = match frame.response_code() {
            ResponseCode::SUCCESS => true,
            ResponseCode::PULL_NOT_FOUND
            | ResponseCode::PULL_RETRY_IMMEDIATELY
            | ResponseCode::PULL_OFFSET_MOVED => false,
            _ => return Err(refused(&frame, address, CODE)),
        };
        let pulled = header(Pulled::decode(&frame.fields), address, CODE)?;
        let outcome = if found {
            let broker = Arc::from(ask.queue.broker());
            let messages = decode_all(&frame.body, &broker)
                .map_err(|error| unreadable(address, CODE)(&error))?;
            Outcome::Found(messages)
        } else {
            match frame.response_code() {
                ResponseCode::PULL_NOT_FOUND => Outcome::Nothing,
                ResponseCode::PULL_RETRY_IMMEDIATELY => Outcome::Filtered,
                _ => Outcome::Moved,
            }
        };
        Ok(Answer {
            outcome,
            next: pulled.next_offset,
            min: pulled.min_offset,
            max: pulled.max_offset,
            suggested_broker_id: pulled.suggested_broker_id,
        })
    }
}

fn request<'a>(ask: &Ask<'a>) -> Pull<'a> {
    let mut sys_flag = flag::SUBSCRIPTION;
    if ask.commit.is_some() {
        sys_flag |= flag::COMMIT_OFFSET;
    }
    if ask.hold.is_some() {
        sys_flag |= flag::SUSPEND;
    }
    let hold_ms = ask.hold.unwrap_or_default().as_millis();
    Pull {
        consumer_group: ask.group,
        topic: ask.queue.topic(),
        queue_id: ask.queue.id(),
        queue_offset: ask.from,
        max_messages: ask.max_messages,
        sys_flag,
        commit_offset: ask.commit.unwrap_or_default(),
        suspend_timeout_ms: i64::try_from(hold_ms).unwrap_or(i64::MAX),
        subscription: Some(ask.subscription.0),
        subscription_version: ask.subscription.1,
        expression_type: Some("TAG"),
        max_bytes: None,
    }
}
