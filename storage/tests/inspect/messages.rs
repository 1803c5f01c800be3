//! Printing and finding messages of a stopped store.

use std::{fs, ops::ControlFlow};

use storage::inspect::{self, Messages, Place, Wanted};

use crate::stopped::{COUNT, Stopped};

/// Keys of the messages from a place on, and the damaged ranges on the way.
fn keys(store: &Stopped, place: &Place, max: usize) -> (Vec<String>, usize) {
    let messages = Messages::open(store.scratch.path()).unwrap();
    let mut keys = Vec::new();
    let mut damaged = 0;
    let each = &mut |record: &protocol::record::RecordView<'_>| {
        keys.push(record.property("KEYS").unwrap().to_owned());
        if keys.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    messages.read(place, each, &mut |_, _| damaged += 1).unwrap();
    (keys, damaged)
}

fn queue(from: u64) -> Place {
    Place::Queue { topic: "T".to_owned(), queue_id: 1, from }
}

#[test]
fn messages_are_read_with_and_without_the_index() {
    let store = Stopped::new();
    let wanted: Vec<_> = (290..COUNT).map(|number| format!("k1-{number}")).collect();
    assert_eq!(keys(&store, &queue(290), usize::MAX).0, wanted);
    assert_eq!(keys(&store, &queue(5), 2).0, ["k1-5", "k1-6"]);
    assert!(keys(&store, &queue(COUNT), 1).0.is_empty());
    let all = keys(&store, &Place::Log(0), usize::MAX).0;
    let messages = Messages::open(store.scratch.path()).unwrap();
    let at = store.at(0, 3).log_offset.0;
    let mut found = None;
    let mut each = |record: &protocol::record::RecordView<'_>| {
        found = Some(record.queue_offset);
    };
    assert!(messages.at(at, &mut each).unwrap());
    assert!(messages.at(at + 1, &mut |_| {}).is_err());
    assert_eq!(found, Some(3));
    drop(messages);
    fs::remove_dir_all(store.scratch.path().join("rocksdb")).unwrap();
    assert_eq!(keys(&store, &queue(290), usize::MAX).0, wanted);
    assert_eq!(keys(&store, &Place::Log(0), usize::MAX).0, all);
}

#[test]
fn damage_is_passed_over_and_said() {
    let store = Stopped::new();
    store.write_log(store.at(1, 100).log_offset.0 + 200, b"?");
    let (found, damaged) = keys(&store, &Place::Log(0), usize::MAX);
    assert_eq!(damaged, 1);
    assert!(!found.iter().any(|key| key == "k1-100"));
    let found = keys(&store, &queue(99), 3).0;
    assert_eq!(found, ["k1-99", "k1-101", "k1-102"]);
}

#[test]
fn wanted_messages_fit_everything_that_is_given() {
    let store = Stopped::new();
    let count = |wanted: &Wanted| {
        let messages = Messages::open(store.scratch.path()).unwrap();
        let mut count = 0;
        let each = &mut |record: &protocol::record::RecordView<'_>| {
            count += u64::from(wanted.fits(record));
            ControlFlow::Continue(())
        };
        messages.read(&Place::Log(0), each, &mut |_, _| {}).unwrap();
        count
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(count(&Wanted { topic: some("Gone"), ..Wanted::default() }), COUNT / 10);
    assert_eq!(count(&Wanted { key: some("k2-17"), ..Wanted::default() }), 1);
    assert_eq!(count(&Wanted { text: some("body 2 17"), ..Wanted::default() }), 11);
    let none = Wanted { text: some("body 2 17"), topic: some("Gone"), ..Wanted::default() };
    assert_eq!(count(&none), 0);
    let later = Wanted { from_ms: Some(crate::common::T0 + 1), ..Wanted::default() };
    assert_eq!(count(&later), 0);
}

#[test]
fn tree_says_what_is_there() {
    let store = Stopped::new();
    let tree = inspect::tree(store.scratch.path(), true).unwrap();
    let (summary, _) = store.verify();
    assert_eq!((tree.log_end, tree.checkpoint), (summary.log_end, summary.log_end));
    assert_eq!(tree.segments.len() as u64, summary.segments);
    assert_eq!(tree.segments.iter().filter_map(|s| s.records).sum::<u64>(), summary.records);
    assert_eq!(tree.segments[0].first_ms, Some(crate::common::T0));
    assert_eq!(tree.segments[1].last_ms, Some(crate::common::T0));
    assert!(tree.slots.len() == 2 && tree.slots[0].clean);
    let topics: Vec<_> = tree.topics.iter().map(|of| (of.name.as_str(), of.records)).collect();
    assert_eq!(topics, [("Again", Some(1)), ("T", Some(3 * COUNT))]);
    let blocks = tree.families.iter().find(|family| family.name == "consume_queue").unwrap();
    assert_eq!((blocks.rows, blocks.derived), (summary.blocks, true));
    assert_eq!((tree.groups, tree.consumer_offsets), (1, 2));
    let quick = inspect::tree(store.scratch.path(), false).unwrap();
    assert_eq!(quick.segments[1].records, None);
    assert_eq!(quick.segments[1].last_ms, tree.segments[1].last_ms);
}
