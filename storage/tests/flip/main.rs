//! One flipped bit anywhere in a store: it is noticed or has no effect, no wrong byte is served as
//! good, and nothing is lost but the message that was hit.
//!
//! `BASALTMQ_FLIPS` says how many bits to flip, each in a store of its own, `BASALTMQ_FLIP_SEED` with
//! which seed to begin, `BASALTMQ_FLIP_KIND` which kind of file to look at alone; each flip has its own
//! seed, and what goes wrong is printed with it.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod image;
mod look;
mod notice;

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    time::Instant,
};

use image::{Image, Kind, Place};
use look::Seen;
use storage::{Config, Store, inspect};

/// What a flip has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is as before and nobody noticed: the bit means nothing, or it is written anew.
    Harmless,
    /// Everything is as before, and there was a warning.
    Healed,
    /// The message that was hit is not served, and that was reported.
    Contained,
    /// What was not yet durable by the watermark is cut, as after a power cut.
    Cut,
    /// The store does not open and says what to do, or cannot read offsets of consumers; after the
    /// repair everything is there.
    Repaired,
    /// The same, but for groups and offsets that had changed since `config/*.json` were written and
    /// were in the record of the write-ahead log that was hit: they are older.
    Outdated,
}

/// A promise that was broken.
struct Broken {
    seed: u64,
    place: Place,
    what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BASALTMQ_FLIP_SEED={} {}: {}", self.seed, self.place, self.what)
    }
}

#[test]
fn a_flipped_bit_is_noticed_and_contained() {
    notice::install();
    let memory = Path::new("/dev/shm");
    let root = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let root = root.unwrap();
    let images = image::make(root.path());
    let only = std::env::var("BASALTMQ_FLIP_KIND").ok();
    let first = number("BASALTMQ_FLIP_SEED", 1);
    let mut counts: BTreeMap<(Kind, Outcome), u64> = BTreeMap::new();
    let mut broken = Vec::new();
    let began = Instant::now();
    for seed in first..first + number("BASALTMQ_FLIPS", 300) {
        let mut random = Random::new(seed);
        let image = &images[random.below(images.len())];
        let place = image.choose(&mut random);
        if only.as_ref().is_some_and(|only| *only != format!("{:?}", place.kind)) {
            continue;
        }
        match flip(root.path(), image, &place, &mut random) {
            Ok(outcome) => *counts.entry((place.kind, outcome)).or_default() += 1,
            Err(what) => {
                let found = Broken { seed, place, what };
                eprintln!("{found}");
                broken.push(found);
            }
        }
        let done = seed - first + 1;
        if done.is_multiple_of(500) {
            let (broken, seconds) = (broken.len(), began.elapsed().as_secs());
            eprintln!("{done} flips, {broken} promises broken, {seconds} s");
        }
    }
    for ((kind, outcome), count) in counts {
        eprintln!("{count:>6} {kind:?} {outcome:?}");
    }
    let seeds: Vec<_> = broken.iter().map(|broken| broken.seed).collect();
    assert!(seeds.is_empty(), "{} promises were broken, by the seeds {seeds:?}", seeds.len());
}

/// Flips the bit in a copy and looks at what becomes of it.
///
/// # Errors
/// The promise that was broken.
fn flip(root: &Path, image: &Image, place: &Place, random: &mut Random) -> Result<Outcome, String> {
    let work = root.join("work");
    let _none = fs::remove_dir_all(&work);
    image::copy(&image.path, &work);
    let file = File::options().read(true).write(true).open(work.join(&place.file)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, place.at).unwrap();
    file.write_all_at(&[byte[0] ^ 1 << place.bit], place.at).unwrap();
    notice::forget();
    let config = Config { path: work.clone(), ..image.config.clone() };
    let refusal = match Store::open(config.clone(), image.clock.clone()) {
        Ok(store) => {
            let seen = Seen::look(&store, image, random)?;
            let recovery = store.recovery().clone();
            store.close();
            let reported = !recovery.damaged.is_empty() || recovery.cut.is_some();
            match seen.refused {
                None => return judge(image, place, &seen, reported || notice::warnings() > 0),
                Some(refusal) => refusal,
            }
        }
        Err(error) if error.to_string().contains("mqtool store repair") => error.to_string(),
        Err(error) => return Err(format!("the refusal names no repair: {error}")),
    };
    let mut done = Vec::new();
    inspect::repair(&work, Some(&image.clock), &mut |change| done.push(change.detail))
        .map_err(|error| format!("{refusal}; repair failed after {done:?}: {error}"))?;
    let store = Store::open(config, image.clock.clone())
        .map_err(|error| format!("{refusal}; the same after the repair {done:?}: {error}"))?;
    let seen = Seen::look(&store, image, random)?;
    store.close();
    match judge(image, place, &seen, true) {
        Ok(Outcome::Harmless | Outcome::Healed) => Ok(Outcome::Repaired),
        Ok(outcome) => Ok(outcome),
        Err(_) if seen.only_outdated(image, place) => Ok(Outcome::Outdated),
        Err(lost) => Err(format!("{refusal}; after the repair {done:?}: {lost}")),
    }
}

fn judge(image: &Image, place: &Place, seen: &Seen, noticed: bool) -> Result<Outcome, String> {
    if let Some(refusal) = &seen.refused {
        return Err(refusal.clone());
    }
    if let Some(differing) = seen.differing.first() {
        return Err(format!("{} rows differ: {differing}", seen.differing.len()));
    }
    if seen.is_whole() {
        return Ok(if noticed { Outcome::Healed } else { Outcome::Harmless });
    }
    if let Some((_, what)) = seen.changed.first() {
        return Err(what.clone());
    }
    let hit = image.message_at(place);
    if !noticed {
        return Err(format!("nobody noticed: {seen}"));
    }
    let others = |of: &[usize]| of.iter().any(|message| Some(*message) != hit);
    if !others(&seen.lost) && !others(&seen.keyless) {
        return Ok(Outcome::Contained);
    }
    let torn = image.log_offset(place).filter(|at| *at >= image.durable);
    let first = seen.lost.iter().chain(&seen.keyless).min().copied();
    if torn.is_some() && first.is_some_and(|first| hit.is_none_or(|hit| first >= hit)) {
        return Ok(Outcome::Cut);
    }
    Err(format!("hit was {hit:?}: {seen}"))
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Random numbers that a seed repeats (xorshift64*).
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        let mixed = (seed ^ 0x9E37_79B9_7F4A_7C15).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        Self((mixed ^ (mixed >> 31)) | 1)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16).unwrap() % limit
    }
}
