//! Every change of the disk outside of RocksDB goes through this file, so that a test can record
//! all of them, in their order, and play the crashes that may follow each.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::fs::FallocateFlags;

use crate::{OpenError, num::to_usize};

/// Zeros are written in pieces of this size where the file system cannot zero a range by itself.
const ZERO_STEP_BYTES: u64 = 1 << 20;

/// Turns an error of the operating system into one that says what was attempted on which path.
pub(crate) fn failed(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.into();
    move |source| OpenError::File { action, path, source }
}

/// A file of the store that may be written to.
#[derive(Debug)]
pub(crate) struct DiskFile {
    file: File,
    path: PathBuf,
}

impl DiskFile {
    /// Opens a file for reading and writing.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Self::with(File::options().read(true).write(true), path)
    }

    /// As [`DiskFile::open`], and creates the file when it does not exist. Its name is durable
    /// after [`sync_dir`].
    pub(crate) fn open_or_create(path: &Path) -> io::Result<Self> {
        if !path.exists() {
            record::note(|| Change::Create { path: path.to_owned() });
        }
        Self::with(File::options().read(true).write(true).create(true).truncate(false), path)
    }

    /// Creates an empty file, whatever was there before. Its name is durable after [`sync_dir`].
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        record::note(|| Change::Create { path: path.to_owned() });
        Self::with(File::options().read(true).write(true).create(true).truncate(true), path)
    }

    fn with(options: &fs::OpenOptions, path: &Path) -> io::Result<Self> {
        Ok(Self { file: options.open(path)?, path: path.to_owned() })
    }

    /// The file itself, to map it or to read it.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Reserves blocks for the first `len_bytes` and makes the file at least that long, as zeros.
    pub(crate) fn allocate(&self, len_bytes: u64) -> io::Result<()> {
        rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, len_bytes)?;
        record::note(|| Change::Allocate { path: self.path.clone(), len_bytes });
        Ok(())
    }

    /// Writes all of `bytes` at a position of the file.
    pub(crate) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, at)?;
        record::note(|| Change::Write { path: self.path.clone(), at, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Makes `from..to` read as zeros, its blocks still reserved.
    pub(crate) fn zero(&self, from: u64, to: u64) -> io::Result<()> {
        record::note(|| Change::Zero { path: self.path.clone(), from, to });
        if rustix::fs::fallocate(&self.file, FallocateFlags::ZERO_RANGE, from, to - from).is_ok() {
            return Ok(());
        }
        // Not every file system can. Zeros are written even where zeros are read: what the disk
        // has may differ.
        let zeros = vec![0; to_usize((to - from).min(ZERO_STEP_BYTES))];
        let mut at = from;
        while at < to {
            let (zeros, _) = zeros.split_at(to_usize((to - at).min(ZERO_STEP_BYTES)));
            self.file.write_all_at(zeros, at)?;
            at += ZERO_STEP_BYTES;
        }
        Ok(())
    }

    /// Makes the content durable, and the length if it matters for reading it.
    ///
    /// # Errors
    /// The disk failed. The caller must not try again: the kernel reports a failure once and takes
    /// the pages for clean afterwards.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        record::note(|| Change::Sync { path: self.path.clone() });
        Ok(())
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()?;
    record::note(|| Change::SyncDir { path: path.to_owned() });
    Ok(())
}

/// Creates a directory and its parents, durably.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    path.parent().map_or(Ok(()), |parent| {
        sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    })
}

/// Gives a file its final name, durably. Both names must be in directories that exist.
#[expect(clippy::disallowed_methods, reason = "this is the durable rename")]
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    record::note(|| Change::Rename { from: from.to_owned(), to: to.to_owned() });
    let parents = [from.parent(), to.parent()];
    parents.into_iter().flatten().try_for_each(sync_dir)
}

/// Removes a file. It is gone for good after [`sync_dir`]; until then a power cut may bring it back.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    record::note(|| Change::Remove { path: path.to_owned() });
    Ok(())
}

/// One change of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A file was created, empty, or made empty.
    Create { path: PathBuf },
    /// A file has at least this length now; what is new reads as zeros.
    Allocate { path: PathBuf, len_bytes: u64 },
    /// Bytes were written.
    Write { path: PathBuf, at: u64, bytes: Vec<u8> },
    /// A range reads as zeros now.
    Zero { path: PathBuf, from: u64, to: u64 },
    /// The content of a file is durable.
    Sync { path: PathBuf },
    /// The names in a directory are durable.
    SyncDir { path: PathBuf },
    /// A file has another name.
    Rename { from: PathBuf, to: PathBuf },
    /// A file has no name any more.
    Remove { path: PathBuf },
}

/// What a thread did to the disk, in its order, for tests that crash in between.
pub(crate) mod record {
    use super::Change;

    #[cfg(not(test))]
    pub(super) fn note(_: impl FnOnce() -> Change) {}

    #[cfg(test)]
    pub(crate) use kept::*;

    #[cfg(test)]
    mod kept {
        use std::cell::RefCell;

        use super::Change;

        thread_local! {
            static RECORD: RefCell<Option<Vec<Change>>> = const { RefCell::new(None) };
        }

        /// Begins a record of what this thread does.
        pub(crate) fn start() {
            RECORD.with_borrow_mut(|record| *record = Some(Vec::new()));
        }

        /// Number of changes so far; 0 without a record.
        pub(crate) fn len() -> usize {
            RECORD.with_borrow(|record| record.as_ref().map_or(0, Vec::len))
        }

        /// Ends the record and returns it.
        pub(crate) fn take() -> Vec<Change> {
            RECORD.with_borrow_mut(Option::take).unwrap_or_default()
        }

        pub(crate) fn note(change: impl FnOnce() -> Change) {
            RECORD.with_borrow_mut(|record| {
                if let Some(record) = record {
                    record.push(change());
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_recorded_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        record::start();
        let file = DiskFile::create(&one).unwrap();
        file.allocate(8192).unwrap();
        file.write_at(b"abc", 5).unwrap();
        file.sync().unwrap();
        rename(&one, &two).unwrap();
        assert_eq!(record::len(), 7);
        let file = DiskFile::open_or_create(&two).unwrap();
        file.zero(5, 7).unwrap();
        remove(&two).unwrap();
        let path = one.clone();
        let dir = dir.path().to_owned();
        let expected = [
            Change::Create { path: path.clone() },
            Change::Allocate { path: path.clone(), len_bytes: 8192 },
            Change::Write { path: path.clone(), at: 5, bytes: b"abc".to_vec() },
            Change::Sync { path: path.clone() },
            Change::Rename { from: path, to: two.clone() },
            Change::SyncDir { path: dir.clone() },
            Change::SyncDir { path: dir },
            Change::Zero { path: two.clone(), from: 5, to: 7 },
            Change::Remove { path: two },
        ];
        assert_eq!(record::take(), expected);
        assert!(record::take().is_empty());
    }

    #[test]
    fn zeroed_range_reads_as_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let file = DiskFile::create(&dir.path().join("file")).unwrap();
        file.write_at(&[7; 10_000], 0).unwrap();
        file.zero(1, 9_999).unwrap();
        let bytes = fs::read(dir.path().join("file")).unwrap();
        assert_eq!((bytes.len(), bytes[0], bytes[9_999]), (10_000, 7, 7));
        assert!(bytes[1..9_999].iter().all(|&byte| byte == 0));
    }
}
