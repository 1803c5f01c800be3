//! The one type that a broker sees.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
    thread::{JoinHandle, Thread},
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    AppendBatch, AppendError, DataVersion, FlushMode, GroupConfig, LogOffset, Poison, QueueOffset,
    ReadError, Recovery, StateError, Topic, TopicConfig, TopicId, adopt,
    append::Appender,
    command::{Command, Reply},
    commit_log::allocate::Allocator,
    core::Core,
    dispatch::Input,
    index::consumer_offset,
    keys::KeyTail,
    lock::Lock,
    replica::{Role, follow::Follower},
    retention::Retention,
    space::Disk,
    table::Table,
};

/// So many full blocks that are not written mean that the index is too slow for the producers.
const PENDING_BLOCKS_MAX: usize = 32_768;

/// Most queues of a topic.
const QUEUES_MAX: u32 = 65_536;

/// A store that is open. Dropping it closes it.
#[derive(Debug)]
pub struct Store {
    pub(crate) shared: Arc<Shared>,
    pub(crate) threads: Mutex<Threads>,
    pub(crate) recovery: Recovery,
    pub(crate) lock: Mutex<Option<Lock>>,
    /// What a slave does; a master has none.
    pub(crate) follower: Mutex<Option<Follower>>,
}

/// The store's threads, in the order in which they stop.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    pub(crate) exporter: Option<JoinHandle<()>>,
    pub(crate) retainer: Option<JoinHandle<()>>,
    pub(crate) keeper: Option<JoinHandle<()>>,
    pub(crate) flusher: Option<JoinHandle<()>>,
    pub(crate) index_writer: Option<JoinHandle<()>>,
    pub(crate) allocator: Option<JoinHandle<()>>,
}

/// What the store's threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    pub(crate) topics: Table<Topic>,
    pub(crate) groups: Table<GroupConfig>,
    pub(crate) topic_version: Mutex<DataVersion>,
    pub(crate) group_version: Mutex<DataVersion>,
    pub(crate) input: Input,
    pub(crate) keys: Mutex<KeyTail>,
    /// The append lock.
    pub(crate) appender: Mutex<Appender>,
    pub(crate) allocator: Arc<Allocator>,
    pub(crate) flusher: OnceLock<Thread>,
    pub(crate) retention: Retention,
}

impl Shared {
    pub(crate) fn keys(&self) -> MutexGuard<'_, KeyTail> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn topic_version(&self) -> MutexGuard<'_, DataVersion> {
        self.topic_version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn group_version(&self) -> MutexGuard<'_, DataVersion> {
        self.group_version.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the append lock, to keep appends out.
    pub(crate) fn appender(&self) -> MutexGuard<'_, Appender> {
        self.appender.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Now and then, if there are many queues in memory, lets those go that nobody uses; `last` is
    /// when that happened last. Everything that was full must have been taken to the index.
    pub(crate) fn let_idle_queues_go(&self, last: &mut Instant) {
        let Core { config, queues_in_memory, .. } = &*self.core;
        let interval = Duration::from_millis(config.checkpoint_interval_ms);
        let in_memory = queues_in_memory.load(Ordering::Relaxed);
        if in_memory > config.queues_in_memory && last.elapsed() >= interval {
            *last = Instant::now();
            self.topics.each(|topic| {
                if let Some(queues) = topic.queues_in_memory() {
                    queues.let_idle_go();
                }
            });
        }
    }

    pub(crate) fn wake_flusher(&self) {
        if let Some(flusher) = self.flusher.get() {
            flusher.unpark();
        }
    }
}

impl Store {
    /// Syncs the log, writes a last index checkpoint and stops. Blocking; the second call does
    /// nothing.
    pub fn close(&self) {
        let shared = &self.shared;
        {
            // With the append lock, so that the last sync comes after the last append.
            let _appender = shared.appender();
            if !shared.core.health.close() {
                return;
            }
        }
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in [threads.exporter, threads.retainer, threads.keeper] {
            if let Some(thread) = &thread {
                thread.thread().unpark();
            }
            join(thread);
        }
        shared.wake_flusher();
        join(threads.flusher);
        shared.input.stop.store(true, Ordering::Release);
        shared.input.wake();
        join(threads.index_writer);
        shared.allocator.stop();
        join(threads.allocator);
        self.follower.lock().unwrap_or_else(PoisonError::into_inner).take();
        if shared.core.config.role == Role::Slave
            && let Err(error) = shared.core.index.sync()
        {
            shared.core.fail(&error.to_string());
        }
        self.mark_clean();
        if shared.core.health.check().is_ok() {
            adopt::Export::new(Arc::clone(shared)).write();
        }
        shared.core.index.close();
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Says that nothing lies behind what is durable, if that is so.
    fn mark_clean(&self) {
        let core = &self.shared.core;
        if core.health.check().is_err() || core.log.flushed() != core.log.appended() {
            return;
        }
        let sequence = core.index.durable_sequence();
        if let Err(error) = core.mark().write(core.log.flushed(), sequence, true) {
            tracing::error!(%error, "the store is closed, but its next start must verify the log");
        }
    }

    /// Whether the store accepts writes.
    ///
    /// # Errors
    /// The first failure, for good.
    pub fn health(&self) -> Result<(), Poison> {
        self.shared.core.health.check()
    }

    /// What opening the store found and did.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// A topic by name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.shared.topics.get(name)
    }

    /// All topics, in no order.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.shared.topics.all()
    }

    /// Creates a topic or changes its configuration; durable when it returns. Queues that a
    /// smaller configuration hides keep their messages.
    ///
    /// # Errors
    /// [`StateError`]. After [`StateError::Poisoned`] the outcome is unknown.
    ///
    /// # Cancel safety
    /// Dropping it does not undo the change; it happens all the same.
    pub async fn put_topic(&self, config: TopicConfig) -> Result<Arc<Topic>, StateError> {
        let queues = config.visible_queues();
        if queues > QUEUES_MAX {
            let name = config.name;
            return Err(StateError::TooManyQueues { name, queues, limit: QUEUES_MAX });
        }
        self.command(|reply| Command::PutTopic(config, reply)).await
    }

    /// Deletes a topic with its queues and its consumer offsets. Its records stay in the log until
    /// retention removes them; nothing shows them any more.
    ///
    /// # Errors
    /// [`StateError::NoTopic`] and others.
    ///
    /// # Cancel safety
    /// As [`Store::put_topic`].
    pub async fn delete_topic(&self, name: &str) -> Result<(), StateError> {
        self.command(|reply| Command::DeleteTopic(name.to_owned(), reply)).await
    }

    /// Number of queues that are in memory: those that were touched lately or hold what is not
    /// stored yet.
    pub fn queues_in_memory(&self) -> usize {
        self.shared.core.queues_in_memory.load(Ordering::Relaxed)
    }

    /// Version of the topic table.
    pub fn topic_version(&self) -> DataVersion {
        *self.shared.topic_version()
    }

    /// A consumer group by name.
    pub fn group(&self, name: &str) -> Option<Arc<GroupConfig>> {
        self.shared.groups.get(name)
    }

    /// All consumer groups, in no order.
    pub fn groups(&self) -> Vec<Arc<GroupConfig>> {
        self.shared.groups.all()
    }

    /// Creates a group or changes its configuration; durable when it returns.
    ///
    /// # Errors
    /// [`StateError`]. After [`StateError::Poisoned`] the outcome is unknown.
    ///
    /// # Cancel safety
    /// As [`Store::put_topic`].
    pub async fn put_group(&self, config: GroupConfig) -> Result<Arc<GroupConfig>, StateError> {
        self.command(|reply| Command::PutGroup(config, reply)).await
    }

    /// Deletes a group, and its offsets if `clean_offsets`.
    ///
    /// # Errors
    /// [`StateError::NoGroup`] and others.
    ///
    /// # Cancel safety
    /// As [`Store::put_topic`].
    pub async fn delete_group(&self, name: &str, clean_offsets: bool) -> Result<(), StateError> {
        let name = name.to_owned();
        self.command(|reply| Command::DeleteGroup { name, clean_offsets, reply }).await
    }

    /// Version of the group table.
    pub fn group_version(&self) -> DataVersion {
        *self.shared.group_version()
    }

    /// Writes an index checkpoint, so that closing the store changes nothing any more unless
    /// something happens meanwhile.
    ///
    /// # Errors
    /// [`StateError`].
    ///
    /// # Cancel safety
    /// As [`Store::put_topic`].
    pub async fn settle(&self) -> Result<(), StateError> {
        self.command(Command::Settle).await
    }

    async fn command<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StateError> {
        self.health()?;
        if self.shared.core.health.is_closed() {
            return Err(StateError::Closed);
        }
        if self.role() == Role::Slave {
            return Err(StateError::Slave);
        }
        let (reply, answer) = oneshot::channel();
        self.shared.input.commands.push(command(reply))?;
        self.shared.input.wake();
        // Without an answer the writer has failed or stopped with the command in its hands.
        answer
            .await
            .unwrap_or_else(|_| Err(self.health().map_or_else(Into::into, |()| StateError::Closed)))
    }

    /// Notes how far a group has consumed a queue: the offset of the next message it wants. Does
    /// not wait: it is written with the next batch, at the latest one second later and at close.
    /// Nothing is noted for a topic that was deleted.
    pub fn commit_offset(
        &self,
        group: &str,
        topic: &Arc<Topic>,
        queue_id: u32,
        offset: QueueOffset,
    ) {
        if topic.has_queue(queue_id) && !topic.is_deleted() {
            self.shared.input.offsets.commit(group, (topic.id, queue_id), offset);
        }
    }

    /// How far a group has consumed a queue.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn committed_offset(
        &self,
        group: &str,
        topic_id: TopicId,
        queue_id: u32,
    ) -> Result<Option<QueueOffset>, ReadError> {
        if let Some(offset) = self.shared.input.offsets.get(group, (topic_id, queue_id)) {
            return Ok(Some(offset));
        }
        consumer_offset::get(&self.shared.core.index.db()?, group, topic_id, queue_id)
    }

    /// Everything a group has committed, by topic and queue. Blocking.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn offsets_of_group(
        &self,
        group: &str,
    ) -> Result<Vec<(TopicId, u32, QueueOffset)>, ReadError> {
        let mut offsets = BTreeMap::new();
        consumer_offset::scan(
            &self.shared.core.index.db()?,
            Some(group),
            |_, topic, queue, at| {
                offsets.insert((topic, queue), at);
                Ok(())
            },
        )?;
        self.shared.input.offsets.for_each(|of, topic, queue, at| {
            if of == group {
                offsets.insert((topic, queue), at);
            }
        });
        Ok(offsets.into_iter().map(|((topic, queue), offset)| (topic, queue, offset)).collect())
    }

    /// The groups that have committed an offset of a topic, sorted. Blocking; looks at each group.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn groups_with_offsets_on(&self, topic_id: TopicId) -> Result<Vec<String>, ReadError> {
        let mut groups = BTreeSet::new();
        let mut note = |group: &str, topic, _, _| {
            if topic == topic_id && !groups.contains(group) {
                groups.insert(group.to_owned());
            }
        };
        consumer_offset::of_topic(&self.shared.core.index.db()?, topic_id, &mut note)?;
        self.shared.input.offsets.for_each(note);
        Ok(groups.into_iter().collect())
    }

    /// Appends a batch: all of it or, on an error, nothing. Takes one lock for all records; may
    /// wait for a segment to be allocated, which happens ahead of time.
    ///
    /// # Errors
    /// [`AppendError`]: nothing of the batch was appended.
    pub fn append(&self, batch: &mut AppendBatch) -> Result<(), AppendError> {
        if batch.is_empty() {
            return Ok(());
        }
        let Shared { core, input, keys, appender, .. } = &*self.shared;
        core.health.check()?;
        core.space.check()?;
        let pending = input.pending_blocks.load(Ordering::Relaxed);
        if pending >= PENDING_BLOCKS_MAX {
            input.wake();
            return Err(AppendError::Busy { pending });
        }
        match appender.lock() {
            Ok(_) if core.health.is_closed() => return Err(AppendError::Closed),
            Ok(_) if core.config.role == Role::Slave => return Err(AppendError::Slave),
            Ok(mut appender) => appender.append(batch, keys, input)?,
            Err(_) => {
                core.fail("an append has panicked half-way");
                return core.health.check().map_err(Into::into);
            }
        }
        batch.queues().iter().for_each(|queue| queue.wake());
        if core.config.flush == FlushMode::Sync {
            self.shared.wake_flusher();
        }
        input.wake_if_worth();
        Ok(())
    }

    /// End of what is appended.
    pub fn appended(&self) -> LogOffset {
        LogOffset(self.shared.core.log.appended())
    }

    /// End of what is synced.
    pub fn flushed(&self) -> LogOffset {
        LogOffset(self.shared.core.log.flushed())
    }

    /// End of what the flush mode calls safe; nothing beyond it is visible.
    pub fn confirmed(&self) -> LogOffset {
        LogOffset(self.shared.core.log.confirmed.get())
    }

    /// Waits until everything below `offset` is confirmed.
    ///
    /// # Errors
    /// The store has failed; whether the records are stored is unknown.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn wait_confirmed(&self, offset: LogOffset) -> Result<(), Poison> {
        self.shared.core.log.confirmed.wait_for(offset.0).await
    }

    /// The record that starts at `offset`, verified; `None` if no confirmed record starts there.
    /// Blocking.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when what starts there is a damaged record.
    pub fn record_at(&self, offset: LogOffset) -> Result<Option<Bytes>, ReadError> {
        self.shared.core.log.record(offset.0)
    }

    /// Smallest offset that the log holds.
    pub fn min_log_offset(&self) -> LogOffset {
        LogOffset(self.shared.core.log.min())
    }

    /// End of the confirmed log.
    pub fn max_log_offset(&self) -> LogOffset {
        self.confirmed()
    }

    /// How much space the store takes. Blocking.
    ///
    /// # Errors
    /// The operating system's reason.
    pub fn usage(&self) -> std::io::Result<Usage> {
        let disk = self.shared.core.space.disk()?;
        Ok(Usage {
            disk_total_bytes: disk.total_bytes,
            disk_used_bytes: disk.used_bytes,
            disk_free_bytes: disk.free_bytes,
            log_bytes: self.appended().0 - self.min_log_offset().0,
        })
    }

    /// Makes the store believe in a disk of this size with so many bytes used; 0 of 0 is the real
    /// one again.
    #[doc(hidden)]
    pub fn pretend_disk(&self, used_bytes: u64, total_bytes: u64) {
        let free_bytes = total_bytes.saturating_sub(used_bytes);
        let disk = Disk { total_bytes, used_bytes, free_bytes };
        self.shared.core.space.pretend((total_bytes > 0).then_some(disk));
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

/// How much space the store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Size of the file system that holds the store, in bytes.
    pub disk_total_bytes: u64,
    /// Used bytes of it, by whomever.
    pub disk_used_bytes: u64,
    /// Bytes on it that the store may still use; less than the difference, because file systems
    /// keep a reserve.
    pub disk_free_bytes: u64,
    /// Bytes of commit log from its smallest to its largest offset.
    pub log_bytes: u64,
}

impl Usage {
    /// Used share of the disk, 0 to 1, as `df` computes it.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people and thresholds")]
    pub fn disk_ratio(&self) -> f64 {
        let usable = self.disk_used_bytes + self.disk_free_bytes;
        if usable == 0 { 0.0 } else { self.disk_used_bytes as f64 / usable as f64 }
    }
}

/// Waits for a thread; one that has panicked has said so.
fn join(thread: Option<JoinHandle<()>>) {
    if let Some(Err(_)) = thread.map(JoinHandle::join) {
        tracing::error!("a thread of the store has panicked");
    }
}
