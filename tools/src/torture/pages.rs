//! Which of the log's dirty pages have reached the disk when the power goes. Any of them may have:
//! kernels and disks write them in any order. A kernel left alone writes them one after the other
//! and in large pieces, and hardly ever loses a page between two that it keeps.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::PathBuf,
};

use super::seed::Seed;

const PAGE_BYTES: usize = 4096;
/// Segments that may have dirty pages.
const NEWEST: usize = 12;

/// What the newest segments hold while nobody writes to them, dirty pages included.
#[derive(Debug)]
pub(super) struct Pages(Vec<(PathBuf, Vec<u8>)>);

/// Which dirty pages reach the disk.
enum Written {
    /// So many in a hundred.
    Some(u64),
    /// All but so many: then records of many pages keep their first and their last and lose one in
    /// their middle.
    AllBut(u64),
}

impl Pages {
    /// Reads them.
    pub(super) fn of(mut segments: Vec<PathBuf>) -> io::Result<Self> {
        segments.drain(..segments.len().saturating_sub(NEWEST));
        let read = |path: PathBuf| fs::read(&path).map(|bytes| (path, bytes));
        segments.into_iter().map(read).collect::<Result<_, _>>().map(Self)
    }

    /// Writes some of those that the power cut took to the disk after all. What was durable is
    /// left alone: it is the same there.
    pub(super) fn write_some(&self, seed: &mut Seed) -> io::Result<()> {
        let lost = self.lost()?;
        let written = match seed.below(4) {
            0 => Written::Some(30),
            1 => Written::Some(80),
            _ => Written::AllBut(seed.between(1, 4)),
        };
        // Rather early ones, so that there is much behind them that must not come back.
        let mut early = || {
            let end = seed.below(lost.len().try_into().unwrap_or(0)) + 1;
            lost.get(usize::try_from(seed.below(end)).unwrap_or(0)).copied()
        };
        let holes: Vec<_> = match written {
            Written::Some(_) => Vec::new(),
            Written::AllBut(holes) => (0..holes).filter_map(|_| early()).collect(),
        };
        for &(segment, page) in &lost {
            let kept = match written {
                Written::Some(percent) => seed.percent(percent),
                Written::AllBut(_) => !holes.contains(&(segment, page)),
            };
            if let Some((path, bytes)) = self.0.get(segment).filter(|_| kept)
                && let Some(bytes) = bytes.chunks(PAGE_BYTES).nth(page)
            {
                let at = u64::try_from(page * PAGE_BYTES).unwrap_or(u64::MAX);
                OpenOptions::new().write(true).open(path)?.write_all_at(bytes, at)?;
            }
        }
        self.0
            .iter()
            .filter(|(path, _)| path.exists())
            .try_for_each(|(path, _)| OpenOptions::new().write(true).open(path)?.sync_data())
    }

    /// The pages that the disk has differently, by segment and number. A segment without a name on
    /// the disk has none.
    fn lost(&self) -> io::Result<Vec<(usize, usize)>> {
        let mut lost = Vec::new();
        for (segment, (path, bytes)) in self.0.iter().enumerate() {
            if !path.exists() {
                continue;
            }
            let found = fs::read(path)?;
            let pairs = bytes.chunks(PAGE_BYTES).zip(found.chunks(PAGE_BYTES)).enumerate();
            lost.extend(
                pairs.filter(|(_, (had, has))| had != has).map(|(page, _)| (segment, page)),
            );
        }
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_that_were_lost_come_back_and_not_all_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let (old, gone) = (dir.path().join("0"), dir.path().join("1"));
        fs::write(&old, [1; 40 * PAGE_BYTES]).unwrap();
        fs::write(&gone, [1; PAGE_BYTES]).unwrap();
        let pages = Pages::of(vec![old.clone(), gone.clone()]).unwrap();
        let mut disk = vec![1; 40 * PAGE_BYTES];
        disk[8 * PAGE_BYTES..].fill(0);
        for seed in 0..20 {
            fs::write(&old, &disk).unwrap();
            fs::remove_file(&gone).unwrap_or_default();
            pages.write_some(&mut Seed::new(seed)).unwrap();
            let found = fs::read(&old).unwrap();
            let of_zeros = found.chunks(PAGE_BYTES).map(|page| page.iter().all(|&byte| byte == 0));
            let holes: Vec<_> = of_zeros.enumerate().filter(|(_, zero)| *zero).collect();
            assert!(found.chunks(PAGE_BYTES).all(|page| page.iter().all(|byte| *byte == page[0])));
            assert!(!holes.is_empty() && holes.len() < 32 && holes[0].0 >= 8, "seed {seed}");
            assert!(!gone.exists());
        }
    }
}
