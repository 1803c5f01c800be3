//! The `consumer_offset` family: group, topic id and queue id to a queue offset.

use std::cmp::Ordering;

use super::{Family, Guard, damaged, for_each, read_error};
use crate::{QueueOffset, ReadError, TopicId, num::take};

/// Ends the group's name in a key; no name contains it.
const NAME_END: u8 = 0;

/// Key of one offset.
pub(crate) fn key(group: &str, topic: TopicId, queue_id: u32) -> Vec<u8> {
    let mut key = group_start(group);
    key.extend_from_slice(&topic.0.to_be_bytes());
    key.extend_from_slice(&queue_id.to_be_bytes());
    key
}

/// The smallest key of a group.
pub(crate) fn group_start(group: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(group.len() + 9);
    key.extend_from_slice(group.as_bytes());
    key.push(NAME_END);
    key
}

/// A key behind the largest of a group.
pub(crate) fn group_end(group: &str) -> Vec<u8> {
    let mut key = group.as_bytes().to_vec();
    key.push(NAME_END + 1);
    key
}

fn decode_key(key: &[u8]) -> Option<(&str, TopicId, u32)> {
    let (rest, queue_id) = key.split_last_chunk::<4>()?;
    let (rest, topic) = rest.split_last_chunk::<4>()?;
    let (&end, group) = rest.split_last()?;
    let group = std::str::from_utf8(group).ok()?;
    let topic = TopicId(u32::from_be_bytes(*topic));
    (end == NAME_END).then_some((group, topic, u32::from_be_bytes(*queue_id)))
}

/// Value of an offset.
pub(crate) fn value(offset: QueueOffset) -> [u8; 8] {
    offset.0.to_be_bytes()
}

/// The stored offset of a group on a queue.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn get(
    guard: &Guard<'_>,
    group: &str,
    topic: TopicId,
    queue_id: u32,
) -> Result<Option<QueueOffset>, ReadError> {
    let key = key(group, topic, queue_id);
    let Some(stored) = guard.get(Family::ConsumerOffset, &key)? else { return Ok(None) };
    let (offset, _) = take!(u64, stored).ok_or_else(|| damaged(Family::ConsumerOffset, &key))?;
    Ok(Some(QueueOffset(offset)))
}

/// Every stored offset of one group, or of all, up to the first error of `each`.
///
/// # Errors
/// [`ReadError::Index`], or what `each` returns.
pub(crate) fn scan(
    guard: &Guard<'_>,
    group: Option<&str>,
    mut each: impl FnMut(&str, TopicId, u32, QueueOffset) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let rows = match group {
        Some(group) => guard.range(Family::ConsumerOffset, group_start(group), group_end(group)),
        None => guard.db().raw_iterator_cf(guard.family(Family::ConsumerOffset)),
    };
    for_each(rows, |key, value| {
        let (group, topic, queue_id, offset) = decode(key, value)?;
        each(group, topic, queue_id, offset)
    })
}

/// Every stored offset on one topic. Looks at each group once, however many offsets it has.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn of_topic(
    guard: &Guard<'_>,
    topic: TopicId,
    mut each: impl FnMut(&str, TopicId, u32, QueueOffset),
) -> Result<(), ReadError> {
    let mut rows = guard.db().raw_iterator_cf(guard.family(Family::ConsumerOffset));
    rows.seek_to_first();
    while let Some((row, value)) = rows.item() {
        let (group, of, queue_id, offset) = decode(row, value)?;
        match of.cmp(&topic) {
            Ordering::Less => {
                let first = key(group, topic, 0);
                rows.seek(first);
            }
            Ordering::Equal => {
                each(group, of, queue_id, offset);
                rows.next();
            }
            Ordering::Greater => {
                let next_group = group_end(group);
                rows.seek(next_group);
            }
        }
    }
    rows.status().map_err(read_error)
}

/// One row: group, topic, queue and offset.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn decode<'a>(
    key: &'a [u8],
    value: &[u8],
) -> Result<(&'a str, TopicId, u32, QueueOffset), ReadError> {
    let row = decode_key(key).zip(take!(u64, value));
    let ((group, topic, queue_id), (offset, _)) =
        row.ok_or_else(|| damaged(Family::ConsumerOffset, key))?;
    Ok((group, topic, queue_id, QueueOffset(offset)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_survives() {
        let key = key("%RETRY%g|x", TopicId(0x0102_0304), 0xFFFF_FFFF);
        assert_eq!(decode_key(&key), Some(("%RETRY%g|x", TopicId(0x0102_0304), u32::MAX)));
        assert_eq!(decode_key(b"short"), None);
    }

    #[test]
    fn group_range_holds_the_group_only() {
        let key = key("g", TopicId(u32::MAX), u32::MAX);
        assert!(group_start("g") <= key && key < group_end("g"));
        let longer = super::key("g1", TopicId(0), 0);
        assert!(group_end("g") <= longer);
    }
}
