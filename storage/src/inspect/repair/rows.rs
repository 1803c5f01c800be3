//! The rows of a new RocksDB: what is kept of the old one, and what the log says.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::ControlFlow,
    path::Path,
};

use prost::Message;
use protocol::record::RecordView;
use rocksdb::WriteBatch;

use super::{
    super::{
        Error,
        files::Files,
        log::{self, Event},
        salvage::{Salvaged, Source},
        verify::Examined,
    },
    Action, BATCH_ROWS, CACHE_BYTES, Tell, change,
};
use crate::{
    TopicConfig, TopicId,
    dispatch::queue_offset,
    index::{
        Family, Index, consumer_offset,
        meta::{self, Versioned},
        topic::TopicRow,
    },
    num::to_u64,
};

/// Most queues of a topic that is made from its messages.
const QUEUES_MAX: u32 = 65_536;

/// The rows of a new RocksDB.
#[derive(Debug)]
pub(super) struct Rows {
    salvaged: Salvaged,
    /// Topics that have messages and no row.
    created: Vec<(String, TopicRow)>,
    /// Topics of which only the row of an earlier incarnation was found.
    again: Vec<String>,
    dropped_offsets: u64,
    /// Where the log begins and ends.
    begin: u64,
    end: u64,
}

/// What the log says about a topic.
#[derive(Debug, Default)]
struct Seen {
    queues: HashMap<u32, u64>,
    /// Where its newest incarnation begins: queue offsets do not go back in one.
    since: u64,
    last: u64,
}

impl Rows {
    pub(super) fn of(
        files: &Files,
        examined: &Examined,
        mut salvaged: Salvaged,
    ) -> Result<Self, Error> {
        let mut seen = seen(files, examined.end)?;
        let mut ids = distinct_ids(&mut salvaged);
        // A topic has as many queues as it has messages in. Where queue offsets begin again, it was
        // created again, and its row was lost.
        let mut again = Vec::new();
        for (name, row) in &mut salvaged.topics {
            if let Some(seen) = seen.remove(name) {
                let newest = seen.queues.keys().max().map_or(0, |id| id + 1);
                row.queues = row.queues.max(newest.min(QUEUES_MAX));
                if seen.since > row.since_log_offset {
                    row.since_log_offset = seen.since;
                    row.id = salvaged.next_topic_id;
                    salvaged.next_topic_id += 1;
                    ids.insert(row.id);
                    again.push(name.clone());
                }
            }
            let visible = row.clone().into_config(name.clone()).visible_queues();
            row.queues = row.queues.max(visible);
        }
        let mut created = Vec::new();
        for (name, of) in seen {
            // Where rows were readable, a topic without one was deleted.
            let wanted = of.last >= salvaged.log_end || examined.unreadable.contains(&name);
            if !wanted {
                continue;
            }
            let known = salvaged.names.iter().find(|(id, of)| **of == name && !ids.contains(&id.0));
            let id = known.map_or(salvaged.next_topic_id, |(id, _)| id.0);
            salvaged.next_topic_id = salvaged.next_topic_id.max(id + 1);
            ids.insert(id);
            let queues = of.queues.keys().max().map_or(1, |id| id + 1).min(QUEUES_MAX);
            let config = TopicConfig {
                name: name.clone(),
                read_queues: queues,
                write_queues: queues,
                perm: 6,
                ..TopicConfig::default()
            };
            created.push((name, TopicRow::new(TopicId(id), of.since, queues, &config)));
        }
        created.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let queues: HashMap<u32, u32> =
            salvaged.topics.iter().chain(&created).map(|(_, row)| (row.id, row.queues)).collect();
        let before = salvaged.offsets.len();
        salvaged.offsets.retain(|(_, topic, queue_id, _)| {
            queues.get(&topic.0).is_some_and(|count| queue_id < count)
        });
        let dropped_offsets = to_u64(before - salvaged.offsets.len());
        // What retention has deleted must not come back; what is missing will not.
        let begin = if salvaged.log_min > 0 || examined.before > 0 { files.min() } else { 0 };
        Ok(Self { salvaged, created, again, dropped_offsets, begin, end: examined.end })
    }

    pub(super) fn tell(&self, each: Tell<'_>) {
        let Salvaged { topics, groups, offsets, unreadable, source, .. } = &self.salvaged;
        let how = match source {
            Source::AsIs => "of the old RocksDB",
            Source::Skipped => {
                "of the old RocksDB, without the damaged places of its write-ahead log"
            }
            Source::Manifest => "of the old RocksDB, opened with its newest manifest",
            Source::Repaired => "of the old RocksDB, after RocksDB's own repair of a copy",
            Source::Nothing => "",
        };
        let kept = [("topics", topics.len()), ("groups", groups.len()), ("offsets", offsets.len())];
        for (what, count) in kept.into_iter().filter(|_| *source != Source::Nothing) {
            each(change(Action::Keep, to_u64(count), format!("{what} {how}")));
        }
        if *source == Source::Nothing {
            let detail = "all groups, consumer offsets and settings of topics: nothing of RocksDB \
                          can be read";
            each(change(Action::Lost, 0, detail));
        }
        if *unreadable > 0 {
            each(change(Action::Drop, *unreadable, "rows that cannot be decoded"));
        }
        if self.dropped_offsets > 0 {
            let detail = "consumer offsets of topics or queues that do not exist";
            each(change(Action::Drop, self.dropped_offsets, detail));
        }
        for name in &self.again {
            let detail = format!(
                "topic {name} as it was created again, with the settings that it had before"
            );
            each(change(Action::Create, 1, detail));
        }
        for (name, row) in &self.created {
            let detail = format!(
                "topic {name} with {} queues as its messages have them, readable and writable; \
                 other settings are lost",
                row.queues
            );
            each(change(Action::Create, 1, detail));
        }
    }

    /// Writes them to a new RocksDB in `dir`.
    pub(super) fn write(self, dir: &Path) -> Result<(), Error> {
        let index = Index::open(dir, CACHE_BYTES)?;
        {
            let guard = index.db()?;
            let mut batch = WriteBatch::default();
            meta::put_schema(&mut batch, &guard);
            meta::put_next_topic_id(&mut batch, &guard, self.salvaged.next_topic_id);
            meta::put_log_end(&mut batch, &guard, self.end);
            if self.begin > 0 {
                meta::put_log_min(&mut batch, &guard, self.begin);
            }
            for (of, version) in [
                (Versioned::Topics, self.salvaged.topic_version),
                (Versioned::Groups, self.salvaged.group_version),
            ] {
                meta::put_version(&mut batch, &guard, of, version);
            }
            for (queue, end) in self.salvaged.queue_ends {
                meta::put_queue_end(&mut batch, &guard, queue, end);
            }
            for (name, mut row) in self.salvaged.topics.into_iter().chain(self.created) {
                row.since_log_offset = row.since_log_offset.min(self.end);
                batch.put_cf(guard.family(Family::Topic), name, row.encode_to_vec());
            }
            for (name, row) in self.salvaged.groups {
                batch.put_cf(guard.family(Family::Group), name, row);
            }
            for (group, topic, queue_id, offset) in self.salvaged.offsets {
                let key = consumer_offset::key(&group, topic, queue_id);
                let value = consumer_offset::value(offset);
                batch.put_cf(guard.family(Family::ConsumerOffset), key, value);
                if batch.len() >= BATCH_ROWS {
                    index.write(std::mem::take(&mut batch), false)?;
                }
            }
            index.write(batch, true)?;
        }
        index.close();
        Ok(())
    }
}

/// Makes sure that no two topics have one id; the one whose messages are under it keeps it.
fn distinct_ids(salvaged: &mut Salvaged) -> HashSet<u32> {
    let names = &salvaged.names;
    salvaged.topics.sort_by_key(|(name, row)| names.get(&TopicId(row.id)) != Some(name));
    let mut ids = HashSet::new();
    for (_, row) in &mut salvaged.topics {
        if !ids.insert(row.id) {
            row.id = salvaged.next_topic_id;
            salvaged.next_topic_id += 1;
            ids.insert(row.id);
        }
    }
    ids
}

/// What the log says about each topic.
fn seen(files: &Files, end: u64) -> Result<BTreeMap<String, Seen>, Error> {
    let mut topics: BTreeMap<String, Seen> = BTreeMap::new();
    log::walk(files, files.min(), Some(end), &mut |event| {
        let Event::Record(record) = event else { return Ok(ControlFlow::Continue(())) };
        let at = u64::try_from(record.log_offset).unwrap_or_default();
        if at >= end {
            return Ok(ControlFlow::Break(()));
        }
        if !topics.contains_key(record.topic) {
            topics.insert(record.topic.to_owned(), Seen::default());
        }
        if let Some(seen) = topics.get_mut(record.topic) {
            seen.add(&record, at);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(topics)
}

impl Seen {
    fn add(&mut self, record: &RecordView<'_>, at: u64) {
        let queue_id = u32::try_from(record.queue_id).ok().filter(|&id| id < QUEUES_MAX);
        let (Some(queue_id), Some(offset)) = (queue_id, queue_offset(record.queue_offset)) else {
            return;
        };
        self.last = at;
        if self.queues.get(&queue_id).is_some_and(|&next| offset < next) {
            self.queues.clear();
            self.since = at;
        }
        self.queues.insert(queue_id, offset + 1);
    }
}
