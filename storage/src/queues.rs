//! The queues of one topic. A queue comes into being when it is touched, and leaves memory when
//! nobody has used it for a while: its state is in the index, from where it comes back.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::{Queue, TopicId, core::Core, num::to_usize};

/// Shared by all values of [`crate::Topic`] of one incarnation, so that there is never a second
/// [`Queue`] for the same messages.
#[derive(Debug)]
pub(crate) struct Queues {
    core: Arc<Core>,
    topic: TopicId,
    slots: RwLock<Slots>,
}

#[derive(Debug)]
struct Slots {
    /// By queue id, as far as any was touched.
    queues: Vec<Option<Arc<Queue>>>,
    /// The index has nothing of the queues from this one on.
    unstored_from: u32,
    deleted: bool,
}

impl Queues {
    /// No queue in memory; the index has nothing of those from `unstored_from` on.
    pub(crate) fn new(core: &Arc<Core>, topic: TopicId, unstored_from: u32) -> Arc<Self> {
        let slots = Slots { queues: Vec::new(), unstored_from, deleted: false };
        Arc::new(Self { core: Arc::clone(core), topic, slots: RwLock::new(slots) })
    }

    fn read(&self) -> RwLockReadGuard<'_, Slots> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Slots> {
        self.slots.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A queue, which comes into being unless it is there. The caller has checked the number.
    pub(crate) fn queue(&self, queue_id: u32) -> Arc<Queue> {
        if let Some(queue) = self.read().queues.get(place(queue_id)).and_then(Option::as_ref) {
            return Arc::clone(queue);
        }
        let mut slots = self.write();
        let Slots { queues, unstored_from, deleted } = &mut *slots;
        if queues.len() <= place(queue_id) {
            queues.resize_with(place(queue_id) + 1, || None);
        }
        let slot = queues.get_mut(place(queue_id)).expect("resized to hold it");
        let queue = slot.get_or_insert_with(|| {
            let queue = if queue_id < *unstored_from {
                Queue::stored(&self.core, self.topic, queue_id)
            } else {
                Queue::empty(&self.core, self.topic, queue_id)
            };
            if *deleted {
                queue.set_deleted();
            }
            queue
        });
        Arc::clone(queue)
    }

    /// A queue, if it is in memory.
    pub(crate) fn in_memory(&self, queue_id: u32) -> Option<Arc<Queue>> {
        self.read().queues.get(place(queue_id)).and_then(Option::clone)
    }

    /// Whether a queue's state is in memory or known to be empty.
    pub(crate) fn is_loaded(&self, queue_id: u32) -> bool {
        let slots = self.read();
        match slots.queues.get(place(queue_id)).and_then(Option::as_ref) {
            Some(queue) => queue.is_loaded(),
            None => queue_id >= slots.unstored_from,
        }
    }

    /// The queues that are in memory.
    pub(crate) fn each_in_memory(&self, look: impl FnMut(&Arc<Queue>)) {
        self.read().queues.iter().flatten().for_each(look);
    }

    /// Whether the topic is deleted.
    pub(crate) fn is_deleted(&self) -> bool {
        self.read().deleted
    }

    /// The topic is deleted. Call it with the append lock held, so that no append is under way.
    pub(crate) fn set_deleted(&self) {
        let mut slots = self.write();
        slots.deleted = true;
        slots.queues.iter().flatten().for_each(|queue| queue.set_deleted());
    }

    /// Lets the queues go that nobody holds, that nobody has touched since the last call, and
    /// whose entries are all in the index. Call it on the index writer's thread with nothing on
    /// its way to the index.
    pub(crate) fn let_idle_go(&self) {
        let mut slots = self.write();
        let Slots { queues, unstored_from, .. } = &mut *slots;
        for slot in &mut *queues {
            // Nobody else holds it, and nobody can get it while the slots are locked.
            let Some(queue) = slot.as_mut().and_then(Arc::get_mut) else { continue };
            if queue.is_idle() {
                if !queue.is_new() {
                    *unstored_from = (*unstored_from).max(queue.queue_id + 1);
                }
                *slot = None;
            }
        }
        while queues.pop_if(|last| last.is_none()).is_some() {}
        if queues.capacity() > 2 * queues.len() {
            queues.shrink_to_fit();
        }
    }
}

fn place(queue_id: u32) -> usize {
    to_usize(u64::from(queue_id))
}
