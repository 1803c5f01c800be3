//! The quick check after each start: what was acknowledged or seen since the last one is where it
//! was, and so is a sample of everything older. The checker outside of this program decides; this
//! one finds most of what there is to find, at once.

use std::time::Duration;

use super::{
    board::Place,
    history::Id,
    seed::Seed,
    wire::{Link, Unanswered},
};

/// Messages of one pull.
const PAGE: i32 = 1024;
/// The group of the supervisor; it commits nothing.
pub(super) const GROUP: &str = "torture-supervisor";

/// What is known of a queue.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By offset: what was acknowledged, and when.
    acked: Vec<Option<(Id, u64)>>,
    /// By offset: what the last checks have seen.
    seen: Vec<Id>,
    /// Where the queue ended when the broker had started, by epoch.
    ends: Vec<(u32, i64)>,
}

/// A broken promise.
#[derive(Clone, Debug)]
pub(super) struct Red {
    /// The rule, as the checker counts them.
    pub(super) rule: u8,
    pub(super) what: String,
}

impl Red {
    pub(super) fn new(rule: u8, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// What a power cut took that had been acknowledged with async flush.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Loss {
    pub(super) messages: u64,
    /// From the oldest of them to the cut.
    pub(super) window_us: u64,
}

impl Known {
    /// Notes where the queue ends at the start of an epoch.
    pub(super) fn begins(&mut self, epoch: u32, end: i64) {
        self.ends.push((epoch, end));
    }

    /// The smallest end that the queue began with after this epoch: offsets behind it may have got
    /// other messages.
    pub(super) fn smallest_end_after(&self, epoch: u32) -> Option<i64> {
        let later = self.ends.iter().filter(|(of, _)| *of > epoch);
        later.map(|(_, end)| *end).min()
    }

    /// Where the queue ends at least: behind all that was acknowledged or seen.
    pub(super) fn end(&self) -> i64 {
        i64::try_from(self.acked.len().max(self.seen.len())).unwrap_or(i64::MAX)
    }

    /// Notes an acknowledged message. An error is an offset that was given twice.
    pub(super) fn ack(&mut self, offset: i64, id: Id, now_us: u64) -> Result<(), Red> {
        let at = usize::try_from(offset)
            .map_err(|_| Red::new(2, format!("message {id} was given offset {offset}")))?;
        if at >= self.acked.len() {
            self.acked.resize(at + 1, None);
        }
        let seen = self.seen.get(at).copied();
        let acked = self.acked.get_mut(at).and_then(|slot| slot.replace((id, now_us)));
        let other = acked.map(|(other, _)| other).or(seen).filter(|other| *other != id);
        other.map_or(Ok(()), |other| {
            Err(Red::new(3, format!("offset {offset} was given to {other} and then to {id}")))
        })
    }

    /// Forgets what lies at or behind `max`, which the queue ends at now.
    fn cut(&mut self, max: usize, cut_us: Option<u64>) -> Result<Loss, Red> {
        let mut loss = Loss::default();
        let gone = self.acked.get(max..).unwrap_or_default().iter().flatten();
        let (mut oldest, mut first) = (u64::MAX, None);
        for (id, acked_us) in gone {
            loss.messages += 1;
            oldest = oldest.min(*acked_us);
            first = first.or(Some(*id));
        }
        let Some(cut_us) = cut_us else {
            return match first {
                Some(id) => Err(Red::new(
                    1,
                    format!("{} acknowledged messages are gone, the first {id}", loss.messages),
                )),
                None if self.seen.len() > max => Err(Red::new(
                    7,
                    format!("{} messages that were seen are gone", self.seen.len() - max),
                )),
                None => Ok(loss),
            };
        };
        self.acked.truncate(max);
        self.seen.truncate(max);
        if loss.messages > 0 {
            loss.window_us = cut_us.saturating_sub(oldest);
        }
        Ok(loss)
    }

    /// Compares a message that was read.
    fn compare(&mut self, offset: usize, id: Id) -> Result<(), Red> {
        if let Some(Some((acked, _))) = self.acked.get(offset)
            && *acked != id
        {
            return Err(Red::new(
                1,
                format!("offset {offset} holds {id}, {acked} was acked there"),
            ));
        }
        match self.seen.get(offset) {
            Some(seen) if *seen != id => {
                Err(Red::new(3, format!("offset {offset} holds {id}, it was {seen} before")))
            }
            Some(_) => Ok(()),
            None => {
                self.seen.push(id);
                Ok(())
            }
        }
    }
}

/// Checks a queue while nobody sends. `cut_us` is when the power went, if that may cost messages.
pub(super) fn check(
    place: &Place,
    link: &mut Link,
    seed: &mut Seed,
    cut_us: Option<u64>,
) -> Result<Result<Loss, Red>, Unanswered> {
    let max = link.max(place.at())?;
    let Ok(max) = usize::try_from(max) else {
        return Ok(Err(Red::new(4, format!("the queue ends at {max}"))));
    };
    let mut known = place.known();
    let loss = match known.cut(max, cut_us) {
        Ok(loss) => loss,
        Err(red) => return Ok(Err(of(place, &red))),
    };
    let new_from = known.seen.len();
    for _ in 0..2 {
        let old = seed.below(u64::try_from(new_from).unwrap_or(0));
        let old = usize::try_from(old).unwrap_or(0);
        if let Err(red) = read(place, link, &mut known, (old, new_from.min(old + 8)))? {
            return Ok(Err(red));
        }
    }
    Ok(read(place, link, &mut known, (new_from, max))?.map(|()| loss))
}

/// Reads `from..to` of a queue and compares. It has to be there without a hole.
fn read(
    place: &Place,
    link: &mut Link,
    known: &mut Known,
    (from, to): (usize, usize),
) -> Result<Result<(), Red>, Unanswered> {
    let mut at = from;
    while at < to {
        let from = i64::try_from(at).unwrap_or(i64::MAX);
        let wanted = i32::try_from(to - at).unwrap_or(PAGE).min(PAGE);
        let page = link.pull(GROUP, place.at(), (from, wanted), Duration::ZERO)?;
        if page.records.is_empty() {
            let next = page.next;
            let what =
                format!("nothing is at offset {at}, the queue ends at {to}; go on at {next}");
            return Ok(Err(of(place, &Red::new(4, what))));
        }
        for (offset, id) in page.records {
            let compared = match id {
                _ if usize::try_from(offset) != Ok(at) => {
                    Err(Red::new(4, format!("offset {offset} follows, not {at}")))
                }
                Err(reason) => Err(Red::new(2, format!("offset {offset}: {reason}"))),
                Ok(id) => known.compare(at, id),
            };
            if let Err(red) = compared {
                return Ok(Err(of(place, &red)));
            }
            at += 1;
        }
    }
    Ok(Ok(()))
}

fn of(place: &Place, red: &Red) -> Red {
    Red::new(red.rule, format!("topic {}, queue {}: {}", place.topic, place.queue, red.what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(sequence: u32) -> Id {
        Id::new(1, sequence, b"")
    }

    fn known() -> Known {
        let mut known = Known::default();
        for n in 0..10 {
            known.ack(i64::from(n), id(n), 100 * u64::from(n)).unwrap();
            known.compare(usize::try_from(n).unwrap(), id(n)).unwrap();
        }
        known
    }

    #[test]
    fn acked_message_that_is_gone_breaks_rule_1_unless_power_may_cost_it() {
        assert_eq!(known().cut(8, None).unwrap_err().rule, 1);
        let loss = known().cut(8, Some(1_000)).unwrap();
        assert_eq!((loss.messages, loss.window_us), (2, 200));
        assert_eq!(known().cut(10, None).unwrap().messages, 0);
    }

    #[test]
    fn seen_message_that_is_gone_breaks_rule_7() {
        let mut known = Known::default();
        known.compare(0, id(1)).unwrap();
        assert_eq!(known.cut(0, None).unwrap_err().rule, 7);
    }

    #[test]
    fn offset_with_two_messages_breaks_rule_3() {
        let mut known = known();
        assert_eq!(known.ack(3, id(99), 0).unwrap_err().rule, 3);
        let mut known = Known::default();
        known.compare(0, id(1)).unwrap();
        assert_eq!(known.compare(0, id(2)).unwrap_err().rule, 3);
    }

    #[test]
    fn other_message_than_the_acked_one_breaks_rule_1() {
        let mut known = Known::default();
        known.ack(0, id(1), 0).unwrap();
        assert_eq!(known.compare(0, id(2)).unwrap_err().rule, 1);
    }

    #[test]
    fn the_smallest_later_end_counts() {
        let mut known = Known::default();
        for (epoch, end) in [(1, 0), (2, 50), (3, 40), (4, 90)] {
            known.begins(epoch, end);
        }
        assert_eq!(known.smallest_end_after(1), Some(40));
        assert_eq!(known.smallest_end_after(3), Some(90));
        assert_eq!(known.smallest_end_after(4), None);
    }

    #[test]
    fn offsets_behind_a_cut_may_be_given_again() {
        let mut known = known();
        known.cut(5, Some(1_000)).unwrap();
        known.ack(5, id(50), 2_000).unwrap();
        known.compare(5, id(50)).unwrap();
    }
}
