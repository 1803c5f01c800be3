//! The newest entries of one queue, in memory: those that are not yet in a stored block, and as
//! many before them as there is room for.
//!
//! Pure data: no locks, no I/O.

use std::collections::VecDeque;

use crate::{
    index::consume_queue::{self, BLOCK_ENTRIES, Block, BlockEntry},
    num::{to_u64, to_usize},
};

/// Most entries that a gap in the queue offsets of a log may stand for. Larger ones mean that the
/// queue offset itself is damaged.
pub(crate) const GAP_MAX: u64 = 1 << 20;

/// Most stored entries of one queue that stay in memory: growing the buffer beyond would take too
/// long for whoever appends.
const KEPT_MAX: usize = 1 << 16;

/// The end of a queue.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// Smallest queue offset of the queue; equals the next one when the queue is empty.
    min: u64,
    /// Where the log began when `min` was found out.
    min_for: u64,
    /// Queue offset of `entries[0]`.
    first: u64,
    /// In RocksDB are all full blocks below this queue offset, a multiple of 64.
    stored: u64,
    /// There are entries that no checkpoint has seen.
    dirty: bool,
    entries: VecDeque<BlockEntry>,
    /// Store timestamp of the first entry of each block that `entries` touches, Unix ms.
    times: VecDeque<i64>,
}

/// What [`Tail::replay`] did with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// The queue has it already.
    Known,
    /// It was added.
    Added,
    /// Its queue offset cannot be right.
    Absurd,
}

/// A block that is ready to be stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) number: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Tail {
    /// The tail of a queue whose first stored offset is `min` and whose last stored block is
    /// `last`.
    pub(crate) fn load(min: u64, last: Block) -> Self {
        let first = last.first();
        let next = first + to_u64(last.entries.len());
        if next.is_multiple_of(BLOCK_ENTRIES) {
            return Self { min, first: next, stored: next, ..Self::default() };
        }
        Self {
            min,
            first,
            stored: last.number * BLOCK_ENTRIES,
            entries: last.entries.into(),
            times: [last.first_ms].into(),
            ..Self::default()
        }
    }

    /// The tail of a queue that has no message and whose next one gets this offset.
    pub(crate) fn begun(offset: u64) -> Self {
        let stored = offset - offset % BLOCK_ENTRIES;
        Self { min: offset, first: offset, stored, ..Self::default() }
    }

    /// Smallest queue offset; the next one if the queue is empty.
    pub(crate) fn min(&self) -> u64 {
        self.min
    }

    /// Lets the smallest offset follow the log, which begins at `log_min` now. `false` if entries
    /// that are not in memory must tell; then [`Tail::set_min`] follows.
    pub(crate) fn follow(&mut self, log_min: u64) -> bool {
        if self.min_for >= log_min {
            return true;
        }
        let gone = self.entries.partition_point(|entry| entry.log_offset < log_min);
        if gone == 0 && self.min < self.first {
            return false;
        }
        self.set_min(self.first + to_u64(gone), log_min);
        true
    }

    /// The smallest offset is at least `min`, now that the log begins at `log_min`.
    pub(crate) fn set_min(&mut self, min: u64, log_min: u64) {
        self.raise_min(min);
        self.min_for = self.min_for.max(log_min);
    }

    /// The smallest offset is at least `min`.
    pub(crate) fn raise_min(&mut self, min: u64) {
        self.min = self.min.max(min.min(self.next()));
    }

    /// The queue offset that the next message gets.
    pub(crate) fn next(&self) -> u64 {
        self.first + to_u64(self.entries.len())
    }

    /// Smallest queue offset that is in memory.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// The queue offset after the last entry whose record ends at or before `confirmed`.
    pub(crate) fn confirmed_next(&self, confirmed: u64) -> u64 {
        match self.entries.back() {
            Some(last) if last.end() > confirmed => {
                let seen = self.entries.partition_point(|entry| entry.end() <= confirmed);
                self.first + to_u64(seen)
            }
            _ => self.next(),
        }
    }

    /// An entry that is in memory.
    pub(crate) fn get(&self, offset: u64) -> Option<BlockEntry> {
        let at = offset.checked_sub(self.first)?;
        self.entries.get(usize::try_from(at).ok()?).copied()
    }

    /// The entries from `offset` on, which must not be before [`Tail::first`].
    pub(crate) fn from(&self, offset: u64) -> impl Iterator<Item = BlockEntry> {
        let skip = to_usize(offset.saturating_sub(self.first)).min(self.entries.len());
        self.entries.range(skip..).copied()
    }

    /// Store timestamp of the first entry of a block, if the block is in memory.
    pub(crate) fn block_time(&self, number: u64) -> Option<i64> {
        let at = number.checked_sub(self.first / BLOCK_ENTRIES)?;
        self.times.get(usize::try_from(at).ok()?).copied()
    }

    /// Adds the next entry and returns its queue offset.
    pub(crate) fn append(&mut self, entry: BlockEntry, store_ms: i64) -> u64 {
        let offset = self.next();
        if self.entries.is_empty() || offset.is_multiple_of(BLOCK_ENTRIES) {
            self.times.push_back(store_ms);
        }
        self.entries.push_back(entry);
        offset
    }

    /// Adds a record of the log at the queue offset it has. Offsets that are missing before it
    /// belong to damaged records and become holes.
    pub(crate) fn replay(&mut self, offset: u64, entry: BlockEntry, store_ms: i64) -> Replayed {
        let next = self.next();
        if offset < next {
            return Replayed::Known;
        }
        if self.entries.is_empty() && self.min == next {
            // The first record of this queue that the log still has.
            *self = Self { min_for: self.min_for, dirty: self.dirty, ..Self::begun(offset) };
        } else if offset - next > GAP_MAX {
            return Replayed::Absurd;
        }
        for _ in self.next()..offset {
            let hole = BlockEntry { log_offset: entry.log_offset, ..BlockEntry::default() };
            self.append(hole, store_ms);
        }
        self.append(entry, store_ms);
        Replayed::Added
    }

    /// Marks the tail as changed; `true` if it was not.
    pub(crate) fn set_dirty(&mut self) -> bool {
        !std::mem::replace(&mut self.dirty, true)
    }

    /// A checkpoint has seen the tail; returns whether it was changed since the last one.
    pub(crate) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Whether the index has all of it.
    pub(crate) fn is_stored(&self) -> bool {
        !self.dirty && self.next() - self.stored < BLOCK_ENTRIES
    }

    /// Whether the entry at the end of the tail has just completed a block.
    pub(crate) fn ends_block(&self) -> bool {
        self.next().is_multiple_of(BLOCK_ENTRIES)
    }

    /// The full blocks that are confirmed and not yet stored.
    pub(crate) fn full_blocks(&self, confirmed: u64) -> Vec<Packed> {
        let limit = self.confirmed_next(confirmed) / BLOCK_ENTRIES;
        (self.stored / BLOCK_ENTRIES..limit).map(|number| self.pack(number, u64::MAX)).collect()
    }

    /// The last block as far as it is confirmed, if it is not full.
    pub(crate) fn partial_block(&self, confirmed: u64) -> Option<Packed> {
        let limit = self.confirmed_next(confirmed);
        let number = limit / BLOCK_ENTRIES;
        let begins = (number * BLOCK_ENTRIES).max(self.first);
        (begins < limit).then(|| self.pack(number, limit))
    }

    fn pack(&self, number: u64, limit: u64) -> Packed {
        let from = (number * BLOCK_ENTRIES).max(self.first);
        let to = ((number + 1) * BLOCK_ENTRIES).min(limit);
        let range = to_usize(from - self.first)..to_usize(to - self.first);
        let start = u8::try_from(from % BLOCK_ENTRIES).expect("a block has 64 places");
        let first_ms = self.block_time(number).unwrap_or_default();
        let entries = self.entries.range(range).copied();
        Packed { number, bytes: consume_queue::encode(start, first_ms, entries) }
    }

    /// All full blocks below `stored` are in RocksDB now. Returns the ends of those that were not
    /// before.
    pub(crate) fn set_stored(&mut self, stored: u64) -> impl Iterator<Item = u64> + use<> {
        let before = self.stored;
        self.stored = before.max(stored);
        let blocks = before / BLOCK_ENTRIES..self.stored / BLOCK_ENTRIES;
        if self.entries.len() > KEPT_MAX {
            self.forget_below(self.next() - to_u64(KEPT_MAX));
        }
        blocks.map(|number| (number + 1) * BLOCK_ENTRIES)
    }

    /// Lets go of whole blocks below queue offset `below`, as far as they are stored.
    pub(crate) fn forget_below(&mut self, below: u64) {
        let below = below.min(self.stored);
        let first = below - below % BLOCK_ENTRIES;
        if first <= self.first {
            return;
        }
        let blocks = first / BLOCK_ENTRIES - self.first / BLOCK_ENTRIES;
        self.times.drain(..to_usize(blocks).min(self.times.len()));
        self.entries.drain(..to_usize(first - self.first));
        self.first = first;
        if self.entries.capacity() > 4 * self.entries.len().max(to_usize(BLOCK_ENTRIES)) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// RocksDB has lost what it had: the blocks in memory are to be stored again.
    pub(crate) fn forget_stored(&mut self) {
        self.stored = self.first - self.first % BLOCK_ENTRIES;
    }

    /// Queue offset below which all full blocks are in RocksDB.
    pub(crate) fn stored(&self) -> u64 {
        self.stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(i: u64) -> BlockEntry {
        BlockEntry { log_offset: i * 100, size: 100, tag_hash: 0 }
    }

    fn filled(count: u64) -> Tail {
        let mut tail = Tail::default();
        for i in 0..count {
            assert_eq!(tail.append(entry(i), 1_000 + i64::try_from(i).unwrap()), i);
        }
        tail
    }

    #[test]
    fn blocks_are_full_at_64_and_only_when_confirmed() {
        assert!(filled(63).full_blocks(u64::MAX).is_empty());
        assert_eq!(filled(64).full_blocks(u64::MAX).len(), 1);
        assert_eq!(filled(65).full_blocks(u64::MAX).len(), 1);
        assert!(filled(65).full_blocks(64 * 100 - 1).is_empty());
        assert_eq!(filled(65).full_blocks(64 * 100).len(), 1);
        assert_eq!(filled(200).full_blocks(u64::MAX).len(), 3);
    }

    #[test]
    fn partial_block_holds_what_full_ones_do_not() {
        assert_eq!(filled(0).partial_block(u64::MAX), None);
        assert_eq!(filled(64).partial_block(u64::MAX), None);
        assert_eq!(filled(63).partial_block(u64::MAX).map(|packed| packed.number), Some(0));
        assert_eq!(filled(65).partial_block(u64::MAX).map(|packed| packed.number), Some(1));
        assert_eq!(filled(65).partial_block(64 * 100), None);
        assert_eq!(filled(65).partial_block(6_399).map(|packed| packed.number), Some(0));
    }

    #[test]
    fn only_confirmed_entries_count() {
        let tail = filled(10);
        assert_eq!(tail.confirmed_next(0), 0);
        assert_eq!(tail.confirmed_next(99), 0);
        assert_eq!(tail.confirmed_next(100), 1);
        assert_eq!(tail.confirmed_next(999), 9);
        assert_eq!(tail.confirmed_next(1_000), 10);
    }

    #[test]
    fn only_stored_blocks_leave_memory() {
        let mut tail = filled(300);
        tail.forget_below(300);
        assert_eq!(tail.first(), 0);
        assert_eq!(tail.set_stored(128).collect::<Vec<_>>(), [64, 128]);
        tail.forget_below(300);
        assert_eq!((tail.first(), tail.next(), tail.stored()), (128, 300, 128));
        assert_eq!(tail.get(127), None);
        assert_eq!(tail.get(128), Some(entry(128)));
        assert_eq!(tail.block_time(1), None);
        assert_eq!(tail.block_time(2), Some(1_128));
        assert_eq!(tail.set_stored(256).collect::<Vec<_>>(), [192, 256]);
        tail.forget_below(200);
        assert_eq!(tail.first(), 192);
        tail.forget_below(300);
        assert_eq!((tail.first(), tail.from(256).count()), (256, 44));
    }

    #[test]
    fn load_continues_a_partial_block() {
        let block = Block { number: 2, start: 3, first_ms: 5, entries: vec![entry(0), entry(1)] };
        let mut tail = Tail::load(131, block);
        assert_eq!((tail.min(), tail.first(), tail.next(), tail.stored()), (131, 131, 133, 128));
        tail.append(entry(2), 9);
        assert_eq!(tail.block_time(2), Some(5));
        assert_eq!(tail.partial_block(u64::MAX).map(|packed| packed.number), Some(2));
    }

    #[test]
    fn load_begins_behind_a_full_block() {
        let entries = (0..64).map(entry).collect();
        let tail = Tail::load(0, Block { number: 0, start: 0, first_ms: 5, entries });
        assert_eq!((tail.first(), tail.next(), tail.stored()), (64, 64, 64));
        assert!(tail.full_blocks(u64::MAX).is_empty());
    }

    #[test]
    fn replay_skips_known_records_and_leaves_holes() {
        let mut tail = filled(3);
        assert_eq!(tail.replay(2, entry(2), 0), Replayed::Known);
        assert_eq!(tail.replay(5, entry(9), 0), Replayed::Added);
        assert_eq!(tail.next(), 6);
        assert!(tail.get(3).is_some_and(BlockEntry::is_hole));
        assert_eq!(tail.replay(6 + GAP_MAX + 1, entry(10), 0), Replayed::Absurd);
        assert_eq!(tail.next(), 6);
    }

    #[test]
    fn smallest_offset_follows_the_log_as_far_as_memory_tells() {
        let mut tail = filled(300);
        assert!(tail.follow(0));
        assert!(tail.follow(10_050));
        assert_eq!(tail.min(), 101);
        assert!(tail.follow(10_000), "the log does not grow backwards");
        assert_eq!(tail.min(), 101);
        assert_eq!(tail.set_stored(256).count(), 4);
        tail.forget_below(200);
        assert!(!tail.follow(15_000), "192 is the first in memory");
        tail.set_min(150, 15_000);
        assert_eq!(tail.min(), 150);
        assert!(tail.follow(20_000));
        assert_eq!(tail.min(), 200);
        assert!(tail.follow(u64::MAX));
        assert_eq!((tail.min(), tail.next()), (300, 300));
        assert_eq!(tail.append(entry(u64::MAX / 200), 1), 300);
    }

    #[test]
    fn replay_begins_an_empty_queue_where_the_log_does() {
        let mut tail = Tail::default();
        assert_eq!(tail.replay(1_000, entry(1), 7), Replayed::Added);
        assert_eq!((tail.min(), tail.first(), tail.next()), (1_000, 1_000, 1_001));
        let packed = tail.partial_block(u64::MAX).unwrap();
        assert_eq!(packed.number, 15);
        assert_eq!(packed.bytes[0], 40, "place of offset 1000 in block 15");
    }
}
