//! A model of the disk under the commit log: the real code writes and recovers, every change that it
//! makes is recorded, and any state that a power cut, a kill or a failed sync could leave after any
//! of them is recovered by the real code again.
//!
//! Promises that must hold for each state: what was acknowledged is there, what is there was
//! appended (a prefix, byte for byte), nothing lies behind the end, and recovering again changes
//! nothing. `BASALTMQ_MODEL_IMAGES` says how many states to try, `BASALTMQ_MODEL_SEED` with which
//! seed to begin; a failure prints its seed.

mod disk;
mod history;
mod life;
mod random;

use std::path::{Path, PathBuf};

use disk::Disk;
use history::History;
use life::Life;
use random::Random;

use crate::file::{Change, record as recorder};

/// Lives of one log, one after the other.
const LIVES: u32 = 20;
/// States that are recovered after each life, apart from the one that goes on.
const STATES: usize = 15;

/// What a wrong program would do: changes that never reach the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// None; the code as it is.
    None,
    /// The tail behind the end is not zeroed.
    NoZeroing,
    /// The log is acknowledged and not synced.
    NoSync,
    /// Recovery does not sync what it keeps.
    NoSyncInRecovery,
    /// Recovery does not write again what it keeps.
    NoRewriting,
    /// The names of new segments are not synced.
    NoSyncOfNames,
}

impl Bug {
    fn swallows(self, change: &Change, recovering: bool) -> bool {
        let of_a_segment =
            |path: &Path| path.parent().is_some_and(|dir| dir.ends_with("commitlog"));
        match (self, change) {
            (Self::NoZeroing, Change::Zero { .. }) => true,
            (Self::NoSync, Change::Sync { path }) => !recovering && of_a_segment(path),
            (Self::NoSyncInRecovery, Change::Sync { path })
            | (Self::NoRewriting, Change::Write { path, .. }) => recovering && of_a_segment(path),
            (Self::NoSyncOfNames, Change::SyncDir { .. }) => true,
            _ => false,
        }
    }
}

/// One log, from its creation through several crashes.
struct Run {
    dir: PathBuf,
    segment_size_bytes: u64,
    random: Random,
    bug: Bug,
    images: u64,
}

impl Run {
    /// Runs the lives of a seed. Returns the number of states that were recovered.
    ///
    /// # Errors
    /// The promise that was broken.
    fn lives(root: &Path, seed: u64, bug: Bug) -> Result<u64, String> {
        let mut random = Random::new(seed);
        let segment_size_bytes = [8192, 16_384, 32_768, 65_536][random.below(4)];
        let dir = root.join("store");
        let mut run = Self { dir, segment_size_bytes, random, bug, images: 0 };
        let mut disk = Disk::default();
        let mut history = History::default();
        for number in 0..LIVES {
            let crash = run.life(number, &disk, &history);
            (disk, history) = crash.map_err(|broken| format!("life {number}: {broken}"))?;
        }
        Ok(run.images)
    }

    /// Begins on `disk`, lives, and looks at states on the way. Returns the one to go on with.
    fn life(
        &mut self,
        number: u32,
        disk: &Disk,
        history: &History,
    ) -> Result<(Disk, History), String> {
        let opened = self.recover(disk, history)?;
        let of = (number, self.segment_size_bytes);
        let life = Life::live(&self.dir, opened, of, &mut self.random);
        let mut points: Vec<usize> =
            (0..STATES).map(|_| self.random.below(life.changes.len() + 1)).collect();
        points.sort_unstable();
        let goes_on = self.random.below(points.len());
        let (mut live, mut done, mut next) = (disk.clone(), 0, None);
        for (i, &point) in points.iter().enumerate() {
            self.advance(&mut live, &life, done..point);
            done = point;
            let mut promised = history.clone();
            for (_, event) in life.events.iter().filter(|(at, _)| *at <= point) {
                promised.apply(event);
            }
            let state = self.crash(&live, life.changes.get(point));
            self.look(&state, &promised).map_err(|broken| {
                format!("after change {point} of {}: {broken}", life.changes.len())
            })?;
            if i == goes_on {
                next = Some((state, promised));
            }
        }
        Ok(next.expect("one of the points goes on"))
    }

    fn advance(&self, disk: &mut Disk, life: &Life, range: std::ops::Range<usize>) {
        for at in range {
            let change = &life.changes[at];
            if !self.bug.swallows(change, life.recovery.contains(&at)) {
                disk.apply(change);
            }
        }
    }

    /// Ends a program before its change `next`: a power cut, a kill, or a sync that fails.
    fn crash(&mut self, live: &Disk, next: Option<&Change>) -> Disk {
        match (self.random.below(8), next) {
            (0, _) => live.clone(),
            (1, Some(Change::Sync { path })) => {
                let mut failed = live.clone();
                failed.fail_sync(path, &mut self.random);
                failed
            }
            _ => live.cut(&mut self.random),
        }
    }

    /// Recovers a state, crashes that recovery at some change, and recovers again.
    fn look(&mut self, state: &Disk, history: &History) -> Result<(), String> {
        let opened = self.recover(state, history)?;
        let end = opened.end;
        drop(opened);
        let changes = recorder::take();
        if self.random.one_in(4) {
            let again = life::recover(&self.dir, self.segment_size_bytes)
                .map_err(|error| format!("a second recovery says: {error}"))?;
            if again.end != end || again.cut.is_some() {
                return Err(format!("a second recovery ends at {}, not at {end}", again.end));
            }
        }
        let recovery = Life { recovery: 0..changes.len(), changes, events: Vec::new() };
        let point = self.random.below(recovery.changes.len() + 1);
        let mut live = state.clone();
        self.advance(&mut live, &recovery, 0..point);
        let mut promised = history.clone();
        if point == recovery.changes.len() {
            promised.apply(&history::Event::Recovered(end));
        }
        let crashed = self.crash(&live, recovery.changes.get(point));
        self.recover(&crashed, &promised).map(drop).map_err(|broken| {
            format!("recovery that ended at change {point} of {}: {broken}", recovery.changes.len())
        })
    }

    /// Puts a state into the directory and recovers it, with a record of that.
    fn recover(
        &mut self,
        disk: &Disk,
        history: &History,
    ) -> Result<crate::commit_log::recover::Opened, String> {
        self.images += 1;
        disk.materialise(&self.dir).map_err(|error| error.to_string())?;
        recorder::start();
        let opened = life::recover(&self.dir, self.segment_size_bytes);
        let opened = opened.map_err(|error| format!("the log cannot be recovered: {error}"))?;
        history.check(&self.dir, &opened).map(|()| opened)
    }
}

/// A directory in memory, if there is one.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.unwrap()
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs seeds until so many states were recovered.
///
/// # Errors
/// The seed that broke a promise, and which one.
fn states(first_seed: u64, wanted: u64, bug: Bug) -> Result<u64, String> {
    let root = scratch();
    let mut images = 0;
    for seed in first_seed.. {
        let of_seed = Run::lives(root.path(), seed, bug).map_err(|broken| {
            format!("BASALTMQ_MODEL_SEED={seed} ({images} states before): {broken}")
        })?;
        images += of_seed;
        if images >= wanted {
            break;
        }
    }
    Ok(images)
}

#[test]
fn every_crash_keeps_what_was_acknowledged() {
    let began = std::time::Instant::now();
    let wanted = number("BASALTMQ_MODEL_IMAGES", 20_000);
    match states(number("BASALTMQ_MODEL_SEED", 1), wanted, Bug::None) {
        Ok(images) => eprintln!("{images} states, {:?}", began.elapsed()),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn wrong_programs_are_found() {
    for bug in
        [Bug::NoZeroing, Bug::NoSync, Bug::NoSyncInRecovery, Bug::NoRewriting, Bug::NoSyncOfNames]
    {
        let broken = states(1, 50_000, bug).expect_err("a wrong program breaks a promise");
        eprintln!("{bug:?}: {broken}");
    }
}
