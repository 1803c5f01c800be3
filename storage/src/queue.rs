//! One queue of a topic: its state, and waiting for its messages. Reading is in [`crate::read`].

use std::{
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

use crate::{
    QueueOffset, ReadError, TopicId,
    core::Core,
    index::{
        Guard,
        consume_queue::{Block, Ends},
        meta,
    },
    num::to_u64,
    read::Mode,
    tail::Tail,
};

/// One queue of one incarnation of a topic.
#[derive(Debug)]
pub struct Queue {
    pub(crate) core: Arc<Core>,
    pub(crate) topic: TopicId,
    pub(crate) queue_id: u32,
    /// `None` until the queue is touched for the first time.
    tail: Mutex<Option<Tail>>,
    loaded: AtomicBool,
    /// Somebody has looked at the tail since [`Queue::is_idle`] asked last.
    touched: AtomicBool,
    deleted: AtomicBool,
    changed: Notify,
    /// Number of calls that wait for `changed`, so that appending costs nothing when there is none.
    waiting: AtomicUsize,
}

/// What [`Queue::wait_beyond`] has to wait for.
enum Wait {
    Nothing,
    /// The message is there, but not confirmed; its record ends here.
    Confirmed(u64),
    Message,
}

/// Counts a waiting call for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The tail of a queue, loaded and locked.
pub(crate) struct TailGuard<'a>(MutexGuard<'a, Option<Tail>>);

impl std::ops::Deref for TailGuard<'_> {
    type Target = Tail;

    fn deref(&self) -> &Tail {
        self.0.as_ref().expect("loaded when the guard was made")
    }
}

impl std::ops::DerefMut for TailGuard<'_> {
    fn deref_mut(&mut self) -> &mut Tail {
        self.0.as_mut().expect("loaded when the guard was made")
    }
}

impl Queue {
    /// A queue that has no messages yet.
    pub(crate) fn empty(core: &Arc<Core>, topic: TopicId, queue_id: u32) -> Arc<Self> {
        Self::new(core, (topic, queue_id), Some(Tail::default()))
    }

    /// A queue whose state is in the index.
    pub(crate) fn stored(core: &Arc<Core>, topic: TopicId, queue_id: u32) -> Arc<Self> {
        Self::new(core, (topic, queue_id), None)
    }

    fn new(core: &Arc<Core>, (topic, queue_id): (TopicId, u32), tail: Option<Tail>) -> Arc<Self> {
        core.queues_in_memory.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            core: Arc::clone(core),
            topic,
            queue_id,
            loaded: AtomicBool::new(tail.is_some()),
            touched: AtomicBool::new(true),
            tail: Mutex::new(tail),
            deleted: AtomicBool::new(false),
            changed: Notify::new(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Smallest offset whose message is still in the log; equals [`Queue::max`] if there is none.
    /// Reads RocksDB when the queue is touched for the first time.
    ///
    /// # Errors
    /// [`ReadError::Index`] when the queue's state cannot be read.
    pub fn min(&self) -> Result<QueueOffset, ReadError> {
        let confirmed = self.core.log.confirmed.get();
        let tail = self.tail_in_log(Mode::MayBlock)?;
        Ok(QueueOffset(tail.min().min(tail.confirmed_next(confirmed))))
    }

    /// The offset that the next confirmed message will get. Reads RocksDB when the queue is touched
    /// for the first time.
    ///
    /// # Errors
    /// [`ReadError::Index`] when the queue's state cannot be read.
    pub fn max(&self) -> Result<QueueOffset, ReadError> {
        let confirmed = self.core.log.confirmed.get();
        Ok(QueueOffset(self.tail(Mode::MayBlock)?.confirmed_next(confirmed)))
    }

    /// Waits until there is a confirmed message at or beyond `offset`, or the topic is deleted, or
    /// the queue cannot be read; read again to learn which.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub async fn wait_beyond(&self, offset: QueueOffset) {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            let mut changed = pin!(self.changed.notified());
            // From here on no change is missed; then look whether it has already come.
            changed.as_mut().enable();
            match self.wait_for(offset.0) {
                Wait::Nothing => return,
                Wait::Confirmed(end) => {
                    if self.core.log.confirmed.wait_for(end).await.is_err() {
                        return;
                    }
                }
                Wait::Message => changed.await,
            }
        }
    }

    fn wait_for(&self, offset: u64) -> Wait {
        if self.is_deleted() {
            return Wait::Nothing;
        }
        let confirmed = self.core.log.confirmed.get();
        match self.tail(Mode::MayBlock) {
            Err(_) => Wait::Nothing,
            Ok(tail) if tail.confirmed_next(confirmed) > offset => Wait::Nothing,
            Ok(tail) => {
                tail.get(offset).map_or(Wait::Message, |entry| Wait::Confirmed(entry.end()))
            }
        }
    }

    /// Wakes who waits for messages. Call it after the messages are in the tail and, if they are
    /// confirmed at once, after that.
    pub(crate) fn wake(&self) {
        // A waiter counts itself before it looks at the tail, so either it sees the new messages
        // or it is counted here.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Number of calls that wait for a message of this queue.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether nobody has touched the queue since this was asked last and the index has all of it,
    /// so that it may leave memory.
    pub(crate) fn is_idle(&mut self) -> bool {
        let touched = std::mem::take(self.touched.get_mut());
        let tail = self.tail.get_mut().unwrap_or_else(PoisonError::into_inner);
        !touched && tail.as_ref().is_none_or(Tail::is_stored)
    }

    /// Whether it never had a message.
    pub(crate) fn is_new(&mut self) -> bool {
        let tail = self.tail.get_mut().unwrap_or_else(PoisonError::into_inner);
        tail.as_ref().is_some_and(|tail| tail.next() == 0)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The topic is deleted. Call it with the append lock held, so that no append is under way.
    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Whether the queue's state is in memory.
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Reads the queue's state from the index unless that has happened.
    pub(crate) fn ensure_loaded(&self) -> Result<(), ReadError> {
        if self.is_loaded() {
            return Ok(());
        }
        self.tail(Mode::MayBlock).map(|_| ())
    }

    /// Locks the tail.
    ///
    /// # Errors
    /// [`ReadError::Cold`] if it is not in memory and `mode` forbids to read it, or the index fails.
    pub(crate) fn tail(&self, mode: Mode) -> Result<TailGuard<'_>, ReadError> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        self.touched.store(true, Ordering::Relaxed);
        if tail.is_none() {
            if mode == Mode::HotOnly {
                return Err(ReadError::Cold);
            }
            *tail = Some(self.load()?);
            self.loaded.store(true, Ordering::Release);
        }
        Ok(TailGuard(tail))
    }

    fn load(&self) -> Result<Tail, ReadError> {
        let at = (self.topic, self.queue_id);
        self.core.index.derived(|guard| self.load_from(guard, &mut Ends::of_queue(guard, at)))
    }

    /// Reads the queue's state from the index, as the first touch would, by `blocks`.
    pub(crate) fn load_by(
        &self,
        guard: &Guard<'_>,
        blocks: &mut Ends<'_>,
    ) -> Result<(), ReadError> {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.is_none() {
            *tail = Some(self.load_from(guard, blocks)?);
            self.loaded.store(true, Ordering::Release);
        }
        Ok(())
    }

    fn load_from(&self, guard: &Guard<'_>, blocks: &mut Ends<'_>) -> Result<Tail, ReadError> {
        let at = (self.topic, self.queue_id);
        let Some(last) = blocks.last_block(at)? else {
            return Ok(meta::queue_end(guard, at)?.map_or_else(Tail::default, Tail::begun));
        };
        let log_min = self.core.log.min();
        let next = last.first() + to_u64(last.entries.len());
        // Blocks of messages that are no longer in the log stay until retention removes them. The
        // first that is not one of them, by halving: there may be many.
        let (mut low, mut middle, mut high) = (0, 0, last.number);
        let mut first = None;
        while low < high {
            match blocks.at_or_after(at, middle)? {
                Some(block) if live_from(&block, log_min).is_none() => low = block.number + 1,
                found => {
                    // Nothing lies between `middle` and it.
                    high = middle;
                    first = found;
                }
            }
            middle = low + high.saturating_sub(low) / 2;
        }
        let min = live_from(first.as_ref().unwrap_or(&last), log_min);
        Ok(Tail::load(min.unwrap_or(next), last))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.core.queues_in_memory.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The first queue offset of a block whose record is at or behind log offset `log_min`.
fn live_from(block: &Block, log_min: u64) -> Option<u64> {
    let gone = block.entries.partition_point(|entry| entry.log_offset < log_min);
    (gone < block.entries.len()).then(|| block.first() + to_u64(gone))
}
