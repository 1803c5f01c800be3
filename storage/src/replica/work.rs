//! What is to be done to a store before it is opened: cutting the log back to what its master has,
//! beginning it anew, putting a snapshot in place of the index. Every step can be done again, and
//! the note goes when all are done.

use std::{fs, io, path::Path};

use prost::Message;

use super::{sealed, snapshot};
use crate::{
    Config, OpenError,
    commit_log::{
        allocate,
        durable::{self, Mark, MarkFile},
        recover,
    },
    file::{self, failed},
    index::DIR as INDEX_DIR,
};

const NAME: &str = "replica.work";
/// What was cut off or set aside.
const CUT_DIR: &str = "cut";
const ASIDE_DIR: &str = "aside";

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Work {
    /// Cut the log there, a copy of the rest goes to `cut/`.
    #[prost(uint64, optional, tag = "1")]
    pub cut_log_at: Option<u64>,
    /// Set the whole log aside, the new one begins there.
    #[prost(uint64, optional, tag = "2")]
    pub restart_log_at: Option<u64>,
    /// Replace the index by the staged snapshot of this id.
    #[prost(uint64, optional, tag = "3")]
    pub install_snapshot: Option<u64>,
}

/// Notes what the next open of the store in this directory does first.
///
/// # Errors
/// Of the operating system; nothing is noted.
pub fn plan(store: &Path, work: &Work) -> io::Result<()> {
    sealed::write(&store.join(NAME), work)
}

/// Does what is noted.
///
/// # Errors
/// [`OpenError::File`]; the next open goes on with it.
pub(crate) fn carry_out(config: &Config) -> Result<(), OpenError> {
    let store = &config.path;
    snapshot::remove_taken(store).map_err(failed("remove old snapshots from", store))?;
    let path = store.join(NAME);
    let Some(work) = sealed::read::<Work>(&path).map_err(failed("read", &path))? else {
        return Ok(());
    };
    tracing::warn!(?work, "the store is brought to what its master has");
    if let Some(at) = work.restart_log_at {
        restart_log(config, at)?;
    } else if let Some(at) = work.cut_log_at {
        cut_log(store, at)?;
    }
    if let Some(id) = work.install_snapshot {
        install(store, id).map_err(failed("put a snapshot into", store))?;
    }
    sealed::remove(&path).map_err(failed("remove", &path))
}

fn cut_log(store: &Path, at: u64) -> Result<(), OpenError> {
    let log_dir = store.join("commitlog");
    let mut found = recover::list(&log_dir)?;
    let Some(last) =
        found.iter().find(|segment| segment.base_offset <= at && at < segment.limit_offset())
    else {
        return Ok(());
    };
    keep_copy(store, last, at).map_err(failed("keep a copy of the end of", &last.path))?;
    set_durable(store, at)?;
    recover::cut_behind(store, &mut found, Vec::new(), (at, false))
}

/// Copies what a segment holds from `at` on, unless a copy is there.
fn keep_copy(store: &Path, segment: &recover::Found, at: u64) -> io::Result<()> {
    let bytes = fs::read(&segment.path)?;
    let rest = bytes.get(crate::num::to_usize(at - segment.base_offset)..).unwrap_or_default();
    let end = rest.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let dir = store.join(CUT_DIR);
    file::create_dir(&dir)?;
    let kept = dir.join(format!("{}.{at}", allocate::name(segment.base_offset)));
    if end == 0 || kept.try_exists()? {
        return Ok(());
    }
    let new = kept.with_extension("tmp");
    let copy = file::DiskFile::create(&new)?;
    copy.write_at(rest.get(..end).unwrap_or_default(), 0)?;
    copy.sync()?;
    file::rename(&new, &kept)?;
    tracing::warn!(at, bytes = end, kept = %kept.display(), "the master does not have this end of the log");
    Ok(())
}

fn restart_log(config: &Config, at: u64) -> Result<(), OpenError> {
    let store = &config.path;
    let log_dir = store.join("commitlog");
    let begun = log_dir.join(allocate::name(at));
    let fresh = recover::list(&log_dir)
        .is_ok_and(|found| matches!(&found[..], [only] if only.path == begun && is_empty(only)));
    if fresh {
        return Ok(());
    }
    set_aside(store, &log_dir).map_err(failed("set aside", &log_dir))?;
    let mark = store.join(durable::NAME);
    if mark.exists() {
        file::remove(&mark).map_err(failed("remove", &mark))?;
    }
    file::create_dir(&log_dir).map_err(failed("create", &log_dir))?;
    allocate::create(&log_dir, at, config.segment_size_bytes)
        .map(drop)
        .map_err(failed("allocate", &begun))
}

fn is_empty(segment: &recover::Found) -> bool {
    use std::os::unix::fs::FileExt;
    let mut head = [0; protocol::record::BLANK_BYTES];
    let read = fs::File::open(&segment.path).and_then(|file| file.read_exact_at(&mut head, 0));
    read.is_ok() && head.iter().all(|&byte| byte == 0)
}

/// Moves a directory of the store to `aside/`, in place of what was there.
fn set_aside(store: &Path, dir: &Path) -> io::Result<()> {
    let (Some(name), true) = (dir.file_name(), dir.try_exists()?) else { return Ok(()) };
    let aside = store.join(ASIDE_DIR);
    file::create_dir(&aside)?;
    let kept = aside.join(name);
    if kept.try_exists()? {
        fs::remove_dir_all(&kept)?;
    }
    file::rename(dir, &kept)?;
    file::sync_dir(store)?;
    tracing::warn!(from = %dir.display(), kept = %kept.display(), "set aside");
    Ok(())
}

/// Replaces the index.
fn install(store: &Path, id: u64) -> io::Result<()> {
    let (staged, index) = (snapshot::dir_of(store, id), store.join(INDEX_DIR));
    let old = store.join(format!("{INDEX_DIR}.old"));
    if staged.try_exists()? {
        if old.try_exists()? {
            fs::remove_dir_all(&old)?;
        }
        if index.try_exists()? {
            file::rename(&index, &old)?;
        }
        file::rename(&staged, &index)?;
        file::sync_dir(store)?;
        file::sync_dir(&store.join(snapshot::STAGE_DIR))?;
    }
    if old.try_exists()? {
        fs::remove_dir_all(&old)?;
    }
    set_durable(store, u64::MAX).map_err(io::Error::other)
}

/// Writes the durable watermark anew, not beyond `at_most`: a snapshot counts its changes as it does, whatever the index
/// before it had.
fn set_durable(store: &Path, at_most: u64) -> Result<(), OpenError> {
    let (mut file, mark) = MarkFile::open(store)?;
    let Some(Mark { durable, clean, .. }) = mark else { return Ok(()) };
    let path = store.join(durable::NAME);
    let clean = clean && durable <= at_most;
    file.write(durable.min(at_most), 0, clean).map_err(failed("write", path))
}

/// Sets everything aside that a slave cannot use: its master gives it all again.
///
/// # Errors
/// [`OpenError::File`].
pub(crate) fn discard(config: &Config, reason: &dyn std::fmt::Display) -> Result<(), OpenError> {
    let store = &config.path;
    tracing::error!(%reason, "this slave cannot use its index; it gets everything from its master again");
    for name in [INDEX_DIR, "commitlog"] {
        let dir = store.join(name);
        set_aside(store, &dir).map_err(failed("set aside", &dir))?;
    }
    let mark = store.join(durable::NAME);
    if mark.exists() {
        file::remove(&mark).map_err(failed("remove", &mark))?;
    }
    Ok(())
}
