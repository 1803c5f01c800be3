//! What queues, threads and the store share: the log, the index, the configuration and the health.

use protocol::clock::Clock;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use crate::{
    Config, FlushMode,
    bug::{self, Bug},
    commit_log::{CommitLog, durable::MarkFile},
    health::Health,
    index::Index,
    read::Reported,
    replica::{Role, watch::Watchers},
    space::Space,
};

/// Shared by `Arc`; queues hold it, so it holds no queue.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) log: Arc<CommitLog>,
    pub(crate) index: Index,
    pub(crate) health: Health,
    pub(crate) mark: Mutex<MarkFile>,
    pub(crate) space: Space,
    /// Damaged records that were met.
    pub(crate) reported: Reported,
    /// Number of queues that are in memory.
    pub(crate) queues_in_memory: AtomicUsize,
    /// Up to where slaves have the log, as far as it matters.
    pub(crate) replicated: AtomicU64,
    /// The index speaks of the log up to here.
    pub(crate) index_end: AtomicU64,
    /// This slave has found that it is no copy of its master's.
    pub(crate) differs: AtomicBool,
    /// Who carries changes to slaves.
    pub(crate) watchers: Arc<Watchers>,
}

impl Core {
    pub(crate) fn mark(&self) -> MutexGuard<'_, MarkFile> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows what has become safe: in the way that the flush mode and the slaves ask for. A slave
    /// shows what its master has confirmed.
    pub(crate) fn confirm(&self) {
        if self.config.role == Role::Master {
            let safe = match self.config.flush {
                FlushMode::Sync if !bug::on(Bug::AckBeforeSync) => self.log.flushed(),
                _ => self.log.appended(),
            };
            let safe = if self.config.wait_for_slaves {
                safe.min(self.replicated.load(Ordering::Acquire))
            } else {
                safe
            };
            self.log.confirmed.advance(safe);
        }
        self.watchers.wake();
    }

    /// Stops the store for good and tells everyone who waits.
    pub(crate) fn fail(&self, reason: &str) {
        self.health.fail(reason);
        if let Err(poison) = self.health.check() {
            self.log.confirmed.fail(&poison);
        }
    }
}
