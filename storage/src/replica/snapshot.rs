//! Copies of the index: taken by a master, staged by a slave.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use rocksdb::checkpoint::Checkpoint;

use super::ReplicaError;
use crate::{
    core::Core,
    file::{self, DiskFile},
    index::{Index, meta, read_error},
};

/// Where a master has them, and where a slave puts what arrives.
pub(super) const TAKEN_DIR: &str = "snapshots";
pub(super) const STAGE_DIR: &str = "stage";

/// So that two snapshots of one process have two names.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// A copy of the index. Dropping it removes the files.
#[derive(Debug)]
pub struct Snapshot {
    /// Differs from that of any other.
    pub id: u64,
    /// RocksDB's last sequence number in it.
    pub sequence: u64,
    /// Nothing in it speaks of the log at or beyond this offset.
    pub needs: u64,
    /// Its files.
    pub files: Vec<SnapshotFile>,
    dir: PathBuf,
}

pub(super) fn take(core: &Core) -> Result<Snapshot, ReplicaError> {
    let failed =
        |error: io::Error| ReplicaError::File { reason: format!("a snapshot failed: {error}") };
    let parent = core.config.path.join(TAKEN_DIR);
    file::create_dir(&parent).map_err(failed)?;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let time = u64::try_from(core.clock.now_ms()).unwrap_or_default();
    // Not 0, and another one after a restart.
    let id = (time << 16) | ((count + 1) & 0xFFFF);
    let mut snapshot =
        Snapshot { id, sequence: 0, needs: 0, files: Vec::new(), dir: parent.join(id.to_string()) };
    {
        let guard = core.index.db()?;
        let checkpoint = Checkpoint::new(guard.db()).map_err(read_error)?;
        checkpoint.create_checkpoint(&snapshot.dir).map_err(read_error)?;
    }
    let index = Index::read_only(&snapshot.dir)
        .map_err(|error| ReplicaError::File { reason: error.to_string() })?;
    let guard = index.db()?;
    snapshot.sequence = guard.db().latest_sequence_number();
    snapshot.needs = meta::log_end(&guard)?;
    drop(guard);
    index.close();
    snapshot.files = list(&snapshot.dir).map_err(failed)?;
    Ok(snapshot)
}

fn list(dir: &Path) -> io::Result<Vec<SnapshotFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name =
            entry.file_name().into_string().map_err(|_| io::Error::other("a strange name"))?;
        // Written when the copy was looked at.
        if name != "LOG" {
            files.push(SnapshotFile { name, bytes: entry.metadata()?.len() });
        }
    }
    files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

impl Snapshot {
    /// Bytes of one of its files, as many as there are from `offset` on, but at most `max_bytes`.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn read(&self, name: &str, offset: u64, max_bytes: usize) -> io::Result<Bytes> {
        let of = self.files.iter().find(|file| file.name == name);
        let of =
            of.ok_or_else(|| io::Error::other(format!("the snapshot has no file {name:?}")))?;
        let left = usize::try_from(of.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(max_bytes)];
        File::open(self.dir.join(name))?.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "a snapshot stays until the next start");
        }
    }
}

/// A snapshot that arrives, file by file. It survives a restart.
#[derive(Debug)]
pub struct Stage {
    dir: PathBuf,
}

/// Begins or goes on with the snapshot of this id in the directory of a store; those with another
/// id are removed.
///
/// # Errors
/// Of the operating system.
pub fn stage(store: &Path, snapshot_id: u64) -> io::Result<Stage> {
    let parent = store.join(STAGE_DIR);
    file::create_dir(&parent)?;
    let dir = dir_of(store, snapshot_id);
    for entry in fs::read_dir(&parent)? {
        let path = entry?.path();
        if path != dir {
            fs::remove_dir_all(path)?;
        }
    }
    file::create_dir(&dir)?;
    Ok(Stage { dir })
}

pub(super) fn dir_of(store: &Path, snapshot_id: u64) -> PathBuf {
    store.join(STAGE_DIR).join(snapshot_id.to_string())
}

impl Stage {
    /// How much of a file is here.
    ///
    /// # Errors
    /// Of the operating system, or the name is none.
    pub fn have(&self, name: &str) -> io::Result<u64> {
        match fs::metadata(self.path(name)?) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Adds bytes to a file.
    ///
    /// # Errors
    /// Of the operating system, or the name is none, or they do not follow what is here.
    pub fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let path = self.path(name)?;
        let here = self.have(name)?;
        if here != offset {
            return Err(io::Error::other(format!(
                "{name} has {here} bytes, those at {offset} came"
            )));
        }
        DiskFile::open_or_create(&path)?.write_at(bytes, offset)
    }

    /// Makes everything durable, if it is complete.
    ///
    /// # Errors
    /// Of the operating system, or a file has another length.
    pub fn finish(&self, files: &[SnapshotFile]) -> io::Result<()> {
        for SnapshotFile { name, bytes } in files {
            let here = self.have(name)?;
            if here != *bytes {
                return Err(io::Error::other(format!(
                    "{name} has {here} bytes instead of {bytes}"
                )));
            }
            DiskFile::open_or_create(&self.path(name)?)?.sync()?;
        }
        file::sync_dir(&self.dir)
    }

    /// Names come from another machine.
    fn path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        if name.is_empty() || name.starts_with('.') || name.len() > 128 || !name.bytes().all(plain)
        {
            return Err(io::Error::other(format!("{name:?} is no name of a snapshot's file")));
        }
        Ok(self.dir.join(name))
    }
}

/// Removes the snapshots that an earlier process has taken.
///
/// # Errors
/// Of the operating system.
pub(super) fn remove_taken(store: &Path) -> io::Result<()> {
    match fs::remove_dir_all(store.join(TAKEN_DIR)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_goes_on_where_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let files = [SnapshotFile { name: "a.sst".to_owned(), bytes: 4 }];
        let first = stage(dir.path(), 7).unwrap();
        first.write("a.sst", 0, b"ab").unwrap();
        assert!(first.write("a.sst", 3, b"x").unwrap_err().to_string().contains("has 2 bytes"));
        assert!(first.finish(&files).unwrap_err().to_string().contains("instead of 4"));
        let again = stage(dir.path(), 7).unwrap();
        assert_eq!(again.have("a.sst").unwrap(), 2);
        again.write("a.sst", 2, b"cd").unwrap();
        again.finish(&files).unwrap();
        assert_eq!(stage(dir.path(), 8).unwrap().have("a.sst").unwrap(), 0);
        assert!(!dir_of(dir.path(), 7).exists());
        for name in ["../a", "a/b", "", ".hidden", "a\0"] {
            assert!(again.write(name, 0, b"x").is_err(), "{name:?}");
        }
    }
}
