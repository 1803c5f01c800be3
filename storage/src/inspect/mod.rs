//! Looking at a store whose broker is down: what is in it, whether it is as it should be, single
//! messages, and putting right what is not.
//!
//! [`verify`], [`tree`] and [`Messages`] change nothing but the lock file; [`repair`] changes the
//! store when it is told to. All of them take the store's lock, read in the order of the log, and
//! need memory for queues and topics, never for messages. Nothing here decodes what another module
//! encodes: rows are decoded by `index`, records by [`protocol::record`].

mod check;
mod files;
mod keys;
mod log;
mod messages;
mod problem;
mod queues;
mod repair;
mod rows;
mod run;
mod salvage;
mod tree;
mod verify;
mod wal;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use messages::{Messages, Place, Wanted};
pub use problem::{Kind, Problem, QueueRange};
pub use repair::{Action, Change, Repaired, repair};
pub use tree::{FamilyInfo, SegmentInfo, SlotInfo, TopicInfo, Tree, tree};
pub use verify::{Summary, verify};

use crate::{OpenError, ReadError, index, lock::Lock};

/// Why a store cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory is not there, or holds neither a log nor an index.
    #[error(
        "{path} is no store: it has neither commitlog/ nor rocksdb/; name the directory that has",
        path = path.display()
    )]
    NoStore {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else has it open, or a file operation failed.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// RocksDB failed while it was being read.
    #[error("{0}; run `mqtool store repair` on the store")]
    Read(#[from] ReadError),
    /// A file failed while it was being read.
    #[error("cannot read the commit log: {0}; check the disk")]
    Log(#[from] io::Error),
}

/// Takes the lock of the store in `dir`.
fn lock(dir: &Path) -> Result<Lock, Error> {
    if ["commitlog", index::DIR].iter().all(|name| !dir.join(name).is_dir()) {
        return Err(Error::NoStore { path: dir.to_owned() });
    }
    Ok(Lock::take(dir)?)
}
