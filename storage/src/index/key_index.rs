//! The `key_index` family: slices of the log, and in each 1,024 buckets of key hashes.
//!
//! A hash only narrows the search: whoever finds an entry compares the real key.

use super::{Family, Guard, damaged, lost_error};
use crate::{ReadError, num::take};

/// Buckets of a slice; a power of two.
pub(crate) const BUCKETS: u16 = 1024;
/// Size of an entry: hash and log offset.
pub(crate) const ENTRY_BYTES: usize = 12;

const SLICE: u8 = 0;
const BUCKET: u8 = 1;

/// What a slice covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SliceRow {
    /// Log offset of its first record.
    pub(crate) first: u64,
    /// Log offset after its last record.
    pub(crate) end: u64,
    /// Store timestamp of its first record, Unix ms.
    pub(crate) first_ms: i64,
    /// Store timestamp of its last record, Unix ms.
    pub(crate) last_ms: i64,
    /// Records in it, with and without keys.
    pub(crate) messages: u32,
}

/// The hash of a message key: CRC-32 (IEEE) of topic, 0x01, key.
#[derive(Clone, Debug)]
pub(crate) struct KeyHasher(crc32fast::Hasher);

impl KeyHasher {
    /// Prepares hashing the keys of `topic`.
    pub(crate) fn new(topic: &str) -> Self {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(topic.as_bytes());
        hasher.update(&[1]);
        Self(hasher)
    }

    pub(crate) fn hash(&self, key: &str) -> u32 {
        let mut hasher = self.0.clone();
        hasher.update(key.as_bytes());
        hasher.finalize()
    }
}

/// The bucket that a hash falls into.
pub(crate) fn bucket_of(hash: u32) -> u16 {
    u16::try_from(hash % u32::from(BUCKETS)).expect("there are 1,024 buckets")
}

/// Adds an entry to a bucket. Log offsets of a bucket never descend.
pub(crate) fn push(bucket: &mut Vec<u8>, hash: u32, log_offset: u64) {
    let mut entry = [0; ENTRY_BYTES];
    let (head, tail) = entry.split_at_mut(size_of::<u32>());
    head.copy_from_slice(&hash.to_be_bytes());
    tail.copy_from_slice(&log_offset.to_be_bytes());
    bucket.extend_from_slice(&entry);
}

/// The entries of a bucket.
pub(crate) fn entries(bucket: &[u8]) -> impl DoubleEndedIterator<Item = (u32, u64)> {
    bucket.chunks_exact(ENTRY_BYTES).filter_map(|entry| {
        let (hash, rest) = take!(u32, entry)?;
        let (log_offset, _) = take!(u64, rest)?;
        Some((hash, log_offset))
    })
}

/// The part of a bucket whose records start before log offset `end`.
pub(crate) fn before(bucket: &[u8], end: u64) -> &[u8] {
    let beyond = entries(bucket).rev().take_while(|&(_, log_offset)| log_offset >= end).count();
    bucket.get(..bucket.len() - beyond * ENTRY_BYTES).unwrap_or_default()
}

/// Key of a slice's row.
pub(crate) fn slice_key(slice: u64) -> Vec<u8> {
    let mut key = vec![SLICE];
    key.extend_from_slice(&slice.to_be_bytes());
    key
}

/// Key of a bucket.
pub(crate) fn bucket_key(slice: u64, bucket: u16) -> Vec<u8> {
    let mut key = vec![BUCKET];
    key.extend_from_slice(&slice.to_be_bytes());
    key.extend_from_slice(&bucket.to_be_bytes());
    key
}

/// Slice and bucket of a bucket's key.
pub(crate) fn bucket_of_key(key: &[u8]) -> Option<(u64, u16)> {
    let (&kind, rest) = key.split_first()?;
    let (slice, rest) = take!(u64, rest)?;
    let (bucket, rest) = take!(u16, rest)?;
    (kind == BUCKET && rest.is_empty()).then_some((slice, bucket))
}

/// One row of a slice: its number, and what it covers. `None` if it cannot be decoded.
pub(crate) fn decode_slice(key: &[u8], value: &[u8]) -> Option<(u64, SliceRow)> {
    slice_of(key).zip(SliceRow::decode(value))
}

fn slice_of(key: &[u8]) -> Option<u64> {
    let (&kind, rest) = key.split_first()?;
    let (slice, _) = take!(u64, rest)?;
    (kind == SLICE).then_some(slice)
}

impl SliceRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(36);
        bytes.extend_from_slice(&self.first.to_be_bytes());
        bytes.extend_from_slice(&self.end.to_be_bytes());
        bytes.extend_from_slice(&self.first_ms.to_be_bytes());
        bytes.extend_from_slice(&self.last_ms.to_be_bytes());
        bytes.extend_from_slice(&self.messages.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (first, rest) = take!(u64, bytes)?;
        let (end, rest) = take!(u64, rest)?;
        let (first_ms, rest) = take!(i64, rest)?;
        let (last_ms, rest) = take!(i64, rest)?;
        let (messages, rest) = take!(u32, rest)?;
        rest.is_empty().then_some(Self { first, end, first_ms, last_ms, messages })
    }
}

/// The rows of all slices, newest first, until `each` says stop.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn slices(
    guard: &Guard<'_>,
    mut each: impl FnMut(u64, SliceRow) -> Result<std::ops::ControlFlow<()>, ReadError>,
) -> Result<(), ReadError> {
    let mut rows = guard.range(Family::KeyIndex, slice_key(0), vec![BUCKET]);
    rows.seek_to_last();
    while let Some((key, value)) = rows.item() {
        let (slice, row) =
            decode_slice(key, value).ok_or_else(|| damaged(Family::KeyIndex, key))?;
        if each(slice, row)?.is_break() {
            return Ok(());
        }
        rows.prev();
    }
    rows.status().map_err(lost_error)
}

/// A stored bucket; empty when there is none.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn bucket(guard: &Guard<'_>, slice: u64, bucket: u16) -> Result<Vec<u8>, ReadError> {
    Ok(guard.get(Family::KeyIndex, &bucket_key(slice, bucket))?.unwrap_or_default())
}

/// The slices whose records all lie before log offset `log_min`, as numbers from and to. The newest
/// slice is never among them: the numbers go on from it.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn below(
    guard: &Guard<'_>,
    log_min: u64,
) -> Result<Option<std::ops::Range<u64>>, ReadError> {
    let mut rows = guard.range(Family::KeyIndex, slice_key(0), vec![BUCKET]);
    rows.seek_to_first();
    let mut gone: Option<std::ops::Range<u64>> = None;
    while let Some((key, value)) = rows.item() {
        let row = slice_of(key).zip(SliceRow::decode(value));
        let (slice, row) = row.ok_or_else(|| damaged(Family::KeyIndex, key))?;
        let from = gone.as_ref().map_or(slice, |gone| gone.start);
        // There is a later slice, so those before it may go.
        gone = Some(from..slice);
        if row.end > log_min {
            break;
        }
        rows.next();
    }
    rows.status().map_err(lost_error)?;
    Ok(gone.filter(|gone| !gone.is_empty()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn slice_row_survives() {
        let row =
            SliceRow { first: 1, end: 1 << 40, first_ms: -5, last_ms: 1 << 42, messages: 262_144 };
        assert_eq!(SliceRow::decode(&row.encode()), Some(row));
        assert_eq!(SliceRow::decode(&row.encode()[1..]), None);
        assert_eq!(slice_of(&slice_key(77)), Some(77));
        assert_eq!(slice_of(&bucket_key(77, 1)), None);
    }

    #[test]
    fn hash_depends_on_topic_and_key() {
        let topic = KeyHasher::new("T");
        assert_eq!(topic.hash("k"), crc32fast::hash(b"T\x01k"));
        assert_ne!(topic.hash("k"), KeyHasher::new("T2").hash("k"));
        assert!(bucket_of(u32::MAX) < BUCKETS);
    }

    proptest! {
        #[test]
        fn bucket_survives_and_is_cut_at_an_offset(mut offsets: Vec<(u32, u64)>, end: u64) {
            offsets.sort_by_key(|&(_, log_offset)| log_offset);
            let mut bucket = Vec::new();
            for &(hash, log_offset) in &offsets {
                push(&mut bucket, hash, log_offset);
            }
            prop_assert_eq!(entries(&bucket).collect::<Vec<_>>(), offsets.clone());
            offsets.retain(|&(_, log_offset)| log_offset < end);
            prop_assert_eq!(entries(before(&bucket, end)).collect::<Vec<_>>(), offsets);
        }
    }
}
