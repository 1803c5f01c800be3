//! Random operations against a model of vectors and maps.
//!
//! `BASALTMQ_TEST_SEED` repeats a run; `BASALTMQ_TEST_RUNS` makes more of them.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use storage::{AppendBatch, Appended, Boundary, LogOffset, QueueOffset, Store};

use crate::common::{Message, Scratch, append, push, read_all, sync_flush, topic, wait};

const TOPICS: [&str; 3] = ["A", "B", "C"];
const QUEUES: u32 = 2;
const STEPS: usize = 60;

/// SplitMix64: small, and the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// What the store should hold.
#[derive(Default)]
struct Model {
    /// Per existing topic and queue: the messages with their store times.
    queues: BTreeMap<(&'static str, u32), Vec<(Message, Appended)>>,
    /// Offsets that were committed, oldest first, since the last clean point.
    offsets: HashMap<(&'static str, u32), Vec<QueueOffset>>,
    sent: u64,
}

struct Run {
    scratch: Scratch,
    store: Arc<Store>,
    model: Model,
    random: Random,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let mut scratch = Scratch::new();
        scratch.config.segment_size_bytes = 64 << 10;
        scratch.config.slice_messages = 150;
        scratch.config.tail_entries = usize::try_from(random.below(4) * 64).unwrap();
        scratch.config.checkpoint_log_bytes = 30_000 + random.below(100_000);
        if random.below(2) == 0 {
            sync_flush(&mut scratch.config);
        }
        let store = scratch.open();
        Self { scratch, store, model: Model::default(), random }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0 => self.delete_topic(),
            1 | 2 => self.commit_offset(),
            3 => self.reopen(),
            4 => self.crash(),
            5 => self.scratch.hand.advance(i64::try_from(self.random.below(100)).unwrap() - 10),
            6 => self.check(),
            _ => self.append(),
        }
    }

    fn append(&mut self) {
        let mut batch = AppendBatch::default();
        let mut messages = Vec::new();
        for _ in 0..1 + self.random.below(60) {
            let name = TOPICS[usize::try_from(self.random.below(3)).unwrap()];
            let queue = u32::try_from(self.random.below(QUEUES.into())).unwrap();
            let topic = self.store.topic(name).unwrap_or_else(|| topic(&self.store, name, QUEUES));
            let large = self.random.below(20) == 0;
            let len = self.random.below(if large { 40_000 } else { 300 });
            let message = Message {
                key: format!("key{}", self.model.sent),
                tag: ["", "x", "y"][usize::try_from(self.random.below(3)).unwrap()].to_owned(),
                body: vec![b'b'; usize::try_from(len).unwrap()],
            };
            self.model.sent += 1;
            push(&mut batch, &topic, queue, &message).unwrap();
            messages.push((name, queue, message));
        }
        append(&self.store, &mut batch);
        let last = batch.results().last().unwrap();
        let end = LogOffset(last.log_offset.0 + u64::from(last.size));
        wait(self.store.wait_confirmed(end)).unwrap();
        for ((name, queue, message), appended) in messages.into_iter().zip(batch.results()) {
            let queue = self.model.queues.entry((name, queue)).or_default();
            assert_eq!(appended.queue_offset, QueueOffset(queue.len() as u64));
            queue.push((message, *appended));
        }
    }

    fn delete_topic(&mut self) {
        let name = TOPICS[usize::try_from(self.random.below(3)).unwrap()];
        let deleted = wait(self.store.delete_topic(name));
        assert_eq!(deleted.is_ok(), self.model.queues.keys().any(|(of, _)| *of == name));
        self.model.queues.retain(|(of, _), _| *of != name);
        self.model.offsets.retain(|(of, _), _| *of != name);
    }

    fn commit_offset(&mut self) {
        let queues: Vec<_> = self.model.queues.iter().collect();
        if queues.is_empty() {
            return;
        }
        let picked = usize::try_from(self.random.below(queues.len() as u64)).unwrap();
        let (&(name, queue), messages) = queues[picked];
        let offset = QueueOffset(self.random.below(messages.len() as u64 + 1));
        let topic = self.store.topic(name).unwrap();
        self.store.commit_offset("G", &topic, queue, offset);
        self.model.offsets.entry((name, queue)).or_default().push(offset);
    }

    fn reopen(&mut self) {
        self.store.close();
        self.store = self.scratch.open();
        let recovery = self.store.recovery();
        assert_eq!((recovery.replayed_records, &recovery.cut), (0, &None));
        for offsets in self.model.offsets.values_mut() {
            offsets.drain(..offsets.len() - 1);
        }
        self.check();
    }

    /// Goes on with the files as they are now, without closing.
    fn crash(&mut self) {
        let image = self.scratch.crash_image();
        self.store.close();
        self.scratch = image;
        self.store = self.scratch.open();
        let recovery = self.store.recovery();
        assert_eq!((recovery.removed_entries, &recovery.cut), (0, &None));
        assert_eq!(recovery.damaged, []);
        // The last moment's commits may be lost; no other offset may appear.
        for (&(name, queue), offsets) in &mut self.model.offsets {
            let topic = self.store.topic(name).unwrap();
            let kept = self.store.committed_offset("G", topic.id, queue).unwrap();
            assert!(kept.is_none_or(|kept| offsets.contains(&kept)), "{kept:?}");
            *offsets = kept.into_iter().collect();
        }
        self.model.offsets.retain(|_, offsets| !offsets.is_empty());
        self.check();
    }

    fn check(&mut self) {
        for (&(name, id), messages) in &self.model.queues {
            let topic = self.store.topic(name).unwrap();
            let queue = topic.queue(id).unwrap();
            let expected: Vec<_> = messages.iter().map(|(message, _)| message.clone()).collect();
            let from = self.random.below(messages.len() as u64);
            assert_eq!(queue.max().unwrap(), QueueOffset(messages.len() as u64));
            assert!(read_all(&queue, 0) == expected, "{name}/{id} from the start");
            assert!(read_all(&queue, from) == expected[usize::try_from(from).unwrap()..]);
            for _ in 0..10 {
                let at = usize::try_from(self.random.below(messages.len() as u64)).unwrap();
                let (message, appended) = &messages[at];
                let found = self.store.query_key(name, &message.key, 8, 0, i64::MAX).unwrap();
                assert_eq!(found.records.len(), 1, "{name} {}", message.key);
                let record = self.store.record_at(appended.log_offset).unwrap();
                assert_eq!(record.as_ref(), found.records.first());
                let time = appended.store_timestamp;
                let lower = messages.partition_point(|(_, at)| at.store_timestamp < time);
                let found = queue.offset_at_time(time, Boundary::Lower).unwrap();
                assert_eq!(found, QueueOffset(lower as u64), "{name}/{id} at {time}");
            }
            let offset = self.store.committed_offset("G", topic.id, id).unwrap();
            let expected = self.model.offsets.get(&(name, id)).and_then(|all| all.last());
            assert_eq!(offset.as_ref(), expected);
        }
        for name in TOPICS {
            let exists = self.model.queues.keys().any(|(of, _)| *of == name);
            assert_eq!(self.store.topic(name).is_some(), exists, "{name}");
        }
    }
}

#[test]
fn store_does_what_the_model_does() {
    let seed = std::env::var("BASALTMQ_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
    let runs: u64 = std::env::var("BASALTMQ_TEST_RUNS").map_or(8, |runs| runs.parse().unwrap());
    let first = seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    for seed in (0..if seed.is_some() { 1 } else { runs }).map(|i| first.wrapping_add(i)) {
        println!("BASALTMQ_TEST_SEED={seed}");
        let mut run = Run::new(seed);
        for _ in 0..STEPS {
            run.step();
        }
        run.check();
    }
}
