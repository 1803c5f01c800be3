//! Taking over a directory that Apache RocketMQ has written, and leaving one that it can open.
//!
//! The log is the same, byte for byte. What the log does not tell, RocketMQ keeps in
//! `config/*.json`: [`begin`] puts it into a new index, from where opening goes on as after any
//! stop; the replay of the whole log builds what is derived. [`Export`] writes the same files, so
//! that RocketMQ can take the directory back; [`merge`] reads them again when it has. Everything
//! else of RocketMQ's (`consumequeue/`, `index/`, `checkpoint`, `abort`) is left as it is: it brings
//! them up to date from the log by itself.

mod check;
mod export;
pub(crate) mod files;
mod java_queue;
mod scan;
mod spacer;

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

pub use check::{Concern, Migration, check};
pub(crate) use export::Export;
use files::Files;
use java_queue::Queues;
use prost::Message;
use protocol::body::config_file::{GroupFile, OffsetFile, TopicFile};
use rocksdb::WriteBatch;
pub(crate) use scan::is_in_queue;
use scan::{Seen, SeenTopic};

use crate::{
    Config, OpenError, QueueOffset, ReadError, TopicConfig, TopicId, bodies,
    commit_log::{
        durable::{self, MarkFile},
        recover::Found,
    },
    file::{DiskFile, failed},
    index::{
        Family, Index,
        consume_queue::{self, BLOCK_ENTRIES, BlockEntry},
        consumer_offset, damaged, for_each,
        group::GroupRow,
        meta::{self, Versioned},
        topic::TopicRow,
    },
};

/// Most queues of a topic; RocketMQ has no limit, and more are a mistake.
const QUEUES_MAX: u32 = 65_536;

/// Fills a new index from RocketMQ's files, if there are any. `false` if there is nothing to take
/// over; then nothing was changed.
///
/// # Errors
/// The files cannot be read or the log cannot be taken over. The index is as it was.
pub(crate) fn begin(config: &Config, index: &Index) -> Result<bool, OpenError> {
    let store = &config.path;
    let mut files = Files::read(store)?;
    let ours = !files.is_empty();
    files.forget_ours();
    if files.is_empty() {
        // Our own files without our index: it was lost, and repairing it is nothing to do silently.
        return if ours { Ok(false) } else { refuse_rocksdb_config(store).map(|()| false) };
    }
    // Topics and offsets belong together, whoever wrote them last.
    let files = Files::read(store)?;
    refuse_rocksdb_config(store)?;
    tracing::info!(store = %store.display(), "taking over a store of RocketMQ; reading its log");
    fill(config, index, files).map(|()| true)
}

fn fill(config: &Config, index: &Index, files: Files) -> Result<(), OpenError> {
    let store = &config.path;
    let seen = scan::scan(store, |_| {})?;
    let plan = Plan::new(files, &seen, &Queues::open(store));
    warn_of_sizes(config, &seen.segments);
    prepare(&seen.segments)?;
    let end = spacer::put(&seen.segments, seen.end, seen.last_store_ms)?;
    let path = store.join(durable::NAME);
    // Before the index, which must not count as there without it: what is damaged below this
    // stays.
    let (mut mark, _) = MarkFile::open(store)?;
    mark.write(end, 0, false).map_err(failed("write", path))?;
    let mut batch = WriteBatch::default();
    meta::put_schema(&mut batch, &index.db()?);
    plan.put(&mut batch, index)?;
    index.write(batch, true)?;
    tracing::info!(
        records = seen.records,
        end,
        topics = plan.topics.len(),
        groups = plan.groups.subscription_group_table.len(),
        "took over topics, groups and consumer offsets of RocketMQ"
    );
    Ok(())
}

/// Takes what RocketMQ has changed since we wrote the files: topics, groups and offsets that it has
/// written are newer than ours. Nothing is deleted.
///
/// # Errors
/// As [`begin`].
pub(crate) fn merge(config: &Config, index: &Index) -> Result<(), OpenError> {
    let store = &config.path;
    let mut files = Files::read(store)?;
    files.forget_ours();
    if files.is_empty() {
        return Ok(());
    }
    let segments = scan::segments(&store.join("commitlog"))?;
    prepare(&segments)?;
    let marks = durable::read(store).map_err(failed("read", store.join(durable::NAME)))?;
    let durable = marks.into_iter().flatten().max_by_key(|mark| mark.sequence);
    if let Some(mark) = durable {
        let last_store_ms = meta::checkpoint(&index.db()?)?.last_store_ms;
        let (end, store_ms) = spacer::end(&segments, (mark.durable, last_store_ms))?;
        spacer::put(&segments, end, store_ms)?;
    }
    let plan = Plan::merged(files, index)?;
    let mut batch = WriteBatch::default();
    plan.put(&mut batch, index)?;
    index.write(batch, true)?;
    tracing::info!(
        topics = plan.topics.len(),
        groups = plan.groups.subscription_group_table.len(),
        "took what RocketMQ has written since"
    );
    Ok(())
}

/// RocketMQ can keep its configuration in a RocksDB of its own, which we do not read.
///
/// # Source: `RocksDBConfigManager`, `ConfigStorage`
fn refuse_rocksdb_config(store: &Path) -> Result<(), OpenError> {
    let path = store.join("config");
    if path.join(files::TOPICS).exists() {
        return Ok(());
    }
    let found =
        ["topics", "metadata"].into_iter().find(|dir| path.join(dir).join("CURRENT").exists());
    found.map_or(Ok(()), |dir| {
        let reason = format!(
            "its topics are in RocksDB ({dir}/), which only RocketMQ reads; export them to JSON with \
             `mqadmin rocksDBConfigToJson` first"
        );
        Err(OpenError::Adopt { path, reason })
    })
}

fn warn_of_sizes(config: &Config, segments: &[Found]) {
    let ours = config.segment_size_bytes;
    if let Some(other) = segments.iter().find(|segment| segment.len != ours) {
        tracing::warn!(
            segment_size_bytes = ours,
            found = other.len,
            "new segments will have another size than RocketMQ's: it will not open this store again"
        );
    }
}

/// Reserves the blocks of the segment that will be appended to, which RocketMQ leaves sparse, and
/// makes what the segments hold durable.
fn prepare(segments: &[Found]) -> Result<(), OpenError> {
    for (i, segment) in segments.iter().enumerate() {
        let file = DiskFile::open(&segment.path).map_err(failed("open", &segment.path))?;
        // The last may be one that was only made ahead.
        if i + 2 >= segments.len() {
            file.allocate(segment.len).map_err(failed("reserve space for", &segment.path))?;
        }
        file.sync().map_err(failed("sync", &segment.path))?;
    }
    Ok(())
}

/// The rows to write.
#[derive(Debug, Default)]
struct Plan {
    topics: Vec<PlannedTopic>,
    groups: GroupFile,
    offsets: OffsetFile,
    /// Topics that may have offsets: the planned ones and those that are there.
    ids: HashMap<String, TopicId>,
    next_topic_id: u32,
    topic_version: Option<crate::DataVersion>,
    group_version: Option<crate::DataVersion>,
}

#[derive(Debug)]
struct PlannedTopic {
    config: TopicConfig,
    id: TopicId,
    since: u64,
    queues: u32,
    /// Queues without a record, and where they end.
    ended: Vec<(u32, u64)>,
}

impl Plan {
    /// For a new index.
    fn new(files: Files, seen: &Seen, java: &Queues) -> Self {
        let mut plan = Self { next_topic_id: 1, ..Self::default() };
        let file = files.topics.unwrap_or_default();
        plan.take_versions(&file, files.groups.as_ref());
        let mut known = HashSet::new();
        for (name, body) in file.topic_config_table {
            let config = bodies::to_topic(&name, body);
            plan.add(config, seen.topics.get(&name), java);
            known.insert(name);
        }
        for (name, topic) in &seen.topics {
            if known.contains(name) {
                continue;
            }
            let records = topic.records;
            if java.were_deleted(name) {
                tracing::info!(topic = name, records, "records of a deleted topic; not taken over");
                continue;
            }
            tracing::warn!(topic = name, records, "not in topics.json; created with its queues");
            let queues = topic.live_queues().map(|(id, _)| id + 1).max().unwrap_or(1);
            let queues = queues.min(QUEUES_MAX);
            let config = TopicConfig {
                name: name.clone(),
                read_queues: queues,
                write_queues: queues,
                perm: 6,
                ..TopicConfig::default()
            };
            plan.add(config, Some(topic), java);
        }
        plan.groups = files.groups.unwrap_or_default();
        plan.offsets = files.offsets.unwrap_or_default();
        plan
    }

    fn add(&mut self, config: TopicConfig, seen: Option<&SeenTopic>, java: &Queues) {
        let with_records: HashMap<_, _> =
            seen.into_iter().flat_map(SeenTopic::live_queues).collect();
        let used = with_records.keys().map(|id| id + 1).max().unwrap_or(0);
        let queues = config.visible_queues().max(used).min(QUEUES_MAX);
        let ended = (0..queues)
            .filter(|queue_id| !with_records.contains_key(queue_id))
            .map(|queue_id| (queue_id, java.next(&config.name, queue_id)))
            .filter(|&(_, next)| next > 0)
            .collect();
        let id = self.new_id(&config.name);
        let since = seen.map_or(0, |seen| seen.since);
        self.topics.push(PlannedTopic { config, id, since, queues, ended });
    }

    /// For an index that exists.
    fn merged(files: Files, index: &Index) -> Result<Self, ReadError> {
        let guard = index.db()?;
        let mut plan = Self { next_topic_id: meta::next_topic_id(&guard)?, ..Self::default() };
        let mut rows = HashMap::new();
        for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |key, value| {
            let name = std::str::from_utf8(key).map_err(|_| damaged(Family::Topic, key))?;
            let row = TopicRow::decode(value).map_err(|_| damaged(Family::Topic, key))?;
            plan.ids.insert(name.to_owned(), TopicId(row.id));
            rows.insert(name.to_owned(), row);
            Ok(())
        })?;
        // The log that is read again begins here; what lies before belongs to other topics.
        let since = meta::checkpoint(&guard)?.log_offset;
        if let Some(file) = files.topics {
            plan.take_versions(&file, None);
            for (name, body) in file.topic_config_table {
                let config = bodies::to_topic(&name, body);
                let queues = config.visible_queues().min(QUEUES_MAX);
                let (id, since, queues) = match rows.remove(&name) {
                    Some(row) => (TopicId(row.id), row.since_log_offset, row.queues.max(queues)),
                    None => (plan.new_id(&name), since, queues),
                };
                plan.topics.push(PlannedTopic { config, id, since, queues, ended: Vec::new() });
            }
            for name in rows.keys() {
                tracing::warn!(topic = name, "RocketMQ has no such topic any more; it is kept");
            }
        }
        if let Some(groups) = files.groups {
            plan.group_version = Some(files::version(groups.data_version));
            plan.groups = groups;
        }
        plan.offsets = files.offsets.unwrap_or_default();
        Ok(plan)
    }

    fn take_versions(&mut self, topics: &TopicFile, groups: Option<&GroupFile>) {
        self.topic_version = Some(files::version(topics.data_version));
        self.group_version = groups.map(|file| files::version(file.data_version));
    }

    fn new_id(&mut self, name: &str) -> TopicId {
        let id = TopicId(self.next_topic_id);
        self.next_topic_id += 1;
        self.ids.insert(name.to_owned(), id);
        id
    }

    fn put(&self, batch: &mut WriteBatch, index: &Index) -> Result<(), ReadError> {
        let guard = index.db()?;
        for topic in &self.topics {
            let row = TopicRow::new(topic.id, topic.since, topic.queues, &topic.config);
            batch.put_cf(guard.family(Family::Topic), &topic.config.name, row.encode_to_vec());
            for &(queue_id, next) in &topic.ended {
                // A hole at the end, before the start of the log: the queue is empty and goes on.
                let last = next - 1;
                let start = u8::try_from(last % BLOCK_ENTRIES).expect("a block has 64 places");
                let hole = [BlockEntry::default()];
                let block = consume_queue::encode(start, 0, hole.into_iter());
                let key = consume_queue::key(topic.id, queue_id, last / BLOCK_ENTRIES);
                batch.put_cf(guard.family(Family::ConsumeQueue), key, block);
            }
        }
        for (name, body) in &self.groups.subscription_group_table {
            let row = GroupRow::new(bodies::to_group(name, body.clone()));
            batch.put_cf(guard.family(Family::Group), name, row.encode_to_vec());
        }
        let mut unknown = 0_u64;
        for (key, queues) in &self.offsets.offset_table {
            let at =
                key.split_once('@').and_then(|(topic, group)| Some((self.ids.get(topic)?, group)));
            let Some((&topic, group)) = at else {
                unknown += 1;
                continue;
            };
            for (&queue_id, &offset) in queues {
                let (Ok(queue_id), Ok(offset)) = (u32::try_from(queue_id), u64::try_from(offset))
                else {
                    continue;
                };
                let value = consumer_offset::value(QueueOffset(offset));
                let key = consumer_offset::key(group, topic, queue_id);
                batch.put_cf(guard.family(Family::ConsumerOffset), key, value);
            }
        }
        if unknown > 0 {
            tracing::warn!(unknown, "offsets of topics that do not exist are not taken over");
        }
        meta::put_next_topic_id(batch, &guard, self.next_topic_id);
        for (of, version) in
            [(Versioned::Topics, self.topic_version), (Versioned::Groups, self.group_version)]
        {
            if let Some(version) = version {
                meta::put_version(batch, &guard, of, version);
            }
        }
        // Offsets may point behind the end of their queue; the replay is followed by a look at that.
        meta::put_unclamped(batch, &guard, true);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
