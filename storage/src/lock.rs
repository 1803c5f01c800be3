//! The lock that keeps two processes from opening one store.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use rustix::fs::{FlockOperation, fcntl_lock, flock};

use crate::{OpenError, file::failed};

/// Holds the lock for as long as it lives; the kernel releases it when the process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the store in `dir` without waiting.
    ///
    /// # Errors
    /// [`OpenError::Locked`] names the holder; [`OpenError::File`] if there can be no lock.
    pub(crate) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(failed("open", &path))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let holder = match fs::read_to_string(&path) {
                    Ok(pid) if !pid.trim().is_empty() => format!("process {}", pid.trim()),
                    _ => "another process".to_owned(),
                };
                return Err(OpenError::Locked { path, holder });
            }
            Err(error) => return Err(failed("lock", &path)(error.into())),
        }
        // RocketMQ locks the same file in the older way, which `flock` does not see.
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::AGAIN) => {
                let holder = "another program, probably RocketMQ's broker".to_owned();
                return Err(OpenError::Locked { path, holder });
            }
            Err(error) => return Err(failed("lock", &path)(error.into())),
        }
        // The number only helps whoever meets the lock; the lock itself is the kernel's.
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(failed("write", &path))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = Lock::take(dir.path()).unwrap();
        let error = Lock::take(dir.path()).unwrap_err().to_string();
        let holder = format!("in use by process {}", std::process::id());
        assert!(error.contains(&holder), "{error}");
        assert!(error.contains(dir.path().to_str().unwrap()), "{error}");
        drop(first);
        Lock::take(dir.path()).unwrap();
    }
}
