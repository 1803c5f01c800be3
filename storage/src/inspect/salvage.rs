//! Reading what is left of a RocksDB: as it is, else a copy of it without the damaged places of its
//! write-ahead log, else with another manifest, else after RocksDB's own repair.

use std::{
    collections::HashMap,
    fs, io,
    ops::{Bound, RangeBounds},
    path::{Path, PathBuf},
};

use prost::Message;
use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode, WriteBatch};

use super::{
    files::{Files, Lookup},
    wal,
};
use crate::{
    DataVersion, OpenError, QueueOffset, ReadError, TopicId,
    commit_log::scan::Step,
    file::failed,
    index::{
        self, Family, Guard, Index, consume_queue, consumer_offset,
        group::GroupRow,
        mend,
        meta::{self, Versioned},
        options,
        topic::TopicRow,
    },
    num::to_u64,
};

const CACHE_BYTES: usize = 32 << 20;
/// Blocks of one topic that are looked at to learn its name.
const NAME_ROWS: usize = 64;

/// How the rows could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// RocksDB opens.
    AsIs,
    /// It opens without the damaged places of its write-ahead log.
    Skipped,
    /// It opens with the newest manifest named in `CURRENT`.
    Manifest,
    /// It opens after RocksDB's repair, which may bring back what was deleted.
    Repaired,
    /// There is nothing to read.
    Nothing,
}

/// Rows of a primary family that could not be read: the range of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) family: Family,
    keys: (Bound<Vec<u8>>, Bound<Vec<u8>>),
}

impl Hole {
    /// Any row may be missing, and one that is there may be older than one that is missing.
    fn everywhere(family: Family) -> Self {
        Self { family, keys: (Bound::Unbounded, Bound::Unbounded) }
    }

    fn at(family: Family, key: &[u8]) -> Self {
        Self { family, keys: (Bound::Included(key.to_vec()), Bound::Included(key.to_vec())) }
    }

    fn is_everywhere(&self) -> bool {
        self.keys == (Bound::Unbounded, Bound::Unbounded)
    }
}

/// What could be read.
#[derive(Debug)]
pub(super) struct Salvaged {
    pub(super) source: Source,
    pub(super) topics: Vec<(String, TopicRow)>,
    pub(super) groups: Vec<(String, Vec<u8>)>,
    pub(super) offsets: Vec<(String, TopicId, u32, QueueOffset)>,
    /// Rows that cannot be decoded.
    pub(super) unreadable: u64,
    /// Names of topic ids, as their messages have them.
    pub(super) names: HashMap<TopicId, String>,
    pub(super) next_topic_id: u32,
    /// `None` if it could not be read.
    pub(super) topic_version: Option<DataVersion>,
    /// `None` if it could not be read.
    pub(super) group_version: Option<DataVersion>,
    /// Where queues ended when their last message was deleted.
    pub(super) queue_ends: Vec<((TopicId, u32), u64)>,
    /// Whether some of them could not be read.
    pub(super) queue_ends_lost: bool,
    /// What could not be read of topics, groups and consumer offsets.
    pub(super) holes: Vec<Hole>,
    /// Records before this are in consume queues if their topic is there; 0 if that is not certain.
    pub(super) checkpoint: u64,
    /// Everything that concerns the log before this was in it.
    pub(super) log_end: u64,
    pub(super) log_min: u64,
    /// RocksDB's directory that could be opened.
    pub(super) path: Option<PathBuf>,
}

impl Salvaged {
    fn nothing() -> Self {
        Self {
            source: Source::Nothing,
            topics: Vec::new(),
            groups: Vec::new(),
            offsets: Vec::new(),
            unreadable: 0,
            names: HashMap::new(),
            next_topic_id: 1,
            topic_version: None,
            group_version: None,
            queue_ends: Vec::new(),
            queue_ends_lost: true,
            holes: SALVAGED.map(Hole::everywhere).into(),
            checkpoint: 0,
            log_end: 0,
            log_min: 0,
            path: None,
        }
    }

    /// Whether there may have been a row of this key that could not be read.
    pub(super) fn may_have_had(&self, family: Family, key: &[u8]) -> bool {
        let key = key.to_vec();
        self.holes.iter().any(|hole| hole.family == family && hole.keys.contains(&key))
    }

    /// Whether rows of a family that could be read may be older than ones that could not, or may
    /// have been deleted.
    pub(super) fn is_doubtful(&self, family: Family) -> bool {
        self.holes.iter().any(|hole| hole.family == family && hole.is_everywhere())
    }

    /// Takes the rows of the families that could not be read at all from what RocksDB's repair has
    /// made readable.
    fn fill_from(&mut self, repaired: Self) {
        if self.is_doubtful(Family::Topic) {
            self.topics = repaired.topics;
        }
        if self.is_doubtful(Family::Group) {
            self.groups = repaired.groups;
        }
        if self.is_doubtful(Family::ConsumerOffset) {
            self.offsets = repaired.offsets;
        }
        self.next_topic_id = self.next_topic_id.max(repaired.next_topic_id);
    }
}

/// No name, and too short for the key of an offset.
const NO_KEY: &[u8] = &[0];
/// The families whose rows nothing else tells.
const SALVAGED: [Family; 3] = [Family::Topic, Family::Group, Family::ConsumerOffset];

/// Reads what is left of the RocksDB of a store. `scratch` is a directory for a copy, which is made
/// if RocksDB does not open or if it is `behind`: then it opens and has forgotten what follows the
/// first damaged place of its write-ahead log.
pub(super) fn read(
    files: &Files,
    scratch: Option<&Path>,
    behind: bool,
) -> Result<Salvaged, super::Error> {
    let path = files.dir.join(index::DIR);
    if !path.is_dir() {
        return Ok(Salvaged::nothing());
    }
    let as_is = Index::read_only(&path)
        .map_err(super::Error::from)
        .and_then(|index| rows(&index, files, Source::AsIs));
    let Some(scratch) = scratch else { return Ok(as_is.unwrap_or_else(|_| Salvaged::nothing())) };
    let copied = |source| read_copy(files, scratch, source);
    match as_is {
        Ok(mut as_is) if behind => {
            as_is.holes.extend(SALVAGED.map(Hole::everywhere));
            Ok(copied(Source::Skipped)?.unwrap_or(as_is))
        }
        Ok(mut as_is) => {
            if SALVAGED.iter().any(|family| as_is.is_doubtful(*family))
                && let Some(repaired) = copied(Source::Repaired)?
            {
                as_is.fill_from(repaired);
            }
            Ok(as_is)
        }
        Err(error) => {
            tracing::warn!(%error, "RocksDB cannot be read as it is");
            for source in [Source::Skipped, Source::Manifest, Source::Repaired] {
                if let Some(salvaged) = copied(source)? {
                    return Ok(salvaged);
                }
            }
            Ok(Salvaged::nothing())
        }
    }
}

/// Reads a copy of a RocksDB in `scratch`, which is removed if it cannot be read this way either.
fn read_copy(
    files: &Files,
    scratch: &Path,
    source: Source,
) -> Result<Option<Salvaged>, super::Error> {
    let (path, copy) = (files.dir.join(index::DIR), scratch.join(index::DIR));
    copy_database(&path, &copy).map_err(failed("copy", &path))?;
    match open_copy(&path, scratch, source).and_then(|index| rows(&index, files, source)) {
        Ok(salvaged) => Ok(Some(salvaged)),
        Err(error) => {
            tracing::warn!(%error, ?source, "RocksDB cannot be read this way");
            fs::remove_dir_all(&copy).map_err(failed("remove", &copy))?;
            Ok(None)
        }
    }
}

/// Opens the copy of the RocksDB in `path`, passing over what is damaged.
fn open_copy(path: &Path, scratch: &Path, source: Source) -> Result<Index, super::Error> {
    let copy = scratch.join(index::DIR);
    let unreadable = |source| OpenError::Index { path: copy.clone(), source };
    let mut options = options::of_database(0);
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    options.set_track_and_verify_wals_in_manifest(false);
    match source {
        Source::Manifest => name_manifest(&copy).map_err(failed("write", &copy))?,
        Source::Repaired => {
            DB::repair(&options, &copy).map_err(unreadable)?;
            let found = DB::list_cf(&options, &copy).map_err(unreadable)?;
            let missing = |family: &Family| !found.iter().any(|name| name == family.name());
            let missing: Vec<_> = SALVAGED.into_iter().filter(missing).collect();
            if !missing.is_empty() {
                fs::remove_dir_all(&copy).map_err(failed("remove", &copy))?;
                copy_database(path, &copy).map_err(failed("copy", path))?;
                add_tables(scratch, &missing)?;
                DB::repair(&options, &copy).map_err(unreadable)?;
            }
        }
        Source::AsIs | Source::Skipped | Source::Nothing => {}
    }
    let families = Family::ALL.map(|family| {
        let cache = rocksdb::Cache::new_lru_cache(CACHE_BYTES);
        ColumnFamilyDescriptor::new(family.name(), options::of_family(family, &cache))
    });
    // Opening writes what it could read into tables.
    drop(DB::open_cf_descriptors(&options, &copy, families).map_err(unreadable)?);
    Ok(Index::open(scratch, CACHE_BYTES)?)
}

/// RocksDB's repair knows families by their tables and forgets what its log has of others. This gives
/// each of `families` a table that deletes a key which is none.
fn add_tables(scratch: &Path, families: &[Family]) -> Result<(), super::Error> {
    let dir = scratch.join("tables");
    // New families are numbered in one order, and these are never made anew.
    let index = Index::open(&dir, CACHE_BYTES)?;
    let mut batch = WriteBatch::default();
    let files = {
        let guard = index.db()?;
        for family in families {
            batch.delete_cf(guard.family(*family), NO_KEY);
        }
        index.write(batch, true)?;
        for family in families {
            guard.db().flush_cf(guard.family(*family)).map_err(index::read_error)?;
        }
        guard.db().live_files().map_err(index::read_error)?
    };
    let copy = scratch.join(index::DIR);
    let newest = newest_number(&copy).map_err(failed("read", &copy))?;
    for (number, file) in (newest + 1..).zip(files) {
        let from = index.path().join(file.name.trim_start_matches('/'));
        let to = copy.join(format!("{number:06}.sst"));
        fs::copy(&from, &to).map_err(failed("copy", &from))?;
    }
    index.close();
    fs::remove_dir_all(&dir).map_err(failed("remove", &dir))?;
    Ok(())
}

/// The largest number of a file of RocksDB.
fn newest_number(dir: &Path) -> io::Result<u64> {
    let names =
        fs::read_dir(dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let number = |name: String| {
        let digits = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    Ok(names.filter_map(number).max().unwrap_or_default())
}

/// Tables never change, so links to them will do; everything else is copied, but for damaged records
/// of the write-ahead log and what [`mend`] puts right.
fn copy_database(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        let table = entry.path().extension().is_some_and(|extension| extension == "sst");
        if !entry.file_type()?.is_file() || entry.file_name() == "LOCK" {
            continue;
        }
        if !table || fs::hard_link(entry.path(), &target).is_err() {
            fs::copy(entry.path(), &target)?;
        }
    }
    mend::mend(to)?;
    wal::leave_out_damage(to)
}

/// Makes `CURRENT` name the newest manifest.
fn name_manifest(dir: &Path) -> io::Result<()> {
    let names =
        fs::read_dir(dir)?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let newest = names.filter(|name| name.starts_with("MANIFEST-")).max();
    let newest = newest.ok_or_else(|| io::Error::other("there is no manifest"))?;
    fs::write(dir.join("CURRENT"), format!("{newest}\n"))
}

fn rows(index: &Index, files: &Files, source: Source) -> Result<Salvaged, super::Error> {
    let guard = index.db()?;
    let path = Some(index.path().to_owned());
    let mut of = Salvaged { source, path, holes: Vec::new(), ..Salvaged::nothing() };
    let (mut holes, mut undecodable) = (Vec::new(), Vec::new());
    holes.extend(each_readable(&guard, Family::Topic, &mut |key, value| match (
        std::str::from_utf8(key),
        TopicRow::decode(value),
    ) {
        (Ok(name), Ok(row)) if !name.is_empty() && row.id > 0 => {
            of.topics.push((name.to_owned(), row));
        }
        _ => undecodable.push(Hole::at(Family::Topic, key)),
    }));
    holes.extend(each_readable(&guard, Family::Group, &mut |key, value| match (
        std::str::from_utf8(key),
        GroupRow::decode(value),
    ) {
        (Ok(name), Ok(_)) if !name.is_empty() => {
            of.groups.push((name.to_owned(), value.to_vec()));
        }
        _ => undecodable.push(Hole::at(Family::Group, key)),
    }));
    holes.extend(each_readable(&guard, Family::ConsumerOffset, &mut |key, value| {
        match consumer_offset::decode(key, value) {
            Ok((group, topic, queue_id, offset)) => {
                of.offsets.push((group.to_owned(), topic, queue_id, offset));
            }
            Err(_) => undecodable.push(Hole::at(Family::ConsumerOffset, key)),
        }
    }));
    of.unreadable = to_u64(undecodable.len());
    of.holes = holes;
    of.holes.append(&mut undecodable);
    let repaired = source == Source::Repaired;
    let doubtful = source == Source::Skipped || (repaired && has_lost_tables(index.path()));
    if doubtful {
        of.holes.extend(SALVAGED.map(Hole::everywhere));
    }
    // What cannot be read here is made good: numbers begin behind all that are in use.
    of.next_topic_id = meta::next_topic_id(&guard).unwrap_or(1);
    of.topic_version = meta::version(&guard, Versioned::Topics).ok();
    of.group_version = meta::version(&guard, Versioned::Groups).ok();
    of.log_end = meta::log_end(&guard).unwrap_or_default();
    of.log_min = meta::log_min(&guard).unwrap_or_default();
    let ends = meta::queue_ends(&guard, |queue, end| of.queue_ends.push((queue, end)));
    of.queue_ends_lost = ends.is_err() || doubtful;
    if repaired || of.topics.is_empty() {
        of.log_end = 0;
    }
    // Without consume queues only names are missing.
    if let Ok(names) = names(&guard, files) {
        of.names = names;
        let checkpoint = meta::checkpoint(&guard).ok().filter(|_| source == Source::AsIs);
        of.checkpoint = checkpoint.map_or(0, |checkpoint| checkpoint.log_offset);
    }
    let used = of.topics.iter().map(|(_, row)| row.id);
    let used =
        used.chain(of.names.keys().map(|id| id.0)).chain(of.offsets.iter().map(|row| row.1.0));
    of.next_topic_id = used.max().map_or(1, |id| id.saturating_add(1)).max(of.next_topic_id);
    Ok(of)
}

/// Every row of a family that can be read: from the front up to what is damaged, and from the back
/// down to it. Returns what is in between.
fn each_readable(
    guard: &Guard<'_>,
    family: Family,
    each: &mut dyn FnMut(&[u8], &[u8]),
) -> Option<Hole> {
    let mut rows = guard.db().raw_iterator_cf(guard.family(family));
    let mut last = None;
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        each(key, value);
        last = Some(key.to_vec());
        rows.next();
    }
    let error = rows.status().err()?;
    tracing::warn!(family = family.name(), %error, "passing over what cannot be read");
    let mut rows = guard.db().raw_iterator_cf(guard.family(family));
    let mut first = None;
    rows.seek_to_last();
    while let Some((key, value)) = rows.item() {
        if last.as_ref().is_some_and(|last| key <= last.as_slice()) {
            break;
        }
        each(key, value);
        first = Some(key.to_vec());
        rows.prev();
    }
    let bound = |key: Option<Vec<u8>>| key.map_or(Bound::Unbounded, Bound::Excluded);
    Some(Hole { family, keys: (bound(last), bound(first)) })
}

/// Whether RocksDB's repair has left out tables: it moves them to `lost`.
fn has_lost_tables(path: &Path) -> bool {
    let entries = fs::read_dir(path.join("lost")).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.path().extension().is_some_and(|of| of == "sst"))
}

/// Which topic each id of the consume queues is: its messages say so.
fn names(guard: &Guard<'_>, files: &Files) -> Result<HashMap<TopicId, String>, ReadError> {
    let mut names = HashMap::new();
    let mut lookup = Lookup::new(files);
    let mut rows = guard.db().raw_iterator_cf(guard.family(Family::ConsumeQueue));
    rows.seek_to_first();
    let mut current = (TopicId(0), 0);
    while let Some((key, value)) = rows.item() {
        let Some((topic, _, block)) = consume_queue::decode_row(key, value) else {
            rows.next();
            continue;
        };
        current = if current.0 == topic { (topic, current.1 + 1) } else { (topic, 1) };
        for entry in block.entries.iter().filter(|entry| !entry.is_hole()) {
            if let Ok(Step::Record(record)) = lookup.at(entry.log_offset) {
                names.insert(topic, record.topic.to_owned());
                break;
            }
        }
        if names.contains_key(&topic) || current.1 >= NAME_ROWS {
            let Some(next) = topic.0.checked_add(1) else { break };
            rows.seek(consume_queue::key(TopicId(next), 0, 0));
        } else {
            rows.next();
        }
    }
    rows.status().map_err(index::read_error)?;
    Ok(names)
}
