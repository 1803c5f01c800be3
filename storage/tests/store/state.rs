//! Topics, groups and consumer offsets.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use storage::{
    AppendBatch, AppendError, FilterType, GroupConfig, Mode, QueueOffset, ReadStatus, RetryPolicy,
    StateError, Store, TopicConfig,
};

use crate::common::{
    ANY, Message, Scratch, T0, limits, numbered, push, read, read_all, send, topic, topic_config,
    wait,
};

#[test]
fn topics_and_groups_survive_a_crash_with_all_their_fields() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let config = TopicConfig {
        name: "T".to_owned(),
        read_queues: 3,
        write_queues: 5,
        perm: 4,
        filter_type: FilterType::MultiTag,
        sys_flag: 2,
        order: true,
        attributes: BTreeMap::from([("message.type".to_owned(), "FIFO".to_owned())]),
    };
    wait(store.put_topic(config.clone())).unwrap();
    let mut group = GroupConfig::new("G");
    group.retry_policy = RetryPolicy::Exponential { initial_ms: 1, max_ms: 9, multiplier: 2 };
    group.retry_max_times = -1;
    wait(store.put_group(group.clone())).unwrap();
    let versions = (store.topic_version(), store.group_version());
    assert_eq!((versions.0.counter, versions.0.timestamp), (1, T0));
    let store = scratch.crash_image();
    let store = store.open();
    let topic = store.topic("T").unwrap();
    assert_eq!(topic.config, config);
    assert!(topic.queue(4).is_some() && topic.queue(5).is_none());
    assert_eq!(*store.group("G").unwrap(), group);
    assert_eq!((store.topics().len(), store.groups().len()), (1, 1));
    assert_eq!((store.topic_version(), store.group_version()), versions);
    assert!(store.topic("t").is_none() && store.group("g").is_none());
}

#[test]
fn unchanged_configuration_does_not_count_as_a_change() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let first = topic(&store, "T", 1);
    let again = topic(&store, "T", 1);
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!(store.topic_version().counter, 1);
    let changed = topic(&store, "T", 2);
    assert_eq!((changed.id, store.topic_version().counter), (first.id, 2));
}

#[test]
fn fewer_queues_hide_messages_and_more_show_them_again() {
    let scratch = Scratch::new();
    let store = scratch.open();
    send(&store, &topic(&store, "T", 4), 3, &numbered("k", 0..5));
    assert!(topic(&store, "T", 2).queue(3).is_none());
    store.close();
    drop(store);
    let store = scratch.open();
    assert!(store.topic("T").unwrap().queue(3).is_none());
    assert_eq!(read_all(&topic(&store, "T", 4).queue(3).unwrap(), 0).len(), 5);
}

#[test]
fn too_many_queues_are_refused() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let error = wait(store.put_topic(topic_config("T", 65_537))).unwrap_err();
    assert_eq!(error.to_string(), "the topic T would have 65537 queues, the limit is 65536");
}

#[test]
fn deleted_topic_shows_nothing_of_itself_in_its_next_life() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let first = topic(&store, "T", 2);
    send(&store, &first, 0, &numbered("old", 0..200));
    store.commit_offset("G", &first, 0, QueueOffset(150));
    wait(store.delete_topic("T")).unwrap();
    assert!(store.topic("T").is_none());
    let gone = first.queue(0).unwrap();
    assert_eq!(read(&gone, 0, 32).status, ReadStatus::NoMatchedLogicQueue);
    let mut batch = AppendBatch::default();
    push(&mut batch, &first, 0, &Message::new("late", "late")).unwrap();
    let error = store.append(&mut batch).unwrap_err();
    assert_eq!(error, AppendError::TopicDeleted { topic: first.id });
    store.commit_offset("G", &first, 0, QueueOffset(160));

    let second = topic(&store, "T", 2);
    assert_ne!(second.id, first.id);
    let check = |store: &Store, count: u64| {
        let topic = store.topic("T").unwrap();
        assert_eq!(topic.id, second.id);
        let queue = topic.queue(0).unwrap();
        assert_eq!(read_all(&queue, 0), numbered("new", 0..count));
        assert!(store.query_key("T", "old7", 32, 0, i64::MAX).unwrap().records.is_empty());
        let new = store.query_key("T", "new0", 32, 0, i64::MAX).unwrap();
        assert_eq!(new.records.len(), usize::from(count > 0));
        assert_eq!(store.committed_offset("G", topic.id, 0).unwrap(), None);
        assert_eq!(store.committed_offset("G", first.id, 0).unwrap(), None);
        assert_eq!(store.offsets_of_group("G").unwrap(), []);
    };
    check(&store, 0);
    let image = scratch.crash_image();
    check(&image.open(), 0);
    send(&store, &second, 0, &numbered("new", 0..70));
    check(&store, 70);
    let image = scratch.crash_image();
    check(&image.open(), 70);
    store.close();
    check(&scratch.open(), 70);
}

#[test]
fn waiting_reader_is_woken_when_its_topic_is_deleted() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let queue = topic(&store, "T", 1).queue(0).unwrap();
    let waiter = std::thread::spawn({
        let queue = Arc::clone(&queue);
        move || {
            wait(async {
                let woken = queue.wait_beyond(QueueOffset(0));
                tokio::time::timeout(Duration::from_secs(20), woken).await.unwrap();
            });
        }
    });
    while queue.waiting() == 0 && !waiter.is_finished() {
        std::thread::yield_now();
    }
    wait(store.delete_topic("T")).unwrap();
    waiter.join().unwrap();
}

#[test]
fn unknown_names_are_errors() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let error = wait(store.delete_topic("T")).unwrap_err();
    assert_eq!(error, StateError::NoTopic { name: "T".to_owned() });
    let error = wait(store.delete_group("G", true)).unwrap_err();
    assert_eq!(error, StateError::NoGroup { name: "G".to_owned() });
}

#[test]
fn committed_offsets_are_read_at_once_and_kept() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let (one, two) = (topic(&store, "One", 2), topic(&store, "Two", 1));
    store.commit_offset("G", &one, 0, QueueOffset(5));
    store.commit_offset("G", &one, 0, QueueOffset(7));
    store.commit_offset("G", &two, 0, QueueOffset(1));
    store.commit_offset("H", &one, 1, QueueOffset(3));
    store.commit_offset("H", &one, 9, QueueOffset(3));
    let check = |store: &Store| {
        assert_eq!(store.committed_offset("G", one.id, 0).unwrap(), Some(QueueOffset(7)));
        assert_eq!(store.committed_offset("G", one.id, 1).unwrap(), None);
        assert_eq!(
            store.offsets_of_group("G").unwrap(),
            [(one.id, 0, QueueOffset(7)), (two.id, 0, QueueOffset(1))]
        );
        assert_eq!(store.groups_with_offsets_on(one.id).unwrap(), ["G", "H"]);
        assert_eq!(store.groups_with_offsets_on(two.id).unwrap(), ["G"]);
    };
    check(&store);
    store.close();
    check(&scratch.open());
}

#[test]
fn offsets_are_written_within_a_moment_without_closing() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    store.commit_offset("G", &topic, 0, QueueOffset(5));
    // The promise is one second; the test only insists that it happens by itself.
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        let image = scratch.crash_image();
        let image = image.open();
        if image.committed_offset("G", topic.id, 0).unwrap() == Some(QueueOffset(5)) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "never written");
    }
}

#[test]
fn deleting_a_group_removes_its_offsets_if_asked() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let topic = topic(&store, "T", 1);
    for (group, clean) in [("G", false), ("H", true), ("H2", true)] {
        wait(store.put_group(GroupConfig::new(group))).unwrap();
        store.commit_offset(group, &topic, 0, QueueOffset(5));
        if group != "H2" {
            wait(store.delete_group(group, clean)).unwrap();
            assert!(store.group(group).is_none());
        }
    }
    let check = |store: &Store| {
        for (group, kept) in [("G", true), ("H", false), ("H2", true)] {
            let offset = store.committed_offset(group, topic.id, 0).unwrap();
            assert_eq!(offset.is_some(), kept, "{group}");
        }
    };
    check(&store);
    store.close();
    check(&scratch.open());
}

#[test]
fn many_topics_are_created_together() {
    let scratch = Scratch::new();
    let store = scratch.open();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..50 {
                    topic(store, &format!("T{thread}-{i}"), 4);
                }
            });
        }
    });
    let topics = store.topics();
    let ids: std::collections::BTreeSet<_> = topics.iter().map(|topic| topic.id).collect();
    assert_eq!((topics.len(), ids.len()), (200, 200));
    store.close();
    assert_eq!(scratch.open().topics().len(), 200);
}

#[test]
fn hot_read_of_a_new_topic_needs_no_disk() {
    let scratch = Scratch::new();
    let store = scratch.open();
    let queue = topic(&store, "T", 1).queue(0).unwrap();
    let read = queue.read(QueueOffset(0), limits(1), Mode::HotOnly, ANY).unwrap();
    assert_eq!(read.status, ReadStatus::NoMessageInQueue);
}
