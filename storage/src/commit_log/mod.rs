//! The commit log: every message of every topic, in one sequence of mapped files.
//!
//! [`CommitLog`] is what readers share. [`writer`] appends, [`allocate`] prepares segments ahead of
//! it, [`flush`] makes them durable, [`recover`] finds the end after a stop.

pub(crate) mod allocate;
pub(crate) mod durable;
pub(crate) mod flush;
#[cfg(test)]
mod model;
pub(crate) mod recover;
mod retain;
pub(crate) mod scan;
#[expect(unsafe_code, reason = "the only module that reads mapped memory; see its three rules")]
pub(crate) mod segment;
pub(crate) mod writer;

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use protocol::record::{Head, RecordView, frame_len};
use segment::Segment;

use crate::{
    LogOffset, ReadError,
    bug::{self, Bug},
    num::to_usize,
    watermark::Watermark,
};

/// The segments and the watermarks. All positions are bytes from the start of the log and only
/// grow: `min ≤ confirmed ≤ appended` and `flushed ≤ appended`.
#[derive(Debug)]
pub(crate) struct CommitLog {
    /// Ascending and without gaps.
    segments: ArcSwap<Vec<Arc<Segment>>>,
    appended: AtomicU64,
    flushed: AtomicU64,
    /// End of what readers may see.
    pub(crate) confirmed: Watermark,
    /// Store timestamp of the last record, Unix ms.
    last_store_ms: AtomicI64,
}

impl CommitLog {
    /// A log whose segments are all durable up to `end`.
    pub(crate) fn new(segments: Vec<Arc<Segment>>, end: u64) -> Self {
        Self {
            segments: ArcSwap::from_pointee(segments),
            appended: AtomicU64::new(end),
            flushed: AtomicU64::new(end),
            confirmed: Watermark::new(end),
            last_store_ms: AtomicI64::new(0),
        }
    }

    /// Offset of the first byte that is still there.
    pub(crate) fn min(&self) -> u64 {
        self.segments.load().first().map_or(0, |segment| segment.base_offset())
    }

    pub(crate) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    pub(crate) fn flushed(&self) -> u64 {
        self.flushed.load(Ordering::Acquire)
    }

    pub(crate) fn last_store_ms(&self) -> i64 {
        self.last_store_ms.load(Ordering::Acquire)
    }

    /// Says that records up to `end` are in the page cache. Called by the one that appends.
    pub(crate) fn set_appended(&self, end: u64, store_ms: i64) {
        self.last_store_ms.store(store_ms, Ordering::Release);
        self.appended.store(end, Ordering::Release);
    }

    /// Says that records up to `end` are on the disk. Called by the one that syncs.
    pub(crate) fn set_flushed(&self, end: u64) {
        self.flushed.store(end, Ordering::Release);
    }

    pub(crate) fn set_last_store_ms(&self, store_ms: i64) {
        self.last_store_ms.store(store_ms, Ordering::Release);
    }

    /// Adds the segment that the writer has just begun.
    pub(crate) fn push_segment(&self, segment: &Arc<Segment>) {
        // Retention may take the oldest away at the same time.
        self.segments.rcu(|segments| {
            let mut segments = Vec::clone(segments);
            segments.push(Arc::clone(segment));
            segments
        });
    }

    /// Takes the last segment away, which nothing was written to.
    pub(crate) fn pop_segment(&self) {
        self.segments.rcu(|segments| {
            let mut segments = Vec::clone(segments);
            segments.pop();
            segments
        });
    }

    /// The segments that hold a part of `from..to`, in order.
    pub(crate) fn segments_between(&self, from: u64, to: u64) -> Vec<Arc<Segment>> {
        let segments = self.segments.load();
        let overlapping = segments
            .iter()
            .filter(|segment| segment.base_offset() < to && segment.limit_offset() > from);
        overlapping.map(Arc::clone).collect()
    }

    fn segment_at(&self, offset: u64) -> Option<Arc<Segment>> {
        let segments = self.segments.load();
        // Almost every read is near the end.
        if let Some(last) = segments.last().filter(|last| last.base_offset() <= offset) {
            return Some(Arc::clone(last));
        }
        let after = segments.partition_point(|segment| segment.base_offset() <= offset);
        after.checked_sub(1).and_then(|at| segments.get(at)).map(Arc::clone)
    }

    /// Bytes of the log, whatever they are; `None` when they are not all there in one segment.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Option<Bytes> {
        self.segment_at(offset)?.read(offset, len)
    }

    /// The verified record that starts at `offset`; `None` if no confirmed record starts there.
    /// Blocking.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when what starts there says it is that record and is damaged,
    /// [`ReadError::Disk`] when it cannot be read.
    pub(crate) fn record(&self, offset: u64) -> Result<Option<Bytes>, ReadError> {
        let Some(size) = self.record_size(offset)? else { return Ok(None) };
        let Some(bytes) = self.read_cold(offset, size)? else { return Ok(None) };
        match check(&bytes, offset) {
            Ok(_) => Ok(Some(bytes)),
            Err(reason) if reason == WRONG_OFFSET => Ok(None),
            Err(reason) => Err(ReadError::Damaged { log_offset: LogOffset(offset), reason }),
        }
    }

    /// Bytes of the log, copied from the disk; `None` when they are not all there in one segment.
    /// Blocking.
    ///
    /// # Errors
    /// [`ReadError::Disk`].
    pub(crate) fn read_cold(&self, offset: u64, len: usize) -> Result<Option<Bytes>, ReadError> {
        let Some(segment) = self.segment_at(offset) else { return Ok(None) };
        match segment.read_copy(offset, len) {
            Ok(bytes) => Ok(bytes.map(Bytes::from)),
            Err(error) => {
                let reason = error.to_string();
                Err(ReadError::Disk { log_offset: LogOffset(offset), reason })
            }
        }
    }

    /// When the record at `offset` was stored, Unix ms; its body is not verified. Blocking.
    ///
    /// # Errors
    /// As [`CommitLog::record`].
    pub(crate) fn store_time(&self, offset: u64) -> Result<Option<i64>, ReadError> {
        let Some(size) = self.record_size(offset)? else { return Ok(None) };
        let Some(bytes) = self.read_cold(offset, size)? else { return Ok(None) };
        let record = RecordView::parse(&bytes).map_err(|error| ReadError::Damaged {
            log_offset: LogOffset(offset),
            reason: error.to_string(),
        })?;
        Ok(Some(record.store_timestamp))
    }

    /// Size of the record that seems to start at `offset`, if it ends within what is confirmed.
    fn record_size(&self, offset: u64) -> Result<Option<usize>, ReadError> {
        let Some(head) = self.read_cold(offset, protocol::record::BLANK_BYTES)? else {
            return Ok(None);
        };
        let Some(Head::Record { size, .. }) = frame_len(&head) else { return Ok(None) };
        let end = offset.checked_add(u64::from(size));
        let confirmed = end.is_some_and(|end| end <= self.confirmed.get());
        Ok(confirmed.then(|| to_usize(u64::from(size))))
    }
}

/// Reason that [`check`] gives for bytes that merely look like a record.
const WRONG_OFFSET: &str = "the record says that it belongs elsewhere";

/// Parses and verifies the record that `bytes` start with and that should be at `offset`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check(bytes: &[u8], offset: u64) -> Result<RecordView<'_>, String> {
    let record = RecordView::parse(bytes).map_err(|error| error.to_string())?;
    if u64::try_from(record.log_offset) != Ok(offset) {
        return Err(WRONG_OFFSET.to_owned());
    }
    if !bug::on(Bug::SkipChecksum) {
        record.verify().map_err(|error| error.to_string())?;
    }
    Ok(record)
}
