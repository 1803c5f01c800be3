//! The newest part of the key index, in memory: the slice that is being filled, and full ones that
//! are not stored yet.

use std::{collections::VecDeque, sync::Arc};

use rocksdb::WriteBatch;

use crate::index::{
    Family, Guard,
    key_index::{self, BUCKETS, SliceRow},
};

/// One slice of the log.
#[derive(Debug)]
pub(crate) struct Slice {
    pub(crate) number: u64,
    pub(crate) row: SliceRow,
    buckets: Vec<Vec<u8>>,
    /// Buckets that have entries which no checkpoint has written, one bit each.
    dirty: [u64; DIRTY_WORDS],
}

/// More slices than a rebuild makes.
const REBUILT_SLICES_MAX: u64 = 1 << 32;

const DIRTY_WORDS: usize = 16;
const _: () = assert!(DIRTY_WORDS * 64 == 1024 && BUCKETS == 1024);

/// Slices that are not in RocksDB, or not completely.
#[derive(Debug)]
pub(crate) struct KeyTail {
    slice_messages: u32,
    current: Slice,
    full: VecDeque<Arc<Slice>>,
    /// Memory of a slice that was stored.
    spare: Option<Vec<Vec<u8>>>,
    /// Stored slices cover the log up to here.
    stored_end: u64,
    /// A checkpoint is copying the current slice, so it stays the current one.
    frozen: bool,
}

impl Slice {
    fn new(number: u64, buckets: Vec<Vec<u8>>) -> Self {
        Self { number, row: SliceRow::default(), buckets, dirty: [0; DIRTY_WORDS] }
    }

    /// Nothing of it is stored, and rebuilt slices come before it.
    fn begin_again(&mut self) {
        self.number += REBUILT_SLICES_MAX;
        for at in 0..BUCKETS {
            let filled = !self.bucket(at).is_empty();
            self.set_dirty(at, filled);
        }
    }

    fn bucket(&self, bucket: u16) -> &[u8] {
        self.buckets.get(usize::from(bucket)).map_or(&[], Vec::as_slice)
    }

    /// The buckets that no checkpoint has written as they are.
    fn dirty_buckets(&self) -> impl Iterator<Item = (u16, &[u8])> {
        (0..BUCKETS).filter(|&at| self.is_dirty(at)).map(|at| (at, self.bucket(at)))
    }

    /// Adds its row, and the buckets that no checkpoint has written, to `batch`.
    pub(crate) fn put(&self, guard: &Guard<'_>, batch: &mut WriteBatch) {
        let family = guard.family(Family::KeyIndex);
        for (bucket, entries) in self.dirty_buckets() {
            batch.put_cf(family, key_index::bucket_key(self.number, bucket), entries);
        }
        batch.put_cf(family, key_index::slice_key(self.number), self.row.encode());
    }

    fn is_dirty(&self, bucket: u16) -> bool {
        self.dirty
            .get(usize::from(bucket / 64))
            .is_some_and(|word| word & (1 << (bucket % 64)) != 0)
    }

    fn set_dirty(&mut self, bucket: u16, dirty: bool) {
        if let Some(word) = self.dirty.get_mut(usize::from(bucket / 64)) {
            let bit = 1 << (bucket % 64);
            *word = if dirty { *word | bit } else { *word & !bit };
        }
    }

    fn find(&self, hash: u32, found: &mut Vec<u64>) {
        let entries = key_index::entries(self.bucket(key_index::bucket_of(hash)));
        found.extend(entries.filter(|&(h, _)| h == hash).map(|(_, log_offset)| log_offset));
    }
}

impl KeyTail {
    /// Continues behind the slices that are stored, which cover the log up to `stored_end`; the
    /// next one has this number.
    pub(crate) fn new(slice_messages: u32, next_slice: u64, stored_end: u64) -> Self {
        Self {
            slice_messages,
            current: Slice::new(next_slice, Vec::new()),
            full: VecDeque::new(),
            spare: None,
            stored_end,
            frozen: false,
        }
    }

    /// Adds a record. Records arrive in the order of the log; those that a stored slice holds are
    /// skipped.
    pub(crate) fn add(&mut self, hashes: &[u32], log_offset: u64, size: u32, store_ms: i64) {
        if log_offset < self.stored_end {
            return;
        }
        let row = &mut self.current.row;
        if row.messages == 0 {
            row.first = log_offset;
            row.first_ms = store_ms;
        }
        row.messages += 1;
        row.end = log_offset + u64::from(size);
        row.last_ms = store_ms;
        if self.current.buckets.is_empty() && !hashes.is_empty() {
            let empty = || vec![Vec::new(); usize::from(BUCKETS)];
            self.current.buckets = self.spare.take().unwrap_or_else(empty);
        }
        for &hash in hashes {
            let at = key_index::bucket_of(hash);
            self.current.set_dirty(at, true);
            if let Some(bucket) = self.current.buckets.get_mut(usize::from(at)) {
                key_index::push(bucket, hash, log_offset);
            }
        }
        self.begin_next_if_full();
    }

    fn begin_next_if_full(&mut self) {
        if self.current.row.messages >= self.slice_messages && !self.frozen {
            let next = Slice::new(self.current.number + 1, Vec::new());
            self.full.push_back(Arc::new(std::mem::replace(&mut self.current, next)));
        }
    }

    /// The number that the next slice gets. The slices in memory have smaller ones than any that is
    /// made after [`KeyTail::keep_unstored`].
    pub(crate) fn next_number(&self) -> u64 {
        self.full.front().map_or(self.current.number, |first| first.number)
    }

    /// Nothing is stored any more, so everything in memory must be written again, behind what is
    /// rebuilt. Returns the log offset of the first record in memory.
    pub(crate) fn keep_unstored(&mut self) -> Option<u64> {
        let mut first = None;
        for slice in &mut self.full {
            // It is shared only while the index writer writes it, and that is who asks.
            let slice = Arc::get_mut(slice).expect("nobody writes this slice now");
            first.get_or_insert(slice.row.first);
            slice.begin_again();
        }
        if self.current.row.messages > 0 {
            first.get_or_insert(self.current.row.first);
        }
        self.current.begin_again();
        first
    }

    /// Ends the slice that is being filled and returns it, unless it is empty.
    pub(crate) fn take_rest(&mut self) -> Option<Slice> {
        let next = Slice::new(self.current.number + 1, Vec::new());
        let rest = std::mem::replace(&mut self.current, next);
        (rest.row.messages > 0).then_some(rest)
    }

    /// Number of full slices that are not stored.
    pub(crate) fn full_len(&self) -> usize {
        self.full.len()
    }

    /// The full slices whose records are all before log offset `confirmed`, oldest first.
    pub(crate) fn full_before(&self, confirmed: u64) -> Vec<Arc<Slice>> {
        self.full.iter().take_while(|slice| slice.row.end <= confirmed).map(Arc::clone).collect()
    }

    /// Forgets full slices up to `number`; they are stored.
    pub(crate) fn set_stored(&mut self, number: u64) {
        while let Some(slice) = self.full.pop_front_if(|slice| slice.number <= number) {
            if let (None, Ok(slice)) = (&self.spare, Arc::try_unwrap(slice)) {
                let mut buckets = slice.buckets;
                buckets.iter_mut().for_each(Vec::clear);
                self.spare = (!buckets.is_empty()).then_some(buckets);
            }
        }
    }

    /// Forgets full slices whose records are all before log offset `end`; they are stored.
    pub(crate) fn forget_below(&mut self, end: u64) {
        while self.full.pop_front_if(|slice| slice.row.end <= end).is_some() {}
    }

    /// Log offset of the first record of the first full slice that ends after `confirmed`.
    pub(crate) fn first_full_after(&self, confirmed: u64) -> Option<u64> {
        self.full.iter().find(|slice| slice.row.end > confirmed).map(|slice| slice.row.first)
    }

    /// Begins to copy the slice that is being filled: returns its number and its row as far as log
    /// offset `end`, or `None` if there is nothing before. Until [`KeyTail::thaw`] it stays the
    /// current one.
    pub(crate) fn freeze(&mut self, end: u64) -> Option<(u64, SliceRow)> {
        let row = self.current.row;
        self.frozen = row.messages > 0 && row.first < end;
        self.frozen.then(|| (self.current.number, SliceRow { end: row.end.min(end), ..row }))
    }

    /// Takes the changed ones among some buckets of the frozen slice, each as far as log offset
    /// `end`.
    pub(crate) fn take_dirty(
        &mut self,
        buckets: std::ops::Range<u16>,
        end: u64,
    ) -> Vec<(u16, Vec<u8>)> {
        let mut taken = Vec::new();
        for at in buckets {
            if !self.current.is_dirty(at) {
                continue;
            }
            let whole = self.current.bucket(at);
            let part = key_index::before(whole, end);
            let complete = part.len() == whole.len();
            if !part.is_empty() {
                taken.push((at, part.to_vec()));
            }
            self.current.set_dirty(at, !complete);
        }
        taken
    }

    /// Ends what [`KeyTail::freeze`] has begun.
    pub(crate) fn thaw(&mut self) {
        self.frozen = false;
        self.begin_next_if_full();
    }

    /// Whether any slice in memory may hold messages stored in this time, and the log offsets of
    /// those with this hash.
    pub(crate) fn find(&self, hash: u32, (begin_ms, end_ms): (i64, i64), found: &mut Vec<u64>) {
        let slices = self.full.iter().map(Arc::as_ref).chain([&self.current]);
        for slice in slices.filter(|slice| slice.row.overlaps(begin_ms, end_ms)) {
            slice.find(hash, found);
        }
    }
}

/// Number of buckets that a checkpoint copies under one lock.
pub(crate) fn bucket_ranges() -> impl Iterator<Item = std::ops::Range<u16>> {
    (0..BUCKETS).step_by(64).map(|from| from..from + 64)
}

impl SliceRow {
    /// Whether the slice may hold messages stored between these times, inclusive.
    pub(crate) fn overlaps(&self, begin_ms: i64, end_ms: i64) -> bool {
        self.messages > 0 && self.first_ms <= end_ms && self.last_ms >= begin_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_slice_waits_until_it_is_confirmed_and_stored() {
        let mut keys = KeyTail::new(2, 5, 0);
        keys.add(&[1, 2], 0, 10, 100);
        keys.add(&[1], 10, 10, 200);
        keys.add(&[1], 20, 10, 300);
        assert_eq!(keys.full_len(), 1);
        assert!(keys.full_before(19).is_empty());
        let full = keys.full_before(20);
        assert_eq!((full[0].number, full[0].row.end, full[0].row.last_ms), (5, 20, 200));
        assert_eq!(full[0].dirty_buckets().count(), 2);
        let mut found = Vec::new();
        keys.find(1, (0, 1_000), &mut found);
        assert_eq!(found, [0, 10, 20]);
        found.clear();
        keys.find(1, (250, 1_000), &mut found);
        assert_eq!(found, [20]);
        drop(full);
        keys.set_stored(5);
        assert_eq!(keys.full_len(), 0);
        assert!(keys.spare.is_some());
    }

    #[test]
    fn checkpoint_takes_each_change_once_and_nothing_beyond_its_end() {
        let mut keys = KeyTail::new(3, 0, 0);
        assert_eq!(keys.freeze(1_000), None);
        keys.add(&[7], 0, 10, 100);
        keys.add(&[7, 8], 10, 10, 200);
        let (number, row) = keys.freeze(10).unwrap();
        assert_eq!((number, row.first, row.end), (0, 0, 10));
        // Full, but it must not change under the checkpoint.
        keys.add(&[7], 20, 10, 300);
        assert_eq!(keys.full_len(), 0);
        let taken = keys.take_dirty(0..BUCKETS, 10);
        let lens: Vec<_> = taken.iter().map(|(at, bucket)| (*at, bucket.len())).collect();
        assert_eq!(lens, [(7, 12)]);
        let taken = keys.take_dirty(0..BUCKETS, 30);
        assert_eq!(taken.iter().map(|(_, bucket)| bucket.len()).collect::<Vec<_>>(), [36, 12]);
        assert!(keys.take_dirty(0..BUCKETS, 30).is_empty());
        keys.thaw();
        assert_eq!(keys.full_len(), 1);
        assert_eq!(keys.first_full_after(29), Some(0));
        assert_eq!(keys.first_full_after(30), None);
    }

    #[test]
    fn what_a_stored_slice_holds_is_not_added_again() {
        let mut keys = KeyTail::new(100, 1, 20);
        keys.add(&[7], 10, 10, 100);
        assert_eq!(keys.freeze(1_000), None);
        keys.add(&[7], 20, 10, 100);
        assert_eq!(keys.freeze(1_000).unwrap().1.first, 20);
    }

    #[test]
    fn bucket_ranges_cover_every_bucket_once() {
        assert_eq!(bucket_ranges().flatten().collect::<Vec<_>>(), (0..BUCKETS).collect::<Vec<_>>());
    }
}
