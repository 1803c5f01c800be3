//! What the handlers of one connection that run in tasks of their own may take.

use std::sync::{Arc, atomic::Ordering};

use tokio::sync::SemaphorePermit;

use super::Connection;
use crate::frame::Ticket;

/// Answers of one connection that are made at a time.
pub(super) const ANSWERING_MAX: usize = 4;
/// With this many handlers at work, no more requests are served until one of them ends.
const CROWD_MAX: usize = 1024;

/// The right to make an answer that may be large. It ends when dropped.
#[derive(Debug)]
pub struct Room<'a>(#[expect(dead_code, reason = "kept to be dropped")] SemaphorePermit<'a>);

/// Says that a handler waits for something other than its turn; ends when dropped.
#[derive(Debug)]
pub struct Holding<'a>(&'a Connection);

impl Connection {
    /// Waits until most of what was written to the peer has left and few others make an answer.
    /// Call it before an answer that may be large is made, and keep what it returns until the
    /// answer is given: so a peer that does not read costs a few answers and no more. Resolves too
    /// when the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    ///
    /// # Panics
    ///
    /// Never: the semaphore inside is not closed.
    pub async fn room(&self) -> Room<'_> {
        let permit = self.answering.acquire().await.expect("it is never closed");
        while self.has_backlog() && !self.is_closed() {
            self.taken.notified().await;
        }
        // Somebody else may wait for the same news.
        self.taken.notify_one();
        Room(permit)
    }

    /// A handler that holds its request back until something happens says so, and is not counted
    /// among those that keep further requests from being served. Whoever holds requests bounds
    /// their number.
    pub fn holding(&self) -> Holding<'_> {
        self.holding.fetch_add(1, Ordering::AcqRel);
        self.wake.notify_one();
        Holding(self)
    }

    /// Whether so much is unsent that nothing should be added.
    pub(super) fn has_backlog(&self) -> bool {
        self.backlog.load(Ordering::Acquire) >= self.config.outbox_pause_bytes
    }

    /// Whether so many handlers are at work that none should be started.
    pub(super) fn is_crowded(&self) -> bool {
        let holding = self.holding.load(Ordering::Acquire);
        self.working.load(Ordering::Acquire).saturating_sub(holding) >= CROWD_MAX
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.holding.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Counts a handler that runs in a task of its own.
pub(super) struct Working {
    connection: Arc<Connection>,
    ticket: Ticket,
    /// Set at the handler's end; a panic leaves it out.
    done: bool,
}

impl Working {
    pub(super) fn new(connection: Arc<Connection>, ticket: Ticket) -> Self {
        connection.working.fetch_add(1, Ordering::AcqRel);
        Self { connection, ticket, done: false }
    }

    /// The handler has come to its end.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if !self.done {
            self.connection.panicked(self.ticket);
        }
        self.connection.working.fetch_sub(1, Ordering::AcqRel);
        self.connection.wake.notify_one();
    }
}
