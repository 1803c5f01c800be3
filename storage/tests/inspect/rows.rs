//! Damage of RocksDB.

use std::fs;

use storage::inspect::{Action, Change, Kind};

use crate::stopped::{COUNT, QUEUES, Stopped};

fn is_set_aside(store: &Stopped, done: &[Change]) -> bool {
    let aside = fs::read_dir(store.scratch.path())
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with("rocksdb.broken-"));
    aside && done.iter().any(|change| change.action == Action::SetAside)
}

/// The row of block 1 of queue 1 of T.
fn block_row(rows: &[(Vec<u8>, Vec<u8>)]) -> &(Vec<u8>, Vec<u8>) {
    rows.iter().find(|(key, _)| key[4..] == [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap()
}

#[test]
fn removed_block_is_missing_entries() {
    let store = Stopped::new();
    store.with_rows(|db| {
        let rows = Stopped::rows(db, "consume_queue");
        db.delete_cf(db.cf_handle("consume_queue").unwrap(), &block_row(&rows).0).unwrap();
    });
    let found = store.has(&[Kind::EntryMissing]);
    assert_eq!((found.len(), found[0].count), (1, 64));
    let queue = found[0].queue.clone().unwrap();
    assert_eq!((queue.topic.as_str(), queue.queue_id, queue.from, queue.to), ("T", 1, 64, 128));
    let done = store.repair();
    assert!(is_set_aside(&store, &done), "{done:#?}");
    store.is_whole_but(&[]);
}

#[test]
fn block_of_another_queue_is_wrong_entries() {
    let store = Stopped::new();
    store.with_rows(|db| {
        let rows = Stopped::rows(db, "consume_queue");
        let (key, _) = block_row(&rows);
        let other = rows.iter().find(|(other, _)| other[..4] == key[..4] && other != key).unwrap();
        db.put_cf(db.cf_handle("consume_queue").unwrap(), key, &other.1).unwrap();
    });
    let found = store.has(&[Kind::EntryWrong]);
    assert_eq!(found.iter().map(|problem| problem.count).sum::<u64>(), 64);
    store.repair();
    store.is_whole_but(&[]);
}

#[test]
fn changed_tag_hash_is_a_wrong_entry() {
    let store = Stopped::new();
    store.with_rows(|db| {
        let rows = Stopped::rows(db, "consume_queue");
        let (key, value) = block_row(&rows);
        let mut value = value.clone();
        *value.last_mut().unwrap() ^= 1;
        db.put_cf(db.cf_handle("consume_queue").unwrap(), key, value).unwrap();
    });
    let found = store.has(&[Kind::EntryWrong]);
    assert_eq!((found.len(), found[0].count), (1, 1));
    store.repair();
    store.is_whole_but(&[]);
}

#[test]
fn block_that_repeats_others_is_stray_entries() {
    let store = Stopped::new();
    store.with_rows(|db| {
        let rows = Stopped::rows(db, "consume_queue");
        let (key, value) = block_row(&rows);
        let mut key = key.clone();
        *key.last_mut().unwrap() = 9;
        db.put_cf(db.cf_handle("consume_queue").unwrap(), key, value).unwrap();
    });
    let found = store.has(&[Kind::EntryStray]);
    assert_eq!((found.len(), found[0].count), (1, 64));
    store.repair();
    store.is_whole_but(&[]);
}

#[test]
fn missing_bucket_is_missing_keys_and_an_invented_one_stray_keys() {
    let store = Stopped::new();
    let mut count = 0;
    store.with_rows(|db| {
        let rows = Stopped::rows(db, "key_index");
        let buckets: Vec<_> = rows.iter().filter(|(key, _)| key[0] == 1).collect();
        let family = db.cf_handle("key_index").unwrap();
        db.delete_cf(family, &buckets[0].0).unwrap();
        count = buckets[0].1.len() as u64 / 12;
    });
    let found = store.has(&[Kind::KeyMissing]);
    assert_eq!(found.iter().map(|problem| problem.count).sum::<u64>(), count);
    store.repair();
    store.is_whole_but(&[]);
    let store = Stopped::new();
    store.with_rows(|db| {
        let rows = Stopped::rows(db, "key_index");
        let (key, value) = rows.iter().find(|(key, _)| key[0] == 1).unwrap();
        let mut value = value.clone();
        value.extend_from_slice(&[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0x10, 0]);
        db.put_cf(db.cf_handle("key_index").unwrap(), key, value).unwrap();
    });
    let found = store.has(&[Kind::KeyStray]);
    assert_eq!((found.len(), found[0].count), (1, 1));
    store.repair();
    store.is_whole_but(&[]);
}

#[test]
fn consumer_offset_beyond_the_end_is_moved_back() {
    let store = Stopped::new();
    store.with_rows(|db| {
        let rows = Stopped::rows(db, "consumer_offset");
        let family = db.cf_handle("consumer_offset").unwrap();
        let (key, _) = rows.iter().find(|(_, value)| value[7] != 7).unwrap();
        db.put_cf(family, key, (COUNT + 1).to_be_bytes()).unwrap();
    });
    let found = store.has(&[Kind::ConsumerBeyond]);
    assert_eq!(found[0].queue.as_ref().unwrap().to, COUNT + 1);
    let done = store.repair();
    assert!(done.iter().any(|change| change.action == Action::MoveBack), "{done:#?}");
    store.is_whole_but(&[]);
}

#[test]
fn garbage_in_a_topic_row_loses_nothing_that_was_exported() {
    let garbage = |store: &Stopped| {
        store.with_rows(|db| {
            db.put_cf(db.cf_handle("topic").unwrap(), "T", [0xFF; 9]).unwrap();
        });
        store.has(&[Kind::RowDamaged]);
    };
    let store = Stopped::new();
    garbage(&store);
    let done = store.repair();
    let taken = done.iter().find(|change| change.action == Action::Restore).unwrap();
    assert!(taken.count == 1 && taken.detail.contains("config/topics.json"), "{}", taken.detail);
    // Offsets know topics by a number, which the consume queues still tell.
    store.is_whole_but(&[]);
    let store = Stopped::new();
    fs::remove_dir_all(store.scratch.path().join("config")).unwrap();
    garbage(&store);
    let done = store.repair();
    let created = done.iter().find(|change| change.action == Action::Create).unwrap();
    assert!(created.detail.contains("topic T with 3 queues"), "{}", created.detail);
    store.is_whole_but(&[]);
}

#[test]
fn rows_that_contradict_each_other_or_the_log_are_reported() {
    let store = Stopped::new();
    store.with_rows(|db| {
        let family = db.cf_handle("topic").unwrap();
        let row = db.get_cf(family, "T").unwrap().unwrap();
        db.put_cf(family, "Twin", row).unwrap();
    });
    assert!(store.has(&[Kind::RowContradicts])[0].detail.contains("the same id"));
    store.repair();
    store.is_whole_but(&[]);
    let store = Stopped::new();
    store.with_rows(|db| {
        let end = db.get("log_end").unwrap().unwrap();
        let end = u64::from_be_bytes(end.try_into().unwrap());
        db.put("log_end", (end - 1).to_be_bytes()).unwrap();
    });
    store.has(&[Kind::BeyondLogEnd]);
    store.repair();
    store.is_whole_but(&[]);
}

#[test]
fn lost_rocksdb_is_built_again_from_the_log() {
    let store = Stopped::new();
    fs::remove_dir_all(store.scratch.path().join("rocksdb")).unwrap();
    fs::remove_dir_all(store.scratch.path().join("config")).unwrap();
    store.has(&[Kind::IndexMissing]);
    let done = store.repair();
    assert!(done.iter().any(|change| change.action == Action::Create), "{done:#?}");
    let opened = store.serves_all_but(&[]);
    let topic = opened.topic("T").unwrap();
    assert_eq!(topic.config.write_queues, QUEUES);
    // Of a topic that was created again, only the last incarnation.
    let again = opened.topic("Again").unwrap();
    assert_eq!(again.queue(0).unwrap().max().unwrap().0, 1);
}

#[test]
fn lost_rocksdb_gets_its_rows_from_the_files_for_rocketmq() {
    let store = Stopped::new();
    fs::remove_dir_all(store.scratch.path().join("rocksdb")).unwrap();
    let done = store.repair();
    assert!(done.iter().any(|change| change.action == Action::Restore), "{done:#?}");
    store.is_whole_but(&[]);
}

#[test]
fn rocksdb_without_its_manifest_or_tables_is_salvaged() {
    type Break = fn(&std::path::Path);
    let breaks: [(&str, Break); 3] = [
        ("CURRENT", |dir| fs::write(dir.join("CURRENT"), "nonsense").unwrap()),
        ("manifest", |dir| {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if entry.file_name().to_string_lossy().starts_with("MANIFEST") {
                    fs::write(entry.path(), "nonsense").unwrap();
                }
            }
        }),
        ("CURRENT is gone", |dir| fs::remove_file(dir.join("CURRENT")).unwrap()),
    ];
    for (what, damage) in breaks {
        let store = Stopped::new();
        // So that every row is in a table.
        store.with_rows(|_| {});
        damage(&store.scratch.path().join("rocksdb"));
        let kind =
            if what == "CURRENT is gone" { Kind::IndexMissing } else { Kind::IndexUnreadable };
        store.has(&[kind]);
        let done = store.repair();
        assert!(is_set_aside(&store, &done), "{what}: {done:#?}");
        assert!(done.iter().any(|change| change.action == Action::Keep && change.count == 2));
        store.is_whole_but(&[]);
    }
}

#[test]
fn rocksdb_that_lost_durable_changes_is_reported() {
    let store = Stopped::new();
    let mark = store.scratch.path().join("commitlog.watermark");
    let later = store.copy();
    let opened = later.scratch.open();
    let topic = opened.topic("T").unwrap();
    for offset in 10..20 {
        opened.commit_offset("G", &topic, 2, storage::QueueOffset(offset));
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    crate::common::wait(opened.put_group(storage::GroupConfig::new("H"))).unwrap();
    opened.close();
    drop((opened, topic));
    // The watermark of later with the RocksDB of before.
    fs::copy(later.scratch.path().join("commitlog.watermark"), &mark).unwrap();
    store.has(&[Kind::IndexBehind]);
    store.repair();
    store.is_whole_but(&[]);
}
