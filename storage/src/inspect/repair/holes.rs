//! Rows of queues and consumers that must not point to what is lost.

use std::collections::HashMap;

use prost::Message;
use rocksdb::WriteBatch;

use super::{
    super::{Error, log::Cause, verify::Examined},
    Action, BATCH_ROWS, Tell, change,
};
use crate::{
    QueueOffset, TopicId,
    index::{
        Family, Guard, Index,
        consume_queue::{self, BLOCK_ENTRIES, Block, BlockEntry},
        consumer_offset, for_each, meta,
        topic::TopicRow,
    },
    num::to_u64,
    tail::GAP_MAX,
};

/// Whether the records at a log offset cannot be read any more.
fn is_lost(examined: &Examined, offset: u64) -> bool {
    let after = examined.damages.partition_point(|damage| damage.from <= offset);
    let damage = after.checked_sub(1).and_then(|at| examined.damages.get(at));
    damage.is_some_and(|damage| offset < damage.to && damage.cause != Cause::Filler)
}

/// Makes holes of the entries that point into damage.
pub(super) fn pass_over(index: &Index, examined: &Examined) -> Result<u64, Error> {
    let guard = index.db()?;
    let mut batch = WriteBatch::default();
    let mut count = 0;
    for_each(guard.db().raw_iterator_cf(guard.family(Family::ConsumeQueue)), |key, value| {
        let Some((_, _, mut block)) = consume_queue::decode_row(key, value) else { return Ok(()) };
        let mut changed = false;
        for entry in block.entries.iter_mut().filter(|entry| !entry.is_hole()) {
            if is_lost(examined, entry.log_offset) {
                *entry = BlockEntry { log_offset: entry.log_offset, ..BlockEntry::default() };
                changed = true;
                count += 1;
            }
        }
        if changed {
            batch.put_cf(guard.family(Family::ConsumeQueue), key, encode(&block));
        }
        if batch.len() >= BATCH_ROWS {
            index.write(std::mem::take(&mut batch), false)?;
        }
        Ok(())
    })?;
    index.write(batch, true)?;
    Ok(count)
}

fn encode(block: &Block) -> Vec<u8> {
    consume_queue::encode(block.start, block.first_ms, block.entries.iter().copied())
}

/// The last message of a queue that is lost.
#[derive(Clone, Copy, Debug)]
struct LastLost {
    queue: (TopicId, u32),
    /// The queue offset behind it.
    to: u64,
    log_offset: u64,
    first_ms: i64,
}

/// Where the last messages of a queue are lost, the queue ends before it did: the next message would
/// get an offset that another one had. Holes keep the offsets. Returns how many there are.
pub(super) fn reach_old_ends(
    index: &Index,
    old: &Index,
    examined: &Examined,
) -> Result<u64, Error> {
    let (guard, old) = (index.db()?, old.db()?);
    let mut topics = HashMap::new();
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |_, value| {
        if let Ok(row) = TopicRow::decode(value) {
            topics.insert(row.id, row.queues);
        }
        Ok(())
    })?;
    let mut batch = WriteBatch::default();
    let mut added = 0;
    let mut last: Option<LastLost> = None;
    let mut ends = consume_queue::Ends::new(&guard);
    let mut each = |done: LastLost| extend(&guard, &mut ends, &mut batch, done);
    let min = examined.files.min();
    for_each(old.db().raw_iterator_cf(old.family(Family::ConsumeQueue)), |key, value| {
        let Some((topic, queue_id, block)) = consume_queue::decode_row(key, value) else {
            return Ok(());
        };
        let lost = |entry: &BlockEntry| {
            entry.end() <= examined.end
                && (entry.log_offset < min || is_lost(examined, entry.log_offset))
        };
        let there = topics.get(&topic.0).is_some_and(|queues| queue_id < *queues);
        let Some(place) = block.entries.iter().rposition(lost).filter(|_| there) else {
            return Ok(());
        };
        let of = LastLost {
            queue: (topic, queue_id),
            to: block.first() + to_u64(place) + 1,
            log_offset: block.entries.get(place).map_or(0, |entry| entry.log_offset),
            first_ms: block.first_ms,
        };
        let done = last.replace(of).filter(|done| done.queue != of.queue);
        added += done.map_or(Ok(0), &mut each)?;
        Ok(())
    })?;
    added += last.map_or(Ok(0), &mut each)?;
    index.write(batch, true)?;
    Ok(added)
}

/// Adds holes to a queue up to behind its last lost message.
fn extend(
    guard: &Guard<'_>,
    ends: &mut consume_queue::Ends<'_>,
    batch: &mut WriteBatch,
    lost: LastLost,
) -> Result<u64, crate::ReadError> {
    let LastLost { queue: (topic, queue_id), to, .. } = lost;
    let from = ends.of((topic, queue_id))?;
    if from == 0 {
        meta::put_queue_end(batch, guard, (topic, queue_id), to);
        return Ok(1);
    }
    if to <= from || to - from > GAP_MAX {
        return Ok(0);
    }
    let partial = consume_queue::Blocks::of(guard, (topic, queue_id)).last()?;
    let mut partial = partial.filter(|block| block.number == from / BLOCK_ENTRIES);
    let mut at = from;
    while at < to {
        let number = at / BLOCK_ENTRIES;
        let mut block = partial.take().unwrap_or_else(|| Block {
            number,
            start: u8::try_from(at % BLOCK_ENTRIES).expect("a block has 64 places"),
            first_ms: lost.first_ms,
            entries: Vec::new(),
        });
        let log_offset = block.entries.last().map_or(0, |entry| entry.end()).max(lost.log_offset);
        while at < to && at / BLOCK_ENTRIES == number {
            block.entries.push(BlockEntry { log_offset, ..BlockEntry::default() });
            at += 1;
        }
        let key = consume_queue::key(topic, queue_id, number);
        batch.put_cf(guard.family(Family::ConsumeQueue), key, encode(&block));
    }
    Ok(to - from)
}

/// Moves consumer offsets that point behind the end of their queue back to it.
pub(super) fn move_back(index: &Index, each: Tell<'_>) -> Result<(), Error> {
    let guard = index.db()?;
    let mut names = HashMap::new();
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |key, value| {
        if let Ok(row) = TopicRow::decode(value) {
            names.insert(TopicId(row.id), String::from_utf8_lossy(key).into_owned());
        }
        Ok(())
    })?;
    let mut ends = consume_queue::Ends::new(&guard);
    let mut batch = WriteBatch::default();
    consumer_offset::scan(&guard, None, |group, topic, queue_id, offset| {
        let Some(name) = names.get(&topic) else { return Ok(()) };
        let end = ends.of((topic, queue_id))?;
        if offset.0 > end {
            let detail =
                format!("group {group}, topic {name} queue {queue_id}: from {offset} to {end}");
            each(change(Action::MoveBack, 1, detail));
            let key = consumer_offset::key(group, topic, queue_id);
            let value = consumer_offset::value(QueueOffset(end));
            batch.put_cf(guard.family(Family::ConsumerOffset), key, value);
        }
        Ok(())
    })?;
    index.write(batch, true)?;
    Ok(())
}
