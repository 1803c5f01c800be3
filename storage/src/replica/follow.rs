//! What a slave keeps in memory of what its master sends.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, atomic::Ordering},
};

use bytes::{Bytes, BytesMut};
use prost::Message;
use protocol::record::{BLANK_BYTES, Head, RecordView, frame_len};

use super::{
    ReplicaError,
    batch::{self, Op},
};
use crate::{
    ReadError, Topic, TopicId,
    index::{
        Family,
        consume_queue::{self, BLOCK_ENTRIES},
        consumer_offset, damaged,
        group::GroupRow,
        key_index,
        meta::{self, Versioned},
        topic::TopicRow,
    },
    num::{to_u64, to_usize},
    read::Mode,
    recover::Replay,
    retained::Retained,
    retention,
    store::Shared,
};

/// The state of the one thread that follows.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The beginning of a record whose end has not come yet.
    pub(super) rest: BytesMut,
    /// Everything before is in the tails of the queues or in the index.
    pub(super) dispatched: u64,
    replay: Replay,
    retained: Retained,
    ids: BTreeMap<u32, Family>,
    /// Blocks name their topics by id.
    topics: HashMap<TopicId, Arc<Topic>>,
}

impl Follower {
    /// Goes on behind `dispatched`, as a replay has left it.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn new(shared: &Shared, dispatched: u64) -> Result<Self, ReadError> {
        let mut topics = HashMap::new();
        shared.topics.each(|topic| {
            topics.insert(topic.id, Arc::clone(topic));
        });
        Ok(Self {
            topics,
            rest: BytesMut::new(),
            dispatched,
            replay: Replay::default(),
            retained: Retained::new(shared.core.config.tail_entries),
            ids: batch::family_ids(&shared.core.index.db()?),
        })
    }

    /// Dispatches the records before `end`, which must all be in the log, and shows them.
    ///
    /// # Errors
    /// The log is not what it should be, or the index cannot be read.
    pub(super) fn show(&mut self, shared: &Shared, end: u64) -> Result<(), ReplicaError> {
        let log = &shared.core.log;
        let mut touched = Vec::new();
        let mut limit = 0;
        while self.dispatched < end {
            let at = self.dispatched;
            if at >= limit {
                let segments = log.segments_between(at, at + 1);
                limit = segments.first().map_or(at, |segment| segment.limit_offset());
            }
            let head = log.read(at, BLANK_BYTES.min(to_usize(limit - at)));
            let head = head.ok_or_else(|| no_record(at, "the log ends there".to_owned()))?;
            match frame_len(&head) {
                Some(Head::Record { size, .. }) => {
                    let bytes = log.read(at, to_usize(u64::from(size)));
                    let bytes = bytes.ok_or_else(|| no_record(at, "it is cut".to_owned()))?;
                    let record = RecordView::parse(&bytes)
                        .map_err(|error| no_record(at, error.to_string()))?;
                    touched.extend(self.replay.record(shared, &record)?);
                    self.dispatched += u64::from(size);
                }
                Some(Head::Blank { .. }) => self.dispatched = limit,
                None if head.len() < BLANK_BYTES => self.dispatched = limit,
                None => return Err(no_record(at, "no head".to_owned())),
            }
        }
        // The master writes the blocks.
        shared.input.take_full();
        shared.input.pending_blocks.store(0, Ordering::Relaxed);
        log.confirmed.advance(end);
        touched.iter().for_each(|queue| queue.wake());
        Ok(())
    }

    /// Notes what a batch has changed that is now in RocksDB.
    ///
    /// # Errors
    /// A row cannot be read.
    pub(super) fn note(&mut self, shared: &Shared, ops: &[Op<'_>]) -> Result<(), ReadError> {
        let mut versions = false;
        for op in ops {
            let family = |id: &u32| self.ids.get(id).copied();
            match *op {
                Op::Put { family: id, key, value } => match family(&id) {
                    Some(Family::Topic) => {
                        versions = true;
                        self.put_topic(shared, key, value)?;
                    }
                    Some(Family::Group) => {
                        versions = true;
                        put_group(shared, key, value)?;
                    }
                    Some(Family::ConsumeQueue) => self.stored_block(key, value)?,
                    Some(Family::KeyIndex) => {
                        if let Some((_, row)) = key_index::decode_slice(key, value) {
                            shared.keys().forget_below(row.end);
                        }
                    }
                    Some(Family::ConsumerOffset) => {
                        let (group, topic, queue_id, at) = consumer_offset::decode(key, value)?;
                        shared.input.offsets.settle(group, (topic, queue_id), at);
                    }
                    Some(Family::Default) => note_default(shared, key, value)?,
                    None => {}
                },
                Op::Delete { family: id, key } => match family(&id) {
                    Some(Family::Topic) => {
                        versions = true;
                        self.delete_topic(shared, key)?;
                    }
                    Some(Family::Group) => {
                        versions = true;
                        shared.groups.set(name(Family::Group, key)?, None);
                    }
                    _ => {}
                },
                Op::DeleteRange { .. } => {}
            }
        }
        if versions {
            let guard = shared.core.index.db()?;
            *shared.topic_version() = meta::version(&guard, Versioned::Topics)?;
            *shared.group_version() = meta::version(&guard, Versioned::Groups)?;
        }
        self.retained.trim();
        Ok(())
    }

    /// A block is stored: the entries that it holds may leave memory.
    fn stored_block(&mut self, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
        let row = consume_queue::decode_row(key, value);
        let (topic, queue_id, block) = row.ok_or_else(|| damaged(Family::ConsumeQueue, key))?;
        let full =
            block.first() + to_u64(block.entries.len()) == (block.number + 1) * BLOCK_ENTRIES;
        let topic = self.topics.get(&topic);
        let Some(queue) = topic.and_then(|topic| topic.any_in_memory(queue_id)) else {
            return Ok(());
        };
        if full {
            // One that is not loaded has nothing in memory.
            let Ok(mut tail) = queue.tail(Mode::HotOnly) else { return Ok(()) };
            let ends: Vec<_> = tail.set_stored((block.number + 1) * BLOCK_ENTRIES).collect();
            drop(tail);
            self.retained.add(&queue, ends);
        }
        Ok(())
    }

    fn put_topic(&mut self, shared: &Shared, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
        let name = name(Family::Topic, key)?;
        let row = TopicRow::decode(value).map_err(|_| damaged(Family::Topic, key))?;
        let known = shared.topics.get(name).filter(|known| known.id == TopicId(row.id));
        let topic = Arc::new(match known {
            Some(known) => known.with_config(row.into_config(name.to_owned())),
            None => {
                self.delete_topic(shared, key)?;
                Topic::begun(&shared.core, name, row)
            }
        });
        self.replay.forget_topic();
        self.topics.insert(topic.id, Arc::clone(&topic));
        shared.topics.set(name, Some(topic));
        Ok(())
    }

    fn delete_topic(&mut self, shared: &Shared, key: &[u8]) -> Result<(), ReadError> {
        let name = name(Family::Topic, key)?;
        if let Some(topic) = shared.topics.get(name) {
            topic.set_deleted();
            self.replay.forget_topic();
            self.topics.remove(&topic.id);
            shared.input.offsets.forget_topic(topic.id);
            shared.topics.set(name, None);
        }
        Ok(())
    }
}

fn no_record(log_offset: u64, reason: String) -> ReplicaError {
    ReplicaError::Record { log_offset, reason }
}

fn name(family: Family, key: &[u8]) -> Result<&str, ReadError> {
    std::str::from_utf8(key).map_err(|_| damaged(family, key))
}

fn put_group(shared: &Shared, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
    let name = name(Family::Group, key)?;
    let row = GroupRow::decode(value).map_err(|_| damaged(Family::Group, key))?;
    shared.groups.set(name, Some(Arc::new(row.into_config(name.to_owned()))));
    Ok(())
}

fn note_default(shared: &Shared, key: &[u8], value: &[u8]) -> Result<(), ReadError> {
    if let Some(end) = meta::as_log_end(key, value) {
        shared.core.index_end.store(end, Ordering::Release);
    } else if let Some(min) = meta::as_log_min(key, value) {
        retention::follow(&shared.core, min);
    } else if let Some(checkpoint) = meta::as_checkpoint(key, value) {
        clean(shared, checkpoint.log_offset)?;
    }
    Ok(())
}

/// The index has everything of the log before `end`, so queues that end there have nothing that is
/// only in memory.
fn clean(shared: &Shared, end: u64) -> Result<(), ReadError> {
    let mut unfinished = Vec::new();
    for queue in shared.input.take_dirty() {
        let mut tail = queue.tail(Mode::MayBlock)?;
        if tail.confirmed_next(end) == tail.next() {
            tail.take_dirty();
        } else {
            drop(tail);
            unfinished.push(queue);
        }
    }
    shared.input.return_dirty(unfinished);
    Ok(())
}

/// Log bytes as they came, in front of them what was left over.
pub(super) fn joined(rest: &mut BytesMut, bytes: &Bytes) -> Bytes {
    if rest.is_empty() {
        return bytes.clone();
    }
    rest.extend_from_slice(bytes);
    std::mem::take(rest).freeze()
}

/// How many of the bytes at log offset `at` are whole records, or the filler of the segment that
/// ends at `limit`.
///
/// # Errors
/// They are neither.
pub(super) fn whole(bytes: &[u8], at: u64, limit: u64) -> Result<usize, ReplicaError> {
    let mut len = 0;
    loop {
        let here = at + to_u64(len);
        let left = to_usize(limit - here);
        let rest = bytes.get(len..).unwrap_or_default();
        if rest.is_empty() {
            return Ok(len);
        }
        let size = if left < BLANK_BYTES {
            left
        } else if rest.len() < BLANK_BYTES {
            return Ok(len);
        } else {
            match frame_len(rest) {
                Some(Head::Record { size, .. }) => to_usize(u64::from(size)),
                Some(Head::Blank { .. }) => left,
                None => return Err(no_record(here, "no head".to_owned())),
            }
        };
        if size > left {
            return Err(no_record(here, format!("{size} bytes in a segment with {left} left")));
        }
        if size > rest.len() {
            return Ok(len);
        }
        len += size;
    }
}
