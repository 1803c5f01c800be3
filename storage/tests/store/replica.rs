//! A master and its slave without a wire between them.

use std::{collections::BTreeMap, fs, sync::Arc};

use storage::{
    AppendBatch, GroupConfig, QueueOffset, ReadStatus, Store,
    replica::{
        Delta, Deltas, PendingOffset, ReplicaError, Role, SavedRole, Snapshot, Work, digest, plan,
        save_role, saved_role, stage,
    },
};

use crate::common::{
    Message, Scratch, append, numbered, push, read, read_all, send, sync_flush, topic, wait,
};

const PIECE: usize = 10_000;

/// A scratch store for a master.
fn master() -> Scratch {
    let mut scratch = Scratch::new();
    scratch.config.kept_wal_bytes = 64 << 20;
    scratch.config.segment_size_bytes = 64 << 10;
    scratch.config.checkpoint_interval_ms = 100;
    scratch
}

/// A scratch store for a slave, with another segment size than its master's.
fn slave() -> Scratch {
    let mut scratch = master();
    scratch.config.segment_size_bytes = 256 << 10;
    scratch.config.role = Role::Slave;
    scratch
}

/// Carries one piece of the log, if there is more.
fn carry_log(from: &Store, to: &Store, max: usize) -> bool {
    let piece = from.log_piece(to.received().unwrap(), max).unwrap();
    piece.map(|piece| to.receive_log(&piece).unwrap()).is_some()
}

/// The changes that come next.
fn deltas(from: &Store, to: &Store) -> Vec<Delta> {
    match from.deltas_after(to.position().sequence, 1).unwrap() {
        Deltas::Next(deltas) => deltas,
        Deltas::Gone => panic!("the changes are gone"),
    }
}

/// Carries everything that the master has now.
fn carry(from: &Store, to: &Store) {
    let target = from.position();
    while to.position().appended < target.appended && carry_log(from, to, PIECE) {}
    while to.position().sequence < target.sequence {
        for delta in deltas(from, to) {
            while to.position().appended < delta.needs && carry_log(from, to, PIECE) {}
            to.apply(&delta).unwrap();
        }
    }
    to.set_master_confirmed(target.confirmed).unwrap();
    assert_eq!(to.position().confirmed, target.confirmed);
}

/// Brings a copy of the master's index to where the slave's next open finds it.
fn carry_snapshot(snapshot: &Snapshot, slave: &Scratch, work: Work) {
    fs::create_dir_all(slave.path()).unwrap();
    let staged = stage(slave.path(), snapshot.id).unwrap();
    for file in &snapshot.files {
        while staged.have(&file.name).unwrap() < file.bytes {
            let at = staged.have(&file.name).unwrap();
            staged.write(&file.name, at, &snapshot.read(&file.name, at, PIECE).unwrap()).unwrap();
        }
    }
    staged.finish(&snapshot.files).unwrap();
    plan(slave.path(), &Work { install_snapshot: Some(snapshot.id), ..work }).unwrap();
}

/// A slave that has just got its first snapshot.
fn join(master: &Store, slave: &Scratch) -> Arc<Store> {
    carry_snapshot(&master.snapshot().unwrap(), slave, Work::default());
    slave.open()
}

fn queues(store: &Store) -> BTreeMap<(String, u32), Vec<Message>> {
    let mut found = BTreeMap::new();
    for topic in store.topics() {
        for id in 0..topic.config.read_queues {
            let queue = topic.queue(id).unwrap();
            let messages = read_all(&queue, queue.min().unwrap().0);
            found.insert((topic.config.name.clone(), id), messages);
        }
    }
    found
}

/// Both show the same, and hold the same when they are closed.
fn check_same(master: &Store, slave: &Store) {
    assert!(slave.serves());
    assert_eq!(queues(master), queues(slave));
    // The master may write at any time.
    let (one, other) = loop {
        carry(master, slave);
        let pair = (master.state_digest().unwrap(), slave.state_digest().unwrap());
        if pair.0.sequence == pair.1.sequence {
            break pair;
        }
    };
    assert_eq!(one, other);
    let (from, to) = (slave.position().log_min, slave.position().appended);
    assert_eq!(master.log_crc(from, to).unwrap(), slave.log_crc(from, to).unwrap());
    let mut groups: Vec<_> = slave.groups().iter().map(|group| group.name.clone()).collect();
    groups.sort();
    let mut expected: Vec<_> = master.groups().iter().map(|group| group.name.clone()).collect();
    expected.sort();
    assert_eq!(groups, expected);
    assert_eq!(master.topic_version(), slave.topic_version());
}

#[test]
fn slave_gets_everything_and_holds_the_same_bytes() {
    let (from, to) = (master(), slave());
    let leader = from.open();
    let a = topic(&leader, "A", 2);
    send(&leader, &a, 0, &numbered("a", 0..500));
    wait(leader.put_group(GroupConfig::new("G"))).unwrap();
    leader.commit_offset("G", &a, 0, QueueOffset(7));
    let follower = join(&leader, &to);
    assert_eq!(follower.role(), Role::Slave);
    assert!(!follower.serves(), "its index is ahead of its log");
    carry(&leader, &follower);
    check_same(&leader, &follower);
    // And on: other topics, deleted ones, large messages over the ends of segments.
    for round in 0..20_u64 {
        let b = topic(&leader, "B", 3);
        send(&leader, &a, 1, &[Message::new(format!("large{round}"), vec![7; 30_000])]);
        send(&leader, &b, 2, &numbered("b", round * 70..round * 70 + 70));
        leader.commit_offset("G", &a, 0, QueueOffset(10 * round));
        carry(&leader, &follower);
        check_same(&leader, &follower);
        if round % 5 == 4 {
            wait(leader.delete_topic("B")).unwrap();
        }
    }
    wait(leader.settle()).unwrap();
    carry(&leader, &follower);
    let found = follower.committed_offset("G", a.id, 0).unwrap();
    assert_eq!(found, Some(QueueOffset(190)));
    leader.close();
    // Closing has written a last checkpoint, which the slave has not seen.
    let leader = from.open();
    carry(&leader, &follower);
    check_same(&leader, &follower);
    follower.close();
    drop(leader);
    let (one, other) = (digest(from.path()).unwrap(), digest(to.path()).unwrap());
    assert_eq!(
        (one.log_min, one.log_end, one.log_crc),
        (other.log_min, other.log_end, other.log_crc)
    );
}

#[test]
fn everything_comes_in_small_steps_and_nothing_is_shown_early() {
    let (from, mut to) = (master(), slave());
    sync_flush(&mut to.config);
    let leader = from.open();
    let a = topic(&leader, "A", 1);
    let follower = join(&leader, &to);
    carry(&leader, &follower);
    let sent = numbered("m", 0..300);
    for message in &sent {
        send(&leader, &a, 0, std::slice::from_ref(message));
    }
    let confirmed = leader.position();
    let queue = follower.topic("A").unwrap().queue(0).unwrap();
    let mut seen = 0;
    while carry_log(&leader, &follower, 777) {
        assert_eq!(queue.max().unwrap(), QueueOffset(seen), "nothing of it is confirmed");
        for delta in deltas(&leader, &follower) {
            if delta.needs <= follower.position().appended {
                follower.apply(&delta).unwrap();
            }
        }
        follower.set_master_confirmed(confirmed.confirmed).unwrap();
        let now = queue.max().unwrap().0;
        assert!(now >= seen, "{now} after {seen}");
        assert_eq!(read_all(&queue, 0), sent[..usize::try_from(now).unwrap()]);
        seen = now;
    }
    assert_eq!(seen, 300);
    // It syncs by itself.
    while follower.position().flushed < follower.position().appended {
        std::thread::yield_now();
    }
}

#[test]
fn what_does_not_follow_is_refused_and_changes_nothing() {
    let (from, to) = (master(), slave());
    let leader = from.open();
    let a = topic(&leader, "A", 1);
    send(&leader, &a, 0, &numbered("m", 0..10));
    let follower = join(&leader, &to);
    carry(&leader, &follower);
    send(&leader, &a, 0, &numbered("m", 10..200));
    let before = follower.position();
    let piece = leader.log_piece(before.appended, PIECE).unwrap().unwrap();
    let later = leader.log_piece(before.appended + 1, PIECE).unwrap().unwrap();
    assert!(matches!(follower.receive_log(&later), Err(ReplicaError::Gap { .. })));
    let mut garbage = piece.clone();
    garbage.bytes = vec![0xEE; 100].into();
    assert!(matches!(follower.receive_log(&garbage), Err(ReplicaError::Record { .. })));
    let mut other = piece.clone();
    other.segment_bytes += 4096;
    assert!(matches!(follower.receive_log(&other), Err(ReplicaError::Segment { .. })));
    topic(&leader, "B", 1);
    let delta = loop {
        if let Some(delta) = deltas(&leader, &follower).pop() {
            break delta;
        }
    };
    let gap = Delta { first_sequence: delta.first_sequence + 1, ..delta.clone() };
    assert!(matches!(follower.apply(&gap), Err(ReplicaError::Gap { .. })));
    let early = Delta { needs: before.appended + 1, ..delta.clone() };
    assert!(matches!(follower.apply(&early), Err(ReplicaError::Early { .. })));
    let cut = Delta { batch: delta.batch.slice(..delta.batch.len() - 1), ..delta.clone() };
    assert!(matches!(follower.apply(&cut), Err(ReplicaError::Batch { .. })));
    assert_eq!(follower.position().sequence, before.sequence);
    assert_eq!(follower.position().appended, before.appended);
    let own = follower.append(&mut {
        let mut batch = AppendBatch::default();
        push(&mut batch, &follower.topic("A").unwrap(), 0, &Message::new("x", "x")).unwrap();
        batch
    });
    assert!(own.unwrap_err().to_string().contains("send to its master"));
    assert!(wait(follower.delete_topic("A")).unwrap_err().to_string().contains("slave"));
    assert!(matches!(leader.apply(&delta), Err(ReplicaError::Role { .. })));
    carry(&leader, &follower);
    check_same(&leader, &follower);
}

#[test]
fn slave_that_was_killed_goes_on() {
    let (from, mut to) = (master(), slave());
    let leader = from.open();
    let a = topic(&leader, "A", 2);
    let mut follower = join(&leader, &to);
    for round in 0..6_u64 {
        send(&leader, &a, 0, &numbered("m", round * 300..round * 300 + 300));
        if round % 2 == 1 {
            // The topic is known before its records are, or after: it must not matter.
            let other = topic(&leader, &format!("T{round}"), 1);
            send(&leader, &other, 0, &numbered("t", 0..100));
        }
        if round % 3 == 0 {
            carry(&leader, &follower);
        } else {
            while carry_log(&leader, &follower, PIECE) {}
        }
        let image = to.crash_image();
        drop(follower);
        to = image;
        follower = to.open();
        carry(&leader, &follower);
        check_same(&leader, &follower);
    }
}

#[test]
fn changes_come_from_the_wal_when_the_master_was_restarted() {
    let (from, to) = (master(), slave());
    let leader = from.open();
    let a = topic(&leader, "A", 1);
    let follower = join(&leader, &to);
    carry(&leader, &follower);
    for round in 0..5 {
        topic(&leader, &format!("T{round}"), 1);
        send(&leader, &a, 0, &numbered("m", round * 100..round * 100 + 100));
    }
    leader.close();
    let leader = from.open();
    carry(&leader, &follower);
    check_same(&leader, &follower);
    // A position that the master never had.
    assert_eq!(leader.deltas_after(leader.position().sequence + 1, 1).unwrap(), Deltas::Gone);
}

#[test]
fn promoted_slave_goes_on_and_the_old_master_follows_it() {
    let (mut one, mut other) = (master(), slave());
    let leader = one.open();
    let a = topic(&leader, "A", 1);
    send(&leader, &a, 0, &numbered("m", 0..200));
    let follower = join(&leader, &other);
    carry(&leader, &follower);
    let common = follower.position();
    // Nobody but the old master ever has these.
    send(&leader, &a, 0, &numbered("lost", 0..50));
    topic(&leader, "lost", 1);
    let old = one.crash_image();
    drop((leader, follower));
    other.config.role = Role::Master;
    let leader = other.open();
    let epochs = leader.identity().unwrap().epochs;
    assert_eq!(epochs.len(), 2);
    assert_eq!((epochs[1].number, epochs[1].log_start), (1000, common.appended));
    assert_eq!(epochs[1].sequence_start, common.sequence);
    let a = leader.topic("A").unwrap();
    let results = send(&leader, &a, 0, &numbered("n", 0..100));
    assert_eq!(results[0].queue_offset, QueueOffset(200));
    one = old;
    one.config.role = Role::Slave;
    let behind = one.open();
    assert!(behind.position().appended > common.appended);
    assert!(behind.position().sequence > common.sequence);
    drop(behind);
    let work = Work { cut_log_at: Some(common.appended), ..Work::default() };
    carry_snapshot(&leader.snapshot().unwrap(), &one, work);
    let follower = one.open();
    assert_eq!(follower.received().unwrap(), common.appended);
    assert_eq!(follower.identity().unwrap(), leader.identity().unwrap());
    let kept: Vec<_> = fs::read_dir(one.path().join("cut")).unwrap().collect();
    assert!(!kept.is_empty(), "the end that was cut off is kept");
    carry(&leader, &follower);
    check_same(&leader, &follower);
    assert_eq!(follower.topic("lost").map(|topic| topic.id), None);
}

#[test]
fn log_that_is_too_old_begins_anew() {
    let (from, to) = (master(), slave());
    let leader = from.open();
    let a = topic(&leader, "A", 1);
    let follower = join(&leader, &to);
    send(&leader, &a, 0, &numbered("m", 0..3_000));
    drop(follower);
    leader.pretend_disk(99, 100);
    let mut config = from.config.clone();
    leader.close();
    config.disk_force_clean_percent = 98;
    let leader = Store::open(config, from.clock.clone()).unwrap();
    leader.pretend_disk(99, 100);
    let deleted = leader.delete_expired().unwrap();
    assert!(deleted.segments > 0);
    leader.pretend_disk(0, 0);
    let min = leader.position().log_min;
    let work = Work { restart_log_at: Some(min), ..Work::default() };
    carry_snapshot(&leader.snapshot().unwrap(), &to, work);
    let follower = to.open();
    assert_eq!(follower.position().log_min, min);
    assert_eq!(follower.received().unwrap(), min);
    carry(&leader, &follower);
    check_same(&leader, &follower);
    // Retention is the master's: the slave follows it.
    let a = leader.topic("A").unwrap();
    // A failed allocation is not tried again at once.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    send(&leader, &a, 0, &numbered("n", 0..2_000));
    wait(leader.settle()).unwrap();
    carry(&leader, &follower);
    leader.pretend_disk(99, 100);
    while leader.delete_expired().unwrap().segments == 0 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    carry(&leader, &follower);
    assert!(leader.position().log_min > min);
    check_same(&leader, &follower);
    assert_eq!(follower.position().log_min, leader.position().log_min);
}

#[test]
fn nothing_is_shown_that_slaves_do_not_have() {
    let mut from = master();
    from.config.wait_for_slaves = true;
    let leader = from.open();
    let a = topic(&leader, "A", 1);
    let mut batch = AppendBatch::default();
    push(&mut batch, &a, 0, &Message::new("k", "v")).unwrap();
    append(&leader, &mut batch);
    assert_eq!(leader.position().confirmed, 0);
    assert_eq!(a.queue(0).unwrap().max().unwrap(), QueueOffset(0));
    leader.set_replicated(10);
    assert_eq!(leader.position().confirmed, 10);
    assert_eq!(a.queue(0).unwrap().max().unwrap(), QueueOffset(0));
    leader.set_replicated(leader.position().appended);
    assert_eq!(a.queue(0).unwrap().max().unwrap(), QueueOffset(1));
    batch.clear();
    push(&mut batch, &a, 0, &Message::new("k2", "v")).unwrap();
    append(&leader, &mut batch);
    drop(leader);
    // Still nobody has it.
    let leader = from.open();
    let queue = leader.topic("A").unwrap().queue(0).unwrap();
    assert_eq!(queue.max().unwrap(), QueueOffset(1));
    // A group that has seen it is not sent back.
    let status = |from| read(&queue, from, 1).status;
    assert_eq!([1, 2].map(status), [ReadStatus::OffsetOverflowOne; 2]);
    assert_eq!(status(3), ReadStatus::OffsetOverflowBadly);
    leader.set_replicated(leader.position().appended);
    assert_eq!(leader.topic("A").unwrap().queue(0).unwrap().max().unwrap(), QueueOffset(2));
}

#[test]
fn offsets_of_a_slave_reach_its_master() {
    let (from, mut to) = (master(), slave());
    let leader = from.open();
    let a = topic(&leader, "A", 1);
    send(&leader, &a, 0, &numbered("m", 0..100));
    leader.commit_offset("G", &a, 0, QueueOffset(10));
    let follower = join(&leader, &to);
    carry(&leader, &follower);
    let seen = follower.topic("A").unwrap();
    follower.commit_offset("G", &seen, 0, QueueOffset(40));
    assert_eq!(follower.committed_offset("G", a.id, 0).unwrap(), Some(QueueOffset(40)));
    follower.close();
    let follower = to.open();
    let expected =
        PendingOffset { group: "G".to_owned(), topic: "A".to_owned(), queue_id: 0, offset: 40 };
    assert_eq!(follower.pending_offsets(), std::slice::from_ref(&expected));
    leader.merge_offset(&expected).unwrap();
    leader.merge_offset(&PendingOffset { offset: 20, ..expected.clone() }).unwrap();
    while !follower.pending_offsets().is_empty() {
        carry(&leader, &follower);
    }
    assert_eq!(leader.committed_offset("G", a.id, 0).unwrap(), Some(QueueOffset(40)));
    assert_eq!(follower.committed_offset("G", a.id, 0).unwrap(), Some(QueueOffset(40)));
    // A slave that is promoted keeps them, as far as there are messages.
    let seen = follower.topic("A").unwrap();
    follower.commit_offset("G", &seen, 0, QueueOffset(60));
    follower.commit_offset("H", &seen, 0, QueueOffset(1_000));
    follower.close();
    to.config.role = Role::Master;
    let leader = to.open();
    assert_eq!(leader.committed_offset("G", a.id, 0).unwrap(), Some(QueueOffset(60)));
    assert_eq!(leader.committed_offset("H", a.id, 0).unwrap(), Some(QueueOffset(100)));
    assert!(leader.pending_offsets().is_empty());
}

#[test]
fn slave_without_an_index_is_empty_again() {
    let (from, to) = (master(), slave());
    let leader = from.open();
    let a = topic(&leader, "A", 1);
    send(&leader, &a, 0, &numbered("m", 0..100));
    let follower = join(&leader, &to);
    carry(&leader, &follower);
    follower.close();
    let current = to.path().join("rocksdb/CURRENT");
    fs::write(current, "nonsense").unwrap();
    let follower = to.open();
    let position = follower.position();
    assert_eq!((position.appended, position.sequence, position.index_end), (0, 0, 0));
    assert_eq!(follower.identity().unwrap().epochs, []);
    assert!(to.path().join("aside/commitlog").is_dir());
    follower.close();
    let follower = join(&leader, &to);
    carry(&leader, &follower);
    check_same(&leader, &follower);
}

#[test]
fn saved_role_begins_a_larger_epoch() {
    let from = master();
    let saved = SavedRole { role: Role::Master, broker_id: 0, seen_epoch: 41 };
    save_role(from.path(), &saved).unwrap();
    assert_eq!(saved_role(from.path()).unwrap(), Some(saved));
    let leader = from.open();
    assert_eq!(leader.identity().unwrap().epochs.last().unwrap().number, 42);
}
