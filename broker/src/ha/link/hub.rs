//! What the sessions of a master share.

use std::{
    collections::HashMap,
    convert::Infallible,
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
};

use tokio::sync::watch;

use super::{Clock, LinkError};
use crate::ha::{
    AckKind, Ended,
    acks::{AckError, Acks, SESSIONS_MAX},
    frame::Hello,
    greet::GreetError,
    replica::{Master, Snapshot as _, StoreError},
    session::SessionEnd,
    sink::Who,
};

/// A snapshot that a slave has in part is kept so long for its return.
const PARKED_MS: u64 = 600_000;
/// So many of them.
const PARKED_MAX: usize = 4;

/// Why a session is over or did not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum Over {
    #[error(transparent)]
    Greet(#[from] GreetError),
    #[error("it says something else than hello first")]
    NoHello,
    #[error(transparent)]
    Ack(#[from] AckError),
    #[error(transparent)]
    Session(#[from] SessionEnd),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// A master's store that sessions use from any thread.
pub(crate) trait Shared: Master<Snapshot: Send> + Send + Sync + 'static {}

impl<S: Master<Snapshot: Send> + Send + Sync + 'static> Shared for S {}

/// What the sessions share.
pub(super) struct Hub<S: Master> {
    pub(super) store: S,
    pub(super) name: Who,
    pub(super) kind: AckKind,
    pub(super) acks: Mutex<Acks>,
    pub(super) clock: Clock,
    pub(super) replicated: watch::Sender<u64>,
    pub(super) ended: watch::Sender<Option<Ended>>,
    pub(super) parked: Mutex<HashMap<u64, (S::Snapshot, u64)>>,
    /// After which change a slave can only be helped by a snapshot.
    pub(super) lost: Mutex<HashMap<u64, u64>>,
}

/// The hub in the hands of somebody who works with its store. Whoever has the receiver of `until`
/// knows when the last of them is done.
pub(super) struct AtWork<S: Master> {
    hub: Arc<Hub<S>>,
    until: mpsc::Sender<Infallible>,
}

impl<S: Master> AtWork<S> {
    pub(super) fn new(hub: &Arc<Hub<S>>) -> (Self, mpsc::Receiver<Infallible>) {
        let (until, done) = mpsc::channel();
        (Self { hub: Arc::clone(hub), until }, done)
    }
}

impl<S: Master> Clone for AtWork<S> {
    fn clone(&self) -> Self {
        Self { hub: Arc::clone(&self.hub), until: self.until.clone() }
    }
}

impl<S: Master> Deref for AtWork<S> {
    type Target = Hub<S>;

    fn deref(&self) -> &Hub<S> {
        &self.hub
    }
}

impl<S: Master> Hub<S> {
    pub(super) fn acks(&self) -> MutexGuard<'_, Acks> {
        lock(&self.acks)
    }

    /// The snapshot that a slave has in part, if its changes can go on from there.
    pub(super) fn take_parked(&self, hello: &Hello) -> Result<Option<S::Snapshot>, StoreError> {
        let Some((snapshot, _)) = lock(&self.parked).remove(&hello.broker_id) else {
            return Ok(None);
        };
        let kept =
            snapshot.id() == hello.snapshot_id && self.store.keeps_after(snapshot.sequence())?;
        Ok(kept.then_some(snapshot))
    }

    /// Lets snapshots go for which nobody has returned.
    pub(super) fn forget_parked(&self) {
        let now_ms = self.clock.now_ms();
        lock(&self.parked).retain(|_, (_, since)| now_ms.saturating_sub(*since) < PARKED_MS);
    }

    /// A slave found a change that cannot be applied any more after this one.
    pub(super) fn note_lost(&self, broker_id: u64, sequence: u64) {
        let mut lost = lock(&self.lost);
        if lost.len() >= SESSIONS_MAX {
            // Who is forgotten finds it again.
            lost.clear();
        }
        lost.insert(broker_id, sequence);
    }

    /// Keeps a snapshot for a slave that may return.
    pub(super) fn park(&self, broker_id: u64, snapshot: S::Snapshot) {
        let mut parked = lock(&self.parked);
        if parked.len() < PARKED_MAX {
            parked.insert(broker_id, (snapshot, self.clock.now_ms()));
        }
    }
}

/// The owner of a lock may have panicked; the table is whole all the same.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
