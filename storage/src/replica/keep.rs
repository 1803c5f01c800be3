//! What a slave does now and then: making durable what it got, keeping offsets aside, letting idle
//! queues go.

use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use super::aside;
use crate::store::Shared;

/// At most the changes of this time are lost in a power cut, and come again from the master.
const INTERVAL: Duration = Duration::from_secs(1);

/// The thread's loop; ends when the store closes or fails.
pub(crate) fn run(shared: &Shared) {
    let core = &shared.core;
    let mut kept = Vec::new();
    let mut idle_at = Instant::now();
    let idle_interval = Duration::from_millis(core.config.checkpoint_interval_ms);
    while core.health.check().is_ok() {
        let closed = core.health.is_closed();
        if let Err(error) = aside::keep(shared, &mut kept) {
            tracing::warn!(%error, "consumer offsets of this slave are in memory only; next try soon");
        }
        if closed {
            return;
        }
        if let Err(error) = core.index.sync() {
            core.fail(&error.to_string());
        }
        core.space.look();
        let in_memory = core.queues_in_memory.load(Ordering::Relaxed);
        if in_memory > core.config.queues_in_memory && idle_at.elapsed() >= idle_interval {
            idle_at = Instant::now();
            shared.topics.each(|topic| {
                if let Some(queues) = topic.queues_in_memory() {
                    queues.let_idle_go();
                }
            });
        }
        thread::park_timeout(INTERVAL);
    }
}
