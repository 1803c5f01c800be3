//! Tests of failures that only the inside can cause.

use std::sync::{Arc, atomic::Ordering};

use protocol::record::NewRecord;

use super::*;
use crate::{
    AppendBatch, AppendError, FlushMode, LogOffset, Mode, QueueOffset, ReadLimits, StateError,
    Topic, TopicConfig,
};

fn config(dir: &tempfile::TempDir) -> Config {
    Config {
        segment_size_bytes: 1 << 20,
        disk_refuse_percent: 100,
        ..Config::new(dir.path().join("store"))
    }
}

async fn topic(store: &Store) -> Result<Arc<Topic>, StateError> {
    let name = "T".to_owned();
    let config = TopicConfig { name, read_queues: 1, write_queues: 1, ..TopicConfig::default() };
    store.put_topic(config).await
}

fn append(store: &Store, topic: &Arc<Topic>) -> Result<LogOffset, AppendError> {
    let host = "127.0.0.1:1".parse().unwrap();
    let record = NewRecord {
        topic: "",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"body",
        properties: &[],
    };
    let mut batch = AppendBatch::default();
    batch.push(topic, 0, &record)?;
    store.append(&mut batch)?;
    let appended = batch.results()[0];
    Ok(LogOffset(appended.log_offset.0 + u64::from(appended.size)))
}

#[tokio::test]
async fn first_failure_stops_writes_for_good_and_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { flush: FlushMode::Sync, ..config(&dir) };
    let store = Store::open(config.clone(), Clock::system()).unwrap();
    let topic = topic(&store).await.unwrap();
    let end = append(&store, &topic).unwrap();
    store.wait_confirmed(end).await.unwrap();
    let waiting = tokio::spawn({
        let store = Arc::clone(&store);
        async move { store.wait_confirmed(LogOffset(end.0 + 1)).await }
    });
    tokio::task::yield_now().await;
    store.shared.core.fail("the disk is gone");
    store.shared.core.fail("a later reason");

    let poison = store.health().unwrap_err();
    assert_eq!(
        poison.to_string(),
        "the store has stopped accepting writes: the disk is gone; \
         repair the disk and restart the broker"
    );
    assert_eq!(waiting.await.unwrap(), Err(poison.clone()));
    assert_eq!(append(&store, &topic), Err(AppendError::Poisoned(poison.clone())));
    let refused = store.delete_topic("T").await;
    assert_eq!(refused, Err(StateError::Poisoned(poison)));
    let limits = ReadLimits { max_messages: 1, max_bytes: 1 };
    let queue = topic.queue(0).unwrap();
    let read = queue.read(QueueOffset(0), limits, Mode::MayBlock, &|_| true).unwrap();
    assert_eq!(read.messages, 1);
    drop((queue, topic, store));
    // What was acknowledged before is there after a restart.
    let store = Store::open(config, Clock::system()).unwrap();
    assert_eq!(store.confirmed(), end);
    assert_eq!(store.topic("T").unwrap().queue(0).unwrap().max().unwrap(), QueueOffset(1));
}

#[tokio::test]
async fn failed_store_does_not_claim_a_clean_end() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir), Clock::system()).unwrap();
    let topic = topic(&store).await.unwrap();
    append(&store, &topic).unwrap();
    store.shared.core.fail("the disk is gone");
    store.close();
    let (_, mark) = MarkFile::open(&store.shared.core.config.path).unwrap();
    assert!(!mark.unwrap().clean);
}

#[tokio::test]
async fn change_that_waits_is_refused_when_the_store_fails() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir), Clock::system()).unwrap();
    // The writer is held up by the append lock, which deleting takes.
    topic(&store).await.unwrap();
    let shared = Arc::clone(&store.shared);
    let held = std::thread::spawn(move || {
        let appender = shared.appender();
        while shared.core.health.check().is_ok() {
            std::thread::yield_now();
        }
        drop(appender);
    });
    let failing = async {
        tokio::task::yield_now().await;
        store.shared.core.fail("the disk is gone");
    };
    let (deleted, ()) = tokio::join!(store.delete_topic("T"), failing);
    assert!(
        matches!(deleted, Ok(()) | Err(StateError::Poisoned(_))),
        "answered one way or the other: {deleted:?}"
    );
    held.join().unwrap();
}

#[tokio::test]
async fn producers_are_refused_while_the_index_is_far_behind() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir), Clock::system()).unwrap();
    let topic = topic(&store).await.unwrap();
    let pending = &store.shared.input.pending_blocks;
    pending.fetch_add(1 << 20, Ordering::Relaxed);
    let error = append(&store, &topic).unwrap_err();
    assert!(matches!(error, AppendError::Busy { .. }), "{error}");
    pending.fetch_sub(1 << 20, Ordering::Relaxed);
    append(&store, &topic).unwrap();
}

#[tokio::test]
async fn panic_in_a_thread_of_the_store_is_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(config(&dir), Clock::system()).unwrap();
    let thread = spawn(&store.shared, "doomed", || panic!("on purpose")).unwrap();
    thread.join().unwrap();
    assert_eq!(&*store.health().unwrap_err().reason, "the thread doomed has panicked");
}

#[test]
fn later_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir);
    drop(Store::open(config.clone(), Clock::system()).unwrap());
    let index = Index::open(&config.path, 1 << 20).unwrap();
    let mut batch = WriteBatch::default();
    batch.put(b"schema", 7_u32.to_be_bytes());
    index.write(batch, true).unwrap();
    index.close();
    let error = Store::open(config, Clock::system()).unwrap_err().to_string();
    assert!(error.contains("schema version 7, this program knows versions up to 1"), "{error}");
}
