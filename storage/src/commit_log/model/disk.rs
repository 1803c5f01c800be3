//! A disk of live and durable bytes: what programs see, and what a power cut leaves.
//!
//! A page that was written and not synced may be on the disk in any of its versions, or torn
//! between two of them at a sector. A name that was not synced may be there or not, each for
//! itself. A sync that fails leaves its pages as they are and calls them clean.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::random::Random;
use crate::{file::Change, num::to_usize};

const PAGE_BYTES: usize = 4096;
const SECTOR_BYTES: usize = 512;

type Page = Rc<[u8; PAGE_BYTES]>;

/// The files below one directory, by path.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    files: Vec<Inode>,
    /// The names that programs see.
    live: BTreeMap<PathBuf, usize>,
    /// The names that a power cut leaves in any case.
    durable: BTreeMap<PathBuf, usize>,
    /// Changes of names since, in their order.
    pending: Vec<Name>,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    len: usize,
    durable_len: usize,
    pages: Vec<Paged>,
}

#[derive(Clone, Debug)]
struct Paged {
    live: Page,
    durable: Page,
    /// What may be on the disk instead of `durable`, oldest first; ends with `live`.
    written: Vec<Page>,
}

#[derive(Clone, Debug)]
struct Name {
    from: Option<PathBuf>,
    to: Option<PathBuf>,
    file: usize,
    /// Directories that have to be synced before the change is durable.
    waits_for: Vec<PathBuf>,
}

impl Inode {
    fn resize(&mut self, len: usize) {
        self.len = self.len.max(len);
        let zeros: Page = Rc::new([0; PAGE_BYTES]);
        while self.pages.len() * PAGE_BYTES < self.len {
            let (live, durable) = (Rc::clone(&zeros), Rc::clone(&zeros));
            self.pages.push(Paged { live, durable, written: Vec::new() });
        }
    }

    fn write(&mut self, at: usize, len: usize, byte: impl Fn(usize) -> u8) {
        self.resize(at + len);
        let first = at / PAGE_BYTES;
        for (number, page) in self.pages.iter_mut().enumerate().skip(first) {
            let start = number * PAGE_BYTES;
            if start >= at + len {
                return;
            }
            let mut bytes = *page.live;
            for place in at.max(start)..(at + len).min(start + PAGE_BYTES) {
                bytes[place - start] = byte(place - at);
            }
            page.live = Rc::new(bytes);
            page.written.push(Rc::clone(&page.live));
        }
    }

    fn sync(&mut self) {
        self.durable_len = self.len;
        for page in &mut self.pages {
            if let Some(newest) = page.written.drain(..).next_back() {
                page.durable = newest;
            }
        }
    }

    /// What a power cut leaves of the file. `torn` says that sectors may be unreadable garbage.
    fn cut(&self, random: &mut Random, garbage: bool) -> Self {
        let sizes = [self.durable_len, self.len];
        let len = sizes[random.below(2)];
        let settled =
            |page: Page| Paged { live: Rc::clone(&page), durable: page, written: Vec::new() };
        let pages = self.pages.iter().take(len.div_ceil(PAGE_BYTES));
        let pages = pages.map(|page| settled(page.cut(random, garbage))).collect();
        Self { len, durable_len: len, pages }
    }
}

impl Paged {
    fn version(&self, random: &mut Random) -> &Page {
        let version = random.below(self.written.len() + 1);
        version.checked_sub(1).map_or(&self.durable, |at| &self.written[at])
    }

    fn cut(&self, random: &mut Random, garbage: bool) -> Page {
        if self.written.is_empty() {
            return Rc::clone(&self.durable);
        }
        let one = self.version(random);
        if random.one_in(2) {
            return Rc::clone(one);
        }
        let mut torn = **one;
        let other = self.version(random);
        for sector in (0..PAGE_BYTES).step_by(SECTOR_BYTES).filter(|_| random.one_in(2)) {
            torn[sector..sector + SECTOR_BYTES]
                .copy_from_slice(&other[sector..sector + SECTOR_BYTES]);
        }
        if garbage && random.one_in(4) {
            torn[random.below(64)] ^= 0xFF;
        }
        Rc::new(torn)
    }
}

impl Disk {
    /// Does what the program did.
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { path } => {
                let file = self.files.len();
                self.files.push(Inode::default());
                self.live.insert(path.clone(), file);
                self.rename(None, Some(path), file);
            }
            Change::Allocate { path, len_bytes } => {
                let len = to_usize(*len_bytes);
                self.file(path).resize(len);
            }
            Change::Write { path, at, bytes } => {
                self.file(path).write(to_usize(*at), bytes.len(), |place| bytes[place]);
            }
            Change::Zero { path, from, to } => {
                self.file(path).write(to_usize(*from), to_usize(to - from), |_| 0);
            }
            Change::Sync { path } => self.file(path).sync(),
            Change::SyncDir { path } => self.sync_dir(path),
            Change::Rename { from, to } => {
                let file = self.live.remove(from).expect("a file that is renamed exists");
                self.live.insert(to.clone(), file);
                self.rename(Some(from), Some(to), file);
            }
            Change::Remove { path } => {
                let file = self.live.remove(path).expect("a file that is removed exists");
                self.rename(Some(path), None, file);
            }
        }
    }

    /// The file that programs know by `path`; one that was renamed keeps its old name in the
    /// records of whoever has it open.
    fn file(&mut self, path: &Path) -> &mut Inode {
        let file = self.live.get(path).or_else(|| self.live.get(&path.with_extension("")));
        let file = *file.unwrap_or_else(|| panic!("{} does not exist", path.display()));
        &mut self.files[file]
    }

    fn rename(&mut self, from: Option<&PathBuf>, to: Option<&PathBuf>, file: usize) {
        let parents = [from, to].into_iter().flatten().filter_map(|path| path.parent());
        let waits_for = parents.map(Path::to_owned).collect();
        self.pending.push(Name { from: from.cloned(), to: to.cloned(), file, waits_for });
    }

    fn sync_dir(&mut self, path: &Path) {
        for name in &mut self.pending {
            name.waits_for.retain(|dir| dir != path);
        }
        for name in self.pending.extract_if(.., |name| name.waits_for.is_empty()) {
            name.apply(&mut self.durable);
        }
    }

    /// A sync of `path` fails: some of its pages reach the disk, all of them count as clean, and
    /// memory may forget any of them.
    pub(super) fn fail_sync(&mut self, path: &Path, random: &mut Random) {
        for page in &mut self.file(path).pages {
            if page.written.is_empty() {
                continue;
            }
            page.durable = page.cut(random, false);
            page.written.clear();
            if random.one_in(4) {
                page.live = Rc::clone(&page.durable);
            }
        }
    }

    /// What a power cut leaves.
    pub(super) fn cut(&self, random: &mut Random) -> Self {
        let mut names = self.durable.clone();
        // Mostly all or nothing, as journals do it; sometimes anything.
        let (all, any) = (random.one_in(2), random.one_in(2));
        for name in &self.pending {
            if if any { random.one_in(2) } else { all } {
                name.apply(&mut names);
            }
        }
        let mut files = Vec::with_capacity(names.len());
        for (path, file) in &mut names {
            // A slot of the watermark has a page of its own because a page is what may be lost.
            let garbage = path.extension().is_some_and(|extension| extension == "watermark");
            files.push(self.files[*file].cut(random, garbage));
            *file = files.len() - 1;
        }
        Self { files, live: names.clone(), durable: names, pending: Vec::new() }
    }

    /// Puts what programs see into the directory that all paths begin with.
    pub(super) fn materialise(&self, dir: &Path) -> io::Result<()> {
        for part in [dir.to_owned(), dir.join("commitlog"), dir.join("cut")] {
            let Ok(entries) = fs::read_dir(&part) else {
                fs::create_dir_all(&part)?;
                continue;
            };
            for entry in entries {
                let path = entry?.path();
                if !self.live.contains_key(&path) && !path.is_dir() {
                    fs::remove_file(path)?;
                }
            }
        }
        let mut bytes = Vec::new();
        for (path, &file) in &self.live {
            let inode = &self.files[file];
            bytes.clear();
            for page in &inode.pages {
                bytes.extend_from_slice(&page.live[..]);
            }
            bytes.truncate(inode.len);
            let file = fs::File::options().write(true).create(true).truncate(false).open(path)?;
            file.set_len(u64::try_from(inode.len).expect("64 bits"))?;
            file.write_all_at(&bytes, 0)?;
        }
        Ok(())
    }
}

impl Name {
    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        if let Some(from) = self.from.as_ref().filter(|from| names.get(*from) == Some(&self.file)) {
            names.remove(from);
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.file);
        }
    }
}
