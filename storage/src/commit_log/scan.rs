//! Reading a segment from its file, record by record, without mapping it.
//!
//! The file is read in large steps with read-ahead off: read-ahead runs past the end of the data
//! and leaves huge folios there, and every later sync of a few bytes would write a whole one.

use std::{fs::File, io, num::NonZeroU64, os::unix::fs::FileExt, path::Path};

use protocol::record::{BLANK_BYTES, Head, RecordView, frame_len};

use super::check;
use crate::num::{to_u64, to_usize};

const STEP_BYTES: u64 = 1 << 20;
/// So much of what comes next the disk reads while a step is looked at.
const AHEAD_BYTES: u64 = 4 << 20;

/// A segment file that is being read.
#[derive(Debug)]
pub(crate) struct Scanner {
    file: File,
    base_offset: u64,
    len: u64,
    buffer: Vec<u8>,
    /// Position in the file of the buffer's first byte.
    buffer_at: u64,
    /// Position up to which the kernel was asked to read.
    asked_to: u64,
}

/// What was found at a position.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// A record, verified.
    Record(RecordView<'a>),
    /// Nothing more in this segment.
    Filled,
    /// Zeros: nothing was ever written here.
    Empty,
    /// Something else, and why it is no record.
    Invalid(String),
}

impl Scanner {
    /// # Errors
    /// Of the operating system.
    pub(crate) fn open(path: &Path, base_offset: u64) -> io::Result<Self> {
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Random)?;
        Ok(Self { file, base_offset, len, buffer: Vec::new(), buffer_at: 0, asked_to: 0 })
    }

    /// Log offset of the end of the file.
    pub(crate) fn limit_offset(&self) -> u64 {
        self.base_offset + self.len
    }

    /// Looks at log offset `offset`, which must be in this segment.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn step(&mut self, offset: u64) -> io::Result<Step<'_>> {
        let Some(at) = offset.checked_sub(self.base_offset) else {
            return Err(io::Error::other("the offset is before the segment"));
        };
        let left = self.len.saturating_sub(at);
        if left < to_u64(BLANK_BYTES) {
            return Ok(Step::Filled);
        }
        let head = self.bytes(at, BLANK_BYTES)?;
        if head.iter().all(|&byte| byte == 0) {
            return Ok(Step::Empty);
        }
        match frame_len(head) {
            Some(Head::Blank { size }) if u64::from(size) == left => Ok(Step::Filled),
            Some(Head::Blank { size }) => Ok(Step::Invalid(format!(
                "a filler of {size} bytes where {left} are left in the segment"
            ))),
            Some(Head::Record { size, .. }) if u64::from(size) > left => Ok(Step::Invalid(
                format!("a record of {size} bytes where {left} are left in the segment"),
            )),
            Some(Head::Record { size, .. }) => {
                let bytes = self.bytes(at, to_usize(u64::from(size)))?;
                Ok(check(bytes, offset).map_or_else(Step::Invalid, Step::Record))
            }
            None => Ok(Step::Invalid("no head of a record".to_owned())),
        }
    }

    /// The first log offset in `from..to` where a valid record starts, to go on behind damage.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn find_record(&mut self, from: u64, to: u64) -> io::Result<Option<u64>> {
        let to = to.min(self.limit_offset());
        for offset in from..to {
            let at = offset - self.base_offset;
            if self.len - at < to_u64(BLANK_BYTES) {
                return Ok(None);
            }
            if frame_len(self.bytes(at, BLANK_BYTES)?).is_some()
                && matches!(self.step(offset)?, Step::Record(_) | Step::Filled)
            {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// Lets the kernel read a little behind `from`: unlike read-ahead, single pages and no more.
    fn ask_for(&mut self, from: u64) -> io::Result<()> {
        let (from, to) = (from.max(self.asked_to), (from + AHEAD_BYTES).min(self.len));
        if let Some(len) = NonZeroU64::new(to.saturating_sub(from)) {
            rustix::fs::fadvise(&self.file, from, Some(len), rustix::fs::Advice::WillNeed)?;
            self.asked_to = to;
        }
        Ok(())
    }

    /// `len` bytes at a position of the file, which must have them.
    fn bytes(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let buffered = at
            .checked_sub(self.buffer_at)
            .is_some_and(|skip| skip + to_u64(len) <= to_u64(self.buffer.len()));
        if !buffered {
            let wanted = to_u64(len).max(STEP_BYTES).min(self.len - at);
            self.buffer.resize(to_usize(wanted), 0);
            self.buffer_at = at;
            self.ask_for(at + wanted)?;
            self.file.read_exact_at(&mut self.buffer, at)?;
        }
        let start = to_usize(at - self.buffer_at);
        self.buffer
            .get(start..start + len)
            .ok_or_else(|| io::Error::other("the segment is shorter than its records say"))
    }
}
