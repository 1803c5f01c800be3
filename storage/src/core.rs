//! What queues, threads and the store share: the log, the index, the configuration and the health.

use protocol::clock::Clock;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicUsize};

use crate::{
    Config,
    commit_log::{CommitLog, durable::MarkFile},
    health::Health,
    index::Index,
    read::Reported,
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
}

impl Core {
    pub(crate) fn mark(&self) -> MutexGuard<'_, MarkFile> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops the store for good and tells everyone who waits.
    pub(crate) fn fail(&self, reason: &str) {
        self.health.fail(reason);
        if let Err(poison) = self.health.check() {
            self.log.confirmed.fail(&poison);
        }
    }
}
