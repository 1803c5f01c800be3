//! The `default` family: what the store knows about itself.

use prost::Message;
use rocksdb::WriteBatch;

use super::{Family, Guard, damaged, for_each};
use crate::{DataVersion, ReadError, TopicId, num::take};

/// Schema version that this program writes.
pub(crate) const SCHEMA_VERSION: u32 = 1;

const SCHEMA: &[u8] = b"schema";
const CHECKPOINT: &[u8] = b"checkpoint";
const LOG_END: &[u8] = b"log_end";
const LOG_MIN: &[u8] = b"log_min";
/// Begins the keys of queues.
const QUEUE_END: &[u8] = b"queue_end";
const UNCLAMPED: &[u8] = b"unclamped";
const LOST: &[u8] = b"lost";
const NEXT_TOPIC_ID: &[u8] = b"next_topic_id";
const TOPIC_VERSION: &[u8] = b"topic_version";
const GROUP_VERSION: &[u8] = b"group_version";

/// Up to where the index holds everything.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Checkpoint {
    /// Bytes of log.
    #[prost(uint64, tag = "1")]
    pub(crate) log_offset: u64,
    /// Store timestamp of the last record before, Unix ms.
    #[prost(int64, tag = "2")]
    pub(crate) last_store_ms: i64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct VersionRow {
    #[prost(int64, tag = "1")]
    counter: i64,
    #[prost(int64, tag = "2")]
    state_version: i64,
    #[prost(int64, tag = "3")]
    timestamp: i64,
}

/// Which table a version belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Versioned {
    Topics,
    Groups,
}

impl Versioned {
    fn key(self) -> &'static [u8] {
        match self {
            Self::Topics => TOPIC_VERSION,
            Self::Groups => GROUP_VERSION,
        }
    }
}

fn put(batch: &mut WriteBatch, guard: &Guard<'_>, key: &[u8], value: &[u8]) {
    batch.put_cf(guard.family(Family::Default), key, value);
}

fn number<const N: usize>(guard: &Guard<'_>, key: &[u8]) -> Result<Option<[u8; N]>, ReadError> {
    let Some(value) = guard.get(Family::Default, key)? else { return Ok(None) };
    value.as_slice().try_into().map(Some).map_err(|_| damaged(Family::Default, key))
}

/// `None` in a new index.
pub(crate) fn schema(guard: &Guard<'_>) -> Result<Option<u32>, ReadError> {
    Ok(number(guard, SCHEMA)?.map(u32::from_be_bytes))
}

pub(crate) fn put_schema(batch: &mut WriteBatch, guard: &Guard<'_>) {
    put(batch, guard, SCHEMA, &SCHEMA_VERSION.to_be_bytes());
}

pub(crate) fn checkpoint(guard: &Guard<'_>) -> Result<Checkpoint, ReadError> {
    let Some(value) = guard.get(Family::Default, CHECKPOINT)? else {
        return Ok(Checkpoint::default());
    };
    Checkpoint::decode(value.as_slice()).map_err(|_| damaged(Family::Default, CHECKPOINT))
}

pub(crate) fn put_checkpoint(batch: &mut WriteBatch, guard: &Guard<'_>, checkpoint: &Checkpoint) {
    put(batch, guard, CHECKPOINT, &checkpoint.encode_to_vec());
}

/// No row of any family refers to a position of the log at or beyond this.
pub(crate) fn log_end(guard: &Guard<'_>) -> Result<u64, ReadError> {
    Ok(number(guard, LOG_END)?.map_or(0, u64::from_be_bytes))
}

pub(crate) fn put_log_end(batch: &mut WriteBatch, guard: &Guard<'_>, end: u64) {
    put(batch, guard, LOG_END, &end.to_be_bytes());
}

/// As [`log_end`], of a row that is being written.
pub(crate) fn as_log_end(key: &[u8], value: &[u8]) -> Option<u64> {
    let end = value.try_into().ok().map(u64::from_be_bytes);
    end.filter(|_| key == LOG_END)
}

/// The log begins here: files before it were deleted, and one that is back after a power cut is to
/// be deleted again. 0 if nothing was ever deleted.
pub(crate) fn log_min(guard: &Guard<'_>) -> Result<u64, ReadError> {
    Ok(number(guard, LOG_MIN)?.map_or(0, u64::from_be_bytes))
}

pub(crate) fn put_log_min(batch: &mut WriteBatch, guard: &Guard<'_>, min: u64) {
    put(batch, guard, LOG_MIN, &min.to_be_bytes());
}

/// As [`log_min`], of a row that is being written.
pub(crate) fn as_log_min(key: &[u8], value: &[u8]) -> Option<u64> {
    let min = value.try_into().ok().map(u64::from_be_bytes);
    min.filter(|_| key == LOG_MIN)
}

/// Up to where the index holds everything, of a row that is being written.
pub(crate) fn as_checkpoint(key: &[u8], value: &[u8]) -> Option<Checkpoint> {
    Checkpoint::decode(value).ok().filter(|_| key == CHECKPOINT)
}

fn queue_end_key((topic, queue_id): (TopicId, u32)) -> Vec<u8> {
    [QUEUE_END, &topic.0.to_be_bytes(), &queue_id.to_be_bytes()].concat()
}

/// Where a queue ended when its last message was deleted. The log cannot tell, so without this an
/// index that is rebuilt from the log would give the same offsets to other messages.
pub(crate) fn queue_end(
    guard: &Guard<'_>,
    queue: (TopicId, u32),
) -> Result<Option<u64>, ReadError> {
    Ok(number(guard, &queue_end_key(queue))?.map(u64::from_be_bytes))
}

pub(crate) fn put_queue_end(
    batch: &mut WriteBatch,
    guard: &Guard<'_>,
    queue: (TopicId, u32),
    end: u64,
) {
    put(batch, guard, &queue_end_key(queue), &end.to_be_bytes());
}

/// Where all queues ended whose last messages were deleted.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn queue_ends(
    guard: &Guard<'_>,
    mut each: impl FnMut((TopicId, u32), u64),
) -> Result<(), ReadError> {
    let mut to = QUEUE_END.to_vec();
    to.extend_from_slice(&[0xFF; 9]);
    for_each(guard.range(Family::Default, QUEUE_END.to_vec(), to), |key, value| {
        let queue = key.get(QUEUE_END.len()..).and_then(|rest| {
            let (topic, rest) = take!(u32, rest)?;
            let (queue_id, rest) = take!(u32, rest)?;
            rest.is_empty().then_some((TopicId(topic), queue_id))
        });
        let end = take!(u64, value).map(|(end, _)| end);
        let (queue, end) = queue.zip(end).ok_or_else(|| damaged(Family::Default, key))?;
        each(queue, end);
        Ok(())
    })
}

/// Forgets where the queues of a topic ended.
pub(crate) fn delete_queue_ends(batch: &mut WriteBatch, guard: &Guard<'_>, topic: TopicId) {
    let mut to = queue_end_key((topic, u32::MAX));
    to.push(0);
    batch.delete_range_cf(guard.family(Family::Default), queue_end_key((topic, 0)), to);
}

/// Whether recovery has shortened queues and has not yet clamped the consumer offsets.
pub(crate) fn unclamped(guard: &Guard<'_>) -> Result<bool, ReadError> {
    Ok(guard.get(Family::Default, UNCLAMPED)?.is_some())
}

pub(crate) fn put_unclamped(batch: &mut WriteBatch, guard: &Guard<'_>, unclamped: bool) {
    if unclamped {
        put(batch, guard, UNCLAMPED, &[1]);
    } else {
        batch.delete_cf(guard.family(Family::Default), UNCLAMPED);
    }
}

/// Whether the derived families are incomplete and must be rebuilt from the whole log.
pub(crate) fn lost(guard: &Guard<'_>) -> Result<bool, ReadError> {
    Ok(guard.get(Family::Default, LOST)?.is_some())
}

pub(crate) fn put_lost(batch: &mut WriteBatch, guard: &Guard<'_>, lost: bool) {
    if lost {
        put(batch, guard, LOST, &[1]);
    } else {
        batch.delete_cf(guard.family(Family::Default), LOST);
    }
}

pub(crate) fn next_topic_id(guard: &Guard<'_>) -> Result<u32, ReadError> {
    Ok(number(guard, NEXT_TOPIC_ID)?.map_or(1, u32::from_be_bytes))
}

pub(crate) fn put_next_topic_id(batch: &mut WriteBatch, guard: &Guard<'_>, id: u32) {
    put(batch, guard, NEXT_TOPIC_ID, &id.to_be_bytes());
}

pub(crate) fn version(guard: &Guard<'_>, of: Versioned) -> Result<DataVersion, ReadError> {
    let Some(value) = guard.get(Family::Default, of.key())? else {
        return Ok(DataVersion::default());
    };
    let row =
        VersionRow::decode(value.as_slice()).map_err(|_| damaged(Family::Default, of.key()))?;
    Ok(DataVersion {
        counter: row.counter,
        state_version: row.state_version,
        timestamp: row.timestamp,
    })
}

pub(crate) fn put_version(
    batch: &mut WriteBatch,
    guard: &Guard<'_>,
    of: Versioned,
    version: DataVersion,
) {
    let row = VersionRow {
        counter: version.counter,
        state_version: version.state_version,
        timestamp: version.timestamp,
    };
    put(batch, guard, of.key(), &row.encode_to_vec());
}
