//! One store from its first message to its last check: the file system under it, the broker, its
//! clients and their histories.

use std::{
    fs, io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Plan,
    board::{Board, Phase, Role},
    broker::{self, Broker, Launch, Started},
    consumer::Consumer,
    history::{Log, Time},
    medium::{self, Medium},
    model::{self, Red},
    nemesis::Nemesis,
    producer::Producer,
    seed::Seed,
    tally::Tally,
    verdict::{self, Audit},
    wire::{Link, Unanswered},
};
use crate::output::say;

/// Longest time that clients may need to notice that the broker is gone.
const IDLE: Duration = Duration::from_secs(30);
/// After a fault has ended, sends must succeed again within this time.
const PROGRESS: Duration = Duration::from_secs(30);
/// Longest time that the readers may need at the end.
const DRAIN: Duration = Duration::from_secs(60);
const PRODUCERS: u8 = 3;
/// The consumers: their numbers, and whether they outlive the broker.
const CONSUMERS: [(u8, bool); 2] = [(0, false), (1, true)];
/// Topics of equal name length, so that records can all have one size, and their queues.
const TOPICS: [(&str, i32); 3] = [("tort-a", 4), ("tort-b", 2), ("tort-c", 1)];
/// Topics that are created while the load runs.
const LATE_TOPICS: usize = 30;
/// A committed offset may go back by what was committed in this time before the broker ended.
const REGRESS_MS: u64 = 1_500;
/// Acknowledged messages that a power cut may take with async flush are younger than this.
pub(super) const WINDOW_MAX: Duration = Duration::from_secs(10);

/// Set when somebody wants the run to end.
pub(super) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Why a run does not go on.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The broker broke a promise.
    Red(Red),
    /// The test itself cannot be done.
    Io { action: &'static str, source: io::Error },
    /// Somebody wanted it.
    Interrupted,
}

/// Gives an error the action that it ended.
pub(super) fn io_trouble(action: &'static str) -> impl FnOnce(io::Error) -> Trouble {
    move |source| Trouble::Io { action, source }
}

/// A broken promise as an error.
pub(super) fn red(rule: u8, what: impl Into<String>) -> Trouble {
    Trouble::Red(Red::new(rule, what))
}

/// See the module.
pub(super) struct Ground<'a> {
    pub(super) plan: &'a Plan,
    pub(super) seed: Seed,
    pub(super) medium: Medium,
    pub(super) board: Arc<Board>,
    pub(super) broker: Option<Broker>,
    /// When the power went since the last check, if that may cost messages.
    pub(super) cut_us: Option<u64>,
    pub(super) history: PathBuf,
    launch: Launch,
    log: Log,
    epoch: u32,
    clients: Vec<JoinHandle<()>>,
    late_topics: usize,
}

impl<'a> Ground<'a> {
    /// An empty store. Stores with odd numbers get records of one size: then stale records that
    /// recovery should have removed fit behind new ones.
    pub(super) fn new(plan: &'a Plan, number: u64, mut seed: Seed) -> Result<Self, Trouble> {
        let history = plan.work.join(format!("store-{number}"));
        let _none = fs::remove_dir_all(&history);
        fs::create_dir_all(&history).map_err(io_trouble("make the directory of the history"))?;
        let medium = Medium::make(plan.fs, plan.nemeses.contains(&Nemesis::Eio));
        let medium = medium.map_err(io_trouble("make a file system to test on"))?;
        let address = free_port(&mut seed).map_err(io_trouble("find a free port"))?;
        let board = Arc::new(Board::new(address, Time::start(), number % 2 == 1));
        let launch = Launch {
            program: plan.broker.clone(),
            address,
            store: medium.store(),
            flush: plan.mode.name(),
            bug: plan.bug.clone(),
            log: history.join("broker.txt"),
        };
        let failed = || io_trouble("write a history");
        let mut log = Log::create(&history.join("supervisor.log")).map_err(failed())?;
        let (mode, fs) = (plan.mode.name(), plan.fs.name());
        log.line(format_args!("H mode {mode}"));
        log.line(format_args!("H fs {fs}"));
        log.line(format_args!("H seed {}", plan.seed));
        log.line(format_args!("H regress_ms {REGRESS_MS}"));
        log.line(format_args!("H window_ms {}", WINDOW_MAX.as_millis()));
        let clients = start_clients(&board, &history, &mut seed).map_err(failed())?;
        Ok(Self {
            plan,
            seed,
            medium,
            board,
            broker: None,
            cut_us: None,
            history,
            launch,
            log,
            epoch: 0,
            clients,
            late_topics: 0,
        })
    }

    /// Starts the broker, notes where the queues end, and checks quickly.
    pub(super) fn start(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        match self.launch.start().map_err(io_trouble("start the broker"))? {
            Started::Serves(broker, took) => {
                self.broker = Some(broker);
                tally.restarted(took);
            }
            Started::Refused(status) => {
                let tail = broker::tail(&self.launch.log);
                return Err(red(10, format!("the broker does not start ({status}):\n{tail}")));
            }
            Started::Hangs => return Err(red(10, "the broker started and does not serve")),
        }
        self.epoch = self.board.next_epoch();
        let (now_us, epoch) = (self.board.time.now_us(), self.epoch);
        self.log.line(format_args!("B {now_us} {epoch}"));
        if epoch == 1 {
            let link = self.link()?;
            self.create_topics(link)?;
        }
        self.note_ends()?;
        self.check(tally)?;
        self.board.set(Phase::Read);
        Ok(())
    }

    /// Starts the broker where it may refuse to: false if it did.
    pub(super) fn try_start(&mut self) -> Result<bool, Trouble> {
        match self.launch.start().map_err(io_trouble("start the broker"))? {
            Started::Serves(broker, _) => {
                broker.kill().map_err(io_trouble("kill the broker"))?;
                Ok(true)
            }
            Started::Refused(_) => Ok(false),
            Started::Hangs => Err(red(10, "the broker started and does not serve")),
        }
    }

    pub(super) fn link(&self) -> Result<Link, Trouble> {
        Link::connect(self.board.address()).map_err(io_trouble("connect to the broker"))
    }

    fn create_topics(&mut self, mut link: Link) -> Result<(), Trouble> {
        for (topic, queues) in TOPICS {
            self.create_topic(&mut link, topic, queues).map_err(|error| asked(&error))?;
        }
        Ok(())
    }

    fn create_topic(
        &mut self,
        link: &mut Link,
        topic: &str,
        queues: i32,
    ) -> Result<(), Unanswered> {
        link.create_topic(topic, queues)?;
        let (now_us, epoch) = (self.board.time.now_us(), self.epoch);
        self.log.line(format_args!("T {now_us} {epoch} {topic} {queues}"));
        self.board.add_topic(topic, queues);
        Ok(())
    }

    /// Now and then creates a topic, which clients use from the next turn on.
    pub(super) fn maybe_create_topic(&mut self) {
        if self.late_topics >= LATE_TOPICS || !self.seed.percent(30) {
            return;
        }
        let topic = format!("tort-late-{:02}", self.late_topics);
        self.late_topics += 1;
        // A broker that has no room refuses: then there is no such topic.
        if let Ok(mut link) = self.link() {
            let _ = self.create_topic(&mut link, &topic, 1);
        }
    }

    /// Notes where each queue begins and ends.
    fn note_ends(&mut self) -> Result<(), Trouble> {
        let mut link = self.link()?;
        for place in self.board.places() {
            let (topic, queue) = place.at();
            let min = link.min(place.at()).map_err(|error| lost_topic(topic, &error))?;
            let max = link.max(place.at()).map_err(|error| lost_topic(topic, &error))?;
            place.known().begins(self.epoch, max);
            let (now_us, epoch) = (self.board.time.now_us(), self.epoch);
            self.log.line(format_args!("M {now_us} {epoch} {topic} {queue} {min} {max}"));
        }
        self.log.flush().map_err(io_trouble("write a history"))
    }

    /// The quick check. Nobody may send meanwhile.
    pub(super) fn check(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        let mut link = self.link()?;
        let cut_us = self.cut_us.take();
        for place in self.board.places() {
            let checked = model::check(&place, &mut link, &mut self.seed, cut_us);
            let loss = checked.map_err(|error| asked(&error))?.map_err(Trouble::Red)?;
            tally.lost(loss);
            if loss.window_us > u64::try_from(WINDOW_MAX.as_micros()).unwrap_or(u64::MAX) {
                let what = format!("a message acknowledged {} us before the cut", loss.window_us);
                return Err(red(1, what));
            }
        }
        self.reported()
    }

    /// What a client has met.
    fn reported(&self) -> Result<(), Trouble> {
        let Some(what) = self.board.trouble() else { return Ok(()) };
        let rule = what.strip_prefix("rule ").and_then(|rest| rest.split(':').next()?.parse().ok());
        Err(red(rule.unwrap_or(0), what))
    }

    /// Lets time pass. The broker must be there all the while.
    pub(super) fn pause(&mut self, time: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + time;
        loop {
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(Trouble::Interrupted);
            }
            self.alive()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.reported();
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    /// The broker must not end by itself.
    fn alive(&mut self) -> Result<(), Trouble> {
        let Some(broker) = &mut self.broker else { return Ok(()) };
        let Some(status) = broker.ended().map_err(io_trouble("look after the broker"))? else {
            return Ok(());
        };
        let tail = broker::tail(&self.launch.log);
        Err(red(10, format!("the broker ended by itself ({status}):\n{tail}")))
    }

    /// Sends must succeed again.
    pub(super) fn progress(&mut self) -> Result<(), Trouble> {
        let (before, until) = (self.board.acked(), Instant::now() + PROGRESS);
        while self.board.acked() == before {
            if Instant::now() > until {
                let what = format!("no send succeeds {} s after the fault", PROGRESS.as_secs());
                return Err(red(10, what));
            }
            self.pause(Duration::from_millis(5))?;
        }
        Ok(())
    }

    /// Notes what ends this time of the broker.
    pub(super) fn note_end(&mut self, nemesis: &str) -> Result<u64, Trouble> {
        let (now_us, epoch) = (self.board.time.now_us(), self.epoch);
        self.log.line(format_args!("X {now_us} {epoch} {nemesis}"));
        self.log.flush().map_err(io_trouble("write a history"))?;
        Ok(now_us)
    }

    /// Kills the broker and waits until its clients have noticed.
    pub(super) fn kill(&mut self) -> Result<(), Trouble> {
        if let Some(broker) = self.broker.take() {
            broker.kill().map_err(io_trouble("kill the broker"))?;
        }
        self.board.set(Phase::Down);
        self.quiet()
    }

    fn quiet(&self) -> Result<(), Trouble> {
        for role in [Role::Producer, Role::Consumer] {
            if !self.board.idle(role, IDLE) {
                let source = io::Error::other(format!("a {role:?} does not stop"));
                return Err(Trouble::Io { action: "wait for the clients", source });
            }
        }
        self.reported()
    }

    /// Ends the load, waits for the last answers, and checks quickly.
    pub(super) fn settle(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        self.board.set(Phase::Read);
        if !self.board.idle(Role::Producer, IDLE) {
            return Err(red(10, "sends are not answered"));
        }
        self.check(tally)
    }

    /// Lets the consumers read to the end; then the checker decides.
    pub(super) fn judge(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        self.board.set(Phase::Drain);
        if !self.board.idle(Role::Producer, DRAIN) || !self.board.done(CONSUMERS.len(), DRAIN) {
            return Err(red(10, "the consumers do not get to the end"));
        }
        self.alive()?;
        self.reported()?;
        let now_us = self.board.time.now_us();
        self.log.line(format_args!("D {now_us} {}", self.epoch));
        self.log.flush().map_err(io_trouble("write a history"))?;
        let verdict = verdict::check(&self.history, Some(self.board.address()));
        let verdict = verdict.map_err(io_trouble("run the checker"))?;
        if let Some(worst) = verdict.red.first() {
            return Err(red(worst.rule, worst.what.clone()));
        }
        tally.judged(&verdict);
        Ok(())
    }

    /// The last checks, an orderly end, and the store offline.
    pub(super) fn finish(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        if self.broker.is_none() {
            self.start(tally)?;
        }
        self.judge(tally)?;
        self.board.set(Phase::Stop);
        if let Some(broker) = self.broker.take() {
            match broker.stop().map_err(io_trouble("stop the broker"))? {
                Some(status) if status.success() => {}
                Some(status) => return Err(red(10, format!("asked to stop, it ended {status}"))),
                None => return Err(red(10, "asked to stop, the broker goes on")),
            }
        }
        match verdict::audit(&self.medium.store()).map_err(io_trouble("verify the store"))? {
            Audit::Sound => tally.verified += 1,
            Audit::Missing => say("RULE 11 IS NOT CHECKED: this mqtool has no `store verify`"),
            Audit::Unsound(words) => return Err(red(11, words)),
        }
        // Whoever wants the history asks for it; a run has hundreds of stores.
        fs::remove_dir_all(&self.history).map_err(io_trouble("remove a history"))
    }

    /// Keeps what somebody needs who wants to know why.
    pub(super) fn keep(&mut self) -> PathBuf {
        self.broker = None;
        let kept = self.history.join("data");
        if let Err(error) = medium::keep(&self.medium.store(), &kept) {
            say(&format!("the store cannot be kept in {}: {error}", kept.display()));
        }
        self.history.clone()
    }
}

impl Drop for Ground<'_> {
    fn drop(&mut self) {
        self.broker = None;
        self.board.set(Phase::Stop);
        for client in self.clients.drain(..) {
            // One that has panicked has said so.
            let _ = client.join();
        }
    }
}

fn start_clients(
    board: &Arc<Board>,
    history: &Path,
    seed: &mut Seed,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut clients = Vec::new();
    for number in 0..PRODUCERS {
        let producer = Producer::new(board, history, number, seed.branch())?;
        clients.push(thread::Builder::new().spawn(move || producer.run())?);
    }
    for (number, stays) in CONSUMERS {
        let consumer = Consumer::new(board, history, (number, stays), seed.branch())?;
        clients.push(thread::Builder::new().spawn(move || consumer.run())?);
    }
    Ok(clients)
}

/// A port that stays free while the broker is down: the system gives out none of these by itself,
/// to others or to connections of this process.
fn free_port(seed: &mut Seed) -> io::Result<SocketAddr> {
    let mut tried = Ok(());
    for _ in 0..100 {
        let port = u16::try_from(seed.between(12_000, 32_000)).unwrap_or(12_000);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        tried = TcpListener::bind(address).map(drop);
        if tried.is_ok() {
            return Ok(address);
        }
    }
    tried.and(Err(io::Error::other("no port was tried")))
}

fn lost_topic(topic: &str, error: &Unanswered) -> Trouble {
    red(1, format!("topic {topic} was created, and now: {error}"))
}

/// A broker that serves has to answer.
fn asked(error: &Unanswered) -> Trouble {
    red(10, format!("a question that any healthy broker answers: {error}"))
}
