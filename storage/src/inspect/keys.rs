//! The key index against the log: every key of a record has its entry, every entry its record.

use std::collections::VecDeque;

use super::{
    Kind, Problem,
    queues::{Bounds, Damages, Report, row_damaged},
};
use crate::{
    ReadError,
    index::{
        Family, Guard, for_each,
        key_index::{self, BUCKETS, SliceRow},
        read_error,
    },
};

/// One slice whose part of the log is being read.
#[derive(Debug)]
struct Active {
    number: u64,
    row: SliceRow,
    /// Entries of each bucket, and how many bytes of them are done.
    buckets: Vec<(Vec<u8>, usize)>,
    missing: Misses,
    stray: Misses,
}

/// Entries that are wrong in the same way.
#[derive(Clone, Copy, Debug, Default)]
struct Misses {
    count: u64,
    from: u64,
    to: u64,
}

impl Misses {
    fn add(&mut self, log_offset: u64) {
        if self.count == 0 {
            self.from = log_offset;
        }
        self.from = self.from.min(log_offset);
        self.to = self.to.max(log_offset);
        self.count += 1;
    }

    fn report(&mut self, kind: Kind, detail: String, report: Report<'_>) {
        if self.count > 0 {
            let problem = Problem::new(kind, detail).at(self.from, self.to + 1);
            report(problem.count(self.count));
        }
        *self = Self::default();
    }
}

/// The check of all slices.
#[derive(Debug, Default)]
pub(super) struct Keys {
    waiting: VecDeque<(u64, SliceRow)>,
    active: VecDeque<Active>,
    uncovered: Misses,
    /// Slices and entries that were looked at.
    pub(super) slices: u64,
    pub(super) entries: u64,
    /// Slices that reach behind the end of the log.
    pub(super) ahead: u64,
}

impl Keys {
    /// Reads the rows of all slices.
    pub(super) fn load(
        guard: &Guard<'_>,
        bounds: Bounds,
        report: Report<'_>,
    ) -> Result<Self, ReadError> {
        let mut keys = Self::default();
        let end = key_index::bucket_key(0, 0);
        let rows = guard.range(Family::KeyIndex, key_index::slice_key(0), end);
        for_each(rows, |key, value| {
            match key_index::decode_slice(key, value) {
                Some((number, row)) if row.end > bounds.min => {
                    if row.end > bounds.log_end {
                        let detail = format!("slice {number} of the key index ends at {}", row.end);
                        report(Problem::new(Kind::BeyondLogEnd, detail).count(1));
                    }
                    keys.ahead += u64::from(row.end > bounds.end);
                    keys.waiting.push_back((number, row));
                }
                Some(_) => {}
                None => report(row_damaged(Family::KeyIndex, key)),
            }
            Ok(())
        })?;
        keys.slices = crate::num::to_u64(keys.waiting.len());
        // Slices follow each other in the log, and after a crash may overlap a little.
        keys.waiting.make_contiguous().sort_by_key(|(_, row)| row.first);
        Ok(keys)
    }

    /// Checks the keys of one record. Records come in the order of the log. Those of topics that
    /// were deleted need no entries and may have them.
    pub(super) fn record(
        &mut self,
        guard: &Guard<'_>,
        (log_offset, hashes, needed): (u64, &[u32], bool),
        (bounds, damages): (Bounds, &Damages),
        report: Report<'_>,
    ) -> Result<(), ReadError> {
        while let Some(done) = self.active.pop_front_if(|slice| slice.row.end <= log_offset) {
            finish(done, (bounds, damages), &mut *report);
        }
        while let Some((number, row)) =
            self.waiting.pop_front_if(|(_, row)| row.first <= log_offset)
        {
            let slice = self.activate(guard, (number, row), &mut *report)?;
            self.active.push_back(slice);
        }
        for &hash in hashes {
            let mut found = false;
            for slice in &mut self.active {
                found |= slice.take(hash, log_offset, (bounds, damages));
            }
            if !found && needed && log_offset < bounds.checkpoint {
                match self.active.back_mut() {
                    Some(slice) => slice.missing.add(log_offset),
                    None => self.uncovered.add(log_offset),
                }
            }
        }
        Ok(())
    }

    fn activate(
        &mut self,
        guard: &Guard<'_>,
        (number, row): (u64, SliceRow),
        report: Report<'_>,
    ) -> Result<Active, ReadError> {
        let mut buckets = vec![(Vec::new(), 0); usize::from(BUCKETS)];
        let from = key_index::bucket_key(number, 0);
        let to = key_index::bucket_key(number, BUCKETS);
        let mut rows = guard.range(Family::KeyIndex, from, to);
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            let place = key_index::bucket_of_key(key)
                .filter(|_| value.len().is_multiple_of(key_index::ENTRY_BYTES))
                .and_then(|(_, bucket)| buckets.get_mut(usize::from(bucket)));
            match place {
                Some(place) => place.0 = value.to_vec(),
                None => report(row_damaged(Family::KeyIndex, key)),
            }
            self.entries += crate::num::to_u64(value.len() / key_index::ENTRY_BYTES);
            rows.next();
        }
        rows.status().map_err(read_error)?;
        let (missing, stray) = (Misses::default(), Misses::default());
        Ok(Active { number, row, buckets, missing, stray })
    }

    /// The log is through.
    pub(super) fn finish(
        &mut self,
        guard: &Guard<'_>,
        (bounds, damages): (Bounds, &Damages),
        report: Report<'_>,
    ) -> Result<(), ReadError> {
        while let Some((number, row)) = self.waiting.pop_front() {
            let slice = self.activate(guard, (number, row), &mut *report)?;
            self.active.push_back(slice);
        }
        while let Some(slice) = self.active.pop_front() {
            finish(slice, (bounds, damages), &mut *report);
        }
        let detail = "no slice of the key index covers these messages".to_owned();
        self.uncovered.report(Kind::KeyMissing, detail, report);
        Ok(())
    }
}

impl Active {
    /// Takes the entry of a record; entries before it belong to no record.
    fn take(&mut self, hash: u32, log_offset: u64, (bounds, damages): (Bounds, &Damages)) -> bool {
        let at = usize::from(key_index::bucket_of(hash));
        let Some((bytes, done)) = self.buckets.get_mut(at) else { return false };
        let rest = bytes.get(*done..).unwrap_or_default();
        for (h, at) in key_index::entries(rest) {
            if at > log_offset {
                return false;
            }
            *done += key_index::ENTRY_BYTES;
            if (h, at) == (hash, log_offset) {
                return true;
            }
            // What was before the log's first record is not worth a word.
            if !damages.holds(at) && at >= bounds.min {
                self.stray.add(at);
            }
        }
        false
    }
}

fn finish(mut slice: Active, (bounds, damages): (Bounds, &Damages), report: Report<'_>) {
    for (bytes, done) in &slice.buckets {
        for (_, at) in key_index::entries(bytes.get(*done..).unwrap_or_default()) {
            if (bounds.min..bounds.end).contains(&at) && !damages.holds(at) {
                slice.stray.add(at);
            }
        }
    }
    let number = slice.number;
    let detail = format!("slice {number} of the key index lacks keys of these messages");
    slice.missing.report(Kind::KeyMissing, detail, &mut *report);
    let detail = format!("slice {number} of the key index has keys that no message has");
    slice.stray.report(Kind::KeyStray, detail, report);
}
