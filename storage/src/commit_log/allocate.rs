//! Segments made ahead of the writer by a thread of their own: allocated on disk, never sparse.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::segment::Writer;
use crate::{
    file::{self, DiskFile},
    num::to_usize,
};

/// After a failed allocation the next is tried this much later: a full disk must not turn every
/// append into a system call.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Makes one segment ahead. Shared by the writer and the helper thread.
#[derive(Debug)]
pub(crate) struct Allocator {
    dir: PathBuf,
    segment_size_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wish: Wish,
    ready: Option<Writer>,
    failure: Option<(Instant, Arc<str>)>,
    stop: bool,
}

/// The segment that comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Nothing,
    /// To be made, with this base offset.
    Wanted(u64),
    /// Being made right now: asking again would make it twice.
    Making,
}

impl Allocator {
    pub(crate) fn new(dir: &Path, segment_size_bytes: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            segment_size_bytes,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a segment that starts at `base_offset`, to be taken later.
    pub(crate) fn want(&self, base_offset: u64) {
        self.lock().wish = Wish::Wanted(base_offset);
        self.changed.notify_all();
    }

    /// The segment that starts at `base_offset`, waiting for it if need be.
    ///
    /// # Errors
    /// Why there is none; most likely the disk is full.
    pub(crate) fn take(&self, base_offset: u64) -> Result<Writer, Arc<str>> {
        let mut state = self.lock();
        loop {
            if let Some(ready) = state.ready.take() {
                debug_assert_eq!(ready.segment().base_offset(), base_offset);
                return Ok(ready);
            }
            if state.stop {
                return Err(Arc::from("the store is closing"));
            }
            match &state.failure {
                Some((when, reason)) if when.elapsed() < RETRY_AFTER => {
                    return Err(Arc::clone(reason));
                }
                _ => state.failure = None,
            }
            if state.wish != Wish::Making {
                state.wish = Wish::Wanted(base_offset);
                self.changed.notify_all();
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Removes the segment that was made ahead, because its space is needed for something else. It
    /// is made again when it is wanted.
    pub(crate) fn give_back(&self) {
        let Some(ready) = self.lock().ready.take() else { return };
        let path = self.dir.join(name(ready.segment().base_offset()));
        match file::remove(&path) {
            Ok(()) => tracing::warn!(path = %path.display(), "removed for its space"),
            Err(error) => tracing::error!(path = %path.display(), %error, "cannot be removed"),
        }
    }

    /// Makes a segment at once.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn create(&self, base_offset: u64, size_bytes: u64) -> io::Result<Writer> {
        create(&self.dir, base_offset, size_bytes)
    }

    /// Removes the file of a segment, durably.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn remove(&self, base_offset: u64) -> io::Result<()> {
        file::remove(&self.dir.join(name(base_offset)))?;
        file::sync_dir(&self.dir)
    }

    /// Ends [`Allocator::run`].
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// The thread's loop. `room_for` says whether the disk has room for so many bytes.
    pub(crate) fn run(&self, room_for: &dyn Fn(u64) -> io::Result<()>) {
        let mut state = self.lock();
        while !state.stop {
            if let Wish::Wanted(base_offset) = state.wish {
                state.wish = Wish::Making;
                drop(state);
                let made = room_for(self.segment_size_bytes)
                    .and_then(|()| create(&self.dir, base_offset, self.segment_size_bytes));
                state = self.lock();
                state.wish = Wish::Nothing;
                match made {
                    Ok(writer) => state.ready = Some(writer),
                    Err(error) => {
                        tracing::warn!(%error, base_offset, "cannot allocate a segment");
                        let reason = Arc::from(error.to_string());
                        state.failure = Some((Instant::now(), reason));
                    }
                }
                self.changed.notify_all();
            } else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// The file name of the segment that starts at `base_offset`.
pub(crate) fn name(base_offset: u64) -> String {
    format!("{base_offset:020}")
}

/// Creates a segment with all its blocks reserved, durably, under a temporary name first: a file
/// with a segment's name is always whole.
///
/// # Errors
/// There is such a segment already, or of the operating system; nothing is left behind.
pub(crate) fn create(dir: &Path, base_offset: u64, size_bytes: u64) -> io::Result<Writer> {
    let path = dir.join(name(base_offset));
    if path.exists() {
        // Replacing a segment would lose its records.
        return Err(io::Error::other(format!("{} exists already", path.display())));
    }
    let temporary = path.with_extension("tmp");
    let made = DiskFile::create(&temporary).and_then(|file| {
        file.allocate(size_bytes)?;
        file.sync()?;
        file::rename(&temporary, &path)?;
        Writer::open(file, base_offset, to_usize(size_bytes))
    });
    if made.is_err() {
        // Best effort: the first error is the one to report.
        let _ignored = file::remove(&temporary);
    }
    made
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn segment_is_made_ahead_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let allocator = Arc::new(Allocator::new(dir.path(), 1 << 20));
        let thread = std::thread::spawn({
            let allocator = Arc::clone(&allocator);
            move || allocator.run(&|_| Ok(()))
        });
        allocator.want(1 << 20);
        let writer = allocator.take(1 << 20).unwrap();
        assert_eq!(writer.segment().base_offset(), 1 << 20);
        let file = fs::metadata(dir.path().join("00000000000001048576")).unwrap();
        assert_eq!(file.len(), 1 << 20);
        assert!(std::os::unix::fs::MetadataExt::blocks(&file) * 512 >= 1 << 20, "sparse");
        allocator.stop();
        thread.join().unwrap();
    }

    #[test]
    fn segment_that_was_given_back_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let allocator = Arc::new(Allocator::new(dir.path(), 1 << 16));
        let thread = std::thread::spawn({
            let allocator = Arc::clone(&allocator);
            move || allocator.run(&|_| Ok(()))
        });
        allocator.give_back();
        allocator.want(0);
        while allocator.lock().ready.is_none() {
            std::thread::yield_now();
        }
        allocator.give_back();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(allocator.take(0).unwrap().segment().base_offset(), 0);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        allocator.stop();
        thread.join().unwrap();
    }

    #[test]
    fn failure_is_reported_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let allocator = Arc::new(Allocator::new(&missing, 1 << 20));
        let thread = std::thread::spawn({
            let allocator = Arc::clone(&allocator);
            move || allocator.run(&|_| Ok(()))
        });
        let reason = allocator.take(0).unwrap_err();
        assert!(reason.contains("No such file"), "{reason}");
        allocator.stop();
        thread.join().unwrap();
        // More than any file system holds.
        create(dir.path(), 0, 1 << 62).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn existing_segment_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name(0));
        fs::write(&path, "records").unwrap();
        create(dir.path(), 0, 1 << 16).unwrap_err();
        assert_eq!(fs::read(&path).unwrap(), b"records");
    }

    #[test]
    fn impatient_takers_get_one_segment_each() {
        let dir = tempfile::tempdir().unwrap();
        let allocator = Arc::new(Allocator::new(dir.path(), 1 << 16));
        let thread = std::thread::spawn({
            let allocator = Arc::clone(&allocator);
            move || allocator.run(&|_| Ok(()))
        });
        for i in 0..50 {
            let writer = allocator.take(i << 16).unwrap();
            assert_eq!(writer.segment().base_offset(), i << 16);
            allocator.want((i + 1) << 16);
        }
        allocator.stop();
        thread.join().unwrap();
    }
}
