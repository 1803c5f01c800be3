//! What the parts of one consumer share.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{code::RequestCode, request::send::SendBack};
use tokio::{sync::Notify, time::Instant};

use super::{
    assigned::Assigned, delivery::Delivery, offsets::Offsets, parked::Parked, window::Limits,
};
use crate::{
    core::Core,
    error::Error,
    queue::Queue,
    registry::{Member, lock},
    stored::StoredMessage,
};

/// A consumer's state.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) core: Arc<Core>,
    pub(super) member: Arc<Member>,
    pub(super) settings: Settings,
    pub(super) offsets: Offsets,
    pub(super) assigned: Mutex<BTreeMap<Queue, Arc<Assigned>>>,
    /// Since when topics have no route.
    pub(super) missing: Mutex<BTreeMap<Arc<str>, Instant>>,
    parked: Parked,
    /// Deliveries that are in the application's hands.
    in_hand: AtomicUsize,
    put_down: Notify,
}

/// What the builder decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) pull_batch: i32,
    pub(super) pull_hold: Duration,
    pub(super) max_attempts: Option<i32>,
    pub(super) redelivery_delay: Duration,
    pub(super) commit_interval: Duration,
    pub(super) rebalance_interval: Duration,
}

/// Messages of one queue on their way to the application, each with how often it was handed out
/// before.
#[derive(Debug)]
pub(super) struct Batch {
    assigned: Arc<Assigned>,
    generation: u64,
    messages: VecDeque<(StoredMessage, u32)>,
}

impl Batch {
    pub(super) fn new(
        assigned: Arc<Assigned>,
        generation: u64,
        messages: impl IntoIterator<Item = (StoredMessage, u32)>,
    ) -> Self {
        Self { assigned, generation, messages: messages.into_iter().collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The next message, unless its queue was given away or reset meanwhile.
    pub(super) fn next(&mut self, group: &Arc<Group>) -> Option<Delivery> {
        if self.messages.is_empty() || !self.assigned.is_current(self.generation) {
            return None;
        }
        let message = self.messages.pop_front()?;
        Some(Delivery::new(group, &self.assigned, self.generation, message))
    }
}

impl Group {
    pub(super) fn new(
        core: Arc<Core>,
        member: Arc<Member>,
        settings: Settings,
        offsets: Offsets,
    ) -> Self {
        Self {
            core,
            member,
            settings,
            offsets,
            assigned: Mutex::default(),
            missing: Mutex::default(),
            parked: Parked::new(settings.redelivery_delay),
            in_hand: AtomicUsize::new(0),
            put_down: Notify::new(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.member.group
    }

    pub(super) fn is_broadcasting(&self) -> bool {
        self.member.broadcasting
    }

    pub(super) fn parked(&self) -> &Parked {
        &self.parked
    }

    pub(super) fn owned(&self) -> Vec<Arc<Assigned>> {
        lock(&self.assigned).values().cloned().collect()
    }

    /// Whether a broadcast message that was handed out `attempt + 1` times is given up. There is
    /// no broker behind it that would move it to a dead-letter topic.
    pub(super) fn gives_up_after(&self, attempt: u32) -> bool {
        let most = self.settings.max_attempts.map_or(16, |most| u32::try_from(most).unwrap_or(0));
        self.is_broadcasting() && attempt >= most
    }

    pub(super) fn picked_up(&self) {
        self.in_hand.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn put_down(&self) {
        if self.in_hand.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.put_down.notify_waiters();
        }
    }

    pub(super) fn park(&self, batch: Batch) {
        // A stopped consumer hands out nothing more; another member gets the message.
        if self.member.is_running() {
            self.parked.park(batch);
        }
    }

    /// Waits until the application has put everything down, or `grace` has passed.
    pub(super) async fn hands_empty(&self, grace: Duration) {
        let empty = async {
            loop {
                let put_down = self.put_down.notified();
                if self.in_hand.load(Ordering::Acquire) == 0 {
                    return;
                }
                put_down.await;
            }
        };
        if tokio::time::timeout(grace, empty).await.is_err() {
            tracing::warn!(
                group = self.name(),
                unacknowledged = self.in_hand.load(Ordering::Acquire),
                grace_ms = grace.as_millis(),
                "the consumer stops while messages are still worked on; they are delivered again"
            );
        }
    }

    /// Returns a message to the broker that stored it, to be delivered later.
    pub(super) async fn send_back(&self, message: &StoredMessage) -> Result<(), Error> {
        let queue = message.queue();
        let route = self.core.route(queue.topic()).await?;
        let id = message.id();
        let header = SendBack {
            log_offset: message.log_offset(),
            group: self.name(),
            delay_level: 0,
            origin_message_id: Some(&id),
            origin_topic: Some(message.topic()),
            unit_mode: false,
            max_reconsume_times: self.settings.max_attempts,
        };
        let code = RequestCode::ConsumerSendMsgBack;
        self.core.call(route.master(queue)?, code, &header, Bytes::new()).await?;
        Ok(())
    }
}
