//! Replication in one thread: a master and two slaves with stores that are a few vectors, networks
//! that cut, hold back and damage, processes that die and machines that lose power. Everything
//! random comes from one number, which a failure tells.
//!
//! `BASALTMQ_HA_SCHEDULES=100000 cargo test ha_sim` runs more of it, `BASALTMQ_HA_SEED=7` that one
//! alone.

#![expect(clippy::cast_possible_truncation, reason = "the model's numbers are small")]

mod check;
mod cluster;
mod disk;
mod session;
mod store;
mod tests;

use std::cell::Cell;

pub(crate) use cluster::Cluster;

/// A deliberate error that the simulation must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Two sessions of one slave count as two slaves.
    CountTwice,
    /// A change is sent before the log it needs.
    DeltaEarly,
    /// A slave's log is not cut where another master went on.
    NoTruncation,
    /// A slave follows a master that is not the newest.
    OldEpoch,
    /// The log of an epoch is sent before the slave has the epoch's row.
    NoGate,
    /// An epoch begins behind the changes that recovery made.
    LateEpoch,
    /// What was received counts as durable.
    FalseDurable,
}

thread_local! {
    static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether the code must make this error.
pub(crate) fn bug(bug: Bug) -> bool {
    BUG.get() == Some(bug)
}

/// Runs with an error.
fn with(bug: Option<Bug>, run: impl FnOnce()) {
    BUG.set(bug);
    run();
    BUG.set(None);
}

/// Numbers from a seed (SplitMix64).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Less than `n`.
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to.saturating_sub(from) + 1)
    }
}
