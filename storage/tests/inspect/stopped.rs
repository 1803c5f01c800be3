//! A store with a little of everything that was closed, and checking it.

use std::{collections::BTreeSet, fs::File, os::unix::fs::FileExt, sync::Arc};

use rocksdb::{ColumnFamilyDescriptor, DB, Options};
use storage::{
    Appended, GroupConfig, LogOffset, QueueOffset, Store,
    inspect::{self, Change, Kind, Problem, Summary},
};

use crate::common::{Message, Scratch, copy, send, topic, wait};

/// Messages of each queue.
pub(crate) const COUNT: u64 = 300;
pub(crate) const QUEUES: u32 = 3;
const FAMILIES: [&str; 6] =
    ["default", "topic", "group", "consume_queue", "key_index", "consumer_offset"];

/// A closed store, and what was sent to each queue of topic T.
pub(crate) struct Stopped {
    pub(crate) scratch: Scratch,
    pub(crate) sent: Vec<Vec<(Message, Appended)>>,
}

fn message(queue: u32, number: u64) -> Message {
    let mut message = Message::new(format!("k{queue}-{number}"), vec![b'a'; 700]);
    message.body.extend_from_slice(format!("body {queue} {number}").as_bytes());
    message.tag = format!("t{}", number % 3);
    message
}

impl Stopped {
    /// Several segments and slices, a deleted topic, one that was created again, a group, offsets.
    pub(crate) fn new() -> Self {
        let mut scratch = Scratch::new();
        scratch.config.segment_size_bytes = 256 << 10;
        let store = scratch.open();
        let first = topic(&store, "T", QUEUES);
        let gone = topic(&store, "Gone", 1);
        let again = topic(&store, "Again", 1);
        let mut sent = vec![Vec::new(); QUEUES as usize];
        for round in 0..COUNT / 10 {
            for queue in 0..QUEUES {
                let messages: Vec<_> =
                    (round * 10..round * 10 + 10).map(|number| message(queue, number)).collect();
                let results = send(&store, &first, queue, &messages);
                sent[queue as usize].extend(messages.into_iter().zip(results));
            }
            send(&store, &gone, 0, &[Message::new("gone", "gone")]);
            send(&store, &again, 0, &[Message::new("old", "old")]);
        }
        wait(store.delete_topic("Gone")).unwrap();
        wait(store.delete_topic("Again")).unwrap();
        let again = topic(&store, "Again", 1);
        send(&store, &again, 0, &[Message::new("new", "new")]);
        wait(store.put_group(GroupConfig::new("G"))).unwrap();
        store.commit_offset("G", &first, 0, QueueOffset(COUNT));
        store.commit_offset("G", &first, 1, QueueOffset(7));
        store.close();
        Self { scratch, sent }
    }

    /// As it is after a copy of everything.
    pub(crate) fn copy(&self) -> Self {
        let image = Scratch::new();
        let path = image.dir.path().join("store");
        copy(self.scratch.path(), &path);
        let config = storage::Config { path, ..self.scratch.config.clone() };
        Self { scratch: Scratch { config, ..image }, sent: self.sent.clone() }
    }

    pub(crate) fn at(&self, queue: u32, number: u64) -> &Appended {
        &self.sent[queue as usize][usize::try_from(number).unwrap()].1
    }

    /// Overwrites bytes of the log.
    pub(crate) fn write_log(&self, offset: u64, bytes: &[u8]) {
        let segment = self.scratch.config.segment_size_bytes;
        let name = format!("commitlog/{:020}", offset - offset % segment);
        let file = File::options().write(true).open(self.scratch.path().join(name)).unwrap();
        file.write_all_at(bytes, offset % segment).unwrap();
    }

    /// Changes RocksDB behind the store's back.
    pub(crate) fn with_rows(&self, change: impl FnOnce(&DB)) {
        let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
        let path = self.scratch.path().join("rocksdb");
        let db = DB::open_cf_descriptors(&Options::default(), path, families).unwrap();
        change(&db);
        for name in FAMILIES {
            db.flush_cf(db.cf_handle(name).unwrap()).unwrap();
        }
    }

    /// The rows of a family.
    pub(crate) fn rows(db: &DB, family: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let family = db.cf_handle(family).unwrap();
        let rows = db.iterator_cf(family, rocksdb::IteratorMode::Start);
        rows.map(|row| row.unwrap()).map(|(key, value)| (key.into(), value.into())).collect()
    }

    pub(crate) fn verify(&self) -> (Summary, Vec<Problem>) {
        let mut found = Vec::new();
        let summary =
            inspect::verify(self.scratch.path(), &mut |problem| found.push(problem)).unwrap();
        let problems = found.iter().filter(|problem| problem.kind.is_problem()).count();
        assert_eq!(summary.problems, problems as u64);
        (summary, found)
    }

    /// Checks that these kinds of problems are found and no other. Returns them.
    #[track_caller]
    pub(crate) fn has(&self, kinds: &[Kind]) -> Vec<Problem> {
        let (_, mut found) = self.verify();
        found.retain(|problem| problem.kind.is_problem());
        let wanted: BTreeSet<_> = kinds.iter().copied().collect();
        let kinds: BTreeSet<_> = found.iter().map(|problem| problem.kind).collect();
        assert_eq!(kinds, wanted, "{found:#?}");
        found
    }

    /// Repairs the store, after a dry run that must change nothing, and checks that no problem is
    /// left.
    #[track_caller]
    pub(crate) fn repair(&self) -> Vec<Change> {
        let before = self.verify();
        let mut planned = Vec::new();
        let path = self.scratch.path();
        let dry = inspect::repair(path, None, &mut |change| planned.push(change)).unwrap();
        assert_eq!(dry.after, None);
        assert_eq!(self.verify(), before, "the dry run changed something");
        let mut done = Vec::new();
        let clock = Some(&self.scratch.clock);
        let repaired = inspect::repair(path, clock, &mut |change| done.push(change)).unwrap();
        assert!(!planned.is_empty(), "{done:#?}");
        let after = repaired.after.unwrap();
        let (summary, found) = self.verify();
        assert_eq!(summary.problems, 0, "{found:#?}\n{done:#?}");
        assert_eq!(after.problems, 0);
        done
    }

    /// Opens the store and checks that every message is where it was, but for the lost ones.
    #[track_caller]
    pub(crate) fn serves_all_but(&self, lost: &[(u32, u64)]) -> Arc<Store> {
        let store = self.scratch.open();
        let topic = store.topic("T").unwrap();
        for queue in 0..QUEUES {
            let sent = &self.sent[queue as usize];
            let of = topic.queue(queue).unwrap();
            for (number, (message, appended)) in (0..).zip(sent) {
                let offset = QueueOffset(number);
                let is_lost = lost.contains(&(queue, number));
                let entry = of.entry(offset).unwrap();
                assert_eq!(entry.is_some(), !is_lost, "queue {queue} offset {number}");
                let found = store.query_key("T", &message.key, 8, 0, i64::MAX).unwrap();
                assert_eq!(found.records.len(), usize::from(!is_lost), "{}", message.key);
                if !is_lost {
                    assert_eq!(entry.unwrap().log_offset, appended.log_offset);
                    let bytes = store.record_at(appended.log_offset).unwrap().unwrap();
                    let record = protocol::record::RecordView::parse(&bytes).unwrap();
                    assert_eq!(Message::of(&record), *message);
                }
            }
            assert_eq!(of.max().unwrap(), QueueOffset(COUNT), "queue {queue}");
        }
        store
    }

    /// As [`Stopped::serves_all_but`] for a store whose topics, groups and offsets were kept,
    /// salvaged or exported.
    #[track_caller]
    pub(crate) fn is_whole_but(&self, lost: &[(u32, u64)]) {
        let store = self.serves_all_but(lost);
        let topic = store.topic("T").unwrap();
        assert!(store.group("G").is_some());
        let offset = |queue| store.committed_offset("G", topic.id, queue).unwrap();
        assert_eq!(offset(0), Some(QueueOffset(COUNT)));
        assert_eq!(offset(1), Some(QueueOffset(7)));
        let again = store.topic("Again").unwrap();
        assert_eq!(again.queue(0).unwrap().max().unwrap(), QueueOffset(1));
        assert!(store.topic("Gone").is_none());
        let next = send(&store, &topic, 2, &[message(2, COUNT)])[0];
        assert_eq!(next.queue_offset, QueueOffset(COUNT));
        store.close();
    }

    pub(crate) fn end(&self) -> LogOffset {
        let (summary, _) = self.verify();
        LogOffset(summary.log_end)
    }
}
