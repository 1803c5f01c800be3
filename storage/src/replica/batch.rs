//! Reading a RocksDB write batch as RocksDB logs it: eight bytes of sequence number, four of count,
//! then the operations, numbers little-endian.
//!
//! # Source: `WriteBatchInternal` and `ValueType` of RocksDB.

use std::collections::BTreeMap;

use rocksdb::WriteBatch;

use crate::index::{Family, Guard};

const HEADER_BYTES: usize = 12;

const DELETION: u8 = 0x0;
const VALUE: u8 = 0x1;
const FAMILY_DELETION: u8 = 0x4;
const FAMILY_VALUE: u8 = 0x5;
const FAMILY_RANGE_DELETION: u8 = 0xE;
const RANGE_DELETION: u8 = 0xF;

/// One operation on the family with this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Put { family: u32, key: &'a [u8], value: &'a [u8] },
    Delete { family: u32, key: &'a [u8] },
    DeleteRange { family: u32 },
}

/// The operations of a batch.
///
/// # Errors
/// What is wrong with it: it is damaged, or uses what this program never does.
pub(crate) fn ops(batch: &[u8]) -> Result<Vec<Op<'_>>, String> {
    let (count, mut rest) = count(batch).ok_or("it is shorter than its header")?;
    let mut ops = Vec::new();
    while let Some((&tag, behind)) = rest.split_first() {
        rest = behind;
        let op = op(tag, &mut rest).ok_or_else(|| format!("operation {} is cut", ops.len()))?;
        ops.push(
            op.ok_or_else(|| format!("operation {} has the unknown tag {tag:#x}", ops.len()))?,
        );
    }
    if ops.len() != count {
        return Err(format!("it announces {count} operations and has {}", ops.len()));
    }
    Ok(ops)
}

#[expect(clippy::little_endian_bytes, reason = "so RocksDB writes them")]
fn count(batch: &[u8]) -> Option<(usize, &[u8])> {
    let (header, rest) = batch.split_first_chunk::<HEADER_BYTES>()?;
    let count = u32::from_le_bytes(*header.last_chunk::<4>()?);
    Some((usize::try_from(count).ok()?, rest))
}

/// `None` if the bytes do not suffice, `Some(None)` if the tag is unknown.
fn op<'a>(tag: u8, rest: &mut &'a [u8]) -> Option<Option<Op<'a>>> {
    let family = match tag {
        FAMILY_DELETION | FAMILY_VALUE | FAMILY_RANGE_DELETION => varint(rest)?,
        DELETION | VALUE | RANGE_DELETION => 0,
        _ => return Some(None),
    };
    let key = text(rest)?;
    Some(Some(match tag {
        DELETION | FAMILY_DELETION => Op::Delete { family, key },
        VALUE | FAMILY_VALUE => Op::Put { family, key, value: text(rest)? },
        _ => {
            text(rest)?;
            Op::DeleteRange { family }
        }
    }))
}

fn varint(rest: &mut &[u8]) -> Option<u32> {
    let mut number: u64 = 0;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(number).ok();
        }
    }
    None
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint(rest)?).ok()?;
    let (text, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(text)
}

/// The ids that batches name the families by. RocksDB does not tell them, but puts them into every
/// batch.
pub(crate) fn family_ids(guard: &Guard<'_>) -> BTreeMap<u32, Family> {
    let id = |family| {
        let mut batch = WriteBatch::default();
        batch.put_cf(guard.family(family), [], []);
        match ops(batch.data()).as_deref() {
            Ok([Op::Put { family: id, .. }]) => *id,
            other => unreachable!("a batch of one put reads as {other:?}"),
        }
    };
    Family::ALL.into_iter().map(|family| (id(family), family)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::Index;

    #[test]
    fn every_kind_of_operation_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), 1 << 20).unwrap();
        let guard = index.db().unwrap();
        let ids = family_ids(&guard);
        assert_eq!(ids.len(), Family::ALL.len());
        assert_eq!(ids.get(&0), Some(&Family::Default));
        let topic = *ids.iter().find(|(_, family)| **family == Family::Topic).unwrap().0;
        let long = vec![7; 300];
        let mut batch = WriteBatch::default();
        batch.put_cf(guard.family(Family::Default), b"k", b"v");
        batch.put_cf(guard.family(Family::Topic), &long, b"");
        batch.delete_cf(guard.family(Family::Default), b"d");
        batch.delete_cf(guard.family(Family::Topic), b"e");
        batch.delete_range_cf(guard.family(Family::Default), b"a", b"b");
        batch.delete_range_cf(guard.family(Family::Topic), b"a", b"b");
        let expected = [
            Op::Put { family: 0, key: b"k", value: b"v" },
            Op::Put { family: topic, key: &long, value: b"" },
            Op::Delete { family: 0, key: b"d" },
            Op::Delete { family: topic, key: b"e" },
            Op::DeleteRange { family: 0 },
            Op::DeleteRange { family: topic },
        ];
        assert_eq!(ops(batch.data()).unwrap(), expected);
        for len in 0..batch.data().len() {
            assert!(ops(&batch.data()[..len]).is_err(), "{len} bytes are enough");
        }
        let mut wrong = batch.data().to_vec();
        wrong[HEADER_BYTES] = 0x2;
        assert!(ops(&wrong).unwrap_err().contains("unknown tag 0x2"));
    }
}
