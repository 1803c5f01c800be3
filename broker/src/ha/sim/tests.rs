//! Schedules: what happens in which order, and that it ends well.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    time::Instant,
};

use super::{
    Bug, Cluster,
    cluster::{NODES, Setup},
    session::Trick,
    with,
};
use crate::ha::replica::Replica as _;

/// Steps of one schedule before the faults stop.
const STEPS: u64 = 600;
/// Schedules of a normal test run.
const SCHEDULES: u64 = 3_000;
/// In which a deliberate error must be found.
const SCHEDULES_OF_BUG: u64 = 20_000;

/// One schedule.
fn run(seed: u64) {
    let mut cluster = Cluster::new(seed);
    cluster.tells = number("BASALTMQ_HA_SEED").is_some();
    cluster.tell(|| format!("{:?}", cluster.setup));
    if !seed.is_multiple_of(4) {
        // The others begin with slaves that have nothing.
        cluster.converge();
        cluster.quiet = false;
    }
    for _ in 0..STEPS {
        cluster.step();
    }
    cluster.converge();
}

impl Cluster {
    fn step(&mut self) {
        self.now_ms += match self.random.below(200) {
            0 => 25_000,
            1 => 31_000,
            2..10 => self.random.between(500, 3_000),
            _ => self.random.below(30),
        };
        let i = self.random.below(NODES as u64) as usize;
        match self.random.below(100) {
            0..14 => self.append(i),
            14..24 => self.dispatch(i),
            24..31 => self.sync(i),
            31..34 => self.forget(i),
            34..42 => self.connect(i),
            42..57 => self.serve(i),
            57..67 => self.deliver(),
            67..78 => self.follow(i, Trick::None),
            78..88 => self.exchange(i),
            88..91 => self.cut(),
            91 => self.damage(),
            92 => {
                let trick = if self.random.one_in(2) { Trick::Twice } else { Trick::Swap };
                self.follow(i, trick);
            }
            93 => self.fail(i),
            94 => self.fail(self.master),
            95 => self.fail_over(),
            _ => self.restart(i),
        }
        for i in 0..NODES {
            self.check(i);
        }
    }

    /// Everything goes round once.
    fn exchange(&mut self, i: usize) {
        self.serve(self.master);
        self.deliver_all();
        self.follow(i, Trick::None);
        self.deliver_all();
        self.serve(self.master);
    }

    fn deliver_all(&mut self) {
        for conn in &self.conns {
            let mut conn = conn.borrow_mut();
            conn.up.deliver(usize::MAX);
            conn.down.deliver(usize::MAX);
        }
    }

    fn deliver(&mut self) {
        let n = self.conns.len() as u64;
        if n == 0 {
            return;
        }
        let at = self.random.below(n) as usize;
        let all = self.random.one_in(2);
        let mut conn = self.conns[at].borrow_mut();
        let up = if all { usize::MAX } else { self.random.below(90) as usize };
        let down = if all { usize::MAX } else { self.random.below(300) as usize };
        conn.up.deliver(up);
        conn.down.deliver(down);
    }

    /// What flies is lost, and perhaps a part arrives before both see it.
    fn cut(&mut self) {
        let n = self.conns.len() as u64;
        if n > 0 {
            let conn = Rc::clone(&self.conns[self.random.below(n) as usize]);
            let mut conn = conn.borrow_mut();
            conn.open = false;
            let conn = &mut *conn;
            for wire in [&mut conn.up, &mut conn.down] {
                wire.cut = true;
                wire.flying.clear();
            }
        }
    }

    /// Bytes on a wire are flipped, lost or sent twice.
    fn damage(&mut self) {
        let n = self.conns.len() as u64;
        if n == 0 {
            return;
        }
        let conn = Rc::clone(&self.conns[self.random.below(n) as usize]);
        let mut conn = conn.borrow_mut();
        let conn = &mut *conn;
        let wire = if self.random.one_in(2) { &mut conn.up } else { &mut conn.down };
        let len = wire.flying.len();
        if len == 0 {
            return;
        }
        conn.damaged = true;
        let at = self.random.below(len as u64) as usize;
        match self.random.below(3) {
            0 => wire.flying[at] ^= 1 << self.random.below(8),
            1 => drop(wire.flying.drain(at..)),
            _ => {
                let again = wire.flying[at..].to_vec();
                wire.flying.extend(again);
            }
        }
    }

    fn fail(&mut self, i: usize) {
        let power = self.setup.power && self.random.one_in(2);
        let safe = self.has_copies();
        self.stop(i, power);
        if i == self.master && power && safe && self.setup.copies > 1 {
            // What it had not synced may be on its slaves only: it must not lead again by itself.
            self.hand_over();
        }
    }

    /// Whether the master has slaves again that have all that was promised: before that, losing it
    /// would be the second loss.
    fn has_copies(&self) -> bool {
        let store = self.nodes[self.master].store.as_ref();
        !self.setup.promises() || store.is_some_and(|store| store.replicated.get() > 0)
    }

    fn fail_over(&mut self) {
        if self.has_copies() {
            self.stop(self.master, false);
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if let Some(next) = self.successor() {
            self.promote(next);
        }
    }

    fn restart(&mut self, i: usize) {
        if self.nodes[i].store.is_none() {
            self.start(i);
        }
    }

    /// Faults stop: everything must come to be the same everywhere.
    fn converge(&mut self) {
        self.quiet = true;
        for i in 0..NODES {
            self.restart(i);
        }
        if self.nodes[self.master].hub.is_none() {
            // It gave way to a newer one that never was the operator's.
            self.promote(self.master);
        }
        let master = self.master;
        for i in (0..NODES).filter(|i| *i != master) {
            if self.nodes[i].is_master {
                self.stop(i, false);
                self.nodes[i].is_master = false;
            }
            self.restart(i);
        }
        for round in 0..300 {
            self.now_ms += 200;
            for i in 0..NODES {
                self.connect(i);
                self.sync(i);
                self.serve(i);
                self.deliver_all();
                self.follow(i, Trick::None);
                self.check(i);
            }
            if round == 10 {
                self.append(self.master);
            }
            self.dispatch(self.master);
            if round > 20 && self.is_one() {
                return;
            }
        }
        panic!("it does not converge: {:?}", self.positions());
    }

    fn is_one(&self) -> bool {
        // A slave may have deleted more than a master that was one only for a while.
        let from = (0..NODES).map(|i| self.with_disk(i, |disk| disk.log_min)).max().unwrap();
        let digest = |i: usize| {
            let store = self.nodes[i].store.as_ref()?;
            let position = store.position();
            let crc = store.log_crc(from, position.appended).ok()?;
            let state = store.state_digest().ok()?;
            let whole = position.confirmed == position.appended && store.serves();
            whole.then_some((position.appended, crc, state.sequence, state.crc))
        };
        let streams = |i: usize| {
            i == self.master || self.nodes[i].link.as_ref().is_some_and(|link| link.streams())
        };
        let first = digest(0);
        first.is_some() && (0..NODES).all(|i| streams(i) && digest(i) == first)
    }

    fn positions(&self) -> Vec<String> {
        let node = |i: usize| {
            let node = &self.nodes[i];
            let position = node.store.as_ref().map(|store| store.position());
            let streams = node.link.as_ref().map(super::session::SlaveEnd::streams);
            let over = &self.over[i];
            format!("{i} master {} {position:?} streams {streams:?} {over:?}", node.is_master)
        };
        (0..NODES).map(node).collect()
    }
}

/// Runs schedules until one fails; tells its seed and why.
fn first_failure(seeds: impl Iterator<Item = u64>) -> Option<(u64, String)> {
    for seed in seeds {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            return Some((seed, text.unwrap_or_default()));
        }
    }
    None
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

#[test]
fn ha_sim() {
    if let Some(seed) = number("BASALTMQ_HA_SEED") {
        return run(seed);
    }
    let schedules = number("BASALTMQ_HA_SCHEDULES").unwrap_or(SCHEDULES);
    let began = Instant::now();
    if let Some((seed, why)) = first_failure(0..schedules) {
        panic!("schedule {seed} fails: {why}; BASALTMQ_HA_SEED={seed} repeats it");
    }
    println!("{schedules} schedules in {:?}", began.elapsed());
}

/// Whether a set-up can show an error at all.
fn shows(bug: Bug, setup: Setup) -> bool {
    match bug {
        Bug::CountTwice => setup.copies == NODES && setup.promises(),
        Bug::FalseDurable => setup.promises() && setup.power,
        Bug::LateEpoch => setup.copies == 1,
        Bug::DeltaEarly | Bug::NoTruncation | Bug::NoGate | Bug::OldEpoch => true,
    }
}

#[test]
fn ha_sim_finds_deliberate_errors() {
    let mut missed = Vec::new();
    for bug in [
        Bug::CountTwice,
        Bug::DeltaEarly,
        Bug::NoTruncation,
        Bug::NoGate,
        Bug::LateEpoch,
        Bug::FalseDurable,
    ] {
        let seeds = (0..SCHEDULES_OF_BUG).filter(|seed| shows(bug, Cluster::new(*seed).setup));
        with(Some(bug), || match first_failure(seeds) {
            Some((seed, why)) => println!("{bug:?} is found by schedule {seed}: {why}"),
            None => missed.push(bug),
        });
    }
    assert!(missed.is_empty(), "not found in {SCHEDULES_OF_BUG} schedules: {missed:?}");
}

/// A master that was replaced comes back as a master, and a slave of the new one finds it.
fn old_master_returns() {
    let seed = (0..).find(|seed| Cluster::new(*seed).setup.promises()).unwrap();
    let mut cluster = Cluster::new(seed);
    cluster.converge();
    cluster.append(0);
    cluster.stop(0, false);
    cluster.promote(1);
    cluster.start(2);
    cluster.append(1);
    let rounds = |cluster: &mut Cluster| {
        for _ in 0..100 {
            cluster.now_ms += 100;
            cluster.connect(2);
            (0..NODES).for_each(|i| cluster.serve(i));
            cluster.deliver_all();
            cluster.sync(2);
            cluster.follow(2, Trick::None);
        }
    };
    rounds(&mut cluster);
    let reach = cluster.with_disk(2, super::disk::Disk::reach);
    assert!(reach.0 >= 1000, "it follows the new master: {reach:?}");
    cluster.nodes[0].is_master = true;
    cluster.start(0);
    // The name servers still tell the old address.
    cluster.stop(2, false);
    cluster.start(2);
    cluster.master = 0;
    rounds(&mut cluster);
    assert_eq!(cluster.with_disk(2, super::disk::Disk::reach), reach, "it follows an old master");
    assert!(!cluster.nodes[0].is_master, "the old master goes on");
}

#[test]
fn ha_sim_an_old_master_is_not_followed() {
    old_master_returns();
    let found = catch_unwind(|| with(Some(Bug::OldEpoch), old_master_returns));
    super::BUG.set(None);
    assert!(found.is_err());
}

/// What a disk does to a slave is found with the next digest, and the slave begins anew.
fn finds_what_a_disk_did(spoil: impl Fn(&mut super::disk::Disk)) {
    let mut cluster = Cluster::new(1);
    cluster.converge();
    let master = cluster.master;
    for _ in 0..3 {
        cluster.append(master);
        cluster.dispatch(master);
        (0..NODES).for_each(|i| cluster.exchange(i));
    }
    let i = (master + 1) % NODES;
    cluster.ghost.rotten[i] = true;
    spoil(&mut cluster.nodes[i].store.as_ref().unwrap().disk());
    let store = cluster.nodes[i].store.clone().unwrap();
    for _ in 0..40 {
        cluster.now_ms += 1_000;
        cluster.serve(master);
        cluster.deliver_all();
        cluster.follow(i, Trick::None);
        if store.differs.get() {
            break;
        }
    }
    assert!(store.differs.get() && !store.serves(), "it goes on serving: {:?}", cluster.over[i]);
    let why = &cluster.over[i].1;
    assert!(why.contains("Diverged"), "{why}");
    cluster.converge();
}

#[test]
fn ha_sim_a_flipped_bit_in_a_slaves_log_is_found() {
    finds_what_a_disk_did(|disk| *disk.log.last_mut().unwrap() ^= 1);
}

#[test]
fn ha_sim_a_changed_row_of_a_slave_is_found() {
    finds_what_a_disk_did(|disk| disk.rows.last_mut().unwrap().chain ^= 1);
}
