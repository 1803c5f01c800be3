//! The stream as it arrives at a slave: log, changes in parts, and digests that wait.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

#[cfg(test)]
use super::sim::{Bug, bug};
use super::{
    frame::{LogBytes, LogDigest, StateAt, WalDelta},
    replica::{Delta, Epoch, LogPiece, Slave, newest},
    sink::{FollowEnd, protocol},
};

/// Largest batch that is put together of parts.
const BATCH_MAX_BYTES: u64 = 256 << 20;
/// Digests of the log that wait for the end of a record.
const DIGESTS_MAX: usize = 64;

/// What the stream has brought in part.
pub(super) struct Stream {
    /// Epochs whose row is not here.
    missing: VecDeque<Epoch>,
    /// The beginning of a batch, and its first frame.
    batch: Option<(WalDelta, BytesMut)>,
    /// Digests of what is not complete.
    digests: VecDeque<LogDigest>,
}

impl Stream {
    /// A stream of which these epochs are new here.
    pub(super) fn new(missing: Vec<Epoch>) -> Self {
        Self { missing: missing.into(), batch: None, digests: VecDeque::new() }
    }

    /// Takes a part of the log.
    pub(super) fn log(&mut self, store: &impl Slave, log: LogBytes) -> Result<(), FollowEnd> {
        let LogBytes { offset, segment_base, segment_bytes, bytes } = log;
        let end = offset.checked_add(bytes.len() as u64);
        #[cfg(test)]
        if bug(Bug::NoGate) {
            self.missing.clear();
        }
        let mut missing = self.missing.iter();
        if let Some(epoch) = missing.find(|epoch| end.is_none_or(|end| end > epoch.log_start)) {
            let Epoch { number, log_start, .. } = epoch;
            return protocol(format!(
                "log up to {end:?} before the row of epoch {number}, which begins at {log_start}"
            ));
        }
        store.receive_log(&LogPiece { offset, segment_base, segment_bytes, bytes })?;
        self.compare_log(store)
    }

    /// Returns the newest epoch if its row has come, and is durable.
    pub(super) fn delta(
        &mut self,
        store: &impl Slave,
        part: WalDelta,
    ) -> Result<Option<u64>, FollowEnd> {
        let (mut first, mut batch) = match self.batch.take() {
            Some(begun) => begun,
            None if part.rest_bytes > BATCH_MAX_BYTES => {
                return protocol(format!("a batch of more than {} bytes", part.rest_bytes));
            }
            None => {
                let rest_bytes = part.batch.len() as u64 + part.rest_bytes;
                let first = WalDelta { batch: Bytes::new(), rest_bytes, ..part.clone() };
                (first, BytesMut::new())
            }
        };
        let follows = part.first_sequence == first.first_sequence
            && part.batch.len() as u64 + part.rest_bytes == first.rest_bytes;
        if !follows {
            return protocol("a part of a batch does not follow the one before");
        }
        first.rest_bytes = part.rest_bytes;
        if batch.is_empty() && part.rest_bytes == 0 {
            // Most come whole and are not copied.
            first.batch = part.batch;
        } else {
            batch.extend_from_slice(&part.batch);
            if part.rest_bytes > 0 {
                self.batch = Some((first, batch));
                return Ok(None);
            }
            first.batch = batch.freeze();
        }
        let WalDelta { first_sequence, last_sequence, needs, batch, .. } = first;
        store.apply(&Delta { first_sequence, last_sequence, needs, batch })?;
        self.look_for_epochs(store)
    }

    fn look_for_epochs(&mut self, store: &impl Slave) -> Result<Option<u64>, FollowEnd> {
        let Some(next) = self.missing.front() else { return Ok(None) };
        let newest = newest(&store.identity()?.epochs);
        if newest < next.number {
            return Ok(None);
        }
        // Before a byte of the epoch is taken: a power cut may keep the bytes and lose the row.
        store.sync_index()?;
        while self.missing.pop_front_if(|epoch| epoch.number <= newest).is_some() {}
        Ok(Some(newest))
    }

    /// Compares a part of the log as soon as it is here.
    pub(super) fn digest(
        &mut self,
        store: &impl Slave,
        digest: LogDigest,
    ) -> Result<(), FollowEnd> {
        if digest.from >= digest.to || self.digests.len() >= DIGESTS_MAX {
            return protocol("digests of the log that cannot be compared");
        }
        self.digests.push_back(digest);
        self.compare_log(store)
    }

    fn compare_log(&mut self, store: &impl Slave) -> Result<(), FollowEnd> {
        while let Some(LogDigest { from, to, crc }) = self.digests.front().copied() {
            let position = store.position();
            if to > position.appended {
                return Ok(());
            }
            self.digests.pop_front();
            // What retention has removed meanwhile needs no comparison.
            if from >= position.log_min && store.log_crc(from, to)? != crc {
                return diverged(store, format!("the log from {from} to {to}"));
            }
        }
        Ok(())
    }
}

/// Compares the rows; the stream is exactly at the digest's change.
pub(super) fn compare_state(store: &impl Slave, theirs: StateAt) -> Result<(), FollowEnd> {
    let ours = StateAt::from(store.state_digest()?);
    if ours.sequence != theirs.sequence {
        let (ours, theirs) = (ours.sequence, theirs.sequence);
        return protocol(format!("a digest at change {theirs} while this store is at {ours}"));
    }
    if ours == theirs {
        Ok(())
    } else {
        diverged(
            store,
            format!("rows at change {}: {ours:?}, the master has {theirs:?}", ours.sequence),
        )
    }
}

fn diverged(store: &impl Slave, what: String) -> Result<(), FollowEnd> {
    store.stop_serving();
    Err(FollowEnd::Diverged(what))
}
