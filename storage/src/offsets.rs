//! Consumer offsets that were committed and are not stored yet, one per group and queue.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{QueueOffset, TopicId};

/// A table that has room for more than this many times what was needed last gives it back.
const KEPT_FACTOR: usize = 8;

type Group = HashMap<(TopicId, u32), QueueOffset>;
type Groups = HashMap<Box<str>, Group>;

/// Committing replaces; the index writer takes everything with its next batch.
#[derive(Debug, Default)]
pub(crate) struct Offsets {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pending: Groups,
    /// Taken by the index writer and not yet readable from RocksDB.
    writing: Groups,
}

impl Offsets {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn commit(&self, group: &str, at: (TopicId, u32), offset: QueueOffset) {
        let mut state = self.lock();
        // The usual commit allocates nothing: the group and the queue are there from the last one.
        if let Some(queues) = state.pending.get_mut(group) {
            queues.insert(at, offset);
        } else {
            state.pending.entry(group.into()).or_default().insert(at, offset);
        }
    }

    /// The newest offset that is not stored yet.
    pub(crate) fn get(&self, group: &str, at: (TopicId, u32)) -> Option<QueueOffset> {
        let state = self.lock();
        let find = |groups: &Groups| groups.get(group)?.get(&at).copied();
        find(&state.pending).or_else(|| find(&state.writing))
    }

    /// Every offset that is not stored yet, older ones first.
    pub(crate) fn for_each(&self, mut each: impl FnMut(&str, TopicId, u32, QueueOffset)) {
        let state = self.lock();
        for (group, queues) in state.writing.iter().chain(&state.pending) {
            for (&(topic, queue_id), &offset) in queues {
                each(group, topic, queue_id, offset);
            }
        }
    }

    /// Takes what is pending to be stored; [`Offsets::stored`] must follow.
    pub(crate) fn take(&self, mut each: impl FnMut(&str, TopicId, u32, QueueOffset)) {
        let mut state = self.lock();
        let State { pending, writing } = &mut *state;
        mem::swap(pending, writing);
        // Groups that are still committing keep their tables, as large as they need now; the
        // others go.
        pending.retain(|group, queues| {
            queues.clear();
            let still = writing.get(group);
            queues.shrink_to(still.map_or(0, |still| KEPT_FACTOR * still.len()));
            still.is_some()
        });
        for (group, queues) in &*writing {
            for (&(topic, queue_id), &offset) in queues {
                each(group, topic, queue_id, offset);
            }
        }
    }

    /// What was taken can be read from RocksDB now.
    pub(crate) fn stored(&self) {
        for queues in self.lock().writing.values_mut() {
            queues.clear();
        }
    }

    /// Forgets an offset that is pending and not beyond what is stored now.
    pub(crate) fn settle(&self, group: &str, at: (TopicId, u32), stored: QueueOffset) {
        let mut state = self.lock();
        if let Some(queues) = state.pending.get_mut(group)
            && queues.get(&at).is_some_and(|pending| *pending <= stored)
        {
            queues.remove(&at);
        }
    }

    /// Forgets the offsets of a group that is deleted.
    pub(crate) fn forget(&self, group: &str) {
        self.lock().pending.remove(group);
    }

    /// Forgets what is committed on a topic that is deleted.
    pub(crate) fn forget_topic(&self, topic: TopicId) {
        let mut state = self.lock();
        for queues in state.pending.values_mut() {
            queues.retain(|&(of, _), _| of != topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: (TopicId, u32) = (TopicId(1), 2);

    fn take(offsets: &Offsets) -> Vec<(String, u64)> {
        let mut taken = Vec::new();
        offsets.take(|group, _, _, offset| taken.push((group.to_owned(), offset.0)));
        taken.sort();
        taken
    }

    #[test]
    fn commits_are_coalesced_and_readable_until_stored() {
        let offsets = Offsets::default();
        offsets.commit("g", AT, QueueOffset(1));
        offsets.commit("g", AT, QueueOffset(2));
        offsets.commit("h", AT, QueueOffset(9));
        assert_eq!(take(&offsets), [("g".to_owned(), 2), ("h".to_owned(), 9)]);
        assert_eq!(offsets.get("g", AT), Some(QueueOffset(2)));
        offsets.commit("g", AT, QueueOffset(3));
        assert_eq!(offsets.get("g", AT), Some(QueueOffset(3)));
        offsets.stored();
        assert_eq!(offsets.get("h", AT), None);
        assert_eq!(offsets.get("g", AT), Some(QueueOffset(3)));
        assert_eq!(take(&offsets), [("g".to_owned(), 3)]);
        offsets.stored();
        assert_eq!(take(&offsets), []);
    }

    #[test]
    fn forget_drops_a_group() {
        let offsets = Offsets::default();
        offsets.commit("g", AT, QueueOffset(1));
        offsets.forget("g");
        assert_eq!(offsets.get("g", AT), None);
        assert_eq!(take(&offsets), []);
    }
}
