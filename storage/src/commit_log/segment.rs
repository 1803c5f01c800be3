//! One file of the commit log: written through its descriptor, read through a mapping.
//!
//! Writes are `pwrite`: a disk that fails is an error to handle, where a store to mapped memory
//! would be a signal, and no page is backed or written back that was not written to. This is the
//! only module of the product that may use `unsafe`, for reading; a yardstick in `benches/` has one
//! more. Three rules make it sound, and each is held by a type, not by convention:
//!
//! 1. **One writer.** Bytes are written only through [`Writer`], which is created once per
//!    segment, is not `Clone`, and writes by `&mut self`.
//! 2. **Bytes below `published` never change.** The writer writes first and then moves `published`
//!    forward with `Release`; a reader loads it with `Acquire` and sees only what lies below.
//! 3. **The file never shrinks while mapped.** Its length is checked at [`Writer::open`]; recovery
//!    cuts before any [`Segment`] exists.

mod map;

use std::{
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use map::Map;

use crate::{
    file::DiskFile,
    num::{to_u64, to_usize},
};

/// What recovery keeps is written again in steps of this size.
const ADOPT_STEP_BYTES: usize = 1 << 20;

/// A file of fixed length. Readers share it by `Arc`.
#[derive(Debug)]
pub(crate) struct Segment {
    file: DiskFile,
    map: Map,
    /// Commit log offset, in bytes, of this segment's first byte.
    base_offset: u64,
    /// Bytes, counted from the start of the segment, that readers may see.
    published: AtomicUsize,
}

/// The only way to add bytes to a [`Segment`].
#[derive(Debug)]
pub(crate) struct Writer {
    segment: Arc<Segment>,
}

/// Whether the kernel holds any of the first `len` bytes of a file in memory, which must be that
/// long.
///
/// # Errors
/// Of the operating system.
pub(crate) fn is_in_memory(file: &DiskFile, len: usize) -> io::Result<bool> {
    Map::new(file.file(), len)?.is_in_memory()
}

impl Segment {
    /// The bytes at commit log offsets `offset..offset + len`, which keep the segment mapped; or
    /// `None` when they are not all published in this segment.
    pub(crate) fn read(self: &Arc<Self>, offset: u64, len: usize) -> Option<Bytes> {
        let range = self.range(offset, len)?;
        Some(Bytes::from_owner(View { segment: Arc::clone(self), range }))
    }

    /// As [`Segment::read`], but copies the bytes from the file: a sector that cannot be read is an
    /// error here, and a signal through the mapping.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn read_copy(&self, offset: u64, len: usize) -> io::Result<Option<Vec<u8>>> {
        let Some(range) = self.range(offset, len) else { return Ok(None) };
        let mut bytes = vec![0; range.len()];
        self.file.file().read_exact_at(&mut bytes, to_u64(range.start))?;
        Ok(Some(bytes))
    }

    fn range(&self, offset: u64, len: usize) -> Option<Range<usize>> {
        let start = usize::try_from(offset.checked_sub(self.base_offset)?).ok()?;
        let end = start.checked_add(len)?;
        (end <= self.published.load(Ordering::Acquire)).then_some(start..end)
    }

    /// `range` must come from [`Segment::range`].
    fn slice(&self, range: Range<usize>) -> &[u8] {
        // SAFETY: `range` was checked: `range.end <= published <= map.len()`.
        let start = unsafe { self.map.as_ptr().add(range.start) };
        // SAFETY: published bytes are initialised and never written again (rule 2), and `self`
        // keeps them mapped for the lifetime of the returned slice.
        unsafe { std::slice::from_raw_parts(start, range.len()) }
    }

    /// Commit log offset, in bytes, of the first byte.
    pub(crate) fn base_offset(&self) -> u64 {
        self.base_offset
    }

    /// Commit log offset, in bytes, just after the last published byte.
    pub(crate) fn end_offset(&self) -> u64 {
        self.base_offset + to_u64(self.published.load(Ordering::Acquire))
    }

    /// Commit log offset, in bytes, just after the last byte of the file.
    pub(crate) fn limit_offset(&self) -> u64 {
        self.base_offset + to_u64(self.map.len())
    }

    /// Makes everything that was written durable.
    ///
    /// # Errors
    /// The disk failed. The caller must not try again: the kernel reports a failure once and takes
    /// the pages for clean afterwards.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// Lets the kernel read ahead in a segment that is not written to any more.
    pub(crate) fn allow_read_ahead(&self) {
        let allowed = self.map.read_ahead(true).and_then(|()| {
            Ok(rustix::fs::fadvise(self.file.file(), 0, None, rustix::fs::Advice::Normal)?)
        });
        if let Err(error) = allowed {
            tracing::debug!(%error, base_offset = self.base_offset, "advice refused");
        }
    }
}

impl Writer {
    /// Maps the first `size_bytes` of `file`, nothing of it published, and hands out its single
    /// writer.
    ///
    /// # Errors
    /// The file is shorter or cannot be mapped.
    pub(crate) fn open(file: DiskFile, base_offset: u64, size_bytes: usize) -> io::Result<Self> {
        let map = Map::new(file.file(), size_bytes)?;
        map.read_ahead(false)?;
        rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::Random)?;
        let segment = Arc::new(Segment { file, map, base_offset, published: AtomicUsize::new(0) });
        Ok(Self { segment })
    }

    /// The segment this writer fills, to share with readers.
    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// Commit log offset, in bytes, that the next record gets.
    pub(crate) fn end_offset(&self) -> u64 {
        self.segment.end_offset()
    }

    /// Bytes that are still free.
    pub(crate) fn remaining(&self) -> usize {
        self.segment.map.len() - self.segment.published.load(Ordering::Relaxed)
    }

    /// Publishes what the file holds up to commit log offset `end`, and writes the part from
    /// `volatile_from` on once more, so that the next [`Segment::sync`] really writes it: after a
    /// failed sync the kernel takes pages for clean that never reached the disk.
    ///
    /// # Errors
    /// Of the operating system; nothing is published.
    pub(crate) fn adopt(&mut self, volatile_from: u64, end: u64) -> io::Result<()> {
        let Segment { file, map, base_offset, published } = &*self.segment;
        let end = to_usize(end.saturating_sub(*base_offset)).min(map.len());
        let mut at = to_usize(volatile_from.saturating_sub(*base_offset))
            .max(published.load(Ordering::Relaxed));
        let mut bytes = vec![0; ADOPT_STEP_BYTES.min(end.saturating_sub(at))];
        while at < end {
            let len = (end - at).min(ADOPT_STEP_BYTES);
            let (step, _) = bytes.split_at_mut(len);
            file.file().read_exact_at(step, to_u64(at))?;
            file.write_at(step, to_u64(at))?;
            at += len;
        }
        published.fetch_max(end, Ordering::Release);
        Ok(())
    }

    /// Appends `bytes`, which must fit.
    ///
    /// # Errors
    /// The disk failed, or there is no room; nothing is published, and what the file holds behind
    /// [`Writer::end_offset`] is unknown: do not append again.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let start = self.segment.published.load(Ordering::Relaxed);
        if bytes.len() > self.remaining() {
            return Err(io::Error::other("the segment has no room for the records"));
        }
        self.segment.file.write_at(bytes, to_u64(start))?;
        self.segment.published.store(start + bytes.len(), Ordering::Release);
        Ok(())
    }

    /// Ends the segment: writes `head` and publishes everything up to the end of the file. `head`
    /// is left out when it does not fit.
    ///
    /// # Errors
    /// As [`Writer::append`].
    pub(crate) fn fill(&mut self, head: &[u8]) -> io::Result<()> {
        if head.len() <= self.remaining() {
            self.append(head)?;
        }
        self.segment.published.store(self.segment.map.len(), Ordering::Release);
        Ok(())
    }
}

/// A published range of a segment. Keeps the mapping alive for as long as the bytes are in use.
#[derive(Debug)]
struct View {
    segment: Arc<Segment>,
    range: Range<usize>,
}

impl AsRef<[u8]> for View {
    fn as_ref(&self) -> &[u8] {
        self.segment.slice(self.range.clone())
    }
}

#[cfg(test)]
mod tests;
