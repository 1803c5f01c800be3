//! A queue that this consumer owns for now.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use tokio::{sync::Notify, task::AbortHandle};

use super::window::{Limits, Window};
use crate::{queue::Queue, registry::lock, stored::StoredMessage};

/// An owned queue: its window, and the task that fills it.
#[derive(Debug)]
pub(super) struct Assigned {
    queue: Queue,
    window: Mutex<Window>,
    /// Something was acknowledged.
    room: Notify,
    revoked: AtomicBool,
    task: Mutex<Option<AbortHandle>>,
    /// The broker id that the last answer named for the next pull.
    pub(super) suggested_broker_id: AtomicI64,
}

impl Assigned {
    pub(super) fn new(queue: Queue, next: i64) -> Self {
        Self {
            queue,
            window: Mutex::new(Window::new(next)),
            room: Notify::new(),
            revoked: AtomicBool::new(false),
            task: Mutex::default(),
            suggested_broker_id: AtomicI64::new(0),
        }
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Puts a task in charge of pulling; the one before it ends.
    pub(super) fn pulled_by(&self, task: AbortHandle) {
        if let Some(before) = lock(&self.task).replace(task) {
            before.abort();
        }
    }

    /// Gives the queue up: nothing more is pulled or handed out.
    pub(super) fn revoke(&self) {
        self.revoked.store(true, Ordering::Release);
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }

    /// Whether a message taken in under `generation` may still be handed out.
    pub(super) fn is_current(&self, generation: u64) -> bool {
        !self.revoked.load(Ordering::Acquire) && lock(&self.window).generation() == generation
    }

    /// Waits until the limits allow another pull; returns where to pull, and what may be
    /// committed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(super) async fn room(&self, limits: Limits) -> (u64, i64, i64) {
        loop {
            {
                let window = lock(&self.window);
                if window.has_room(limits) {
                    return (window.generation(), window.next(), window.committable());
                }
            }
            // An acknowledgement between the look and the wait leaves a permit behind.
            self.room.notified().await;
        }
    }

    /// Takes in what a pull brought, if no reset came in between. What is unwanted is stepped
    /// over.
    pub(super) fn admit(
        &self,
        generation: u64,
        next: i64,
        mut messages: Vec<StoredMessage>,
        wanted: impl Fn(&StoredMessage) -> bool,
    ) -> Option<Vec<StoredMessage>> {
        let mut window = lock(&self.window);
        if window.generation() != generation {
            return None;
        }
        messages.retain(|message| {
            wanted(message) && window.admit(message.queue_offset(), message.record_bytes())
        });
        window.advance(next);
        Some(messages)
    }

    pub(super) fn acknowledge(&self, generation: u64, offset: i64) {
        if lock(&self.window).acknowledge(generation, offset) {
            self.room.notify_one();
        }
    }

    /// Goes on at another offset and disowns what was handed out.
    pub(super) fn reset(&self, next: i64) {
        lock(&self.window).reset(next);
        self.room.notify_one();
    }

    /// The offset to commit, if it differs from what was committed.
    pub(super) fn uncommitted(&self) -> Option<i64> {
        lock(&self.window).uncommitted()
    }

    pub(super) fn committed(&self, offset: i64) {
        lock(&self.window).committed(offset);
    }

    /// Messages that were pulled and are not acknowledged.
    pub(super) fn waiting(&self) -> usize {
        lock(&self.window).waiting()
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.revoke();
    }
}
