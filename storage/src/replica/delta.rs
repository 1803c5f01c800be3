//! Changes of the index on their way to slaves: the newest in memory, older ones from RocksDB's
//! WAL.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::MutexGuard,
};

use bytes::Bytes;

use super::{
    ReplicaError,
    batch::{self, Op},
};
use crate::{
    ReadError,
    index::{Family, Guard, Index, meta, read_error},
    num::to_u64,
};

/// Bytes of changes that stay in memory.
const RING_BYTES: usize = 64 << 20;

/// One batch, as RocksDB logs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delta {
    /// Sequence number of its first operation.
    pub first_sequence: u64,
    /// Sequence number of its last operation.
    pub last_sequence: u64,
    /// Nothing in it speaks of the log at or beyond this offset.
    pub needs: u64,
    /// The batch; the sequence number in its header has no meaning.
    pub batch: Bytes,
}

/// What follows a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deltas {
    /// These, without a gap; none if there is nothing new.
    Next(Vec<Delta>),
    /// They are not kept any more: only a snapshot helps.
    Gone,
}

/// The newest changes. Locked while a batch is written, so that order and numbers are right.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    deltas: VecDeque<Delta>,
    bytes: usize,
    /// What was before this sequence number cannot be told as changes: a family was dropped.
    barrier: u64,
    /// The families by the ids that batches name them by.
    ids: BTreeMap<u32, Family>,
}

impl Ring {
    /// Adds the batch that was just written.
    ///
    /// # Errors
    /// [`ReadError::Index`] when it is not as this program writes batches.
    pub(crate) fn push(&mut self, guard: &Guard<'_>, batch: Vec<u8>) -> Result<(), ReadError> {
        if self.ids.is_empty() {
            self.ids = batch::family_ids(guard);
        }
        let ops = batch::ops(&batch).map_err(|reason| ReadError::Index { reason })?;
        let (count, needs) = (to_u64(ops.len()), log_end(&ops, &self.ids).unwrap_or(0));
        self.add(batch, (count, guard.db().latest_sequence_number()), needs);
        Ok(())
    }

    fn add(&mut self, batch: Vec<u8>, (count, last_sequence): (u64, u64), needs: u64) {
        let first_sequence = last_sequence + 1 - count;
        if count == 0 {
            return;
        }
        if self.deltas.back().is_some_and(|last| last.last_sequence + 1 != first_sequence) {
            // Something was written besides; the WAL has it.
            self.deltas.clear();
            self.bytes = 0;
        }
        self.bytes += batch.len();
        self.deltas.push_back(Delta { first_sequence, last_sequence, needs, batch: batch.into() });
        while self.bytes > RING_BYTES
            && let Some(oldest) = self.deltas.pop_front()
        {
            self.bytes -= oldest.batch.len();
        }
    }

    /// A family was dropped and made anew, which no batch tells.
    pub(crate) fn bar(&mut self, sequence: u64) {
        *self = Self { barrier: sequence, ..Self::default() };
    }

    /// What follows `sequence`, or `None` if the WAL must tell.
    fn after(&self, sequence: u64, max_bytes: usize) -> Option<Deltas> {
        if sequence < self.barrier {
            return Some(Deltas::Gone);
        }
        let first = self.deltas.front()?;
        if sequence + 1 < first.first_sequence {
            return None;
        }
        let at = self.deltas.partition_point(|delta| delta.first_sequence <= sequence);
        let mut left = max_bytes;
        let next = self.deltas.iter().skip(at).take_while(|delta| {
            let more = left > 0;
            left = left.saturating_sub(delta.batch.len());
            more
        });
        Some(contiguous(sequence, next.cloned().collect()))
    }
}

/// Whether the changes really follow; a sequence number inside of a batch was never a position.
fn contiguous(sequence: u64, deltas: Vec<Delta>) -> Deltas {
    let mut expected = sequence + 1;
    for delta in &deltas {
        if delta.first_sequence != expected {
            return Deltas::Gone;
        }
        expected = delta.last_sequence + 1;
    }
    Deltas::Next(deltas)
}

/// What follows `sequence`; nothing while a batch is being written, which may take as long as a disk.
///
/// # Errors
/// [`ReplicaError::Read`].
pub(crate) fn after(
    index: &Index,
    sequence: u64,
    max_bytes: usize,
) -> Result<Deltas, ReplicaError> {
    match index.try_ring() {
        Some(ring) => following(index, ring, sequence, max_bytes),
        None => Ok(Deltas::Next(Vec::new())),
    }
}

/// Whether all changes after `sequence` are kept.
///
/// # Errors
/// [`ReplicaError::Read`].
pub(crate) fn kept(index: &Index, sequence: u64) -> Result<bool, ReplicaError> {
    Ok(following(index, index.ring(), sequence, 1)? != Deltas::Gone)
}

fn following(
    index: &Index,
    ring: MutexGuard<'_, Ring>,
    sequence: u64,
    max_bytes: usize,
) -> Result<Deltas, ReplicaError> {
    let latest = index.db()?.db().latest_sequence_number();
    if sequence >= latest {
        return Ok(if sequence == latest { Deltas::Next(Vec::new()) } else { Deltas::Gone });
    }
    if let Some(deltas) = ring.after(sequence, max_bytes) {
        return Ok(deltas);
    }
    drop(ring);
    from_wal(index, sequence, max_bytes)
}

fn from_wal(index: &Index, sequence: u64, max_bytes: usize) -> Result<Deltas, ReplicaError> {
    let guard = index.db()?;
    let ids = batch::family_ids(&guard);
    // Fails when the file with this number is gone.
    let Ok(updates) = guard.db().get_updates_since(sequence) else { return Ok(Deltas::Gone) };
    let mut deltas = Vec::new();
    let mut bytes = 0;
    for update in updates {
        let (first_sequence, batch) = update.map_err(read_error)?;
        let ops = batch::ops(batch.data()).map_err(|reason| ReadError::Index { reason })?;
        let count = to_u64(ops.len());
        if count == 0 {
            continue;
        }
        let needs = log_end(&ops, &ids).unwrap_or(0);
        bytes += batch.data().len();
        deltas.push(Delta {
            first_sequence,
            last_sequence: first_sequence + count - 1,
            needs,
            batch: Bytes::copy_from_slice(batch.data()),
        });
        if bytes >= max_bytes {
            break;
        }
    }
    if deltas.is_empty() {
        // There is more, and the WAL does not have it.
        return Ok(Deltas::Gone);
    }
    Ok(contiguous(sequence, deltas))
}

/// What a batch says about where the log ends that it speaks of.
pub(crate) fn log_end(ops: &[Op<'_>], ids: &BTreeMap<u32, Family>) -> Option<u64> {
    ops.iter().rev().find_map(|op| match op {
        Op::Put { family, key, value } if ids.get(family) == Some(&Family::Default) => {
            meta::as_log_end(key, value)
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firsts(deltas: Option<Deltas>) -> Vec<u64> {
        match deltas {
            Some(Deltas::Next(deltas)) => deltas.iter().map(|delta| delta.first_sequence).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn ring_hands_out_what_follows_without_a_gap() {
        let mut ring = Ring::default();
        ring.add(vec![0; 10], (3, 12), 100);
        ring.add(vec![0; 10], (1, 13), 100);
        ring.add(Vec::new(), (0, 13), 100);
        ring.add(vec![0; 10], (2, 15), 200);
        assert_eq!(ring.after(8, 1000), None, "older than the ring");
        assert_eq!(firsts(ring.after(9, 1000)), [10, 13, 14]);
        assert_eq!(firsts(ring.after(12, 1000)), [13, 14]);
        assert_eq!(firsts(ring.after(12, 1)), [13]);
        assert_eq!(firsts(ring.after(15, 1000)), [0; 0]);
        assert_eq!(ring.after(10, 1000), Some(Deltas::Gone), "inside of a batch");
        ring.add(vec![0; 10], (1, 20), 300);
        assert_eq!(ring.after(15, 1000), None, "16 to 19 are not in it");
        assert_eq!(firsts(ring.after(19, 1000)), [20]);
        ring.bar(20);
        assert_eq!(ring.after(19, 1000), Some(Deltas::Gone));
    }

    #[test]
    fn ring_is_bounded() {
        let mut ring = Ring::default();
        for i in 1..=100 {
            ring.add(vec![0; 1 << 20], (1, i), 0);
        }
        assert!(ring.bytes <= RING_BYTES);
        assert_eq!(ring.deltas.back().unwrap().last_sequence, 100);
        assert_eq!(ring.after(1, 1), None);
    }
}
