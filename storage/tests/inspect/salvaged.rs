//! A damaged block of a family that the log does not tell: what is readable counts, and
//! `config/*.json` fill the hole.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use rocksdb::{BottommostLevelCompaction, CompactOptions};
use storage::{
    GroupConfig, OpenError, QueueOffset, Store,
    inspect::{Action, Change, Kind},
};

use crate::{
    common::{Message, Scratch, copy, send, topic, wait},
    stopped::Stopped,
};

/// More groups than a block of RocksDB holds.
const GROUPS: u64 = 4_000;

/// Writes everything into one table of a family and flips a bit in the middle of it.
fn damage(store: &Stopped, family: &str) {
    let mut files = Vec::new();
    store.with_rows(|db| {
        let of = db.cf_handle(family).unwrap();
        db.flush_cf(of).unwrap();
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        db.compact_range_cf_opt(of, None::<&[u8]>, None::<&[u8]>, &options);
        files = db.live_files().unwrap();
    });
    files.retain(|file| file.column_family_name == family);
    assert_eq!(files.len(), 1, "{files:?}");
    let path = store.scratch.path().join("rocksdb").join(files[0].name.trim_start_matches('/'));
    let file = File::options().read(true).write(true).open(path).unwrap();
    // The data comes first; what follows it is short.
    let at = if files[0].num_entries > 100 { files[0].size as u64 / 2 } else { 20 };
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    store.has(&[Kind::IndexUnreadable]);
}

fn taken(done: &[Change], file: &str) -> u64 {
    let of = done.iter().filter(|change| change.action == Action::Restore);
    of.filter(|change| change.detail.contains(file)).map(|change| change.count).sum()
}

fn groups(store: &Store) -> Vec<String> {
    let mut names: Vec<_> = store.groups().iter().map(|group| group.name.clone()).collect();
    names.sort();
    names
}

#[test]
fn lost_topics_groups_and_offsets_come_from_the_exported_files() {
    for (family, file, count) in [
        ("topic", "config/topics.json", 2),
        ("group", "config/subscriptionGroup.json", 1),
        ("consumer_offset", "config/consumerOffset.json", 2),
    ] {
        let store = Stopped::new();
        let opened = store.scratch.open();
        wait(opened.put_group(GroupConfig::new("Deleted"))).unwrap();
        wait(opened.delete_group("Deleted", true)).unwrap();
        opened.close();
        damage(&store, family);
        let done = store.repair();
        assert_eq!(taken(&done, file), count, "{family}: {done:#?}");
        store.is_whole_but(&[]);
        let opened = store.scratch.open();
        assert_eq!(groups(&opened), ["G"], "{family}");
        opened.close();
    }
}

fn commit(store: &Arc<Store>, offset: u64) {
    let topic = store.topic("T").unwrap();
    for group in 0..GROUPS {
        store.commit_offset(&format!("g{group:06}"), &topic, 0, QueueOffset(offset));
    }
}

#[test]
fn what_is_readable_counts_and_only_the_hole_is_filled() {
    let store = Stopped::new();
    let opened = store.scratch.open();
    commit(&opened, 1);
    opened.close();
    let before = store.copy();
    let opened = store.scratch.open();
    commit(&opened, 2);
    opened.close();
    // As if the broker had been killed before the files were written again.
    let name = "config/consumerOffset.json";
    fs::copy(before.scratch.path().join(name), store.scratch.path().join(name)).unwrap();
    damage(&store, "consumer_offset");
    let done = store.repair();
    let opened = store.scratch.open();
    let topic = opened.topic("T").unwrap();
    let mut old = 0;
    for group in 0..GROUPS {
        let found = opened.committed_offset(&format!("g{group:06}"), topic.id, 0).unwrap();
        let QueueOffset(found) = found.unwrap();
        assert!(found == 1 || found == 2, "group {group} is at {found}");
        old += u64::from(found == 1);
    }
    opened.close();
    // A block is 16 KiB, an offset 20 bytes or more.
    assert!((1..=16_384 / 20).contains(&old), "{old}");
    assert_eq!(taken(&done, "config/consumerOffset.json"), old, "{done:#?}");
    store.is_whole_but(&[]);
}

#[test]
fn topic_that_is_newer_than_the_exported_files_is_made_from_its_messages() {
    let store = Stopped::new();
    let before = store.copy();
    store.scratch.hand.advance(1_000);
    let opened = store.scratch.open();
    let late = topic(&opened, "Late", 2);
    let topics = (opened.topics().len() as u64) - 1;
    send(&opened, &late, 1, &[Message::new("k", "late")]);
    opened.close();
    let name = "config/topics.json";
    fs::copy(before.scratch.path().join(name), store.scratch.path().join(name)).unwrap();
    damage(&store, "topic");
    let done = store.repair();
    assert_eq!(taken(&done, name), topics, "{done:#?}");
    store.is_whole_but(&[]);
    let opened = store.scratch.open();
    let late = opened.topic("Late").unwrap();
    assert_eq!(late.queue(1).unwrap().max().unwrap(), QueueOffset(1));
    opened.close();
}

/// The store as it would be found if its process died now.
fn killed(store: &Stopped) -> Stopped {
    let image = store.scratch.crash_image();
    copy(&store.scratch.path().join("config"), &image.path().join("config"));
    Stopped { scratch: image, sent: store.sent.clone() }
}

/// The files of RocksDB whose names begin or end so.
fn files(store: &Stopped, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.scratch.path().join("rocksdb")).unwrap();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let fits = |path: &PathBuf| name(path).starts_with(part) || name(path).ends_with(part);
    entries.map(|entry| entry.unwrap().path()).filter(fits).collect()
}

#[test]
fn what_only_the_log_of_rocksdb_has_survives_a_damaged_manifest() {
    let store = Stopped { scratch: Scratch::new(), sent: Vec::new() };
    let opened = store.scratch.open();
    let first = topic(&opened, "T", 2);
    send(&opened, &first, 1, &[Message::new("k", "first")]);
    opened.commit_offset("G", &first, 1, QueueOffset(1));
    wait(opened.put_group(GroupConfig::new("G"))).unwrap();
    let image = store.scratch.crash_image();
    opened.close();
    let image = Stopped { scratch: image, sent: Vec::new() };
    assert_eq!(files(&image, ".sst"), Vec::<PathBuf>::new());
    fs::write(&files(&image, "MANIFEST-")[0], "nonsense").unwrap();
    image.repair();
    let opened = image.scratch.open();
    let first = opened.topic("T").unwrap();
    assert_eq!(first.queue(1).unwrap().max().unwrap(), QueueOffset(1));
    assert_eq!(groups(&opened), ["G"]);
    assert_eq!(opened.committed_offset("G", first.id, 1).unwrap(), Some(QueueOffset(1)));
    opened.close();
}

#[test]
fn manifest_with_a_record_of_an_unwritten_kind_is_not_read_for_ever() {
    let damaged = || {
        let store = Stopped::new();
        let path = &files(&store, "MANIFEST-")[0];
        let mut bytes = fs::read(path).unwrap();
        // The kind of the first record: a whole one becomes one of a recycled file.
        assert_eq!(bytes[6], 1);
        bytes[6] = 5;
        fs::write(path, bytes).unwrap();
        store
    };
    let store = damaged();
    store.has(&[Kind::IndexUnreadable]);
    store.repair();
    store.is_whole_but(&[]);
    // A start puts it right.
    damaged().is_whole_but(&[]);
}

#[test]
fn topics_made_since_the_exported_files_survive_damage_of_the_log_of_rocksdb() {
    let store = Stopped::new();
    let opened = store.scratch.open();
    store.scratch.hand.advance(1_000);
    let late = topic(&opened, "Late", 2);
    send(&opened, &late, 1, &[Message::new("k", "late")]);
    topic(&opened, "Empty", 1);
    wait(opened.put_group(GroupConfig::new("H"))).unwrap();
    let image = killed(&store);
    opened.close();
    let exported = fs::read_to_string(image.scratch.path().join("config/topics.json")).unwrap();
    assert!(!exported.contains("Late"), "{exported}");
    let log = &files(&image, ".log")[0];
    let mut bytes = fs::read(log).unwrap();
    let at = bytes.windows(4).position(|text| text == b"Late").unwrap();
    bytes[at] ^= 1;
    fs::write(log, bytes).unwrap();
    let refused = Store::open(image.scratch.config.clone(), image.scratch.clock.clone());
    assert!(matches!(refused, Err(OpenError::IndexBehind { .. })), "{refused:?}");
    // Refusing must not have removed what follows.
    image.has(&[Kind::IndexBehind]);
    image.repair();
    let opened = image.scratch.open();
    assert!(opened.topic("Empty").is_some());
    assert_eq!(groups(&opened), ["G", "H"]);
    let late = opened.topic("Late").unwrap();
    assert_eq!(late.queue(1).unwrap().max().unwrap(), QueueOffset(1));
    opened.close();
    image.is_whole_but(&[]);
}
