//! Reading queues: statuses, limits, filters, times, block boundaries.

use protocol::property::tag_hash;
use storage::{Boundary, Mode, QueueOffset, ReadLimits, ReadStatus};

use crate::common::{ANY, Message, Scratch, T0, limits, numbered, read, read_all, send, topic};

#[test]
fn status_tells_where_the_offset_is() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 2);
    let empty = read(&topic.queue(1).unwrap(), 0, 32);
    assert_eq!((empty.status, empty.next), (ReadStatus::NoMessageInQueue, QueueOffset(0)));
    let empty = read(&topic.queue(1).unwrap(), 7, 32);
    assert_eq!((empty.status, empty.next), (ReadStatus::NoMessageInQueue, QueueOffset(0)));
    send(&store, &topic, 0, &numbered("k", 0..10));
    let queue = topic.queue(0).unwrap();
    for (from, status, next) in [
        (0, ReadStatus::Found, 10),
        (9, ReadStatus::Found, 10),
        (10, ReadStatus::OffsetOverflowOne, 10),
        (11, ReadStatus::OffsetOverflowBadly, 10),
        (u64::MAX, ReadStatus::OffsetOverflowBadly, 10),
    ] {
        let read = read(&queue, from, 32);
        assert_eq!((read.status, read.next), (status, QueueOffset(next)), "from {from}");
        assert_eq!((read.min, read.max), (QueueOffset(0), QueueOffset(10)));
    }
    assert!(topic.queue(2).is_none());
}

#[test]
fn adjacent_records_are_one_slice() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 2);
    send(&store, &topic, 0, &numbered("a", 0..10));
    send(&store, &topic, 1, &numbered("b", 0..1));
    send(&store, &topic, 0, &numbered("c", 0..10));
    let read = read(&topic.queue(0).unwrap(), 0, 32);
    assert_eq!((read.messages, read.slices.len()), (20, 2));
}

#[test]
fn limits_stop_a_read_but_one_message_always_comes() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let messages: Vec<_> = (0..10).map(|i| Message::new(format!("k{i}"), vec![0; 1_000])).collect();
    let size = usize::try_from(send(&store, &topic, 0, &messages)[0].size).unwrap();
    let queue = topic.queue(0).unwrap();
    for (max_messages, max_bytes, expected) in [
        (3, 1 << 20, 3),
        (0, 1 << 20, 1),
        (32, 0, 1),
        (32, size * 4, 4),
        (32, size * 4 - 1, 3),
        (32, usize::MAX, 10),
    ] {
        let limits = ReadLimits { max_messages, max_bytes };
        for mode in [Mode::HotOnly, Mode::MayBlock] {
            let read = queue.read(QueueOffset(0), limits, mode, ANY).unwrap();
            assert_eq!(read.messages, expected, "{limits:?}");
            assert_eq!(read.next, QueueOffset(expected as u64));
        }
    }
}

#[test]
fn filter_passes_over_what_it_refuses() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    let messages: Vec<_> = (0..2_000_u64)
        .map(|i| Message {
            key: format!("k{i}"),
            tag: if i % 1_000 == 999 { "rare" } else { "common" }.to_owned(),
            body: Vec::new(),
        })
        .collect();
    send(&store, &topic, 0, &messages);
    let queue = topic.queue(0).unwrap();
    let rare = tag_hash("rare");
    let read = |from| {
        queue.read(QueueOffset(from), limits(32), Mode::MayBlock, &|tag| tag == rare).unwrap()
    };
    // A read looks at 800 entries at most when none passes.
    let first = read(0);
    assert_eq!((first.status, first.next), (ReadStatus::NoMatchedMessage, QueueOffset(800)));
    let second = read(800);
    assert_eq!((second.status, second.messages), (ReadStatus::Found, 1));
    assert!(second.next > QueueOffset(1_000), "entries behind the last hit were looked at too");
    let untagged = queue.read(QueueOffset(1_990), limits(32), Mode::MayBlock, &|tag| tag == 0);
    let untagged = untagged.unwrap();
    assert_eq!(
        (untagged.status, untagged.next),
        (ReadStatus::NoMatchedMessage, QueueOffset(2_000))
    );
}

#[test]
fn block_boundaries_survive_checkpoints_and_reopening() {
    let scratch = Scratch::new();
    let mut sent = Vec::new();
    // Each close rewrites the last, partial block.
    for count in [1, 62, 1, 1, 63, 64, 65, 1, 127, 129] {
        let store = scratch.open();
        let topic = topic(&store, "T", 1);
        let from = sent.len() as u64;
        let messages = numbered("k", from..from + count);
        let results = send(&store, &topic, 0, &messages);
        assert_eq!(results[0].queue_offset, QueueOffset(from));
        sent.extend(messages);
        let queue = topic.queue(0).unwrap();
        assert_eq!(read_all(&queue, 0), sent, "open, {} messages", sent.len());
        store.close();
        drop((queue, topic, store));
        let store = scratch.open();
        assert_eq!(store.recovery().replayed_records, 0, "a checkpoint was written at close");
        let queue = store.topic("T").unwrap().queue(0).unwrap();
        assert_eq!(queue.max().unwrap(), QueueOffset(sent.len() as u64));
        assert_eq!(queue.min().unwrap(), QueueOffset(0));
        assert_eq!(read_all(&queue, 0), sent, "reopened, {} messages", sent.len());
        for offset in [0, 62, 63, 64, 65, 127, 128, 129] {
            let entry = queue.entry(QueueOffset(offset)).unwrap();
            assert_eq!(entry.is_some(), offset < sent.len() as u64, "{offset}");
        }
    }
}

#[test]
fn untouched_queue_is_cold_once() {
    let scratch = Scratch::new();
    let store = scratch.open();
    send(&store, &topic(&store, "T", 1), 0, &numbered("k", 0..100));
    store.close();
    drop(store);
    let store = scratch.open();
    let queue = store.topic("T").unwrap().queue(0).unwrap();
    let hot = |from| queue.read(QueueOffset(from), limits(32), Mode::HotOnly, ANY);
    assert_eq!(hot(80).unwrap_err(), storage::ReadError::Cold);
    assert_eq!(read(&queue, 80, 32).messages, 20);
    assert_eq!(hot(80).unwrap().messages, 20);
}

#[test]
fn offset_is_found_by_store_time() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 2);
    let queue = topic.queue(0).unwrap();
    let at = |time, boundary| queue.offset_at_time(time, boundary).unwrap().0;
    assert_eq!((at(T0, Boundary::Lower), at(T0, Boundary::Upper)), (0, 0));
    // Three messages in each of 100 steps of 10 ms.
    for step in 0..100 {
        send(&store, &topic, 0, &numbered("k", step * 3..step * 3 + 3));
        scratch.hand.advance(10);
    }
    let check = |queue: &storage::Queue, when: &str| {
        let at = |time, boundary| queue.offset_at_time(time, boundary).unwrap().0;
        for step in 0..100_i64 {
            let time = T0 + step * 10;
            let first = u64::try_from(step * 3).unwrap();
            assert_eq!(at(time, Boundary::Lower), first, "{when}, step {step}");
            assert_eq!(at(time, Boundary::Upper), first + 2, "{when}, step {step}");
            assert_eq!(at(time + 1, Boundary::Lower), first + 3, "{when}, after step {step}");
            assert_eq!(at(time + 1, Boundary::Upper), first + 2, "{when}, after step {step}");
            assert_eq!(queue.store_time_at(QueueOffset(first)).unwrap(), Some(time));
        }
        assert_eq!((at(T0 - 1, Boundary::Lower), at(T0 - 1, Boundary::Upper)), (0, 0));
        assert_eq!(queue.store_time_at(QueueOffset(300)).unwrap(), None);
    };
    check(&queue, "in memory");
    drop((queue, topic));
    store.close();
    let store = scratch.open();
    check(&store.topic("T").unwrap().queue(0).unwrap(), "from the index");
}
