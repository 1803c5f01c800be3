//! Kill -9: a child process appends, says what was acknowledged, and is killed.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use protocol::{clock::Clock, record::RecordView};
use storage::{AppendBatch, Config, LogOffset, Mode, QueueOffset, Store, Topic};

use crate::common::{ANY, Message, append, limits, push, sync_flush, topic, wait};

const DIR: &str = "BASALTMQ_TEST_CHILD_DIR";
const SYNC: &str = "BASALTMQ_TEST_CHILD_SYNC";
const ROUND: &str = "BASALTMQ_TEST_CHILD_ROUND";
const QUEUES: u32 = 3;

fn config(dir: &Path, sync: bool) -> Config {
    let mut config = Config::new(dir);
    config.segment_size_bytes = 1 << 20;
    config.disk_force_clean_percent = 100;
    config.disk_refuse_percent = 100;
    config.slice_messages = 2_000;
    config.tail_entries = 256;
    config.checkpoint_log_bytes = 1 << 20;
    config.block_cache_bytes = 1 << 20;
    if sync {
        sync_flush(&mut config);
    }
    config
}

/// The body of the child process; does nothing in an ordinary test run.
#[test]
fn child_process_of_the_kill_test() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let sync = std::env::var(SYNC).unwrap() == "true";
    let round = std::env::var(ROUND).unwrap();
    let store = Store::open(config(Path::new(&dir), sync), Clock::system()).unwrap();
    let topic = topic(&store, "T", QUEUES);
    let mut batch = AppendBatch::default();
    let mut counter = 0_u64;
    loop {
        batch.clear();
        let first = counter;
        for _ in 0..1 + counter % 40 {
            let queue = u32::try_from(counter % u64::from(QUEUES)).unwrap();
            let body = vec![b'x'; usize::try_from(counter * 37 % 900).unwrap()];
            push(&mut batch, &topic, queue, &Message::new(format!("r{round}-{counter}"), body))
                .unwrap();
            counter += 1;
        }
        append(&store, &mut batch);
        let last = batch.results().last().unwrap();
        wait(store.wait_confirmed(LogOffset(last.log_offset.0 + u64::from(last.size)))).unwrap();
        store.commit_offset("G", &topic, 0, batch.results()[0].queue_offset);
        for (i, appended) in batch.results().iter().enumerate() {
            let number = first + i as u64;
            let queue = number % u64::from(QUEUES);
            println!("ACK {queue} {} r{round}-{number}", appended.queue_offset);
        }
    }
}

/// One acknowledged message: queue, queue offset, key.
type Ack = (u32, u64, String);

fn start(dir: &Path, sync: bool, round: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child_process_of_the_kill_test", "--nocapture"])
        .env(DIR, dir)
        .env(SYNC, sync.to_string())
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets the child acknowledge `count` messages, kills it, and returns all that it acknowledged.
fn kill_after(mut child: Child, count: usize) -> Vec<Ack> {
    let mut acks = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let Ok(line) = line else { break };
        let words: Vec<_> = line.split(' ').collect();
        // The last line may be cut in the middle; then it was not acknowledged.
        if let ["ACK", queue, offset, key] = words[..]
            && let (Ok(queue), Ok(offset)) = (queue.parse(), offset.parse())
        {
            acks.push((queue, offset, key.to_owned()));
        }
        if acks.len() == count {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(acks.len() >= count, "the child died by itself after {} messages", acks.len());
    acks.truncate(acks.len() - 1);
    acks
}

/// Checks every message by offset, the `recent` last ones also by key, of the others a tenth.
fn check(store: &Store, topic: &Arc<Topic>, acks: &[Ack], recent: usize) {
    for (i, (queue, offset, key)) in acks.iter().enumerate() {
        let queue = topic.queue(*queue).unwrap();
        let read = queue.read(QueueOffset(*offset), limits(1), Mode::MayBlock, ANY).unwrap();
        let record = RecordView::parse(&read.slices[0]).unwrap();
        record.verify().unwrap();
        assert_eq!(Message::of(&record).key, *key, "by offset");
        if i + recent < acks.len() && i % 10 != 0 {
            continue;
        }
        let found = store.query_key("T", key, 8, 0, i64::MAX).unwrap().records;
        assert_eq!(found.len(), 1, "by key {key}");
        let found = RecordView::parse(&found[0]).unwrap();
        assert_eq!(u64::try_from(found.queue_offset).unwrap(), *offset);
    }
}

fn kill_repeatedly(sync: bool, rounds: usize, count: usize) {
    let dir = tempfile::tempdir().unwrap();
    let mut acks: Vec<Ack> = Vec::new();
    for round in 0..rounds {
        let child = start(dir.path(), sync, round);
        let new = kill_after(child, count * (round + 1));
        let recent = new.len();
        acks.extend(new);
        let store = Store::open(config(dir.path(), sync), Clock::system()).unwrap();
        assert_eq!(store.recovery().damaged, []);
        assert_eq!(store.recovery().removed_entries, 0);
        let topic = store.topic("T").unwrap();
        check(&store, &topic, &acks, recent);
        let committed = store.committed_offset("G", topic.id, 0).unwrap();
        let max = topic.queue(0).unwrap().max().unwrap();
        assert!(committed.is_none_or(|offset| offset <= max), "{committed:?} of {max}");
        if round % 2 == 0 {
            // Without closing: the next process finds what this one has recovered.
            std::mem::forget(topic);
            drop(store);
        }
    }
}

#[test]
fn every_acknowledged_message_survives_kill() {
    kill_repeatedly(false, 5, 2_000);
}

#[test]
fn every_acknowledged_message_survives_kill_with_sync_flush() {
    kill_repeatedly(true, 3, 600);
}
