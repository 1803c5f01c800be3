//! Waking the threads that carry changes to slaves.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::Thread,
};

/// The threads to wake whenever the log, what is confirmed of it, or the index has moved.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    /// So that nobody takes the lock when there is none.
    count: AtomicUsize,
    threads: Mutex<Vec<Thread>>,
}

/// Ends the waking when it is dropped.
#[derive(Debug)]
pub struct WatchGuard {
    watchers: Arc<Watchers>,
    thread: Thread,
}

impl Watchers {
    pub(crate) fn add(self: &Arc<Self>, thread: Thread) -> WatchGuard {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread.clone());
        self.count.store(threads.len(), Ordering::SeqCst);
        WatchGuard { watchers: Arc::clone(self), thread }
    }

    /// Wakes them.
    pub(crate) fn wake(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            threads.iter().for_each(Thread::unpark);
        }
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        let mut threads = self.watchers.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = threads.iter().position(|thread| thread.id() == self.thread.id()) {
            threads.swap_remove(at);
        }
        self.watchers.count.store(threads.len(), Ordering::SeqCst);
    }
}
