//! One file of the commit log, mapped for its whole life.
//!
//! This is the only module in the workspace that may use `unsafe`. Three rules make it sound, and
//! each is held by a type, not by convention:
//!
//! 1. **One writer.** Bytes are written only through [`Writer`], which is created once per
//!    segment, is not `Clone`, and writes by `&mut self`.
//! 2. **Bytes below `published` never change.** The writer copies first and then moves `published`
//!    forward with `Release`; a reader loads it with `Acquire` and sees only what lies below.
//! 3. **The file never shrinks while mapped.** Its length is checked at [`Writer::open`]; recovery
//!    cuts before any [`Segment`] exists.

mod map;

use std::{
    fs::File,
    io,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use map::Map;

use crate::num::{to_u64, to_usize};

/// No supported machine has smaller pages.
const PAGE_BYTES: usize = 4096;

/// A mapped file of fixed length. Readers share it by `Arc`.
#[derive(Debug)]
pub(crate) struct Segment {
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

impl Segment {
    /// The bytes at commit log offsets `offset..offset + len`, or `None` when they are not all
    /// published in this segment.
    pub(crate) fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        self.range(offset, len).map(|range| self.slice(range))
    }

    /// As [`Segment::get`], but the bytes keep the segment mapped and can travel.
    pub(crate) fn read(self: &Arc<Self>, offset: u64, len: usize) -> Option<Bytes> {
        let range = self.range(offset, len)?;
        Some(Bytes::from_owner(View { segment: Arc::clone(self), range }))
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

    /// The part of commit log offsets `from..to` that lies in this segment, if any.
    fn part(&self, from: u64, to: u64) -> Option<Range<usize>> {
        let from = from.max(self.base_offset);
        let to = to.min(self.limit_offset());
        (from < to).then(|| to_usize(from - self.base_offset)..to_usize(to - self.base_offset))
    }

    /// Makes the part of `from..to` that lies here durable.
    ///
    /// # Errors
    /// The disk failed. The caller must not try again: the kernel reports a failure once and takes
    /// the pages for clean afterwards.
    pub(crate) fn sync(&self, from: u64, to: u64) -> io::Result<()> {
        self.part(from, to).map_or(Ok(()), |range| self.map.sync(range.start, range.len()))
    }

    /// Backs the part of `from..to` that lies here with memory.
    ///
    /// # Errors
    /// The kernel is older than 5.14, or memory or disk are short; appending will find out.
    pub(crate) fn populate(&self, from: u64, to: u64) -> io::Result<()> {
        self.part(from, to).map_or(Ok(()), |range| self.map.populate(range.start, range.len()))
    }

    /// Lets the kernel read ahead in a segment that is not written to any more.
    pub(crate) fn allow_read_ahead(&self) {
        if let Err(error) = self.map.read_ahead(true) {
            tracing::debug!(%error, base_offset = self.base_offset, "madvise refused");
        }
    }
}

impl Writer {
    /// Maps the first `size_bytes` of `file`, nothing of it published, and hands out its single
    /// writer.
    ///
    /// # Errors
    /// The file is shorter or cannot be mapped.
    pub(crate) fn open(file: &File, base_offset: u64, size_bytes: usize) -> io::Result<Self> {
        let map = Map::new(file, size_bytes)?;
        map.read_ahead(false)?;
        let segment = Arc::new(Segment { map, base_offset, published: AtomicUsize::new(0) });
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

    /// Publishes what the file holds up to commit log offset `end`, and marks the part from
    /// `volatile_from` on as changed, so that the next [`Segment::sync`] really writes it: after a
    /// failed sync the kernel takes pages for clean that never reached the disk.
    pub(crate) fn adopt(&mut self, volatile_from: u64, end: u64) {
        let published = self.segment.published.load(Ordering::Relaxed);
        let Some(range) = self.segment.part(self.segment.base_offset, end) else { return };
        let volatile_from =
            to_usize(volatile_from.saturating_sub(self.segment.base_offset)).max(published);
        let first_page = volatile_from - volatile_from % PAGE_BYTES;
        for page in (first_page..range.end).step_by(PAGE_BYTES) {
            let at = page.max(volatile_from);
            // SAFETY: `at < range.end <= map.len()`, so the pointer stays inside the mapping.
            let byte = unsafe { self.segment.map.as_mut_ptr().add(at) };
            // SAFETY: the byte is mapped, and initialised because files are.
            let value = unsafe { byte.read_volatile() };
            // SAFETY: the byte lies beyond `published`, so no reader sees it; `&mut self` on the
            // only writer excludes a second one.
            unsafe { byte.write_volatile(value) };
        }
        self.segment.published.store(range.end.max(published), Ordering::Release);
    }

    /// Appends `bytes` and returns their commit log offset, or `None` when the segment has no room
    /// left for them.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Option<u64> {
        let start = self.copy(bytes)?;
        self.segment.published.store(start + bytes.len(), Ordering::Release);
        Some(self.segment.base_offset + to_u64(start))
    }

    /// Ends the segment: writes `head` and publishes everything up to the end of the file. `head`
    /// is left out when it does not fit.
    pub(crate) fn fill(&mut self, head: &[u8]) {
        self.copy(head);
        self.segment.published.store(self.segment.map.len(), Ordering::Release);
    }

    /// Copies `bytes` behind what is published and returns where they start in the segment.
    fn copy(&mut self, bytes: &[u8]) -> Option<usize> {
        let start = self.segment.published.load(Ordering::Relaxed);
        let end = start.checked_add(bytes.len())?;
        if end > self.segment.map.len() {
            return None;
        }
        // SAFETY: `start <= published <= map.len()`, so the pointer stays inside the mapping.
        let target = unsafe { self.segment.map.as_mut_ptr().add(start) };
        // SAFETY: `start..end` lies in the mapping (checked above) and beyond `published`, so no
        // reader sees it; `&mut self` on the only writer excludes a second copy; `bytes` is a live
        // borrow and cannot overlap bytes that no reference may point to yet.
        unsafe { bytes.as_ptr().copy_to_nonoverlapping(target, bytes.len()) };
        Some(start)
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
