//! Who has not consumed what is about to be deleted.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use crate::{
    QueueOffset, ReadError, Topic, TopicId,
    index::{
        Guard,
        consume_queue::{self, BLOCK_ENTRIES, Blocks, Ends},
        consumer_offset,
    },
    num::to_usize,
    store::Shared,
};

/// Messages of one topic that were deleted before a group had consumed them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unconsumed {
    /// Name of the topic.
    pub topic: String,
    /// Name of the consumer group.
    pub group: String,
    /// Number of messages, over all queues.
    pub messages: u64,
}

/// What the groups miss when the log loses `log`: the largest losses first. Groups are known by the
/// offsets that they have committed. Nothing is loaded into memory for it but the answer.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn find(shared: &Shared, log: Range<u64>) -> Result<Vec<Unconsumed>, ReadError> {
    let topics = shared.topics.all();
    let topics: HashMap<TopicId, Arc<Topic>> =
        topics.into_iter().map(|topic| (topic.id, topic)).collect();
    let guard = shared.core.index.db()?;
    let mut search = Search { guard: &guard, log, lost: HashMap::new() };
    let mut newer: HashMap<(TopicId, u32), BTreeMap<String, QueueOffset>> = HashMap::new();
    shared.input.offsets.for_each(|group, topic, queue_id, offset| {
        newer.entry((topic, queue_id)).or_default().insert(group.to_owned(), offset);
    });
    let mut missed: BTreeMap<(TopicId, String), u64> = BTreeMap::new();
    let mut note = |group: &str, queue: (TopicId, u32), offset: QueueOffset| {
        if topics.contains_key(&queue.0) {
            let count = search.lost_behind(queue, offset.0)?;
            if count > 0 {
                *missed.entry((queue.0, group.to_owned())).or_default() += count;
            }
        }
        Ok(())
    };
    consumer_offset::scan(&guard, None, |group, topic, queue_id, offset| {
        let queue = (topic, queue_id);
        if newer.get(&queue).is_some_and(|groups| groups.contains_key(group)) {
            return Ok(());
        }
        note(group, queue, offset)
    })?;
    for (&queue, groups) in &newer {
        groups.iter().try_for_each(|(group, &offset)| note(group, queue, offset))?;
    }
    let mut missed: Vec<_> = missed
        .into_iter()
        .filter_map(|((topic, group), messages)| {
            let topic = topics.get(&topic)?.config.name.clone();
            Some(Unconsumed { topic, group, messages })
        })
        .collect();
    missed.sort_by_key(|one| Reverse(one.messages));
    Ok(missed)
}

struct Search<'a> {
    guard: &'a Guard<'a>,
    /// What the log loses.
    log: Range<u64>,
    /// The queue offsets that go, of queues that were looked at.
    lost: HashMap<(TopicId, u32), Range<u64>>,
}

impl Search<'_> {
    /// Number of messages of a queue that go and are at or behind `offset`.
    fn lost_behind(&mut self, queue: (TopicId, u32), offset: u64) -> Result<u64, ReadError> {
        let lost = match self.lost.get(&queue) {
            Some(lost) => lost.clone(),
            // Most groups are far ahead of what is deleted: one look tells.
            None if self.stays(queue, offset)? => return Ok(0),
            None => {
                let end = Ends::new(self.guard).of(queue)?;
                let from = consume_queue::first_at(self.guard, queue, self.log.start)?;
                let to = consume_queue::first_at(self.guard, queue, self.log.end)?;
                let lost = from.unwrap_or(end)..to.unwrap_or(end);
                self.lost.insert(queue, lost.clone());
                lost
            }
        };
        Ok(lost.end.saturating_sub(lost.start.max(offset)))
    }

    /// Whether the message at `offset`, or the next one, stays.
    fn stays(&self, queue: (TopicId, u32), offset: u64) -> Result<bool, ReadError> {
        let block = Blocks::of(self.guard, queue).at_or_after(offset / BLOCK_ENTRIES)?;
        Ok(block.is_none_or(|block| {
            let skip = to_usize(offset.saturating_sub(block.first()));
            // Only the last block is not full, so what it does not hold is not stored yet.
            block.entries.get(skip).is_none_or(|entry| entry.log_offset >= self.log.end)
        }))
    }
}
