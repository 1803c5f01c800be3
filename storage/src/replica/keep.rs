//! What a slave does now and then: making durable what it got, keeping offsets aside, letting idle
//! queues go.

use std::{
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
        shared.let_idle_queues_go(&mut idle_at);
        thread::park_timeout(INTERVAL);
    }
}
