//! The task of one connection: read what is there, serve it, write what was answered.

use std::{
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use bytes::BytesMut;
use thiserror::Error;
use tokio::net::TcpStream;

use super::{Connection, Service, State, lock};
use crate::frame::{self, Frame, Ticket};

/// Bytes read from one peer before its requests are served and others get a turn.
const TURN_BYTES: usize = 256 * 1024;
/// With this much unsent, nothing more is read from the peer until it has taken some of it.
const OUTBOX_PAUSE_BYTES: usize = 4 * 1024 * 1024;

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
        let mut idle_check = tokio::time::interval(self.connection.config.idle / 4);
        idle_check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut quiet_ticks = 0;
        loop {
            let backlog = self.flush()?;
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
            tokio::select! {
                ready = self.stream.readable(), if state == State::Open && backlog < OUTBOX_PAUSE_BYTES => {
                    ready?;
                    quiet_ticks = 0;
                    if !self.read(&mut buffer, &mut turn)? {
                        return Ok(());
                    }
                }
                ready = self.stream.writable(), if backlog > 0 => {
                    ready?;
                    quiet_ticks = 0;
                }
                () = self.connection.wake.notified() => quiet_ticks = 0,
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

    /// Writes what waits and returns how many bytes still do.
    fn flush(&self) -> io::Result<usize> {
        let mut outbox = lock(&self.connection.outbox);
        outbox.write(self.stream)?;
        Ok(outbox.bytes)
    }

    /// Reads what is there and serves it; `false` when the peer has ended its side.
    fn read(&self, buffer: &mut BytesMut, turn: &mut S::Turn) -> Result<bool, End> {
        let mut budget = TURN_BYTES;
        let mut open = true;
        while budget > 0 {
            if buffer.capacity() - buffer.len() < 4 * 1024 {
                // A half-received frame gets room in steps, never by what its prefix claims.
                buffer.reserve(64 * 1024);
            }
            match self.stream.try_read_buf(buffer) {
                Ok(0) => {
                    open = false;
                    break;
                }
                Ok(count) => budget = budget.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.connection.in_turn.store(true, Ordering::Release);
        let outcome = self.serve(buffer, turn);
        self.guard(None, || self.service.turn_end(self.connection, turn));
        self.connection.in_turn.store(false, Ordering::Release);
        outcome?;
        Ok(open)
    }

    fn serve(&self, buffer: &mut BytesMut, turn: &mut S::Turn) -> Result<(), frame::Malformed> {
        while let Some(bytes) = frame::split(buffer)? {
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
        Ok(())
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
