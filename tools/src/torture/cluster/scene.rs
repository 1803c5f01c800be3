//! One cluster from its first message to its last check: the two brokers, the clients of each, and
//! their histories.
//!
//! Every broker has producers of its own, which keep sending to it when it is a slave, deposed or
//! alone: what it acknowledges then must not be. Of the readers one half is where the master is, the
//! other where the slave is; they move with the roles and take their groups' offsets along.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    Plan, Side,
    net::{Host, Net},
    node::{NameServer, Node},
};
use crate::torture::{
    board::{Board, Phase, Place, Role},
    consumer::{self, Consumer},
    ground::{INTERRUPTED, Trouble, io_trouble, red},
    history::{Log, Time},
    medium,
    producer::Producer,
    seed::Seed,
    wire::{Link, Unanswered},
};

/// Longest time that clients may need to end what they do.
const IDLE: Duration = Duration::from_secs(30);
/// When the last fault has ended, sends must succeed again within this time.
const PROGRESS: Duration = Duration::from_secs(60);
/// Producers of each broker. The number of one says whose it is.
const PRODUCERS: u8 = 2;
pub(super) const PRODUCERS_MAX: u8 = 8;
/// The readers: one at the master that begins at its group's offset each time, one at the slave that
/// goes on where it was.
const READERS: [(u8, bool); 2] = [(0, false), (1, true)];
/// Messages of a producer in a millisecond.
const PER_MS: u64 = 1;
/// Topics of equal name length, so that records can all have one size, and their queues.
const TOPICS: [(&str, i32); 3] = [("tort-a", 4), ("tort-b", 2), ("tort-c", 1)];
/// Topics that are created while the load runs.
const LATE_TOPICS: usize = 20;
/// A committed offset may go back by what was committed in this time before.
const REGRESS_MS: u64 = 1_000;

/// See the module.
pub(super) struct Scene<'a> {
    pub(super) plan: &'a Plan,
    pub(super) net: &'a Net,
    pub(super) seed: Seed,
    pub(super) nodes: [Node; 2],
    /// Who takes messages.
    pub(super) master: Side,
    pub(super) history: PathBuf,
    pub(super) time: Time,
    pub(super) log: Log,
    pub(super) epoch: u32,
    /// Producers of each broker.
    pub(super) boards: [Arc<Board>; 2],
    /// Readers at the master, and readers at the slave.
    pub(super) readers: [Arc<Board>; 2],
    clients: Vec<JoinHandle<()>>,
    late_topics: usize,
    _name_server: NameServer,
}

impl<'a> Scene<'a> {
    /// Two brokers with empty stores that serve.
    pub(super) fn new(
        (plan, net): (&'a Plan, &'a Net),
        history: &Path,
        mut seed: Seed,
    ) -> Result<Self, Trouble> {
        let _none = fs::remove_dir_all(history);
        fs::create_dir_all(history).map_err(io_trouble("make the directory of the history"))?;
        let node = |side| Node::make(side, plan, history).map_err(io_trouble("make a store"));
        let nodes = [node(Side::A)?, node(Side::B)?];
        let name_server = NameServer::start(net, plan, history)?;
        let time = Time::start();
        // Records of one size: then stale ones that should be gone fit behind new ones.
        let uniform = seed.percent(50);
        let board = |side| {
            let mut board = Board::new(Host::Broker(side).address(), time, uniform);
            board.per_ms = PER_MS;
            Arc::new(board)
        };
        let (boards, readers) =
            ([board(Side::A), board(Side::B)], [board(Side::A), board(Side::B)]);
        let failed = || io_trouble("write a history");
        let log = head(plan, history).map_err(failed())?;
        let clients = start_clients(&boards, &readers, history, &mut seed).map_err(failed())?;
        let mut scene = Self {
            plan,
            net,
            seed,
            nodes,
            master: Side::A,
            history: history.to_owned(),
            time,
            log,
            epoch: 0,
            boards,
            readers,
            clients,
            late_topics: 0,
            _name_server: name_server,
        };
        scene.begin()?;
        Ok(scene)
    }

    fn begin(&mut self) -> Result<(), Trouble> {
        for side in [Side::A, Side::B] {
            self.start(side)?;
        }
        self.await_pair()?;
        self.next_epoch(Side::A)?;
        let mut link = self.link(Side::A)?;
        for (topic, queues) in TOPICS {
            let created = self.create_topic(&mut link, topic, queues);
            created
                .map_err(|error| red(10, format!("topic {topic} cannot be created: {error}")))?;
        }
        // Groups come into being at the master, and one of these will begin at the slave.
        for (place, (group, _)) in self.places().iter().zip(READERS) {
            let pulled = link.pull(&consumer::group(group), place.at(), (0, 1), Duration::ZERO);
            pulled.map_err(|error| red(10, format!("group {group} cannot read: {error}")))?;
        }
        self.note_ends()?;
        self.open(Side::A);
        self.read_from_master();
        self.read_from_slave();
        Ok(())
    }

    pub(super) fn node(&mut self, side: Side) -> &mut Node {
        side.of_mut(&mut self.nodes)
    }

    /// Starts the broker of a side.
    pub(super) fn start(&mut self, side: Side) -> Result<(), Trouble> {
        let (net, plan) = (self.net, self.plan);
        self.node(side).start(net, plan)
    }

    pub(super) fn link(&self, side: Side) -> Result<Link, Trouble> {
        side.of(&self.nodes).link().map_err(io_trouble("connect to a broker"))
    }

    /// Acknowledged sends of a broker.
    pub(super) fn acked(&self, side: Side) -> u64 {
        side.of(&self.boards).acked()
    }

    /// Lets the producers of a broker send.
    pub(super) fn open(&self, side: Side) {
        side.of(&self.boards).set(Phase::Load);
    }

    /// Ends the sends of a broker's producers at once, answered or not.
    pub(super) fn close(&self, side: Side) -> Result<(), Trouble> {
        self.end_sends(side, Phase::Down)
    }

    pub(super) fn end_sends(&self, side: Side, phase: Phase) -> Result<(), Trouble> {
        let board = side.of(&self.boards);
        board.set(phase);
        if board.idle(Role::Producer, IDLE) {
            return self.reported();
        }
        Err(red(10, format!("sends to broker {} are not answered", side.name())))
    }

    /// The first readers read from the master.
    pub(super) fn read_from_master(&self) {
        let [at_master, _] = &self.readers;
        at_master.move_to(Host::Broker(self.master).address());
        at_master.set(Phase::Read);
    }

    /// The master is dead: its readers go on at the slave.
    pub(super) fn escape_to_slave(&self) {
        let [at_master, _] = &self.readers;
        at_master.move_to(Host::Broker(self.master.other()).address());
        at_master.set(Phase::Read);
    }

    /// The other readers read from the slave. It must follow its master: what it shows of groups'
    /// offsets is judged.
    pub(super) fn read_from_slave(&self) {
        let [_, at_slave] = &self.readers;
        at_slave.move_to(Host::Broker(self.master.other()).address());
        at_slave.set(Phase::Read);
    }

    /// There is no slave, or it does not follow.
    pub(super) fn no_slave(&self) {
        let [_, at_slave] = &self.readers;
        at_slave.set(Phase::Down);
    }

    /// `master` begins to take messages. The producers of the other broker go on as they are: they
    /// know of nothing.
    pub(super) fn next_epoch(&mut self, master: Side) -> Result<(), Trouble> {
        self.master = master;
        self.epoch += 1;
        let epoch = self.epoch;
        for board in self.readers.iter().chain([master.of(&self.boards)]) {
            board.begin_epoch(epoch);
        }
        let now_us = self.time.now_us();
        self.log.line(format_args!("B {now_us} {epoch}"));
        self.log.line(format_args!("P {now_us} {epoch} {}", master.name()));
        self.log.flush().map_err(io_trouble("write a history"))
    }

    /// Notes that the slave is about to end.
    pub(super) fn note_end_of_slave(&mut self) -> Result<(), Trouble> {
        let (now_us, epoch, slave) = (self.time.now_us(), self.epoch, self.master.other());
        self.log.line(format_args!("V {now_us} {epoch} {}", slave.name()));
        self.log.flush().map_err(io_trouble("write a history"))
    }

    /// Notes what ends the time of a master.
    pub(super) fn note_end(&mut self, nemesis: &str) -> Result<(), Trouble> {
        let (now_us, epoch) = (self.time.now_us(), self.epoch);
        self.log.line(format_args!("X {now_us} {epoch} {nemesis}"));
        self.log.flush().map_err(io_trouble("write a history"))
    }

    fn create_topic(
        &mut self,
        link: &mut Link,
        topic: &str,
        queues: i32,
    ) -> Result<(), Unanswered> {
        link.create_topic(topic, queues)?;
        let (now_us, epoch) = (self.time.now_us(), self.epoch);
        self.log.line(format_args!("T {now_us} {epoch} {topic} {queues}"));
        let [first, _] = &self.boards;
        first.add_topic(topic, queues);
        for board in self.boards.iter().skip(1).chain(&self.readers) {
            board.share_places(first);
        }
        Ok(())
    }

    /// Now and then creates a topic, which clients use from their next turn on.
    pub(super) fn maybe_create_topic(&mut self) {
        if self.late_topics >= LATE_TOPICS || !self.seed.percent(40) {
            return;
        }
        let topic = format!("tort-late-{:02}", self.late_topics);
        self.late_topics += 1;
        if let Ok(mut link) = self.link(self.master) {
            // Without an answer nothing was promised.
            let _ = self.create_topic(&mut link, &topic, 1);
        }
    }

    pub(super) fn places(&self) -> Vec<Arc<Place>> {
        let [first, _] = &self.boards;
        first.places()
    }

    /// Notes where each queue begins and ends. What an earlier epoch has sent must all be visible.
    pub(super) fn note_ends(&mut self) -> Result<(), Trouble> {
        let mut link = self.link(self.master)?;
        for place in self.places() {
            let (topic, queue) = place.at();
            let lost = |error| red(1, format!("topic {topic} was created, and now: {error}"));
            let min = link.min(place.at()).map_err(lost)?;
            let max = link.max(place.at()).map_err(lost)?;
            place.known().begins(self.epoch, max);
            let (now_us, epoch) = (self.time.now_us(), self.epoch);
            self.log.line(format_args!("M {now_us} {epoch} {topic} {queue} {min} {max}"));
        }
        self.log.flush().map_err(io_trouble("write a history"))
    }

    /// What a client has met.
    pub(super) fn reported(&self) -> Result<(), Trouble> {
        for board in self.boards.iter().chain(&self.readers) {
            let Some(what) = board.trouble() else { continue };
            let rule = what.strip_prefix("rule ").and_then(|rest| rest.split(':').next());
            return Err(red(rule.and_then(|rule| rule.parse().ok()).unwrap_or(0), what));
        }
        Ok(())
    }

    /// Lets time pass. No broker may end meanwhile.
    pub(super) fn pause(&mut self, time: Duration) -> Result<(), Trouble> {
        let until = Instant::now() + time;
        loop {
            if INTERRUPTED.load(Ordering::Relaxed) {
                return Err(Trouble::Interrupted);
            }
            for node in &mut self.nodes {
                node.alive()?;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.reported();
            }
            thread::sleep(left.min(Duration::from_millis(20)));
        }
    }

    /// Waits until the master acknowledges sends.
    pub(super) fn progress(&mut self) -> Result<(), Trouble> {
        let (before, until) = (self.acked(self.master), Instant::now() + PROGRESS);
        while self.acked(self.master) == before {
            if Instant::now() > until {
                let (seconds, name) = (PROGRESS.as_secs(), self.master.name());
                let what =
                    format!("broker {name} acknowledges nothing {seconds} s after the fault");
                return Err(red(10, what));
            }
            self.pause(Duration::from_millis(2))?;
        }
        Ok(())
    }

    /// Waits until a broker that was master is a slave.
    pub(super) fn await_slave(&mut self, side: Side) -> Result<Duration, Trouble> {
        let began = Instant::now();
        loop {
            let status = side.of(&self.nodes).status();
            if status.as_ref().is_ok_and(|status| !status.is_master) {
                return Ok(began.elapsed());
            }
            if began.elapsed() > PROGRESS {
                let (seconds, name) = (PROGRESS.as_secs(), side.name());
                let what = format!("broker {name} is no slave {seconds} s later: {status:?}");
                return Err(red(10, what));
            }
            self.pause(Duration::from_millis(5))?;
        }
    }

    /// Keeps what somebody needs who wants to know why.
    pub(super) fn keep(&mut self) {
        for node in &mut self.nodes {
            node.broker = None;
            let kept = self.history.join(format!("data-{}", node.name()));
            if let Err(error) = medium::keep(&node.medium.store(), &kept) {
                crate::output::say(&format!("{} cannot be kept: {error}", kept.display()));
            }
        }
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.broker = None;
        }
        for board in self.boards.iter().chain(&self.readers) {
            board.set(Phase::Stop);
        }
        for client in self.clients.drain(..) {
            // One that has panicked has said so.
            let _ = client.join();
        }
    }
}

/// The supervisor's history with its first lines.
fn head(plan: &Plan, history: &Path) -> io::Result<Log> {
    let mut log = Log::create(&history.join("supervisor.log"))?;
    log.line(format_args!("H mode replicated-{}", plan.mode.name()));
    log.line(format_args!("H fs {}", plan.fs.name()));
    log.line(format_args!("H seed {}", plan.seed));
    log.line(format_args!("H regress_ms {REGRESS_MS}"));
    log.line(format_args!("H producers_max {PRODUCERS_MAX}"));
    Ok(log)
}

fn start_clients(
    boards: &[Arc<Board>; 2],
    readers: &[Arc<Board>; 2],
    history: &Path,
    seed: &mut Seed,
) -> io::Result<Vec<JoinHandle<()>>> {
    let mut clients = Vec::new();
    for (board, side) in boards.iter().zip([Side::A, Side::B]) {
        let first = if side == Side::A { 0 } else { PRODUCERS_MAX };
        for number in first..first + PRODUCERS {
            let producer = Producer::new(board, history, number, seed.branch())?;
            clients.push(thread::Builder::new().spawn(move || producer.run())?);
        }
    }
    for (board, reader) in readers.iter().zip(READERS) {
        let consumer = Consumer::new(board, history, reader, seed.branch())?;
        clients.push(thread::Builder::new().spawn(move || consumer.run())?);
    }
    Ok(clients)
}
