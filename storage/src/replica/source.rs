//! What a master reads of itself for its slaves.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{
    Deltas, Epoch, ReplicaError, Role, Snapshot, StateDigest, WatchGuard, batch, delta, digest,
    epochs::Epochs, snapshot, watch::Wake,
};
use crate::{ReadError, Store, num::to_usize};

/// How far a store has come, in bytes of the log and RocksDB's sequence numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Where the log begins.
    pub log_min: u64,
    /// Where it ends.
    pub appended: u64,
    /// Up to where it is on the disk.
    pub flushed: u64,
    /// Up to where it is shown.
    pub confirmed: u64,
    /// The last change of the index.
    pub sequence: u64,
    /// The last one that is on the disk.
    pub durable_sequence: u64,
    /// The index speaks of the log up to here.
    pub index_end: u64,
}

/// What two stores must have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Random; 0 as long as there is nothing in the store.
    pub store_id: u64,
    /// Who wrote what, ascending.
    pub epochs: Vec<Epoch>,
    /// Column families by name, with the numbers that changes name them by.
    pub families: Vec<(String, u32)>,
}

/// Bytes of the log, within one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Log offset of the first of them.
    pub offset: u64,
    /// Log offset of the segment's first byte.
    pub segment_base: u64,
    /// Size of the segment's file.
    pub segment_bytes: u64,
    /// They themselves, whole records or not.
    pub bytes: Bytes,
}

impl Store {
    /// Which role the store has, as long as it is open.
    pub fn role(&self) -> Role {
        self.shared.core.config.role
    }

    /// Who the store is.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn identity(&self) -> Result<Identity, ReadError> {
        let guard = self.shared.core.index.db()?;
        let Epochs { store_id, epochs } = Epochs::read(&guard)?;
        let ids = batch::family_ids(&guard);
        let families = ids.into_iter().map(|(id, family)| (family.name().to_owned(), id)).collect();
        Ok(Identity { store_id, epochs, families })
    }

    /// How far the store has come. Each number may have grown when it returns, and none of them is
    /// ahead of one that is read before it must not be ahead of: `confirmed` is read first.
    pub fn position(&self) -> Position {
        let core = &self.shared.core;
        let confirmed = core.log.confirmed.get();
        let (flushed, appended) = (core.log.flushed(), core.log.appended());
        let durable_sequence = core.index.durable_sequence();
        let sequence = core.index.db().map_or(0, |guard| guard.db().latest_sequence_number());
        let index_end = core.index_end.load(Ordering::Acquire);
        let log_min = core.log.min();
        Position { log_min, appended, flushed, confirmed, sequence, durable_sequence, index_end }
    }

    /// Bytes of the log from `from` on, as many as one segment has, but at most `max_bytes`; `None`
    /// if the log ends there. May wait for the disk.
    ///
    /// # Errors
    /// [`ReplicaError::Behind`] if they are deleted.
    pub fn log_piece(&self, from: u64, max_bytes: usize) -> Result<Option<LogPiece>, ReplicaError> {
        let log = &self.shared.core.log;
        let to = log.appended();
        if from >= to {
            return Ok(None);
        }
        let behind = || ReplicaError::Behind { log_min: log.min(), wanted: from };
        let segments = log.segments_between(from, from + 1);
        let segment = segments.first().ok_or_else(behind)?;
        let len = to_usize(to.min(segment.limit_offset()) - from).min(max_bytes);
        let bytes = segment.read(from, len).ok_or_else(behind)?;
        let segment_base = segment.base_offset();
        let segment_bytes = segment.limit_offset() - segment_base;
        Ok(Some(LogPiece { offset: from, segment_base, segment_bytes, bytes }))
    }

    /// The changes of the index that follow `sequence`, up to about `max_bytes` of them. None while
    /// another one is being written: whoever watches is woken after it.
    ///
    /// # Errors
    /// [`ReplicaError::Read`].
    pub fn deltas_after(&self, sequence: u64, max_bytes: usize) -> Result<Deltas, ReplicaError> {
        delta::after(&self.shared.core.index, sequence, max_bytes)
    }

    /// Whether the changes of the index that follow `sequence` are kept. Waits for one that is being
    /// written.
    ///
    /// # Errors
    /// [`ReplicaError::Read`].
    pub fn keeps_after(&self, sequence: u64) -> Result<bool, ReplicaError> {
        delta::kept(&self.shared.core.index, sequence)
    }

    /// CRC-32 of bytes of the log.
    ///
    /// # Errors
    /// [`ReplicaError::Behind`] if they are not all there.
    pub fn log_crc(&self, from: u64, to: u64) -> Result<u32, ReplicaError> {
        digest::log_crc(&self.shared.core.log, from, to)
    }

    /// A checksum over everything in the index that the log cannot tell, and when it was so.
    ///
    /// # Errors
    /// [`ReplicaError::Read`].
    pub fn state_digest(&self) -> Result<StateDigest, ReplicaError> {
        Ok(digest::state(&self.shared.core.index)?)
    }

    /// A copy of the index as it is now. It costs no space as long as nothing changes.
    ///
    /// # Errors
    /// [`ReplicaError`].
    pub fn snapshot(&self) -> Result<Snapshot, ReplicaError> {
        snapshot::take(&self.shared.core)
    }

    /// Says up to where as many slaves as it takes have the log. Only counts if
    /// [`crate::Config::wait_for_slaves`].
    pub fn set_replicated(&self, log_offset: u64) {
        self.shared.core.replicated.fetch_max(log_offset, Ordering::AcqRel);
        self.shared.core.confirm();
    }

    /// Calls `wake` whenever the store has come further, until the guard is dropped.
    pub fn watch(&self, wake: Wake) -> WatchGuard {
        self.shared.core.watchers.add(wake)
    }
}
