//! Held pulls: a pull that finds nothing waits at its queue until a message arrives, the client's
//! time is up, or the connection ends. It is woken by the queue, never by a timer; many that are
//! woken together on one connection are answered as fast as the peer takes the answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use protocol::{connection::Connection, frame::Frame};
use storage::{Queue, QueueOffset};
use tokio::time::{Instant, sleep_until};

use crate::{
    request::{pull, reply::Refusal},
    state::State,
};

/// How many pulls are held or wait for the disk, and how many may.
#[derive(Debug)]
pub(crate) struct Places {
    taken: Arc<AtomicUsize>,
    max: usize,
}

impl Places {
    /// At most `max` pulls at a time.
    pub(crate) fn new(max: usize) -> Self {
        Self { taken: Arc::default(), max }
    }

    pub(crate) fn take(&self) -> Result<Place, Refusal> {
        let held = self.taken.fetch_add(1, Relaxed);
        let place = Place(Arc::clone(&self.taken));
        if held < self.max { Ok(place) } else { Err(Refusal::TooManyHeld { held }) }
    }

    /// How many there are now.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

/// The place of one pull, given back when dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Where and how long a pull waits.
#[derive(Debug)]
pub(crate) struct Wait {
    /// The queue that it waits for.
    pub(crate) queue: Arc<Queue>,
    /// The first offset that it has not seen.
    pub(crate) from: QueueOffset,
    /// Its patience.
    pub(crate) timeout: Duration,
}

/// Holds a pull in a task of its own, which will answer it.
///
/// # Errors
///
/// When too many are held: the client is told to come back later.
pub(crate) fn hold(
    state: &Arc<State>,
    connection: &Arc<Connection>,
    frame: Frame,
    wait: Wait,
) -> Result<(), Refusal> {
    let place = state.places.take()?;
    // Held pulls are many and live long: none may keep the buffer that it was read into.
    let frame = frame.detached();
    let (state, connection_) = (Arc::clone(state), Arc::clone(connection));
    connection.spawn(frame.ticket(), async move {
        let _place = place;
        answer_later(&state, &connection_, &frame, wait).await;
    });
    Ok(())
}

async fn answer_later(state: &Arc<State>, connection: &Arc<Connection>, frame: &Frame, wait: Wait) {
    let Wait { queue, from: first, timeout } = wait;
    let deadline = Instant::now() + timeout;
    let mut from = first;
    loop {
        let holding = connection.holding();
        let last = tokio::select! {
            () = queue.wait_beyond(from) => false,
            () = sleep_until(deadline) => true,
            () = connection.closing() => true,
        };
        drop(holding);
        let _room = connection.room().await;
        let outcome = pull::again(state, frame, from).await;
        match outcome {
            // Only messages that the subscription does not want: wait behind them.
            Ok(attempt) if !last && attempt.is_unmatched() => from = attempt.next(),
            outcome => {
                pull::answer(state, connection, frame, outcome.map(|attempt| attempt.since(first)));
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let places = Places::new(1);
        let place = places.take().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(places.taken(), 1);
        assert!(matches!(places.take(), Err(Refusal::TooManyHeld { held: 1 })));
        assert_eq!(places.taken(), 1, "a refusal takes no place");
        drop(place);
        assert_eq!(places.taken(), 0);
        assert!(places.take().is_ok());
    }
}
