//! What a slave says during a session: what it has, and what was committed on it.

use std::time::Duration;

use super::{
    frame::{Ack, Body, Frame, Offsets},
    replica::{Slave, StoreError},
    session::{Count, HEARTBEAT_MS},
    sink::Follower,
};

/// How often the index is made durable where the master waits for it, and where it does not.
const SYNC_MS: u64 = 20;
const SYNC_LAZY_MS: u64 = 1_000;
/// How often offsets that were committed here are told, and how many in a frame.
const OFFSETS_MS: u64 = 500;
const OFFSETS_PER_FRAME: usize = 1_000;

/// What a slave says during a session.
#[derive(Debug)]
pub(crate) struct Acker {
    count: Count,
    durable: bool,
    sent: Option<Ack>,
    sent_ms: u64,
    synced_ms: u64,
    unsynced: bool,
    offsets_ms: Option<u64>,
}

impl Acker {
    /// For the session of this follower.
    pub(crate) fn new<S: Slave>(follower: &Follower<S>, now_ms: u64) -> Self {
        Self {
            count: Count::new(follower.epoch()),
            durable: follower.durable(),
            sent: None,
            sent_ms: now_ms,
            synced_ms: now_ms,
            unsynced: false,
            offsets_ms: None,
        }
    }

    /// Whether the master waits for this slave's disk.
    pub(crate) fn durable(&self) -> bool {
        self.durable
    }

    /// What is to be sent now. Makes the index durable when that is due.
    ///
    /// # Errors
    /// The store has failed.
    pub(crate) fn poll(
        &mut self,
        store: &impl Slave,
        known_epoch: u64,
        now_ms: u64,
    ) -> Result<Vec<Frame>, StoreError> {
        let mut frames = self.ack(store, known_epoch, now_ms)?;
        let every_ms = if self.durable { SYNC_MS } else { SYNC_LAZY_MS };
        let position = store.position();
        self.unsynced = position.sequence > position.durable_sequence;
        if self.unsynced && now_ms.saturating_sub(self.synced_ms) >= every_ms {
            store.sync_index()?;
            self.synced_ms = now_ms;
            self.unsynced = false;
            frames.append(&mut self.ack(store, known_epoch, now_ms)?);
        }
        if self.offsets_ms.is_none_or(|at| now_ms.saturating_sub(at) >= OFFSETS_MS) {
            self.offsets_ms = Some(now_ms);
            for pending in store.pending_offsets().chunks(OFFSETS_PER_FRAME) {
                let offsets = Offsets { pending: pending.to_vec() };
                frames.push(self.count.next(Body::Offsets(offsets)));
            }
        }
        Ok(frames)
    }

    /// How long nothing is due if the store does not move.
    pub(crate) fn pause(&self) -> Duration {
        let syncs = self.unsynced && self.durable;
        Duration::from_millis(if syncs { SYNC_MS } else { HEARTBEAT_MS / 2 })
    }

    /// How far the store has come, if the master was not told so or has heard nothing for long.
    ///
    /// # Errors
    /// The store has failed.
    pub(crate) fn ack(
        &mut self,
        store: &impl Slave,
        epoch: u64,
        now_ms: u64,
    ) -> Result<Vec<Frame>, StoreError> {
        let position = store.position();
        let ack = Ack {
            // After the position, which it is never less than.
            taken: store.received()?,
            received: position.appended,
            durable: position.flushed,
            sequence: position.sequence,
            durable_sequence: position.durable_sequence,
            epoch,
        };
        let due = now_ms.saturating_sub(self.sent_ms) >= HEARTBEAT_MS;
        if !due && self.sent == Some(ack) {
            return Ok(Vec::new());
        }
        self.sent = Some(ack);
        self.sent_ms = now_ms;
        Ok(vec![self.count.next(Body::Ack(ack))])
    }
}
