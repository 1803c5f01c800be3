//! Single bits flipped anywhere: whatever was hit, a repair leaves a store without problems that
//! serves every message but at most the one that was hit.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use storage::inspect;

use crate::stopped::{COUNT, QUEUES, Stopped};

/// Flips of an ordinary run; `BASALTMQ_FLIPS` asks for more, `BASALTMQ_SEED` for others.
const FLIPS: u64 = 12;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// SplitMix64: small, and the same everywhere.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Everything that means something: the log up to its end, its watermark, and RocksDB.
fn files(store: &Path) -> Vec<PathBuf> {
    let mut files = vec![store.join("commitlog.watermark")];
    for dir in ["commitlog", "rocksdb"] {
        let entries = fs::read_dir(store.join(dir)).unwrap().map(|entry| entry.unwrap().path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    files.retain(|path| path.metadata().unwrap().len() > 0);
    files.sort();
    files
}

#[test]
fn one_flipped_bit_costs_at_most_one_message() {
    let original = Stopped::new();
    let end = original.end().0;
    let seed = number("BASALTMQ_SEED").unwrap_or(20_261_124);
    for flip in 0..number("BASALTMQ_FLIPS").unwrap_or(FLIPS) {
        let mut state = seed.wrapping_add(flip);
        let image = original.copy();
        let files = files(image.scratch.path());
        let path = &files[usize::try_from(random(&mut state)).unwrap() % files.len()];
        let base = path.file_name().unwrap().to_str().unwrap().parse().unwrap_or(0_u64);
        let len = path.metadata().unwrap().len().min(end.saturating_sub(base).max(1));
        let (at, bit) = (random(&mut state) % len, random(&mut state) % 8);
        let file = File::options().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ (1 << bit)], at).unwrap();
        let name = path.strip_prefix(image.scratch.path()).unwrap();
        println!("seed {} bit {bit} of byte {at} of {}", seed + flip, name.display());
        check(&image, base + at);
    }
}

fn check(image: &Stopped, hit: u64) {
    let path = image.scratch.path();
    let mut found = Vec::new();
    let mut changes = Vec::new();
    let before = inspect::verify(path, &mut |problem| found.push(problem)).unwrap();
    let clock = Some(&image.scratch.clock);
    let repaired = inspect::repair(path, clock, &mut |change| changes.push(change)).unwrap();
    let after = repaired.after.unwrap_or(before);
    assert_eq!(after.problems, 0, "{found:#?}\n{changes:#?}");
    let all = (0..QUEUES).flat_map(|queue| (0..COUNT).map(move |number| (queue, number)));
    let mut lost: Vec<_> = all
        .filter(|&(queue, number)| {
            let at = image.at(queue, number);
            (at.log_offset.0..at.log_offset.0 + u64::from(at.size)).contains(&hit)
        })
        .collect();
    // A flip elsewhere than in the log hits no message.
    lost.retain(|_| after.damaged_bytes > 0);
    image.serves_all_but(&lost).close();
}
