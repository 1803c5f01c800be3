//! Looking at a directory of RocketMQ's before it is taken over: what is there, and what would not
//! carry over. Changes nothing.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use protocol::{
    body::config_file::{DelayFile, GroupFile, OffsetFile, TopicFile},
    json, property,
    record::{RecordView, Version},
    sys_flag,
};

use super::{
    files::{self, DELAYS, Files},
    java_queue::Queues,
    refuse_rocksdb_config,
    scan::{self, Seen, SeenTopic, is_in_queue},
};
use crate::{DamagedRange, LogOffset, OpenError, num::to_u64};

/// # Source: `TopicValidator`
const SCHEDULE: &str = "SCHEDULE_TOPIC_XXXX";
const HALF: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
const HALF_DONE: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// # Source: `TransactionalMessageUtil.buildConsumerGroup`
const HALF_GROUP: &str = "CID_RMQ_SYS_TRANS";
/// # Source: `TimerMessageStore.TIMER_TOPIC` and `TIMER_OUT_MS`
const TIMER: &str = "rmq_sys_wheel_timer";
const TIMER_OUT_MS: &str = "TIMER_OUT_MS";
/// # Source: `PopAckConstants.REVIVE_TOPIC` and `REVIVE_GROUP`
const REVIVE: &str = "rmq_sys_REVIVE_LOG_";
const REVIVE_GROUP: &str = "CID_RMQ_SYS_REVIVE_GROUP";
/// # Source: `MessageConst.PROPERTY_INNER_MULTI_DISPATCH`
const MULTI_DISPATCH: &str = "INNER_MULTI_DISPATCH";
/// # Source: `TopicAttributes`
const CLEAN_UP: &str = "cleanup.policy";
const QUEUE_TYPE: &str = "queue.type";

/// What a directory holds.
#[derive(Clone, Debug, Default)]
pub struct Migration {
    /// The generation that seems to have written it: `4.x` or `5.x`.
    pub written_by: &'static str,
    /// Whether it was closed in order.
    pub clean: bool,
    /// Number of segments.
    pub segments: u64,
    /// Their size in bytes, as far as they agree; new ones should have it too.
    pub segment_size_bytes: Option<u64>,
    /// Where the log begins.
    pub log_min: LogOffset,
    /// Where it ends.
    pub log_end: LogOffset,
    /// Its records.
    pub records: u64,
    /// Store time of the first record, Unix ms.
    pub first_store_ms: i64,
    /// Store time of the last record, Unix ms.
    pub last_store_ms: i64,
    /// Topics that would be taken over.
    pub topics: u64,
    /// Their queues.
    pub queues: u64,
    /// Consumer groups with a configuration.
    pub groups: u64,
    /// Consumer offsets, one per group and queue.
    pub offsets: u64,
    /// Records with topics over 127 bytes.
    pub long_topic_records: u64,
    /// Damage between records, which stays as it is.
    pub damaged: Vec<DamagedRange>,
    /// What would not carry over. Nothing, if it is empty.
    pub concerns: Vec<Concern>,
    /// What is worth knowing.
    pub notes: Vec<String>,
    /// How long reading the log took; taking it over reads it twice.
    pub scan: Duration,
}

/// Something that does not carry over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// What it is.
    pub what: &'static str,
    /// How many messages, topics or files it concerns.
    pub count: u64,
    /// What that means.
    pub meaning: String,
}

impl Migration {
    fn concern(&mut self, what: &'static str, count: u64, meaning: impl Into<String>) {
        if count > 0 {
            self.concerns.push(Concern { what, count, meaning: meaning.into() });
        }
    }
}

/// What the records tell.
#[derive(Debug, Default)]
struct Tally {
    now_ms: i64,
    prepared: u64,
    inner_batch: u64,
    multi_dispatch: u64,
    long_topics: u64,
    timers: u64,
    /// Queue offsets of half messages that were committed or rolled back.
    half_done: HashSet<u64>,
}

/// Reads RocketMQ's directory `store`; `now_ms` tells which timers are still to come.
///
/// # Errors
/// It cannot be taken over at all, or it cannot be read.
pub fn check(store: &Path, now_ms: i64) -> Result<Migration, OpenError> {
    let files = Files::read(store)?;
    refuse_rocksdb_config(store)?;
    if files.is_empty() {
        let reason = "it has no config/topics.json, config/subscriptionGroup.json or \
             config/consumerOffset.json; name the directory that RocketMQ calls storePathRootDir"
            .to_owned();
        return Err(OpenError::Adopt { path: store.to_owned(), reason });
    }
    let begun = Instant::now();
    let mut tally = Tally { now_ms, ..Tally::default() };
    let seen = scan::scan(store, |record| tally.add(record))?;
    let mut found = Migration {
        written_by: generation(store, &files),
        clean: !store.join("abort").exists(),
        scan: begun.elapsed(),
        ..Migration::default()
    };
    describe_log(&mut found, &seen);
    let topics = files.topics.unwrap_or_default();
    let offsets = files.offsets.unwrap_or_default();
    describe_topics(&mut found, &topics, &seen, &Queues::open(store));
    describe_groups(&mut found, &files.groups.unwrap_or_default());
    describe_offsets(&mut found, (&offsets, &topics), &seen);
    describe_records(&mut found, &tally);
    describe_progress(&mut found, store, (&seen, &offsets), &tally)?;
    describe_others(&mut found, store);
    Ok(found)
}

impl Tally {
    fn add(&mut self, record: &RecordView<'_>) {
        if !is_in_queue(record.sys_flag) {
            self.prepared += 1;
        }
        if record.sys_flag & sys_flag::INNER_BATCH != 0 {
            self.inner_batch += 1;
        }
        if record.version == Version::V2 {
            self.long_topics += 1;
        }
        let find = |wanted| property::iter(record.properties).find(|(name, _)| *name == wanted);
        if find(MULTI_DISPATCH).is_some() {
            self.multi_dispatch += 1;
        }
        if record.topic == TIMER
            && find(TIMER_OUT_MS)
                .and_then(|(_, due)| due.parse::<i64>().ok())
                .is_some_and(|due| due > self.now_ms)
        {
            self.timers += 1;
        }
        if record.topic == HALF_DONE {
            let body = std::str::from_utf8(record.body).unwrap_or_default();
            self.half_done
                .extend(body.split(',').filter_map(|offset| offset.trim().parse::<u64>().ok()));
        }
    }
}

/// # Source: `BrokerPathConfigHelper`, and what the classes of each generation persist
fn generation(store: &Path, files: &Files) -> &'static str {
    let config = store.join("config");
    let newer = ["timercheck", "topicQueueMapping.json", "consumerOrderInfo.json"];
    let timer_topic = |file: &TopicFile| file.topic_config_table.contains_key(TIMER);
    if newer.into_iter().any(|name| config.join(name).exists())
        || files.topics.as_ref().is_some_and(timer_topic)
    {
        "5.x"
    } else {
        "4.x"
    }
}

fn describe_log(found: &mut Migration, seen: &Seen) {
    let size = seen.segments.first().map(|first| first.len);
    found.segments = to_u64(seen.segments.len());
    found.segment_size_bytes =
        size.filter(|&size| seen.segments.iter().all(|segment| segment.len == size));
    found.log_min = LogOffset(seen.segments.first().map_or(0, |first| first.base_offset));
    found.log_end = LogOffset(seen.end);
    found.records = seen.records;
    found.first_store_ms = seen.first_store_ms;
    found.last_store_ms = seen.last_store_ms;
    found.damaged.clone_from(&seen.damaged);
    let damaged = to_u64(seen.damaged.len());
    found.concern("damaged ranges", damaged, "their messages cannot be read by anybody");
    if let Some(reason) = &seen.torn {
        found.notes.push(format!(
            "the log ends at {} with a torn record ({reason}), which is cut",
            seen.end
        ));
    }
    if let Some(size) = found.segment_size_bytes {
        found.notes.push(format!(
            "set segment_size_bytes = {size} to be able to go back: RocketMQ wants files of its \
             mappedFileSizeCommitLog only"
        ));
    }
}

fn describe_topics(found: &mut Migration, file: &TopicFile, seen: &Seen, java: &Queues) {
    let table = &file.topic_config_table;
    let used = |topic: &SeenTopic| topic.live_queues().map(|(id, _)| id + 1).max().unwrap_or(0);
    for (name, config) in table {
        let queues = config.read_queue_nums.max(config.write_queue_nums);
        let queues = u32::try_from(queues).unwrap_or(0);
        found.queues += u64::from(queues.max(seen.topics.get(name).map_or(0, used)));
    }
    found.topics = to_u64(table.len());
    for (name, topic) in seen.topics.iter().filter(|(name, _)| !table.contains_key(*name)) {
        if java.were_deleted(name) {
            let records = topic.records;
            found
                .notes
                .push(format!("topic {name} was deleted; its {records} records stay hidden"));
        } else {
            found.topics += 1;
            found.queues += u64::from(used(topic));
            found
                .notes
                .push(format!("topic {name} has records and no configuration; it is created"));
        }
    }
    let with = |name: &str, value: &str| {
        let has = |config: &&protocol::body::topic::TopicConfig| {
            config.attributes.get(name).is_some_and(|found| found == value)
        };
        to_u64(table.values().filter(has).count())
    };
    found.concern(
        "compacted topics",
        with(CLEAN_UP, "COMPACTION"),
        "served from the log, not compacted",
    );
    found.concern(
        "topics with batch queues",
        with(QUEUE_TYPE, "BatchCQ"),
        "a batch is one message here, its offsets beyond the first are empty",
    );
}

fn describe_groups(found: &mut Migration, file: &GroupFile) {
    found.groups = to_u64(file.subscription_group_table.len());
    found.concern(
        "groups forbidden to do something",
        to_u64(file.forbidden_table.values().filter(|topics| !topics.is_empty()).count()),
        "forbiddenTable is not taken over",
    );
}

fn describe_offsets(found: &mut Migration, (file, topics): (&OffsetFile, &TopicFile), seen: &Seen) {
    let (mut unknown, mut beyond) = (0, 0);
    for (key, queues) in &file.offset_table {
        let topic = key.split_once('@').map_or("", |(topic, _)| topic);
        if !topics.topic_config_table.contains_key(topic) && !seen.topics.contains_key(topic) {
            unknown += to_u64(queues.len());
            continue;
        }
        found.offsets += to_u64(queues.len());
        let next = |queue: &i32| {
            let queue = u32::try_from(*queue).ok()?;
            seen.topics.get(topic)?.queues.get(&queue).map(|queue| queue.next)
        };
        let is_beyond = |(queue, offset): (&i32, &i64)| {
            next(queue).is_some_and(|next| u64::try_from(*offset).is_ok_and(|offset| offset > next))
        };
        beyond += to_u64(queues.iter().filter(|&row| is_beyond(row)).count());
    }
    if unknown > 0 {
        found.notes.push(format!("{unknown} offsets belong to topics that do not exist"));
    }
    if beyond > 0 {
        found
            .notes
            .push(format!("{beyond} offsets point behind their queue; they are moved to its end"));
    }
}

fn describe_records(found: &mut Migration, tally: &Tally) {
    found.long_topic_records = tally.long_topics;
    found.concern(
        "batch records",
        tally.inner_batch,
        "each is one message here, its offsets beyond the first are empty",
    );
    found.concern(
        "messages in light queues (LMQ)",
        tally.multi_dispatch,
        "in their topic's own queue only; the light queues are not built",
    );
    if tally.prepared > 0 {
        let prepared = tally.prepared;
        found.notes.push(format!("{prepared} prepared or rolled-back records are in no queue"));
    }
}

/// Messages that RocketMQ still has to deliver.
fn describe_progress(
    found: &mut Migration,
    store: &Path,
    (seen, offsets): (&Seen, &OffsetFile),
    tally: &Tally,
) -> Result<(), OpenError> {
    let delays: Option<DelayFile> = files::read(&store.join("config"), DELAYS, json::decode)?;
    let delays = delays.unwrap_or_default().offset_table;
    // The queue of a level is numbered from 0, the level from 1.
    let done = |queue: u32| i32::try_from(queue + 1).ok().and_then(|level| delays.get(&level));
    let waiting = behind(seen.topics.get(SCHEDULE), |queue| done(queue).copied());
    found.concern("delayed messages", waiting, "they stay in the log and are not delivered yet");
    found.concern("timer messages", tally.timers, "they stay in the log and are not delivered yet");
    let half = half_open(seen, offsets, tally);
    found.concern("open transactions", half, "nobody asks their producers for the outcome");
    let none = BTreeMap::new();
    let revived = |name: &str| {
        let done = offsets.offset_table.get(&format!("{name}@{REVIVE_GROUP}")).unwrap_or(&none);
        behind(seen.topics.get(name), |queue| {
            i32::try_from(queue).ok().and_then(|queue| done.get(&queue)).copied()
        })
    };
    let logs = seen.topics.keys().filter(|name| name.starts_with(REVIVE));
    let pop = logs.map(|name| revived(name)).sum();
    found.concern(
        "records of pop consumption",
        pop,
        "what was popped and not acknowledged is not redelivered",
    );
    Ok(())
}

/// Messages of a topic beyond how far each queue is done.
fn behind(topic: Option<&SeenTopic>, done: impl Fn(u32) -> Option<i64>) -> u64 {
    let queues = topic.into_iter().flat_map(SeenTopic::live_queues);
    let left = queues.map(|(id, queue)| {
        let done = done(id).and_then(|done| u64::try_from(done).ok()).unwrap_or(0);
        queue.next.saturating_sub(done)
    });
    left.sum()
}

fn half_open(seen: &Seen, offsets: &OffsetFile, tally: &Tally) -> u64 {
    let next = seen.topics.get(HALF).and_then(|topic| topic.queues.get(&0)).map_or(0, |q| q.next);
    let done = offsets.offset_table.get(&format!("{HALF}@{HALF_GROUP}")).and_then(|q| q.get(&0));
    let done = done.and_then(|&done| u64::try_from(done).ok()).unwrap_or(0);
    (done..next).map(|offset| u64::from(!tally.half_done.contains(&offset))).sum()
}

/// What else lies in the directory.
fn describe_others(found: &mut Migration, store: &Path) {
    let filled = |path: &str| {
        let entries = fs::read_dir(store.join(path)).into_iter().flatten().count();
        to_u64(entries)
    };
    let users = filled("config/users") + filled("config/acls") + filled("config/auth");
    found.concern("access control files", users.min(1), "users and ACLs are not taken over");
    found.concern(
        "static topic mappings",
        static_topics(store),
        "their logical queues are not served; move them with mqadmin first",
    );
    if store.join("consumequeue_r").is_dir() {
        found.notes.push(
            "consume queues in RocksDB are not needed: ours are built from the log".to_owned(),
        );
    }
}

fn static_topics(store: &Path) -> u64 {
    let text = fs::read_to_string(store.join("config/topicQueueMapping.json")).unwrap_or_default();
    to_u64(text.matches("\"hostedQueues\"").count())
}
