//! A message in a consumer's hands.

use std::{ops::Deref, sync::Arc};

use super::{
    assigned::Assigned,
    group::{Batch, Group},
};
use crate::{error::Error, stored::StoredMessage};

/// A message that was handed out and must be acknowledged.
///
/// * [`Delivery::ack`] says that it is done. The group's offset moves past a message once it and
///   all messages before it in its queue are acknowledged.
/// * [`Delivery::retry`] gives it back to the broker, which delivers it again after a delay that
///   grows with each failure, and finally keeps it in the group's dead-letter topic.
/// * Dropping it hands it out again from memory, to this consumer, a second later. If the
///   consumer stops first, another member of the group gets it.
///
/// So a message is delivered at least once, and more than once after a crash, a rebalance or a
/// missing acknowledgement.
#[derive(Debug)]
#[must_use = "a delivery that is dropped is delivered again; call `ack`"]
pub struct Delivery {
    message: StoredMessage,
    attempt: u32,
    hold: Option<Hold>,
}

/// The way back.
#[derive(Debug)]
struct Hold {
    group: Arc<Group>,
    assigned: Arc<Assigned>,
    generation: u64,
}

impl Delivery {
    pub(super) fn new(
        group: &Arc<Group>,
        assigned: &Arc<Assigned>,
        generation: u64,
        (message, attempt): (StoredMessage, u32),
    ) -> Self {
        group.picked_up();
        let hold = Hold { group: Arc::clone(group), assigned: Arc::clone(assigned), generation };
        Self { message, attempt, hold: Some(hold) }
    }

    /// The message.
    pub fn message(&self) -> &StoredMessage {
        &self.message
    }

    /// How often the group was handed this message before, as far as this consumer knows.
    pub fn attempt(&self) -> u32 {
        let returned = u32::try_from(self.message.reconsume_times()).unwrap_or_default();
        returned.saturating_add(self.attempt)
    }

    /// The message is done.
    pub fn ack(mut self) {
        self.settle();
    }

    /// The message failed: the broker delivers it to the group again later. Broadcasting groups
    /// have no way back to the broker; there it is handed out again from memory.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the message is handed out again from memory, and perhaps also by the broker.
    ///
    /// # Errors
    ///
    /// When the broker does not take it; it is then handed out again from memory.
    pub async fn retry(mut self) -> Result<(), Error> {
        let Some(hold) = self.hold.as_ref().filter(|hold| !hold.group.is_broadcasting()) else {
            return Ok(());
        };
        hold.group.send_back(&self.message).await?;
        self.settle();
        Ok(())
    }

    fn settle(&mut self) {
        if let Some(hold) = self.hold.take() {
            hold.assigned.acknowledge(hold.generation, self.message.queue_offset());
            hold.group.put_down();
        }
    }
}

impl Deref for Delivery {
    type Target = StoredMessage;

    fn deref(&self) -> &StoredMessage {
        &self.message
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(hold) = &self.hold else { return };
        if hold.group.gives_up_after(self.attempt) {
            tracing::warn!(
                group = hold.group.name(),
                id = self.message.id(),
                attempts = self.attempt + 1,
                "a broadcast message was never acknowledged and is skipped"
            );
            self.settle();
            return;
        }
        let Some(hold) = self.hold.take() else { return };
        hold.group.put_down();
        let again = (self.message.clone(), self.attempt.saturating_add(1));
        hold.group.park(Batch::new(hold.assigned, hold.generation, [again]));
    }
}
