//! Reading what is left of a RocksDB: as it is, else a copy of it without the damaged places of its
//! write-ahead log, else with another manifest, else after RocksDB's own repair.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use prost::Message;
use rocksdb::{ColumnFamilyDescriptor, DB, DBRecoveryMode};

use super::files::{Files, Lookup};
use crate::{
    DataVersion, OpenError, QueueOffset, ReadError, TopicId,
    commit_log::scan::Step,
    file::failed,
    index::{
        self, Family, Guard, Index, consume_queue, consumer_offset, for_each,
        group::GroupRow,
        meta::{self, Versioned},
        options,
        topic::TopicRow,
    },
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
    pub(super) topic_version: DataVersion,
    pub(super) group_version: DataVersion,
    /// Where queues ended when their last message was deleted.
    pub(super) queue_ends: Vec<((TopicId, u32), u64)>,
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
            topic_version: DataVersion::default(),
            group_version: DataVersion::default(),
            queue_ends: Vec::new(),
            log_end: 0,
            log_min: 0,
            path: None,
        }
    }
}

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
    let as_is = match (as_is, scratch) {
        (Ok(salvaged), Some(_)) if behind => Some(salvaged),
        (Ok(salvaged), _) => return Ok(salvaged),
        (Err(_), _) => None,
    };
    let Some(scratch) = scratch else { return Ok(Salvaged::nothing()) };
    for source in [Source::Skipped, Source::Manifest, Source::Repaired] {
        let copy = scratch.join(index::DIR);
        copy_database(&path, &copy).map_err(failed("copy", &path))?;
        match open_copy(scratch, source).and_then(|index| rows(&index, files, source)) {
            Ok(salvaged) => return Ok(salvaged),
            Err(error) => {
                tracing::warn!(%error, ?source, "RocksDB cannot be read this way");
                fs::remove_dir_all(&copy).map_err(failed("remove", &copy))?;
            }
        }
        if as_is.is_some() {
            break;
        }
    }
    Ok(as_is.unwrap_or_else(Salvaged::nothing))
}

/// Opens the copy of a RocksDB, passing over what is damaged.
fn open_copy(scratch: &Path, source: Source) -> Result<Index, super::Error> {
    let copy = scratch.join(index::DIR);
    let unreadable = |source| OpenError::Index { path: copy.clone(), source };
    let mut options = options::of_database();
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    options.set_track_and_verify_wals_in_manifest(false);
    match source {
        Source::Manifest => name_manifest(&copy).map_err(failed("write", &copy))?,
        Source::Repaired => DB::repair(&options, &copy).map_err(unreadable)?,
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

/// Tables never change, so links to them will do; everything else is copied.
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
    Ok(())
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
    let mut of = Salvaged { source, path: Some(index.path().to_owned()), ..Salvaged::nothing() };
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |key, value| {
        match (std::str::from_utf8(key), TopicRow::decode(value)) {
            (Ok(name), Ok(row)) if !name.is_empty() && row.id > 0 => {
                of.topics.push((name.to_owned(), row));
            }
            _ => of.unreadable += 1,
        }
        Ok(())
    })?;
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Group)), |key, value| {
        match (std::str::from_utf8(key), GroupRow::decode(value)) {
            (Ok(name), Ok(_)) if !name.is_empty() => {
                of.groups.push((name.to_owned(), value.to_vec()));
            }
            _ => of.unreadable += 1,
        }
        Ok(())
    })?;
    for_each(guard.db().raw_iterator_cf(guard.family(Family::ConsumerOffset)), |key, value| {
        match consumer_offset::decode(key, value) {
            Ok((group, topic, queue_id, offset)) => {
                of.offsets.push((group.to_owned(), topic, queue_id, offset));
            }
            Err(_) => of.unreadable += 1,
        }
        Ok(())
    })?;
    // What cannot be read here is made good: numbers begin behind all that are in use.
    of.next_topic_id = meta::next_topic_id(&guard).unwrap_or(1);
    of.topic_version = meta::version(&guard, Versioned::Topics).unwrap_or_default();
    of.group_version = meta::version(&guard, Versioned::Groups).unwrap_or_default();
    of.log_end = meta::log_end(&guard).unwrap_or_default();
    of.log_min = meta::log_min(&guard).unwrap_or_default();
    let _read = meta::queue_ends(&guard, |queue, end| of.queue_ends.push((queue, end)));
    if source == Source::Repaired || of.topics.is_empty() {
        of.log_end = 0;
    }
    // Without consume queues only names are missing.
    of.names = names(&guard, files).unwrap_or_default();
    let used = of.topics.iter().map(|(_, row)| row.id);
    let used =
        used.chain(of.names.keys().map(|id| id.0)).chain(of.offsets.iter().map(|row| row.1.0));
    of.next_topic_id = used.max().map_or(1, |id| id.saturating_add(1)).max(of.next_topic_id);
    Ok(of)
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
