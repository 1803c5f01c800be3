//! What is done to the cluster, and how it has to come back.

use std::time::{Duration, Instant};

use super::{Side, figures::Figures, net::Host, node::Way, scene::Scene};
use crate::torture::ground::{Trouble, io_trouble};

/// A kind of episode.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Nemesis {
    /// kill -9 of the master, promotion of the slave; the old master comes back
    Failover,
    /// kill -9 of the master, which comes back as the master
    Restart,
    /// kill -9 of the slave
    Slave,
    /// kill -9 of both
    Both,
    /// Master and slave cannot talk to each other for a while
    Partition,
    /// The same, and the slave is promoted meanwhile
    Split,
    /// SIGSTOP of the master, promotion of the slave, SIGCONT
    Zombie,
    /// Promotion of the slave while both are well
    Switch,
    /// Power cut of one of them; a master is replaced by its slave
    Power,
}

impl Nemesis {
    /// All that need no file system of their own; a failover is what matters most.
    pub(super) const USUAL: [Self; 9] = [
        Self::Failover,
        Self::Failover,
        Self::Restart,
        Self::Slave,
        Self::Both,
        Self::Partition,
        Self::Split,
        Self::Zombie,
        Self::Switch,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Restart => "restart",
            Self::Slave => "slave",
            Self::Both => "both",
            Self::Partition => "partition",
            Self::Split => "split",
            Self::Zombie => "zombie",
            Self::Switch => "switch",
            Self::Power => "power",
        }
    }
}

/// How a broker is put down.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Kill,
    Cut,
}

impl Scene<'_> {
    /// Load, and then a fault that the cluster has to come back from.
    pub(super) fn episode(
        &mut self,
        nemesis: Nemesis,
        figures: &mut Figures,
    ) -> Result<(), Trouble> {
        let load_ms = self.seed.between(50, 400);
        self.pause(Duration::from_millis(load_ms))?;
        self.progress()?;
        self.maybe_create_topic();
        match nemesis {
            Nemesis::Failover => self.failover(Blow::Kill, figures),
            Nemesis::Restart => self.restart(figures),
            Nemesis::Slave => self.slave(Blow::Kill, figures),
            Nemesis::Both => self.both(figures),
            Nemesis::Partition => self.partition(figures),
            Nemesis::Split => self.split(figures),
            Nemesis::Zombie => self.zombie(figures),
            Nemesis::Switch => self.switch(figures),
            // Its log may have lost its end: with async flush only the slave has all of it.
            Nemesis::Power if self.seed.percent(50) => self.failover(Blow::Cut, figures),
            Nemesis::Power => self.slave(Blow::Cut, figures),
        }
    }

    fn strike(&mut self, side: Side, blow: Blow) -> Result<(), Trouble> {
        match blow {
            Blow::Kill => self.node(side).kill(),
            Blow::Cut => self.node(side).cut(),
        }
    }

    /// A random time below this.
    fn wait_up_to(&mut self, ms: u64) -> Result<(), Trouble> {
        let wait_ms = self.seed.below(ms);
        self.pause(Duration::from_millis(wait_ms))
    }

    fn failover(&mut self, blow: Blow, figures: &mut Figures) -> Result<(), Trouble> {
        let old = self.master;
        self.note_end("kill")?;
        self.strike(old, blow)?;
        figures.kills += 1;
        self.close(old)?;
        self.escape_to_slave();
        self.wait_up_to(300)?;
        let early = self.take_over(Way::Tool, figures)?;
        self.wait_up_to(1_000)?;
        self.start(old)?;
        let back = Instant::now();
        self.deposed(old, early, back, figures)
    }

    /// Promotes the slave. Whether sends are let to it before it has a slave itself.
    fn take_over(&mut self, way: Way, figures: &mut Figures) -> Result<bool, Trouble> {
        let next = self.master.other();
        self.no_slave();
        let took = self.node(next).promote(way)?;
        figures.promoted(took);
        self.next_epoch(next)?;
        self.read_from_master();
        let early = self.seed.percent(50);
        if early {
            self.open(next);
        }
        Ok(early)
    }

    /// The old master must become a slave, and the new one acknowledge sends.
    fn deposed(
        &mut self,
        old: Side,
        early: bool,
        back: Instant,
        figures: &mut Figures,
    ) -> Result<(), Trouble> {
        let gave_up = self.await_slave(old)?;
        figures.gave_up(gave_up);
        // A slave that is sent to has to refuse.
        self.open(old);
        self.goes_on(early)?;
        figures.acknowledged_again(back.elapsed());
        self.read_from_slave();
        self.wait_up_to(150)?;
        self.close(old)?;
        self.settle_after(early)
    }

    /// Waits until the master acknowledges sends. Without `early` nobody has sent to it yet: then
    /// everything that was acknowledged before has to be there first.
    fn goes_on(&mut self, early: bool) -> Result<(), Trouble> {
        if !early {
            self.await_pair()?;
            self.await_visible(self.master)?;
            self.note_ends()?;
            self.check(self.master)?;
            self.open(self.master);
        }
        self.progress()
    }

    fn settle_after(&mut self, early: bool) -> Result<(), Trouble> {
        self.settle()?;
        if early {
            self.note_ends()?;
        }
        self.open(self.master);
        Ok(())
    }

    /// The master starts once more after a kill.
    fn same_master(&mut self, back: Instant, figures: &mut Figures) -> Result<(), Trouble> {
        self.next_epoch(self.master)?;
        self.read_from_master();
        self.no_slave();
        let early = self.seed.percent(50);
        if early {
            self.open(self.master);
        }
        self.goes_on(early)?;
        figures.acknowledged_again(back.elapsed());
        self.read_from_slave();
        self.settle_after(early)
    }

    fn restart(&mut self, figures: &mut Figures) -> Result<(), Trouble> {
        let master = self.master;
        self.note_end("kill")?;
        self.strike(master, Blow::Kill)?;
        figures.kills += 1;
        self.close(master)?;
        self.escape_to_slave();
        self.wait_up_to(1_500)?;
        self.start(master)?;
        self.same_master(Instant::now(), figures)
    }

    fn both(&mut self, figures: &mut Figures) -> Result<(), Trouble> {
        let mut order = [self.master, self.master.other()];
        // A slave that starts without a master knows how far messages were confirmed a while ago
        // only: it may show less of a queue than groups have committed.
        self.no_slave();
        self.note_end("kill")?;
        if self.seed.percent(50) {
            order.reverse();
        }
        for side in order {
            self.strike(side, Blow::Kill)?;
            figures.kills += 1;
        }
        self.close(self.master)?;
        self.wait_up_to(300)?;
        if self.seed.percent(50) {
            order.reverse();
        }
        for side in order {
            self.start(side)?;
            self.wait_up_to(600)?;
        }
        self.same_master(Instant::now(), figures)
    }

    fn slave(&mut self, blow: Blow, figures: &mut Figures) -> Result<(), Trouble> {
        let slave = self.master.other();
        self.no_slave();
        self.note_end_of_slave()?;
        self.strike(slave, blow)?;
        figures.kills += 1;
        self.wait_up_to(1_500)?;
        self.start(slave)?;
        self.follows(Instant::now(), figures)
    }

    fn follows(&mut self, back: Instant, figures: &mut Figures) -> Result<(), Trouble> {
        self.progress()?;
        figures.acknowledged_again(back.elapsed());
        self.read_from_slave();
        self.settle()?;
        self.open(self.master);
        Ok(())
    }

    /// Cuts the line between the two, in both directions or in one. How long that is to last.
    fn cut_line(&mut self, figures: &mut Figures) -> Result<Duration, Trouble> {
        let (master, slave) = (Host::Broker(self.master), Host::Broker(self.master.other()));
        let ways: &[(Host, Host)] = match self.seed.below(3) {
            0 => &[(master, slave), (slave, master)],
            1 => &[(master, slave)],
            _ => &[(slave, master)],
        };
        for (from, to) in ways {
            self.net.silence(*from, *to).map_err(io_trouble("make a partition"))?;
        }
        figures.partitions += 1;
        Ok(Duration::from_millis(self.seed.between(500, 8_000)))
    }

    fn heal(&self) -> Result<Instant, Trouble> {
        self.net.heal().map_err(io_trouble("end a partition"))?;
        Ok(Instant::now())
    }

    fn partition(&mut self, figures: &mut Figures) -> Result<(), Trouble> {
        let lasts = self.cut_line(figures)?;
        self.pause(lasts)?;
        let back = self.heal()?;
        self.follows(back, figures)
    }

    fn split(&mut self, figures: &mut Figures) -> Result<(), Trouble> {
        let old = self.master;
        let began = Instant::now();
        self.note_end("split")?;
        let lasts = self.cut_line(figures)?;
        let half_ms = u64::try_from(lasts.as_millis() / 2).unwrap_or(0);
        self.wait_up_to(half_ms)?;
        let way = self.by_force();
        let early = self.take_over(way, figures)?;
        self.pause(lasts.saturating_sub(began.elapsed()))?;
        let back = self.heal()?;
        self.deposed(old, early, back, figures)
    }

    fn by_force(&mut self) -> Way {
        if self.seed.percent(30) { Way::ForcedTool } else { Way::Wire }
    }

    fn switch(&mut self, figures: &mut Figures) -> Result<(), Trouble> {
        let (old, began) = (self.master, Instant::now());
        self.note_end("switch")?;
        let early = self.take_over(Way::Tool, figures)?;
        self.deposed(old, early, began, figures)
    }

    fn zombie(&mut self, figures: &mut Figures) -> Result<(), Trouble> {
        let old = self.master;
        self.note_end("zombie")?;
        if let Some(broker) = &self.node(old).broker {
            broker.freeze().map_err(io_trouble("stop a broker"))?;
        }
        figures.zombies += 1;
        self.wait_up_to(300)?;
        let way = self.by_force();
        let early = self.take_over(way, figures)?;
        self.wait_up_to(3_000)?;
        if let Some(broker) = &self.node(old).broker {
            broker.thaw().map_err(io_trouble("let a broker go on"))?;
        }
        self.deposed(old, early, Instant::now(), figures)
    }
}
