//! Finding the end of the log after a stop, and making that end durable before anything is
//! appended behind it.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    CommitLog, allocate,
    durable::{self, Mark, MarkFile},
    scan::{Scanner, Step},
    segment,
};
use crate::{
    LogOffset, OpenError,
    bug::{self, Bug},
    file::{self, DiskFile, failed},
    num::to_usize,
    recovery::Cut,
};

/// No log gets this far, whatever a file is called.
const OFFSET_MAX: u64 = 1 << 62;

/// One segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) base_offset: u64,
    pub(crate) len: u64,
    pub(crate) path: PathBuf,
}

impl Found {
    pub(crate) fn limit_offset(&self) -> u64 {
        self.base_offset + self.len
    }
}

/// A log that is ready for appending.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) log: Arc<CommitLog>,
    pub(crate) current: segment::Writer,
    pub(crate) mark: MarkFile,
    pub(crate) found: Vec<Found>,
    pub(crate) end: u64,
    pub(crate) cut: Option<Cut>,
    /// Bytes whose durability nothing vouched for.
    pub(crate) unsynced_bytes: u64,
    /// How long the disk took to write what the kernel still had of them.
    pub(crate) synced_in: Duration,
}

/// Recovers the log in `dir/commitlog`. `checkpoint` is the log offset up to which the index holds
/// everything; it stands in for a durable watermark that is lost.
///
/// # Errors
/// [`OpenError`]; the log is as it was.
pub(crate) fn open(
    dir: &Path,
    segment_size_bytes: u64,
    checkpoint: u64,
    (mut mark_file, mark): (MarkFile, Option<Mark>),
) -> Result<Opened, OpenError> {
    let log_dir = dir.join("commitlog");
    file::create_dir(&log_dir).map_err(failed("create", &log_dir))?;
    let mut found = list(&log_dir)?;
    let durable = durable_start(&found, mark, checkpoint);
    let stray = contiguous(&log_dir, &mut found, durable)?;
    let clean = mark.is_some_and(|mark| mark.clean) && nothing_behind(&found, durable)?;
    let mut forgotten = Forgotten::default();
    if !clean && !bug::on(Bug::NoRedirty) {
        forgotten = read_from_disk(&found, durable)?;
    }
    let (end, reason) = match mark {
        Some(_) if clean => (durable, None),
        Some(_) => find_end(&found, durable, durable)?,
        None => find_end(&found, durable, checkpoint)?,
    };
    let cut = reason.map(|reason| Cut { at: LogOffset(end), reason });
    if let Some(cut) = &cut {
        tracing::warn!(at = %cut.at, reason = cut.reason, "the torn tail of the log is cut");
    }
    cut_behind(dir, &mut found, stray, (end, clean))?;
    let (segments, current) =
        map(&log_dir, &mut found, (durable, end, forgotten.all), segment_size_bytes)?;
    // A program that was killed may have left names that it had not synced yet.
    for dir in [dir, &log_dir] {
        file::sync_dir(dir).map_err(failed("sync", dir))?;
    }
    // From here on a stop is not clean, and what was recovered must not be cut by a later one.
    let index_sequence = mark.map_or(0, |mark| mark.index_sequence);
    let path = dir.join(durable::NAME);
    mark_file.write(end, index_sequence, false).map_err(failed("write", path))?;
    let log = Arc::new(CommitLog::new(segments, end));
    let (unsynced_bytes, synced_in) = (end.saturating_sub(durable), forgotten.synced_in);
    Ok(Opened { log, current, mark: mark_file, found, end, cut, unsynced_bytes, synced_in })
}

/// Whether the log really ends where it was closed. If not, another program has appended to it.
fn nothing_behind(found: &[Found], end: u64) -> Result<bool, OpenError> {
    let Some(segment) = found.iter().find(|segment| segment.limit_offset() > end) else {
        return Ok(true);
    };
    let failed = || failed("read", &segment.path);
    let mut scanner = Scanner::open(&segment.path, segment.base_offset).map_err(failed())?;
    let nothing = match scanner.step(end.max(segment.base_offset)).map_err(failed())? {
        Step::Empty => true,
        Step::Filled | Step::Record(_) | Step::Invalid(_) => false,
    };
    if !nothing {
        tracing::warn!(end, "there is more in the log than when it was closed; it is verified");
    }
    Ok(nothing)
}

/// What [`read_from_disk`] has reached.
#[derive(Debug, Default)]
struct Forgotten {
    /// The kernel holds nothing any more, so all that is read from now on is on the disk.
    all: bool,
    synced_in: Duration,
}

/// Makes the kernel forget what it holds of the part that is to be verified. After a sync that
/// failed it may show bytes that the disk never got, and ext4 does not write them when they are
/// written again: only what the disk gives back counts.
fn read_from_disk(found: &[Found], durable: u64) -> Result<Forgotten, OpenError> {
    let mut forgotten = Forgotten { all: true, synced_in: Duration::ZERO };
    for segment in found.iter().filter(|segment| segment.limit_offset() > durable) {
        let file = DiskFile::open(&segment.path).map_err(failed("open", &segment.path))?;
        // What a process left behind that was killed is only in memory as yet, and good.
        let began = Instant::now();
        file.sync().map_err(failed("sync", &segment.path))?;
        forgotten.synced_in += began.elapsed();
        rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::DontNeed)
            .map_err(|error| failed("read", &segment.path)(error.into()))?;
        // It is no more than advice: another process may have the file mapped.
        let held = segment::is_in_memory(&file, to_usize(segment.len));
        forgotten.all &= !held.map_err(failed("map", &segment.path))?;
    }
    Ok(forgotten)
}

/// Where verification starts: everything before was durable, so it is not torn.
fn durable_start(found: &[Found], mark: Option<Mark>, checkpoint: u64) -> u64 {
    let first = found.first().map_or(0, |segment| segment.base_offset);
    if let Some(mark) = mark {
        return mark.durable.max(first);
    }
    if !found.is_empty() {
        tracing::warn!("the durable watermark is missing; the log is verified from the index on");
    }
    let indexed = found.iter().rev().find(|segment| segment.base_offset <= checkpoint);
    indexed.map_or(first, |segment| segment.base_offset)
}

/// The segments of a directory in order. Temporary files are removed.
pub(crate) fn list(dir: &Path) -> Result<Vec<Found>, OpenError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("read", dir))? {
        let entry = entry.map_err(failed("read", dir))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if path.extension().is_some_and(|extension| extension == "tmp") {
            file::remove(&path).map_err(failed("remove", &path))?;
        } else if let (20, Ok(base_offset @ ..OFFSET_MAX)) = (name.len(), name.parse()) {
            let len = entry.metadata().map_err(failed("read", &path))?.len();
            found.push(Found { base_offset, len, path });
        }
    }
    found.sort_unstable_by_key(|segment| segment.base_offset);
    Ok(found)
}

/// Checks that no segment is missing up to `durable`. What lies behind a gap after that cannot be
/// part of the log; it is moved from `found` to the result.
fn contiguous(dir: &Path, found: &mut Vec<Found>, durable: u64) -> Result<Vec<Found>, OpenError> {
    let path = || dir.to_owned();
    let Some(first) = found.first() else {
        return match durable {
            0 => Ok(Vec::new()),
            _ => Err(OpenError::LogShort {
                path: path(),
                end: LogOffset(0),
                durable: LogOffset(durable),
            }),
        };
    };
    let mut expected = first.base_offset;
    let mut stray = Vec::new();
    for (i, segment) in found.iter().enumerate() {
        if segment.base_offset != expected {
            if expected < durable {
                let (expected, found) = (LogOffset(expected), LogOffset(segment.base_offset));
                return Err(OpenError::LogGap { path: path(), expected, found });
            }
            stray = found.split_off(i);
            break;
        }
        expected = segment.limit_offset();
    }
    if expected < durable {
        let (end, durable) = (LogOffset(expected), LogOffset(durable));
        return Err(OpenError::LogShort { path: path(), end, durable });
    }
    Ok(stray)
}

/// The offset after the last valid record at or behind `from`, and what is wrong with what follows
/// if it is not nothing. Never looks behind the first invalid record: the kernel writes pages in
/// any order, so what follows proves nothing. Except below `indexed`: the index knows of records
/// there, so one that is invalid between valid ones is damaged and must stay.
fn find_end(found: &[Found], from: u64, indexed: u64) -> Result<(u64, Option<String>), OpenError> {
    let mut offset = from;
    for segment in found.iter().filter(|segment| segment.limit_offset() > from) {
        let failed = || failed("read", &segment.path);
        let mut scanner = Scanner::open(&segment.path, segment.base_offset).map_err(failed())?;
        loop {
            let reason = match scanner.step(offset).map_err(failed())? {
                // Its checksum is right, but that does not cover the text.
                Step::Record(record) if record.is_torn() => {
                    Some("zeros in the text of a record".to_owned())
                }
                Step::Record(record) => {
                    offset += u64::from(record.total_size);
                    continue;
                }
                Step::Filled => break,
                Step::Empty => None,
                Step::Invalid(reason) => Some(reason),
            };
            match scanner.find_record(offset + 1, indexed).map_err(failed())? {
                Some(next) => offset = next,
                None => return Ok((offset, reason)),
            }
        }
        offset = segment.limit_offset();
    }
    Ok((offset, None))
}

/// Makes sure that nothing lies behind `end`: zeroes the rest of its segment and takes later ones
/// away. Durable when it returns, so that no stale record can follow a new one.
pub(crate) fn cut_behind(
    dir: &Path,
    found: &mut Vec<Found>,
    mut behind: Vec<Found>,
    (end, clean): (u64, bool),
) -> Result<(), OpenError> {
    let log_dir = dir.join("commitlog");
    behind.extend(found.extract_if(.., |segment| segment.base_offset > end || segment.len == 0));
    for segment in &behind {
        take_away(dir, segment)?;
    }
    if !behind.is_empty() {
        file::sync_dir(&log_dir).map_err(failed("sync", &log_dir))?;
    }
    let Some(last) = found.last().filter(|last| last.limit_offset() > end && !clean) else {
        return Ok(());
    };
    if bug::on(Bug::NoZeroing) {
        return Ok(());
    }
    let at = end - last.base_offset;
    DiskFile::open(&last.path)
        .and_then(|file| {
            file.zero(at, last.len)?;
            if bug::on(Bug::NoRedirty) { Ok(()) } else { file.sync() }
        })
        .map_err(failed("zero the end of", &last.path))
}

/// Removes a segment that was only made ahead; one with records goes to `dir/cut`.
fn take_away(dir: &Path, segment: &Found) -> Result<(), OpenError> {
    let mut head = [0; protocol::record::BLANK_BYTES];
    let read = File::open(&segment.path).and_then(|file| file.read_exact_at(&mut head, 0));
    if read.is_err() || head.iter().all(|&byte| byte == 0) {
        return file::remove(&segment.path).map_err(failed("remove", &segment.path));
    }
    let cut_dir = dir.join("cut");
    file::create_dir(&cut_dir).map_err(failed("create", &cut_dir))?;
    let kept = cut_dir.join(allocate::name(segment.base_offset));
    tracing::warn!(segment = %segment.path.display(), kept = %kept.display(), "segment set aside");
    file::rename(&segment.path, &kept).map_err(failed("set aside", &segment.path))
}

/// Maps the segments and syncs what was not known to be durable. Unless it was `read_from_disk`, it
/// is written again first: a kernel that takes it for clean would not. The last one is written on.
fn map(
    dir: &Path,
    found: &mut Vec<Found>,
    (durable, end, read_from_disk): (u64, u64, bool),
    segment_size_bytes: u64,
) -> Result<(Vec<Arc<segment::Segment>>, segment::Writer), OpenError> {
    let mut segments = Vec::with_capacity(found.len() + 1);
    let mut current = None;
    let again_from = if read_from_disk { end } else { durable };
    for at in found.iter() {
        let mut writer = DiskFile::open(&at.path)
            .and_then(|file| segment::Writer::open(file, at.base_offset, to_usize(at.len)))
            .map_err(failed("map", &at.path))?;
        writer.adopt(again_from, end).map_err(failed("write", &at.path))?;
        if at.limit_offset() > durable && !bug::on(Bug::NoRedirty) {
            writer.segment().sync().map_err(failed("sync", &at.path))?;
        }
        segments.push(Arc::clone(writer.segment()));
        current = Some(writer);
    }
    let room = current.filter(|writer| writer.segment().limit_offset() > end);
    let current = match room {
        Some(writer) => writer,
        None => {
            let path = dir.join(allocate::name(end));
            let writer = allocate::create(dir, end, segment_size_bytes)
                .map_err(failed("allocate", &path))?;
            segments.push(Arc::clone(writer.segment()));
            found.push(Found { base_offset: end, len: segment_size_bytes, path });
            writer
        }
    };
    for sealed in segments.iter().take(segments.len() - 1) {
        sealed.allow_read_ahead();
    }
    Ok((segments, current))
}
