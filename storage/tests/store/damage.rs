//! Files that are not as they should be: torn tails, damage, an index that is behind or ahead.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};

use protocol::record;
use storage::{
    Appended, Boundary, LogOffset, Mode, OpenError, QueueOffset, Read, ReadError, ReadStatus, Store,
};

use crate::common::{
    ANY, Message, Scratch, copy, forget_durable_index, limits, numbered, read, read_all, send,
    topic,
};

/// Overwrites a byte of the log.
fn write_at(scratch: &Scratch, offset: u64, bytes: &[u8]) {
    let segment = scratch.config.segment_size_bytes;
    let name = format!("commitlog/{:020}", offset - offset % segment);
    let file = File::options().write(true).open(scratch.path().join(name)).unwrap();
    file.write_all_at(bytes, offset % segment).unwrap();
}

fn end_of(appended: &Appended) -> u64 {
    appended.log_offset.0 + u64::from(appended.size)
}

fn replace(from: &Path, to: &Path) {
    if to.is_dir() {
        fs::remove_dir_all(to).unwrap();
    }
    copy(from, to);
}

/// A crash image of a store with 100 messages in queue 0 of T.
fn crashed() -> (Scratch, Vec<Appended>) {
    let scratch = Scratch::new();
    let store = scratch.open();
    let results = send(&store, &topic(&store, "T", 1), 0, &numbered("k", 0..100));
    (scratch.crash_image(), results)
}

fn check_and_append(store: &Store, count: u64) {
    let topic = store.topic("T").unwrap();
    let queue = topic.queue(0).unwrap();
    assert_eq!(queue.max().unwrap(), QueueOffset(count));
    assert_eq!(read_all(&queue, 0), numbered("k", 0..count));
    let last = format!("k{}", count - 1);
    assert_eq!(store.query_key("T", &last, 8, 0, i64::MAX).unwrap().records.len(), 1);
    let lost = format!("k{count}");
    assert_eq!(store.query_key("T", &lost, 8, 0, i64::MAX).unwrap().records.len(), 0);
    let appended = send(store, &topic, 0, &numbered("k", count..count + 1))[0];
    assert_eq!(appended.queue_offset, QueueOffset(count));
    assert_eq!(read_all(&queue, 0), numbered("k", 0..count + 1));
}

#[test]
fn torn_tail_is_cut_and_reported() {
    type Tear = fn(&Scratch, &Appended);
    let tears: [(&str, Tear); 5] = [
        ("body", |scratch, last| write_at(scratch, end_of(last) - 20, b"?")),
        ("head", |scratch, last| write_at(scratch, last.log_offset.0, &[0xFF; 8])),
        ("size", |scratch, last| write_at(scratch, last.log_offset.0, &[0, 0, 1, 0])),
        ("log offset", |scratch, last| write_at(scratch, last.log_offset.0 + 30, b"?")),
        ("second half", |scratch, last| {
            let half = last.log_offset.0 + u64::from(last.size) / 2;
            write_at(scratch, half, &vec![0; usize::try_from(end_of(last) - half).unwrap()]);
        }),
    ];
    for (what, tear) in tears {
        let (scratch, results) = crashed();
        let last = results.last().unwrap();
        tear(&scratch, last);
        let store = scratch.open();
        let recovery = store.recovery();
        let cut = recovery.cut.as_ref().unwrap_or_else(|| panic!("{what}: not reported"));
        assert_eq!((cut.at, recovery.end), (last.log_offset, last.log_offset), "{what}");
        assert_eq!(recovery.damaged, [], "{what}");
        // The first block of 64 may have reached the index before the crash.
        assert!([99, 99 - 64].contains(&recovery.replayed_records), "{what}: {recovery:?}");
        check_and_append(&store, 99);
        drop(store);
        check_reopened(&scratch, 100);
    }
}

/// What lies behind a shorter log must not come back.
fn check_reopened(scratch: &Scratch, count: u64) {
    let image = scratch.crash_image();
    let store = image.open();
    assert_eq!(store.recovery().cut, None);
    let queue = store.topic("T").unwrap().queue(0).unwrap();
    assert_eq!(read_all(&queue, 0), numbered("k", 0..count));
}

#[test]
fn missing_tail_is_no_error() {
    let (scratch, results) = crashed();
    let zeros = vec![0; usize::try_from(end_of(&results[99]) - results[60].log_offset.0).unwrap()];
    write_at(&scratch, results[60].log_offset.0, &zeros);
    let store = scratch.open();
    assert_eq!(store.recovery().cut, None);
    check_and_append(&store, 60);
}

#[test]
fn valid_records_behind_a_hole_never_come_back() {
    let (scratch, results) = crashed();
    // The kernel wrote the later pages and not this one.
    write_at(&scratch, results[50].log_offset.0, &vec![0; results[50].size as usize]);
    let store = scratch.open();
    check_and_append(&store, 50);
    drop(store);
    check_reopened(&scratch, 51);
}

#[test]
fn segments_behind_a_torn_tail_are_set_aside() {
    let mut scratch = Scratch::new();
    scratch.config.segment_size_bytes = 64 << 10;
    let store = scratch.open();
    let first = topic(&store, "T", 1);
    let messages: Vec<_> =
        (0..200).map(|i| Message::new(format!("k{i}"), vec![1; 1_000])).collect();
    let results = send(&store, &first, 0, &messages);
    let image = scratch.crash_image();
    write_at(&image, results[30].log_offset.0, b"torn");
    let store = image.open();
    assert_eq!(store.recovery().cut.as_ref().unwrap().at, results[30].log_offset);
    let topic = store.topic("T").unwrap();
    let queue = topic.queue(0).unwrap();
    assert_eq!(read_all(&queue, 0), messages[..30]);
    let aside = fs::read_dir(image.path().join("cut")).unwrap().count();
    assert!(aside >= 2, "{aside} segments");
    send(&store, &topic, 0, &messages[30..]);
    assert_eq!(read_all(&queue, 0), messages);
}

#[test]
fn damage_below_the_durable_end_is_reported_and_nothing_is_cut() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let first = topic(&store, "T", 1);
    let early = scratch.crash_image();
    let results = send(&store, &first, 0, &numbered("k", 0..100));
    // Durable, but not in the index: the log of before the close with the mark of after it.
    let image = scratch.crash_image();
    store.close();
    let mark = "commitlog.watermark";
    copy(&scratch.path().join(mark), &image.path().join(mark));
    replace(&early.path().join("rocksdb"), &image.path().join("rocksdb"));
    forget_durable_index(&image);
    write_at(&image, end_of(&results[40]) - 20, b"?");
    write_at(&image, results[70].log_offset.0, &[0; 40]);
    write_at(&image, results[71].log_offset.0, &[0xAA; 40]);
    let store = image.open();
    let recovery = store.recovery().clone();
    assert_eq!(recovery.cut, None);
    let damaged: Vec<_> = recovery.damaged.iter().map(|range| (range.from, range.to)).collect();
    assert_eq!(
        damaged,
        [
            (results[40].log_offset, results[41].log_offset),
            (results[70].log_offset, results[72].log_offset),
        ]
    );
    assert_eq!(recovery.replayed_records, 97);
    let topic = store.topic("T").unwrap();
    let queue = topic.queue(0).unwrap();
    assert_eq!(queue.max().unwrap(), QueueOffset(100));
    let all = numbered("k", 0..100);
    for (i, message) in all.iter().enumerate() {
        let read = read(&queue, i as u64, 1);
        let lost = [40, 70, 71].contains(&i);
        // Holes are passed over, so the next good message comes.
        assert_eq!(read.status, ReadStatus::Found);
        assert_eq!(
            read.next,
            QueueOffset(if i == 70 { 73 } else { i as u64 + 1 + u64::from(lost) })
        );
        let found = store.query_key("T", &message.key, 8, 0, i64::MAX).unwrap().records.len();
        assert_eq!(found, usize::from(!lost), "{i}");
        assert_eq!(queue.entry(QueueOffset(i as u64)).unwrap().is_some(), !lost);
    }
    assert_eq!(send(&store, &topic, 0, &numbered("k", 100..101))[0].queue_offset, QueueOffset(100));
    // The damaged bytes are still there.
    assert_eq!(store.min_log_offset(), LogOffset(0));
    assert!(store.record_at(results[39].log_offset).unwrap().is_some());
    assert!(matches!(
        store.record_at(results[40].log_offset),
        Err(ReadError::Damaged { log_offset, .. }) if log_offset == results[40].log_offset
    ));
}

/// The keys of what a read returns, and where it goes on.
fn keys(read: &Read) -> (Vec<String>, u64) {
    let records = read.slices.iter().flat_map(|slice| record::iter(slice));
    (records.map(|record| Message::of(&record.unwrap()).key).collect(), read.next.0)
}

#[test]
fn record_that_rots_later_is_passed_over_and_nothing_else() {
    type Rot = fn(&Scratch, &Appended);
    let rots: [(&str, Rot); 5] = [
        ("body", |scratch, record| write_at(scratch, end_of(record) - 20, b"?")),
        ("head", |scratch, record| write_at(scratch, record.log_offset.0, &[0xFF; 8])),
        ("smaller", |scratch, record| write_at(scratch, record.log_offset.0, &[0, 0, 0, 90])),
        ("larger", |scratch, record| write_at(scratch, record.log_offset.0, &[0, 0, 1, 0])),
        ("zeros", |scratch, record| write_at(scratch, record.log_offset.0, &[0; 80])),
    ];
    // From the mapping and from the disk.
    for (hot_log_bytes, (what, rot)) in
        [1 << 30, 0].into_iter().flat_map(|hot| rots.map(|rot| (hot, rot)))
    {
        let mut scratch = Scratch::new();
        scratch.config.hot_log_bytes = hot_log_bytes;
        scratch.config.segment_size_bytes = 64 << 10;
        let store = scratch.open();
        let results = send(&store, &topic(&store, "T", 1), 0, &numbered("k", 0..10));
        let later: Vec<_> =
            (0..100).map(|i| Message::new(format!("x{i}"), vec![1; 1_000])).collect();
        send(&store, &topic(&store, "Later", 1), 0, &later);
        store.close();
        rot(&scratch, &results[5]);
        let store = scratch.open();
        let queue = store.topic("T").unwrap().queue(0).unwrap();
        let all_but_one = |from: u64| -> Vec<String> {
            (from..10).filter(|i| *i != 5).map(|i| format!("k{i}")).collect()
        };
        assert_eq!(keys(&read(&queue, 0, 32)), (all_but_one(0), 10), "{what}");
        assert_eq!(keys(&read(&queue, 5, 32)), (all_but_one(5), 10), "{what}");
        assert_eq!(keys(&read(&queue, 6, 32)), (all_but_one(6), 10), "{what}");
        let alone = read(&queue, 5, 1);
        assert_eq!(
            (alone.status, alone.next),
            (ReadStatus::MessageWasRemoving, QueueOffset(6)),
            "{what}"
        );
        // Where memory is taken to be right nothing is verified, and nothing breaks.
        let hot = queue.read(QueueOffset(0), limits(32), Mode::HotOnly, ANY);
        assert!(hot.is_ok_and(|read| read.messages == 10) || hot_log_bytes == 0, "{what}");
        let direct = store.record_at(results[5].log_offset);
        assert!(!matches!(direct, Ok(Some(_))), "{what}: {direct:?}");
        if what == "body" {
            assert!(matches!(direct, Err(ReadError::Damaged { .. })), "{direct:?}");
        }
        assert!(store.query_key("T", "k5", 8, 0, i64::MAX).unwrap().records.is_empty());
        assert_eq!(queue.offset_at_time(0, Boundary::Lower).unwrap(), QueueOffset(0));
    }
}

#[test]
fn what_the_disk_does_not_give_back_is_an_error_and_no_signal() {
    let mut scratch = Scratch::new();
    scratch.config.hot_log_bytes = 0;
    scratch.config.segment_size_bytes = 64 << 10;
    let store = scratch.open();
    let first = topic(&store, "T", 1);
    let results = send(&store, &first, 0, &numbered("k", 0..10));
    let later: Vec<_> = (0..100).map(|i| Message::new(format!("x{i}"), vec![1; 1_000])).collect();
    send(&store, &topic(&store, "Later", 1), 0, &later);
    // Touching the mapping behind the end of a file is a SIGBUS, as for a sector that is lost.
    let file = File::options().write(true).open(&scratch.segments()[0]).unwrap();
    file.set_len(results[5].log_offset.0).unwrap();
    let queue = first.queue(0).unwrap();
    assert_eq!((read(&queue, 0, 32).messages, read(&queue, 0, 32).next), (5, QueueOffset(5)));
    for from in [5, 9] {
        let lost = queue.read(QueueOffset(from), limits(32), Mode::MayBlock, ANY);
        assert!(matches!(lost, Err(ReadError::Disk { .. })), "{lost:?}");
    }
    let direct = store.record_at(results[7].log_offset);
    assert!(matches!(direct, Err(ReadError::Disk { .. })), "{direct:?}");
    let by_key = store.query_key("T", "k7", 8, 0, i64::MAX);
    assert!(matches!(by_key, Err(ReadError::Disk { .. })), "{by_key:?}");
    assert_eq!(store.query_key("T", "k2", 8, 0, i64::MAX).unwrap().records.len(), 1);
    let rest = store.topic("Later").unwrap().queue(0).unwrap();
    assert_eq!(read(&rest, 90, 32).messages, 10);
    store.health().unwrap();
}

#[test]
fn consumer_gets_past_a_queue_of_nothing_but_damage() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let results = send(&store, &topic(&store, "T", 1), 0, &numbered("k", 0..100));
    store.close();
    for result in &results {
        write_at(&scratch, end_of(result) - 20, b"?");
    }
    let store = scratch.open();
    let queue = store.topic("T").unwrap().queue(0).unwrap();
    let mut from = 0;
    while from < 100 {
        let read = read(&queue, from, 32);
        assert_eq!((read.status, read.messages), (ReadStatus::MessageWasRemoving, 0));
        assert!(read.next.0 > from, "it stands still at {from}");
        from = read.next.0;
    }
    assert_eq!(read(&queue, 100, 32).status, ReadStatus::OffsetOverflowOne);
}

#[test]
fn index_behind_the_log_is_brought_up_to_date() {
    let scratch = Scratch::new();
    let store = scratch.open();
    send(&store, &topic(&store, "T", 1), 0, &numbered("k", 0..1_000));
    store.close();
    drop(store);
    let old = scratch.dir.path().join("old index");
    copy(&scratch.path().join("rocksdb"), &old);
    let store = scratch.open();
    let first = store.topic("T").unwrap();
    send(&store, &first, 0, &numbered("k", 1_000..3_500));
    store.commit_offset("G", &first, 0, QueueOffset(3_000));
    store.close();
    drop((store, first));
    replace(&old, &scratch.path().join("rocksdb"));
    // Durable changes are missing, so offsets and topics might be.
    let refused = Store::open(scratch.config.clone(), scratch.clock.clone()).unwrap_err();
    assert!(matches!(refused, OpenError::IndexBehind { found, durable, .. } if found < durable));
    forget_durable_index(&scratch);
    let store = scratch.open();
    assert_eq!(store.recovery().replayed_records, 2_500);
    check_and_append(&store, 3_500);
    for i in (0..3_500).step_by(50) {
        let found = store.query_key("T", &format!("k{i}"), 8, 0, i64::MAX).unwrap();
        assert_eq!(found.records.len(), 1, "k{i}");
    }
}

#[test]
fn index_ahead_of_the_log_is_cut_back() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let results = send(&store, &topic(&store, "T", 1), 0, &numbered("k", 0..1_200));
    store.close();
    drop(store);
    let store = scratch.open();
    let mark = scratch.dir.path().join("mark");
    // As of now: 1,200 messages are durable.
    copy(&scratch.path().join("commitlog.watermark"), &mark);
    let first = store.topic("T").unwrap();
    let later = send(&store, &first, 0, &numbered("k", 1_200..3_000));
    send(&store, &topic(&store, "Later", 1), 0, &numbered("x", 0..70));
    store.commit_offset("G", &first, 0, QueueOffset(2_900));
    store.commit_offset("H", &first, 0, QueueOffset(1_000));
    store.close();
    drop((store, first));
    // Power cut: RocksDB has everything, the log lost what came after message 1,299.
    fs::copy(&mark, scratch.path().join("commitlog.watermark")).unwrap();
    let end = later[100].log_offset.0;
    let len = scratch.config.segment_size_bytes - end;
    write_at(&scratch, end, &vec![0; usize::try_from(len).unwrap()]);
    let store = scratch.open();
    let recovery = store.recovery();
    assert_eq!(recovery.end, LogOffset(end));
    assert_eq!(recovery.removed_entries, 1_700 + 70);
    let topic = store.topic("T").unwrap();
    assert_eq!(store.committed_offset("G", topic.id, 0).unwrap(), Some(QueueOffset(1_300)));
    assert_eq!(store.committed_offset("H", topic.id, 0).unwrap(), Some(QueueOffset(1_000)));
    check_and_append(&store, 1_300);
    assert!(results.len() == 1_200);
    // The topic that was created behind the new end lives on, empty, and its new messages count.
    let other = store.topic("Later").unwrap();
    assert_eq!(other.queue(0).unwrap().max().unwrap(), QueueOffset(0));
    send(&store, &other, 0, &numbered("y", 0..3));
    drop((topic, other));
    let image = scratch.crash_image();
    let store = image.open();
    let other = store.topic("Later").unwrap().queue(0).unwrap();
    assert_eq!(read_all(&other, 0), numbered("y", 0..3));
    assert_eq!(read_all(&store.topic("T").unwrap().queue(0).unwrap(), 0), numbered("k", 0..1_301));
}

#[test]
fn lost_watermark_is_made_good_from_the_index() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let results = send(&store, &topic(&store, "T", 1), 0, &numbered("k", 0..100));
    store.close();
    drop(store);
    fs::remove_file(scratch.path().join("commitlog.watermark")).unwrap();
    let store = scratch.open();
    assert_eq!(store.recovery().end, LogOffset(end_of(&results[99])));
    check_and_append(&store, 100);
    store.close();
    drop(store);
    // Damage before the checkpoint must not be taken for a torn tail.
    fs::remove_file(scratch.path().join("commitlog.watermark")).unwrap();
    write_at(&scratch, results[50].log_offset.0, &[0; 60]);
    let store = scratch.open();
    let queue = store.topic("T").unwrap().queue(0).unwrap();
    assert_eq!(queue.max().unwrap(), QueueOffset(101));
    assert_eq!(read(&queue, 51, 64).messages, 50);
}

#[test]
fn missing_files_are_errors_that_say_what_to_do() {
    let mut scratch = Scratch::new();
    scratch.config.segment_size_bytes = 64 << 10;
    let store = scratch.open();
    let messages: Vec<_> =
        (0..200).map(|i| Message::new(format!("k{i}"), vec![1; 1_000])).collect();
    send(&store, &topic(&store, "T", 1), 0, &messages);
    store.close();
    drop(store);
    let open =
        |scratch: &Scratch| Store::open(scratch.config.clone(), scratch.clock.clone()).unwrap_err();
    let image = scratch.crash_image();
    fs::remove_file(&image.segments()[1]).unwrap();
    let error = open(&image);
    assert!(matches!(error, OpenError::LogGap { expected: LogOffset(65_536), .. }), "{error}");
    let image = scratch.crash_image();
    for segment in image.segments().iter().skip(2) {
        fs::remove_file(segment).unwrap();
    }
    let error = open(&image);
    assert!(matches!(error, OpenError::LogShort { end: LogOffset(131_072), .. }), "{error}");
    let image = scratch.crash_image();
    fs::remove_dir_all(image.path().join("rocksdb")).unwrap();
    let error = open(&image);
    assert!(matches!(error, OpenError::IndexMissing { .. }), "{error}");
    assert!(error.to_string().contains("restore the index directory"), "{error}");
    let image = scratch.crash_image();
    fs::write(image.path().join("rocksdb/CURRENT"), "nonsense").unwrap();
    let error = open(&image);
    assert!(matches!(error, OpenError::Index { .. }), "{error}");
}

#[test]
fn files_of_an_interrupted_allocation_are_removed() {
    let (scratch, _) = crashed();
    fs::write(scratch.path().join("commitlog/00000000000099999999.tmp"), "x").unwrap();
    fs::write(scratch.path().join("commitlog/00000000000001048576"), "").unwrap();
    let store = scratch.open();
    check_and_append(&store, 100);
    assert!(!scratch.path().join("commitlog/00000000000099999999.tmp").exists());
}
