use super::*;
use crate::ha::frame::FamilyId;

fn epoch(number: u64, leader: u64, log_start: u64, sequence_start: u64) -> Epoch {
    Epoch { number, leader, log_start, sequence_start }
}

/// A master in its third epoch: log 200 to 1000, changes up to 100.
fn master() -> Identity {
    Identity {
        store_id: 7,
        epochs: vec![epoch(1, 11, 0, 0), epoch(2, 12, 400, 40), epoch(4, 14, 800, 80)],
        families: vec![("default".into(), 0), ("topic".into(), 1)],
    }
}

const POSITION: Position = Position {
    log_min: 200,
    appended: 1000,
    flushed: 1000,
    confirmed: 1000,
    sequence: 100,
    durable_sequence: 100,
    index_end: 1000,
};

/// A slave that has followed up to 900 and 90.
fn slave() -> Hello {
    Hello {
        version: frame::VERSION,
        cluster: "c".into(),
        broker_name: "b".into(),
        broker_id: 1,
        store_id: 7,
        seen_epoch: 4,
        epochs: master().epochs,
        log_min: 200,
        received: 900,
        sequence: 90,
        tail_from: 700,
        tail_to: 900,
        tail_crc: 5,
        families: vec![
            FamilyId { name: "topic".into(), id: 1 },
            FamilyId { name: "default".into(), id: 0 },
        ],
        ..Hello::default()
    }
}

fn empty() -> Hello {
    Hello {
        store_id: 0,
        seen_epoch: 0,
        epochs: Vec::new(),
        log_min: 0,
        received: 0,
        sequence: 3,
        tail_from: 0,
        tail_to: 0,
        tail_crc: 0,
        ..slave()
    }
}

fn decide_with(change: impl FnOnce(&mut Hello, &mut Own<'_>)) -> Result<Plan, Refusal> {
    decide_for(slave(), change)
}

fn decide_for(
    mut hello: Hello,
    change: impl FnOnce(&mut Hello, &mut Own<'_>),
) -> Result<Plan, Refusal> {
    let identity = master();
    let mut own = Own {
        cluster: "c",
        broker_name: "b",
        broker_id: 0,
        identity: &identity,
        position: POSITION,
        tail_crc: Some(5),
        deltas_kept: true,
    };
    change(&mut hello, &mut own);
    decide(&hello, &own)
}

fn plan(change: impl FnOnce(&mut Hello, &mut Own<'_>)) -> (LogPlan, bool) {
    let plan = decide_with(change).unwrap();
    (plan.log, plan.snapshot)
}

fn code(change: impl FnOnce(&mut Hello, &mut Own<'_>)) -> Code {
    decide_with(change).unwrap_err().code()
}

use LogPlan::{Cut, Keep, Restart};

#[test]
fn a_slave_that_is_behind_goes_on() {
    let plan = decide_with(|_, _| ()).unwrap();
    assert_eq!((plan.log, plan.snapshot, plan.why), (Keep(900), false, None));
    assert!(plan.streams() && plan.newer_epochs.is_empty());
    let caught_up = |hello: &mut Hello, _: &mut Own<'_>| {
        (hello.received, hello.sequence) = (1000, 100);
    };
    assert_eq!(self::plan(caught_up), (Keep(1000), false));
}

#[test]
fn a_slave_of_an_older_epoch_is_told_the_newer_ones() {
    let plan = decide_with(|hello, _| {
        hello.epochs.truncate(1);
        (hello.received, hello.sequence) = (400, 40);
        (hello.tail_from, hello.tail_to) = (300, 400);
    })
    .unwrap();
    assert!(plan.streams());
    assert_eq!(plan.newer_epochs, &master().epochs[1..]);
}

#[test]
fn strangers_are_refused_with_the_reason() {
    assert_eq!(code(|hello, _| hello.version = 2), Code::Version);
    assert_eq!(code(|hello, _| hello.cluster = "other".into()), Code::Name);
    assert_eq!(code(|hello, _| hello.broker_name = "other".into()), Code::Name);
    assert_eq!(code(|hello, _| hello.broker_id = 0), Code::BrokerId);
    assert_eq!(code(|hello, _| hello.store_id = 8), Code::Store);
    assert_eq!(code(|hello, _| hello.store_id = 0), Code::Store);
    let refusal = decide_with(|hello, _| hello.cluster = "x\n".into()).unwrap_err();
    assert!(refusal.to_string().contains(r#""x\n""#), "{refusal}");
}

#[test]
fn a_store_of_rocketmq_or_without_epochs_is_not_taken_for_empty() {
    for (log_min, received) in [(0, 500), (200, 900)] {
        let refused = decide_for(empty(), |hello, _| {
            (hello.log_min, hello.received) = (log_min, received);
        });
        assert_eq!(refused.unwrap_err().code(), Code::Store);
    }
}

#[test]
fn a_newer_epoch_demotes_but_only_from_one_of_the_same_store() {
    assert_eq!(code(|hello, _| hello.seen_epoch = 5), Code::NewerEpoch);
    assert_eq!(code(|hello, _| hello.epochs.push(epoch(5, 15, 900, 90))), Code::NewerEpoch);
    for stranger in [
        (|hello: &mut Hello, _: &mut Own<'_>| hello.cluster = "other".into())
            as fn(&mut Hello, &mut Own<'_>),
        |hello, _| hello.store_id = 8,
        |hello, _| hello.broker_name = "other".into(),
    ] {
        let refused = code(|hello, own| {
            hello.seen_epoch = 5;
            stranger(hello, own);
        });
        assert_ne!(refused, Code::NewerEpoch);
    }
}

#[test]
fn a_new_slave_gets_a_snapshot_and_the_log_from_its_beginning() {
    let plan = decide_for(empty(), |_, _| ()).unwrap();
    assert_eq!((plan.log, plan.snapshot), (Restart(200), true));
    assert_eq!(plan.newer_epochs, master().epochs);
    let plan = decide_for(empty(), |_, own| own.position.log_min = 0).unwrap();
    assert_eq!((plan.log, plan.snapshot), (Keep(0), true), "nothing to set aside");
}

#[test]
fn what_another_master_wrote_is_cut() {
    // It was led by 3, which this master never knew, from 700.
    let own_epoch = |hello: &mut Hello, _: &mut Own<'_>| {
        hello.epochs[2] = epoch(3, 13, 700, 70);
        hello.seen_epoch = 3;
    };
    assert_eq!(plan(own_epoch), (Cut(700), true), "the row of 3 is in its index");
    // The same number with another leader is another epoch.
    let twin = |hello: &mut Hello, _: &mut Own<'_>| hello.epochs[2].leader = 99;
    assert_eq!(plan(twin), (Cut(800), true));
    // It has not got the row of 4, and bytes that the old master wrote.
    let old = |hello: &mut Hello, _: &mut Own<'_>| {
        hello.epochs.truncate(2);
        hello.sequence = 80;
    };
    assert_eq!(plan(old), (Cut(800), false));
    let old_rows = |hello: &mut Hello, _: &mut Own<'_>| {
        hello.epochs.truncate(2);
        hello.sequence = 81;
    };
    assert_eq!(plan(old_rows), (Cut(800), true));
    let longer = |hello: &mut Hello, _: &mut Own<'_>| hello.received = 1001;
    assert_eq!(plan(longer), (Cut(1000), false));
}

#[test]
fn a_later_epoch_may_begin_before_an_earlier_one() {
    let cut = decide_with(|hello, own| {
        let mut identity = master();
        identity.epochs.push(epoch(5, 15, 600, 100));
        let identity = Box::leak(Box::new(identity));
        own.identity = identity;
        hello.epochs.truncate(2);
        (hello.sequence, hello.tail_from) = (80, 890);
    });
    assert_eq!(cut.unwrap().log, Cut(600));
}

#[test]
fn the_index_of_an_epoch_of_its_own_is_never_kept() {
    // Fewer changes than this master had, and all the same others.
    let own_row = |hello: &mut Hello, _: &mut Own<'_>| {
        hello.epochs = vec![epoch(1, 11, 0, 0), epoch(3, 13, 300, 30)];
        (hello.received, hello.sequence) = (300, 33);
        (hello.tail_from, hello.tail_to) = (200, 300);
    };
    assert_eq!(plan(own_row), (Keep(300), true));
}

#[test]
fn rows_ahead_of_the_master_need_a_snapshot() {
    assert_eq!(plan(|hello, _| hello.sequence = 101), (Keep(900), true));
    assert_eq!(plan(|hello, _| hello.sequence = 100), (Keep(900), false));
}

#[test]
fn deltas_that_are_gone_and_other_families_need_a_snapshot() {
    assert_eq!(plan(|_, own| own.deltas_kept = false), (Keep(900), true));
    assert_eq!(plan(|hello, _| hello.families[0].id = 2), (Keep(900), true));
    assert_eq!(plan(|hello, _| hello.families.truncate(1)), (Keep(900), true));
}

#[test]
fn a_log_that_ends_before_the_masters_begins_starts_anew() {
    let short = |hello: &mut Hello, _: &mut Own<'_>| {
        (hello.log_min, hello.received, hello.sequence) = (0, 199, 10);
        (hello.tail_from, hello.tail_to) = (0, 199);
        hello.epochs.truncate(1);
    };
    // The CRC of a tail that the master has not is not compared.
    assert_eq!(
        plan(|hello, own| (short(hello, own), own.tail_crc = None).0),
        (Restart(200), false)
    );
    let gone = |hello: &mut Hello, own: &mut Own<'_>| {
        short(hello, own);
        (own.tail_crc, own.deltas_kept) = (None, false);
    };
    assert_eq!(plan(gone), (Restart(200), true));
}

#[test]
fn a_log_that_began_anew_is_not_begun_anew_again() {
    // The index is still of the first epoch, which ended long before the log begins now.
    let plan = decide_with(|hello, own| {
        own.position.log_min = 600;
        hello.epochs.truncate(1);
        (hello.log_min, hello.received, hello.sequence) = (600, 600, 30);
        (hello.tail_from, hello.tail_to, own.tail_crc) = (600, 600, None);
    })
    .unwrap();
    assert!(plan.streams());
    assert_eq!((plan.log, plan.newer_epochs), (Keep(600), master().epochs[1..].to_vec()));
    // Only where this master's log has something to follow.
    let beyond = |hello: &mut Hello, _: &mut Own<'_>| {
        (hello.log_min, hello.received) = (1001, 1001);
        (hello.tail_from, hello.tail_to) = (1001, 1001);
    };
    assert_eq!(self::plan(beyond).0, Restart(200));
}

#[test]
fn a_log_that_cannot_be_cut_starts_anew() {
    let (log, _) = plan(|hello, _| {
        hello.epochs = vec![epoch(1, 11, 0, 0), epoch(3, 13, 300, 30)];
        hello.log_min = 350;
    });
    assert_eq!(log, Restart(200));
}

#[test]
fn a_tail_that_differs_starts_anew() {
    assert_eq!(plan(|hello, _| hello.tail_crc = 6), (Restart(200), true));
    assert_eq!(plan(|_, own| own.tail_crc = None), (Keep(900), false));
    // Beyond the common end it differs by right.
    let beyond = |hello: &mut Hello, _: &mut Own<'_>| {
        hello.epochs.truncate(2);
        (hello.sequence, hello.tail_crc) = (80, 6);
    };
    assert_eq!(plan(beyond), (Cut(800), false));
}

#[test]
fn a_difference_that_was_found_starts_anew() {
    assert_eq!(plan(|hello, _| hello.diverged = true), (Restart(200), true));
}

#[test]
fn who_knows_none_of_the_epochs_starts_anew() {
    assert_eq!(plan(|hello, _| hello.epochs.clear()), (Restart(200), true));
    assert_eq!(plan(|hello, _| hello.epochs = vec![epoch(3, 1, 0, 0)]), (Restart(200), true));
}
