//! Sizes that the simulation's small stores never reach.

use std::cell::Cell;

use bytes::Bytes;

use super::*;
use crate::ha::{
    frame::LogPlan,
    replica::{Identity, LogPiece, PendingOffset, Replica, Snapshot, StoreError, Wake},
};

/// A master with any amount of log and one large change.
struct Large {
    position: Cell<Position>,
    batch: usize,
}

struct NoSnapshot;

impl Snapshot for NoSnapshot {
    fn id(&self) -> u64 {
        1
    }

    fn sequence(&self) -> u64 {
        1
    }

    fn needs(&self) -> u64 {
        1
    }

    fn files(&self) -> &[crate::ha::replica::SnapshotFile] {
        &[]
    }

    fn read(&self, _: &str, _: u64, _: usize) -> std::io::Result<Bytes> {
        Ok(Bytes::new())
    }
}

impl Replica for Large {
    type Watch = ();

    fn watch(&self, _: Wake) {}

    fn identity(&self) -> Result<Identity, StoreError> {
        Ok(Identity::default())
    }

    fn position(&self) -> Position {
        self.position.get()
    }

    fn log_crc(&self, _: u64, _: u64) -> Result<u32, StoreError> {
        Ok(0)
    }

    fn state_digest(&self) -> Result<StateDigest, StoreError> {
        Ok(StateDigest { sequence: self.position().sequence, rows: 1, crc: 2 })
    }
}

impl Master for Large {
    type Snapshot = NoSnapshot;

    fn log_piece(&self, from: u64, max_bytes: usize) -> Result<Option<LogPiece>, StoreError> {
        let bytes = Bytes::from(vec![7; max_bytes]);
        let segment_bytes = 1 << 30;
        Ok(Some(LogPiece { offset: from, segment_base: 0, segment_bytes, bytes }))
    }

    fn deltas_after(&self, sequence: u64, _: usize) -> Result<Deltas, StoreError> {
        let batch = Bytes::from(vec![1; self.batch]);
        let (first_sequence, needs) = (sequence + 1, 0);
        Ok(Deltas::Next(vec![Delta { first_sequence, last_sequence: sequence + 1, needs, batch }]))
    }

    fn keeps_after(&self, _: u64) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn snapshot(&self) -> Result<NoSnapshot, StoreError> {
        Ok(NoSnapshot)
    }

    fn set_replicated(&self, _: u64) {}

    fn merge_offset(&self, _: &PendingOffset) -> Result<(), StoreError> {
        Ok(())
    }
}

fn large(log: u64, changes: u64, batch: usize) -> Large {
    let position = Position { appended: log, sequence: changes, ..Position::default() };
    Large { position: Cell::new(position), batch }
}

fn feed() -> Feed<Large> {
    let plan = Plan { log: LogPlan::Keep(0), snapshot: false, newer_epochs: Vec::new(), why: None };
    Feed::stream(1, &plan, Reach::default(), 0)
}

/// Everything that is sent without further acknowledgements.
fn drain(feed: &mut Feed<Large>, store: &Large, ack: Ack, now_ms: u64) -> Vec<Body> {
    let mut all = Vec::new();
    loop {
        let frames = feed.poll(store, (ack, now_ms), now_ms).unwrap();
        if frames.is_empty() {
            return all;
        }
        all.extend(frames.into_iter().filter_map(|frame| frame.body));
    }
}

#[test]
fn a_slave_that_does_not_acknowledge_gets_a_window_of_log() {
    let store = large(1 << 30, 0, 0);
    let mut feed = feed();
    drain(&mut feed, &store, Ack::default(), 0);
    assert_eq!(feed.sent().unwrap().log, WINDOW_BYTES);
    let ack = Ack { taken: 3 << 20, ..Ack::default() };
    let bodies = drain(&mut feed, &store, ack, 0);
    assert_eq!(feed.sent().unwrap().log, WINDOW_BYTES + (3 << 20));
    assert!(bodies.iter().all(|body| matches!(body, Body::Log(log) if log.bytes.len() <= 1 << 20)));
}

#[test]
fn a_slave_that_does_not_acknowledge_gets_a_window_of_changes() {
    let store = large(0, 1_000, 3 << 20);
    let mut feed = feed();
    drain(&mut feed, &store, Ack::default(), 0);
    assert_eq!(feed.sent().unwrap().sequence, 3, "the third one fills it");
    let ack = Ack { sequence: 1, ..Ack::default() };
    drain(&mut feed, &store, ack, 0);
    assert_eq!(feed.sent().unwrap().sequence, 4);
}

#[test]
fn a_large_change_comes_in_parts_that_say_what_follows() {
    let store = large(0, 1, (2 << 20) + 5);
    let bodies = drain(&mut feed(), &store, Ack::default(), 0);
    let parts: Vec<_> = bodies
        .iter()
        .map(|body| match body {
            Body::Delta(part) => (part.batch.len(), part.rest_bytes),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(parts, [(1 << 20, (1 << 20) + 5), (1 << 20, 5), (5, 0)]);
}

#[test]
fn digests_cover_16_mib_each_and_rows_every_30_s() {
    let store = large(40 << 20, 0, 0);
    let mut feed = feed();
    let mut digests = Vec::new();
    for _ in 0..20 {
        let ack = Ack { taken: feed.sent().unwrap().log, ..Ack::default() };
        for body in drain(&mut feed, &store, ack, 0) {
            if let Body::LogDigest(digest) = body {
                digests.push((digest.from, digest.to, digest.crc));
            }
        }
    }
    let crc = crc32fast::hash(&vec![7; 16 << 20]);
    assert_eq!(digests, [(0, 16 << 20, crc), (16 << 20, 32 << 20, crc)]);
    let ack = Ack { taken: 40 << 20, ..Ack::default() };
    let late = drain(&mut feed, &store, ack, 30_000);
    let rest = |body: &Body| matches!(body, Body::LogDigest(it) if it.to == 40 << 20);
    assert!(late.iter().any(rest), "{late:?}");
    assert!(late.iter().any(|body| matches!(body, Body::State(_))), "{late:?}");
}

#[test]
fn silence_ends_the_session() {
    let (store, mut feed) = (large(0, 0, 0), feed());
    assert!(feed.poll(&store, (Ack::default(), 0), SILENCE_MAX_MS).is_ok());
    let end = feed.poll(&store, (Ack::default(), 0), SILENCE_MAX_MS + 1).unwrap_err();
    assert_eq!(end, SessionEnd::Silent { silent_ms: SILENCE_MAX_MS + 1 });
}
