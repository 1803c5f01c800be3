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
    QueueOffset, ReadError, TopicId, core::Core, index::consume_queue, read::Mode, tail::Tail,
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
        Arc::new(Self {
            core: Arc::clone(core),
            topic,
            queue_id,
            loaded: AtomicBool::new(tail.is_some()),
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
        let tail = self.tail(Mode::MayBlock)?;
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

    pub(crate) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// The topic is deleted. Call it with the append lock held, so that no append is under way.
    pub(crate) fn set_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Reads the queue's state from the index unless that has happened.
    pub(crate) fn ensure_loaded(&self) -> Result<(), ReadError> {
        if self.loaded.load(Ordering::Acquire) {
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
        let guard = self.core.index.db()?;
        let at = (self.topic, self.queue_id);
        let Some(last) = consume_queue::last(&guard, at)? else { return Ok(Tail::default()) };
        let log_min = self.core.log.min();
        let mut number = 0;
        let mut min = None;
        // Blocks of messages that are no longer in the log stay until retention removes them.
        while let Some(block) = consume_queue::at_or_after(&guard, at, number)? {
            let gone = block.entries.partition_point(|entry| entry.log_offset < log_min);
            if gone < block.entries.len() {
                min = Some(block.first() + crate::num::to_u64(gone));
                break;
            }
            number = block.number + 1;
        }
        let next = last.first() + crate::num::to_u64(last.entries.len());
        Ok(Tail::load(min.unwrap_or(next), last))
    }
}
