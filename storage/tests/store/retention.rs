//! Deleting old messages, and what is left of them.

use std::{
    fs::{self, File},
    ops::Range,
    sync::Arc,
    time::{Duration, SystemTime},
};

use protocol::record;
use storage::{
    AppendBatch, AppendError, Appended, LogOffset, QueueOffset, ReadStatus, Store, Topic,
    Unconsumed,
};

use crate::common::{
    Message, Scratch, T0, copy, push, read, read_all, send, topic, topic_config, wait,
};

const HOUR_MS: i64 = 3_600_000;
const SEGMENT: u64 = 64 << 10;

/// A store whose segments take about 60 of the messages below, and may be deleted at any hour.
fn scratch() -> Scratch {
    let mut scratch = Scratch::new();
    scratch.config.segment_size_bytes = SEGMENT;
    scratch.config.slice_messages = 100;
    scratch.config.delete_hours = (0..24).collect();
    scratch
}

fn messages(numbers: Range<u64>) -> Vec<Message> {
    numbers.map(|i| Message::new(format!("k{i}"), vec![b'x'; 1_000])).collect()
}

/// Sets when the segment files were changed.
fn set_changed(scratch: &Scratch, unix_ms: i64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(u64::try_from(unix_ms).unwrap());
    for path in scratch.segments() {
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }
}

/// Closes the store, lets `hours` go by, and opens it again.
fn hours_later(scratch: &Scratch, store: &Store, hours: i64) -> Arc<Store> {
    store.close();
    set_changed(scratch, scratch.clock.now_ms());
    scratch.hand.advance(hours * HOUR_MS);
    scratch.open()
}

/// A store with `count` messages in queue 0 of T, and what was appended.
fn filled(scratch: &Scratch, count: u64) -> (Arc<Store>, Vec<Appended>) {
    let store = scratch.open();
    let results = send(&store, &topic(&store, "T", 1), 0, &messages(0..count));
    (store, results)
}

fn first_topic(store: &Store) -> Arc<Topic> {
    store.topic("T").unwrap()
}

/// Number of segments before the one that is being written.
fn sealed(results: &[Appended]) -> usize {
    usize::try_from(results.last().unwrap().log_offset.0 / SEGMENT).unwrap()
}

/// The first queue offset whose record is in the log.
fn first_left(results: &[Appended], store: &Store) -> u64 {
    let min = store.min_log_offset();
    results.partition_point(|result| result.log_offset < min) as u64
}

/// Where the oldest file of the log begins.
fn first_file(scratch: &Scratch) -> u64 {
    scratch.segments()[0].file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn found(store: &Store, key: u64) -> usize {
    store.query_key("T", &format!("k{key}"), 8, 0, i64::MAX).unwrap().records.len()
}

/// Removes what the index knows of queues, in a store that is closed.
fn lose_queues(scratch: &Scratch) {
    let path = scratch.path().join("rocksdb");
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, &path).unwrap();
    let db = rocksdb::DB::open_cf(&options, &path, families).unwrap();
    let family = db.cf_handle("consume_queue").unwrap();
    db.delete_range_cf(family, [0; 16], [0xFF; 16]).unwrap();
}

/// Rows of a family of a store that is closed.
fn rows(scratch: &Scratch, family: &str) -> usize {
    let path = scratch.path().join("rocksdb");
    let options = rocksdb::Options::default();
    let families = rocksdb::DB::list_cf(&options, &path).unwrap();
    let db = rocksdb::DB::open_cf_for_read_only(&options, &path, families, false).unwrap();
    let family = db.cf_handle(family).unwrap();
    db.iterator_cf(family, rocksdb::IteratorMode::Start).count()
}

/// Queue 0 of T holds the messages from `min` to `max`, and nothing else is found.
fn check(store: &Store, min: u64, max: u64) {
    let queue = first_topic(store).queue(0).unwrap();
    assert_eq!(queue.min().unwrap(), QueueOffset(min));
    assert_eq!(queue.max().unwrap(), QueueOffset(max));
    for gone in [0, min - 1] {
        let early = read(&queue, gone, 32);
        assert_eq!((early.status, early.next), (ReadStatus::OffsetTooSmall, QueueOffset(min)));
        assert_eq!(queue.entry(QueueOffset(gone)).unwrap(), None);
    }
    assert_eq!(read_all(&queue, min), messages(min..max));
    let keys = [0, min - 1, min, max - 1].map(|key| found(store, key));
    assert_eq!(keys, [0, 0, 1, 1]);
}

#[test]
fn old_segments_go_and_the_queue_follows() {
    let scratch = scratch();
    let (store, results) = filled(&scratch, 500);
    assert_eq!(store.delete_expired().unwrap().segments, 0, "nothing is old");
    let store = hours_later(&scratch, &store, 71);
    assert_eq!(store.delete_expired().unwrap().segments, 0, "nothing is old enough");
    let store = hours_later(&scratch, &store, 2);
    assert_eq!(store.delete_expired().unwrap().segments, 0, "the files are two hours old");
    set_changed(&scratch, T0);
    let deleted = store.delete_expired().unwrap();
    let sealed = sealed(&results);
    assert_eq!((deleted.segments, deleted.unexpired), (sealed, 0));
    assert_eq!(deleted.log_min, LogOffset(sealed as u64 * SEGMENT));
    assert_eq!(store.min_log_offset(), deleted.log_min);
    assert_eq!(first_file(&scratch), deleted.log_min.0);
    let min = first_left(&results, &store);
    assert!(min > 400, "{min}");
    check(&store, min, 500);
    let store = hours_later(&scratch, &store, 0);
    check(&store, min, 500);
    let appended = send(&store, &first_topic(&store), 0, &messages(500..600));
    assert_eq!(appended[0].queue_offset, QueueOffset(500));
    check(&store, min, 600);
    assert_eq!(store.delete_expired().unwrap().segments, 0, "what was stored just now is young");
}

#[test]
fn rows_of_deleted_messages_leave_the_index() {
    let scratch = scratch();
    let (store, results) = filled(&scratch, 500);
    store.close();
    let before = (rows(&scratch, "consume_queue"), rows(&scratch, "key_index"));
    assert_eq!(before.0, 8);
    let store = hours_later(&scratch, &store, 73);
    set_changed(&scratch, T0);
    assert_eq!(store.delete_expired().unwrap().segments, sealed(&results));
    let blocks = 8 - first_left(&results, &store) / 64;
    store.close();
    assert_eq!(rows(&scratch, "consume_queue") as u64, blocks, "those that still have messages");
    // One or two of five slices are left, each with a row of its own and one for each bucket.
    let after = rows(&scratch, "key_index");
    assert!(after > 1 && after < before.1 / 2, "{after} of {}", before.1);
}

#[test]
fn hours_and_pressure_decide_when() {
    let mut scratch = scratch();
    scratch.config.disk_clean_percent = 75;
    let now = jiff::Timestamp::from_millisecond(T0 + 80 * HOUR_MS).unwrap();
    let hour = u8::try_from(jiff::tz::TimeZone::system().to_datetime(now).hour()).unwrap();
    scratch.config.delete_hours = vec![(hour + 1) % 24, (hour + 2) % 24];
    let (store, results) = filled(&scratch, 300);
    let store = hours_later(&scratch, &store, 80);
    set_changed(&scratch, T0);
    store.pretend_disk(7_500 * SEGMENT, 10_000 * SEGMENT);
    assert_eq!(store.delete_expired().unwrap().segments, 0, "another hour, and the disk has room");
    store.pretend_disk(7_600 * SEGMENT, 10_000 * SEGMENT);
    assert_eq!(store.delete_expired().unwrap().segments, sealed(&results));
    scratch.config.delete_hours = vec![(hour + 1) % 24, hour];
    send(&store, &first_topic(&store), 0, &messages(300..500));
    let store = hours_later(&scratch, &store, 72);
    set_changed(&scratch, T0);
    store.pretend_disk(1_000 * SEGMENT, 10_000 * SEGMENT);
    // Another 72 hours later it is the same hour of the day, but for a change of summer time.
    let now = jiff::Timestamp::from_millisecond(scratch.clock.now_ms()).unwrap();
    let changed =
        jiff::tz::TimeZone::system().to_datetime(now).hour() != i8::try_from(hour).unwrap();
    assert_eq!(store.delete_expired().unwrap().segments > 0, !changed);
}

#[test]
fn full_disk_costs_the_oldest_messages_unless_that_is_forbidden() {
    let mut scratch = scratch();
    scratch.config.disk_force_clean_percent = 85;
    let (store, results) = filled(&scratch, 700);
    let store = hours_later(&scratch, &store, 1);
    store.pretend_disk(85 * SEGMENT, 100 * SEGMENT);
    assert_eq!(store.delete_expired().unwrap().segments, 0);
    store.pretend_disk(88 * SEGMENT, 100 * SEGMENT);
    let deleted = store.delete_expired().unwrap();
    assert_eq!((deleted.segments, deleted.unexpired), (3, 3), "until 85 % are left");
    check(&store, first_left(&results, &store), 700);
    store.pretend_disk(99 * SEGMENT, 100 * SEGMENT);
    let deleted = store.delete_expired().unwrap();
    assert_eq!(deleted.segments, sealed(&results) - 3, "everything but what is being written");
    assert_eq!(store.delete_expired().unwrap().segments, 0);
    assert_eq!(first_file(&scratch), sealed(&results) as u64 * SEGMENT);
    check(&store, first_left(&results, &store), 700);
    scratch.config.delete_unexpired = false;
    let store = hours_later(&scratch, &store, 0);
    send(&store, &first_topic(&store), 0, &messages(700..900));
    let store = hours_later(&scratch, &store, 1);
    store.pretend_disk(99 * SEGMENT, 100 * SEGMENT);
    assert_eq!(store.delete_expired().unwrap().segments, 0);
}

#[test]
fn one_round_deletes_ten_segments_at_most() {
    let scratch = scratch();
    let (store, results) = filled(&scratch, 900);
    let store = hours_later(&scratch, &store, 100);
    set_changed(&scratch, T0);
    assert_eq!(store.delete_expired().unwrap().segments, 10);
    assert_eq!(store.delete_expired().unwrap().segments, sealed(&results) - 10);
}

#[test]
fn clock_that_jumps_deletes_nothing() {
    let scratch = scratch();
    let (store, _) = filled(&scratch, 300);
    let store = hours_later(&scratch, &store, 1);
    scratch.hand.advance(10 * 365 * 24 * HOUR_MS);
    assert_eq!(store.delete_expired().unwrap().segments, 0);
    // Stored by the clock that is wrong: when it is right again, the files tell how old they are.
    send(&store, &first_topic(&store), 0, &messages(300..600));
    scratch.hand.set(T0 + HOUR_MS);
    let store = hours_later(&scratch, &store, 71);
    assert_eq!(store.delete_expired().unwrap().segments, 0);
    let store = hours_later(&scratch, &store, 2);
    set_changed(&scratch, T0);
    assert_eq!(store.delete_expired().unwrap().segments, 10);
}

#[test]
fn file_that_is_back_after_a_power_cut_is_deleted_again() {
    let scratch = scratch();
    let (store, results) = filled(&scratch, 300);
    let store = hours_later(&scratch, &store, 73);
    set_changed(&scratch, T0);
    let before = scratch.dir.path().join("before");
    copy(&scratch.path().join("commitlog"), &before);
    assert_eq!(store.delete_expired().unwrap().segments, sealed(&results));
    let min = first_left(&results, &store);
    let log_min = sealed(&results) as u64 * SEGMENT;
    // Killed, not closed: the new start of the log is durable before the first file goes.
    let image = scratch.crash_image();
    store.close();
    for back in [&[0][..], &[2], &[0, 1, 2, 3]] {
        for i in back {
            let name = format!("{:020}", i * SEGMENT);
            copy(&before.join(&name), &image.path().join("commitlog").join(&name));
        }
        let store = image.open();
        assert_eq!(store.min_log_offset(), LogOffset(log_min), "{back:?}");
        check(&store, min, 300);
        assert_eq!(first_file(&image), log_min, "{back:?}");
    }
}

#[test]
fn queue_whose_messages_are_all_gone_goes_on_where_it_was() {
    let scratch = scratch();
    let store = scratch.open();
    // 64 and 128 fill whole blocks.
    let counts = [1, 63, 64, 65, 128];
    let old = topic(&store, "Old", 5);
    for (queue, count) in (0..).zip(counts) {
        send(&store, &old, queue, &messages(0..count));
    }
    send(&store, &topic(&store, "T", 1), 0, &messages(0..200));
    let store = hours_later(&scratch, &store, 73);
    set_changed(&scratch, T0);
    let loaded = store.topic("Old").unwrap().queue(2).unwrap();
    assert_eq!(loaded.min().unwrap(), QueueOffset(0));
    assert!(store.delete_expired().unwrap().segments >= 8);
    let check = |store: &Store, more: u64| {
        for (queue, count) in (0..).zip(counts) {
            let queue = store.topic("Old").unwrap().queue(queue).unwrap();
            let end = QueueOffset(count + more);
            assert_eq!((queue.min().unwrap(), queue.max().unwrap()), (QueueOffset(count), end));
            assert_eq!(read(&queue, 0, 32).status, ReadStatus::OffsetTooSmall);
        }
    };
    check(&store, 0);
    let at_end = read(&loaded, 64, 32);
    assert_eq!((at_end.status, at_end.min), (ReadStatus::OffsetOverflowOne, QueueOffset(64)));
    let store = hours_later(&scratch, &store, 0);
    check(&store, 0);
    let old = store.topic("Old").unwrap();
    for (queue, count) in (0..).zip(counts) {
        assert_eq!(send(&store, &old, queue, &messages(0..1))[0].queue_offset, QueueOffset(count));
    }
    check(&store, 1);
    check(&hours_later(&scratch, &store, 0), 1);
}

#[test]
fn end_of_a_queue_without_messages_survives_the_loss_of_its_rows() {
    let scratch = scratch();
    let store = scratch.open();
    let counts = [1, 64, 100];
    let old = topic(&store, "Old", 3);
    for (queue, count) in (0..).zip(counts) {
        send(&store, &old, queue, &messages(0..count));
    }
    send(&store, &topic(&store, "T", 1), 0, &messages(0..100));
    let store = hours_later(&scratch, &store, 73);
    set_changed(&scratch, T0);
    assert!(store.delete_expired().unwrap().segments >= 3);
    store.close();
    lose_queues(&scratch);
    let store = scratch.open();
    let old = store.topic("Old").unwrap();
    for (queue, count) in (0..).zip(counts) {
        let found = old.queue(queue).unwrap();
        let end = QueueOffset(count);
        assert_eq!((found.min().unwrap(), found.max().unwrap()), (end, end));
        assert_eq!(send(&store, &old, queue, &messages(0..70))[0].queue_offset, end);
        assert_eq!(read_all(&found, count), messages(0..70));
    }
    let store = hours_later(&scratch, &store, 0);
    let found = store.topic("Old").unwrap().queue(2).unwrap();
    assert_eq!(read_all(&found, 100), messages(0..70));
    // Another topic of that name has nothing to do with it.
    wait(store.delete_topic("Old")).unwrap();
    let old = topic(&store, "Old", 3);
    assert_eq!(send(&store, &old, 1, &messages(0..1))[0].queue_offset, QueueOffset(0));
}

#[test]
fn deletes_say_who_had_not_consumed_the_messages() {
    let scratch = scratch();
    let store = scratch.open();
    let (one, other) = (topic(&store, "T", 2), topic(&store, "Other", 1));
    let mut first = send(&store, &one, 0, &messages(0..200));
    send(&store, &one, 1, &messages(0..100));
    send(&store, &other, 0, &messages(0..100));
    first.extend(send(&store, &one, 0, &messages(200..300)));
    store.commit_offset("Slow", &one, 0, QueueOffset(10));
    store.commit_offset("Slow", &one, 1, QueueOffset(90));
    store.commit_offset("Slow", &other, 0, QueueOffset(100));
    store.commit_offset("Fast", &one, 0, QueueOffset(300));
    store.commit_offset("Old", &other, 0, QueueOffset(0));
    let store = hours_later(&scratch, &store, 73);
    set_changed(&scratch, T0);
    let (one, other) = (store.topic("T").unwrap(), store.topic("Other").unwrap());
    // Not stored yet: it counts all the same.
    store.commit_offset("Old", &other, 0, QueueOffset(40));
    store.commit_offset("New", &one, 1, QueueOffset(70));
    let deleted = store.delete_expired().unwrap();
    let min = first_left(&first, &store);
    assert!(min > 200);
    let lost = |topic: &str, group: &str, messages: u64| Unconsumed {
        topic: topic.to_owned(),
        group: group.to_owned(),
        messages,
    };
    assert_eq!(
        deleted.unconsumed,
        [lost("T", "Slow", min - 10 + 10), lost("Other", "Old", 60), lost("T", "New", 30),]
    );
    send(&store, &one, 0, &messages(300..400));
    let store = hours_later(&scratch, &store, 73);
    set_changed(&scratch, T0);
    let deleted = store.delete_expired().unwrap();
    assert!(deleted.segments > 0);
    let slow = deleted.unconsumed.iter().find(|lost| lost.group == "Slow").unwrap();
    assert!(slow.messages < 200, "what was lost before is not lost again: {slow:?}");
}

#[test]
fn reader_of_a_deleted_segment_finishes() {
    let scratch = scratch();
    let (store, results) = filled(&scratch, 300);
    let store = hours_later(&scratch, &store, 73);
    set_changed(&scratch, T0);
    let queue = first_topic(&store).queue(0).unwrap();
    let held = read(&queue, 0, 32);
    assert_eq!(store.delete_expired().unwrap().segments, sealed(&results));
    send(&store, &first_topic(&store), 0, &messages(300..500));
    let mut count = 0;
    for record in held.slices.iter().flat_map(|slice| record::iter(slice)) {
        let record = record.unwrap();
        record.verify().unwrap();
        assert_eq!(Message::of(&record), messages(count..count + 1)[0]);
        count += 1;
    }
    assert_eq!(count, 32);
}

#[test]
fn topic_hides_its_old_messages_sooner() {
    let scratch = scratch();
    let store = scratch.open();
    let mut config = topic_config("T", 1);
    config.attributes.insert("reserve.time".to_owned(), "2".to_owned());
    let short = wait(store.put_topic(config.clone())).unwrap();
    let long = topic(&store, "Long", 1);
    for topic in [&short, &long] {
        send(&store, topic, 0, &messages(0..100));
    }
    let store = hours_later(&scratch, &store, 1);
    send(&store, &first_topic(&store), 0, &messages(100..150));
    let queue = first_topic(&store).queue(0).unwrap();
    store.delete_expired().unwrap();
    assert_eq!(queue.min().unwrap(), QueueOffset(0));
    let store = hours_later(&scratch, &store, 1);
    store.delete_expired().unwrap();
    let store = hours_later(&scratch, &store, 1);
    store.delete_expired().unwrap();
    let queue = first_topic(&store).queue(0).unwrap();
    assert_eq!((queue.min().unwrap(), queue.max().unwrap()), (QueueOffset(100), QueueOffset(150)));
    let early = read(&queue, 0, 32);
    assert_eq!((early.status, early.next), (ReadStatus::OffsetTooSmall, QueueOffset(100)));
    assert_eq!(read_all(&queue, 100), messages(100..150));
    let long = store.topic("Long").unwrap().queue(0).unwrap();
    assert_eq!(read_all(&long, 0), messages(0..100));
    let store = hours_later(&scratch, &store, 2);
    store.delete_expired().unwrap();
    let queue = first_topic(&store).queue(0).unwrap();
    assert_eq!((queue.min().unwrap(), queue.max().unwrap()), (QueueOffset(150), QueueOffset(150)));
    // Longer than the store keeps messages at all: it means nothing.
    config.attributes.insert("reserve.time".to_owned(), "1000".to_owned());
    wait(store.put_topic(config)).unwrap();
    assert_eq!(send(&store, &first_topic(&store), 0, &messages(0..1))[0].queue_offset.0, 150);
}

#[test]
fn full_disk_refuses_messages_and_nothing_else() {
    let mut scratch = scratch();
    scratch.config.delete_unexpired = false;
    filled(&scratch, 300).0.close();
    // Only now: the disk on which this runs may be full for real.
    scratch.config.disk_refuse_percent = 90;
    let store = scratch.open();
    let first = first_topic(&store);
    store.pretend_disk(90 * SEGMENT, 100 * SEGMENT);
    let mut batch = AppendBatch::default();
    push(&mut batch, &first, 0, &messages(300..301)[0]).unwrap();
    let refused = store.append(&mut batch).unwrap_err();
    assert!(matches!(refused, AppendError::DiskFull { .. }), "{refused}");
    let said = refused.to_string();
    assert!(
        said.contains("disk is full: 90 % of it are used") && said.contains("below 90 %"),
        "{said}"
    );
    store.health().unwrap();
    assert_eq!(read_all(&first.queue(0).unwrap(), 0), messages(0..300));
    store.commit_offset("G", &first, 0, QueueOffset(7));
    topic(&store, "Another", 3);
    wait(store.delete_topic("Another")).unwrap();
    store.pretend_disk(89 * SEGMENT, 100 * SEGMENT);
    store.append(&mut batch).unwrap();
    assert_eq!(batch.results()[0].queue_offset, QueueOffset(300));
    store.close();
    let store = scratch.open();
    let first = first_topic(&store);
    assert_eq!(store.committed_offset("G", first.id, 0).unwrap(), Some(QueueOffset(7)));
    assert_eq!(read_all(&first.queue(0).unwrap(), 0), messages(0..301));
    assert!(fs::read_dir(scratch.path().join("commitlog")).unwrap().count() >= 6);
}
