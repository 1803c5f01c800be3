//! Whether messages arrive once each and in order: the stamp that each carries, and the books of a
//! consumer.

use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _};

/// What a message says about itself, at the start of its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stamp {
    /// Tells this run from others on the topic.
    pub(super) run: u64,
    /// Counts the messages of the run.
    pub(super) number: u64,
    /// All messages with lower numbers were answered before this one was sent, so they are stored
    /// before it.
    pub(super) answered: u64,
    /// When it was due, since the start of the run.
    pub(super) due: Duration,
    /// When it was written to the socket, since the start of the run.
    pub(super) written: Duration,
}

impl Stamp {
    pub(super) const BYTES: usize = 40;

    pub(super) fn write(&self, mut body: &mut [u8]) {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        for word in [self.run, self.number, self.answered, ns(self.due), ns(self.written)] {
            body.put_u64(word);
        }
    }

    /// `None` if the body is too short to be stamped.
    pub(super) fn read(mut body: &[u8]) -> Option<Self> {
        (body.len() >= Self::BYTES).then(|| Self {
            run: body.get_u64(),
            number: body.get_u64(),
            answered: body.get_u64(),
            due: Duration::from_nanos(body.get_u64()),
            written: Duration::from_nanos(body.get_u64()),
        })
    }
}

/// The time since the start of a run, nothing before it.
pub(super) fn since(start: Instant, time: Instant) -> Duration {
    time.saturating_duration_since(start)
}

/// A set of small numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    /// Adds a number; whether it is new.
    pub(super) fn insert(&mut self, number: u64) -> bool {
        let (word, bit) = place(number);
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        let Some(word) = self.0.get_mut(word) else { return false };
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

fn place(number: u64) -> (usize, u64) {
    (usize::try_from(number / 64).unwrap_or(usize::MAX), 1 << (number % 64))
}

/// What a producer sent to queues in turn.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) sent: u64,
    pub(super) confirmed: Bits,
}

/// What was wrong.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Faults {
    pub(super) lost: u64,
    pub(super) twice: u64,
    pub(super) disordered: u64,
}

/// The books of one consumer: it has every `queues`th message, from `first` on.
#[derive(Debug)]
pub(super) struct Check {
    first: u64,
    queues: u64,
    seen: Bits,
    /// Messages below are stored before the latest one that came.
    passed: u64,
    faults: Faults,
}

impl Check {
    pub(super) fn new(first: u64, queues: u64) -> Self {
        Self { first, queues, seen: Bits::default(), passed: 0, faults: Faults::default() }
    }

    /// Books a message; `at_its_offset` is whether it stood where the one before it ended.
    pub(super) fn receive(&mut self, stamp: &Stamp, at_its_offset: bool) {
        if !self.seen.insert(stamp.number / self.queues) {
            self.faults.twice += 1;
        }
        if stamp.number < self.passed || stamp.number % self.queues != self.first || !at_its_offset
        {
            self.faults.disordered += 1;
        }
        self.passed = self.passed.max(stamp.answered);
    }

    /// What is wrong if nothing more comes.
    pub(super) fn faults(&self, ledger: &Ledger) -> Faults {
        let step = usize::try_from(self.queues).unwrap_or(usize::MAX);
        let mine = (self.first..ledger.sent).step_by(step);
        let lost = mine.filter(|number| {
            ledger.confirmed.contains(*number) && !self.seen.contains(number / self.queues)
        });
        Faults { lost: u64::try_from(lost.count()).unwrap_or(u64::MAX), ..self.faults }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: u64, answered: u64) -> Stamp {
        let time = Duration::from_nanos(number);
        Stamp { run: 7, number, answered, due: time, written: time * 2 }
    }

    fn ledger(sent: u64, refused: &[u64]) -> Ledger {
        let mut confirmed = Bits::default();
        for number in (0..sent).filter(|number| !refused.contains(number)) {
            confirmed.insert(number);
        }
        Ledger { sent, confirmed }
    }

    #[test]
    fn a_stamp_reads_back() {
        let mut body = [0; Stamp::BYTES + 3];
        stamp(1 << 40, 5).write(&mut body);
        assert_eq!(Stamp::read(&body), Some(stamp(1 << 40, 5)));
        assert_eq!(Stamp::read(&body[..Stamp::BYTES - 1]), None);
    }

    #[test]
    fn every_confirmed_message_of_the_queue_has_to_come_once() {
        let mut check = Check::new(1, 3);
        for number in [1, 4, 4, 10] {
            check.receive(&stamp(number, 0), true);
        }
        // 7 was refused, 13 is missing, 2 is of another queue.
        let faults = check.faults(&ledger(14, &[7]));
        assert_eq!(faults, Faults { lost: 1, twice: 1, disordered: 0 });
    }

    #[test]
    fn only_what_was_answered_before_has_to_come_before() {
        let mut check = Check::new(0, 1);
        // 1 and 2 were on their way together; 0 was answered before 3 was sent.
        for (number, answered) in [(2, 0), (1, 0), (3, 1), (0, 0)] {
            check.receive(&stamp(number, answered), true);
        }
        assert_eq!(check.faults(&ledger(4, &[])), Faults { disordered: 1, ..Faults::default() });
        check.receive(&stamp(4, 4), false);
        assert_eq!(check.faults(&ledger(5, &[])).disordered, 2);
    }
}
