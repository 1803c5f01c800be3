//! Putting right what [`super::verify`] finds. Data is never deleted: what is replaced is set
//! aside, and what is lost is named.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fs,
    ops::{ControlFlow, Range},
    path::{Path, PathBuf},
};

use prost::Message;
use protocol::{
    clock::Clock,
    record::{self, RecordView},
};
use rocksdb::WriteBatch;

use super::{
    Error, Kind, Problem, Summary,
    files::{Files, Gap},
    log::{self, Cause, Damage, Event},
    salvage::{self, Salvaged, Source},
    verify::{self, Examined},
};
use crate::{
    Config, QueueOffset, Store, TopicConfig, TopicId, adopt,
    commit_log::durable::MarkFile,
    dispatch::queue_offset,
    file::{self, DiskFile, failed},
    index::{
        self, Family, Guard, Index,
        consume_queue::{self, BLOCK_ENTRIES, Block, BlockEntry},
        consumer_offset, for_each,
        meta::{self, Versioned},
        topic::TopicRow,
    },
    num::to_u64,
    tail::GAP_MAX,
};

/// Largest segment that bridges a missing range.
const BRIDGE_MAX_BYTES: u64 = 1 << 30;
const CACHE_BYTES: usize = 32 << 20;
/// Smallest segment.
const SEGMENT_MIN_BYTES: u64 = 64 << 10;
/// Rows of one write.
const BATCH_ROWS: usize = 4096;
/// Most queues of a topic that is made from its messages.
const QUEUES_MAX: u32 = 65_536;

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
    /// Takes rows from the files that RocketMQ would read.
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
            let salvaged = salvage::read(&examined.files, None)?;
            let path = examined.files.dir.join(index::DIR);
            if path.is_dir() && salvaged.source == Source::Nothing {
                let detail = "what RocksDB's own repair can read of a copy of it";
                each(change(Action::Keep, 0, detail));
            }
            let json = examined.files.dir.join("config/topics.json").is_file();
            if json && salvaged.source == Source::Nothing {
                each(change(Action::Restore, 0, RESTORE));
            } else {
                Rows::of(&examined.files, examined, salvaged)?.tell(each);
            }
            each(change(Action::Rebuild, examined.summary.records, REBUILD));
        }
        if self.pass_over {
            each(change(Action::PassOver, 0, PASS_OVER));
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
            write_bridge(&log_dir, files, *gap).map_err(failed("bridge a gap in", &log_dir))?;
            each(bridge(*gap));
        }
        for at in &self.fillers {
            write_filler(files, *at).map_err(failed("write", &log_dir))?;
            each(filler(*at));
        }
        if let Some(durable) = self.durable {
            let path = files.dir.join(crate::commit_log::durable::NAME);
            let (mut mark, _) = MarkFile::open(&files.dir)?;
            mark.write(durable, 0, false).map_err(failed("write", path))?;
            each(watermark(durable));
        }
        if self.rebuild {
            rebuild(files, examined, clock, each)?;
        }
        if self.pass_over {
            let index = Index::open(&files.dir, CACHE_BYTES)?;
            let passed = pass_over(&index, examined)?;
            if let Some(begin) = self.begin {
                let mut batch = WriteBatch::default();
                meta::put_log_min(&mut batch, &index.db()?, begin);
                index.write(batch, true)?;
            }
            index.close();
            each(change(Action::PassOver, passed, PASS_OVER));
        }
        Ok(())
    }

    /// What can be done only when the queues are known again.
    fn complete(&self, examined: &Examined, each: Tell<'_>) -> Result<(), Error> {
        let files = &examined.files;
        let index = Index::open(&files.dir, CACHE_BYTES)?;
        let old = self.rebuild.then(|| newest_aside(&files.dir)).flatten();
        if let Some(old) = old.and_then(|path| Index::read_only(&path).ok()) {
            let added = reach_old_ends(&index, &old, examined)?;
            if added > 0 {
                let detail = "queue offsets at the end of queues whose messages are lost";
                each(change(Action::PassOver, added, detail));
            }
        }
        move_back(&index, each)?;
        index.close();
        Ok(())
    }
}

const REBUILD: &str = "messages go into new consume queues and a new key index, each at the queue \
                       offset that it has";
const RESTORE: &str = "topics, groups and consumer offsets come from config/*.json, as they were when \
                       those were written";
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

/// Puts empty segments where some are missing. They have no blocks: nothing is ever written there.
fn write_bridge(log_dir: &Path, files: &Files, gap: Gap) -> std::io::Result<()> {
    // A segment that is too short gets its length back; what is missing in it reads as zeros.
    let short = files.segments.iter().find(|segment| segment.limit_offset() == gap.from);
    let usual = files.segments.iter().map(|segment| segment.len).max().unwrap_or_default();
    let mut from = gap.from;
    if let Some(short) = short.filter(|short| short.len < usual) {
        let to = (short.base_offset + usual).min(gap.to);
        let file = DiskFile::open(&short.path)?;
        file.write_at(&[0], to - short.base_offset - 1)?;
        file.sync()?;
        from = to;
    }
    while from < gap.to {
        let len = (gap.to - from).min(BRIDGE_MAX_BYTES);
        let path = log_dir.join(format!("{from:020}"));
        let file = DiskFile::create(&path)?;
        let filler = u32::try_from(len).map_err(std::io::Error::other)?;
        file.write_at(&[0], len - 1)?;
        file.write_at(&record::blank(filler), 0)?;
        file.sync()?;
        from += len;
    }
    file::sync_dir(log_dir)
}

fn write_filler(files: &Files, at: u64) -> std::io::Result<()> {
    let segment = files.segment_at(at).ok_or_else(|| std::io::Error::other("no such segment"))?;
    let left = segment.limit_offset() - at;
    let Ok(left) = u32::try_from(left) else { return Err(std::io::Error::other("too long")) };
    // Less than a filler needs no filler.
    if to_u64(record::BLANK_BYTES) > u64::from(left) {
        return Ok(());
    }
    let file = DiskFile::open(&segment.path)?;
    file.write_at(&record::blank(left), at - segment.base_offset)?;
    file.sync()
}

/// The rows of a new RocksDB.
#[derive(Debug)]
struct Rows {
    salvaged: Salvaged,
    /// Topics that have messages and no row.
    created: Vec<(String, TopicRow)>,
    dropped_offsets: u64,
    /// Where the log begins and ends.
    begin: u64,
    end: u64,
}

/// What the log says about a topic.
#[derive(Debug, Default)]
struct Seen {
    queues: HashMap<u32, u64>,
    /// Where its newest incarnation begins: queue offsets do not go back in one.
    since: u64,
    last: u64,
}

impl Rows {
    fn of(files: &Files, examined: &Examined, mut salvaged: Salvaged) -> Result<Self, Error> {
        let mut seen = seen(files, examined.end)?;
        // A topic has as many queues as it has messages in.
        for (name, row) in &mut salvaged.topics {
            if let Some(seen) = seen.remove(name) {
                let newest = seen.queues.keys().max().map_or(0, |id| id + 1);
                row.queues = row.queues.max(newest.min(QUEUES_MAX));
            }
        }
        let mut ids: HashSet<u32> = salvaged.topics.iter().map(|(_, row)| row.id).collect();
        let mut created = Vec::new();
        for (name, of) in seen {
            // Where rows were readable, a topic without one was deleted.
            let wanted = of.last >= salvaged.log_end || examined.unreadable.contains(&name);
            if !wanted {
                continue;
            }
            let known = salvaged.names.iter().find(|(id, of)| **of == name && !ids.contains(&id.0));
            let id = known.map_or(salvaged.next_topic_id, |(id, _)| id.0);
            salvaged.next_topic_id = salvaged.next_topic_id.max(id + 1);
            ids.insert(id);
            let queues = of.queues.keys().max().map_or(1, |id| id + 1).min(QUEUES_MAX);
            let config = TopicConfig {
                name: name.clone(),
                read_queues: queues,
                write_queues: queues,
                perm: 6,
                ..TopicConfig::default()
            };
            created.push((name, TopicRow::new(TopicId(id), of.since, queues, &config)));
        }
        created.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let queues: HashMap<u32, u32> =
            salvaged.topics.iter().chain(&created).map(|(_, row)| (row.id, row.queues)).collect();
        let before = salvaged.offsets.len();
        salvaged.offsets.retain(|(_, topic, queue_id, _)| {
            queues.get(&topic.0).is_some_and(|count| queue_id < count)
        });
        let dropped_offsets = to_u64(before - salvaged.offsets.len());
        // What retention has deleted must not come back; what is missing will not.
        let begin = if salvaged.log_min > 0 || examined.before > 0 { files.min() } else { 0 };
        Ok(Self { salvaged, created, dropped_offsets, begin, end: examined.end })
    }

    fn tell(&self, each: Tell<'_>) {
        let Salvaged { topics, groups, offsets, unreadable, source, .. } = &self.salvaged;
        let how = match source {
            Source::AsIs => "of the old RocksDB",
            Source::Manifest => "of the old RocksDB, opened with its newest manifest",
            Source::Repaired => "of the old RocksDB, after RocksDB's own repair of a copy",
            Source::Nothing => "",
        };
        let kept = [("topics", topics.len()), ("groups", groups.len()), ("offsets", offsets.len())];
        for (what, count) in kept.into_iter().filter(|_| *source != Source::Nothing) {
            each(change(Action::Keep, to_u64(count), format!("{what} {how}")));
        }
        if *source == Source::Nothing {
            let detail = "all groups, consumer offsets and settings of topics: nothing of RocksDB \
                          can be read";
            each(change(Action::Lost, 0, detail));
        }
        if *unreadable > 0 {
            each(change(Action::Drop, *unreadable, "rows that cannot be decoded"));
        }
        if self.dropped_offsets > 0 {
            let detail = "consumer offsets of topics or queues that do not exist";
            each(change(Action::Drop, self.dropped_offsets, detail));
        }
        for (name, row) in &self.created {
            let detail = format!(
                "topic {name} with {} queues as its messages have them, readable and writable; \
                 other settings are lost",
                row.queues
            );
            each(change(Action::Create, 1, detail));
        }
    }

    /// Writes them to a new RocksDB in `dir`.
    fn write(self, dir: &Path) -> Result<(), Error> {
        let index = Index::open(dir, CACHE_BYTES)?;
        {
            let guard = index.db()?;
            let mut batch = WriteBatch::default();
            meta::put_schema(&mut batch, &guard);
            meta::put_next_topic_id(&mut batch, &guard, self.salvaged.next_topic_id);
            meta::put_log_end(&mut batch, &guard, self.end);
            if self.begin > 0 {
                meta::put_log_min(&mut batch, &guard, self.begin);
            }
            for (of, version) in [
                (Versioned::Topics, self.salvaged.topic_version),
                (Versioned::Groups, self.salvaged.group_version),
            ] {
                meta::put_version(&mut batch, &guard, of, version);
            }
            for (queue, end) in self.salvaged.queue_ends {
                meta::put_queue_end(&mut batch, &guard, queue, end);
            }
            for (name, mut row) in self.salvaged.topics.into_iter().chain(self.created) {
                row.since_log_offset = row.since_log_offset.min(self.end);
                batch.put_cf(guard.family(Family::Topic), name, row.encode_to_vec());
            }
            for (name, row) in self.salvaged.groups {
                batch.put_cf(guard.family(Family::Group), name, row);
            }
            for (group, topic, queue_id, offset) in self.salvaged.offsets {
                let key = consumer_offset::key(&group, topic, queue_id);
                let value = consumer_offset::value(offset);
                batch.put_cf(guard.family(Family::ConsumerOffset), key, value);
                if batch.len() >= BATCH_ROWS {
                    index.write(std::mem::take(&mut batch), false)?;
                }
            }
            index.write(batch, true)?;
        }
        index.close();
        Ok(())
    }
}

/// What the log says about each topic.
fn seen(files: &Files, end: u64) -> Result<BTreeMap<String, Seen>, Error> {
    let mut topics: BTreeMap<String, Seen> = BTreeMap::new();
    log::walk(files, files.min(), Some(end), &mut |event| {
        let Event::Record(record) = event else { return Ok(ControlFlow::Continue(())) };
        let at = u64::try_from(record.log_offset).unwrap_or_default();
        if at >= end {
            return Ok(ControlFlow::Break(()));
        }
        if !topics.contains_key(record.topic) {
            topics.insert(record.topic.to_owned(), Seen::default());
        }
        if let Some(seen) = topics.get_mut(record.topic) {
            seen.add(&record, at);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(topics)
}

impl Seen {
    fn add(&mut self, record: &RecordView<'_>, at: u64) {
        let queue_id = u32::try_from(record.queue_id).ok().filter(|&id| id < QUEUES_MAX);
        let (Some(queue_id), Some(offset)) = (queue_id, queue_offset(record.queue_offset)) else {
            return;
        };
        self.last = at;
        if self.queues.get(&queue_id).is_some_and(|&next| offset < next) {
            self.queues.clear();
            self.since = at;
        }
        self.queues.insert(queue_id, offset + 1);
    }
}

/// Moves RocksDB aside and puts a new one in its place.
fn rebuild(files: &Files, examined: &Examined, clock: &Clock, each: Tell<'_>) -> Result<(), Error> {
    let now = clock.now_ms();
    let (path, scratch) = (files.dir.join(index::DIR), files.dir.join(format!("repair-{now}")));
    let (copy, new) = (scratch.join("copy"), scratch.join("new"));
    for dir in [&copy, &new] {
        file::create_dir(dir).map_err(failed("create", dir))?;
    }
    let salvaged = salvage::read(files, Some(&copy))?;
    let readable = salvaged.path.clone().filter(|readable| *readable != path);
    if salvaged.source != Source::Nothing || !restore(files, &new, each)? {
        let rows = Rows::of(files, examined, salvaged)?;
        rows.tell(each);
        rows.write(&new)?;
    }
    let aside = files.dir.join(format!("{ASIDE}{now}"));
    if path.is_dir() {
        file::rename(&path, &aside).map_err(failed("set aside", &path))?;
        let detail = format!("the old RocksDB is in {} now", aside.display());
        each(change(Action::SetAside, 1, detail));
    }
    file::rename(&new.join(index::DIR), &path).map_err(failed("put in place", &path))?;
    // What the copy made readable is worth as much as the original.
    if let Some(readable) = readable {
        let kept = files.dir.join(format!("{ASIDE}{now}-readable"));
        file::rename(&readable, &kept).map_err(failed("set aside", &readable))?;
    }
    fs::remove_dir_all(&scratch).map_err(failed("remove", &scratch))?;
    each(change(Action::Rebuild, examined.summary.records, REBUILD));
    Ok(())
}

/// Takes topics, groups and offsets from the files that the broker writes for RocketMQ, or that
/// RocketMQ has written, into a new RocksDB. `false` if there are none.
fn restore(files: &Files, new: &Path, each: Tell<'_>) -> Result<bool, Error> {
    let index = Index::open(new, CACHE_BYTES)?;
    let restored = adopt::restore(&quiet(files), &index)?;
    index.close();
    if restored {
        each(change(Action::Restore, 0, RESTORE));
    }
    Ok(restored)
}

/// Begins the names of directories that were set aside.
const ASIDE: &str = "rocksdb.broken-";

/// The directory that was set aside last.
fn newest_aside(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok());
    names.filter(|name| name.starts_with(ASIDE)).max().map(|name| dir.join(name))
}

/// Whether the records at a log offset cannot be read any more.
fn is_lost(examined: &Examined, offset: u64) -> bool {
    let after = examined.damages.partition_point(|damage| damage.from <= offset);
    let damage = after.checked_sub(1).and_then(|at| examined.damages.get(at));
    damage.is_some_and(|damage| offset < damage.to && damage.cause != Cause::Filler)
}

/// Makes holes of the entries that point into damage.
fn pass_over(index: &Index, examined: &Examined) -> Result<u64, Error> {
    let guard = index.db()?;
    let mut batch = WriteBatch::default();
    let mut count = 0;
    for_each(guard.db().raw_iterator_cf(guard.family(Family::ConsumeQueue)), |key, value| {
        let Some((_, _, mut block)) = consume_queue::decode_row(key, value) else { return Ok(()) };
        let mut changed = false;
        for entry in block.entries.iter_mut().filter(|entry| !entry.is_hole()) {
            if is_lost(examined, entry.log_offset) {
                *entry = BlockEntry { log_offset: entry.log_offset, ..BlockEntry::default() };
                changed = true;
                count += 1;
            }
        }
        if changed {
            batch.put_cf(guard.family(Family::ConsumeQueue), key, encode(&block));
        }
        if batch.len() >= BATCH_ROWS {
            index.write(std::mem::take(&mut batch), false)?;
        }
        Ok(())
    })?;
    index.write(batch, true)?;
    Ok(count)
}

fn encode(block: &Block) -> Vec<u8> {
    consume_queue::encode(block.start, block.first_ms, block.entries.iter().copied())
}

/// The last message of a queue that is lost.
#[derive(Clone, Copy, Debug)]
struct LastLost {
    queue: (TopicId, u32),
    /// The queue offset behind it.
    to: u64,
    log_offset: u64,
    first_ms: i64,
}

/// Where the last messages of a queue are lost, the queue ends before it did: the next message would
/// get an offset that another one had. Holes keep the offsets. Returns how many there are.
fn reach_old_ends(index: &Index, old: &Index, examined: &Examined) -> Result<u64, Error> {
    let (guard, old) = (index.db()?, old.db()?);
    let mut topics = HashMap::new();
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |_, value| {
        if let Ok(row) = TopicRow::decode(value) {
            topics.insert(row.id, row.queues);
        }
        Ok(())
    })?;
    let mut batch = WriteBatch::default();
    let mut added = 0;
    let mut last: Option<LastLost> = None;
    let mut ends = consume_queue::Ends::new(&guard);
    let mut each = |done: LastLost| extend(&guard, &mut ends, &mut batch, done);
    let min = examined.files.min();
    for_each(old.db().raw_iterator_cf(old.family(Family::ConsumeQueue)), |key, value| {
        let Some((topic, queue_id, block)) = consume_queue::decode_row(key, value) else {
            return Ok(());
        };
        let lost = |entry: &BlockEntry| {
            entry.end() <= examined.end
                && (entry.log_offset < min || is_lost(examined, entry.log_offset))
        };
        let there = topics.get(&topic.0).is_some_and(|queues| queue_id < *queues);
        let Some(place) = block.entries.iter().rposition(lost).filter(|_| there) else {
            return Ok(());
        };
        let of = LastLost {
            queue: (topic, queue_id),
            to: block.first() + to_u64(place) + 1,
            log_offset: block.entries.get(place).map_or(0, |entry| entry.log_offset),
            first_ms: block.first_ms,
        };
        let done = last.replace(of).filter(|done| done.queue != of.queue);
        added += done.map_or(Ok(0), &mut each)?;
        Ok(())
    })?;
    added += last.map_or(Ok(0), &mut each)?;
    index.write(batch, true)?;
    Ok(added)
}

/// Adds holes to a queue up to behind its last lost message.
fn extend(
    guard: &Guard<'_>,
    ends: &mut consume_queue::Ends<'_>,
    batch: &mut WriteBatch,
    lost: LastLost,
) -> Result<u64, crate::ReadError> {
    let LastLost { queue: (topic, queue_id), to, .. } = lost;
    let from = ends.of((topic, queue_id))?;
    if from == 0 {
        meta::put_queue_end(batch, guard, (topic, queue_id), to);
        return Ok(1);
    }
    if to <= from || to - from > GAP_MAX {
        return Ok(0);
    }
    let partial = consume_queue::Blocks::of(guard, (topic, queue_id)).last()?;
    let mut partial = partial.filter(|block| block.number == from / BLOCK_ENTRIES);
    let mut at = from;
    while at < to {
        let number = at / BLOCK_ENTRIES;
        let mut block = partial.take().unwrap_or_else(|| Block {
            number,
            start: u8::try_from(at % BLOCK_ENTRIES).expect("a block has 64 places"),
            first_ms: lost.first_ms,
            entries: Vec::new(),
        });
        let log_offset = block.entries.last().map_or(0, |entry| entry.end()).max(lost.log_offset);
        while at < to && at / BLOCK_ENTRIES == number {
            block.entries.push(BlockEntry { log_offset, ..BlockEntry::default() });
            at += 1;
        }
        let key = consume_queue::key(topic, queue_id, number);
        batch.put_cf(guard.family(Family::ConsumeQueue), key, encode(&block));
    }
    Ok(to - from)
}

/// Moves consumer offsets that point behind the end of their queue back to it.
fn move_back(index: &Index, each: Tell<'_>) -> Result<(), Error> {
    let guard = index.db()?;
    let mut names = HashMap::new();
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |key, value| {
        if let Ok(row) = TopicRow::decode(value) {
            names.insert(TopicId(row.id), String::from_utf8_lossy(key).into_owned());
        }
        Ok(())
    })?;
    let mut ends = consume_queue::Ends::new(&guard);
    let mut batch = WriteBatch::default();
    consumer_offset::scan(&guard, None, |group, topic, queue_id, offset| {
        let Some(name) = names.get(&topic) else { return Ok(()) };
        let end = ends.of((topic, queue_id))?;
        if offset.0 > end {
            let detail =
                format!("group {group}, topic {name} queue {queue_id}: from {offset} to {end}");
            each(change(Action::MoveBack, 1, detail));
            let key = consumer_offset::key(group, topic, queue_id);
            let value = consumer_offset::value(QueueOffset(end));
            batch.put_cf(guard.family(Family::ConsumerOffset), key, value);
        }
        Ok(())
    })?;
    index.write(batch, true)?;
    Ok(())
}
