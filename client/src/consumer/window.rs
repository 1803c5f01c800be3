//! What of one queue has been handed out and not yet acknowledged, and so how far the group may
//! commit. Pure: no sockets, no time.
//!
//! Invariants: offsets in the window ascend; nothing at or above the committable offset has been
//! acknowledged as the lowest; the committable offset never falls, except by [`Window::reset`].

use std::collections::VecDeque;

/// How much of one queue may wait in memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Messages that are not acknowledged.
    pub(crate) messages: usize,
    /// Bytes of their bodies and properties.
    pub(crate) bytes: usize,
    /// Distance between the lowest unacknowledged message and the next one to pull: one stuck
    /// message must not let the window grow without end.
    pub(crate) span: i64,
}

/// The window of one queue.
#[derive(Debug)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// Where to pull next.
    next: i64,
    waiting: usize,
    bytes: usize,
    generation: u64,
    /// What was last committed successfully.
    committed: Option<i64>,
}

#[derive(Debug)]
struct Slot {
    offset: i64,
    bytes: usize,
    acknowledged: bool,
}

impl Window {
    /// An empty window that starts to pull at `next`.
    pub(crate) fn new(next: i64) -> Self {
        Self { slots: VecDeque::new(), next, waiting: 0, bytes: 0, generation: 0, committed: None }
    }

    /// Where to pull next.
    pub(crate) fn next(&self) -> i64 {
        self.next
    }

    /// Messages that are not acknowledged.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Messages of an older generation are no longer of this window.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes in a pulled message of `bytes` bytes. False when it is below what was pulled
    /// already, and so must not be handed out twice.
    pub(crate) fn admit(&mut self, offset: i64, bytes: usize) -> bool {
        if offset < self.next {
            return false;
        }
        self.slots.push_back(Slot { offset, bytes, acknowledged: false });
        self.next = offset + 1;
        self.waiting += 1;
        self.bytes += bytes;
        true
    }

    /// Steps over what the filter left out.
    pub(crate) fn advance(&mut self, next: i64) {
        self.next = self.next.max(next);
    }

    /// Marks a message as done. False when it is not waiting: acknowledged before, or handed out
    /// before a reset.
    pub(crate) fn acknowledge(&mut self, generation: u64, offset: i64) -> bool {
        if generation != self.generation {
            return false;
        }
        let Ok(index) = self.slots.binary_search_by_key(&offset, |slot| slot.offset) else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(index).filter(|slot| !slot.acknowledged) else {
            return false;
        };
        slot.acknowledged = true;
        self.waiting -= 1;
        self.bytes -= slot.bytes;
        while self.slots.front().is_some_and(|slot| slot.acknowledged) {
            self.slots.pop_front();
        }
        true
    }

    /// Everything below this offset is done: the lowest message that is not acknowledged, or the
    /// next one to pull.
    pub(crate) fn committable(&self) -> i64 {
        self.slots.front().map_or(self.next, |slot| slot.offset)
    }

    /// What should be committed, if that differs from what was.
    pub(crate) fn uncommitted(&self) -> Option<i64> {
        let offset = self.committable();
        (self.committed != Some(offset)).then_some(offset)
    }

    /// Remembers a successful commit.
    pub(crate) fn committed(&mut self, offset: i64) {
        self.committed = Some(offset);
    }

    /// Whether another pull may start.
    pub(crate) fn has_room(&self, limits: Limits) -> bool {
        self.waiting < limits.messages
            && self.bytes < limits.bytes
            && self.next - self.committable() <= limits.span
    }

    /// Forgets everything handed out and goes on at `next`, forwards or backwards.
    pub(crate) fn reset(&mut self, next: i64) {
        let generation = self.generation + 1;
        *self = Self { generation, ..Self::new(next) };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { messages: 3, bytes: 100, span: 10 };

    fn window(offsets: &[i64]) -> Window {
        let mut window = Window::new(0);
        for offset in offsets {
            assert!(window.admit(*offset, 10));
        }
        window
    }

    #[test]
    fn commits_stop_at_the_lowest_unacknowledged_message() {
        let mut window = window(&[5, 6, 9]);
        assert_eq!(window.committable(), 5);
        assert!(window.acknowledge(0, 6));
        assert_eq!(window.committable(), 5);
        assert!(window.acknowledge(0, 5));
        assert_eq!(window.committable(), 9);
        assert!(window.acknowledge(0, 9));
        assert_eq!(window.committable(), 10);
    }

    #[test]
    fn filtered_messages_are_committed_only_when_nothing_waits() {
        let mut window = window(&[5]);
        window.advance(40);
        assert_eq!((window.committable(), window.next()), (5, 40));
        window.acknowledge(0, 5);
        assert_eq!(window.committable(), 40);
    }

    #[test]
    fn a_message_is_acknowledged_once() {
        let mut window = window(&[5, 6]);
        assert!(window.acknowledge(0, 6));
        assert!(!window.acknowledge(0, 6));
        assert!(!window.acknowledge(0, 7));
        assert_eq!(window.waiting(), 1);
    }

    #[test]
    fn a_message_that_comes_again_is_refused() {
        let mut window = window(&[5]);
        assert!(!window.admit(5, 10));
        assert!(!window.admit(3, 10));
        assert!(window.admit(6, 10));
    }

    #[test]
    fn each_limit_stops_the_pull() {
        assert!(window(&[0, 1]).has_room(LIMITS));
        assert!(!window(&[0, 1, 2]).has_room(LIMITS), "three messages");
        let mut large = Window::new(0);
        large.admit(0, 100);
        assert!(!large.has_room(LIMITS), "100 bytes");
        let mut wide = window(&[0]);
        wide.advance(10);
        assert!(wide.has_room(LIMITS));
        wide.advance(11);
        assert!(!wide.has_room(LIMITS), "a span of 11");
        wide.acknowledge(0, 0);
        assert!(wide.has_room(LIMITS));
    }

    #[test]
    fn a_reset_disowns_what_was_handed_out() {
        let mut window = window(&[5, 6]);
        window.reset(2);
        assert!(!window.acknowledge(0, 5));
        assert_eq!((window.committable(), window.waiting(), window.generation()), (2, 0, 1));
        assert!(window.admit(5, 10));
        assert!(window.acknowledge(1, 5));
    }

    #[test]
    fn an_offset_is_committed_once() {
        let mut window = window(&[5]);
        assert_eq!(window.uncommitted(), Some(5));
        window.committed(5);
        assert_eq!(window.uncommitted(), None);
        window.acknowledge(0, 5);
        assert_eq!(window.uncommitted(), Some(6));
    }

    proptest! {
        /// Against a model that keeps every offset: whatever the order of acknowledgements, the
        /// committable offset is the lowest that waits, and it never falls.
        #[test]
        fn committable_is_the_lowest_that_waits(
            gaps in prop::collection::vec(1_i64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 1..200),
        ) {
            let mut window = Window::new(0);
            let mut waiting = Vec::new();
            let mut offset = 0;
            for gap in gaps {
                offset += gap;
                prop_assert!(window.admit(offset, 1));
                waiting.push(offset);
            }
            let end = offset + 1;
            let mut last = window.committable();
            for index in order {
                if waiting.is_empty() {
                    break;
                }
                let done = waiting.remove(index.index(waiting.len()));
                prop_assert!(window.acknowledge(0, done));
                prop_assert_eq!(window.committable(), waiting.first().copied().unwrap_or(end));
                prop_assert_eq!(window.waiting(), waiting.len());
                prop_assert!(window.committable() >= last);
                last = window.committable();
            }
        }
    }
}
