//! What the slaves have: who counts, how much is on enough of them, and who is lying.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

#[cfg(test)]
use super::sim::{Bug, bug};
use super::{AckKind, SlaveState, SlaveStatus, frame::Ack, replica::Epoch};

/// A slave that lacks more of the log is not in sync.
pub(crate) const IN_SYNC_LAG_BYTES: u64 = 256 << 20;
/// A slave that was silent for longer is not in sync.
pub(crate) const IN_SYNC_SILENCE_MS: u64 = 15_000;
/// Most sessions at a time.
pub(crate) const SESSIONS_MAX: usize = 64;

/// Number of a session. A later one of the same broker ends an earlier one.
pub(crate) type SessionId = u64;

/// Up to where something goes: the log and the changes of the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    /// Log offset.
    pub(crate) log: u64,
    /// Sequence number.
    pub(crate) sequence: u64,
}

/// Why a session must end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AckError {
    /// The broker has connected again.
    #[error("the slave has connected anew")]
    Replaced,
    /// There are too many others.
    #[error("there are {SESSIONS_MAX} sessions of other slaves already")]
    TooMany,
    /// It claims to have what it was not sent.
    #[error("the slave acknowledges {what} {claimed}, only up to {sent} was sent")]
    Beyond {
        /// What it claims to have.
        what: &'static str,
        /// How far.
        claimed: u64,
        /// How far it was sent.
        sent: u64,
    },
    /// It contradicts itself.
    #[error("the slave acknowledges {what} {claimed} after {before}")]
    Backwards {
        /// What it claims to have.
        what: &'static str,
        /// How far now.
        claimed: u64,
        /// How far it was.
        before: u64,
    },
}

/// The acknowledgements of all sessions, by broker.
#[derive(Debug)]
pub(crate) struct Acks {
    needed: usize,
    kind: AckKind,
    /// The master's own.
    epoch: Epoch,
    slaves: BTreeMap<u64, Slave>,
    last_session: SessionId,
    replicated: Reach,
}

#[derive(Clone, Debug)]
struct Slave {
    session: SessionId,
    address: SocketAddr,
    /// `None` until it streams.
    sent: Option<Reach>,
    ack: Ack,
    heard_ms: u64,
}

impl Acks {
    /// With so many slaves needed, of which this counts.
    pub(crate) fn new(needed: usize, kind: AckKind, epoch: Epoch) -> Self {
        Self {
            needed,
            kind,
            epoch,
            slaves: BTreeMap::new(),
            last_session: 0,
            replicated: Reach::default(),
        }
    }

    /// How many slaves must have something.
    pub(crate) fn needed(&self) -> usize {
        self.needed
    }

    /// A slave was welcomed. It counts for nothing yet, and its earlier session not any more.
    ///
    /// # Errors
    /// [`AckError::TooMany`].
    pub(crate) fn begin(
        &mut self,
        broker_id: u64,
        address: SocketAddr,
        now_ms: u64,
    ) -> Result<SessionId, AckError> {
        #[cfg(test)]
        let broker_id = broker_id + if bug(Bug::CountTwice) { self.last_session << 32 } else { 0 };
        if self.slaves.len() >= SESSIONS_MAX && !self.slaves.contains_key(&broker_id) {
            return Err(AckError::TooMany);
        }
        self.last_session += 1;
        let session = self.last_session;
        let slave = Slave { session, address, sent: None, ack: Ack::default(), heard_ms: now_ms };
        self.slaves.insert(broker_id, slave);
        Ok(session)
    }

    /// The stream begins: the slave has the log and the changes up to here, on its disk or not.
    ///
    /// # Errors
    /// [`AckError::Replaced`].
    pub(crate) fn stream(&mut self, session: SessionId, from: Reach) -> Result<(), AckError> {
        let slave = self.slave(session)?;
        slave.sent = Some(from);
        slave.ack = Ack { taken: from.log, received: 0, sequence: from.sequence, ..Ack::default() };
        Ok(())
    }

    /// This much is about to be sent.
    ///
    /// # Errors
    /// [`AckError::Replaced`].
    pub(crate) fn sent(&mut self, session: SessionId, to: Reach) -> Result<(), AckError> {
        let slave = self.slave(session)?;
        slave.sent = slave.sent.map(|_| to);
        Ok(())
    }

    /// What the slave has said last.
    ///
    /// # Errors
    /// [`AckError::Replaced`].
    pub(crate) fn last(&mut self, session: SessionId) -> Result<(Ack, u64), AckError> {
        self.slave(session).map(|slave| (slave.ack, slave.heard_ms))
    }

    /// Notes what a slave has. Returns what is on enough slaves now; nothing where none is needed.
    ///
    /// # Errors
    /// [`AckError`]: the session must end.
    pub(crate) fn ack(
        &mut self,
        session: SessionId,
        ack: Ack,
        now_ms: u64,
    ) -> Result<Option<Reach>, AckError> {
        let slave = self.slave(session)?;
        slave.heard_ms = now_ms;
        let Some(sent) = slave.sent else {
            // It prepares; what it has may not even be this master's.
            return Ok(None);
        };
        check(&ack, &slave.ack, sent)?;
        slave.ack = ack;
        Ok(self.count())
    }

    /// The session is over.
    pub(crate) fn end(&mut self, session: SessionId) {
        self.slaves.retain(|_, slave| slave.session != session);
    }

    fn slave(&mut self, session: SessionId) -> Result<&mut Slave, AckError> {
        let mut slaves = self.slaves.values_mut();
        slaves.find(|slave| slave.session == session).ok_or(AckError::Replaced)
    }

    fn count(&mut self) -> Option<Reach> {
        let nth = self.needed.checked_sub(1)?;
        // What older masters wrote counts only with the beginning of this epoch: a slave that has
        // less may lose against one that has more of an epoch in between.
        let of_epoch = |ack: &Ack| ack.epoch >= self.epoch.number;
        let reach = |ack: &Ack| match self.kind {
            AckKind::Received => Reach { log: ack.received, sequence: ack.sequence },
            AckKind::Durable => Reach { log: ack.durable, sequence: ack.durable_sequence },
        };
        let reaches = || {
            let streaming = self.slaves.values().filter(|slave| slave.sent.is_some());
            let acks = streaming.map(|slave| slave.ack).filter(of_epoch);
            acks.map(|ack| reach(&ack)).filter(|reach| reach.log >= self.epoch.log_start)
        };
        let largest = |of: fn(Reach) -> u64| {
            let mut all: Vec<u64> = reaches().map(of).collect();
            all.sort_unstable_by(|a, b| b.cmp(a));
            all.get(nth).copied().unwrap_or(0)
        };
        let (log, sequence) = (largest(|it| it.log), largest(|it| it.sequence));
        self.replicated.log = self.replicated.log.max(log);
        self.replicated.sequence = self.replicated.sequence.max(sequence);
        Some(self.replicated)
    }

    /// How many slaves follow closely.
    pub(crate) fn in_sync(&self, appended: u64, now_ms: u64) -> usize {
        self.slaves.values().filter(|slave| slave.in_sync(appended, now_ms)).count()
    }

    /// All sessions, by broker.
    pub(crate) fn status(&self, appended: u64, now_ms: u64) -> Vec<SlaveStatus> {
        let status = |(&broker_id, slave): (&u64, &Slave)| SlaveStatus {
            broker_id,
            address: slave.address,
            state: if slave.sent.is_some() { SlaveState::Streaming } else { SlaveState::Preparing },
            in_sync: slave.in_sync(appended, now_ms),
            received: slave.ack.received,
            sequence: slave.ack.sequence,
            lag_bytes: appended.saturating_sub(slave.ack.received),
            since_ack: Duration::from_millis(now_ms.saturating_sub(slave.heard_ms)),
        };
        self.slaves.iter().map(status).collect()
    }
}

impl Slave {
    fn in_sync(&self, appended: u64, now_ms: u64) -> bool {
        self.sent.is_some()
            && appended.saturating_sub(self.ack.received) <= IN_SYNC_LAG_BYTES
            && now_ms.saturating_sub(self.heard_ms) <= IN_SYNC_SILENCE_MS
    }
}

fn check(ack: &Ack, before: &Ack, sent: Reach) -> Result<(), AckError> {
    let ordered = [
        ("log bytes", ack.taken, sent.log),
        ("complete records to", ack.received, ack.taken),
        ("durable log to", ack.durable, ack.received),
        ("change", ack.sequence, sent.sequence),
        ("durable change", ack.durable_sequence, ack.sequence),
    ];
    if let Some(&(what, claimed, sent)) = ordered.iter().find(|(_, claimed, most)| claimed > most) {
        return Err(AckError::Beyond { what, claimed, sent });
    }
    let grown = [
        ("log bytes", ack.taken, before.taken),
        ("complete records to", ack.received, before.received),
        ("durable log to", ack.durable, before.durable),
        ("change", ack.sequence, before.sequence),
        ("durable change", ack.durable_sequence, before.durable_sequence),
    ];
    match grown.iter().find(|(_, claimed, before)| claimed < before) {
        Some(&(what, claimed, before)) => Err(AckError::Backwards { what, claimed, before }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "127.0.0.1:1";

    fn table(needed: usize, kind: AckKind) -> Acks {
        Acks::new(needed, kind, Epoch { number: 1, leader: 1, ..Epoch::default() })
    }

    /// A slave that streams from 0, everything up to 1000 and change 1000 being sent.
    fn follow(acks: &mut Acks, broker_id: u64) -> SessionId {
        let session = acks.begin(broker_id, ADDRESS.parse().unwrap(), 0).unwrap();
        acks.stream(session, Reach::default()).unwrap();
        acks.sent(session, Reach { log: 1000, sequence: 1000 }).unwrap();
        session
    }

    fn has(log: u64, durable: u64) -> Ack {
        Ack {
            taken: log,
            received: log,
            durable,
            sequence: log,
            durable_sequence: durable,
            epoch: 1,
        }
    }

    fn log(acks: &mut Acks, session: SessionId, ack: Ack) -> u64 {
        acks.ack(session, ack, 0).unwrap().unwrap().log
    }

    #[test]
    fn the_kth_largest_counts_and_never_shrinks() {
        let mut acks = table(2, AckKind::Received);
        let [a, b, c] = [1, 2, 3].map(|id| follow(&mut acks, id));
        assert_eq!(log(&mut acks, a, has(500, 0)), 0, "one is not enough");
        assert_eq!(log(&mut acks, b, has(300, 0)), 300);
        assert_eq!(log(&mut acks, c, has(400, 0)), 400);
        acks.end(c);
        assert_eq!(log(&mut acks, b, has(301, 0)), 400);
        assert_eq!(log(&mut acks, b, has(600, 0)), 500);
        assert_eq!(acks.replicated, Reach { log: 500, sequence: 500 });
    }

    #[test]
    fn durable_counts_what_the_disk_has() {
        let mut acks = table(1, AckKind::Durable);
        let a = follow(&mut acks, 1);
        assert_eq!(log(&mut acks, a, has(500, 100)), 100);
        assert_eq!(log(&mut acks, a, has(500, 500)), 500);
    }

    #[test]
    fn what_older_masters_wrote_counts_with_the_beginning_of_the_epoch() {
        let epoch = Epoch { number: 3, leader: 1, log_start: 400, sequence_start: 0 };
        let mut acks = Acks::new(1, AckKind::Received, epoch);
        let a = follow(&mut acks, 1);
        assert_eq!(log(&mut acks, a, Ack { epoch: 3, ..has(399, 0) }), 0);
        assert_eq!(log(&mut acks, a, Ack { epoch: 2, ..has(400, 0) }), 0, "it lacks the row");
        assert_eq!(log(&mut acks, a, Ack { epoch: 3, ..has(400, 0) }), 400);
    }

    #[test]
    fn a_broker_counts_once() {
        let mut acks = table(2, AckKind::Received);
        let old = follow(&mut acks, 1);
        assert_eq!(log(&mut acks, old, has(500, 0)), 0);
        let new = follow(&mut acks, 1);
        assert_eq!(log(&mut acks, new, has(500, 0)), 0);
        assert_eq!(acks.ack(old, has(600, 0), 0), Err(AckError::Replaced));
        assert_eq!(acks.sent(old, Reach::default()), Err(AckError::Replaced));
        acks.end(old);
        assert_eq!(acks.status(1000, 0).len(), 1, "the end of the old one is not that of the new");
    }

    #[test]
    fn nobody_is_needed_nothing_is_counted() {
        let mut acks = table(0, AckKind::Received);
        let a = follow(&mut acks, 1);
        assert_eq!(acks.ack(a, has(500, 0), 0), Ok(None));
    }

    #[test]
    fn a_slave_that_prepares_does_not_count() {
        let mut acks = table(1, AckKind::Received);
        let a = acks.begin(1, ADDRESS.parse().unwrap(), 0).unwrap();
        assert_eq!(acks.ack(a, has(500, 500), 3), Ok(None));
        assert_eq!(acks.in_sync(0, 3), 0);
        let status = acks.status(700, 3);
        assert_eq!((status[0].state, status[0].lag_bytes), (SlaveState::Preparing, 700));
    }

    #[test]
    fn claims_of_what_was_not_sent_end_the_session() {
        let mut acks = table(1, AckKind::Received);
        let a = follow(&mut acks, 1);
        let bogus = [
            Ack { taken: 1001, ..has(500, 0) },
            Ack { received: 501, ..has(500, 0) },
            Ack { durable: 501, ..has(500, 0) },
            Ack { sequence: 1001, ..has(500, 0) },
            Ack { durable_sequence: 501, ..has(500, 0) },
            has(u64::MAX, u64::MAX),
        ];
        for ack in bogus {
            let error = acks.ack(a, ack, 0).unwrap_err();
            assert!(matches!(error, AckError::Beyond { .. }), "{error}");
        }
        assert_eq!(acks.replicated, Reach::default());
        assert_eq!(log(&mut acks, a, has(500, 0)), 500);
        let error = acks.ack(a, has(499, 0), 0).unwrap_err();
        assert!(matches!(error, AckError::Backwards { .. }), "{error}");
    }

    #[test]
    fn in_sync_means_close_and_alive() {
        let mut acks = table(1, AckKind::Received);
        let a = follow(&mut acks, 1);
        log(&mut acks, a, has(500, 0));
        assert_eq!(acks.in_sync(500 + IN_SYNC_LAG_BYTES, IN_SYNC_SILENCE_MS), 1);
        assert_eq!(acks.in_sync(501 + IN_SYNC_LAG_BYTES, 0), 0);
        assert_eq!(acks.in_sync(500, IN_SYNC_SILENCE_MS + 1), 0);
        acks.end(a);
        assert_eq!(acks.in_sync(500, 0), 0);
    }

    #[test]
    fn sessions_are_bounded_but_a_known_slave_may_return() {
        let mut acks = table(1, AckKind::Received);
        for id in 0..SESSIONS_MAX as u64 {
            follow(&mut acks, id);
        }
        let address = ADDRESS.parse().unwrap();
        assert_eq!(acks.begin(1000, address, 0), Err(AckError::TooMany));
        assert!(acks.begin(5, address, 0).is_ok());
    }
}
