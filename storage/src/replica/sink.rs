//! What a slave does with what its master sends. One thread at a time.

use std::sync::{MutexGuard, PoisonError, atomic::Ordering};

use rocksdb::WriteBatch;

use super::{
    Delta, LogPiece, ReplicaError, Role, batch,
    follow::{self, Follower},
};
use crate::{FlushMode, Store, core::Core, num::to_u64};

impl Store {
    /// Whether what the store shows is whole: a slave that is being filled does not serve.
    pub fn serves(&self) -> bool {
        let core = &self.shared.core;
        core.config.role == Role::Master
            || (core.log.confirmed.get() >= core.index_end.load(Ordering::Acquire)
                && !core.differs.load(Ordering::Acquire))
    }

    /// Where the next piece of the log must begin.
    ///
    /// # Errors
    /// [`ReplicaError::Role`].
    pub fn received(&self) -> Result<u64, ReplicaError> {
        let mut follower = self.follower();
        let follower = following(&mut follower)?;
        Ok(self.shared.core.log.appended() + to_u64(follower.rest.len()))
    }

    /// Appends bytes of the master's log. Returns up to where whole records are here now.
    ///
    /// # Errors
    /// [`ReplicaError`]; after [`ReplicaError::Poisoned`] nothing goes any more, otherwise nothing
    /// has changed.
    pub fn receive_log(&self, piece: &LogPiece) -> Result<u64, ReplicaError> {
        let core = &self.shared.core;
        core.health.check()?;
        let mut follower = self.follower();
        let Follower { rest, .. } = following(&mut follower)?;
        let at = core.log.appended();
        let (expected, got) = (at + to_u64(rest.len()), piece.offset);
        if expected != got {
            return Err(ReplicaError::Gap { what: "log offset", expected, got });
        }
        let limit = piece.segment_base.saturating_add(piece.segment_bytes);
        let end = got.saturating_add(to_u64(piece.bytes.len()));
        if at < piece.segment_base || end > limit {
            let reason =
                format!("bytes up to {end} in a segment from {} to {limit}", piece.segment_base);
            return Err(ReplicaError::Record { log_offset: got, reason });
        }
        let mut appender = self.shared.appender();
        appender.begin_segment(piece.segment_base, piece.segment_bytes, |bytes| {
            core.space.room_for(bytes)
        })?;
        let bytes = follow::joined(rest, &piece.bytes);
        let whole = follow::whole(&bytes, at, limit)?;
        let (records, more) = bytes.split_at(whole);
        if let Err(error) = appender.write(records) {
            core.fail(&format!("the commit log cannot be written: {error}"));
            core.health.check()?;
        }
        rest.extend_from_slice(more);
        core.log.set_appended(at + to_u64(whole), core.log.last_store_ms());
        drop(appender);
        if core.config.flush == FlushMode::Sync {
            self.shared.wake_flusher();
        }
        core.confirm();
        Ok(core.log.appended())
    }

    /// Writes one of the master's batches.
    ///
    /// # Errors
    /// [`ReplicaError::Gap`], [`ReplicaError::Early`] and [`ReplicaError::Batch`]: nothing has
    /// changed. After [`ReplicaError::Poisoned`] nothing goes any more.
    pub fn apply(&self, delta: &Delta) -> Result<(), ReplicaError> {
        let core = &self.shared.core;
        core.health.check()?;
        let mut follower = self.follower();
        let follower = following(&mut follower)?;
        let expected = core.index.db()?.db().latest_sequence_number() + 1;
        let got = delta.first_sequence;
        if expected != got {
            return Err(ReplicaError::Gap { what: "change", expected, got });
        }
        let wrong = |reason| ReplicaError::Batch { sequence: got, reason };
        let ops = batch::ops(&delta.batch).map_err(wrong)?;
        let next = got + to_u64(ops.len());
        if ops.is_empty() || next != delta.last_sequence + 1 {
            return Err(wrong(format!("{next} would be next, not {}", delta.last_sequence + 1)));
        }
        let appended = core.log.appended();
        if delta.needs > appended {
            return Err(ReplicaError::Early { needs: delta.needs, appended });
        }
        // The records of a block come before the block.
        follower.show(&self.shared, delta.needs).map_err(|error| poisoned(core, error))?;
        core.index
            .write(WriteBatch::from_data(&delta.batch), false)
            .and_then(|()| follower.note(&self.shared, &ops))
            .map_err(|error| poisoned(core, error.into()))?;
        core.watchers.wake();
        Ok(())
    }

    /// Shows what the master has confirmed, as far as it is here. Every change up to the master's
    /// sequence number of that moment must have been applied: a topic comes before its records.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub fn set_master_confirmed(&self, log_offset: u64) -> Result<(), ReplicaError> {
        let core = &self.shared.core;
        core.health.check()?;
        let mut follower = self.follower();
        let follower = following(&mut follower)?;
        let end = log_offset.min(core.log.appended());
        if end > core.log.confirmed.get() {
            follower.show(&self.shared, end).map_err(|error| poisoned(core, error))?;
            core.watchers.wake();
        }
        Ok(())
    }

    /// Makes the changes durable that were applied.
    ///
    /// # Errors
    /// [`ReplicaError::Poisoned`]: nothing goes any more.
    pub fn sync_index(&self) -> Result<(), ReplicaError> {
        let core = &self.shared.core;
        core.health.check()?;
        core.index.sync().map_err(|error| poisoned(core, error.into()))
    }

    /// What is here is not what the master has: nothing of it is shown until the store is opened
    /// anew.
    pub fn stop_serving(&self) {
        self.shared.core.differs.store(true, Ordering::Release);
    }

    fn follower(&self) -> MutexGuard<'_, Option<Follower>> {
        self.follower.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Errors
/// The store is a master, or closed.
fn following(follower: &mut Option<Follower>) -> Result<&mut Follower, ReplicaError> {
    follower.as_mut().ok_or(ReplicaError::Role { master: true })
}

/// Memory and RocksDB may differ now.
fn poisoned(core: &Core, error: ReplicaError) -> ReplicaError {
    core.fail(&error.to_string());
    core.health.check().map_or_else(Into::into, |()| error)
}
