//! What the supervisor and its clients share: what may be done now, which queues there are, and
//! what was counted.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{history::Time, model::Known};

/// Messages that a producer sends in a millisecond.
const PER_MS: u64 = 4;

/// What clients may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// Nothing: the broker is not there.
    Down,
    /// Read.
    Read,
    /// Send and read.
    Load,
    /// Read to the end, then stop.
    Drain,
    /// End.
    Stop,
}

/// What a client does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Role {
    Producer,
    Consumer,
}

impl Role {
    fn may(self, phase: Phase) -> bool {
        match self {
            Self::Producer => phase == Phase::Load,
            Self::Consumer => matches!(phase, Phase::Read | Phase::Load | Phase::Drain),
        }
    }
}

/// Which time of the broker it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Turn {
    /// Counts starts of the broker.
    pub(super) epoch: u32,
    /// Counts changes of the phase that clients begin anew with.
    pub(super) number: u64,
    pub(super) phase: Phase,
}

#[derive(Debug)]
struct State {
    turn: Turn,
    producers: usize,
    consumers: usize,
    /// Consumers that have done what there was to do in this turn.
    done: usize,
}

/// A queue, and what is known of it.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) queue: i32,
    pub(super) known: Mutex<Known>,
}

impl Place {
    pub(super) fn new(topic: Arc<str>, queue: i32) -> Self {
        Self { topic, queue, known: Mutex::default() }
    }

    pub(super) fn at(&self) -> (&str, i32) {
        (&self.topic, self.queue)
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
    places: RwLock<Vec<Arc<Place>>>,
    trouble: Mutex<Option<String>>,
    address: Mutex<SocketAddr>,
    pub(super) time: Time,
    /// Messages that were acknowledged.
    pub(super) acked: AtomicU64,
    /// Messages that were refused.
    pub(super) refused: AtomicU64,
    /// All records of a store have the same size.
    pub(super) uniform: bool,
    /// Messages that a producer sends in a millisecond, after a first burst.
    pub(super) per_ms: u64,
}

impl Board {
    pub(super) fn new(address: SocketAddr, time: Time, uniform: bool) -> Self {
        let turn = Turn { epoch: 0, number: 0, phase: Phase::Down };
        Self {
            state: Mutex::new(State { turn, producers: 0, consumers: 0, done: 0 }),
            changed: Condvar::new(),
            places: RwLock::default(),
            trouble: Mutex::default(),
            address: Mutex::new(address),
            time,
            acked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            uniform,
            per_ms: PER_MS,
        }
    }

    /// The broker to talk to.
    pub(super) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another broker is to be talked to, from the next change of the phase on.
    pub(super) fn move_to(&self, address: SocketAddr) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes what may be done; clients that have nothing to do begin anew.
    pub(super) fn set(&self, phase: Phase) {
        let mut state = self.state();
        state.turn.phase = phase;
        state.turn.number += 1;
        state.done = 0;
        self.changed.notify_all();
    }

    /// The broker has been started once more.
    pub(super) fn next_epoch(&self) -> u32 {
        let mut state = self.state();
        state.turn.epoch += 1;
        state.turn.epoch
    }

    /// Sets the epoch; [`Board::set`] has to follow.
    pub(super) fn begin_epoch(&self, epoch: u32) {
        self.state().turn.epoch = epoch;
    }

    pub(super) fn turn(&self) -> Turn {
        self.state().turn
    }

    /// Whether a client of this turn may go on as it began.
    pub(super) fn goes_on(&self, turn: Turn) -> bool {
        self.turn() == turn
    }

    /// Waits until there is something to do that was not done yet; nothing when all is over.
    pub(super) fn enter(&self, role: Role, last: u64) -> Option<Turn> {
        let mut state = self.state();
        loop {
            let turn = state.turn;
            if turn.phase == Phase::Stop {
                return None;
            }
            if role.may(turn.phase) && turn.number > last {
                match role {
                    Role::Producer => state.producers += 1,
                    Role::Consumer => state.consumers += 1,
                }
                return Some(turn);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends what [`Board::enter`] began with `turn`. Everything of it is in the history.
    pub(super) fn leave(&self, role: Role, turn: Turn) {
        let mut state = self.state();
        match role {
            Role::Producer => state.producers -= 1,
            Role::Consumer => state.consumers -= 1,
        }
        if role == Role::Consumer && turn == state.turn {
            state.done += 1;
        }
        self.changed.notify_all();
    }

    /// Waits until no client of this role does anything; false if that takes too long.
    pub(super) fn idle(&self, role: Role, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut state = self.state();
        loop {
            let busy = match role {
                Role::Producer => state.producers,
                Role::Consumer => state.consumers,
            };
            if busy == 0 {
                return true;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state =
                self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until so many consumers have done what there was to do since the last
    /// [`Board::set`]: one that has not begun yet is not idle. False if that takes too long.
    pub(super) fn done(&self, consumers: usize, wait: Duration) -> bool {
        let state = self.state();
        let waiting = |state: &mut State| state.done < consumers;
        let waited = self.changed.wait_timeout_while(state, wait, waiting);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Adds the queues of a topic that exists now.
    pub(super) fn add_topic(&self, topic: &str, queues: i32) {
        let topic: Arc<str> = topic.into();
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        places.extend((0..queues).map(|queue| Arc::new(Place::new(Arc::clone(&topic), queue))));
    }

    /// Takes over the queues that another board knows, and what is known of them.
    pub(super) fn share_places(&self, of: &Self) {
        *self.places.write().unwrap_or_else(PoisonError::into_inner) = of.places();
    }

    pub(super) fn places(&self) -> Vec<Arc<Place>> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes what a client cannot go on with.
    pub(super) fn report(&self, trouble: String) {
        let mut place = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        place.get_or_insert(trouble);
    }

    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_enters_a_turn_once_and_is_waited_for() {
        let board = Board::new("127.0.0.1:1".parse().unwrap(), Time::start(), false);
        board.set(Phase::Load);
        let turn = board.enter(Role::Producer, 0).unwrap();
        assert!(board.goes_on(turn));
        assert!(!board.idle(Role::Producer, Duration::from_millis(1)));
        assert!(board.idle(Role::Consumer, Duration::ZERO));
        board.set(Phase::Down);
        assert!(!board.goes_on(turn));
        board.leave(Role::Producer, turn);
        assert!(board.idle(Role::Producer, Duration::ZERO));
        board.set(Phase::Stop);
        assert_eq!(board.enter(Role::Producer, turn.number), None);
    }

    #[test]
    fn a_consumer_that_has_not_begun_is_not_done() {
        let board = Board::new("127.0.0.1:1".parse().unwrap(), Time::start(), false);
        board.set(Phase::Read);
        let read = board.enter(Role::Consumer, 0).unwrap();
        board.leave(Role::Consumer, read);
        board.set(Phase::Drain);
        assert!(board.idle(Role::Consumer, Duration::ZERO));
        assert!(!board.done(1, Duration::from_millis(1)));
        let drain = board.enter(Role::Consumer, read.number).unwrap();
        board.leave(Role::Consumer, drain);
        assert!(board.done(1, Duration::ZERO));
    }
}
