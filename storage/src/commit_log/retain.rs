//! Letting go of the oldest segments.

use std::sync::Arc;

use super::{CommitLog, segment::Segment};

impl CommitLog {
    /// The segments that are complete and durable and end at or before `end`, oldest first, each
    /// with the log offset where the next one begins. Never the one that is being written.
    pub(crate) fn sealed_before(&self, end: u64) -> Vec<Arc<Segment>> {
        let end = end.min(self.flushed()).min(self.confirmed.get());
        let mut segments = self.segments_between(0, u64::MAX);
        segments.pop();
        segments.retain(|segment| segment.limit_offset() <= end);
        segments
    }

    /// Whether `offset` lies in the segment that is being written, or behind it.
    pub(crate) fn is_being_written(&self, offset: u64) -> bool {
        self.segments.load().last().is_none_or(|last| last.base_offset() <= offset)
    }

    /// Forgets the segments that end at or before `min`. Who reads one of them keeps it.
    pub(crate) fn forget_before(&self, min: u64) {
        self.segments.rcu(|segments| {
            let rest = segments.iter().filter(|segment| segment.limit_offset() > min);
            rest.map(Arc::clone).collect::<Vec<_>>()
        });
    }
}
