//! The rows of a new RocksDB: what is kept of the old one, and what the log says.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
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
        salvage::Salvaged,
        verify::Examined,
    },
    BATCH_ROWS, CACHE_BYTES,
    exported::{Exported, Taken},
};
use crate::{
    TopicConfig, TopicId, adopt,
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
    pub(super) salvaged: Salvaged,
    pub(super) exported: Exported,
    pub(super) taken: Taken,
    /// Topics that were found and are deleted.
    pub(super) denied: Vec<String>,
    /// Topics that have messages and no row.
    pub(super) created: Vec<(String, TopicRow)>,
    /// Topics of which only the row of an earlier incarnation was found.
    pub(super) again: Vec<String>,
    pub(super) dropped_offsets: u64,
    /// Where the log begins and ends.
    begin: u64,
    end: u64,
}

/// What the log says about a topic.
#[derive(Debug, Default)]
pub(super) struct Seen {
    queues: HashMap<u32, u64>,
    /// Where its newest incarnation begins: queue offsets do not go back in one.
    since: u64,
    last: u64,
    /// Store time of its newest message, Unix ms.
    pub(super) last_store_ms: i64,
}

impl Rows {
    pub(super) fn of(
        files: &Files,
        examined: &Examined,
        mut salvaged: Salvaged,
    ) -> Result<Self, Error> {
        let mut seen = seen(files, examined.end)?;
        let exported = Exported::read(&files.dir);
        let denied = exported.settle_topics(&mut salvaged, &seen);
        let mut ids = Ids::of(&mut salvaged);
        let mut used = HashSet::new();
        // A topic has as many queues as it has messages in. Where queue offsets begin again, it was
        // created again, and its row was lost.
        let mut again = Vec::new();
        for (name, row) in &mut salvaged.topics {
            if let Some(seen) = seen.remove(name) {
                row.queues = row.queues.max(seen.queue_count());
                if seen.since > row.since_log_offset {
                    row.since_log_offset = seen.since;
                    row.id = ids.of_lost(name, &salvaged.names);
                    again.push(name.clone());
                }
                used.extend(seen.queues.into_keys().map(|queue| (TopicId(row.id), queue)));
            }
            let visible = row.clone().into_config(name.clone()).visible_queues();
            row.queues = row.queues.max(visible);
        }
        let mut lost: BTreeSet<_> = exported.lost_topics(&salvaged).into_iter().collect();
        // Where rows were readable, a topic without one was deleted.
        lost.extend(seen.iter().filter_map(|(name, of)| {
            let unknown = of.last >= salvaged.log_end && !exported.denies(name, Some(of));
            let unknown = unknown || exported.admits(name, &salvaged, of);
            (unknown || examined.unreadable.contains(name)).then(|| name.clone())
        }));
        let mut rows = Self {
            exported,
            denied,
            again,
            taken: Taken::default(),
            created: Vec::new(),
            dropped_offsets: 0,
            // What retention has deleted must not come back; what is missing will not.
            begin: if salvaged.log_min > 0 || examined.before > 0 { files.min() } else { 0 },
            end: examined.end,
            salvaged,
        };
        for name in lost {
            let seen = seen.remove(&name).unwrap_or_default();
            rows.bring_back(name, &seen, &mut ids);
            let id = TopicId(ids.last);
            used.extend(seen.queues.into_keys().map(|queue| (id, queue)));
        }
        rows.taken.groups = rows.exported.add_groups(&mut rows.salvaged);
        rows.settle_offsets(&ids, &used);
        rows.exported.keep_versions(&mut rows.salvaged);
        Ok(rows)
    }

    /// Makes a topic whose row is lost.
    fn bring_back(&mut self, name: String, seen: &Seen, ids: &mut Ids) {
        let id = ids.of_lost(&name, &self.salvaged.names);
        // All that was before the checkpoint would be in queues if it were this topic's, and the
        // queues would tell the id.
        let earlier = ids.new.contains(&TopicId(id)) && seen.last < self.salvaged.checkpoint;
        let since = if earlier && !seen.queues.is_empty() { seen.last + 1 } else { seen.since };
        let row = |queues, config| TopicRow::new(TopicId(id), since, queues, config);
        if let Some(config) = self.exported.topic(&name) {
            let queues = config.visible_queues().min(QUEUES_MAX).max(seen.queue_count());
            let row = row(queues, config);
            self.salvaged.topics.push((name, row));
            self.taken.topics += 1;
            return;
        }
        let queues = seen.queue_count().max(1);
        let config = TopicConfig {
            name: name.clone(),
            read_queues: queues,
            write_queues: queues,
            perm: 6,
            ..TopicConfig::default()
        };
        self.created.push((name, row(queues, &config)));
    }

    /// Leaves out consumer offsets of what does not exist, and adds those that are lost. `used` are
    /// the queues that have messages.
    fn settle_offsets(&mut self, ids: &Ids, used: &HashSet<(TopicId, u32)>) {
        let topics: HashMap<_, _> = self
            .topics()
            .map(|(name, row)| (name.clone(), (TopicId(row.id), row.queues)))
            .collect();
        let queues: HashMap<_, _> = topics.values().copied().collect();
        let salvaged = &mut self.salvaged;
        let before = salvaged.offsets.len();
        salvaged.offsets.retain(|(_, topic, queue_id, _)| {
            queues.get(topic).is_some_and(|count| queue_id < count)
        });
        self.dropped_offsets = to_u64(before - salvaged.offsets.len());
        (self.taken.offsets, self.taken.moved) =
            self.exported.add_offsets(salvaged, &topics, &ids.new);
        salvaged.next_topic_id = ids.next;
        if !salvaged.queue_ends_lost {
            return;
        }
        // A queue without messages goes on where the furthest group is, at least.
        let ends: HashSet<_> = salvaged.queue_ends.iter().map(|(queue, _)| *queue).collect();
        let mut furthest: HashMap<_, u64> = HashMap::new();
        for &(_, topic, queue_id, offset) in &salvaged.offsets {
            let queue = (topic, queue_id);
            if offset.0 > 0 && !used.contains(&queue) && !ends.contains(&queue) {
                let end = furthest.entry(queue).or_default();
                *end = offset.0.max(*end);
            }
        }
        salvaged.queue_ends.extend(furthest);
    }

    fn topics(&self) -> impl Iterator<Item = &(String, TopicRow)> {
        self.salvaged.topics.iter().chain(&self.created)
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
                meta::put_version(&mut batch, &guard, of, version.unwrap_or_default());
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

/// Numbers of topics.
#[derive(Debug)]
struct Ids {
    taken: HashSet<u32>,
    next: u32,
    /// Those that nobody had before.
    new: HashSet<TopicId>,
    /// The one that was given last.
    last: u32,
}

impl Ids {
    /// Makes sure that no two topics have one id; the one whose messages are under it keeps it.
    fn of(salvaged: &mut Salvaged) -> Self {
        let names = &salvaged.names;
        salvaged.topics.sort_by_key(|(name, row)| names.get(&TopicId(row.id)) != Some(name));
        let mut ids = Self {
            taken: HashSet::new(),
            next: salvaged.next_topic_id,
            new: HashSet::new(),
            last: 0,
        };
        for (_, row) in &mut salvaged.topics {
            if !ids.taken.insert(row.id) {
                row.id = ids.fresh();
            }
        }
        ids
    }

    /// The id of a topic whose row is lost: the one that its messages are under, or a new one.
    fn of_lost(&mut self, name: &str, names: &HashMap<TopicId, String>) -> u32 {
        let known = names.iter().find(|(id, of)| *of == name && !self.taken.contains(&id.0));
        self.last = known.map(|(id, _)| id.0).unwrap_or_else(|| self.fresh());
        self.taken.insert(self.last);
        self.last
    }

    fn fresh(&mut self) -> u32 {
        let id = self.next;
        self.next += 1;
        self.taken.insert(id);
        self.new.insert(TopicId(id));
        id
    }
}

/// What the log says about each topic.
fn seen(files: &Files, end: u64) -> Result<BTreeMap<String, Seen>, Error> {
    let mut topics: BTreeMap<String, Seen> = BTreeMap::new();
    log::walk(files, files.min(), Some(end), &mut |event| {
        let Event::Record(record) = event else { return Ok(ControlFlow::Continue(())) };
        if !adopt::is_in_queue(record.sys_flag) {
            return Ok(ControlFlow::Continue(()));
        }
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
    /// Queues up to the last one that has messages.
    fn queue_count(&self) -> u32 {
        self.queues.keys().max().map_or(0, |id| id + 1).min(QUEUES_MAX)
    }

    fn add(&mut self, record: &RecordView<'_>, at: u64) {
        let queue_id = u32::try_from(record.queue_id).ok().filter(|&id| id < QUEUES_MAX);
        let (Some(queue_id), Some(offset)) = (queue_id, queue_offset(record.queue_offset)) else {
            return;
        };
        self.last = at;
        self.last_store_ms = self.last_store_ms.max(record.store_timestamp);
        if self.queues.get(&queue_id).is_some_and(|&next| offset < next) {
            self.queues.clear();
            self.since = at;
        }
        self.queues.insert(queue_id, offset + 1);
    }
}
