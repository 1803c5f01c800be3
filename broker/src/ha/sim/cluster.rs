//! Three brokers of one name, and what may happen to them.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use super::{
    Random,
    check::Ghost,
    disk::{Disk, Kind, QUEUES, SEGMENT},
    session::{Conn, Hub, MasterEnd, Memory, Shared, SlaveEnd, SlaveOver, Trick, Wire},
    store::{Model, Snapshots},
};
use crate::ha::{
    AckKind,
    acks::Acks,
    replica::{Slave as _, StoreError},
    sink::FollowEnd,
};

pub(super) const NODES: usize = 3;

/// What is fixed for one run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// Copies that a record needs, the master's among them.
    pub(super) copies: usize,
    pub(super) kind: AckKind,
    pub(super) sync_flush: bool,
    /// Machines lose power; what is received only is no promise then.
    pub(super) power: bool,
}

/// A broker: its disk while it is down, else its process.
pub(super) struct Node {
    pub(super) disk: Option<Disk>,
    pub(super) store: Option<Model>,
    pub(super) hub: Option<Hub>,
    pub(super) link: Option<SlaveEnd>,
    memory: Memory,
    /// Its role, as it is saved.
    pub(super) is_master: bool,
    /// It becomes a master with the next open.
    promoted: bool,
}

/// Everything.
pub(crate) struct Cluster {
    pub(super) random: Random,
    pub(super) setup: Setup,
    pub(super) nodes: Vec<Node>,
    pub(super) snapshots: Snapshots,
    pub(super) conns: Vec<Shared>,
    pub(super) now_ms: u64,
    /// Whom the operator calls the master.
    pub(super) master: usize,
    pub(super) ghost: Ghost,
    next_id: u32,
    pub(super) quiet: bool,
    /// Tells what happens; for a single schedule.
    pub(super) tells: bool,
    /// Why the last session of each slave ended, as both sides see it.
    pub(super) over: [(String, String); NODES],
}

impl Setup {
    /// Whether what was confirmed must never be lost.
    pub(super) fn promises(&self) -> bool {
        self.copies > 1 && (self.kind == AckKind::Durable || !self.power)
    }
}

impl Cluster {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let copies = [1, 2, 2, 3][random.below(4) as usize];
        let kind = if random.one_in(2) { AckKind::Received } else { AckKind::Durable };
        let power = copies == 1 || kind == AckKind::Durable || random.one_in(3);
        let setup = Setup { copies, kind, sync_flush: random.one_in(3), power };
        let node = |is_master| Node {
            disk: Some(Disk::default()),
            store: None,
            hub: None,
            link: None,
            memory: Memory::default(),
            is_master,
            promoted: false,
        };
        let mut cluster = Self {
            random,
            setup,
            nodes: (0..NODES).map(|i| node(i == 0)).collect(),
            snapshots: Rc::default(),
            conns: Vec::new(),
            now_ms: 1,
            master: 0,
            ghost: Ghost::default(),
            next_id: 0,
            quiet: false,
            tells: false,
            over: Default::default(),
        };
        (0..NODES).for_each(|i| cluster.start(i));
        cluster
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>7} {}", self.now_ms, what());
        }
    }

    fn tell_of(&self, what: &str, i: usize) {
        self.tell(|| {
            self.with_disk(i, |disk| {
                format!(
                    "{what} {i}: log {} to {}, index {} to {}, epochs {:?}",
                    disk.log_min,
                    disk.end(),
                    disk.sequence(),
                    disk.index_end(),
                    disk.epochs().iter().map(|it| (it.number, it.log_start)).collect::<Vec<_>>()
                )
            })
        });
    }

    /// Opens the store in the role that is saved.
    pub(super) fn start(&mut self, i: usize) {
        let leader = self.random.next() | 1;
        let node = &mut self.nodes[i];
        let Some(mut disk) = node.disk.take() else { return };
        disk.open(&self.snapshots.borrow());
        let waits = self.setup.copies > 1;
        if node.is_master {
            let epoch = disk.lead(leader, std::mem::take(&mut node.promoted));
            if i == self.master {
                self.ghost.new_master(&disk, i);
            }
            let acks = Acks::new(self.setup.copies - 1, self.setup.kind, epoch);
            let durable = waits && self.setup.kind == AckKind::Durable;
            let (sessions, parked, lost) = (Vec::new(), HashMap::new(), HashMap::new());
            node.hub = Some(Hub { acks, sessions, parked, lost, durable, demoted: None });
        }
        let flush = (self.setup.sync_flush, waits);
        node.store = Some(Model::open(disk, &self.snapshots, node.is_master, flush));
        self.ghost.opened(i);
        self.tell_of(if self.nodes[i].is_master { "master" } else { "slave" }, i);
        self.check(i);
    }

    /// The process ends; `power` goes with it.
    pub(super) fn stop(&mut self, i: usize, power: bool) {
        let node = &mut self.nodes[i];
        let Some(store) = node.store.take() else { return };
        if let Some(mut hub) = node.hub.take() {
            for end in std::mem::take(&mut hub.sessions) {
                end.conn.borrow_mut().open = false;
            }
        }
        if let Some(link) = node.link.take() {
            link.conn.borrow_mut().open = false;
        }
        node.memory = Memory::default();
        let mut disk = std::mem::take(&mut *store.disk());
        if power {
            disk.power_cut(&mut self.random);
        }
        node.disk = Some(disk);
        self.tell_of(if power { "power of" } else { "end of" }, i);
    }

    /// Makes a broker the master. All others are to follow it.
    pub(super) fn promote(&mut self, i: usize) {
        for other in 0..NODES {
            if other == i || self.nodes[other].store.is_some() {
                self.stop(other, false);
            }
            // An old master may come back as what it was, and be told then.
            let stays = self.nodes[other].is_master && self.random.one_in(2) && !self.quiet;
            self.nodes[other].is_master = other == i || stays;
        }
        self.master = i;
        // The operator knows of all epochs there were.
        let floor = (0..NODES).map(|i| self.with_disk(i, |disk| disk.seen_epoch)).max();
        if let Some(disk) = &mut self.nodes[i].disk {
            disk.seen_epoch = floor.unwrap_or(0);
        }
        self.nodes[i].promoted = true;
        self.start(i);
    }

    /// The one that has most of all but the old master; of three copies each has everything. Nobody
    /// promotes a broker that never had anything.
    pub(super) fn successor(&mut self) -> Option<usize> {
        let has_store = |i: &usize| self.with_disk(*i, |disk| disk.store_id != 0);
        let others = (0..NODES).filter(|i| *i != self.master).filter(has_store);
        let mut others: Vec<usize> = others.collect();
        if self.setup.copies == NODES && self.random.one_in(2) {
            others.reverse();
            return others.first().copied();
        }
        others.into_iter().max_by_key(|i| self.with_disk(*i, Disk::reach))
    }

    pub(super) fn with_disk<T>(&self, i: usize, ask: impl FnOnce(&Disk) -> T) -> T {
        let node = &self.nodes[i];
        match (&node.disk, &node.store) {
            (None, Some(store)) => ask(&store.disk()),
            (disk, _) => ask(disk.as_ref().unwrap()),
        }
    }

    /// Appends a record.
    pub(super) fn append(&mut self, i: usize) {
        let Some(store) = self.nodes[i].store.clone().filter(|store| store.is_master) else {
            return;
        };
        self.next_id += 1;
        let queue = self.random.below(u64::from(QUEUES)) as u8;
        let len = self.random.between(8, 40);
        let offset = self.ghost.next_offset(i, queue, &store.disk());
        store.disk().append(queue, offset, self.next_id, len);
        store.confirm();
    }

    /// Writes rows of what is confirmed, as the index writer does.
    pub(super) fn dispatch(&mut self, i: usize) {
        let Some(store) = self.nodes[i].store.clone().filter(|store| store.is_master) else {
            return;
        };
        store.confirm();
        let confirmed = store.confirmed();
        let mut disk = store.disk();
        let mut left = self.random.between(1, 4);
        let from = disk.index_end();
        let records: Vec<_> = disk.records(from).take_while(|it| it.end <= confirmed).collect();
        for record in records {
            if left == 0 {
                break;
            }
            left -= 1;
            let kind = Kind::Entry { at: record.at, id: record.id };
            disk.change(kind, record.end, self.random.between(1, 2));
        }
        if self.random.one_in(3) {
            let (kind, needs) = (Kind::Set(self.random.next()), disk.index_end());
            disk.change(kind, needs, self.random.between(1, 3));
        }
    }

    /// Deletes old segments, or changes that are not kept any more.
    pub(super) fn forget(&mut self, i: usize) {
        let Some(store) = self.nodes[i].store.clone().filter(|store| store.is_master) else {
            return;
        };
        let mut disk = store.disk();
        if self.random.one_in(2) {
            disk.kept_from = self.random.between(disk.kept_from, disk.sequence() + 1);
            return;
        }
        let most = disk.index_end().min(disk.flushed).min(store.confirmed()) / SEGMENT * SEGMENT;
        if most > disk.log_min && disk.index_end() <= disk.end() {
            let (at, needs) = (disk.log_min / SEGMENT * SEGMENT + SEGMENT, disk.index_end());
            disk.change(Kind::LogMin(at.min(most)), needs, 1);
        }
    }

    pub(super) fn sync(&mut self, i: usize) {
        let Some(store) = self.nodes[i].store.clone() else { return };
        if self.random.one_in(2) || self.quiet {
            let end = store.disk().end();
            store.disk().flushed = end;
        }
        if self.random.one_in(3) || self.quiet {
            let rows = store.disk().rows.len();
            store.disk().durable_rows = rows;
        }
        if store.is_master {
            store.confirm();
        }
    }

    /// A slave connects to the master, or to one that was it.
    pub(super) fn connect(&mut self, i: usize) {
        let stale = !self.quiet && self.random.one_in(4);
        let to = if stale { self.random.below(NODES as u64) as usize } else { self.master };
        let node = &self.nodes[i];
        let Some(store) = node.store.clone().filter(|store| !store.is_master) else { return };
        if node.link.is_some() || to == i || self.nodes[to].hub.is_none() {
            return;
        }
        let conn = Conn {
            slave: i,
            master: to,
            up: Wire::default(),
            down: Wire::default(),
            open: true,
            damaged: false,
        };
        let conn = Rc::new(RefCell::new(conn));
        let end =
            SlaveEnd::new(Rc::clone(&conn), (&store, i as u64 + 1), &node.memory, self.now_ms);
        self.nodes[i].link = Some(end);
        let hub = self.nodes[to].hub.as_mut().unwrap();
        hub.sessions.push(MasterEnd::new(Rc::clone(&conn), i as u64 + 1, self.now_ms));
        self.conns.retain(|conn| conn.borrow().open);
        self.conns.push(conn);
    }

    /// The master's ends of sessions do what is due.
    pub(super) fn serve(&mut self, i: usize) {
        let (Some(store), Some(mut hub)) = (self.nodes[i].store.clone(), self.nodes[i].hub.take())
        else {
            return;
        };
        for mut end in std::mem::take(&mut hub.sessions) {
            // A broken connection may look alive for long.
            let closed = !end.conn.borrow().open && (self.quiet || self.random.one_in(12));
            let outcome = end
                .read(&store, &mut hub, self.now_ms)
                .and_then(|()| end.write(&store, &mut hub, self.now_ms));
            if let Err(why) = &outcome {
                let slave = end.conn.borrow().slave;
                self.tell(|| format!("{i} ends the session of {slave}: {why}"));
                self.over[slave].0.clone_from(why);
            }
            if closed || outcome.is_err() {
                end.end(&mut hub);
            } else {
                hub.sessions.push(end);
            }
        }
        let demoted = hub.demoted;
        self.nodes[i].hub = Some(hub);
        if let Some(seen) = demoted {
            self.stop(i, false);
            let node = &mut self.nodes[i];
            node.is_master = false;
            let disk = node.disk.as_mut().unwrap();
            disk.seen_epoch = disk.seen_epoch.max(seen);
            self.start(i);
        }
    }

    /// A slave does what has arrived and acknowledges.
    pub(super) fn follow(&mut self, i: usize, trick: Trick) {
        let Some(mut link) = self.nodes[i].link.take() else { return };
        let store = self.nodes[i].store.clone().unwrap();
        let outcome = link.read(&store, self.now_ms, trick);
        let closed = !link.conn.borrow().open && (self.quiet || self.random.one_in(3));
        let Err(over) = outcome else {
            if closed {
                link.end(&mut self.nodes[i].memory);
            } else {
                link.write(&store, self.now_ms);
                self.nodes[i].link = Some(link);
            }
            return;
        };
        self.over[i].1 = format!("{over:?}");
        self.tell(|| format!("{i} leaves its master: {over:?}"));
        let damaged = link.conn.borrow().damaged || trick != Trick::None;
        link.end(&mut self.nodes[i].memory);
        match over {
            SlaveOver::Wire(error) => assert!(damaged, "a frame that nobody damaged: {error}"),
            SlaveOver::Late => {}
            SlaveOver::Follow(FollowEnd::Reopen(_)) => {
                self.stop(i, false);
                self.start(i);
            }
            SlaveOver::Follow(FollowEnd::Store(StoreError::Refused(why))) => {
                assert!(damaged, "the slave refuses what its master sends: {why}");
                if store.received().unwrap() != store.disk().end() {
                    self.stop(i, false);
                    self.start(i);
                }
            }
            SlaveOver::Follow(FollowEnd::Protocol(why)) => {
                assert!(damaged, "the master breaks the protocol: {why}");
            }
            SlaveOver::Follow(FollowEnd::Diverged(why)) => {
                assert!(self.ghost.rotten[i], "a difference without a cause: {why}");
                self.nodes[i].memory.diverged = true;
            }
            SlaveOver::Follow(_) => {}
        }
    }
}
