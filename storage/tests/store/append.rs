//! Appending: where records go, what is refused, and who is told.

use std::{sync::Arc, time::Duration};

use storage::{AppendBatch, AppendError, LogOffset, Mode, QueueOffset, ReadStatus, Store};

use crate::common::{
    ANY, Message, Scratch, T0, limits, numbered, push, read, read_all, send, sync_flush, topic,
    wait,
};

#[test]
fn records_are_patched_and_lie_one_behind_the_other() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 2);
    let mut batch = AppendBatch::default();
    for (i, message) in numbered("k", 0..6).iter().enumerate() {
        push(&mut batch, &topic, u32::try_from(i % 2).unwrap(), message).unwrap();
    }
    assert!(batch.results().is_empty());
    store.append(&mut batch).unwrap();
    let mut expected = 0;
    for (i, appended) in batch.results().iter().enumerate() {
        assert_eq!(appended.log_offset, LogOffset(expected));
        assert_eq!(appended.queue_offset, QueueOffset(i as u64 / 2));
        assert_eq!(appended.store_timestamp, T0);
        expected += u64::from(appended.size);
        let record = store.record_at(appended.log_offset).unwrap().unwrap();
        let record = protocol::record::RecordView::parse(&record).unwrap();
        assert_eq!(record.topic, "T");
        assert_eq!(record.queue_id, i32::try_from(i % 2).unwrap());
        assert_eq!(record.queue_offset, i64::try_from(i / 2).unwrap());
        assert_eq!(record.store_timestamp, T0);
        assert_eq!(store.record_at(LogOffset(appended.log_offset.0 + 1)).unwrap(), None);
    }
    assert_eq!(store.appended(), LogOffset(expected));
    assert_eq!(store.confirmed(), LogOffset(expected));
    assert_eq!(store.record_at(LogOffset(expected)).unwrap(), None);
    assert_eq!(store.record_at(LogOffset(u64::MAX)).unwrap(), None);
    batch.clear();
    assert!(batch.is_empty() && batch.results().is_empty());
}

#[test]
fn segments_roll_and_every_record_stays_whole() {
    let mut scratch = Scratch::new();
    scratch.config.segment_size_bytes = 64 << 10;
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let messages: Vec<_> =
        (0..400_usize).map(|i| Message::new(format!("k{i}"), vec![7; i * 97 % 9_000])).collect();
    // Batches that begin in one segment and end several later.
    for part in messages.chunks(40) {
        send(&store, &topic, 0, part);
    }
    let queue = topic.queue(0).unwrap();
    assert_eq!(read_all(&queue, 0), messages);
    assert!(scratch.segments().len() > 10);
    let segment = scratch.config.segment_size_bytes;
    for offset in 0..400 {
        let entry = queue.entry(QueueOffset(offset)).unwrap().unwrap();
        let end = entry.log_offset.0 + u64::from(entry.size);
        assert_eq!(entry.log_offset.0 / segment, (end + 7) / segment, "8 bytes stay free");
    }
    drop((queue, topic));
    store.close();
    assert_eq!(read_all(&scratch.open().topic("T").unwrap().queue(0).unwrap(), 0), messages);
}

#[test]
fn largest_body_is_stored_and_a_larger_record_refused() {
    let mut scratch = Scratch::new();
    scratch.config.segment_size_bytes = 16 << 20;
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let body: Vec<_> = (0..4 << 20).map(|i: u32| i.to_be_bytes()[2]).collect();
    let message = Message::new("big", body);
    send(&store, &topic, 0, std::slice::from_ref(&message));
    assert_eq!(read_all(&topic.queue(0).unwrap(), 0), [message]);
    let mut batch = AppendBatch::default();
    let error = push(&mut batch, &topic, 0, &Message::new("k", vec![0; 5 << 20])).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { limit: 4_259_840, .. }), "{error}");
    assert!(batch.is_empty());
}

#[test]
fn record_that_no_segment_holds_is_refused() {
    let mut scratch = Scratch::new();
    scratch.config.segment_size_bytes = 64 << 10;
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let mut batch = AppendBatch::default();
    let error = push(&mut batch, &topic, 0, &Message::new("", vec![0; 64 << 10])).unwrap_err();
    assert!(matches!(error, AppendError::TooLarge { limit: 65_528, .. }), "{error}");
    // 91 bytes of fields, one of topic, 20 of seal: exactly what fits.
    let largest = Message::new("", vec![1; 65_528 - 112]);
    send(&store, &topic, 0, &[Message::new("", "first"), largest.clone(), largest]);
    assert_eq!(topic.queue(0).unwrap().max().unwrap(), QueueOffset(3));
}

#[test]
fn unknown_queue_is_refused() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 2);
    let mut batch = AppendBatch::default();
    let error = push(&mut batch, &topic, 2, &Message::new("", "")).unwrap_err();
    assert_eq!(error.to_string(), "the topic T has no queue 2; it has 2");
}

#[test]
fn store_time_never_goes_back() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    assert_eq!(send(&store, &topic, 0, &numbered("a", 0..1))[0].store_timestamp, T0);
    scratch.hand.advance(-5_000);
    assert_eq!(send(&store, &topic, 0, &numbered("b", 0..1))[0].store_timestamp, T0);
    drop(topic);
    store.close();
    // Also not when the store is opened again before the clock has caught up.
    let store = scratch.open();
    let topic = store.topic("T").unwrap();
    assert_eq!(send(&store, &topic, 0, &numbered("c", 0..1))[0].store_timestamp, T0);
}

#[test]
fn nothing_is_visible_before_it_is_confirmed() {
    let mut scratch = Scratch::new();
    sync_flush(&mut scratch.config);
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let queue = topic.queue(0).unwrap();
    let mut batch = AppendBatch::default();
    for round in 0..200 {
        batch.clear();
        push(&mut batch, &topic, 0, &Message::new(format!("k{round}"), "body")).unwrap();
        store.append(&mut batch).unwrap();
        let appended = batch.results()[0];
        let end = LogOffset(appended.log_offset.0 + u64::from(appended.size));
        let visible = queue.max().unwrap();
        assert!(visible <= QueueOffset(round + 1));
        assert!(visible <= QueueOffset(round) || store.confirmed() >= end, "shown too early");
        wait(store.wait_confirmed(end)).unwrap();
        assert!(store.flushed() >= end);
        assert_eq!(queue.max().unwrap(), QueueOffset(round + 1));
    }
    assert_eq!(read_all(&queue, 0).len(), 200);
}

#[test]
fn waiting_reader_is_woken_in_both_flush_modes() {
    for sync in [false, true] {
        let mut scratch = Scratch::new();
        if sync {
            sync_flush(&mut scratch.config);
        }
        let store = scratch.open();
        let topic = topic(&store, "T", 1);
        let queue = topic.queue(0).unwrap();
        let waiter = std::thread::spawn({
            let queue = Arc::clone(&queue);
            move || {
                for offset in 0..50 {
                    wait(async {
                        let woken = queue.wait_beyond(QueueOffset(offset));
                        tokio::time::timeout(Duration::from_secs(20), woken).await.unwrap();
                    });
                    assert_eq!(read(&queue, offset, 1).status, ReadStatus::Found);
                }
            }
        });
        for i in 0..50 {
            while queue.waiting() == 0 && !waiter.is_finished() {
                std::thread::yield_now();
            }
            send(&store, &topic, 0, &numbered("k", i..i + 1));
        }
        waiter.join().unwrap();
        assert_eq!(queue.waiting(), 0);
    }
}

#[test]
fn dropped_wait_is_not_counted() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let queue = topic(&store, "T", 1).queue(0).unwrap();
    wait(async {
        let waiting = queue.wait_beyond(QueueOffset(0));
        tokio::time::timeout(Duration::from_millis(1), waiting).await.unwrap_err();
    });
    assert_eq!(queue.waiting(), 0);
}

#[test]
fn appends_from_many_threads_keep_each_queue_in_order() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 4);
    std::thread::scope(|scope| {
        for sender in 0..4_u64 {
            let (store, topic) = (&store, &topic);
            scope.spawn(move || {
                for i in 0..250 {
                    let key = format!("{sender}-{i}");
                    let queue = u32::try_from(i % 4).unwrap();
                    send(store, topic, queue, &[Message::new(key, "body")]);
                }
            });
        }
    });
    let mut total = 0;
    for queue in 0..4 {
        let messages = read_all(&topic.queue(queue).unwrap(), 0);
        total += messages.len();
        for sender in 0..4 {
            let prefix = format!("{sender}-");
            let of_sender = messages.iter().filter_map(|message| message.key.strip_prefix(&prefix));
            let numbers: Vec<u64> = of_sender.map(|number| number.parse().unwrap()).collect();
            assert!(numbers.is_sorted(), "queue {queue}, sender {sender}: {numbers:?}");
        }
    }
    assert_eq!(total, 1_000);
}

#[test]
fn closed_store_refuses_and_can_be_opened_again() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let first = topic(&store, "T", 1);
    send(&store, &first, 0, &numbered("k", 0..1));
    store.close();
    store.close();
    let mut batch = AppendBatch::default();
    push(&mut batch, &first, 0, &Message::new("", "")).unwrap();
    assert_eq!(store.append(&mut batch), Err(AppendError::Closed));
    let error = wait(store.put_topic(crate::common::topic_config("U", 1))).unwrap_err();
    assert_eq!(error.to_string(), "the store is closing");
    // The old handles are still around and must not be in the way.
    let again = scratch.open();
    assert_eq!(read_all(&again.topic("T").unwrap().queue(0).unwrap(), 0).len(), 1);
    drop(first);
}

#[test]
fn second_open_is_refused_with_the_path_and_the_process() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let error = Store::open(scratch.config.clone(), scratch.clock.clone()).unwrap_err();
    let error = error.to_string();
    assert!(error.contains(scratch.path().to_str().unwrap()), "{error}");
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(store);
    scratch.open();
}

#[test]
fn settings_out_of_bounds_are_refused() {
    let mut scratch = Scratch::new();
    scratch.config.segment_size_bytes = 1_000;
    let error = Store::open(scratch.config.clone(), scratch.clock.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "segment_size_bytes is 1000, it must be 64 KiB to 4 GiB, in whole pages of 4 KiB"
    );
    assert!(!scratch.path().exists());
}

#[test]
fn hot_read_never_blocks_and_says_so() {
    let mut scratch = Scratch::new();
    scratch.config.tail_entries = 64;
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let messages = numbered("k", 0..1_000);
    send(&store, &topic, 0, &messages);
    let queue = topic.queue(0).unwrap();
    let hot = |from| queue.read(QueueOffset(from), limits(32), Mode::HotOnly, ANY);
    assert_eq!(hot(990).unwrap().messages, 10);
    // What is stored leaves memory, sooner or later.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while hot(0).is_ok() {
        assert!(std::time::Instant::now() < deadline, "the tail is never trimmed");
        std::thread::yield_now();
    }
    assert_eq!(read(&queue, 0, 32).messages, 32);
    assert_eq!(read_all(&queue, 0), messages);
}
