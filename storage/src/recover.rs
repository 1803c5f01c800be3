//! Bringing the index and the log together when a store is opened.
//!
//! Usually the log is ahead: the records behind the index checkpoint are read and dispatched again.
//! After a power cut the index may be ahead: entries beyond the end of the log are removed, then
//! consumer offsets that point beyond the end of their queue.

use std::{
    collections::HashMap,
    ops::{ControlFlow, Range},
    sync::{Arc, atomic::Ordering},
};

use prost::Message;
use protocol::record::RecordView;
use rocksdb::WriteBatch;

use crate::{
    DamagedRange, GroupConfig, LogOffset, OpenError, Queue, QueueOffset, ReadError, Topic, adopt,
    bug::{self, Bug},
    commit_log::{
        recover::Found,
        scan::{Scanner, Step},
    },
    core::Core,
    dispatch::{self, Dispatcher, Indexed, Place, queue_offset},
    file::failed,
    index::{
        Family, Index,
        consume_queue::{self, BlockEntry},
        consumer_offset, damaged, for_each,
        group::GroupRow,
        key_index::{self, BUCKETS},
        meta,
        topic::TopicRow,
    },
    read::Mode,
    store::Shared,
    tail::Replayed,
    writer::IndexWriter,
};

/// The index is brought up to date in steps of this many full blocks.
const DRAIN_BLOCKS: usize = 4096;

/// Removes every entry of the index that points to the log at or beyond `end`, durably. Returns
/// how many there were.
pub(crate) fn cut_index(index: &Index, end: u64) -> Result<u64, ReadError> {
    let guard = index.db()?;
    let mut batch = WriteBatch::default();
    let mut removed = 0;
    let family = guard.family(Family::ConsumeQueue);
    consume_queue::beyond(&guard, end, |key, rest, count| {
        removed += count;
        match rest {
            Some(rest) => batch.put_cf(family, key, rest),
            None => batch.delete_cf(family, key),
        }
    })?;
    let family = guard.family(Family::KeyIndex);
    key_index::slices(&guard, |slice, row| {
        if row.end <= end {
            return Ok(ControlFlow::Break(()));
        }
        for bucket in 0..BUCKETS {
            let entries = key_index::bucket(&guard, slice, bucket)?;
            let kept = key_index::before(&entries, end);
            let key = key_index::bucket_key(slice, bucket);
            if kept.is_empty() {
                batch.delete_cf(family, key);
            } else if kept.len() < entries.len() {
                batch.put_cf(family, key, kept);
            }
        }
        if row.first >= end {
            batch.delete_cf(family, key_index::slice_key(slice));
        } else {
            let cut = key_index::SliceRow { end, ..row };
            batch.put_cf(family, key_index::slice_key(slice), cut.encode());
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let checkpoint = meta::checkpoint(&guard)?;
    if checkpoint.log_offset > end {
        let checkpoint = meta::Checkpoint { log_offset: end, ..checkpoint };
        meta::put_checkpoint(&mut batch, &guard, &checkpoint);
    }
    meta::put_unclamped(&mut batch, &guard, true);
    index.write(batch, true)?;
    Ok(removed)
}

/// The stored topics. None of them begins behind `end`, where the log does.
pub(crate) fn load_topics(core: &Arc<Core>, end: u64) -> Result<Vec<Arc<Topic>>, ReadError> {
    let guard = core.index.db()?;
    let mut topics = Vec::new();
    let rows = guard.db().raw_iterator_cf(guard.family(Family::Topic));
    for_each(rows, |key, value| {
        let name = std::str::from_utf8(key).map_err(|_| damaged(Family::Topic, key))?;
        let row = TopicRow::decode(value).map_err(|_| damaged(Family::Topic, key))?;
        topics.push(Arc::new(Topic::stored(core, name, row, end)));
        Ok(())
    })?;
    Ok(topics)
}

/// The stored groups.
pub(crate) fn load_groups(index: &Index) -> Result<Vec<Arc<GroupConfig>>, ReadError> {
    let guard = index.db()?;
    let mut groups = Vec::new();
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Group)), |key, value| {
        let name = std::str::from_utf8(key).map_err(|_| damaged(Family::Group, key))?;
        let row = GroupRow::decode(value).map_err(|_| damaged(Family::Group, key))?;
        groups.push(Arc::new(row.into_config(name.to_owned())));
        Ok(())
    })?;
    Ok(groups)
}

/// Number of the next slice, and up to where the stored ones cover the log.
pub(crate) fn next_slice(index: &Index) -> Result<(u64, u64), ReadError> {
    let mut next = (0, 0);
    key_index::slices(&index.db()?, |slice, row| {
        next = (slice + 1, row.end);
        Ok(ControlFlow::Break(()))
    })?;
    Ok(next)
}

/// Records are dispatched in steps of this many: those of a step share one look into the index for
/// all queues that it touches first, in the order of their keys.
const HELD_RECORDS: usize = 1 << 16;

/// A record that is yet to be put into its queue.
#[derive(Debug)]
struct Held {
    queue: Arc<Queue>,
    place: u64,
    entry: BlockEntry,
    /// Its part of [`Replay::hashes`].
    hashes: Range<usize>,
    store_ms: i64,
}

/// What a replay has met.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Records that the index did not hold.
    pub(crate) records: u64,
    pub(crate) damaged: Vec<DamagedRange>,
    dispatcher: Dispatcher,
    held: Vec<Held>,
    hashes: Vec<u32>,
    /// The topic of the last record: neighbours often share it.
    topic: Option<Arc<Topic>>,
}

impl Replay {
    /// Dispatches the records of `from..end` as appending did. What cannot be read is passed over
    /// and reported: it is below the durable watermark, so it is damage and no torn tail.
    ///
    /// # Errors
    /// The log cannot be read, or the index cannot be written.
    pub(crate) fn run(
        &mut self,
        writer: &mut IndexWriter,
        found: &[Found],
        (from, end): (u64, u64),
    ) -> Result<(), OpenError> {
        let shared = Arc::clone(&writer.shared);
        let from = from.max(shared.core.log.min());
        for segment in found.iter().filter(|segment| segment.limit_offset() > from) {
            let failed = || failed("read", &segment.path);
            let mut scanner = Scanner::open(&segment.path, segment.base_offset).map_err(failed())?;
            let mut offset = segment.base_offset.max(from);
            let limit = segment.limit_offset().min(end);
            while offset < limit {
                offset = match scanner.step(offset).map_err(failed())? {
                    Step::Record(record) => {
                        let held = self.locate(&shared, &record);
                        self.held.extend(held);
                        offset + u64::from(record.total_size)
                    }
                    Step::Filled => limit,
                    Step::Empty | Step::Invalid(_) => {
                        let next = scanner.find_record(offset + 1, limit).map_err(failed())?;
                        self.damage(offset, next.unwrap_or(limit));
                        next.unwrap_or(limit)
                    }
                };
                if self.held.len() >= HELD_RECORDS {
                    self.settle(writer)?;
                }
            }
        }
        self.settle(writer)?;
        self.damaged.sort_unstable_by_key(|range| range.from);
        Ok(writer.drain()?)
    }

    /// Dispatches the records that are held.
    fn settle(&mut self, writer: &mut IndexWriter) -> Result<(), ReadError> {
        let shared = Arc::clone(&writer.shared);
        let mut held = std::mem::take(&mut self.held);
        let of = |queue: &Arc<Queue>| (queue.topic, queue.queue_id);
        let unloaded = held.iter().map(|held| &held.queue).filter(|queue| !queue.is_loaded());
        let mut unloaded: Vec<_> = unloaded.collect();
        unloaded.sort_unstable_by_key(|queue| of(queue));
        shared.core.index.derived(|guard| {
            let mut blocks = consume_queue::Ends::new(guard);
            unloaded.iter().try_for_each(|queue| queue.load_by(guard, &mut blocks))
        })?;
        for held in held.drain(..) {
            self.dispatch(&shared, &held)?;
            if shared.input.pending_blocks.load(Ordering::Relaxed) >= DRAIN_BLOCKS {
                writer.drain()?;
            }
        }
        self.held = held;
        self.hashes.clear();
        Ok(())
    }

    fn damage(&mut self, from: u64, to: u64) {
        tracing::error!(from, to, "damage below the durable end of the log; nothing is removed");
        self.damaged.push(DamagedRange { from: LogOffset(from), to: LogOffset(to) });
    }

    /// Dispatches one record. Returns its queue, if it is in one.
    ///
    /// # Errors
    /// The queue's state cannot be read.
    pub(crate) fn record(
        &mut self,
        shared: &Shared,
        record: &RecordView<'_>,
    ) -> Result<Option<Arc<Queue>>, ReadError> {
        self.hashes.clear();
        let Some(held) = self.locate(shared, record) else { return Ok(None) };
        self.dispatch(shared, &held)?;
        Ok(Some(held.queue))
    }

    /// Finds the queue of a record, if it is in one.
    fn locate(&mut self, shared: &Shared, record: &RecordView<'_>) -> Option<Held> {
        let log_offset = u64::try_from(record.log_offset).unwrap_or_default();
        shared
            .core
            .log
            .set_last_store_ms(record.store_timestamp.max(shared.core.log.last_store_ms()));
        if self.topic.as_ref().is_none_or(|topic| topic.config.name != record.topic) {
            self.topic = shared.topics.get(record.topic);
        }
        // Records of a topic that was deleted stay in the log until retention removes them.
        let topic = self.topic.as_ref().filter(|topic| topic.since_log_offset <= log_offset)?;
        if !adopt::is_in_queue(record.sys_flag) {
            return None;
        }
        let queue = u32::try_from(record.queue_id).ok().and_then(|id| topic.any_queue(id));
        let (Some(queue), Some(place)) = (queue, queue_offset(record.queue_offset)) else {
            self.damage(log_offset, log_offset + u64::from(record.total_size));
            return None;
        };
        let first = self.hashes.len();
        let tag_hash = dispatch::terms(record.properties, &topic.hasher(), &mut self.hashes);
        let entry = BlockEntry { log_offset, size: record.total_size, tag_hash };
        let hashes = first..self.hashes.len();
        Some(Held { queue, place, entry, hashes, store_ms: record.store_timestamp })
    }

    fn dispatch(&mut self, shared: &Shared, held: &Held) -> Result<(), ReadError> {
        let Held { queue, place, entry, hashes, store_ms } = held;
        let hashes = self.hashes.get(hashes.clone()).unwrap_or_default();
        let indexed = Indexed { entry: *entry, hashes, store_ms: *store_ms };
        let placed =
            self.dispatcher.dispatch(queue, Place::At(*place), indexed, &mut shared.keys())?;
        match placed.1 {
            Replayed::Added => self.records += 1,
            Replayed::Known => {}
            Replayed::Absurd => self.damage(entry.log_offset, entry.end()),
        }
        self.dispatcher.hand_over(&shared.input);
        Ok(())
    }

    /// The topics have changed.
    pub(crate) fn forget_topic(&mut self) {
        self.topic = None;
    }
}

/// Moves consumer offsets that point beyond the end of their queue back to it, durably. The end of
/// the log was cut, so the messages that they counted will never be seen again under those offsets.
pub(crate) fn clamp_offsets(shared: &Shared, end: u64) -> Result<(), ReadError> {
    let topics: HashMap<_, _> =
        shared.topics.all().into_iter().map(|topic| (topic.id, topic)).collect();
    let guard = shared.core.index.db()?;
    let mut ends = consume_queue::Ends::new(&guard);
    let mut batch = WriteBatch::default();
    consumer_offset::scan(&guard, None, |group, topic, queue_id, offset| {
        let Some(of) = topics.get(&topic).filter(|of| queue_id < of.queue_count) else {
            return Ok(());
        };
        // What the replay has added is in memory; everything else is in the index, and reading it
        // there leaves the queue out of memory.
        let replayed = of.queues_in_memory().and_then(|queues| queues.in_memory(queue_id));
        let next = match replayed {
            Some(queue) => queue.tail(Mode::MayBlock)?.next(),
            None => ends.of((topic, queue_id))?,
        };
        if offset.0 > next && !bug::on(Bug::NoClamp) {
            tracing::warn!(group, topic = topic.0, queue_id, from = offset.0, to = next, "clamped");
            let key = consumer_offset::key(group, topic, queue_id);
            let value = consumer_offset::value(QueueOffset(next));
            batch.put_cf(guard.family(Family::ConsumerOffset), key, value);
        }
        Ok(())
    })?;
    // The rows of topics that were created behind the new end say so no more.
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |key, value| {
        let mut row = TopicRow::decode(value).map_err(|_| damaged(Family::Topic, key))?;
        if row.since_log_offset > end {
            row.since_log_offset = end;
            batch.put_cf(guard.family(Family::Topic), key, row.encode_to_vec());
        }
        Ok(())
    })?;
    meta::put_unclamped(&mut batch, &guard, false);
    meta::put_log_end(&mut batch, &guard, end);
    shared.core.index.write(batch, true)
}
