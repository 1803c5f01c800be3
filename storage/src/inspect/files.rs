//! The files of a store, as they lie there.

use std::{
    fs,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use rustix::fs::SeekFrom;

use super::Error;
use crate::{
    commit_log::{
        durable::{self, Mark},
        recover::Found,
        scan::{Scanner, Step},
    },
    file::failed,
    num::{to_u64, to_usize},
};

const STEP_BYTES: u64 = 1 << 20;

/// The log's files and its watermark.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) dir: PathBuf,
    /// Ascending; there may be gaps between them.
    pub(super) segments: Vec<Found>,
    /// What else lies in the log's directory.
    pub(super) others: Vec<PathBuf>,
    pub(super) marks: [Option<Mark>; 2],
}

/// Where two neighbouring segments do not meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Where the next segment should start.
    pub(super) from: u64,
    /// Where it starts.
    pub(super) to: u64,
}

impl Files {
    pub(super) fn read(dir: &Path) -> Result<Self, Error> {
        let marks = durable::read(dir).map_err(failed("read", dir.join(durable::NAME)))?;
        let mut files =
            Self { dir: dir.to_owned(), segments: Vec::new(), others: Vec::new(), marks };
        let log_dir = dir.join("commitlog");
        let entries = match fs::read_dir(&log_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(files),
            Err(error) => return Err(failed("read", log_dir)(error).into()),
        };
        for entry in entries {
            let entry = entry.map_err(failed("read", &log_dir))?;
            let path = entry.path();
            let name = entry.file_name();
            match name.to_str().map(|name| (name.len(), name.parse())) {
                Some((20, Ok(base_offset))) => {
                    let len = entry.metadata().map_err(failed("read", &path))?.len();
                    files.segments.push(Found { base_offset, len, path });
                }
                _ => files.others.push(path),
            }
        }
        files.segments.sort_unstable_by_key(|segment| segment.base_offset);
        Ok(files)
    }

    /// Forgets segments that end at or before this log offset: they had been deleted, and are back
    /// after a power cut.
    pub(super) fn forget_before(&mut self, log_min: u64) {
        let gone = self.segments.extract_if(.., |segment| segment.limit_offset() <= log_min);
        self.others.extend(gone.map(|segment| segment.path));
    }

    /// The newest intact mark.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.marks.into_iter().flatten().max_by_key(|mark| mark.sequence)
    }

    pub(super) fn min(&self) -> u64 {
        self.segments.first().map_or(0, |segment| segment.base_offset)
    }

    pub(super) fn gaps(&self) -> Vec<Gap> {
        let next = self.segments.iter().skip(1);
        let pairs = self.segments.iter().zip(next).filter(|(_, next)| next.len > 0);
        pairs
            .map(|(one, next)| Gap { from: one.limit_offset(), to: next.base_offset })
            .filter(|gap| gap.from != gap.to)
            .collect()
    }

    /// The segment that holds a log offset.
    pub(super) fn segment_at(&self, offset: u64) -> Option<&Found> {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        let segment = after.checked_sub(1).and_then(|at| self.segments.get(at))?;
        (offset < segment.limit_offset()).then_some(segment)
    }
}

/// Reads single records; cheapest in the order of the log.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    files: &'a Files,
    open: Option<(u64, Scanner)>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(files: &'a Files) -> Self {
        Self { files, open: None }
    }

    /// What is at `offset`; nothing if no segment holds it.
    pub(super) fn at(&mut self, offset: u64) -> io::Result<Step<'_>> {
        let Some(segment) = self.files.segment_at(offset) else { return Ok(Step::Empty) };
        let open = self.open.as_ref().is_some_and(|(base, _)| *base == segment.base_offset);
        if !open {
            let scanner = Scanner::open(&segment.path, segment.base_offset)?;
            self.open = Some((segment.base_offset, scanner));
        }
        match &mut self.open {
            Some((_, scanner)) => scanner.step(offset),
            None => Ok(Step::Empty),
        }
    }
}

/// Position of the first byte of `from..to` of a file that is not zero. Holes cost nothing.
pub(super) fn first_data(path: &Path, from: u64, to: u64) -> io::Result<Option<u64>> {
    let file = File::open(path)?;
    let mut buffer = vec![0; to_usize(STEP_BYTES.min(to.saturating_sub(from)))];
    let mut at = from;
    while at < to {
        at = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(data) if data >= to => return Ok(None),
            Ok(data) => data,
            // Nothing but a hole up to the end of the file.
            Err(rustix::io::Errno::NXIO) => return Ok(None),
            // Not every file system knows its holes.
            Err(rustix::io::Errno::INVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let len = to_usize((to - at).min(STEP_BYTES));
        let bytes = buffer.get_mut(..len).unwrap_or_default();
        file.read_exact_at(bytes, at)?;
        // A whole word at a time; the bytes of a segment are mostly zeros or mostly not.
        if let Some(place) = bytes.iter().position(|&byte| byte != 0) {
            return Ok(Some(at + to_u64(place)));
        }
        at += to_u64(len);
    }
    Ok(None)
}

/// Bytes that files take on the disk below a directory, or of one file; 0 when it is not there.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.blocks() * 512;
    }
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    entries.flatten().map(|entry| bytes_on_disk(&entry.path())).sum()
}
