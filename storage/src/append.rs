//! Appending: records are prepared outside of any lock, then one lock is taken for all of them.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::BytesMut;
use protocol::record::{self, NewRecord};

use crate::{
    AppendError, LogOffset, Queue, QueueOffset, Topic,
    commit_log::writer::{LogWriter, largest_record},
    core::Core,
    dispatch::{self, Dispatcher, Indexed, Input, Place, bytes_of, size_of_record},
    index::consume_queue::BlockEntry,
    keys::KeyTail,
    replica::ReplicaError,
};

/// A batch gives its memory back when it is cleared and has grown beyond this.
const KEPT_BYTES: usize = 256 << 10;

/// How far back to look for a queue that the batch has met already.
const RECENT_QUEUES: usize = 8;

/// So many full slices of the key index that are not written mean that the index is too slow for
/// the producers.
const SLICES_MAX: usize = 8;

/// Records that go to the log together. Keep it and [`AppendBatch::clear`] it: its memory is used
/// again.
#[derive(Debug, Default)]
pub struct AppendBatch {
    /// The records, one after the other.
    records: BytesMut,
    items: Vec<Item>,
    queues: Vec<Arc<Queue>>,
    hashes: Vec<u32>,
    results: Vec<Appended>,
}

/// One record of a batch.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Place in `queues`.
    queue: usize,
    size: u32,
    tag_hash: i32,
    /// Number of key hashes.
    hashes: usize,
}

/// Where one record of a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position of the record.
    pub log_offset: LogOffset,
    /// Its offset in its queue.
    pub queue_offset: QueueOffset,
    /// Size of the record in bytes.
    pub size: u32,
    /// When it was stored, in Unix milliseconds.
    pub store_timestamp: i64,
}

impl AppendBatch {
    /// Encodes a record for a queue of a topic; the record's own topic and queue are not used.
    /// Reads RocksDB when the queue is touched for the first time.
    ///
    /// # Errors
    /// [`AppendError::NoQueue`], [`AppendError::TooLarge`], [`AppendError::Record`]: this record
    /// is refused and the batch is as before.
    pub fn push(
        &mut self,
        topic: &Arc<Topic>,
        queue_id: u32,
        record: &NewRecord<'_>,
    ) -> Result<(), AppendError> {
        let queue = self.queue_of(topic, queue_id)?;
        let wire_queue_id = i32::try_from(queue_id).unwrap_or(i32::MAX);
        let record = NewRecord { topic: &topic.config.name, queue_id: wire_queue_id, ..*record };
        let config = &topic.core.config;
        let limit = config.max_message_bytes.min(largest_record(config.segment_size_bytes));
        let size = record.sealed_len();
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        record.encode_sealed(&mut self.records)?;
        let properties = dispatch::properties_of(&self.records, record.sealed_properties_len());
        let hashed = self.hashes.len();
        let tag_hash = dispatch::terms(properties, &topic.hasher(), &mut self.hashes);
        let item = Item {
            queue: queue.unwrap_or_else(|new| {
                self.queues.push(new);
                self.queues.len() - 1
            }),
            size: size_of_record(size),
            tag_hash,
            hashes: self.hashes.len() - hashed,
        };
        self.items.push(item);
        Ok(())
    }

    /// The place of a queue in `queues`, so that neighbours share one handle; or the queue, loaded,
    /// if it is new to the batch.
    fn queue_of(
        &self,
        topic: &Topic,
        queue_id: u32,
    ) -> Result<Result<usize, Arc<Queue>>, AppendError> {
        let mut recent = self.queues.iter().enumerate().rev().take(RECENT_QUEUES);
        let same = |queue: &Queue| (queue.topic, queue.queue_id) == (topic.id, queue_id);
        if let Some((at, _)) = recent.find(|(_, queue)| same(queue))
            && topic.has_queue(queue_id)
        {
            return Ok(Ok(at));
        }
        let queue = topic.queue(queue_id).ok_or_else(|| AppendError::NoQueue {
            topic: topic.config.name.clone(),
            queue_id,
            queues: topic.config.visible_queues(),
        })?;
        queue.ensure_loaded()?;
        Ok(Err(queue))
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no records.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Size of all records in bytes.
    pub fn bytes(&self) -> usize {
        self.records.len()
    }

    /// Where the records went, in the order of [`AppendBatch::push`]; empty before the append.
    pub fn results(&self) -> &[Appended] {
        &self.results
    }

    /// Empties the batch and keeps its memory, unless that is a lot.
    pub fn clear(&mut self) {
        self.records.clear();
        if self.records.capacity() > KEPT_BYTES {
            self.records = BytesMut::new();
        }
        self.items.clear();
        self.queues.clear();
        self.hashes.clear();
        self.results.clear();
    }

    /// The queues that the records go to, some perhaps twice.
    pub(crate) fn queues(&self) -> &[Arc<Queue>] {
        &self.queues
    }
}

/// The one that appends, behind the append lock.
#[derive(Debug)]
pub(crate) struct Appender {
    core: Arc<Core>,
    log: LogWriter,
    dispatcher: Dispatcher,
}

impl Appender {
    pub(crate) fn new(core: Arc<Core>, log: LogWriter) -> Self {
        Self { core, log, dispatcher: Dispatcher::default() }
    }

    /// Appends all records of `batch`, or none.
    ///
    /// # Errors
    /// [`AppendError`]; nothing has changed, except after [`AppendError::Torn`].
    pub(crate) fn append(
        &mut self,
        batch: &mut AppendBatch,
        keys: &Mutex<KeyTail>,
        input: &Input,
    ) -> Result<(), AppendError> {
        if let Some(gone) = batch.queues.iter().find(|queue| queue.is_deleted()) {
            return Err(AppendError::TopicDeleted { topic: gone.topic });
        }
        self.log.reserve(batch.items.iter().map(|item| bytes_of(item.size))).map_err(|reason| {
            self.core.space.exhausted(&reason);
            AppendError::NoSpace { reason }
        })?;
        let mut keys = keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.full_len() >= SLICES_MAX {
            return Err(AppendError::Busy { pending: keys.full_len() });
        }
        // Store times never go back, whatever the clock does: the index is searched by them.
        let log = Arc::clone(&self.core.log);
        let store_ms = self.core.clock.now_ms().max(log.last_store_ms());
        if let Err(error) = self.write_batch(batch, store_ms, &mut keys) {
            self.core.fail(&format!("the commit log cannot be written: {error}"));
            self.core.health.check().map_err(AppendError::Torn)?;
        }
        let full_slices = keys.full_len();
        drop(keys);
        // Before anybody sees the new end: a checkpoint up to it must know these queues.
        self.dispatcher.hand_over(input);
        log.set_appended(self.log.end(), store_ms);
        self.core.confirm();
        if full_slices > 0 {
            input.wake();
        }
        Ok(())
    }

    /// Makes the segment that begins at `base_offset` the one to write to; see
    /// [`LogWriter::begin_segment`].
    pub(crate) fn begin_segment(
        &mut self,
        base_offset: u64,
        bytes: u64,
        room_for: impl FnOnce(u64) -> io::Result<()>,
    ) -> Result<(), ReplicaError> {
        self.log.begin_segment(base_offset, bytes, room_for)
    }

    /// Writes records of another store that fit.
    ///
    /// # Errors
    /// The disk failed: do not append again.
    pub(crate) fn write(&mut self, records: &[u8]) -> io::Result<()> {
        self.log.write(records)
    }

    fn write_batch(
        &mut self,
        batch: &mut AppendBatch,
        store_ms: i64,
        keys: &mut KeyTail,
    ) -> io::Result<()> {
        let AppendBatch { records, items, queues, hashes, results } = batch;
        results.clear();
        let (mut written, mut at, mut hashed) = (0, 0, 0);
        for item in items.iter() {
            let size = bytes_of(item.size);
            if !self.log.fits(at - written, size) {
                self.log.write(part(records, written, at))?;
                self.log.roll()?;
                written = at;
            }
            let log_offset = self.log.end() + crate::num::to_u64(at - written);
            let entry = BlockEntry { log_offset, size: item.size, tag_hash: item.tag_hash };
            let keys_of = hashes.get(hashed..hashed + item.hashes).unwrap_or_default();
            let indexed = Indexed { entry, hashes: keys_of, store_ms };
            let queue = queues.get(item.queue).expect("place_of() is below the number of queues");
            let (queue_offset, _) = self
                .dispatcher
                .dispatch(queue, Place::Next, indexed, keys)
                .expect("push() has loaded the queue");
            patch(part(records, at, at + size), queue_offset, log_offset, store_ms);
            results.push(Appended {
                log_offset: LogOffset(log_offset),
                queue_offset: QueueOffset(queue_offset),
                size: item.size,
                store_timestamp: store_ms,
            });
            at += size;
            hashed += item.hashes;
        }
        self.log.write(part(records, written, at))
    }
}

fn part(records: &mut BytesMut, from: usize, to: usize) -> &mut [u8] {
    records.get_mut(from..to).expect("the sizes of the items add up to the records")
}

fn patch(record: &mut [u8], queue_offset: u64, log_offset: u64, store_ms: i64) {
    let signed = |n| i64::try_from(n).expect("no disk holds 8 EiB");
    record::patch(record, signed(queue_offset), signed(log_offset), store_ms)
        .expect("push() has encoded the record");
}
