//! Small file operations that are durable when they return, with errors that name the path.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use crate::OpenError;

/// Turns an error of the operating system into one that says what was attempted on which path.
pub(crate) fn failed(
    action: &'static str,
    path: impl Into<PathBuf>,
) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.into();
    move |source| OpenError::File { action, path, source }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Creates a directory and its parents, durably.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    path.parent().map_or(Ok(()), |parent| {
        sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
    })
}

/// Gives a file its final name, durably. Both names must be in directories that exist.
#[expect(clippy::disallowed_methods, reason = "this is the durable rename")]
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    let parents = [from.parent(), to.parent()];
    parents.into_iter().flatten().try_for_each(sync_dir)
}
