//! Consume queues against the log: every record has its entry, every entry its record.

use std::{collections::HashMap, io};

use protocol::record::RecordView;

use super::{
    Kind, Problem, QueueRange,
    files::{Files, Lookup},
    log::{Cause, Damage},
    run::Runs,
};
use crate::{
    ReadError, TopicId,
    commit_log::scan::Step,
    dispatch::queue_offset,
    index::{
        Family, Guard,
        consume_queue::{self, BLOCK_ENTRIES, Block, BlockEntry},
        read_error,
    },
    num::{to_u64, to_usize},
};

/// Most decoded blocks in memory.
const BLOCKS_MAX: usize = 1 << 16;

/// A topic, as far as checking needs it.
#[derive(Clone, Debug)]
pub(super) struct TopicRef {
    pub(super) id: TopicId,
    pub(super) name: String,
    pub(super) queues: u32,
    pub(super) since: u64,
}

/// What is known about damage: ranges in order, and how many entries of consume queues point
/// into each.
#[derive(Debug, Default)]
pub(super) struct Damages {
    pub(super) ranges: Vec<(Damage, u64)>,
}

impl Damages {
    pub(super) fn add(&mut self, damage: Damage) {
        self.ranges.push((damage, 0));
    }

    /// The range that holds a log offset.
    fn at(&mut self, offset: u64) -> Option<&mut (Damage, u64)> {
        let after = self.ranges.partition_point(|(damage, _)| damage.from <= offset);
        let range = after.checked_sub(1).and_then(|at| self.ranges.get_mut(at))?;
        (offset < range.0.to).then_some(range)
    }

    pub(super) fn holds(&self, offset: u64) -> bool {
        let after = self.ranges.partition_point(|(damage, _)| damage.from <= offset);
        let range = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|(damage, _)| offset < damage.to)
    }

    /// Whether messages may have been lost between two log offsets.
    fn between(&self, from: u64, to: u64) -> bool {
        let after = self.ranges.partition_point(|(damage, _)| damage.to <= from);
        let ranges = self.ranges.iter().skip(after);
        ranges
            .take_while(|(damage, _)| damage.from < to)
            .any(|(damage, _)| damage.cause != Cause::Filler)
    }
}

/// What is known about one queue.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    /// The queue offset behind its last record in the log.
    next: u64,
    /// Log offset behind its last record; 0 before the first.
    end: u64,
    /// Entries that are as their records are.
    matched: u64,
    /// Entries that are there and differ from their records.
    wrong: u64,
    /// The queue offset behind its last entry in the index.
    index_next: u64,
    block: Option<Box<Block>>,
    run: Runs,
}

impl QueueState {
    /// The offset behind the last message that there is or was.
    pub(super) fn max(&self) -> u64 {
        self.next.max(self.index_next)
    }

    /// The queue ended here when its last message was deleted.
    pub(super) fn ended(&mut self, end: u64) {
        self.index_next = self.index_next.max(end);
    }
}

/// Where in the log the parts that are known end.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds {
    /// First byte of the log that is there.
    pub(super) min: u64,
    /// First byte of the log that should be there.
    pub(super) log_min: u64,
    pub(super) end: u64,
    /// The index holds everything below.
    pub(super) checkpoint: u64,
    /// No row refers to the log at or behind this.
    pub(super) log_end: u64,
}

/// The check of all queues.
#[derive(Debug, Default)]
pub(super) struct Queues {
    states: HashMap<(TopicId, u32), QueueState>,
    blocks: usize,
    /// Records that the index does not hold, all behind the checkpoint.
    pub(super) window: u64,
    /// Rows and entries of RocksDB, and how many of the entries point behind the log.
    pub(super) rows: u64,
    pub(super) entries: u64,
    pub(super) ahead: u64,
    /// Entries that point before the log although nothing was deleted there.
    pub(super) before: u64,
    /// Rows of queues that do not exist.
    pub(super) orphans: u64,
}

/// Where findings go.
pub(super) type Report<'a> = &'a mut dyn FnMut(Problem);

/// What the check of one record needs besides the queue.
pub(super) struct Here<'a> {
    /// RocksDB; nothing when it cannot be read.
    pub(super) guard: Option<&'a Guard<'a>>,
    pub(super) bounds: Bounds,
    pub(super) damages: &'a Damages,
}

impl Queues {
    /// Number of queues that have messages or entries.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// The index says that a queue ended here when its last message was deleted.
    pub(super) fn ended(&mut self, queue: (TopicId, u32), end: u64) {
        self.states.entry(queue).or_default().ended(end);
    }

    pub(super) fn get(&self, topic: TopicId, queue_id: u32) -> Option<&QueueState> {
        self.states.get(&(topic, queue_id))
    }

    /// Checks a record of a topic that exists. Records come in the order of the log. `false` when
    /// it belongs to no queue.
    pub(super) fn record(
        &mut self,
        (record, tag_hash): (&RecordView<'_>, i32),
        topic: &TopicRef,
        here: &Here<'_>,
        report: Report<'_>,
    ) -> Result<bool, ReadError> {
        let log_offset = u64::try_from(record.log_offset).unwrap_or_default();
        let entry = BlockEntry { log_offset, size: record.total_size, tag_hash };
        let queue_id = u32::try_from(record.queue_id).ok().filter(|&id| id < topic.queues);
        let (Some(queue_id), Some(offset)) = (queue_id, queue_offset(record.queue_offset)) else {
            let detail = format!(
                "a message of topic {} in queue {} at offset {}; the topic has {} queues",
                topic.name, record.queue_id, record.queue_offset, topic.queues
            );
            report(Problem::new(Kind::QueueUnknown, detail).at(log_offset, entry.end()).count(1));
            return Ok(false);
        };
        if self.blocks > BLOCKS_MAX {
            self.states.values_mut().for_each(|state| state.block = None);
            self.blocks = 0;
        }
        let state = self.states.entry((topic.id, queue_id)).or_default();
        let place = (topic, queue_id, offset);
        check_order(state, place, entry, (here, &mut *report));
        state.next = state.next.max(offset + 1);
        state.end = entry.end();
        let Some(guard) = here.guard else { return Ok(true) };
        let number = offset / BLOCK_ENTRIES;
        if state.block.as_ref().is_none_or(|block| block.number != number) {
            // A row that cannot be decoded is reported by the pass over all rows.
            let row =
                guard.get(Family::ConsumeQueue, &consume_queue::key(topic.id, queue_id, number))?;
            let key = consume_queue::key(topic.id, queue_id, number);
            let block = row.and_then(|row| consume_queue::decode_row(&key, &row));
            self.blocks += usize::from(state.block.is_none());
            state.block = block.map(|(_, _, block)| Box::new(block));
        }
        let found = state.block.as_ref().and_then(|block| entry_of(block, offset));
        match found {
            Some(found) if found == entry => {
                state.matched += 1;
                state.run.end((topic, queue_id), report);
            }
            None if log_offset >= here.bounds.checkpoint => {
                self.window += 1;
                state.run.end((topic, queue_id), report);
            }
            found => {
                state.wrong += u64::from(found.is_some_and(|found| !found.is_hole()));
                state.run.mismatch(place, (entry, found), report);
            }
        }
        Ok(true)
    }

    /// Reports what is still open when the log is through.
    pub(super) fn finish_log(&mut self, topics: &HashMap<TopicId, TopicRef>, report: Report<'_>) {
        let mut open: Vec<_> =
            self.states.iter_mut().filter(|(_, state)| state.run.is_open()).collect();
        open.sort_unstable_by_key(|(key, _)| **key);
        for ((id, queue_id), state) in open {
            if let Some(topic) = topics.get(id) {
                state.run.end((topic, *queue_id), report);
            }
        }
        self.states.values_mut().for_each(|state| state.block = None);
    }

    /// Looks at every row of RocksDB. Where a queue has more entries than were matched, each of
    /// them is looked up in the log.
    pub(super) fn rows(
        &mut self,
        guard: &Guard<'_>,
        (files, bounds, damages): (&Files, Bounds, &mut Damages),
        topics: &HashMap<TopicId, TopicRef>,
        report: Report<'_>,
    ) -> Result<(), super::Error> {
        let mut options = rocksdb::ReadOptions::default();
        options.fill_cache(false);
        let mut rows = guard.db().raw_iterator_cf_opt(guard.family(Family::ConsumeQueue), options);
        rows.seek_to_first();
        let mut lookup = Lookup::new(files);
        let mut current: Option<(TopicId, u32, u64)> = None;
        while let Some((key, value)) = rows.item() {
            self.rows += 1;
            match consume_queue::decode_row(key, value) {
                Some((topic, queue_id, block)) => {
                    let stored = self.count(&block, (topic, queue_id), bounds, &mut *report);
                    match &mut current {
                        Some((of, queue, sum)) if (*of, *queue) == (topic, queue_id) => {
                            *sum += stored;
                        }
                        other => {
                            if let Some(done) = other.replace((topic, queue_id, stored)) {
                                let context = (guard, bounds, &mut *damages);
                                self.compare(done, context, topics, (&mut lookup, &mut *report))?;
                            }
                        }
                    }
                }
                None => report(row_damaged(Family::ConsumeQueue, key)),
            }
            rows.next();
        }
        rows.status().map_err(read_error)?;
        if let Some(done) = current {
            let context = (guard, bounds, damages);
            self.compare(done, context, topics, (&mut lookup, report))?;
        }
        Ok(())
    }

    /// Counts the entries of a block that point into the log.
    fn count(
        &mut self,
        block: &Block,
        queue: (TopicId, u32),
        bounds: Bounds,
        report: Report<'_>,
    ) -> u64 {
        let state = self.states.entry(queue).or_default();
        let (mut stored, mut ahead, mut beyond) = (0, 0, 0);
        let mut known = block.first();
        for (place, entry) in block.entries.iter().enumerate() {
            beyond += u64::from(entry.end() > bounds.log_end);
            if entry.end() > bounds.end {
                ahead += 1;
                continue;
            }
            known = block.first() + to_u64(place) + 1;
            if !entry.is_hole() {
                stored += u64::from(entry.log_offset >= bounds.min);
                let there = bounds.log_min..bounds.min;
                self.before += u64::from(there.contains(&entry.log_offset));
            }
        }
        state.index_next = state.index_next.max(known);
        self.entries += to_u64(block.entries.len());
        self.ahead += ahead;
        if beyond > 0 {
            let detail = format!(
                "{beyond} entries of topic id {} queue {} point behind the index's own end {}",
                queue.0, queue.1, bounds.log_end
            );
            report(Problem::new(Kind::BeyondLogEnd, detail).count(beyond));
        }
        stored
    }

    /// All rows of a queue are counted.
    fn compare(
        &mut self,
        (id, queue_id, stored): (TopicId, u32, u64),
        (guard, bounds, damages): (&Guard<'_>, Bounds, &mut Damages),
        topics: &HashMap<TopicId, TopicRef>,
        (lookup, report): (&mut Lookup<'_>, Report<'_>),
    ) -> Result<(), super::Error> {
        let Some(topic) = topics.get(&id).filter(|topic| queue_id < topic.queues) else {
            self.orphans += 1;
            return Ok(());
        };
        let state = self.states.entry((id, queue_id)).or_default();
        if stored == state.matched + state.wrong {
            return Ok(());
        }
        let mut number = 0;
        let mut blocks = consume_queue::Blocks::of(guard, (id, queue_id));
        while let Some(block) = blocks.at_or_after(number)? {
            for (offset, entry) in (block.first()..).zip(&block.entries) {
                let inside = entry.log_offset >= bounds.min && entry.end() <= bounds.end;
                if entry.is_hole() || !inside {
                    continue;
                }
                if let Some((_, rows)) = damages.at(entry.log_offset) {
                    *rows += 1;
                } else if let Some(why) = stray(lookup, (topic, queue_id, offset), *entry)? {
                    let place = (topic, queue_id, offset);
                    state.run.add(place, (Kind::EntryStray, *entry, why), &mut *report);
                }
            }
            number = block.number + 1;
        }
        state.run.end((topic, queue_id), report);
        Ok(())
    }
}

fn entry_of(block: &Block, offset: u64) -> Option<BlockEntry> {
    let at = offset.checked_sub(block.first())?;
    block.entries.get(to_usize(at)).copied()
}

/// Whether a record follows the one before in its queue.
fn check_order(
    state: &QueueState,
    (topic, queue_id, offset): (&TopicRef, u32, u64),
    entry: BlockEntry,
    (here, report): (&Here<'_>, Report<'_>),
) {
    let range = |from, to| QueueRange { topic: topic.name.clone(), queue_id, from, to };
    if state.end > 0 && offset < state.next {
        let detail = format!("the queue had reached offset {} before", state.next);
        let problem = Problem::new(Kind::OffsetRepeated, detail).of(range(offset, offset + 1));
        report(problem.at(entry.log_offset, entry.end()).count(1));
    } else if offset > state.next {
        // Retention removes the first messages of a queue.
        let first = state.end == 0 && here.bounds.min > topic.since;
        let before = if state.end == 0 { topic.since.max(here.bounds.min) } else { state.end };
        if !first && !here.damages.between(before, entry.log_offset) {
            let detail = "no message has these offsets";
            let problem = Problem::new(Kind::OffsetGap, detail).of(range(state.next, offset));
            report(problem.at(before, entry.log_offset).count(offset - state.next));
        }
    }
}

/// Why an entry is wrong, if it is.
fn stray(
    lookup: &mut Lookup<'_>,
    (topic, queue_id, offset): (&TopicRef, u32, u64),
    entry: BlockEntry,
) -> io::Result<Option<String>> {
    let Step::Record(record) = lookup.at(entry.log_offset)? else {
        return Ok(Some("no record begins where the index says".to_owned()));
    };
    let same = record.topic == topic.name
        && u32::try_from(record.queue_id) == Ok(queue_id)
        && queue_offset(record.queue_offset) == Some(offset);
    Ok((!same).then(|| {
        format!(
            "the index points to the message of topic {} queue {} offset {}",
            record.topic, record.queue_id, record.queue_offset
        )
    }))
}

/// A row that cannot be decoded.
pub(super) fn row_damaged(family: Family, key: &[u8]) -> Problem {
    let detail = format!("family {}, key {}", family.name(), key.escape_ascii());
    Problem::new(Kind::RowDamaged, detail).count(1)
}
