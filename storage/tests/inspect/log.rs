//! Damage of the log and its watermark.

use std::fs;

use storage::{
    OpenError, Store,
    inspect::{Action, Kind},
};

use crate::{
    common::Scratch,
    stopped::{COUNT, QUEUES, Stopped},
};

#[test]
fn clean_store_is_clean() {
    let store = Stopped::new();
    let (summary, found) = store.verify();
    let kinds: Vec<_> = found.iter().map(|problem| problem.kind).collect();
    // What was sent to deleted topics stays in the log.
    assert_eq!(kinds, [Kind::DeletedTopics], "{found:#?}");
    let messages = COUNT * u64::from(QUEUES) + COUNT / 10 * 2 + 1;
    assert_eq!(summary.records, messages);
    assert_eq!(summary.entries, COUNT * u64::from(QUEUES) + 1);
    assert_eq!(summary.keys, messages);
    assert_eq!((summary.topics, summary.groups, summary.consumer_offsets), (2, 1, 2));
    assert!(summary.segments >= 3 && summary.checkpoint == summary.log_end);
}

#[test]
fn store_in_use_is_refused() {
    let scratch = Scratch::new();
    let _store = scratch.open();
    let error = storage::inspect::verify(scratch.path(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("in use by process"), "{error}");
    let error = storage::inspect::verify(scratch.dir.path(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("is no store"), "{error}");
}

#[test]
fn crashed_store_has_a_replay_window_and_no_problem() {
    let stopped = Stopped::new();
    let store = stopped.scratch.open();
    let topic = store.topic("T").unwrap();
    let messages = crate::common::numbered("x", 0..100);
    crate::common::send(&store, &topic, 0, &messages);
    let image = Stopped { scratch: stopped.scratch.crash_image(), sent: stopped.sent.clone() };
    store.close();
    let (_, found) = image.verify();
    // Full blocks may be in the index, wherever the checkpoint is.
    let window = found.iter().find(|problem| problem.kind == Kind::ReplayWindow).unwrap();
    assert!((16..=100).contains(&window.count), "{window}");
    assert!(!found.iter().any(|problem| problem.kind.is_problem()), "{found:#?}");
    // A record that was torn behind the watermark is none either.
    let end = image.end().0;
    image.write_log(end - 20, b"?");
    let (_, found) = image.verify();
    assert!(found.iter().any(|problem| problem.kind == Kind::TornTail), "{found:#?}");
    assert!(!found.iter().any(|problem| problem.kind.is_problem()), "{found:#?}");
}

#[test]
fn flipped_body_is_reported_and_passed_over() {
    let store = Stopped::new();
    let at = *store.at(1, 100);
    store.write_log(at.log_offset.0 + 200, b"?");
    let found = store.has(&[Kind::LogDamage]);
    let (from, to) = (at.log_offset.0, at.log_offset.0 + u64::from(at.size));
    assert_eq!((found.len(), found[0].log.clone(), found[0].count), (1, Some(from..to), 1));
    assert!(found[0].detail.contains("checksum"), "{}", found[0]);
    let done = store.repair();
    assert!(done.iter().any(|change| change.action == Action::PassOver && change.count == 1));
    let lost = done.iter().find(|change| change.action == Action::Lost).unwrap();
    assert_eq!(lost.log, Some(from..to));
    let (_, found) = store.verify();
    assert!(found.iter().any(|problem| problem.kind == Kind::DamageContained), "{found:#?}");
    store.is_whole_but(&[(1, 100)]);
}

#[test]
fn flipped_head_at_the_end_of_a_queue_keeps_the_offset() {
    let store = Stopped::new();
    let at = *store.at(2, COUNT - 1);
    store.write_log(at.log_offset.0 + 30, b"?");
    let found = store.has(&[Kind::LogDamage]);
    assert_eq!(found[0].log.as_ref().unwrap().start, at.log_offset.0);
    store.repair();
    store.is_whole_but(&[(2, COUNT - 1)]);
}

#[test]
fn damaged_filler_is_written_again() {
    for byte in [0, 3, 4, 7] {
        let store = Stopped::new();
        let segment = store.scratch.config.segment_size_bytes;
        let last = store.sent.iter().flatten().map(|(_, at)| *at);
        let last = last.filter(|at| at.log_offset.0 < segment).max_by_key(|at| at.log_offset);
        // Small messages of other topics may follow.
        let (_, records) = filler_of(&store, last.unwrap().log_offset.0);
        store.write_log(records + byte, &[0x5A]);
        let found = store.has(&[Kind::FillerDamage]);
        assert_eq!(found[0].log, Some(records..segment));
        let done = store.repair();
        assert!(done.iter().any(|change| change.action == Action::Filler));
        store.is_whole_but(&[]);
    }
}

/// Where the filler of the first segment is.
fn filler_of(store: &Stopped, from: u64) -> (u64, u64) {
    let bytes = fs::read(&store.scratch.segments()[0]).unwrap();
    let mut at = usize::try_from(from).unwrap();
    while let Some(protocol::record::Head::Record { size, .. }) =
        protocol::record::frame_len(&bytes[at..])
    {
        at += size as usize;
    }
    (from, at as u64)
}

#[test]
fn missing_segment_is_a_gap_that_is_bridged() {
    let store = Stopped::new();
    let segment = store.scratch.config.segment_size_bytes;
    fs::remove_file(&store.scratch.segments()[1]).unwrap();
    let found = store.has(&[Kind::LogGap]);
    assert_eq!(found[0].log, Some(segment..2 * segment));
    let error = Store::open(store.scratch.config.clone(), store.scratch.clock.clone());
    let error = error.unwrap_err();
    assert!(matches!(error, OpenError::LogGap { .. }), "{error}");
    assert!(error.to_string().contains("mqtool store repair"), "{error}");
    let done = store.repair();
    assert!(done.iter().any(|change| change.action == Action::Bridge), "{done:#?}");
    let (_, found) = store.verify();
    assert!(found.iter().any(|problem| problem.kind == Kind::LostRange), "{found:#?}");
    let lost: Vec<_> = lost_between(&store, segment, 2 * segment);
    assert!(lost.len() > 100);
    store.is_whole_but(&lost);
}

/// The messages of T that begin in a part of the log.
fn lost_between(store: &Stopped, from: u64, to: u64) -> Vec<(u32, u64)> {
    let all = (0..QUEUES).flat_map(|queue| (0..COUNT).map(move |number| (queue, number)));
    all.filter(|&(queue, number)| (from..to).contains(&store.at(queue, number).log_offset.0))
        .collect()
}

#[test]
fn missing_first_segment_is_a_gap_before_the_log() {
    let store = Stopped::new();
    let segment = store.scratch.config.segment_size_bytes;
    fs::remove_file(&store.scratch.segments()[0]).unwrap();
    let found = store.has(&[Kind::LogGap]);
    assert_eq!(found[0].log, Some(0..segment));
    store.repair();
    let opened = store.scratch.open();
    let queue = opened.topic("T").unwrap().queue(0).unwrap();
    let lost = lost_between(&store, 0, segment);
    let first = lost.iter().filter(|(queue, _)| *queue == 0).count() as u64;
    assert_eq!(queue.min().unwrap().0, first);
    assert_eq!(queue.max().unwrap().0, COUNT);
}

#[test]
fn short_segment_is_a_gap_that_is_bridged() {
    let store = Stopped::new();
    let segment = store.scratch.config.segment_size_bytes;
    let file = fs::File::options().write(true).open(&store.scratch.segments()[1]).unwrap();
    file.set_len(segment / 2).unwrap();
    let found = store.has(&[Kind::LogGap, Kind::LogDamage]);
    let gap = found.iter().find(|problem| problem.kind == Kind::LogGap).unwrap();
    assert_eq!(gap.log, Some(segment * 3 / 2..2 * segment));
    store.repair();
    let cut = store.sent.iter().flatten().map(|(_, at)| at);
    let cut = cut.filter(|at| at.log_offset.0 < segment * 3 / 2);
    let cut = cut.map(|at| at.log_offset.0 + u64::from(at.size)).max().unwrap();
    let from = if cut > segment * 3 / 2 { cut - 1_000 } else { segment * 3 / 2 };
    let lost = lost_between(&store, from.min(segment * 3 / 2), 2 * segment);
    store.is_whole_but(&lost);
}

#[test]
fn log_that_ends_too_early_is_cut_with_its_index() {
    let store = Stopped::new();
    let segment = store.scratch.config.segment_size_bytes;
    for path in store.scratch.segments().iter().skip(2) {
        fs::remove_file(path).unwrap();
    }
    let found = store.has(&[Kind::LogShort, Kind::IndexAhead]);
    assert!(found.iter().any(|problem| {
        problem.kind == Kind::LogShort && problem.log.as_ref().unwrap().start == 2 * segment
    }));
    let done = store.repair();
    assert!(done.iter().any(|change| change.action == Action::Lost), "{done:#?}");
    let opened = store.scratch.open();
    let left = COUNT
        - lost_between(&store, 2 * segment, u64::MAX)
            .iter()
            .filter(|(queue, _)| *queue == 0)
            .count() as u64;
    let topic = opened.topic("T").unwrap();
    assert_eq!(topic.queue(0).unwrap().max().unwrap().0, left);
    assert_eq!(opened.committed_offset("G", topic.id, 0).unwrap().unwrap().0, left);
}

#[test]
fn lost_watermark_is_written_again_and_damage_is_no_torn_tail() {
    let store = Stopped::new();
    let end = store.end();
    fs::write(store.scratch.path().join("commitlog.watermark"), vec![0x77; 8192]).unwrap();
    store.has(&[Kind::WatermarkLost]);
    assert_eq!(store.end(), end);
    store.repair();
    store.is_whole_but(&[]);
    // Also when the index is lost and a record in the middle is damaged.
    let store = Stopped::new();
    fs::remove_file(store.scratch.path().join("commitlog.watermark")).unwrap();
    fs::remove_dir_all(store.scratch.path().join("rocksdb")).unwrap();
    store.write_log(store.at(0, 50).log_offset.0, &[0; 400]);
    store.has(&[Kind::WatermarkLost, Kind::IndexMissing, Kind::LogDamage]);
    store.repair();
    store.serves_all_but(&[(0, 50)]);
}

#[test]
fn bytes_behind_a_clean_end_are_reported() {
    let store = Stopped::new();
    let end = store.end().0;
    store.write_log(end + 5_000, b"stale");
    store.has(&[Kind::BehindEnd]);
    store.repair();
    store.is_whole_but(&[]);
}
