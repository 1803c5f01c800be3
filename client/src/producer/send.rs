//! One send: pick a queue, ask its broker, and on failure another one.

use std::{sync::atomic::Ordering, time::Duration};

use protocol::{
    code::{RequestCode, ResponseCode},
    frame::Frame,
    names::AUTO_CREATE_TOPIC,
    request::send::{Send, Sent},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{Envelope, SendReceipt, SendStatus, Shared};
use crate::{
    core::{Core, header, refused, unreadable},
    error::Error,
    queue::Queue,
    route::Route,
    selector,
};

/// First pause before the broker that just failed is asked again; doubled each time.
const PAUSE: Duration = Duration::from_millis(50);

/// How the queue of a message is found.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    /// The next one.
    Turns,
    /// The one of this sharding key.
    Key(String),
    /// This one.
    Fixed(Queue),
}

/// Where the queues' turns start, so that not all producers start at the same queue.
pub(super) fn first_turn(core: &Core) -> usize {
    usize::try_from(core.now_ms().unsigned_abs() & 0xffff).unwrap_or_default()
}

impl Shared {
    /// Sends until a broker has stored the envelope or nothing more can be tried.
    pub(super) async fn deliver(
        &self,
        envelope: &Envelope,
        choice: &Choice,
    ) -> Result<Vec<SendReceipt>, Error> {
        let deadline = Instant::now() + self.settings.send_timeout;
        let mut failed = None;
        let mut tries = 0;
        loop {
            let route = self.core.route_for_sending(envelope.topic()).await?;
            let queue = self.pick(&route, choice, failed.as_ref(), envelope.topic())?.clone();
            if failed.as_ref().is_some_and(|failed: &Queue| failed.broker() == queue.broker()) {
                sleep_until(deadline.min(Instant::now() + PAUSE * (1 << tries.min(4)))).await;
            }
            let last = tries == self.settings.retries;
            let timeout = budget(deadline, last || route.masters() < 2);
            let error = match self.attempt(envelope, &route, &queue, timeout).await {
                Ok(receipts) => return Ok(receipts),
                Err(error) => error,
            };
            if last || !error.is_retryable() || Instant::now() >= deadline {
                return Err(error);
            }
            tracing::debug!(%queue, %error, "a send failed and is tried again");
            // What the name servers say now may differ; without an answer the old route serves.
            let refresh = self.core.refresh_route(envelope.topic(), route.read_at());
            let _ = timeout_at(deadline, refresh).await;
            failed = Some(queue);
            tries += 1;
        }
    }

    /// Sends once and waits for nothing.
    pub(super) async fn fire(&self, envelope: &Envelope) -> Result<(), Error> {
        let route = self.core.route_for_sending(envelope.topic()).await?;
        let choice = envelope.sharding().map_or(Choice::Turns, |key| Choice::Key(key.to_owned()));
        let queue = self.pick(&route, &choice, None, envelope.topic())?;
        let address = route.master(queue)?;
        let outcome = self
            .core
            .oneway(
                address,
                RequestCode::SendMessageV2,
                &self.header(envelope, queue),
                envelope.body(),
            )
            .await;
        if outcome.is_err() {
            self.faults.failed(queue.broker());
        }
        outcome
    }

    fn pick<'a>(
        &self,
        route: &'a Route,
        choice: &'a Choice,
        failed: Option<&Queue>,
        topic: &str,
    ) -> Result<&'a Queue, Error> {
        let queues = route.writable();
        match choice {
            Choice::Turns => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                selector::rotate(queues, turn, |broker| {
                    failed.is_some_and(|failed| failed.broker() == broker)
                        || self.faults.is_avoided(broker)
                })
            }
            Choice::Key(key) => selector::by_key(queues, key),
            Choice::Fixed(queue) => Some(queue),
        }
        .ok_or_else(|| Error::NotWritable { topic: topic.to_owned() })
    }

    async fn attempt(
        &self,
        envelope: &Envelope,
        route: &Route,
        queue: &Queue,
        timeout: Duration,
    ) -> Result<Vec<SendReceipt>, Error> {
        let code = envelope.code();
        let address = route.master(queue)?;
        let header = self.header(envelope, queue);
        let call = (&header, envelope.body());
        match self.core.request_within(timeout, address, code, call).await {
            Ok(frame) => {
                self.faults.answered(queue.broker());
                receipts(envelope, queue, &frame, address)
            }
            Err(error) => {
                self.faults.failed(queue.broker());
                Err(error)
            }
        }
    }

    fn header<'a>(&'a self, envelope: &'a Envelope, queue: &'a Queue) -> Send<'a> {
        Send {
            producer_group: &self.group,
            topic: envelope.topic(),
            default_topic: Some(AUTO_CREATE_TOPIC),
            default_topic_queues: self.settings.new_topic_queues,
            queue_id: queue.id(),
            sys_flag: envelope.sys_flag(),
            born_timestamp: envelope.born_timestamp_ms(),
            flag: envelope.flag(),
            properties: Some(envelope.properties()),
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: envelope.is_batch(),
            broker_name: Some(queue.broker()),
        }
    }
}

/// How long one try may take. While another broker could be asked instead, a broker that hangs
/// must leave time for that.
fn budget(deadline: Instant, whole: bool) -> Duration {
    let left = deadline.saturating_duration_since(Instant::now());
    if whole { left } else { left / 2 }
}

fn receipts(
    envelope: &Envelope,
    queue: &Queue,
    frame: &Frame,
    address: &str,
) -> Result<Vec<SendReceipt>, Error> {
    let code: ResponseCode = frame.response_code();
    let status = SendStatus::of(code).ok_or_else(|| refused(frame, address, envelope.code()))?;
    let sent = header(Sent::decode(&frame.fields), address, envelope.code())?;
    // The broker chooses the queue when the route is that of a topic to be created.
    let queue = if sent.queue_id == queue.id() {
        queue.clone()
    } else {
        Queue::new(queue.topic(), queue.broker(), sent.queue_id)
    };
    let offset_ids: Vec<&str> = sent.message_id.split(',').collect();
    if offset_ids.len() != envelope.ids().len() {
        let reason = format!("{} ids for {} messages", offset_ids.len(), envelope.ids().len());
        return Err(unreadable(address, envelope.code())(&reason));
    }
    let offsets = sent.queue_offset..;
    Ok(envelope
        .ids()
        .iter()
        .zip(offset_ids)
        .zip(offsets)
        .map(|((id, offset_id), queue_offset)| SendReceipt {
            status,
            id: id.clone(),
            offset_id: offset_id.to_owned(),
            queue: queue.clone(),
            queue_offset,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hanging_broker_leaves_time_for_another() {
        let deadline = Instant::now() + Duration::from_secs(3);
        assert_eq!(budget(deadline, true), Duration::from_secs(3));
        assert_eq!(budget(deadline, false), Duration::from_millis(1500));
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(budget(deadline, true), Duration::ZERO);
    }
}
