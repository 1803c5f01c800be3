//! Waking those who carry changes to slaves.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Wakes somebody. Called in the path of appends: it must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Who is woken whenever the log, what is confirmed of it, or the index has moved.
#[derive(Default)]
pub(crate) struct Watchers {
    /// So that nobody takes the lock when there is none.
    count: AtomicUsize,
    wakes: Mutex<Vec<Wake>>,
}

/// Ends the waking when it is dropped.
pub struct WatchGuard {
    watchers: Arc<Watchers>,
    wake: Wake,
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watchers").field("count", &self.count).finish_non_exhaustive()
    }
}

impl fmt::Debug for WatchGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchGuard").finish_non_exhaustive()
    }
}

impl Watchers {
    pub(crate) fn add(self: &Arc<Self>, wake: Wake) -> WatchGuard {
        let mut wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.push(Arc::clone(&wake));
        self.count.store(wakes.len(), Ordering::SeqCst);
        WatchGuard { watchers: Arc::clone(self), wake }
    }

    /// Wakes them.
    pub(crate) fn wake(&self) {
        if self.count.load(Ordering::SeqCst) > 0 {
            let wakes = self.wakes.lock().unwrap_or_else(PoisonError::into_inner);
            wakes.iter().for_each(|wake| wake());
        }
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        let mut wakes = self.watchers.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.retain(|wake| !Arc::ptr_eq(wake, &self.wake));
        self.watchers.count.store(wakes.len(), Ordering::SeqCst);
    }
}
