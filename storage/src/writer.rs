//! The one writer of RocksDB: it turns what was appended and commanded into one `WriteBatch` at a
//! time, in one order, and writes the index checkpoints.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rocksdb::WriteBatch;

use crate::{
    DataVersion, GroupConfig, Queue, ReadError, Topic,
    change::Change,
    command::Reply,
    index::{
        Family, WriteError,
        consume_queue::{self, BLOCK_ENTRIES},
        consumer_offset, key_index,
        meta::{self, Checkpoint},
    },
    keys,
    num::to_u64,
    read::Mode,
    rebuild::Rebuild,
    replica::Role,
    retained::Retained,
    store::Shared,
    tail::Packed,
};

/// Offsets wait at most this long, and the writer looks for a due checkpoint this often.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often a full disk is looked at again.
const SPACE_INTERVAL: Duration = Duration::from_millis(200);

/// A checkpoint of very many queues is written in pieces of this size.
const PIECE_BYTES: usize = 4 << 20;

/// The state of the writer's thread.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    pub(crate) shared: Arc<Shared>,
    /// The derived families are being built anew.
    pub(crate) rebuild: Option<Rebuild>,
    /// Queues with a full block that is not confirmed yet.
    pub(crate) deferred: Vec<Arc<Queue>>,
    /// Entries that stay in memory after they are stored.
    retained: Retained,
    /// Log offset of the last checkpoint.
    pub(crate) checkpoint: u64,
    checkpoint_at: Instant,
    /// Offsets were written that a power cut may still lose.
    unsynced_offsets: bool,
    synced_at: Instant,
    /// When idle queues were looked for last.
    idle_at: Instant,
    pub(crate) next_topic_id: u32,
    /// Who waits for a checkpoint.
    pub(crate) settling: Vec<Reply<()>>,
}

/// One `WriteBatch` and what follows from it once it is written.
#[derive(Default)]
pub(crate) struct Step {
    pub(crate) batch: WriteBatch,
    /// Whether somebody waits for it to be on the disk.
    pub(crate) sync: bool,
    /// Nothing in the batch refers to the log at or beyond this.
    pub(crate) log_end: u64,
    /// Queues, and below which offset their blocks are stored.
    stored: Vec<(Arc<Queue>, u64)>,
    /// The last full slice that is stored.
    slice: Option<u64>,
    /// Full blocks that were waiting.
    blocks: usize,
    /// Topics and groups as they will be.
    pub(crate) topics: HashMap<String, Option<Arc<Topic>>>,
    pub(crate) groups: HashMap<String, Option<Arc<GroupConfig>>>,
    pub(crate) topic_version: Option<DataVersion>,
    pub(crate) group_version: Option<DataVersion>,
    /// Who to answer.
    pub(crate) changes: Vec<Change>,
}

impl IndexWriter {
    pub(crate) fn new(shared: Arc<Shared>, checkpoint: u64, next_topic_id: u32) -> Self {
        Self {
            retained: Retained::new(shared.core.config.tail_entries),
            shared,
            rebuild: None,
            deferred: Vec::new(),
            checkpoint,
            checkpoint_at: Instant::now(),
            unsynced_offsets: false,
            synced_at: Instant::now(),
            idle_at: Instant::now(),
            next_topic_id,
            settling: Vec::new(),
        }
    }

    /// The thread's loop; ends when the store closes or fails.
    pub(crate) fn run(mut self) {
        let core = Arc::clone(&self.shared.core);
        loop {
            let stop = self.shared.input.stop.load(Ordering::Acquire);
            if let Err(error) = self.turn(stop) {
                core.fail(&error.to_string());
            }
            if core.health.check().is_err() {
                self.refuse_all();
            }
            if stop {
                return;
            }
            if self.rebuild.is_none() {
                thread::park_timeout(LOOK_INTERVAL);
            }
        }
    }

    fn turn(&mut self, stop: bool) -> Result<(), ReadError> {
        self.rebuild_if_lost()?;
        self.drain()?;
        if self.rebuild.is_some() {
            return self.rebuild_some();
        }
        let settle = stop || !self.settling.is_empty();
        if settle || self.checkpoint_due() {
            self.write_checkpoint(settle)?;
        }
        for reply in self.settling.drain(..) {
            // Who asked may have gone.
            drop(reply.send(Ok(())));
        }
        self.shared.let_idle_queues_go(&mut self.idle_at);
        Ok(())
    }

    fn checkpoint_due(&self) -> bool {
        let core = &self.shared.core;
        let behind = core.log.confirmed.get() - self.checkpoint;
        let interval = Duration::from_millis(core.config.checkpoint_interval_ms);
        behind >= core.config.checkpoint_log_bytes
            || (behind > 0 && self.checkpoint_at.elapsed() >= interval)
    }

    /// Writes everything that is there as one batch.
    ///
    /// # Errors
    /// The index failed. The store must not go on.
    pub(crate) fn drain(&mut self) -> Result<(), ReadError> {
        if let Err(poison) = self.shared.core.health.check() {
            return Err(ReadError::Index { reason: poison.reason.to_string() });
        }
        if self.shared.core.config.role == Role::Slave {
            // The master writes the blocks.
            self.shared.input.take_full();
            self.shared.input.pending_blocks.store(0, Ordering::Relaxed);
            return Ok(());
        }
        let mut step = self.begin();
        self.add_blocks(&mut step)?;
        self.add_slices(&mut step)?;
        self.add_commands(&mut step)?;
        self.add_offsets(&mut step)?;
        self.write(step)
    }

    fn begin(&self) -> Step {
        Step { log_end: self.shared.core.log.confirmed.get(), ..Step::default() }
    }

    fn add_blocks(&mut self, step: &mut Step) -> Result<(), ReadError> {
        let mut queues = std::mem::take(&mut self.deferred);
        queues.append(&mut self.shared.input.take_full());
        let handed_over = queues.len();
        // A queue is here once for each block that became full, and is done once.
        queues.sort_unstable_by_key(Arc::as_ptr);
        queues.dedup_by(|one, other| Arc::ptr_eq(one, other));
        for queue in queues.into_iter().filter(|queue| !queue.is_deleted()) {
            let (full, more) = {
                let tail = queue.tail(Mode::MayBlock)?;
                let full = tail.full_blocks(step.log_end);
                let stored = tail.stored() + to_u64(full.len()) * BLOCK_ENTRIES;
                (full, stored + BLOCK_ENTRIES <= tail.next())
            };
            self.put_blocks(step, &queue, full)?;
            if more {
                self.deferred.push(queue);
            }
        }
        step.blocks = handed_over - self.deferred.len();
        Ok(())
    }

    fn put_blocks(
        &self,
        step: &mut Step,
        queue: &Arc<Queue>,
        blocks: Vec<Packed>,
    ) -> Result<(), ReadError> {
        let guard = self.shared.core.index.db()?;
        let family = guard.family(Family::ConsumeQueue);
        let end = blocks.last().map(|last| (last.number + 1) * BLOCK_ENTRIES);
        for block in blocks {
            let key = consume_queue::key(queue.topic, queue.queue_id, block.number);
            step.batch.put_cf(family, key, block.bytes);
        }
        step.stored.extend(end.map(|end| (Arc::clone(queue), end)));
        Ok(())
    }

    fn add_slices(&self, step: &mut Step) -> Result<(), ReadError> {
        let full = self.shared.keys().full_before(step.log_end);
        for slice in full {
            slice.put(&self.shared.core.index.db()?, &mut step.batch);
            step.slice = Some(slice.number);
        }
        Ok(())
    }

    fn add_offsets(&mut self, step: &mut Step) -> Result<(), ReadError> {
        let guard = self.shared.core.index.db()?;
        let family = guard.family(Family::ConsumerOffset);
        self.shared.input.offsets.take(|group, topic, queue_id, offset| {
            let key = consumer_offset::key(group, topic, queue_id);
            step.batch.put_cf(family, key, consumer_offset::value(offset));
            self.unsynced_offsets = true;
        });
        // Some may count messages that were confirmed only after the batch was begun.
        step.log_end = self.shared.core.log.confirmed.get();
        // After a power cut at most the offsets of one interval are lost.
        if self.unsynced_offsets && self.synced_at.elapsed() >= LOOK_INTERVAL {
            step.sync = true;
        }
        Ok(())
    }

    /// Writes the batch and lets everyone know.
    pub(crate) fn write(&mut self, mut step: Step) -> Result<(), ReadError> {
        let core = Arc::clone(&self.shared.core);
        if step.batch.is_empty() && step.sync {
            core.index.sync()?;
        }
        if !step.batch.is_empty() {
            meta::put_log_end(&mut step.batch, &core.index.db()?, step.log_end);
            self.put(step.batch, step.sync)?;
            core.index_end.fetch_max(step.log_end, Ordering::AcqRel);
            core.watchers.wake();
        }
        if step.sync {
            self.mark()?;
            self.unsynced_offsets = false;
            self.synced_at = Instant::now();
        }
        self.shared.input.offsets.stored();
        for (queue, stored) in step.stored {
            let ends: Vec<_> = queue.tail(Mode::MayBlock)?.set_stored(stored).collect();
            self.retained.add(&queue, ends);
        }
        self.retained.trim();
        self.shared.input.pending_blocks.fetch_sub(step.blocks, Ordering::Relaxed);
        if let Some(number) = step.slice {
            self.shared.keys().set_stored(number);
        }
        for (name, topic) in step.topics {
            self.shared.topics.set(&name, topic);
        }
        for (name, group) in step.groups {
            self.shared.groups.set(&name, group);
        }
        if let Some(version) = step.topic_version {
            *self.shared.topic_version() = version;
        }
        if let Some(version) = step.group_version {
            *self.shared.group_version() = version;
        }
        step.changes.into_iter().for_each(Change::done);
        Ok(())
    }

    /// Notes that the index is durable up to here: without it nobody would miss what RocksDB does
    /// not find in a damaged WAL.
    fn mark(&self) -> Result<(), ReadError> {
        let core = &self.shared.core;
        let mut mark = core.mark();
        // Read with the mark locked: marks never go back.
        let (flushed, sequence) = (core.log.flushed(), core.index.durable_sequence());
        mark.write(flushed, sequence, false).map_err(|error| ReadError::Index {
            reason: format!("the durable watermark cannot be written: {error}"),
        })
    }

    /// Writes a batch. On a full disk nothing is lost by waiting: appends are refused meanwhile.
    pub(crate) fn put(&self, batch: WriteBatch, sync: bool) -> Result<(), ReadError> {
        let core = &self.shared.core;
        let bytes = batch.data().to_vec();
        let mut written = core.index.try_write(batch, sync);
        loop {
            match written {
                Ok(()) => return Ok(()),
                Err(WriteError::Failed(error)) => return Err(error),
                Err(WriteError::Full { reason }) => self.wait_for_space(reason)?,
                // The files in question go with the rebuild that follows.
                Err(WriteError::Lost) => {}
            }
            core.index.reopen()?;
            written = core.index.try_write(WriteBatch::from_data(&bytes), sync);
        }
    }

    fn wait_for_space(&self, reason: String) -> Result<(), ReadError> {
        let core = &self.shared.core;
        core.space.exhausted(&reason);
        // Without the index nothing can be deleted, so it gets what there is.
        self.shared.allocator.give_back();
        loop {
            if self.shared.input.stop.load(Ordering::Acquire) {
                return Err(ReadError::Index { reason });
            }
            thread::park_timeout(SPACE_INTERVAL);
            if core.space.has_room_for_index() {
                break;
            }
        }
        tracing::info!("there is space on the disk again; the index goes on");
        Ok(())
    }

    /// Writes partial blocks and buckets too, and then that the index holds everything below the
    /// current end of the log; durably if `sync`.
    ///
    /// # Errors
    /// As [`IndexWriter::drain`].
    pub(crate) fn write_checkpoint(&mut self, sync: bool) -> Result<(), ReadError> {
        let last_store_ms = self.shared.core.log.last_store_ms();
        let mut step = Step { sync, ..self.begin() };
        let confirmed = step.log_end;
        self.add_slices(&mut step)?;
        // The keys of a full slice that is not confirmed cannot be written yet, so they must be
        // read from the log again.
        let waiting = self.shared.keys().first_full_after(confirmed);
        let end = waiting.map_or(confirmed, |first| first.max(self.checkpoint));
        if end == self.checkpoint {
            return self.write(step);
        }
        let mut unfinished = Vec::new();
        for queue in self.shared.input.take_dirty() {
            if !queue.is_deleted() && !self.put_all_blocks(&mut step, &queue)? {
                unfinished.push(queue);
            }
            if step.batch.size_in_bytes() >= PIECE_BYTES {
                let rest = Step { log_end: confirmed, sync, ..Step::default() };
                self.write(std::mem::replace(&mut step, rest))?;
            }
        }
        self.shared.input.return_dirty(unfinished);
        self.put_partial_slice(&mut step, end)?;
        let checkpoint = Checkpoint { log_offset: end, last_store_ms };
        meta::put_checkpoint(&mut step.batch, &self.shared.core.index.db()?, &checkpoint);
        self.write(step)?;
        self.checkpoint = end;
        self.checkpoint_at = Instant::now();
        Ok(())
    }

    /// Adds all blocks of a queue that are not stored, the last one as far as it is confirmed.
    /// `false` if the queue has entries that are not.
    fn put_all_blocks(&self, step: &mut Step, queue: &Arc<Queue>) -> Result<bool, ReadError> {
        let (full, partial, finished) = {
            let mut tail = queue.tail(Mode::MayBlock)?;
            tail.take_dirty();
            let finished = tail.confirmed_next(step.log_end) == tail.next();
            if !finished {
                tail.set_dirty();
            }
            (tail.full_blocks(step.log_end), tail.partial_block(step.log_end), finished)
        };
        self.put_blocks(step, queue, full)?;
        let guard = self.shared.core.index.db()?;
        if let Some(block) = partial {
            let key = consume_queue::key(queue.topic, queue.queue_id, block.number);
            step.batch.put_cf(guard.family(Family::ConsumeQueue), key, block.bytes);
        }
        Ok(finished)
    }

    fn put_partial_slice(&self, step: &mut Step, end: u64) -> Result<(), ReadError> {
        let Some((number, row)) = self.shared.keys().freeze(end) else { return Ok(()) };
        let guard = self.shared.core.index.db()?;
        let family = guard.family(Family::KeyIndex);
        for buckets in keys::bucket_ranges() {
            // A range at a time, because appending waits for this lock.
            let taken = self.shared.keys().take_dirty(buckets, end);
            for (bucket, entries) in taken {
                step.batch.put_cf(family, key_index::bucket_key(number, bucket), entries);
            }
        }
        self.shared.keys().thaw();
        step.batch.put_cf(family, key_index::slice_key(number), row.encode());
        Ok(())
    }
}
