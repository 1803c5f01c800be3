//! Checksums that two replicas compare.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use crc32fast::Hasher;

use super::ReplicaError;
use crate::{
    OpenError, ReadError,
    commit_log::{CommitLog, durable, recover},
    file::failed,
    index::{DIR, Family, Guard, Index, for_each},
    num::{to_u64, to_usize},
};

/// The log is read in pieces of this size.
const PIECE_BYTES: u64 = 1 << 20;

/// The state at a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// RocksDB's.
    pub sequence: u64,
    /// Number of rows.
    pub rows: u64,
    /// CRC-32 over keys and values.
    pub crc: u32,
}

/// What a store that is closed holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDigest {
    /// RocksDB's last sequence number.
    pub sequence: u64,
    /// Each family by name, with its number of rows and a CRC-32 over them.
    pub families: Vec<(String, u64, u32)>,
    /// Where the log begins.
    pub log_min: u64,
    /// Where it ends.
    pub log_end: u64,
    /// CRC-32 of its bytes.
    pub log_crc: u32,
}

/// Checksum of the families that the log cannot tell.
pub(crate) fn state(index: &Index) -> Result<StateDigest, ReadError> {
    let guard = index.db()?;
    let (snapshot, sequence) = {
        // Nothing is written meanwhile.
        let _ring = index.ring();
        (guard.db().snapshot(), guard.db().latest_sequence_number())
    };
    let (mut rows, mut hasher) = (0, Hasher::new());
    let primary = Family::ALL.into_iter().filter(|family| !Family::DERIVED.contains(family));
    for family in primary {
        let found = snapshot.raw_iterator_cf(guard.family(family));
        for_each(found, |key, value| {
            add(&mut hasher, key, value);
            rows += 1;
            Ok(())
        })?;
    }
    Ok(StateDigest { sequence, rows, crc: hasher.finalize() })
}

fn add(hasher: &mut Hasher, key: &[u8], value: &[u8]) {
    // With lengths, so that no two different rows read the same.
    for part in [key, value] {
        hasher.update(&to_u64(part.len()).to_be_bytes());
        hasher.update(part);
    }
}

pub(crate) fn log_crc(log: &CommitLog, from: u64, to: u64) -> Result<u32, ReplicaError> {
    let mut hasher = Hasher::new();
    let mut at = from;
    while at < to {
        let behind = || ReplicaError::Behind { log_min: log.min(), wanted: at };
        let segments = log.segments_between(at, at + 1);
        let segment = segments.first().ok_or_else(behind)?;
        let len = (to - at).min(PIECE_BYTES).min(segment.limit_offset() - at);
        let bytes = segment.read(at, to_usize(len)).ok_or_else(behind)?;
        hasher.update(&bytes);
        at += len;
    }
    Ok(hasher.finalize())
}

/// Reads a store that no process has open. Two replicas that were closed at the same position give
/// the same.
///
/// # Errors
/// [`OpenError`].
pub fn digest(store: &Path) -> Result<StoreDigest, OpenError> {
    let index = Index::read_only(&store.join(DIR))?;
    let guard = index.db()?;
    let families = Family::ALL.into_iter().map(|family| family_digest(&guard, family));
    let families = families.collect::<Result<_, _>>()?;
    let log_dir = store.join("commitlog");
    let (log_min, log_end, log_crc) = closed_log(store).map_err(failed("read", log_dir))?;
    let sequence = guard.db().latest_sequence_number();
    Ok(StoreDigest { sequence, families, log_min, log_end, log_crc })
}

/// Where the log of a closed store begins and ends, and the checksum of its bytes.
fn closed_log(store: &Path) -> io::Result<(u64, u64, u32)> {
    let marks = durable::read(store)?;
    let newest = marks.into_iter().flatten().max_by_key(|mark| mark.sequence);
    let end = newest.filter(|mark| mark.clean).map(|mark| mark.durable).ok_or_else(|| {
        io::Error::other(
            "it was not closed in order, so its end is unknown; start and stop its broker",
        )
    })?;
    let found = recover::list(&store.join("commitlog")).map_err(io::Error::other)?;
    let min = found.first().map_or(0, |first| first.base_offset);
    let (mut hasher, mut bytes) = (Hasher::new(), vec![0; to_usize(PIECE_BYTES)]);
    for segment in &found {
        let file = File::open(&segment.path)?;
        let mut at = segment.base_offset;
        while at < segment.limit_offset().min(end) {
            let len = to_usize((segment.limit_offset().min(end) - at).min(PIECE_BYTES));
            let (piece, _) = bytes.split_at_mut(len);
            file.read_exact_at(piece, at - segment.base_offset)?;
            hasher.update(piece);
            at += to_u64(len);
        }
    }
    Ok((min, end, hasher.finalize()))
}

fn family_digest(guard: &Guard<'_>, family: Family) -> Result<(String, u64, u32), ReadError> {
    let (mut rows, mut hasher) = (0, Hasher::new());
    for_each(guard.db().raw_iterator_cf(guard.family(family)), |key, value| {
        add(&mut hasher, key, value);
        rows += 1;
        Ok(())
    })?;
    Ok((family.name().to_owned(), rows, hasher.finalize()))
}
