//! Putting right what [`super::verify`] finds. Data is never deleted: what is replaced is set
//! aside, and what is lost is named.

mod exported;
mod holes;
mod log;
mod rebuild;
mod rows;
mod tell;

use std::{ops::Range, path::Path};

use protocol::clock::Clock;
use rocksdb::WriteBatch;

use super::{
    Error, Kind, Problem, Summary,
    files::{Files, Gap},
    log::{Cause, Damage},
    salvage::{self, Source},
    verify::{self, Examined},
};
use crate::{
    Config, Store,
    commit_log::durable::{self, MarkFile},
    file::failed,
    index::{self, Index, meta},
};
use rows::Rows;

const CACHE_BYTES: usize = 32 << 20;
/// Smallest segment.
const SEGMENT_MIN_BYTES: u64 = 64 << 10;
/// Rows of one write.
const BATCH_ROWS: usize = 4096;

/// What a repair does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Puts an empty segment where one is missing.
    Bridge,
    /// Writes the end mark of a segment again.
    Filler,
    /// Writes the durable watermark.
    Watermark,
    /// Moves RocksDB aside.
    SetAside,
    /// Keeps rows of the old RocksDB.
    Keep,
    /// Takes rows that are lost from `config/*.json`, the files that RocketMQ would read.
    Restore,
    /// Makes a topic that messages are there of.
    Create,
    /// Leaves out rows.
    Drop,
    /// Builds consume queues and key index from the log.
    Rebuild,
    /// Tells consumers to pass over damaged messages.
    PassOver,
    /// Moves a consumer offset back to the end of its queue.
    MoveBack,
    /// Names what cannot be brought back.
    Lost,
    /// Names what this cannot put right.
    Remains,
}

/// One change, or what one would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it does.
    pub action: Action,
    /// The part of the log that it is about.
    pub log: Option<Range<u64>>,
    /// How many rows or messages it is about; 0 when that is not known.
    pub count: u64,
    /// What exactly.
    pub detail: String,
}

/// What a repair found and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// What was found first.
    pub before: Summary,
    /// What was found at last; nothing if nothing was done.
    pub after: Option<Summary>,
}

type Tell<'a> = &'a mut dyn FnMut(Change);

fn change(action: Action, count: u64, detail: impl Into<String>) -> Change {
    Change { action, log: None, count, detail: detail.into() }
}

/// Says through `each` what would put the store in `dir` right, and does it when there is a clock
/// for it. Blocking.
///
/// # Errors
/// [`Error`]. What was done until then is consistent; run it again.
pub fn repair(
    dir: &Path,
    apply: Option<&Clock>,
    each: &mut dyn FnMut(Change),
) -> Result<Repaired, Error> {
    let lock = super::lock(dir)?;
    let mut problems = Vec::new();
    let examined = verify::examine(dir, &mut |problem| {
        // The rest is known by its kind.
        let wanted = matches!(problem.kind, Kind::OffsetGap | Kind::OffsetRepeated);
        if wanted && problems.len() < 64 {
            problems.push(problem);
        }
    })?;
    let before = examined.summary.clone();
    let plan = Plan::of(&examined);
    tell_lost(&examined, &problems, each);
    let Some(clock) = apply.filter(|_| before.problems > 0) else {
        plan.tell(&examined, each)?;
        return Ok(Repaired { before, after: None });
    };
    plan.apply(&examined, clock, each)?;
    // Opening builds what is derived, cuts what lies behind the end, and proves the rest.
    drop(lock);
    let store = Store::open(quiet(&examined.files), clock.clone())?;
    store.close();
    drop(store);
    let _lock = super::lock(dir)?;
    plan.complete(&examined, each)?;
    let after = verify::examine(dir, &mut |_| {})?.summary;
    Ok(Repaired { before, after: Some(after) })
}

/// Settings under which opening a store deletes nothing and makes no larger files than there are.
fn quiet(files: &Files) -> Config {
    let defaults = Config::new(&files.dir);
    let largest = files.segments.iter().map(|segment| segment.len & !4095).max();
    let size = largest.unwrap_or(defaults.segment_size_bytes).max(SEGMENT_MIN_BYTES);
    Config {
        segment_size_bytes: size,
        delete_hours: Vec::new(),
        delete_unexpired: false,
        disk_clean_percent: 100,
        ..defaults
    }
}

/// What is to be done.
#[derive(Debug)]
struct Plan {
    gaps: Vec<Gap>,
    fillers: Vec<u64>,
    /// The watermark is to say this.
    durable: Option<u64>,
    rebuild: bool,
    pass_over: bool,
    /// The index knows more of the log than there is.
    cut: bool,
    /// The log begins here: what was before is missing.
    begin: Option<u64>,
}

impl Plan {
    fn of(examined: &Examined) -> Self {
        let has = |kinds: &[Kind]| kinds.iter().any(|kind| examined.kinds.contains(kind));
        let rebuild = has(&[
            Kind::IndexMissing,
            Kind::IndexUnreadable,
            Kind::IndexBehind,
            Kind::RowDamaged,
            Kind::RowContradicts,
            Kind::EntryMissing,
            Kind::EntryWrong,
            Kind::EntryStray,
            Kind::KeyMissing,
            Kind::KeyStray,
            Kind::BeyondLogEnd,
            Kind::QueueUnknown,
        ]);
        let mark = has(&[Kind::WatermarkLost, Kind::LogShort, Kind::BehindEnd, Kind::IndexBehind]);
        let fillers = examined.damages.iter().filter(|damage| damage.cause == Cause::Filler);
        let gaps = examined.files.gaps().into_iter();
        Self {
            gaps: gaps.filter(|gap| gap.from < gap.to && gap.from < examined.end).collect(),
            fillers: fillers.map(|damage| damage.from).collect(),
            durable: (mark || rebuild).then_some(examined.end),
            rebuild,
            pass_over: !rebuild && has(&[Kind::LogDamage, Kind::LogGap]),
            cut: !rebuild && has(&[Kind::IndexAhead]),
            begin: (examined.before > 0).then(|| examined.files.min()),
        }
    }

    /// What would be done.
    fn tell(&self, examined: &Examined, each: Tell<'_>) -> Result<(), Error> {
        for gap in &self.gaps {
            each(bridge(*gap));
        }
        for at in &self.fillers {
            each(filler(*at));
        }
        if let Some(durable) = self.durable {
            each(watermark(durable));
        }
        if self.rebuild {
            let salvaged = salvage::read(&examined.files, None, false)?;
            let path = examined.files.dir.join(index::DIR);
            if path.is_dir() && salvaged.source == Source::Nothing {
                let detail = "what RocksDB's own repair can read of a copy of it";
                each(change(Action::Keep, 0, detail));
            }
            Rows::of(&examined.files, examined, salvaged)?.tell(each);
            each(change(Action::Rebuild, examined.summary.records, REBUILD));
        }
        if self.pass_over {
            each(change(Action::PassOver, 0, PASS_OVER));
        }
        if self.cut {
            each(change(Action::Drop, 0, CUT));
        }
        if examined.kinds.contains(&Kind::ConsumerBeyond) {
            each(change(Action::MoveBack, 0, "consumer offsets behind the end of their queues"));
        }
        Ok(())
    }

    fn apply(&self, examined: &Examined, clock: &Clock, each: Tell<'_>) -> Result<(), Error> {
        let files = &examined.files;
        let log_dir = files.dir.join("commitlog");
        for gap in &self.gaps {
            log::write_bridge(&log_dir, files, *gap)
                .map_err(failed("bridge a gap in", &log_dir))?;
            each(bridge(*gap));
        }
        for at in &self.fillers {
            log::write_filler(files, *at).map_err(failed("write", &log_dir))?;
            each(filler(*at));
        }
        if let Some(durable) = self.durable {
            let path = files.dir.join(durable::NAME);
            let (mut mark, _) = MarkFile::open(&files.dir)?;
            mark.write(durable, 0, false).map_err(failed("write", path))?;
            each(watermark(durable));
        }
        if self.rebuild {
            rebuild::rebuild(files, examined, clock, each)?;
        }
        if self.pass_over {
            let index = Index::open(&files.dir, CACHE_BYTES)?;
            let passed = holes::pass_over(&index, examined)?;
            if let Some(begin) = self.begin {
                let mut batch = WriteBatch::default();
                meta::put_log_min(&mut batch, &index.db()?, begin);
                index.write(batch, true)?;
            }
            index.close();
            each(change(Action::PassOver, passed, PASS_OVER));
        }
        if self.cut {
            // Opening does it.
            each(change(Action::Drop, 0, CUT));
        }
        Ok(())
    }

    /// What can be done only when the queues are known again.
    fn complete(&self, examined: &Examined, each: Tell<'_>) -> Result<(), Error> {
        let files = &examined.files;
        let index = Index::open(&files.dir, CACHE_BYTES)?;
        let old = self.rebuild.then(|| rebuild::newest_aside(&files.dir)).flatten();
        if let Some(old) = old.and_then(|path| Index::read_only(&path).ok()) {
            let added = holes::reach_old_ends(&index, &old, examined)?;
            if added > 0 {
                let detail = "queue offsets at the end of queues whose messages are lost";
                each(change(Action::PassOver, added, detail));
            }
        }
        holes::move_back(&index, each)?;
        index.close();
        Ok(())
    }
}

const REBUILD: &str = "messages go into new consume queues and a new key index, each at the queue \
                       offset that it has";
const CUT: &str = "entries of the index that point behind the end of the log";
const PASS_OVER: &str = "entries of messages that cannot be read become holes, so that consumers \
                         pass over them";

fn bridge(gap: Gap) -> Change {
    let detail = "an empty segment takes the place of what is missing";
    Change { log: Some(gap.from..gap.to), ..change(Action::Bridge, 0, detail) }
}

fn filler(at: u64) -> Change {
    let detail = "the end mark of the segment is written again";
    Change { log: Some(at..at + 8), ..change(Action::Filler, 0, detail) }
}

fn watermark(durable: u64) -> Change {
    let detail = format!(
        "the watermark says that the log is durable up to {durable}, the end of its last valid \
         record, and not closed in order"
    );
    change(Action::Watermark, 0, detail)
}

/// Names what cannot be brought back, and what stays as it is.
fn tell_lost(examined: &Examined, problems: &[Problem], each: Tell<'_>) {
    for Damage { from, to, cause, reason } in &examined.damages {
        if *cause != Cause::Filler {
            let lost = change(Action::Lost, 0, format!("messages in this range: {reason}"));
            each(Change { log: Some(*from..*to), ..lost });
        }
    }
    let durable = examined.files.mark().map_or(0, |mark| mark.durable);
    if durable > examined.end {
        let lost = change(Action::Lost, 0, "the log ends here, this was durable once");
        each(Change { log: Some(examined.end..durable), ..lost });
    }
    if examined.before > 0 {
        let detail = "messages of the oldest segments, which are missing";
        let lost = change(Action::Lost, examined.before, detail);
        each(Change { log: Some(0..examined.files.min()), ..lost });
    }
    for gap in examined.files.gaps().iter().filter(|gap| gap.from > gap.to) {
        let detail = format!(
            "the segment {:020} begins inside of the one before; move one of them away",
            gap.to
        );
        each(Change { log: Some(gap.to..gap.from), ..change(Action::Remains, 0, detail) });
    }
    for problem in problems {
        each(change(Action::Remains, problem.count, problem.to_string()));
    }
}
