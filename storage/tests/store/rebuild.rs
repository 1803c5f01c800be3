//! Derived families that RocksDB cannot read are rebuilt from the log; primary ones are a refusal.

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use storage::{AppendBatch, Mode, OpenError, Queue, QueueOffset, ReadError, Store};

use crate::common::{ANY, Scratch, limits, numbered, push, read_all, send, topic};

const QUEUES: u32 = 3;
const MESSAGES: u64 = 3_000;

/// A closed store whose index is in table files, and these files by family.
fn stored() -> (Scratch, Vec<(String, PathBuf)>) {
    let mut scratch = Scratch::new();
    scratch.config.tail_entries = 0;
    let store = scratch.open();
    let first = topic(&store, "T", QUEUES);
    for queue in 0..QUEUES {
        send(&store, &first, queue, &numbered(&format!("q{queue}-"), 0..MESSAGES));
        store.commit_offset("G", &first, queue, QueueOffset(100));
    }
    store.close();
    drop((store, first));
    // What is in the WAL goes to tables at the next start.
    scratch.open().close();
    let dir = scratch.path().join("rocksdb");
    let options = rocksdb::Options::default();
    let names = rocksdb::DB::list_cf(&options, &dir).unwrap();
    let db = rocksdb::DB::open_cf_for_read_only(&options, &dir, names, false).unwrap();
    let files = db.live_files().unwrap();
    let files = files
        .into_iter()
        .map(|file| (file.column_family_name, dir.join(file.name.trim_start_matches('/'))));
    (scratch, files.collect())
}

/// Waits until `read` is not told any more that the index is lost or being rebuilt.
fn rebuilt<T>(mut read: impl FnMut() -> Result<T, ReadError>) -> T {
    let began = Instant::now();
    loop {
        match read() {
            Ok(found) => return found,
            Err(ReadError::Lost { .. } | ReadError::Rebuilding) => {}
            Err(error) => panic!("{error}"),
        }
        assert!(began.elapsed() < Duration::from_secs(20), "it takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn first_read(queue: &Queue) -> Result<storage::Read, ReadError> {
    queue.read(QueueOffset(0), limits(32), Mode::MayBlock, ANY)
}

/// Damages the data of a family's tables; their ends, which are read at start, stay whole.
fn damage(files: &[(String, PathBuf)], family: &str) {
    let mut damaged = 0;
    for (_, path) in files.iter().filter(|(of, _)| of == family) {
        let mut bytes = fs::read(path).unwrap();
        let end = bytes.len() / 2;
        bytes[..end].iter_mut().step_by(50).for_each(|byte| *byte ^= 0x10);
        fs::write(path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0, "{family} has no tables");
}

fn check_everything(store: &Arc<Store>) {
    let topic = store.topic("T").unwrap();
    for queue_id in 0..QUEUES {
        let expected = numbered(&format!("q{queue_id}-"), 0..MESSAGES);
        assert_eq!(read_all(&topic.queue(queue_id).unwrap(), 0)[..expected.len()], expected[..]);
        for i in (0..MESSAGES).step_by(100) {
            let key = format!("q{queue_id}-{i}");
            let found = store.query_key("T", &key, 8, 0, i64::MAX).unwrap();
            assert_eq!(found.records.len(), 1, "{key}");
        }
        let committed = store.committed_offset("G", topic.id, queue_id).unwrap();
        assert_eq!(committed, Some(QueueOffset(100)));
    }
}

#[test]
fn consume_queues_are_rebuilt_while_the_store_serves() {
    let (scratch, files) = stored();
    damage(&files, "consume_queue");
    let store = scratch.open();
    let other = topic(&store, "other", 1);
    send(&store, &other, 0, &numbered("o", 0..10));
    let first = store.topic("T").unwrap();
    let queue = first.queue(0).unwrap();
    let lost = first_read(&queue).unwrap_err();
    assert!(matches!(lost, ReadError::Lost { .. }), "{lost}");
    // Queues in memory go on.
    send(&store, &other, 0, &numbered("o", 10..20));
    assert_eq!(read_all(&other.queue(0).unwrap(), 0), numbered("o", 0..20));
    rebuilt(|| first_read(&queue));
    check_everything(&store);
    let more = send(&store, &first, 0, &numbered("q0-", MESSAGES..MESSAGES + 100));
    assert_eq!(more[0].queue_offset, QueueOffset(MESSAGES));
    store.health().unwrap();
    store.close();
    drop((store, first, other, queue));
    let store = scratch.open();
    assert_eq!(store.recovery().damaged, []);
    check_everything(&store);
    assert_eq!(read_all(&store.topic("other").unwrap().queue(0).unwrap(), 0).len(), 20);
}

#[test]
fn key_index_that_cannot_be_read_at_start_is_rebuilt_before_it_serves() {
    let (scratch, files) = stored();
    damage(&files, "key_index");
    let store = scratch.open();
    rebuilt(|| store.query_key("T", "q0-0", 8, 0, i64::MAX));
    check_everything(&store);
}

#[test]
fn rebuild_that_was_interrupted_is_done_again_at_the_next_start() {
    let (scratch, files) = stored();
    damage(&files, "consume_queue");
    let store = scratch.open();
    let queue = store.topic("T").unwrap().queue(0).unwrap();
    first_read(&queue).unwrap_err();
    store.close();
    drop((store, queue));
    let store = scratch.open();
    let topic = store.topic("T").unwrap();
    let message = &numbered("q1-", MESSAGES..MESSAGES + 1)[0];
    let mut batch = AppendBatch::default();
    rebuilt(|| match push(&mut batch, &topic, 1, message) {
        Err(storage::AppendError::Read(error)) => Err(error),
        Err(error) => panic!("{error}"),
        Ok(()) => Ok(()),
    });
    store.append(&mut batch).unwrap();
    assert_eq!(topic.queue(1).unwrap().max().unwrap(), QueueOffset(MESSAGES + 1));
    check_everything(&store);
}

#[test]
fn topics_that_cannot_be_read_are_a_refusal_that_names_the_repair() {
    let (scratch, files) = stored();
    damage(&files, "topic");
    let error = Store::open(scratch.config.clone(), scratch.clock.clone()).unwrap_err();
    assert!(matches!(error, OpenError::Read(_) | OpenError::Index { .. }), "{error}");
    assert!(error.to_string().contains("mqtool store repair"), "{error}");
}
