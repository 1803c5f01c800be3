//! What is done to the broker and its disk.

use std::time::{Duration, Instant};

use super::{
    Mode,
    board::Phase,
    ground::{Ground, Trouble, io_trouble, red},
    medium::Fs,
    pages::Pages,
    tally::Tally,
};

/// A broker whose disk fails must have ended within this time.
const FAIL_STOP: Duration = Duration::from_secs(20);
/// A broker whose disk is full refuses within this time.
const REFUSAL: Duration = Duration::from_secs(10);

/// A kind of fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(super) enum Nemesis {
    /// kill -9
    Kill,
    /// Power cut
    Cut,
    /// kill -9, and a power cut soon after the restart
    KillCut,
    /// The disk is full for a while
    Full,
    /// The disk fails, and works again later
    Eio,
    /// The file system is frozen for a while
    Freeze,
    /// The process is stopped for a while
    Stop,
}

impl Nemesis {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Cut => "cut",
            Self::KillCut => "kill-cut",
            Self::Full => "full",
            Self::Eio => "eio",
            Self::Freeze => "freeze",
            Self::Stop => "stop",
        }
    }

    /// Whether it needs a file system of its own.
    pub(super) fn needs_disk(self) -> bool {
        !matches!(self, Self::Kill | Self::Stop)
    }
}

impl Ground<'_> {
    /// Load, and then a fault.
    pub(super) fn cycle(&mut self, nemesis: Nemesis, tally: &mut Tally) -> Result<(), Trouble> {
        if self.broker.is_none() {
            self.start(tally)?;
        }
        self.board.set(Phase::Load);
        let load_ms = match (nemesis, self.plan.mode) {
            // Longer than the flush interval, so that there is something to lose or to get wrong.
            (Nemesis::Cut, Mode::Async) => self.seed.between(50, 1_600),
            _ => self.seed.between(40, 160),
        };
        self.pause(Duration::from_millis(load_ms))?;
        match nemesis {
            Nemesis::Kill => {
                self.maybe_create_topic();
                self.note_end("kill")?;
                self.kill()
            }
            Nemesis::Cut => {
                self.maybe_create_topic();
                self.cut("cut")
            }
            Nemesis::KillCut => {
                self.note_end("kill")?;
                self.kill()?;
                self.start(tally)?;
                let look_ms = self.seed.between(0, 40);
                self.pause(Duration::from_millis(look_ms))?;
                // Nobody has sent anything: nothing may be missing, whatever the mode.
                self.cut("cut-quiet")?;
                self.cut_us = None;
                Ok(())
            }
            Nemesis::Full => self.full(tally),
            Nemesis::Eio => self.eio(tally),
            Nemesis::Freeze => self.freeze(tally),
            Nemesis::Stop => self.stop(tally),
        }
    }

    fn cut(&mut self, name: &str) -> Result<(), Trouble> {
        // A machine without power answers nothing, but a process whose file system was shut down
        // does: ext4 lets an fsync that is under way succeed without the data.
        if let Some(broker) = &self.broker {
            broker.freeze().map_err(io_trouble("stop the broker"))?;
        }
        let cut_us = self.note_end(name)?;
        let pages = if self.plan.fs != Fs::Dir && self.seed.percent(50) {
            let pages = self.medium.segments().and_then(Pages::of);
            Some(pages.map_err(io_trouble("read the end of the log"))?)
        } else {
            None
        };
        self.medium.cut().map_err(io_trouble("shut the file system down"))?;
        self.kill()?;
        self.remount(pages)?;
        self.cut_us = (self.plan.mode == Mode::Async).then_some(cut_us);
        Ok(())
    }

    fn full(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        let refused = self.board.refused();
        self.medium.fill().map_err(io_trouble("fill the file system"))?;
        let until = Instant::now() + REFUSAL;
        while self.board.refused() == refused && Instant::now() < until {
            self.pause(Duration::from_millis(5))?;
        }
        let full_ms = self.seed.between(50, 500);
        self.pause(Duration::from_millis(full_ms))?;
        // Reading goes on meanwhile.
        let at = self.board.places();
        if let (Ok(mut link), Some(place)) = (self.link(), at.first())
            && let Err(error) = link.max(place.at())
        {
            return Err(red(10, format!("with a full disk: {error}")));
        }
        self.medium.free().map_err(io_trouble("free the file system"))?;
        self.recovered(tally)
    }

    fn freeze(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        self.medium.freeze().map_err(io_trouble("freeze the file system"))?;
        let frozen_ms = self.seed.between(1_000, 2_500);
        let paused = self.pause(Duration::from_millis(frozen_ms));
        self.medium.thaw().map_err(io_trouble("thaw the file system"))?;
        paused?;
        self.recovered(tally)
    }

    fn stop(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        let stopped_ms = self.seed.between(100, 1_500);
        if let Some(broker) = &self.broker {
            broker.freeze().map_err(io_trouble("stop the broker"))?;
            std::thread::sleep(Duration::from_millis(stopped_ms));
            broker.thaw().map_err(io_trouble("let the broker go on"))?;
        }
        self.recovered(tally)
    }

    /// A fault is over and the broker has lived through it.
    fn recovered(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        self.progress()?;
        self.pause(Duration::from_millis(30))?;
        if self.seed.percent(50) {
            self.note_end("kill")?;
            return self.kill();
        }
        self.settle(tally)
    }

    fn eio(&mut self, tally: &mut Tally) -> Result<(), Trouble> {
        let broken_us = self.note_end("eio")?;
        let spare = self.seed.below(512 * 1024);
        self.medium.choke(spare).map_err(io_trouble("take the room from the disk"))?;
        let ended = match &mut self.broker {
            Some(broker) => broker.wait(FAIL_STOP).map_err(io_trouble("look after the broker"))?,
            None => None,
        };
        let Some(status) = ended else {
            let seconds = FAIL_STOP.as_secs();
            return Err(red(10, format!("the broker runs {seconds} s after its disk has failed")));
        };
        if status.code() != Some(1) {
            return Err(red(10, format!("its disk has failed, and the broker ended {status}")));
        }
        self.kill()?;
        self.medium.heal().map_err(io_trouble("heal the disk"))?;
        self.cut_us = (self.plan.mode == Mode::Async).then_some(broken_us);
        // The disk works again, but the kernel takes pages for clean that never reached it.
        if self.seed.percent(50) && self.try_start()? {
            self.start(tally)?;
            if self.seed.percent(50) {
                self.cut("cut-quiet")?;
                self.cut_us = None;
            }
            return Ok(());
        }
        self.remount(None)
    }

    /// Of `pages`, some have reached the disk. What the broker finds is copied first: its recovery
    /// changes it.
    fn remount(&mut self, pages: Option<Pages>) -> Result<(), Trouble> {
        self.medium.remount().map_err(io_trouble("mount the file system again"))?;
        let written = pages.map_or(Ok(()), |pages| pages.write_some(&mut self.seed));
        written.map_err(io_trouble("write single pages of the log"))?;
        let copied = self.medium.copy_end(&self.history.join("before-recovery"));
        copied.map_err(io_trouble("copy the end of the log"))
    }
}
