//! What a run has done and seen.

use std::time::Duration;

use serde::Serialize;

use super::{model::Loss, verdict::Verdict};

/// Sums and worst cases of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Tally {
    pub(super) cycles: u64,
    pub(super) stores: u64,
    /// Acknowledged messages that the checker has looked for, counted once per store.
    pub(super) acked: u64,
    /// Acknowledged messages that were lost where the mode allows it.
    pub(super) lost: u64,
    /// Offsets that got a second message behind such a cut.
    pub(super) rewritten: u64,
    pub(super) worst_window_us: u64,
    pub(super) worst_restart_us: u64,
    pub(super) restarts: u64,
    pub(super) restart_us: u64,
    /// Verdicts of the checker.
    pub(super) verdicts: u64,
    /// Stores that were verified offline.
    pub(super) verified: u64,
    /// Sends that were refused.
    pub(super) refused: u64,
    /// How far a committed offset went back at most.
    pub(super) regress: u64,
    /// Messages that groups have read more than once.
    pub(super) duplicates: u64,
    /// The store's part of the figures that the checker gives for the whole store each time.
    #[serde(skip)]
    pub(super) store: (u64, u64, u64),
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Tally {
    pub(super) fn restarted(&mut self, took: Duration) {
        self.restarts += 1;
        self.restart_us += us(took);
        self.worst_restart_us = self.worst_restart_us.max(us(took));
    }

    pub(super) fn lost(&mut self, loss: Loss) {
        self.lost += loss.messages;
        self.worst_window_us = self.worst_window_us.max(loss.window_us);
    }

    pub(super) fn judged(&mut self, verdict: &Verdict) {
        self.verdicts += 1;
        self.store = (verdict.acked, verdict.rewritten, verdict.duplicates);
        self.worst_window_us = self.worst_window_us.max(verdict.window_us);
        self.regress = self.regress.max(verdict.regress);
    }

    /// A store has passed its last check.
    pub(super) fn store_done(&mut self) {
        let (acked, rewritten, duplicates) = std::mem::take(&mut self.store);
        self.stores += 1;
        self.acked += acked;
        self.rewritten += rewritten;
        self.duplicates += duplicates;
    }

    pub(super) fn mean_restart_ms(&self) -> u64 {
        self.restart_us.checked_div(self.restarts).unwrap_or(0) / 1_000
    }
}
