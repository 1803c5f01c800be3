//! Walking through the log from its first byte to its end.

use std::{fs::File, io, ops::ControlFlow, os::unix::fs::FileExt};

use protocol::record::{BLANK_BYTES, BLANK_MAGIC, Head, RecordView, frame_len};

use super::files::{self, Files};
use crate::{
    commit_log::{
        recover::Found,
        scan::{Scanner, Step},
    },
    num::{take, to_u64, to_usize},
};

/// A part of the log without readable records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) cause: Cause,
    pub(super) reason: String,
}

/// What seems to have happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The head of the record is fine, its body is not.
    Body,
    /// Something else where a record should begin.
    Head,
    /// Zeros where a record should begin.
    Zeros,
    /// The end mark of the segment.
    Filler,
    /// No segment holds the range.
    Missing,
    /// The segment holds nothing but an end mark: `repair` has put it where one was missing.
    Bridged,
}

/// What is met on the way.
#[derive(Debug)]
pub(super) enum Event<'a> {
    Record(RecordView<'a>),
    Damage(Damage),
}

/// Where the log ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) at: u64,
    /// What is wrong with what follows, if there is something.
    pub(super) torn: Option<String>,
}

/// Up to where what cannot be read is damage; the first such thing behind it is the end.
pub(super) fn certain_end(files: &Files) -> Option<u64> {
    let mark = files.mark()?;
    Some(mark.durable.max(files.min()))
}

/// Calls `each` with everything from log offset `from` on, in order, until it says stop. What
/// cannot be read before `certain` is damage, behind it the end of the log. Without `certain`,
/// everything that is followed by a valid record is damage.
pub(super) fn walk(
    files: &Files,
    from: u64,
    certain: Option<u64>,
    each: &mut dyn FnMut(Event<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<End> {
    let walk = Walk { certain: certain.unwrap_or(u64::MAX), offset: from, pending: Vec::new() };
    walk.run(files, each)
}

struct Walk {
    certain: u64,
    offset: u64,
    /// Damage that is some only if a valid record follows, or if it is certain.
    pending: Vec<Damage>,
}

type Each<'a> = &'a mut dyn FnMut(Event<'_>) -> io::Result<ControlFlow<()>>;

impl Walk {
    fn run(mut self, files: &Files, each: Each<'_>) -> io::Result<End> {
        for segment in files.segments.iter().filter(|segment| segment.len > 0) {
            if segment.limit_offset() <= self.offset {
                continue;
            }
            if segment.base_offset > self.offset {
                if self.offset >= self.certain {
                    break;
                }
                let reason = "the segment is missing or too short".to_owned();
                self.pend(segment.base_offset, Cause::Missing, reason);
            }
            match self.segment(segment, each)? {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(end) => return Ok(end),
            }
        }
        self.finish(None, each)
    }

    fn segment(&mut self, segment: &Found, each: Each<'_>) -> io::Result<ControlFlow<End>> {
        let mut scanner = Scanner::open(&segment.path, segment.base_offset)?;
        let limit = segment.limit_offset();
        while self.offset < limit {
            match scanner.step(self.offset)? {
                Step::Record(record) => {
                    if self.flush(each)?.is_break() {
                        return Ok(ControlFlow::Break(self.stopped()));
                    }
                    self.offset += u64::from(record.total_size);
                    if each(Event::Record(record))?.is_break() {
                        return Ok(ControlFlow::Break(self.stopped()));
                    }
                }
                Step::Filled if self.offset == segment.base_offset => {
                    self.pend(limit, Cause::Bridged, "the segment was lost".to_owned());
                }
                Step::Filled => self.offset = limit,
                Step::Empty if self.offset >= self.certain => {
                    return self.finish(None, each).map(ControlFlow::Break);
                }
                Step::Invalid(reason) if self.offset >= self.certain => {
                    return self.finish(Some(reason), each).map(ControlFlow::Break);
                }
                Step::Empty => {
                    let reason = "zeros where a record should be".to_owned();
                    self.pass_over(segment, &mut scanner, reason)?;
                }
                Step::Invalid(reason) => self.pass_over(segment, &mut scanner, reason)?,
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Goes on behind something that is no record.
    fn pass_over(
        &mut self,
        segment: &Found,
        scanner: &mut Scanner,
        reason: String,
    ) -> io::Result<()> {
        let limit = segment.limit_offset().min(self.certain);
        let cause = cause(segment, self.offset)?;
        // Zeros are skipped quickly. A record begins with at most three of them.
        let position = |offset: u64| offset - segment.base_offset;
        let data = files::first_data(&segment.path, position(self.offset), position(limit))?;
        let next = match data {
            None => None,
            Some(data) => {
                let from = (segment.base_offset + data).saturating_sub(3).max(self.offset + 1);
                scanner.find_record(from, limit)?
            }
        };
        self.pend(next.unwrap_or(limit), cause, reason);
        Ok(())
    }

    fn pend(&mut self, to: u64, cause: Cause, reason: String) {
        self.pending.push(Damage { from: self.offset, to, cause, reason });
        self.offset = to;
    }

    fn flush(&mut self, each: Each<'_>) -> io::Result<ControlFlow<()>> {
        for damage in self.pending.drain(..) {
            if each(Event::Damage(damage))?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn stopped(&self) -> End {
        End { at: self.offset, torn: None }
    }

    /// There is nothing more. What is pending is damage if it is certain.
    fn finish(&mut self, torn: Option<String>, each: Each<'_>) -> io::Result<End> {
        if self.certain < u64::MAX {
            let _stop = self.flush(each)?;
            return Ok(End { at: self.offset, torn });
        }
        let bridged = |damage: &Damage| matches!(damage.cause, Cause::Bridged | Cause::Filler);
        match self.pending.iter().position(|damage| !bridged(damage)) {
            Some(at) => {
                let tail = self.pending.split_off(at);
                let _stop = self.flush(each)?;
                let first = tail.into_iter().next();
                let at = first.as_ref().map_or(self.offset, |damage| damage.from);
                let zeros = |damage: &Damage| damage.cause == Cause::Zeros;
                let torn = first.filter(|damage| !zeros(damage)).map(|damage| damage.reason);
                Ok(End { at, torn })
            }
            None => {
                let _stop = self.flush(each)?;
                Ok(End { at: self.offset, torn })
            }
        }
    }
}

/// What seems to have happened at `offset`, where no valid record starts.
fn cause(segment: &Found, offset: u64) -> io::Result<Cause> {
    let file = File::open(&segment.path)?;
    let at = offset - segment.base_offset;
    let left = segment.len - at;
    if left < to_u64(BLANK_BYTES) {
        return Ok(Cause::Filler);
    }
    let mut head = [0; BLANK_BYTES];
    file.read_exact_at(&mut head, at)?;
    if head == [0; BLANK_BYTES] {
        return Ok(Cause::Zeros);
    }
    let Some((size, rest)) = take!(u32, head.as_slice()) else { return Ok(Cause::Head) };
    let magic = take!(u32, rest).map(|(magic, _)| magic);
    if u64::from(size) == left || magic == Some(BLANK_MAGIC) {
        return Ok(Cause::Filler);
    }
    let Some(Head::Record { size, .. }) = frame_len(&head) else { return Ok(Cause::Head) };
    if u64::from(size) > left {
        return Ok(Cause::Head);
    }
    let mut bytes = vec![0; to_usize(u64::from(size))];
    file.read_exact_at(&mut bytes, at)?;
    let intact = RecordView::parse(&bytes)
        .ok()
        .filter(|record| u64::try_from(record.log_offset) == Ok(offset))
        .map(|record| record.verify());
    Ok(if matches!(intact, Some(Err(_))) { Cause::Body } else { Cause::Head })
}
