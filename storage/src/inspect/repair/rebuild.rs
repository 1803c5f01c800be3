//! Moving RocksDB aside and putting a new one in its place.

use std::{
    fs,
    path::{Path, PathBuf},
};

use protocol::clock::Clock;

use super::{
    super::{Error, Kind, files::Files, salvage, verify::Examined},
    Action, REBUILD, Tell, change,
    rows::Rows,
};
use crate::{
    file::{self, failed},
    index,
};

/// Begins the names of directories that were set aside.
const ASIDE: &str = "rocksdb.broken-";

/// The directory that was set aside last.
pub(super) fn newest_aside(dir: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(dir).ok()?.flatten().filter_map(|e| e.file_name().into_string().ok());
    names.filter(|name| name.starts_with(ASIDE)).max().map(|name| dir.join(name))
}

/// Moves RocksDB aside and puts a new one in its place.
pub(super) fn rebuild(
    files: &Files,
    examined: &Examined,
    clock: &Clock,
    each: Tell<'_>,
) -> Result<(), Error> {
    let now = clock.now_ms();
    let (path, scratch) = (files.dir.join(index::DIR), files.dir.join(format!("repair-{now}")));
    let (copy, new) = (scratch.join("copy"), scratch.join("new"));
    for dir in [&copy, &new] {
        file::create_dir(dir).map_err(failed("create", dir))?;
    }
    let salvaged = salvage::read(files, Some(&copy), examined.kinds.contains(&Kind::IndexBehind))?;
    let readable = salvaged.path.clone().filter(|readable| *readable != path);
    let rows = Rows::of(files, examined, salvaged)?;
    rows.tell(each);
    rows.write(&new)?;
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
