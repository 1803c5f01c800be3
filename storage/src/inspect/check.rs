//! One run through a store: the log record by record, each with its rows, then the rows, each with
//! the log.

use std::{collections::HashMap, ops::ControlFlow};

use protocol::record::RecordView;

use super::{
    Error, Kind, Problem, Summary,
    files::{self, Files},
    keys::Keys,
    log::{self, Cause, End, Event},
    queues::{Bounds, Damages, Here, Queues, Report, TopicRef},
    rows::{self, Meta},
};
use crate::{
    TopicId, adopt,
    commit_log::scan::Step,
    dispatch,
    index::{Guard, key_index::KeyHasher, meta},
    num::to_u64,
};

/// One run through a store.
pub(super) struct Check<'a> {
    files: &'a Files,
    guard: Option<&'a Guard<'a>>,
    meta: Meta,
    clean: bool,
    /// Where the log ends; known at last.
    pub(super) end: End,
    topics: HashMap<String, TopicRef>,
    pub(super) unreadable: Vec<String>,
    pub(super) damages: Damages,
    pub(super) queues: Queues,
    keys: Keys,
    deleted: u64,
    pub(super) summary: Summary,
}

impl<'a> Check<'a> {
    pub(super) fn new(files: &'a Files, guard: Option<&'a Guard<'a>>) -> Self {
        Self {
            files,
            guard,
            meta: Meta::default(),
            clean: false,
            end: End::default(),
            topics: HashMap::new(),
            unreadable: Vec::new(),
            damages: Damages::default(),
            queues: Queues::default(),
            keys: Keys::default(),
            deleted: 0,
            summary: Summary::default(),
        }
    }

    pub(super) fn run(&mut self, report: Report<'_>) -> Result<(), Error> {
        self.files(report);
        if let Some(guard) = self.guard {
            self.meta = rows::meta(guard, report);
        }
        self.find_end()?;
        let bounds = self.bounds();
        if let Some(guard) = self.guard {
            let found = rows::read(guard, (self.meta, bounds.end), report)?;
            self.topics = found.topics;
            self.unreadable = found.unreadable;
            self.summary.groups = found.groups;
            self.keys = Keys::load(guard, bounds, report)?;
        }
        self.log(bounds, report)?;
        if let Some(guard) = self.guard {
            self.rows(guard, bounds, report)?;
        }
        self.tell(bounds, report);
        self.count();
        Ok(())
    }

    /// What can be said without RocksDB, when it fails on the way.
    pub(super) fn log_only(&mut self, report: Report<'_>) -> Result<(), Error> {
        self.guard = None;
        self.damages = Damages::default();
        self.queues = Queues::default();
        self.topics.clear();
        self.summary.records = 0;
        self.find_end()?;
        let bounds = self.bounds();
        self.log(bounds, report)?;
        self.tell(bounds, report);
        self.count();
        Ok(())
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            min: self.files.min(),
            end: self.end.at,
            checkpoint: self.meta.checkpoint,
            log_end: self.meta.log_end,
            log_min: self.meta.log_min,
        }
    }

    /// What the names and lengths of the files say.
    fn files(&self, report: Report<'_>) {
        for gap in self.files.gaps() {
            let durable = self.files.mark().map_or(u64::MAX, |mark| mark.durable);
            if gap.from < durable {
                let detail = if gap.to > gap.from {
                    "the next segment begins later than the one before ends"
                } else {
                    "the next segment begins before the one before ends"
                };
                let (from, to) = (gap.from.min(gap.to), gap.from.max(gap.to));
                report(Problem::new(Kind::LogGap, detail).at(from, to));
            }
        }
        if self.files.mark().is_none() && !self.files.segments.is_empty() {
            let detail = "neither slot of commitlog.watermark is intact";
            report(Problem::new(Kind::WatermarkLost, detail));
        }
        if !self.files.others.is_empty() {
            let names = self.files.others.iter().filter_map(|path| path.file_name());
            let names: Vec<_> = names.map(|name| name.to_string_lossy()).collect();
            let detail = format!("commitlog/ also holds {}", names.join(", "));
            let count = to_u64(self.files.others.len());
            report(Problem::new(Kind::OtherFiles, detail).count(count));
        }
    }

    /// Where the log ends, as opening would find it; reads only what was not known to be durable,
    /// or everything if nothing is known.
    fn find_end(&mut self) -> Result<(), Error> {
        let mark = self.files.mark();
        let certain = log::certain_end(self.files);
        if let (Some(mark), Some(certain)) = (mark, certain) {
            let covered = self.files.segment_at(certain);
            let nothing = match covered {
                Some(_) => matches!(files::Lookup::new(self.files).at(certain)?, Step::Empty),
                None => true,
            };
            self.clean = mark.clean && nothing;
        }
        let from = certain.unwrap_or_else(|| self.files.min());
        self.end = match (self.clean, certain) {
            (true, Some(certain)) => End { at: certain, torn: None },
            _ => log::walk(self.files, from, certain, &mut |_| Ok(ControlFlow::Continue(())))?,
        };
        // Missing segments make the log end before what was durable.
        let limit = self.files.segments.last().map_or(0, |segment| segment.limit_offset());
        if self.end.at > limit {
            self.end = End { at: limit, torn: None };
        }
        Ok(())
    }

    /// The log, record by record, each with its rows.
    fn log(&mut self, bounds: Bounds, report: Report<'_>) -> Result<(), Error> {
        let files = self.files;
        // What a message of a topic hashes to: neighbours often share the topic.
        let mut last: Option<(String, KeyHasher, Option<TopicRef>)> = None;
        let mut hashes = Vec::new();
        let mut failed = None;
        log::walk(files, bounds.min, Some(bounds.end), &mut |event| {
            let record = match event {
                Event::Record(record) => record,
                Event::Damage(damage) => {
                    self.damages.add(damage);
                    return Ok(ControlFlow::Continue(()));
                }
            };
            if end_of(&record) > bounds.end {
                return Ok(ControlFlow::Break(()));
            }
            if last.as_ref().is_none_or(|(name, _, _)| name != record.topic) {
                let topic = self.topics.get(record.topic).cloned();
                last = Some((record.topic.to_owned(), KeyHasher::new(record.topic), topic));
            }
            let Some((_, hasher, topic)) = &last else { return Ok(ControlFlow::Break(())) };
            hashes.clear();
            let tag_hash = dispatch::terms(record.properties, hasher, &mut hashes);
            let checked =
                self.record((&record, tag_hash), topic.as_ref(), &hashes, (bounds, &mut *report));
            Ok(match checked {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            })
        })?;
        failed.map_or(Ok(()), Err)?;
        let topics = self.by_id();
        self.queues.finish_log(&topics, report);
        if let Some(guard) = self.guard {
            self.keys.finish(guard, (bounds, &self.damages), report)?;
        }
        Ok(())
    }

    fn record(
        &mut self,
        (record, tag_hash): (&RecordView<'_>, i32),
        topic: Option<&TopicRef>,
        hashes: &[u32],
        (bounds, report): (Bounds, Report<'_>),
    ) -> Result<(), Error> {
        let log_offset = u64::try_from(record.log_offset).unwrap_or_default();
        self.summary.records += 1;
        let topic = topic.filter(|topic| topic.since <= log_offset);
        let known = match topic {
            // Half messages are in no queue.
            _ if !adopt::is_in_queue(record.sys_flag) => false,
            Some(topic) => {
                let here = Here { guard: self.guard, bounds, damages: &self.damages };
                self.queues.record((record, tag_hash), topic, &here, &mut *report)?
            }
            None => {
                self.deleted += 1;
                false
            }
        };
        if let (Some(guard), false) = (self.guard, hashes.is_empty()) {
            let keys = (log_offset, hashes, known);
            self.keys.record(guard, keys, (bounds, &self.damages), report)?;
        }
        Ok(())
    }

    fn by_id(&self) -> HashMap<TopicId, TopicRef> {
        self.topics.values().map(|topic| (topic.id, topic.clone())).collect()
    }

    /// The rows of RocksDB, each with the log.
    fn rows(&mut self, guard: &Guard<'_>, bounds: Bounds, report: Report<'_>) -> Result<(), Error> {
        let topics = self.by_id();
        let context = (self.files, bounds, &mut self.damages);
        self.queues.rows(guard, context, &topics, &mut *report)?;
        meta::queue_ends(guard, |queue, end| self.queues.ended(queue, end))?;
        let later = self.meta.unclamped || self.meta.log_end > bounds.end;
        let (count, orphans) = rows::offsets(guard, &topics, (&self.queues, later), &mut *report)?;
        self.summary.consumer_offsets = count;
        self.queues.orphans += orphans;
        if self.meta.log_end > bounds.end {
            let kind = if self.clean { Kind::IndexAhead } else { Kind::CutWindow };
            let detail = format!(
                "the index knows the log up to {}; {} entries and {} slices are behind its end",
                self.meta.log_end, self.queues.ahead, self.keys.ahead
            );
            let problem = Problem::new(kind, detail).at(bounds.end, self.meta.log_end);
            report(problem.count(self.queues.ahead));
        }
        if self.queues.before > 0 {
            let detail = "the oldest segments are missing, and nobody has deleted them";
            let problem = Problem::new(Kind::LogGap, detail).at(self.meta.log_min, bounds.min);
            report(problem.count(self.queues.before));
        }
        if self.queues.orphans > 0 {
            let detail = "rows of topics or queues that do not exist";
            report(Problem::new(Kind::OrphanRows, detail).count(self.queues.orphans));
        }
        Ok(())
    }

    /// Reports what is known only at the end.
    fn tell(&mut self, bounds: Bounds, report: Report<'_>) {
        let durable = self.files.mark().map_or(0, |mark| mark.durable);
        if durable > bounds.end {
            let detail = format!("everything up to {durable} had been made durable");
            report(Problem::new(Kind::LogShort, detail).at(bounds.end, durable));
        }
        for (damage, rows) in &self.damages.ranges {
            let contained = *rows == 0 && damage.to <= bounds.checkpoint && self.guard.is_some();
            let kind = match damage.cause {
                Cause::Filler => Kind::FillerDamage,
                Cause::Bridged => Kind::LostRange,
                // Reported as a gap.
                Cause::Missing => continue,
                Cause::Body | Cause::Head | Cause::Zeros if contained => Kind::DamageContained,
                Cause::Body | Cause::Head | Cause::Zeros => Kind::LogDamage,
            };
            let problem = Problem::new(kind, damage.reason.clone()).at(damage.from, damage.to);
            report(problem.count(*rows));
        }
        self.behind(bounds, report);
        if self.queues.window > 0 {
            let detail =
                format!("messages behind the checkpoint {} of the index", bounds.checkpoint);
            let problem =
                Problem::new(Kind::ReplayWindow, detail).at(bounds.checkpoint, bounds.end);
            report(problem.count(self.queues.window));
        }
        if self.deleted > 0 && self.guard.is_some() {
            let detail = "messages of topics that do not exist any more";
            report(Problem::new(Kind::DeletedTopics, detail).count(self.deleted));
        }
    }

    /// What lies behind the end of the log.
    fn behind(&self, bounds: Bounds, report: Report<'_>) {
        if let Some(reason) = &self.end.torn {
            report(Problem::new(Kind::TornTail, reason.clone()).at(bounds.end, bounds.end));
            return;
        }
        for segment in self.files.segments.iter().filter(|s| s.limit_offset() > bounds.end) {
            let from = bounds.end.max(segment.base_offset) - segment.base_offset;
            let kind = if self.clean { Kind::BehindEnd } else { Kind::TornTail };
            let problem = match files::first_data(&segment.path, from, segment.len) {
                Ok(None) => continue,
                Ok(Some(data)) => {
                    let at = segment.base_offset + data;
                    Problem::new(kind, "there is something behind the end").at(at, at)
                }
                Err(error) => Problem::new(kind, format!("cannot be read: {error}")),
            };
            report(problem);
            return;
        }
    }

    fn count(&mut self) {
        let damaged =
            self.damages.ranges.iter().filter(|(damage, _)| damage.cause != Cause::Filler);
        self.summary = Summary {
            log_min: self.files.min(),
            log_end: self.end.at,
            checkpoint: self.meta.checkpoint,
            segments: to_u64(self.files.segments.len()),
            damaged_bytes: damaged.map(|(damage, _)| damage.to - damage.from).sum(),
            topics: to_u64(self.topics.len()),
            queues: to_u64(self.queues.len()),
            blocks: self.queues.rows,
            entries: self.queues.entries,
            slices: self.keys.slices,
            keys: self.keys.entries,
            ..self.summary.clone()
        };
    }
}

fn end_of(record: &RecordView<'_>) -> u64 {
    u64::try_from(record.log_offset).unwrap_or_default() + u64::from(record.total_size)
}
