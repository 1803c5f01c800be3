//! The master's side of one session, after the greeting: what is sent, in which order, and what of
//! the slave's frames is believed. No socket, no thread, no clock.

use std::collections::VecDeque;

#[cfg(test)]
use super::sim::{Bug, bug};
use super::{
    acks::Reach,
    frame::{Ack, Body, FileBytes, Frame, LogBytes, LogDigest, PART_MAX_BYTES, WalDelta},
    plan::Plan,
    replica::{Delta, Deltas, Epoch, Master, PendingOffset, Position, StateDigest},
    sending::Sending,
    session::{Count, HEARTBEAT_MS, SILENCE_MAX_MS, SessionEnd},
};

/// Most bytes of log, and as many of changes, that are on their way without an acknowledgement.
pub(crate) const WINDOW_BYTES: u64 = 8 << 20;
/// Digests of the log cover so many bytes, or what was sent in [`DIGEST_MS`].
pub(crate) const DIGEST_BYTES: u64 = 16 << 20;
/// How often digests are sent.
pub(crate) const DIGEST_MS: u64 = 30_000;
/// Changes that are fetched at a time.
const FETCH_BYTES: usize = 4 << 20;
/// What one [`Feed::poll`] makes at most, about. So much of the log's end is in memory.
const POLL_BYTES: usize = 2 << 20;
/// A slave that lacks no more changes than these gets them from memory.
const QUICK_CHANGES: u64 = 10_000;

/// What a slave says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Said {
    /// This much it has.
    Ack(Ack),
    /// These were committed there.
    Offsets(Vec<PendingOffset>),
}

/// Takes a slave's frame.
///
/// # Errors
/// The session must end.
pub(crate) fn receive(count: &mut Count, frame: Frame) -> Result<Said, SessionEnd> {
    count.check(&frame)?;
    match frame.body {
        Some(Body::Ack(ack)) => Ok(Said::Ack(ack)),
        Some(Body::Offsets(offsets)) => Ok(Said::Offsets(offsets.pending)),
        _ => Err(SessionEnd::Unexpected),
    }
}

/// What is sent to one slave.
pub(crate) struct Feed<S: Master> {
    count: Count,
    beat_ms: u64,
    mode: Mode<S>,
}

enum Mode<S: Master> {
    Stream(Stream),
    Snapshot(Sending<S::Snapshot>),
    /// The slave carries out its plan and hangs up.
    Done,
}

impl<S: Master> Feed<S> {
    /// After a welcome with a plan that streams.
    pub(crate) fn stream(epoch: u64, plan: &Plan, from: Reach, now_ms: u64) -> Self {
        let stream = Stream::new(from, plan.newer_epochs.clone(), now_ms);
        Self { count: Count::new(epoch), beat_ms: now_ms, mode: Mode::Stream(stream) }
    }

    /// After a welcome with a plan that does not: `snapshot` is sent if it is part of the plan.
    pub(crate) fn prepare(
        epoch: u64,
        snapshot: Option<(S::Snapshot, Vec<FileBytes>)>,
        now_ms: u64,
    ) -> Self {
        let mode = snapshot
            .map_or(Mode::Done, |(snapshot, have)| Mode::Snapshot(Sending::new(snapshot, have)));
        Self { count: Count::new(epoch), beat_ms: now_ms, mode }
    }

    /// The snapshot that is not needed any more, or not in this session.
    pub(crate) fn take_snapshot(&mut self) -> Option<S::Snapshot> {
        match std::mem::replace(&mut self.mode, Mode::Done) {
            Mode::Snapshot(sending) => Some(sending.snapshot),
            Mode::Stream(_) | Mode::Done => None,
        }
    }

    /// How far the slave was sent; must be noted before the frames leave.
    pub(crate) fn sent(&self) -> Option<Reach> {
        match &self.mode {
            Mode::Stream(stream) => Some(stream.sent),
            Mode::Snapshot(_) | Mode::Done => None,
        }
    }

    /// Whether [`Feed::poll`] finds what it needs in memory.
    pub(crate) fn is_quick(&self, store: &S, now_ms: u64) -> bool {
        match &self.mode {
            Mode::Stream(stream) => {
                let position = store.position();
                position.appended.saturating_sub(stream.sent.log) <= POLL_BYTES as u64
                    && position.sequence.saturating_sub(stream.sent.sequence) <= QUICK_CHANGES
                    && now_ms.saturating_sub(stream.state_ms) < DIGEST_MS
            }
            Mode::Snapshot(_) => false,
            Mode::Done => true,
        }
    }

    /// What is to be sent now; nothing if the slave must be waited for or there is nothing new.
    /// `ack` is what the slave has said last, at `heard_ms`.
    ///
    /// # Errors
    /// The session must end.
    pub(crate) fn poll(
        &mut self,
        store: &S,
        (ack, heard_ms): (Ack, u64),
        now_ms: u64,
    ) -> Result<Vec<Frame>, SessionEnd> {
        let silent_ms = now_ms.saturating_sub(heard_ms);
        if silent_ms > SILENCE_MAX_MS {
            return Err(SessionEnd::Silent { silent_ms });
        }
        let mut bodies = match &mut self.mode {
            Mode::Stream(stream) => stream.poll(store, &ack, now_ms)?,
            Mode::Snapshot(sending) => sending.poll()?,
            Mode::Done => Vec::new(),
        };
        if now_ms.saturating_sub(self.beat_ms) >= HEARTBEAT_MS {
            self.beat_ms = now_ms;
            bodies.push(Body::Heartbeat(store.position().appended));
        }
        Ok(bodies.into_iter().map(|body| self.count.next(body)).collect())
    }
}

/// The stream: log, changes that need no more of it than was sent, what is shown of it.
struct Stream {
    sent: Reach,
    confirmed: u64,
    /// What to confirm next, and the change before which it must not be: a slave shows a record
    /// only when it has its topic.
    confirms: Reach,
    /// Epochs whose row the slave does not have: their log is kept back.
    missing: VecDeque<Epoch>,
    /// Fetched, not sent.
    waiting: VecDeque<Delta>,
    /// Changes that are sent and not acknowledged: last number and bytes.
    flying: VecDeque<(u64, u64)>,
    flying_bytes: u64,
    /// Nothing follows the last change that was sent or fetched.
    gone: bool,
    state: Option<StateDigest>,
    state_ms: u64,
    log_crc: crc32fast::Hasher,
    log_crc_from: u64,
    log_crc_ms: u64,
}

impl Stream {
    fn new(from: Reach, missing: Vec<Epoch>, now_ms: u64) -> Self {
        Self {
            sent: from,
            confirmed: 0,
            confirms: Reach::default(),
            missing: missing.into(),
            waiting: VecDeque::new(),
            flying: VecDeque::new(),
            flying_bytes: 0,
            gone: false,
            state: None,
            state_ms: now_ms,
            log_crc: crc32fast::Hasher::new(),
            log_crc_from: from.log,
            log_crc_ms: now_ms,
        }
    }

    fn poll(
        &mut self,
        store: &impl Master,
        ack: &Ack,
        now_ms: u64,
    ) -> Result<Vec<Body>, SessionEnd> {
        while self.missing.pop_front_if(|epoch| epoch.number <= ack.epoch).is_some() {}
        while let Some((_, bytes)) = self.flying.pop_front_if(|(last, _)| *last <= ack.sequence) {
            self.flying_bytes -= bytes;
        }
        let position = store.position();
        let (mut bodies, mut bytes) = (Vec::new(), 0);
        while bytes < POLL_BYTES {
            let more = self.next_changes(store, &position, &mut bodies)?
                + self.next_log(store, &position, ack, &mut bodies)?;
            if more == 0 {
                break;
            }
            bytes += more;
        }
        self.confirm(&position, &mut bodies);
        self.digests(store, &position, now_ms, &mut bodies)?;
        let gate = self.gate();
        // A change behind the row of the epoch waits for nothing but the slave's disk.
        let row_follows =
            |epoch: &Epoch| epoch.log_start == gate && self.sent.sequence < epoch.sequence_start;
        if let Some(needs) = self.waiting.front().map(|delta| delta.needs)
            && needs > gate
            && self.sent.log >= gate
            && self.missing.iter().any(row_follows)
        {
            let sequence = self.sent.sequence;
            return Err(SessionEnd::Lost { sequence, needs, log_start: gate });
        }
        let log_end = position.appended.min(gate);
        if self.gone && self.waiting.is_empty() && self.sent.log >= log_end {
            return Err(SessionEnd::Gone { sequence: self.sent.sequence });
        }
        Ok(bodies)
    }

    fn confirm(&mut self, position: &Position, bodies: &mut Vec<Body>) {
        if self.sent.sequence >= position.sequence {
            self.confirms = Reach { log: position.confirmed, sequence: position.sequence };
        }
        if self.sent.sequence < self.confirms.sequence {
            return;
        }
        let confirmed = self.confirms.log.min(self.sent.log);
        if confirmed > self.confirmed {
            self.confirmed = confirmed;
            bodies.push(Body::Confirm(confirmed));
        }
        // The next aim: under load, the position moves with every look.
        self.confirms = Reach { log: position.confirmed, sequence: position.sequence };
    }

    /// Where the log is kept back until the slave's disk has the row of an epoch: what it has of
    /// the log without the row would pass for that of an older epoch.
    fn gate(&self) -> u64 {
        #[cfg(test)]
        if bug(Bug::NoGate) {
            return u64::MAX;
        }
        self.missing.iter().map(|epoch| epoch.log_start).min().unwrap_or(u64::MAX)
    }

    /// Sends some log if there is some and the slave keeps up; returns how much.
    fn next_log(
        &mut self,
        store: &impl Master,
        position: &Position,
        ack: &Ack,
        bodies: &mut Vec<Body>,
    ) -> Result<usize, SessionEnd> {
        let end = position.appended.min(self.gate()).min(ack.taken.saturating_add(WINDOW_BYTES));
        let max = end.saturating_sub(self.sent.log).min(PART_MAX_BYTES as u64);
        if max == 0 {
            return Ok(0);
        }
        let max = usize::try_from(max).unwrap_or(PART_MAX_BYTES);
        let Some(piece) = store.log_piece(self.sent.log, max)? else { return Ok(0) };
        let len = piece.bytes.len();
        self.sent.log += len as u64;
        self.log_crc.update(&piece.bytes);
        bodies.push(Body::Log(LogBytes {
            offset: piece.offset,
            segment_base: piece.segment_base,
            segment_bytes: piece.segment_bytes,
            bytes: piece.bytes,
        }));
        Ok(len)
    }

    /// Sends the changes that the log sent so far allows; returns how many bytes.
    fn next_changes(
        &mut self,
        store: &impl Master,
        position: &Position,
        bodies: &mut Vec<Body>,
    ) -> Result<usize, SessionEnd> {
        if self.flying_bytes >= WINDOW_BYTES {
            return Ok(0);
        }
        if self.waiting.is_empty() && position.sequence > self.sent.sequence && !self.gone {
            match store.deltas_after(self.sent.sequence, FETCH_BYTES)? {
                Deltas::Next(deltas) => self.waiting = deltas.into(),
                // The log goes on: the slave will need it after the snapshot too.
                Deltas::Gone => self.gone = true,
            }
        }
        let reached = self.sent.log;
        #[cfg(test)]
        let reached = if bug(Bug::DeltaEarly) { u64::MAX } else { reached };
        let Some(delta) = self.waiting.pop_front_if(|delta| delta.needs <= reached) else {
            return Ok(0);
        };
        if delta.first_sequence != self.sent.sequence + 1 {
            return Err(SessionEnd::Gone { sequence: self.sent.sequence });
        }
        let len = delta.batch.len();
        self.flying.push_back((delta.last_sequence, len as u64));
        self.flying_bytes += len as u64;
        self.sent.sequence = delta.last_sequence;
        parts(delta, bodies);
        if let Some(state) = self.state.take_if(|state| state.sequence <= self.sent.sequence)
            && state.sequence == self.sent.sequence
        {
            bodies.push(Body::State(state.into()));
        }
        // Even an empty one is progress.
        Ok(len.max(1))
    }

    fn digests(
        &mut self,
        store: &impl Master,
        position: &Position,
        now_ms: u64,
        bodies: &mut Vec<Body>,
    ) -> Result<(), SessionEnd> {
        let (bytes, due) = (
            self.sent.log - self.log_crc_from,
            now_ms.saturating_sub(self.log_crc_ms) >= DIGEST_MS,
        );
        if bytes >= DIGEST_BYTES || (due && bytes > 0) {
            let crc = std::mem::take(&mut self.log_crc).finalize();
            let digest = LogDigest { from: self.log_crc_from, to: self.sent.log, crc };
            bodies.push(Body::LogDigest(digest));
            self.log_crc_from = self.sent.log;
            self.log_crc_ms = now_ms;
        }
        // Only a slave that follows closely reaches the number before the next digest.
        if now_ms.saturating_sub(self.state_ms) >= DIGEST_MS
            && self.sent.sequence == position.sequence
        {
            self.state_ms = now_ms;
            let state = store.state_digest()?;
            if state.sequence == self.sent.sequence {
                bodies.push(Body::State(state.into()));
            } else {
                self.state = Some(state);
            }
        }
        Ok(())
    }
}

/// A batch in as many frames as it needs.
fn parts(delta: Delta, bodies: &mut Vec<Body>) {
    let Delta { first_sequence, last_sequence, needs, mut batch } = delta;
    loop {
        let part = batch.split_to(batch.len().min(PART_MAX_BYTES));
        let rest_bytes = batch.len() as u64;
        bodies.push(Body::Delta(WalDelta {
            first_sequence,
            last_sequence,
            needs,
            batch: part,
            rest_bytes,
        }));
        if rest_bytes == 0 {
            return;
        }
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
