//! Building the derived families anew from the log while the store serves, after RocksDB could not
//! read them.
//!
//! What is in memory stays as it is: queues that are in memory go on. Reads of older entries,
//! queries by key and queues that are not in memory are answered with [`ReadError::Rebuilding`]
//! until the end. If the process stops before, the next start rebuilds before it serves.
//!
//! A queue without a message in the log goes on where the `queue_end` rows say.

use std::{collections::HashMap, sync::Arc, sync::atomic::Ordering};

use protocol::record::RecordView;
use rocksdb::WriteBatch;

use crate::{
    LogOffset, ReadError, TopicId,
    commit_log::{
        allocate,
        scan::{Scanner, Step},
    },
    dispatch::{self, queue_offset},
    index::{
        Family,
        consume_queue::{self, BLOCK_ENTRIES, BlockEntry},
        meta::{self, Checkpoint},
    },
    keys::KeyTail,
    read::Mode,
    store::Shared,
    tail::{Replayed, Tail},
    writer::IndexWriter,
};

/// So much log is read before the index writer looks at its other work again.
const STEP_BYTES: u64 = 4 << 20;

/// A bad sector is passed over in steps of this size.
const SECTOR_BYTES: u64 = 4096;

/// A rebuild under way.
#[derive(Debug)]
pub(crate) struct Rebuild {
    /// Everything before this log offset was read.
    at: u64,
    /// What was appended later is in memory.
    end: u64,
    tails: HashMap<(TopicId, u32), Tail>,
    /// Queues whose last block has become full since the last write.
    full: Vec<(TopicId, u32)>,
    /// Of the queues in memory: the queue offset below which they need blocks.
    limits: HashMap<(TopicId, u32), u64>,
    keys: KeyTail,
    /// Records from here on are in the slices in memory.
    keys_end: u64,
    hashes: Vec<u32>,
}

impl IndexWriter {
    /// Begins, if somebody could not read a derived family.
    ///
    /// # Errors
    /// The index failed. The store must not go on.
    pub(crate) fn rebuild_if_lost(&mut self) -> Result<(), ReadError> {
        let shared = Arc::clone(&self.shared);
        let core = &shared.core;
        let Some(reason) = core.index.take_lost() else { return Ok(()) };
        if self.rebuild.is_some() {
            return Err(ReadError::Index { reason });
        }
        tracing::error!(reason, "consume queues and key index cannot be read; they are rebuilt");
        core.index.set_rebuilding(true);
        core.index.reopen()?;
        let log_offset = core.log.min();
        let last_store_ms = meta::checkpoint(&core.index.db()?)?.last_store_ms;
        let from = Checkpoint { log_offset, last_store_ms };
        core.index.drop_derived(&from)?;
        self.checkpoint = log_offset;
        let next_slice = shared.keys().next_number();
        let (end, limits) = self.keep_what_is_in_memory();
        let keys_end = shared.keys().keep_unstored().unwrap_or(end);
        self.rebuild = Some(Rebuild {
            at: log_offset,
            end,
            tails: HashMap::new(),
            full: Vec::new(),
            limits,
            keys: KeyTail::new(core.config.slice_messages, next_slice, 0),
            keys_end,
            hashes: Vec::new(),
        });
        Ok(())
    }

    /// Makes sure that what the queues in memory hold is written again. Returns the end of the log
    /// up to which that does not help, and what the queues lack.
    fn keep_what_is_in_memory(&mut self) -> (u64, HashMap<(TopicId, u32), u64>) {
        let shared = Arc::clone(&self.shared);
        // With this lock no append is under way, so what comes later finds its queue in memory.
        let _appender = shared.appender();
        let mut limits = HashMap::new();
        let mut dirty = Vec::new();
        shared.topics.each(|topic| {
            let Some(queues) = topic.queues_in_memory() else { return };
            queues.each_in_memory(|queue| {
                // Without a tail it is not in memory.
                let Ok(mut tail) = queue.tail(Mode::HotOnly) else { return };
                limits.insert((queue.topic, queue.queue_id), tail.first());
                tail.forget_stored();
                if tail.set_dirty() {
                    dirty.push(Arc::clone(queue));
                }
                shared.input.pending_blocks.fetch_add(1, Ordering::Relaxed);
                self.deferred.push(Arc::clone(queue));
            });
        });
        shared.input.return_dirty(dirty);
        (shared.core.log.appended(), limits)
    }

    /// Does one step; the last one ends the rebuild.
    ///
    /// # Errors
    /// The index failed. The store must not go on.
    pub(crate) fn rebuild_some(&mut self) -> Result<(), ReadError> {
        let Some(mut rebuild) = self.rebuild.take() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        rebuild.read_some(&shared)?;
        let mut batch = WriteBatch::default();
        rebuild.put_full(&shared, &mut batch)?;
        if rebuild.at < rebuild.end {
            self.rebuild = Some(rebuild);
            return self.put(batch, false);
        }
        rebuild.put_rest(&shared, &mut batch)?;
        meta::put_lost(&mut batch, &shared.core.index.db()?, false);
        self.put(batch, true)?;
        shared.core.index.set_rebuilding(false);
        tracing::info!("consume queues and key index are complete again");
        Ok(())
    }
}

impl Rebuild {
    fn read_some(&mut self, shared: &Shared) -> Result<(), ReadError> {
        let core = &shared.core;
        // Retention may go on meanwhile.
        self.at = self.at.max(core.log.min());
        let limit = self.end.min(self.at + STEP_BYTES);
        for segment in core.log.segments_between(self.at, limit) {
            let base_offset = segment.base_offset();
            let path = core.config.path.join("commitlog").join(allocate::name(base_offset));
            let mut scanner = match Scanner::open(&path, base_offset) {
                Ok(scanner) => scanner,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(self.unreadable(&error)),
            };
            let segment_end = segment.limit_offset().min(self.end);
            while self.at < segment_end.min(limit) {
                self.at = self.one(shared, &mut scanner, segment_end)?;
            }
        }
        if self.at < core.log.min() {
            self.at = core.log.min();
        }
        Ok(())
    }

    /// Looks at one position and returns the next.
    fn one(
        &mut self,
        shared: &Shared,
        scanner: &mut Scanner,
        segment_end: u64,
    ) -> Result<u64, ReadError> {
        let at = self.at;
        let found = match scanner.step(at) {
            Ok(Step::Record(record)) => {
                self.record(shared, &record)?;
                return Ok(at + u64::from(record.total_size));
            }
            Ok(Step::Filled) => return Ok(segment_end),
            Ok(Step::Empty | Step::Invalid(_)) => scanner.find_record(at + 1, segment_end),
            Err(error) => Err(error),
        };
        match found {
            Ok(next) => Ok(next.unwrap_or(segment_end)),
            Err(error) => {
                tracing::error!(at, %error, "a part of the log cannot be read");
                Ok(segment_end.min(at - at % SECTOR_BYTES + SECTOR_BYTES))
            }
        }
    }

    fn record(&mut self, shared: &Shared, record: &RecordView<'_>) -> Result<(), ReadError> {
        let log_offset = u64::try_from(record.log_offset).unwrap_or_default();
        let topic = shared.topics.get(record.topic);
        let topic = topic.filter(|topic| topic.since_log_offset <= log_offset);
        let (Some(topic), Ok(queue_id)) = (topic, u32::try_from(record.queue_id)) else {
            return Ok(());
        };
        let Some(place) = queue_offset(record.queue_offset) else { return Ok(()) };
        if !topic.has_queue(queue_id) {
            return Ok(());
        }
        self.hashes.clear();
        let tag_hash = dispatch::terms(record.properties, &topic.hasher(), &mut self.hashes);
        let at = (topic.id, queue_id);
        let entry = BlockEntry { log_offset, size: record.total_size, tag_hash };
        let tail = self.tails.entry(at).or_default();
        if tail.replay(place, entry, record.store_timestamp) == Replayed::Added && tail.ends_block()
        {
            self.full.push(at);
        }
        if log_offset < self.keys_end {
            self.keys.add(&self.hashes, log_offset, record.total_size, record.store_timestamp);
        }
        Ok(())
    }

    /// Adds the blocks and slices that are complete.
    fn put_full(&mut self, shared: &Shared, batch: &mut WriteBatch) -> Result<(), ReadError> {
        let guard = shared.core.index.db()?;
        let family = guard.family(Family::ConsumeQueue);
        for at in std::mem::take(&mut self.full) {
            let Some(tail) = self.tails.get_mut(&at) else { continue };
            let limit = self.limits.get(&at).copied().unwrap_or(u64::MAX);
            let end = tail.next() - tail.next() % BLOCK_ENTRIES;
            for block in tail.full_blocks(u64::MAX) {
                if block.number * BLOCK_ENTRIES < limit {
                    batch.put_cf(family, consume_queue::key(at.0, at.1, block.number), block.bytes);
                }
            }
            tail.set_stored(end).for_each(drop);
            tail.forget_below(end);
        }
        for slice in self.keys.full_before(u64::MAX) {
            slice.put(&guard, batch);
            self.keys.set_stored(slice.number);
        }
        Ok(())
    }

    /// Adds the blocks and the slice that are not full, except those that are in memory.
    fn put_rest(&mut self, shared: &Shared, batch: &mut WriteBatch) -> Result<(), ReadError> {
        let guard = shared.core.index.db()?;
        let family = guard.family(Family::ConsumeQueue);
        for (at, tail) in self.tails.iter().filter(|(at, _)| !self.limits.contains_key(at)) {
            if let Some(block) = tail.partial_block(u64::MAX) {
                batch.put_cf(family, consume_queue::key(at.0, at.1, block.number), block.bytes);
            }
        }
        if let Some(slice) = self.keys.take_rest() {
            slice.put(&guard, batch);
        }
        Ok(())
    }

    fn unreadable(&self, error: &std::io::Error) -> ReadError {
        ReadError::Disk { log_offset: LogOffset(self.at), reason: error.to_string() }
    }
}
