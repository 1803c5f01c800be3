//! The `consume_queue` family: blocks of 64 entries of one queue.

use super::{Family, Guard, damaged, lost_error, meta};
use crate::{ReadError, TopicId, num::take};

/// Entries of a full block.
pub(crate) const BLOCK_ENTRIES: u64 = 64;

/// Where one message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockEntry {
    /// Position of the record.
    pub(crate) log_offset: u64,
    /// Size of the record; 0 marks a hole: the record was damaged when the index was built.
    pub(crate) size: u32,
    /// Hash of its tag.
    pub(crate) tag_hash: i32,
}

impl BlockEntry {
    /// Log offset after the record.
    pub(crate) fn end(self) -> u64 {
        self.log_offset + u64::from(self.size)
    }

    pub(crate) fn is_hole(self) -> bool {
        self.size == 0
    }
}

/// Up to 64 consecutive entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// Block number: queue offset divided by 64.
    pub(crate) number: u64,
    /// Place of the first entry in the block, 0 to 63.
    pub(crate) start: u8,
    /// Store timestamp of the first entry, Unix ms.
    pub(crate) first_ms: i64,
    pub(crate) entries: Vec<BlockEntry>,
}

impl Block {
    /// Queue offset of the first entry.
    pub(crate) fn first(&self) -> u64 {
        self.number * BLOCK_ENTRIES + u64::from(self.start)
    }
}

/// Key of a block.
pub(crate) fn key(topic: TopicId, queue_id: u32, number: u64) -> [u8; 16] {
    let queue = u64::from(topic.0) << 32 | u64::from(queue_id);
    (u128::from(queue) << 64 | u128::from(number)).to_be_bytes()
}

fn decode_key(key: &[u8]) -> Option<(TopicId, u32, u64)> {
    let (topic, rest) = take!(u32, key)?;
    let (queue_id, rest) = take!(u32, rest)?;
    let (number, rest) = take!(u64, rest)?;
    rest.is_empty().then_some((TopicId(topic), queue_id, number))
}

/// The keys of all blocks of a topic lie between these.
pub(crate) fn topic_range(topic: TopicId) -> (Vec<u8>, Vec<u8>) {
    let end = match topic.0.checked_add(1) {
        Some(next) => key(TopicId(next), 0, 0).to_vec(),
        None => vec![0xFF; 17],
    };
    (key(topic, 0, 0).to_vec(), end)
}

/// Packs entries: a fixed head, then per entry the gap to the entry before, the size and the tag.
pub(crate) fn encode(
    start: u8,
    first_ms: i64,
    entries: impl ExactSizeIterator<Item = BlockEntry> + Clone,
) -> Vec<u8> {
    let count = u8::try_from(entries.len()).expect("a block has at most 64 entries");
    let last = entries.clone().last().map_or(0, |entry| entry.log_offset);
    let mut bytes = Vec::with_capacity(18 + entries.len() * 10);
    bytes.push(start);
    bytes.push(count);
    bytes.extend_from_slice(&last.to_be_bytes());
    bytes.extend_from_slice(&first_ms.to_be_bytes());
    let mut end = 0;
    for entry in entries {
        put_varint(&mut bytes, entry.log_offset - end);
        put_varint(&mut bytes, u64::from(entry.size));
        put_varint(&mut bytes, zigzag(entry.tag_hash));
        end = entry.end();
    }
    bytes
}

fn decode(number: u64, bytes: &[u8]) -> Option<Block> {
    let (start, rest) = take!(u8, bytes)?;
    let (count, rest) = take!(u8, rest)?;
    let (_last, rest) = take!(u64, rest)?;
    let (first_ms, mut rest) = take!(i64, rest)?;
    let places = u64::from(start) + u64::from(count);
    if count == 0 || places > BLOCK_ENTRIES {
        return None;
    }
    let mut entries = Vec::with_capacity(usize::from(count));
    let mut end = 0_u64;
    for _ in 0..count {
        let log_offset = end.checked_add(take_varint(&mut rest)?)?;
        let size = u32::try_from(take_varint(&mut rest)?).ok()?;
        let tag_hash = unzigzag(take_varint(&mut rest)?)?;
        let entry = BlockEntry { log_offset, size, tag_hash };
        end = log_offset.checked_add(u64::from(size))?;
        entries.push(entry);
    }
    rest.is_empty().then_some(Block { number, start, first_ms, entries })
}

fn zigzag(n: i32) -> u64 {
    let n = i64::from(n);
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

fn unzigzag(n: u64) -> Option<i32> {
    let signed = (n >> 1).cast_signed() ^ -(n & 1).cast_signed();
    i32::try_from(signed).ok()
}

fn put_varint(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        let [.., low] = n.to_be_bytes();
        bytes.push(low | 0x80);
        n >>= 7;
    }
    let [.., low] = n.to_be_bytes();
    bytes.push(low);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u64::from(byte & 0x7F);
        if shift == 63 && part > 1 {
            return None;
        }
        n |= part << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn row(key: &[u8], value: &[u8]) -> Result<Block, ReadError> {
    decode_key(key)
        .and_then(|(_, _, number)| decode(number, value))
        .ok_or_else(|| damaged(Family::ConsumeQueue, key))
}

/// One row: whose it is, and its block. `None` if it cannot be decoded.
pub(crate) fn decode_row(key: &[u8], value: &[u8]) -> Option<(TopicId, u32, Block)> {
    let (topic, queue_id, number) = decode_key(key)?;
    Some((topic, queue_id, decode(number, value)?))
}

/// The stored block with this number.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn get(
    guard: &Guard<'_>,
    (topic, queue_id): (TopicId, u32),
    number: u64,
) -> Result<Option<Block>, ReadError> {
    let key = key(topic, queue_id, number);
    guard.get(Family::ConsumeQueue, &key)?.map(|value| row(&key, &value)).transpose()
}

/// The first stored block of a queue with this number or a larger one.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn at_or_after(
    guard: &Guard<'_>,
    (topic, queue_id): (TopicId, u32),
    number: u64,
) -> Result<Option<Block>, ReadError> {
    Blocks::of(guard, (topic, queue_id)).at_or_after(number)
}

/// The stored blocks of one queue: one look into RocksDB after the other.
pub(crate) struct Blocks<'a> {
    rows: rocksdb::DBRawIterator<'a>,
    at: (TopicId, u32),
}

impl<'a> Blocks<'a> {
    /// Reads nothing yet.
    pub(crate) fn of(guard: &'a Guard<'_>, (topic, queue_id): (TopicId, u32)) -> Self {
        let mut end = key(topic, queue_id, u64::MAX).to_vec();
        end.push(0);
        let rows = guard.range(Family::ConsumeQueue, key(topic, queue_id, 0).to_vec(), end);
        Self { rows, at: (topic, queue_id) }
    }

    /// The last block.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn last(&mut self) -> Result<Option<Block>, ReadError> {
        self.rows.seek_to_last();
        one(&self.rows)
    }

    /// The first block with this number or a larger one.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn at_or_after(&mut self, number: u64) -> Result<Option<Block>, ReadError> {
        self.rows.seek(key(self.at.0, self.at.1, number));
        one(&self.rows)
    }
}

/// The blocks of many queues, cheapest in the order of their keys: making one of these costs more
/// than a look. What is written after it was made it does not see.
pub(crate) struct Ends<'a> {
    rows: rocksdb::DBRawIterator<'a>,
    guard: &'a Guard<'a>,
}

impl<'a> Ends<'a> {
    /// Reads nothing yet.
    pub(crate) fn new(guard: &'a Guard<'a>) -> Self {
        Self { rows: guard.db().raw_iterator_cf(guard.family(Family::ConsumeQueue)), guard }
    }

    /// To look at one queue and no other. Reads nothing yet.
    pub(crate) fn of_queue(guard: &'a Guard<'a>, queue: (TopicId, u32)) -> Self {
        Self { rows: Blocks::of(guard, queue).rows, guard }
    }

    /// The queue offset behind the last stored entry of a queue; if there is none, where the queue
    /// is known to have ended, or 0.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn of(&mut self, queue: (TopicId, u32)) -> Result<u64, ReadError> {
        match self.last_block(queue)? {
            Some(last) => Ok(last.first() + crate::num::to_u64(last.entries.len())),
            None => Ok(meta::queue_end(self.guard, queue)?.unwrap_or_default()),
        }
    }

    /// The last block of a queue.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn last_block(&mut self, queue: (TopicId, u32)) -> Result<Option<Block>, ReadError> {
        self.rows.seek_for_prev(key(queue.0, queue.1, u64::MAX));
        self.found(queue)
    }

    /// The first block of a queue with this number or a larger one.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn at_or_after(
        &mut self,
        queue: (TopicId, u32),
        number: u64,
    ) -> Result<Option<Block>, ReadError> {
        self.rows.seek(key(queue.0, queue.1, number));
        self.found(queue)
    }

    fn found(&self, queue: (TopicId, u32)) -> Result<Option<Block>, ReadError> {
        let Some((key, value)) = self.rows.item() else {
            return self.rows.status().map(|()| None).map_err(lost_error);
        };
        let (topic, queue_id, _) =
            decode_key(key).ok_or_else(|| damaged(Family::ConsumeQueue, key))?;
        if (topic, queue_id) == queue { row(key, value).map(Some) } else { Ok(None) }
    }
}

fn one(rows: &rocksdb::DBRawIterator<'_>) -> Result<Option<Block>, ReadError> {
    match rows.item() {
        Some((key, value)) => row(key, value).map(Some),
        None => rows.status().map(|()| None).map_err(lost_error),
    }
}

/// The blocks that hold entries at or beyond log offset `end`, each as what must remain of it;
/// `None` when nothing does. For an index that is ahead of the log.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn beyond(
    guard: &Guard<'_>,
    end: u64,
    mut each: impl FnMut(&[u8], Option<Vec<u8>>, u64),
) -> Result<(), ReadError> {
    let mut rows = guard.db().raw_iterator_cf(guard.family(Family::ConsumeQueue));
    rows.seek_to_last();
    // From the last block of each queue backwards, until one lies before the end; then on to the
    // queue before. So the cost is that of the queues, not of the blocks.
    while let Some((key, value)) = rows.item() {
        // A record that starts before the end of the log ends before it too.
        if head(value).is_some_and(|(_, last)| last < end) {
            leave_queue(&mut rows)?;
            continue;
        }
        let block = row(key, value)?;
        let kept = block.entries.partition_point(|entry| entry.end() <= end);
        let removed = block.entries.len() - kept;
        if removed == 0 {
            leave_queue(&mut rows)?;
            continue;
        }
        let rest = (kept > 0)
            .then(|| encode(block.start, block.first_ms, block.entries.iter().take(kept).copied()));
        each(key, rest, crate::num::to_u64(removed));
        rows.prev();
    }
    rows.status().map_err(lost_error)
}

/// Moves from a block to the last one of the queue before. Most queues are short, and stepping
/// costs a tenth of searching.
fn leave_queue(rows: &mut rocksdb::DBRawIterator<'_>) -> Result<(), ReadError> {
    const STEPS: usize = 8;
    let Some(key) = rows.key() else { return Ok(()) };
    let (topic, queue_id, _) = decode_key(key).ok_or_else(|| damaged(Family::ConsumeQueue, key))?;
    let first = self::key(topic, queue_id, 0);
    for _ in 0..STEPS {
        rows.prev();
        if rows.key().is_none_or(|key| key < &first[..]) {
            return Ok(());
        }
    }
    rows.seek_for_prev(first);
    if rows.key() == Some(&first[..]) {
        rows.prev();
    }
    Ok(())
}

/// Whole blocks of one queue that hold nothing of the log any more: numbers `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) topic: TopicId,
    pub(crate) queue_id: u32,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Rows among them.
    pub(crate) rows: u64,
}

/// A queue and the offset behind its last message.
pub(crate) type QueueEnd = ((TopicId, u32), u64);

/// One step of looking for blocks whose messages are gone.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) gone: Vec<Gone>,
    /// Queues that have no message left.
    pub(crate) ended: Vec<QueueEnd>,
    /// Where the next step begins; `None` after the last queue.
    pub(crate) next: Option<(TopicId, u32)>,
}

/// The blocks that end before log offset `log_min`, queue by queue from `start` on, until
/// `rows_max` rows are found. The last block of a queue is never among them, whatever it holds:
/// the queue's next offset is known from it. (A compaction filter could not know which one is the
/// last.)
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn below(
    guard: &Guard<'_>,
    log_min: u64,
    start: (TopicId, u32),
    rows_max: u64,
) -> Result<Sweep, ReadError> {
    let mut options = rocksdb::ReadOptions::default();
    // Old blocks are read once, to be deleted: they must not push out what consumers read.
    options.fill_cache(false);
    let mut rows = guard.db().raw_iterator_cf_opt(guard.family(Family::ConsumeQueue), options);
    rows.seek(key(start.0, start.1, 0));
    let mut sweep = Sweep::default();
    let mut found = 0;
    while let Some((at, _)) = rows.item() {
        let (topic, queue_id, from) =
            decode_key(at).ok_or_else(|| damaged(Family::ConsumeQueue, at))?;
        if found >= rows_max {
            sweep.next = Some((topic, queue_id));
            return Ok(sweep);
        }
        let mut gone = Gone { topic, queue_id, from, to: from, rows: 0 };
        let mut end = None;
        while let Some((at, value)) = rows.item() {
            let (of, queue, number) =
                decode_key(at).ok_or_else(|| damaged(Family::ConsumeQueue, at))?;
            if (of, queue) != (topic, queue_id) {
                break;
            }
            // There is a later block, so those before it may go.
            gone.to = number;
            let (places, last) = head(value).ok_or_else(|| damaged(Family::ConsumeQueue, at))?;
            if last >= log_min {
                end = None;
                break;
            }
            end = Some(number * BLOCK_ENTRIES + places);
            gone.rows += 1;
            rows.next();
        }
        if gone.to > gone.from {
            found += gone.rows;
            sweep.gone.push(gone);
        }
        if let Some(end) = end {
            found += 1;
            sweep.ended.push(((topic, queue_id), end));
        }
        if !enter_next_queue(&mut rows, (topic, queue_id)) {
            break;
        }
    }
    rows.status().map_err(lost_error)?;
    Ok(sweep)
}

/// Moves from a block, or the end of its queue, to the first one of the queue behind. Most queues
/// are short, and stepping costs a tenth of searching.
fn enter_next_queue(
    rows: &mut rocksdb::DBRawIterator<'_>,
    (topic, queue_id): (TopicId, u32),
) -> bool {
    const STEPS: usize = 8;
    let last = key(topic, queue_id, u64::MAX);
    for _ in 0..STEPS {
        if rows.key().is_none_or(|key| key > &last[..]) {
            return true;
        }
        rows.next();
    }
    let next = match queue_id.checked_add(1) {
        Some(next) => Some((topic, next)),
        None => topic.0.checked_add(1).map(|next| (TopicId(next), 0)),
    };
    match next {
        Some((topic, queue_id)) => rows.seek(key(topic, queue_id, 0)),
        None => return false,
    }
    true
}

/// How many places of an encoded block are before its end, and the log offset of its last entry.
fn head(block: &[u8]) -> Option<(u64, u64)> {
    let (start, rest) = take!(u8, block)?;
    let (count, rest) = take!(u8, rest)?;
    take!(u64, rest).map(|(last, _)| (u64::from(start) + u64::from(count), last))
}

/// The queue offset of the first stored entry whose record starts at or behind log offset `log_at`;
/// `None` if there is none. Log offsets of a queue never descend, so this halves.
///
/// # Errors
/// [`ReadError::Index`].
pub(crate) fn first_at(
    guard: &Guard<'_>,
    queue: (TopicId, u32),
    log_at: u64,
) -> Result<Option<u64>, ReadError> {
    let mut blocks = Blocks::of(guard, queue);
    let Some(end) = blocks.last()? else { return Ok(None) };
    let first = blocks.at_or_after(0)?.map_or(end.number, |block| block.number);
    let before = |block: &Block| block.entries.last().is_none_or(|last| last.log_offset < log_at);
    let (mut low, mut high, mut found) = (first, end.number + 1, None);
    while low < high {
        let middle = low + (high - low) / 2;
        match blocks.at_or_after(middle)? {
            Some(block) if block.number < high && before(&block) => low = block.number + 1,
            Some(block) if block.number < high => {
                high = middle;
                found = Some(block);
            }
            _ => high = middle,
        }
    }
    Ok(found.map(|block| {
        let gone = block.entries.partition_point(|entry| entry.log_offset < log_at);
        block.first() + crate::num::to_u64(gone)
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn keys_sort_by_topic_queue_and_block() {
        let keys = [
            key(TopicId(1), 2, u64::MAX),
            key(TopicId(1), 3, 0),
            key(TopicId(2), 0, 0),
            key(TopicId(256), 0, 1),
        ];
        assert!(keys.is_sorted());
        assert_eq!(decode_key(&keys[0]), Some((TopicId(1), 2, u64::MAX)));
        let (from, to) = topic_range(TopicId(1));
        assert!(from.as_slice() <= &keys[0][..] && &keys[1][..] < to.as_slice());
        assert!(to.as_slice() <= &keys[2][..]);
    }

    #[test]
    fn typical_block_is_small() {
        let entries = (0..64_u64).map(|i| BlockEntry {
            log_offset: (1 << 40) + i * 4_400,
            size: 1_100,
            tag_hash: 0,
        });
        let entries: Vec<_> = entries.collect();
        let bytes = encode(0, 1_700_000_000_000, entries.iter().copied());
        assert!(bytes.len() < 64 * 6, "{}", bytes.len());
    }

    proptest! {
        #[test]
        fn block_survives(
            start in 0_u8..64,
            first_ms in any::<i64>(),
            parts in proptest::collection::vec((0_u64..1 << 50, any::<u32>(), any::<i32>()), 1..65),
        ) {
            let mut end = 0;
            let mut entries = Vec::new();
            for (gap, size, tag_hash) in parts.into_iter().take(64 - usize::from(start)) {
                let entry = BlockEntry { log_offset: end + gap, size, tag_hash };
                end = entry.end();
                entries.push(entry);
            }
            let bytes = encode(start, first_ms, entries.iter().copied());
            let block = Block { number: 9, start, first_ms, entries };
            prop_assert_eq!(decode(9, &bytes), Some(block));
            for cut in 0..bytes.len() {
                prop_assert!(decode(9, &bytes[..cut]).is_none());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _block = decode(0, &bytes);
        }
    }
}
