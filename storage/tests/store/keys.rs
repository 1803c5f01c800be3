//! Finding messages by key.

use bytes::Bytes;
use protocol::record::RecordView;
use storage::{AppendBatch, LogOffset, Store};

use crate::common::{Message, Scratch, T0, numbered, push, send, topic, wait};

const ALWAYS: (i64, i64) = (0, i64::MAX);

fn find(store: &Store, topic: &str, key: &str, max: usize, time: (i64, i64)) -> Vec<Message> {
    let query = store.query_key(topic, key, max, time.0, time.1).unwrap();
    let message = |record: &Bytes| Message::of(&RecordView::parse(record).unwrap());
    query.records.iter().map(message).collect()
}

#[test]
fn every_key_is_found_across_slices_and_reopening() {
    let mut scratch = Scratch::new();
    scratch.config.slice_messages = 100;
    let messages = numbered("k", 0..1_050);
    let store = scratch.open();
    let first = topic(&store, "T", 3);
    for (i, part) in messages.chunks(7).enumerate() {
        send(&store, &first, u32::try_from(i % 3).unwrap(), part);
    }
    let check = |store: &Store| {
        for message in &messages {
            assert_eq!(&find(store, "T", &message.key, 32, ALWAYS), std::slice::from_ref(message));
        }
        assert_eq!(find(store, "T", "k1050", 32, ALWAYS), []);
        assert_eq!(find(store, "U", "k1", 32, ALWAYS), []);
    };
    check(&store);
    let query = store.query_key("T", "k1", 32, 0, i64::MAX).unwrap();
    assert_eq!((query.indexed_to_time_ms, query.indexed_to), (T0, store.confirmed()));
    drop(first);
    store.close();
    check(&scratch.open());
}

#[test]
fn all_keys_and_the_unique_key_lead_to_a_message() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let host = "127.0.0.1:1".parse().unwrap();
    let record = protocol::record::NewRecord {
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
        // In pieces that begin and end anywhere.
        properties: &["KEYS\u{1}order-1 or", "der-2\u{2}UNIQ_KEY\u{1}7F", "0001\u{2}"],
    };
    let mut batch = AppendBatch::default();
    batch.push(&topic, 0, &record).unwrap();
    store.append(&mut batch).unwrap();
    for key in ["order-1", "order-2", "7F0001"] {
        assert_eq!(find(&store, "T", key, 32, ALWAYS).len(), 1, "{key}");
    }
    assert_eq!(find(&store, "T", "order", 32, ALWAYS), []);
}

#[test]
fn newest_come_first_and_the_limit_holds() {
    let mut scratch = Scratch::new();
    scratch.config.slice_messages = 10;
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    for i in 0..35 {
        send(&store, &topic, 0, &[Message::new("same", format!("{i}"))]);
    }
    let bodies = |max| -> Vec<String> {
        let found = find(&store, "T", "same", max, ALWAYS);
        found.into_iter().map(|message| String::from_utf8(message.body).unwrap()).collect()
    };
    let newest: Vec<_> = (0..35).rev().map(|i| i.to_string()).collect();
    assert_eq!(bodies(64), newest);
    assert_eq!(bodies(12), newest[..12]);
    assert_eq!(bodies(0), [""; 0]);
}

#[test]
fn time_range_is_inclusive() {
    let mut scratch = Scratch::new();
    scratch.config.slice_messages = 5;
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    for i in 0..20 {
        send(&store, &topic, 0, &[Message::new("same", format!("{i}"))]);
        scratch.hand.advance(10);
    }
    let count = |begin, end| find(&store, "T", "same", 64, (T0 + begin, T0 + end)).len();
    assert_eq!(count(0, 190), 20);
    assert_eq!(count(50, 80), 4);
    assert_eq!(count(51, 79), 2);
    assert_eq!(count(51, 59), 0);
    assert_eq!(count(200, 300), 0);
}

#[test]
fn key_of_another_topic_is_not_found() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (one, two) = (topic(&store, "One", 1), topic(&store, "Two", 1));
    send(&store, &one, 0, &[Message::new("k", "one")]);
    send(&store, &two, 0, &[Message::new("k", "two")]);
    assert_eq!(find(&store, "One", "k", 32, ALWAYS), [Message::new("k", "one")]);
    assert_eq!(find(&store, "Two", "k", 32, ALWAYS), [Message::new("k", "two")]);
}

#[test]
fn unconfirmed_message_is_not_found() {
    let mut scratch = Scratch::new();
    crate::common::sync_flush(&mut scratch.config);
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let mut batch = AppendBatch::default();
    for i in 0..100 {
        batch.clear();
        let key = format!("k{i}");
        push(&mut batch, &topic, 0, &Message::new(key.clone(), "body")).unwrap();
        store.append(&mut batch).unwrap();
        let appended = batch.results()[0];
        let end = LogOffset(appended.log_offset.0 + u64::from(appended.size));
        let found = find(&store, "T", &key, 32, ALWAYS).len();
        assert!(found == 0 || store.confirmed() >= end, "shown too early");
        wait(store.wait_confirmed(end)).unwrap();
        assert_eq!(find(&store, "T", &key, 32, ALWAYS).len(), 1);
    }
}
