//! What has to hold: quickly after each episode, and all of it at the end of a pair of stores.

use std::{
    fs,
    time::{Duration, Instant},
};

use super::{Side, figures::Figures, net::Host, scene::Scene};
use crate::torture::{
    board::Phase,
    ground::{Trouble, io_trouble, red},
    model, verdict,
    wire::Unanswered,
};

/// A slave must show what its master shows within this time.
const FOLLOW: Duration = Duration::from_secs(30);
/// A committed offset is written within this time, also one that a slave has to pass on first.
const OFFSETS: Duration = Duration::from_millis(2_500);
/// Longest time that the readers may need at the end.
const DRAIN: Duration = Duration::from_secs(60);

impl Scene<'_> {
    /// Ends the load, waits for the last answers, and checks both brokers quickly.
    pub(super) fn settle(&mut self) -> Result<(), Trouble> {
        self.end_sends(self.master, Phase::Read)?;
        self.check(self.master)?;
        self.await_pair()?;
        self.await_visible(self.master.other())?;
        self.check(self.master.other())
    }

    /// The quick check. Nobody may send meanwhile.
    pub(super) fn check(&mut self, side: Side) -> Result<(), Trouble> {
        let mut link = self.link(side)?;
        for place in self.places() {
            let checked = model::check(&place, &mut link, &mut self.seed, None);
            checked.map_err(|error| asked(side, &error))?.map_err(|mut red| {
                red.what = format!("broker {}: {}", side.name(), red.what);
                Trouble::Red(red)
            })?;
        }
        self.reported()
    }

    /// Waits until the slave shows what the master shows. Nobody may send meanwhile.
    pub(super) fn await_pair(&mut self) -> Result<(), Trouble> {
        let until = Instant::now() + FOLLOW;
        loop {
            let difference = self.difference();
            let Some(difference) = difference? else { return Ok(()) };
            if Instant::now() > until {
                let seconds = FOLLOW.as_secs();
                let what = format!("after {seconds} s without sends, {difference}");
                return Err(red(9, what));
            }
            self.pause(Duration::from_millis(10))?;
        }
    }

    /// Waits until a broker shows what was acknowledged. A master knows that a slave has it only when
    /// that one has said so, and a slave that it may show it only when the master has. What does not
    /// come is for the check to find.
    pub(super) fn await_visible(&mut self, side: Side) -> Result<(), Trouble> {
        let until = Instant::now() + FOLLOW;
        loop {
            let mut link = self.link(side)?;
            let mut shown = true;
            for place in self.places() {
                let max = link.max(place.at()).map_err(|error| asked(side, &error))?;
                shown &= max >= place.known().end();
            }
            if shown || Instant::now() > until {
                return Ok(());
            }
            self.pause(Duration::from_millis(5))?;
        }
    }

    /// How the slave differs from the master, as far as questions can tell.
    fn difference(&self) -> Result<Option<String>, Trouble> {
        let statuses = [Side::A, Side::B].map(|side| side.of(&self.nodes).status());
        let (master, slave) = (self.master.of(&statuses), self.master.other().of(&statuses));
        let (Ok(master), Ok(slave)) = (master, slave) else {
            return Ok(Some(format!("the master says {master:?}, the slave says {slave:?}")));
        };
        Ok(master.differs_from(slave))
    }

    /// Lets the readers read to the end; then the checker decides, and the stores are compared.
    pub(super) fn finish(&mut self, figures: &mut Figures) -> Result<(), Trouble> {
        self.end_sends(self.master, Phase::Read)?;
        self.close(self.master.other())?;
        self.await_pair()?;
        for board in &self.readers {
            board.set(Phase::Drain);
        }
        if !self.readers.iter().all(|board| board.done(1, DRAIN)) {
            return Err(red(10, "the readers do not get to the end"));
        }
        self.pause(Duration::ZERO)?;
        let now_us = self.time.now_us();
        self.log.line(format_args!("D {now_us} {}", self.epoch));
        self.log.flush().map_err(io_trouble("write a history"))?;
        for side in [self.master, self.master.other()] {
            let verdict = verdict::check(&self.history, Some(Host::Broker(side).address()));
            let verdict = verdict.map_err(io_trouble("run the checker"))?;
            if let Some(worst) = verdict.red.first() {
                let what = format!("at broker {}: {}", side.name(), worst.what);
                return Err(red(worst.rule, what));
            }
            figures.judged(&verdict);
        }
        for board in self.boards.iter().chain(&self.readers) {
            figures.refused += board.refused();
            board.set(Phase::Stop);
        }
        self.compare_stores()?;
        figures.store_done();
        // Whoever wants the history asks for it; a run has hundreds of stores.
        fs::remove_dir_all(&self.history).map_err(io_trouble("remove a history"))
    }

    /// Rules 9 and 11: both stores are sound, and equal to the last row and the last byte.
    fn compare_stores(&mut self) -> Result<(), Trouble> {
        // Until then the last offsets that were committed may be in memory only.
        self.pause(OFFSETS)?;
        self.await_pair()?;
        let slave = self.master.other();
        let master = self.master;
        // A master that stops lets its slave have everything.
        self.node(master).stop()?;
        self.node(slave).stop()?;
        let digest = |side: Side| side.of(&self.nodes).digest();
        let (left, right) = (digest(master)?, digest(slave)?);
        if left != right {
            let (master, slave) = (master.name(), slave.name());
            let what = format!(
                "the stores differ; master {master}:\n{left:#?}\nslave {slave}:\n{right:#?}"
            );
            return Err(red(9, what));
        }
        for node in &self.nodes {
            node.inspect(&["verify"])?;
        }
        Ok(())
    }
}

/// A broker that serves has to answer.
fn asked(side: Side, error: &Unanswered) -> Trouble {
    let name = side.name();
    red(10, format!("broker {name} does not answer what any healthy broker answers: {error}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The rules that the checker finds broken in a history without a broker.
    fn verdict_on(producer: &str, consumer: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let supervisor = "H mode replicated-async\nH regress_ms 1000\nH producers_max 8\n\
            B 0 1\nP 0 1 a\nT 1 1 t 1\nM 2 1 t 0 0 0\nX 4000000 1 split\n\
            B 5000000 2\nP 5000000 2 b\nM 5000001 2 t 0 0 2\n";
        let write = |name: &str, lines: &str| fs::write(dir.path().join(name), lines).unwrap();
        write("supervisor.log", supervisor);
        write("producer-0.log", producer);
        write("consumer-0.log", consumer);
        let history: &Path = dir.path();
        verdict::check(history, None).unwrap().red.iter().map(|broken| broken.rule).collect()
    }

    const SENT: &str = "I 10 1 000000000000000000 t 0\nO 20 000000000000000000 0\n\
        I 30 1 000000000100000000 t 0\nO 5000040 000000000100000000 1\n";

    #[test]
    fn a_deposed_master_may_answer_what_it_was_sent_before() {
        assert!(verdict_on(SENT, "G g\n").is_empty());
    }

    #[test]
    fn a_deposed_master_that_acknowledges_what_it_is_sent_breaks_rule_3() {
        let late = "I 5000010 1 000000000200000000 t 0\nO 5000040 000000000200000000 2\n";
        assert_eq!(verdict_on(&format!("{SENT}{late}"), "G g\n"), [3]);
    }

    #[test]
    fn an_acknowledged_message_that_the_new_master_lacks_breaks_rule_1() {
        let more = "I 50 1 000000000200000000 t 0\nO 60 000000000200000000 2\n";
        assert_eq!(verdict_on(&format!("{SENT}{more}"), "G g\n"), [1]);
    }

    #[test]
    fn offsets_may_go_back_by_what_was_committed_in_the_last_second() {
        let at = |second_us: u64, offset: u64| {
            format!(
                "G g\nQ 3 1 t 0 0 0\nS 3 1 t 0 0\nC 1000 1 t 0 1\nK 1001 1 t 0 1\n\
                 C {second_us} 1 t 0 2\nK {second_us} 1 t 0 2\nQ 6000000 2 t 0 {offset} 2\n"
            )
        };
        assert!(verdict_on(SENT, &at(3_900_000, 1)).is_empty());
        assert_eq!(verdict_on(SENT, &at(3_900_000, 0)), [6]);
        assert_eq!(verdict_on(SENT, &at(2_000_000, 1)), [6]);
    }
}
