//! Which stored entries stay in memory for readers: the newest over all queues, up to a limit.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    Queue,
    index::consume_queue::BLOCK_ENTRIES,
    num::{to_u64, to_usize},
    read::Mode,
};

/// The stored blocks that are still in some queue's tail, oldest first.
#[derive(Debug)]
pub(crate) struct Retained {
    /// Each with the queue offset of its end.
    blocks: VecDeque<(Arc<Queue>, u64)>,
    blocks_max: usize,
}

impl Retained {
    pub(crate) fn new(entries_max: usize) -> Self {
        let blocks_max = to_usize(to_u64(entries_max) / BLOCK_ENTRIES);
        Self { blocks: VecDeque::new(), blocks_max }
    }

    /// Adds blocks of a queue that were just stored.
    pub(crate) fn add(&mut self, queue: &Arc<Queue>, ends: impl IntoIterator<Item = u64>) {
        self.blocks.extend(ends.into_iter().map(|end| (Arc::clone(queue), end)));
    }

    /// Lets the oldest go until the rest is within the limit.
    pub(crate) fn trim(&mut self) {
        let excess = self.blocks.len().saturating_sub(self.blocks_max);
        for (queue, end) in self.blocks.drain(..excess) {
            // A queue that is here is loaded, so this reads nothing.
            if let Ok(mut tail) = queue.tail(Mode::HotOnly) {
                tail.forget_below(end);
            }
        }
    }
}
