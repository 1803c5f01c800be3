//! Checking everything in a store against everything else.

use std::{collections::BTreeSet, path::Path};

use super::{Error, Kind, Problem, check::Check, files::Files, log::Damage, queues::Report};
use crate::{
    OpenError,
    index::{self, Index, meta},
};

/// What a store holds and how much of it was found wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// First byte of the log.
    pub log_min: u64,
    /// End of the log, or where it will be cut.
    pub log_end: u64,
    /// The index held everything before this log offset.
    pub checkpoint: u64,
    /// Segment files.
    pub segments: u64,
    /// Valid records.
    pub records: u64,
    /// Bytes of the log that are no valid record and should be some.
    pub damaged_bytes: u64,
    /// Topics, as the index has them.
    pub topics: u64,
    /// Queues with messages or entries.
    pub queues: u64,
    /// Consumer groups.
    pub groups: u64,
    /// Consumer offsets.
    pub consumer_offsets: u64,
    /// Rows of consume queues, each a block of up to 64 entries.
    pub blocks: u64,
    /// Entries of consume queues.
    pub entries: u64,
    /// Slices of the key index that were looked at.
    pub slices: u64,
    /// Their entries.
    pub keys: u64,
    /// Findings that are problems.
    pub problems: u64,
    /// Findings that are only worth knowing.
    pub notes: u64,
}

/// Checks the store in `dir` and calls `each` with everything that was found, in no certain
/// order. Changes nothing. Blocking.
///
/// # Errors
/// [`Error`]: the store could not be looked at.
pub fn verify(dir: &Path, each: &mut dyn FnMut(Problem)) -> Result<Summary, Error> {
    let _lock = super::lock(dir)?;
    Ok(examine(dir, each)?.summary)
}

/// What is known after everything was checked.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) files: Files,
    pub(super) end: u64,
    pub(super) damages: Vec<Damage>,
    /// Entries that point before the log, where nothing was deleted.
    pub(super) before: u64,
    /// Kinds of what was found.
    pub(super) kinds: BTreeSet<Kind>,
    /// Topics whose rows cannot be decoded.
    pub(super) unreadable: Vec<String>,
    pub(super) summary: Summary,
}

/// As [`verify`], with the lock held.
pub(super) fn examine(dir: &Path, each: &mut dyn FnMut(Problem)) -> Result<Examined, Error> {
    let mut summary = Summary::default();
    let mut kinds = BTreeSet::new();
    let mut report = |problem: Problem| {
        kinds.insert(problem.kind);
        if problem.kind.is_problem() {
            summary.problems += 1;
        } else {
            summary.notes += 1;
        }
        each(problem);
    };
    let mut files = Files::read(dir)?;
    let index = open_index(&files, &mut report)?;
    let guard = index.as_ref().map(Index::db).transpose()?;
    if let Some(guard) = &guard {
        files.forget_before(meta::log_min(guard).unwrap_or_default());
    }
    let mut check = Check::new(&files, guard.as_ref());
    let failed = check.run(&mut report);
    if let Err(error) = failed {
        match error {
            // RocksDB opens and cannot be read: that is a finding, not the end.
            Error::Read(error) => {
                report(Problem::new(Kind::IndexUnreadable, error.to_string()));
                check.log_only(&mut report)?;
            }
            other => return Err(other),
        }
    }
    let (counted, end, unreadable) = (check.summary, check.end.at, check.unreadable);
    let before = check.queues.before;
    let damages = check.damages.ranges.into_iter().map(|(damage, _)| damage).collect();
    drop(guard);
    let summary = Summary { problems: summary.problems, notes: summary.notes, ..counted };
    Ok(Examined { files, end, damages, before, kinds, unreadable, summary })
}

/// Opens RocksDB for reading, if it can be.
fn open_index(files: &Files, report: Report<'_>) -> Result<Option<Index>, Error> {
    let path = files.dir.join(index::DIR);
    if !path.join("CURRENT").is_file() {
        let empty = files.segments.is_empty() && !path.is_dir();
        if !empty {
            let detail = format!("{} is missing or empty", path.display());
            report(Problem::new(Kind::IndexMissing, detail));
        }
        return Ok(None);
    }
    let index = match Index::read_only(&path) {
        Ok(index) => index,
        Err(error) => {
            report(Problem::new(Kind::IndexUnreadable, error.to_string()));
            return Ok(None);
        }
    };
    let (found, schema) = {
        let guard = index.db()?;
        (guard.db().latest_sequence_number(), meta::schema(&guard))
    };
    let durable = files.mark().map_or(0, |mark| mark.index_sequence);
    if found < durable {
        let detail = format!("RocksDB ends at change {found}, {durable} had been made durable");
        report(Problem::new(Kind::IndexBehind, detail).count(durable - found));
    }
    match schema {
        Ok(Some(meta::SCHEMA_VERSION)) | Err(_) => {}
        Ok(Some(version)) if version > meta::SCHEMA_VERSION => {
            let path = files.dir.clone();
            let known = meta::SCHEMA_VERSION;
            return Err(OpenError::Schema { path, found: version, known }.into());
        }
        Ok(_) => {
            let detail = format!("{} holds no store's rows", path.display());
            report(Problem::new(Kind::IndexMissing, detail));
            return Ok(None);
        }
    }
    Ok(Some(index))
}
