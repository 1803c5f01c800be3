//! Which master wrote what: the table of epochs, a row that slaves get like all others.
//!
//! Every open as a master begins an epoch, before anything is appended. So no position of the log
//! and no sequence number is ever used twice under one epoch, whatever a power cut took away.

use std::path::Path;

use prost::Message;
use rocksdb::WriteBatch;

use super::{Role, aside, role::saved_role, sealed};
use crate::{
    OpenError, ReadError,
    file::failed,
    index::{Family, Guard, damaged},
    store::Shared,
};

const EPOCHS: &[u8] = b"epochs";

/// A file that is there while the store follows.
const FOLLOWED: &str = "replica.followed";

/// Epochs of promoted slaves are multiples of this.
const PROMOTED_STEP: u64 = 1000;

/// Epochs that are kept. Who is further behind starts anew.
const KEPT: usize = 1024;

/// A stretch of the log that one master wrote.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Message)]
pub struct Epoch {
    /// Grows with every one.
    #[prost(uint64, tag = "1")]
    pub number: u64,
    /// Random, so that two masters that begin the same number are told apart.
    #[prost(uint64, tag = "2")]
    pub leader: u64,
    /// Log offset at which it begins.
    #[prost(uint64, tag = "3")]
    pub log_start: u64,
    /// RocksDB's sequence number before its first change.
    #[prost(uint64, tag = "4")]
    pub sequence_start: u64,
}

/// The stored row.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Epochs {
    /// Random, made by the first master: tells clusters apart that have the same name.
    #[prost(uint64, tag = "1")]
    pub(crate) store_id: u64,
    /// Ascending.
    #[prost(message, repeated, tag = "2")]
    pub(crate) epochs: Vec<Epoch>,
}

impl Epochs {
    /// What the index says; nothing in one that no master has opened.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn read(guard: &Guard<'_>) -> Result<Self, ReadError> {
        let Some(row) = guard.get(Family::Default, EPOCHS)? else { return Ok(Self::default()) };
        Self::decode(row.as_slice()).map_err(|_| damaged(Family::Default, EPOCHS))
    }

    /// Number of the newest.
    pub(crate) fn newest(&self) -> u64 {
        self.epochs.last().map_or(0, |epoch| epoch.number)
    }

    /// Begins an epoch with a number beyond `seen`; far beyond if this store was a slave, so that
    /// an old master that starts again and again without hearing of it stays behind.
    pub(crate) fn begin(&mut self, seen: u64, promoted: bool, starts: (u64, u64)) {
        let (log_start, sequence_start) = starts;
        if self.store_id == 0 {
            self.store_id = random();
        }
        let newest = self.newest().max(seen);
        let number =
            if promoted { (newest / PROMOTED_STEP + 1) * PROMOTED_STEP } else { newest + 1 };
        self.epochs.push(Epoch { number, leader: random(), log_start, sequence_start });
        let excess = self.epochs.len().saturating_sub(KEPT);
        self.epochs.drain(..excess);
    }

    pub(crate) fn put(&self, batch: &mut WriteBatch, guard: &Guard<'_>) {
        batch.put_cf(guard.family(Family::Default), EPOCHS, self.encode_to_vec());
    }
}

/// Whether the store was open as a slave last.
pub(crate) fn was_slave(store: &Path) -> bool {
    store.join(FOLLOWED).exists()
}

/// Begins an epoch if the store is open as a master, durably, with the offsets that it has kept
/// aside as a slave. A slave goes on with those. `sequence_start` is the index's sequence number
/// before this open has written anything.
///
/// # Errors
/// [`OpenError`].
pub(crate) fn open(shared: &Shared, sequence_start: u64) -> Result<(), OpenError> {
    let core = &shared.core;
    let path = &core.config.path;
    let followed = path.join(FOLLOWED);
    if core.config.role == Role::Slave {
        aside::resume(shared, &aside::load(path).map_err(failed("read offsets in", path))?);
        return match followed.exists() {
            true => Ok(()),
            false => sealed::write(&followed, &()).map_err(failed("write", followed)),
        };
    }
    let saved = saved_role(path).map_err(failed("read the saved role of", path))?;
    let mut batch = WriteBatch::default();
    let epoch = {
        let guard = core.index.db()?;
        let mut epochs = Epochs::read(&guard)?;
        let starts = (core.log.appended(), sequence_start);
        epochs.begin(saved.map_or(0, |saved| saved.seen_epoch), was_slave(path), starts);
        epochs.put(&mut batch, &guard);
        aside::take_in(shared, &guard, &mut batch)?;
        epochs.newest()
    };
    core.index.write(batch, true)?;
    tracing::debug!(epoch, "a new epoch begins");
    aside::forget(path).map_err(failed("remove offsets from", path))?;
    sealed::remove(&followed).map_err(failed("remove", followed))
}

/// A number that nobody else has, never 0.
fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's source of randomness: every process is seeded anew, every call differs.
    RandomState::new().hash_one(std::process::id()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_grow_and_old_ones_go() {
        let mut epochs = Epochs::default();
        epochs.begin(0, false, (0, 0));
        let id = epochs.store_id;
        assert_ne!(id, 0);
        epochs.begin(7, false, (100, 5));
        assert_eq!(epochs.store_id, id);
        let numbers: Vec<_> = epochs.epochs.iter().map(|epoch| epoch.number).collect();
        assert_eq!(numbers, [1, 8]);
        let mut promoted = epochs.clone();
        promoted.begin(1_999, true, (100, 5));
        promoted.begin(0, true, (100, 5));
        assert_eq!(promoted.epochs[2].number, 2_000);
        assert_eq!(promoted.newest(), 3_000);
        assert_ne!(epochs.epochs[0].leader, epochs.epochs[1].leader);
        for _ in 0..2 * KEPT {
            epochs.begin(0, false, (100, 5));
        }
        assert_eq!((epochs.epochs.len(), epochs.newest()), (KEPT, 8 + 2 * KEPT as u64));
    }
}
