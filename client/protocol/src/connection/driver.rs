//! The task of one connection: read what is there, serve it, write what was answered.

use std::{
    io,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, atomic::Ordering},
};

use bytes::BytesMut;
use thiserror::Error;
use tokio::{
    net::TcpStream,
    time::{Duration, Instant, MissedTickBehavior, interval, sleep, timeout},
};

use super::{Connection, Service, State, lock};
use crate::frame::{self, Frame, Ticket};

/// Bytes read from one peer before its requests are served and others get a turn.
const TURN_BYTES: usize = 256 * 1024;
/// What a peer must take in [`super::Bounds::stall`], or everything if that is less.
const STALL_BYTES: usize = 64 * 1024;
/// After a failed write the end of what the peer sent shows at once, unless only the write failed.
const REST_WAIT: Duration = Duration::from_secs(1);

/// Serves `stream` until it ends. The caller's task is the connection's task.
pub(crate) async fn drive<S: Service>(
    connection: Arc<Connection>,
    stream: TcpStream,
    service: Arc<S>,
) {
    let outcome =
        Driver { connection: &connection, stream: &stream, service: &*service }.run().await;
    match outcome {
        Ok(()) => {}
        Err(End::Malformed(reason)) => {
            tracing::warn!(peer = %connection.peer, %reason, "frame rejected; connection closes");
        }
        Err(End::Io(error)) => {
            tracing::debug!(peer = %connection.peer, %error, "connection ended");
        }
    }
    connection.close("ended");
    lock(&connection.calls).clear();
    service.closed(&connection);
}

#[derive(Debug, Error)]
enum End {
    #[error(transparent)]
    Malformed(#[from] frame::Malformed),
    #[error(transparent)]
    Io(#[from] io::Error),
}

struct Driver<'a, S> {
    connection: &'a Arc<Connection>,
    stream: &'a TcpStream,
    service: &'a S,
}

impl<S: Service> Driver<'_, S> {
    async fn run(&self) -> Result<(), End> {
        let mut buffer = BytesMut::new();
        let mut turn = S::Turn::default();
        let mut idle_check = interval(self.connection.config.idle / 4);
        idle_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut quiet_ticks = 0;
        let mut stall = pin!(sleep(self.connection.config.stall));
        let mut taken_before = None;
        let mut unserved = false;
        loop {
            let (backlog, taken) = match self.flush() {
                Ok(flushed) => flushed,
                Err(error) => {
                    self.connection.end();
                    self.serve_rest(&mut buffer, &mut turn).await?;
                    return Err(error.into());
                }
            };
            if backlog == 0 {
                taken_before = None;
            } else if taken_before.is_none() {
                taken_before = Some(taken);
                stall.as_mut().reset(Instant::now() + self.connection.config.stall);
            }
            let state = *self.connection.state.borrow();
            match state {
                State::Closed => return Ok(()),
                State::Draining
                    if backlog == 0 && self.connection.working.load(Ordering::Acquire) == 0 =>
                {
                    return Ok(());
                }
                State::Open | State::Draining => {}
            }
            let serving = state == State::Open && !self.is_full();
            if serving && unserved {
                unserved = self.serve_turn(&mut buffer, &mut turn, false)?;
                tokio::task::yield_now().await;
                continue;
            }
            tokio::select! {
                ready = self.stream.readable(), if serving => {
                    ready?;
                    quiet_ticks = 0;
                    if !self.read(&mut buffer)? {
                        return Ok(());
                    }
                    unserved = self.serve_turn(&mut buffer, &mut turn, false)?;
                }
                ready = self.stream.writable(), if backlog > 0 => {
                    ready?;
                    quiet_ticks = 0;
                }
                () = self.connection.wake.notified() => quiet_ticks = 0,
                () = &mut stall, if taken_before.is_some() => {
                    if self.stalled(taken - taken_before.unwrap_or(taken), backlog) {
                        return Ok(());
                    }
                    taken_before = None;
                }
                _ = idle_check.tick() => {
                    quiet_ticks += 1;
                    // The first tick is immediate, hence one more than the four quarters.
                    if quiet_ticks > 5 {
                        tracing::debug!(peer = %self.connection.peer, "idle connection closes");
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Whether a peer that took so much of what waited takes too little. Says so in the log.
    fn stalled(&self, taken: u64, backlog: usize) -> bool {
        let stalled = usize::try_from(taken).is_ok_and(|taken| taken < backlog.min(STALL_BYTES));
        if stalled {
            tracing::warn!(
                peer = %self.connection.peer,
                waiting_bytes = backlog,
                "the peer does not read its replies; connection closes"
            );
        }
        stalled
    }

    /// Whether the peer's requests must wait: for the peer, or for handlers at work.
    fn is_full(&self) -> bool {
        self.connection.has_backlog() || self.connection.is_crowded()
    }

    /// Writes what waits. Returns how many bytes still do, and how many ever left.
    fn flush(&self) -> io::Result<(usize, u64)> {
        let mut outbox = lock(&self.connection.outbox);
        let full = self.connection.has_backlog();
        outbox.write(self.stream)?;
        self.connection.backlog.store(outbox.bytes, Ordering::Release);
        if full && !self.connection.has_backlog() {
            self.connection.taken.notify_one();
        }
        Ok((outbox.bytes, outbox.taken))
    }

    /// Serves what came from a peer that takes no more replies: clients commit their offsets one-way
    /// in the moment they leave.
    async fn serve_rest(
        &self,
        buffer: &mut BytesMut,
        turn: &mut S::Turn,
    ) -> Result<(), frame::Malformed> {
        while let Ok(Ok(())) = timeout(REST_WAIT, self.stream.readable()).await {
            if !self.read(buffer).unwrap_or(false) {
                break;
            }
            self.serve_turn(buffer, turn, true)?;
        }
        Ok(())
    }

    /// Reads what is there; `false` when the peer has ended its side and nothing came before. An
    /// end or an error behind other bytes shows at the next call, when those have been served.
    fn read(&self, buffer: &mut BytesMut) -> io::Result<bool> {
        let mut budget = TURN_BYTES;
        while budget > 0 {
            if buffer.capacity() - buffer.len() < 4 * 1024 {
                // A half-received frame gets room in steps, never by what its prefix claims.
                buffer.reserve(64 * 1024);
            }
            match self.stream.try_read_buf(buffer) {
                Ok(count) if count > 0 => budget = budget.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(_) | Err(_) if budget < TURN_BYTES => break,
                Ok(_) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Serves the whole frames of `buffer` as one turn; `true` if some had to be left, which does
    /// not happen when the peer has gone.
    fn serve_turn(
        &self,
        buffer: &mut BytesMut,
        turn: &mut S::Turn,
        gone: bool,
    ) -> Result<bool, frame::Malformed> {
        let large = buffer.len() > TURN_BYTES;
        self.connection.in_turn.store(true, Ordering::Release);
        let outcome = self.serve(buffer, turn, gone);
        self.guard(None, || self.service.turn_end(self.connection, turn));
        self.connection.in_turn.store(false, Ordering::Release);
        if large && buffer.len() <= TURN_BYTES {
            // The room of a large frame goes with the frame.
            *buffer = BytesMut::from(buffer.as_ref());
        }
        outcome
    }

    fn serve(
        &self,
        buffer: &mut BytesMut,
        turn: &mut S::Turn,
        gone: bool,
    ) -> Result<bool, frame::Malformed> {
        loop {
            if !gone && (self.is_full() || self.connection.ended.load(Ordering::Relaxed)) {
                return Ok(true);
            }
            let Some(bytes) = frame::split(buffer)? else { return Ok(false) };
            let frame = Frame::decode(bytes)?;
            if frame.is_reply() {
                let call = lock(&self.connection.calls).remove(&frame.opaque);
                if let Some(call) = call {
                    // The caller may have given up in this moment.
                    let _ = call.send(frame);
                }
                continue;
            }
            let ticket = frame.ticket();
            self.guard(Some(ticket), || self.service.request(self.connection, frame, turn));
        }
    }

    /// Keeps a handler's panic inside its request.
    fn guard(&self, ticket: Option<Ticket>, handler: impl FnOnce()) {
        if std::panic::catch_unwind(AssertUnwindSafe(handler)).is_err() {
            match ticket {
                Some(ticket) => self.connection.panicked(ticket),
                None => self.connection.close("the end of a turn panicked"),
            }
        }
    }
}
