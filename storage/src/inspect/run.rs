//! Neighbouring offsets of a queue with the same problem are one finding.

use super::{
    Kind, Problem, QueueRange,
    queues::{Report, TopicRef},
};
use crate::index::consume_queue::BlockEntry;

/// The run of one queue that is still growing.
#[derive(Debug, Default)]
pub(super) struct Runs(Option<Box<Run>>);

#[derive(Debug)]
struct Run {
    kind: Kind,
    from: u64,
    to: u64,
    log: (u64, u64),
    detail: String,
}

impl Runs {
    pub(super) fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// A record has no entry, or another one than `entry`.
    pub(super) fn mismatch(
        &mut self,
        place: (&TopicRef, u32, u64),
        (entry, found): (BlockEntry, Option<BlockEntry>),
        report: Report<'_>,
    ) {
        let (kind, detail) = match found {
            None => (Kind::EntryMissing, "the index does not have these messages".to_owned()),
            Some(found) if found.is_hole() => {
                (Kind::EntryWrong, "the index takes readable messages for damaged".to_owned())
            }
            Some(found) => {
                let BlockEntry { log_offset, size, tag_hash } = found;
                let detail = format!(
                    "the index says log offset {log_offset}, {size} bytes, tag {tag_hash}; the log \
                     says {}, {}, {}",
                    entry.log_offset, entry.size, entry.tag_hash
                );
                (Kind::EntryWrong, detail)
            }
        };
        self.add(place, (kind, entry, detail), report);
    }

    /// Adds an offset. One that does not continue the run begins another.
    pub(super) fn add(
        &mut self,
        (topic, queue_id, offset): (&TopicRef, u32, u64),
        (kind, entry, detail): (Kind, BlockEntry, String),
        report: Report<'_>,
    ) {
        if let Some(run) = self.0.as_mut().filter(|run| run.kind == kind && run.to == offset) {
            run.to = offset + 1;
            run.log.1 = entry.end();
            return;
        }
        self.end((topic, queue_id), report);
        let log = (entry.log_offset, entry.end());
        self.0 = Some(Box::new(Run { kind, from: offset, to: offset + 1, log, detail }));
    }

    /// Reports the run, if there is one.
    pub(super) fn end(&mut self, (topic, queue_id): (&TopicRef, u32), report: Report<'_>) {
        if let Some(run) = self.0.take() {
            let Run { kind, from, to, log, detail } = *run;
            let range = QueueRange { topic: topic.name.clone(), queue_id, from, to };
            report(Problem::new(kind, detail).of(range).at(log.0, log.1).count(to - from));
        }
    }
}
