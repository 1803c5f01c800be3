//! Stores as RocketMQ leaves them, opened by ours.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::Path,
    sync::Arc,
};

use protocol::{
    clock::Clock,
    record::{self, NewRecord},
    sys_flag,
};

use super::*;
use crate::{FlushMode, LogOffset, Queue, Store, num::to_u64};

const SEGMENT: u64 = 64 << 10;

/// Writes records as RocketMQ does: into a sparse file, without a watermark.
struct Java<'a> {
    store: &'a Path,
    end: u64,
    now_ms: i64,
}

impl<'a> Java<'a> {
    fn new(store: &'a Path) -> Self {
        fs::create_dir_all(store.join("commitlog")).unwrap();
        fs::create_dir_all(store.join("config")).unwrap();
        Self { store, end: 0, now_ms: 1_700_000_000_000 }
    }

    fn segment(&self) -> File {
        let name = format!("commitlog/{:020}", self.end / SEGMENT * SEGMENT);
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(self.store.join(name))
            .unwrap();
        file.set_len(SEGMENT).unwrap();
        file
    }

    /// Appends a record and returns its log offset.
    fn put(&mut self, topic: &str, (queue_id, offset): (i32, i64), sys_flag: i32) -> u64 {
        let mut bytes = bytes::BytesMut::new();
        let properties = format!("KEYS\u{1}k{offset}\u{2}TAGS\u{1}a\u{2}");
        NewRecord {
            topic,
            queue_id,
            flag: 0,
            sys_flag,
            born_timestamp: 0,
            born_host: ([127, 0, 0, 1], 1).into(),
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &[7; 300],
            properties: &[&properties],
        }
        .encode(&mut bytes)
        .unwrap();
        let left = SEGMENT - self.end % SEGMENT;
        if to_u64(bytes.len() + record::BLANK_BYTES) > left {
            let filler = record::blank(u32::try_from(left).unwrap());
            self.segment().write_all_at(&filler, self.end % SEGMENT).unwrap();
            self.end += left;
        }
        self.now_ms += 1;
        let at = i64::try_from(self.end).unwrap();
        record::patch(&mut bytes, offset, at, self.now_ms).unwrap();
        self.segment().write_all_at(&bytes, self.end % SEGMENT).unwrap();
        self.end += to_u64(bytes.len());
        at.cast_unsigned()
    }

    fn config(&self, name: &str, text: &str) {
        fs::write(self.store.join("config").join(name), text).unwrap();
    }

    fn topics(&self, names: &[&str]) {
        let rows: Vec<_> = names
            .iter()
            .map(|name| {
                format!(
                    "\"{name}\":{{\"order\":false,\"perm\":6,\"readQueueNums\":2,\"topicFilterType\":\
                     \"SINGLE_TAG\",\"topicName\":\"{name}\",\"topicSysFlag\":0,\"writeQueueNums\":2}}"
                )
            })
            .collect();
        let version = "\"dataVersion\":{\"counter\":9,\"stateVersion\":0,\"timestamp\":5}";
        let rows = rows.join(",");
        self.config("topics.json", &format!("{{{version},\"topicConfigTable\":{{{rows}}}}}"));
    }
}

fn open(path: &Path) -> Result<Arc<Store>, OpenError> {
    let config = Config {
        segment_size_bytes: SEGMENT,
        flush: FlushMode::Sync,
        disk_refuse_percent: 100,
        ..Config::new(path)
    };
    Store::open(config, Clock::system())
}

fn queue(store: &Store, topic: &str, queue_id: u32) -> Arc<Queue> {
    store.topic(topic).unwrap().queue(queue_id).unwrap()
}

fn range(store: &Store, topic: &str, queue_id: u32) -> (u64, u64) {
    let queue = queue(store, topic, queue_id);
    (queue.min().unwrap().0, queue.max().unwrap().0)
}

#[test]
fn log_and_configuration_are_taken_over_and_written_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut java = Java::new(dir.path());
    let mut places = Vec::new();
    for offset in 0..300 {
        places.push(java.put("T", (0, offset), 0));
        java.put("T", (1, offset), sys_flag::TRANSACTION_COMMIT);
    }
    // In no queue, and without a queue offset of its own.
    java.put("T", (0, 0), sys_flag::TRANSACTION_PREPARED);
    java.put("T", (0, 0), sys_flag::TRANSACTION_ROLLBACK);
    java.put("Forgotten", (3, 0), 0);
    java.topics(&["T", "Empty"]);
    java.config(
        "subscriptionGroup.json",
        "{\"dataVersion\":{\"counter\":2},\"subscriptionGroupTable\":{\"g\":{\"groupName\":\"g\",\
         \"consumeEnable\":false,\"retryMaxTimes\":3}}}",
    );
    java.config(
        "consumerOffset.json",
        "{\"offsetTable\":{\"T@g\":{0:120,1:999},\"Gone@g\":{0:1}}}",
    );
    let found = check(dir.path(), 0).unwrap();
    assert_eq!((found.records, found.topics, found.groups, found.offsets), (603, 3, 1, 2));
    assert!(found.segments > 2 && found.concerns.is_empty(), "{:?}", found.concerns);

    let store = open(dir.path()).unwrap();
    assert_eq!((range(&store, "T", 0), range(&store, "T", 1)), ((0, 300), (0, 300)));
    assert_eq!((range(&store, "Empty", 0), range(&store, "Forgotten", 3)), ((0, 0), (0, 1)));
    // Behind a record that keeps RocketMQ from passing over the first of ours.
    assert!((LogOffset(java.end + 1)..LogOffset(java.end + 200)).contains(&store.recovery().end));
    assert_eq!((store.recovery().cut.clone(), store.topic_version().counter), (None, 9));
    let topic = store.topic("T").unwrap();
    let at = |queue_id| store.committed_offset("g", topic.id, queue_id).unwrap();
    assert_eq!((at(0), at(1)), (Some(QueueOffset(120)), Some(QueueOffset(300))));
    let group = store.group("g").unwrap();
    assert_eq!((group.consume_enable, group.retry_max_times), (false, 3));
    assert!(store.record_at(LogOffset(places[250])).unwrap().is_some());
    // The segment that is written to must not be sparse.
    let last = dir.path().join(format!("commitlog/{:020}", java.end / SEGMENT * SEGMENT));
    assert!(fs::metadata(last).unwrap().blocks() * 512 >= SEGMENT);
    store.close();
    let files = Files::read(dir.path()).unwrap();
    let offsets = &files.offsets.as_ref().unwrap().offset_table;
    assert_eq!(offsets["T@g"], [(0, 120), (1, 300)].into());
    assert_eq!(files.topics.as_ref().unwrap().topic_config_table.len(), 3);
    assert!(files.groups.as_ref().unwrap().subscription_group_table.contains_key("g"));
    let mut rest = files;
    rest.forget_ours();
    assert!(rest.is_empty());
    assert!(dir.path().join("config/topics.json.bak").exists());
}

#[test]
fn what_rocketmq_writes_later_is_taken_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut java = Java::new(dir.path());
    for offset in 0..10 {
        java.put("T", (0, offset), 0);
    }
    java.topics(&["T"]);
    let store = open(dir.path()).unwrap();
    java.end = store.recovery().end.0;
    store.close();
    for offset in 10..15 {
        java.put("T", (0, offset), 0);
    }
    for offset in 0..3 {
        java.put("New", (1, offset), 0);
    }
    java.topics(&["T", "New"]);
    java.config("consumerOffset.json", "{\"offsetTable\":{\"T@g\":{0:14},\"New@g\":{1:2}}}");
    let store = open(dir.path()).unwrap();
    assert_eq!((range(&store, "T", 0), range(&store, "New", 1)), ((0, 15), (0, 3)));
    let offset = |topic: &str, queue_id| {
        store.committed_offset("g", store.topic(topic).unwrap().id, queue_id).unwrap()
    };
    assert_eq!((offset("T", 0), offset("New", 1)), (Some(QueueOffset(14)), Some(QueueOffset(2))));
    // Our own files change nothing.
    store.commit_offset("g", &store.topic("T").unwrap(), 0, QueueOffset(15));
    store.close();
    let store = open(dir.path()).unwrap();
    let topic = store.topic("T").unwrap().id;
    assert_eq!(store.committed_offset("g", topic, 0).unwrap(), Some(QueueOffset(15)));
}

#[test]
fn topics_that_were_deleted_stay_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let mut java = Java::new(dir.path());
    for offset in 0..5 {
        java.put("Again", (0, offset), 0);
    }
    java.put("Gone", (0, 0), 0);
    java.put("Again", (0, 0), 0);
    java.put("Again", (1, 0), 0);
    java.topics(&["Again"]);
    fs::create_dir_all(dir.path().join("consumequeue/Again")).unwrap();
    let store = open(dir.path()).unwrap();
    assert!(store.topic("Gone").is_none());
    assert_eq!((range(&store, "Again", 0), range(&store, "Again", 1)), ((0, 1), (0, 1)));
}

#[test]
fn queue_whose_messages_have_expired_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut java = Java::new(dir.path());
    java.end = 3 * SEGMENT;
    java.put("T", (0, 40), 0);
    java.topics(&["T"]);
    java.config("consumerOffset.json", "{\"offsetTable\":{\"T@g\":{1:500}}}");
    let units = dir.path().join("consumequeue/T/1");
    fs::create_dir_all(&units).unwrap();
    let mut file = vec![0; 20 * 1000];
    file[..20 * 500].fill(1);
    fs::write(units.join(format!("{:020}", 0)), file).unwrap();
    for _ in 0..2 {
        let store = open(dir.path()).unwrap();
        assert_eq!((range(&store, "T", 0), range(&store, "T", 1)), ((40, 41), (500, 500)));
        let topic = store.topic("T").unwrap().id;
        assert_eq!(store.committed_offset("g", topic, 1).unwrap(), Some(QueueOffset(500)));
        store.close();
    }
}

#[test]
fn damage_that_was_durable_stays_and_a_torn_tail_goes() {
    for durable in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let mut java = Java::new(dir.path());
        let places: Vec<_> = (0..20).map(|offset| java.put("T", (0, offset), 0)).collect();
        java.topics(&["T"]);
        java.segment().write_all_at(&[0xFF; 40], places[12]).unwrap();
        let checkpoint = if durable { java.now_ms } else { java.now_ms - 15 };
        fs::write(dir.path().join("checkpoint"), checkpoint.to_be_bytes()).unwrap();
        fs::write(dir.path().join("abort"), b"").unwrap();
        let store = open(dir.path()).unwrap();
        let expected = if durable { (0, 20) } else { (0, 12) };
        assert_eq!(range(&store, "T", 0), expected, "durable: {durable}");
        assert_eq!(store.recovery().damaged.len(), usize::from(durable));
        assert_eq!(store.recovery().cut.is_some(), !durable);
    }
}

#[test]
fn without_configuration_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut java = Java::new(dir.path());
    java.put("T", (0, 0), 0);
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("mqtool store repair"), "{error}");
    fs::create_dir_all(dir.path().join("config/topics")).unwrap();
    fs::write(dir.path().join("config/topics/CURRENT"), b"MANIFEST-1").unwrap();
    let error = open(dir.path()).unwrap_err().to_string();
    assert!(error.contains("rocksDBConfigToJson"), "{error}");
    java.topics(&["T"]);
    assert_eq!(range(&open(dir.path()).unwrap(), "T", 0), (0, 1));
}

#[test]
fn lost_index_beside_our_own_files_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut java = Java::new(dir.path());
    java.put("T", (0, 0), 0);
    java.topics(&["T"]);
    open(dir.path()).unwrap().close();
    fs::remove_dir_all(dir.path().join("rocksdb")).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::IndexMissing { .. })));
}
