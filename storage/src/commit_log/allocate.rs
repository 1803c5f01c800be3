//! Segments made ahead of the writer by a helper thread: allocated on disk, never sparse, and
//! backed with memory a few MiB before they are written to.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::FallocateFlags;

use super::segment::{Segment, Writer};
use crate::{file, num::to_usize};

/// One step of backing pages with memory: long enough to be cheap, short enough to keep ahead.
const POPULATE_STEP_BYTES: u64 = 4 << 20;

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
    populate: Option<Populate>,
    /// The current segment is populated to its end: begin with the next one.
    populate_ready: bool,
    /// The kernel cannot do it, or there was no memory: the writer's own page faults will do.
    populate_refused: bool,
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

/// A range of a segment that is about to be written.
#[derive(Debug)]
struct Populate {
    segment: Arc<Segment>,
    from: u64,
    to: u64,
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

    /// Asks for `from..to` of a segment to be backed with memory soon. A wish for the same segment
    /// grows, one for another segment comes too late and is dropped.
    pub(crate) fn populate(&self, segment: &Arc<Segment>, from: u64, to: u64) {
        let mut state = self.lock();
        if state.populate_refused {
            return;
        }
        match &mut state.populate {
            Some(job) if Arc::ptr_eq(&job.segment, segment) => job.to = job.to.max(to),
            job => *job = Some(Populate { segment: Arc::clone(segment), from, to }),
        }
        state.populate_ready = to >= segment.limit_offset();
        self.changed.notify_all();
    }

    /// Ends [`Allocator::run`].
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    /// The helper thread's loop.
    pub(crate) fn run(&self) {
        let mut state = self.lock();
        while !state.stop {
            if let Some(step) = state.next_step() {
                drop(state);
                let refused = step.segment.populate(step.from, step.to).err();
                state = self.lock();
                if let Some(error) = refused {
                    tracing::info!(%error, "segments are not populated ahead");
                    state.populate_refused = true;
                    state.populate = None;
                }
            } else if let Wish::Wanted(base_offset) = state.wish {
                state.wish = Wish::Making;
                drop(state);
                let made = create(&self.dir, base_offset, self.segment_size_bytes);
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

impl State {
    /// Splits one step off the range that is to be populated.
    fn next_step(&mut self) -> Option<Populate> {
        if self.populate.is_none() && self.populate_ready {
            let segment = Arc::clone(self.ready.as_ref()?.segment());
            let from = segment.base_offset();
            let to = segment.limit_offset().min(from + POPULATE_STEP_BYTES);
            self.populate_ready = false;
            self.populate = Some(Populate { segment, from, to });
        }
        let job = self.populate.as_mut()?;
        let to = job.to.min(job.from + POPULATE_STEP_BYTES);
        let step = Populate { segment: Arc::clone(&job.segment), from: job.from, to };
        job.from = to;
        if job.from >= job.to {
            self.populate = None;
        }
        Some(step)
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
    let made = File::options()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(&temporary)
        .and_then(|file| {
            rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size_bytes)?;
            file.sync_all()?;
            file::rename(&temporary, &path)?;
            Writer::open(&file, base_offset, to_usize(size_bytes))
        });
    if made.is_err() {
        // Best effort: the first error is the one to report.
        let _ignored = fs::remove_file(&temporary);
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_is_made_ahead_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let allocator = Arc::new(Allocator::new(dir.path(), 1 << 20));
        let thread = std::thread::spawn({
            let allocator = Arc::clone(&allocator);
            move || allocator.run()
        });
        allocator.want(1 << 20);
        let writer = allocator.take(1 << 20).unwrap();
        assert_eq!(writer.segment().base_offset(), 1 << 20);
        let file = fs::metadata(dir.path().join("00000000000001048576")).unwrap();
        assert_eq!(file.len(), 1 << 20);
        assert!(std::os::unix::fs::MetadataExt::blocks(&file) * 512 >= 1 << 20, "sparse");
        allocator.populate(writer.segment(), 1 << 20, 2 << 20);
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
            move || allocator.run()
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
            move || allocator.run()
        });
        for i in 0..50 {
            let writer = allocator.take(i << 16).unwrap();
            assert_eq!(writer.segment().base_offset(), i << 16);
            // Wakes whoever waits, whatever it waits for.
            allocator.populate(writer.segment(), i << 16, (i + 1) << 16);
            allocator.want((i + 1) << 16);
        }
        allocator.stop();
        thread.join().unwrap();
    }
}
