//! Many queues: they come into being when touched, and idle ones leave memory without losing
//! anything.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use storage::{AppendBatch, AppendError, GroupConfig, Mode, QueueOffset, ReadStatus, Store};

use crate::common::{
    ANY, Message, Scratch, append, limits, numbered, push, read, read_all, send, topic, wait,
};

const PATIENCE: Duration = Duration::from_secs(60);

/// A store whose queues may leave memory at once.
fn forgetful() -> Scratch {
    let mut scratch = Scratch::new();
    scratch.config.queues_in_memory = 0;
    scratch.config.checkpoint_interval_ms = 1;
    scratch.config.tail_entries = 0;
    scratch
}

/// Keeps the index writer busy until `done`.
fn until(store: &Store, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{} queues are in memory", store.queues_in_memory());
        wait(store.put_group(GroupConfig::new("G"))).unwrap();
    }
}

#[test]
fn queues_come_into_being_when_they_are_touched() {
    let scratch = Scratch::new();
    let store = scratch.open();
    for i in 0..100 {
        topic(&store, &format!("T{i}"), 10);
    }
    assert_eq!(store.queues_in_memory(), 0);
    send(&store, &store.topic("T5").unwrap(), 9, &numbered("k", 0..3));
    assert_eq!(store.queues_in_memory(), 1);
    store.close();
    drop(store);
    let store = scratch.open();
    assert_eq!((store.topics().len(), store.queues_in_memory()), (100, 0));
    let topic = store.topic("T5").unwrap();
    assert!(!topic.is_loaded(9));
    assert_eq!(read_all(&topic.queue(9).unwrap(), 0).len(), 3);
    assert!(topic.is_loaded(9) && !topic.is_loaded(8));
    assert_eq!(store.queues_in_memory(), 1);
}

#[test]
fn idle_queues_leave_memory_and_come_back_as_they_were() {
    let scratch = forgetful();
    let store = scratch.open();
    let topic = topic(&store, "T", 100);
    let messages = |queue: u32, from: u64| numbered(&format!("q{queue}-"), from..from + 70);
    for round in 0..3 {
        for queue in 0..100 {
            let sent = send(&store, &topic, queue, &messages(queue, round * 70));
            assert_eq!(sent[0].queue_offset, QueueOffset(round * 70));
        }
        until(&store, || store.queues_in_memory() == 0);
    }
    for queue in 0..100 {
        let all = read_all(&topic.queue(queue).unwrap(), 0);
        assert_eq!(all, numbered(&format!("q{queue}-"), 0..210));
    }
    store.close();
    drop(store);
    let store = scratch.open();
    let topic = store.topic("T").unwrap();
    assert_eq!(topic.queue(99).unwrap().max().unwrap(), QueueOffset(210));
}

#[test]
fn a_queue_that_somebody_holds_or_waits_for_stays() {
    let scratch = forgetful();
    let store = scratch.open();
    let topic = topic(&store, "T", 3);
    for queue in 0..3 {
        send(&store, &topic, queue, &numbered("k", 0..1));
    }
    let held = topic.queue(0).unwrap();
    let waiting = topic.queue(1).unwrap();
    let woken = std::thread::spawn(move || wait(waiting.wait_beyond(QueueOffset(1))));
    until(&store, || store.queues_in_memory() == 2);
    assert!(Arc::ptr_eq(&held, &topic.queue(0).unwrap()));
    let sent = send(&store, &topic, 1, &numbered("k", 1..2));
    assert_eq!(sent[0].queue_offset, QueueOffset(1));
    woken.join().unwrap();
    drop(held);
    until(&store, || store.queues_in_memory() == 0);
}

#[test]
fn values_of_one_topic_share_queues_that_neither_has_touched() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let small = topic(&store, "T", 2);
    let large = topic(&store, "T", 4);
    assert!(Arc::ptr_eq(&small.queue(1).unwrap(), &large.queue(1).unwrap()));
    assert!(small.queue(2).is_none());
    send(&store, &large, 3, &numbered("k", 0..2));
    drop((small, large));
    let again = topic(&store, "T", 3);
    assert!(again.queue(3).is_none());
    assert_eq!(read_all(&topic(&store, "T", 4).queue(3).unwrap(), 0).len(), 2);
}

#[test]
fn queues_of_a_deleted_topic_that_are_touched_later_are_deleted_too() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let old = topic(&store, "T", 2);
    wait(store.delete_topic("T")).unwrap();
    let queue = old.queue(1).unwrap();
    let read = queue.read(QueueOffset(0), limits(1), Mode::MayBlock, ANY).unwrap();
    assert_eq!(read.status, ReadStatus::NoMatchedLogicQueue);
    wait(queue.wait_beyond(QueueOffset(0)));
    let mut batch = AppendBatch::default();
    push(&mut batch, &old, 0, &Message::new("k", "body")).unwrap();
    let error = store.append(&mut batch).unwrap_err();
    assert!(matches!(error, AppendError::TopicDeleted { .. }), "{error}");
    store.commit_offset("G", &old, 0, QueueOffset(1));
    assert_eq!(store.committed_offset("G", old.id, 0).unwrap(), None);
    assert_eq!(read_all(&topic(&store, "T", 2).queue(1).unwrap(), 0).len(), 0);
}

#[test]
fn queues_leave_memory_under_the_hands_of_those_who_send_and_read() {
    let scratch = forgetful();
    let store = scratch.open();
    let topics: Vec<_> = (0..3).map(|i| topic(&store, &format!("T{i}"), 5)).collect();
    let stop = AtomicBool::new(false);
    let gone = std::thread::scope(|scope| {
        let forgetting = scope.spawn(|| {
            let mut gone = 0;
            while !stop.load(Ordering::Relaxed) {
                wait(store.put_group(GroupConfig::new("G"))).unwrap();
                gone += usize::from(store.queues_in_memory() < 15);
            }
            gone
        });
        let senders: Vec<_> = topics
            .iter()
            .map(|topic| {
                scope.spawn(|| {
                    let mut batch = AppendBatch::default();
                    for i in 0..3_000_u64 {
                        let queue = u32::try_from(i % 5).unwrap();
                        let message = Message::new(format!("k{i}"), format!("body {i}"));
                        push(&mut batch, topic, queue, &message).unwrap();
                        append(&store, &mut batch);
                        assert_eq!(batch.results()[0].queue_offset, QueueOffset(i / 5));
                        batch.clear();
                        if i % 100 == 0 {
                            std::thread::sleep(Duration::from_millis(5));
                            assert_eq!(read(&topic.queue(queue).unwrap(), i / 5, 1).messages, 1);
                        }
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        forgetting.join().unwrap()
    });
    assert!(gone > 0, "no queue ever left memory");
    for topic in &topics {
        for queue in 0..5 {
            assert_eq!(read_all(&topic.queue(queue).unwrap(), 0).len(), 600);
        }
    }
}
