//! A consumer: the only member of its group. It reads all queues, commits what it has read, and now
//! and then looks a message up by its unique id.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    board::{Board, Phase, Place, Role, Turn},
    history::{Id, Log},
    seed::Seed,
    wire::{Link, Page, Unanswered},
};

/// Messages of one pull.
const PAGE: i32 = 256;
/// How long the last messages may take once nobody sends.
const DRAIN: Duration = Duration::from_secs(30);
/// How long a pull of a patient consumer is held.
const HOLD: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct Consumer {
    board: Arc<Board>,
    log: Log,
    seed: Seed,
    group: String,
    /// Goes on in a new epoch where it was, as a client that outlives the broker does; otherwise
    /// it begins at the committed offset, as a client that was restarted.
    stays: bool,
    /// When `places` was made.
    epoch: u32,
    places: Vec<(Arc<Place>, i64)>,
}

/// Why a consumer stops for now.
enum Stop {
    /// There is nothing more.
    Drained,
    /// Another turn has begun.
    Over,
    Unanswered(Unanswered),
}

impl From<Unanswered> for Stop {
    fn from(error: Unanswered) -> Self {
        Self::Unanswered(error)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unanswered(error.into())
    }
}

/// The group of the consumer with this number.
pub(super) fn group(number: u8) -> String {
    format!("torture-group-{number}")
}

impl Consumer {
    pub(super) fn new(
        board: &Arc<Board>,
        history: &Path,
        (number, stays): (u8, bool),
        seed: Seed,
    ) -> io::Result<Self> {
        let group = group(number);
        let mut log = Log::create(&history.join(format!("consumer-{number}.log")))?;
        log.line(format_args!("G {group}"));
        let places = Vec::new();
        Ok(Self { board: Arc::clone(board), log, seed, group, stays, epoch: 0, places })
    }

    /// Reads whenever it may, until all is over.
    pub(super) fn run(mut self) {
        let mut last = 0;
        while let Some(turn) = self.board.enter(Role::Consumer, last) {
            last = turn.number;
            let done = self.consume(turn);
            let flushed = self.log.flush();
            self.board.leave(Role::Consumer, turn);
            if let Err(error) = done.and(flushed) {
                self.board.report(format!("{} cannot go on: {error}", self.group));
                return;
            }
        }
    }

    /// An error is one of the history; connections may break and brokers refuse.
    fn consume(&mut self, turn: Turn) -> io::Result<()> {
        let until = Instant::now() + DRAIN;
        loop {
            match self.use_link(turn) {
                Err(Stop::Drained | Stop::Over) => return Ok(()),
                Err(Stop::Unanswered(error)) if turn.phase == Phase::Drain => {
                    if Instant::now() > until {
                        let group = &self.group;
                        self.board.report(format!(
                            "rule 10: {group} cannot read to the end in {} s: {error}",
                            DRAIN.as_secs()
                        ));
                        return Ok(());
                    }
                }
                Ok(()) | Err(Stop::Unanswered(_)) => {}
            }
            self.log.flush()?;
            if !self.board.goes_on(turn) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn use_link(&mut self, turn: Turn) -> Result<(), Stop> {
        let mut link = Link::connect(self.board.address())?;
        self.begin(&mut link, turn)?;
        let hold = if self.stays && turn.phase != Phase::Drain { HOLD } else { Duration::ZERO };
        loop {
            let mut found = false;
            for at in 0..self.places.len() {
                if !self.board.goes_on(turn) {
                    return Err(Stop::Over);
                }
                found |= self.pull(&mut link, turn, (at, Duration::ZERO))?;
            }
            self.log.flush()?;
            if !found && turn.phase == Phase::Drain {
                return self.at_the_end(&mut link);
            }
            if !found && hold.is_zero() {
                std::thread::sleep(Duration::from_micros(500));
            } else if !found {
                let busy = self.seed.below(u64::try_from(self.places.len()).unwrap_or(0));
                let at = usize::try_from(busy).unwrap_or(0);
                self.pull(&mut link, turn, (at, hold))?;
            }
        }
    }

    /// Where to begin in each queue.
    fn begin(&mut self, link: &mut Link, turn: Turn) -> Result<(), Stop> {
        let before = std::mem::take(&mut self.places);
        for place in self.board.places() {
            let (topic, queue) = place.at();
            let committed = link.committed(&self.group, place.at())?;
            let max = link.max(place.at())?;
            let (now_us, epoch) = (self.board.time.now_us(), turn.epoch);
            self.log.line(format_args!("Q {now_us} {epoch} {topic} {queue} {committed} {max}"));
            let was = before.iter().find(|(same, _)| Arc::ptr_eq(same, &place));
            let next = match was {
                // By now others may have the offsets of messages that a power cut took.
                Some((_, next)) if self.stays => {
                    let end = place.known().smallest_end_after(self.epoch);
                    end.map_or(*next, |end| (*next).min(end))
                }
                _ => committed,
            };
            self.log.line(format_args!("S {now_us} {epoch} {topic} {queue} {next}"));
            self.places.push((place, next));
        }
        self.epoch = turn.epoch;
        Ok(self.log.flush()?)
    }

    /// Whether everything was read and is committed.
    fn at_the_end(&mut self, link: &mut Link) -> Result<(), Stop> {
        for (place, next) in &self.places {
            let max = link.max(place.at())?;
            if *next != max {
                let at = place.at();
                return Err(io::Error::other(format!("{at:?} ends at {max}, not {next}")).into());
            }
        }
        Err(Stop::Drained)
    }

    /// Pulls once; whether there was anything.
    fn pull(
        &mut self,
        link: &mut Link,
        turn: Turn,
        (at, hold): (usize, Duration),
    ) -> Result<bool, Stop> {
        let Some((place, next)) = self.places.get(at) else { return Ok(false) };
        let (place, next) = (Arc::clone(place), *next);
        let page = link.pull(&self.group, place.at(), (next, PAGE), hold)?;
        let last = self.note(&place, &page, turn);
        if page.next != next
            && let Some((_, next)) = self.places.get_mut(at)
        {
            *next = page.next;
        }
        if page.records.is_empty() {
            return Ok(page.next != next);
        }
        let (topic, queue) = place.at();
        if self.seed.percent(60) || turn.phase == Phase::Drain {
            let now_us = self.board.time.now_us();
            let (epoch, next) = (turn.epoch, page.next);
            self.log.line(format_args!("C {now_us} {epoch} {topic} {queue} {next}"));
            self.log.flush()?;
            link.commit(&self.group, place.at(), next)?;
            let now_us = self.board.time.now_us();
            self.log.line(format_args!("K {now_us} {epoch} {topic} {queue} {next}"));
        }
        if let Some(id) = last.filter(|_| self.seed.percent(5)) {
            let found = link.finds(topic, id)?;
            let now_us = self.board.time.now_us();
            let found = if found { "found" } else { "missing" };
            self.log.line(format_args!("Y {now_us} {} {id} {found}", turn.epoch));
        }
        Ok(true)
    }

    /// Notes what was read, in runs of consecutive offsets. Returns the last id.
    fn note(&mut self, place: &Place, page: &Page, turn: Turn) -> Option<Id> {
        let (now_us, epoch) = (self.board.time.now_us(), turn.epoch);
        let (topic, queue) = place.at();
        let mut run: Vec<String> = Vec::new();
        let (mut first, mut last) = (0, None);
        for (offset, id) in &page.records {
            let follows = i64::try_from(run.len()).is_ok_and(|len| first + len == *offset);
            if !follows && !run.is_empty() {
                let ids = run.join(",");
                self.log.line(format_args!("R {now_us} {epoch} {topic} {queue} {first} {ids}"));
                run.clear();
            }
            match id {
                Ok(id) => {
                    if run.is_empty() {
                        first = *offset;
                    }
                    run.push(id.to_string());
                    last = Some(*id);
                }
                Err(reason) => {
                    let reason = reason.replace(' ', "-");
                    self.log
                        .line(format_args!("W {now_us} {epoch} {topic} {queue} {offset} {reason}"));
                }
            }
        }
        if !run.is_empty() {
            let ids = run.join(",");
            self.log.line(format_args!("R {now_us} {epoch} {topic} {queue} {first} {ids}"));
        }
        last
    }
}
