//! What RocketMQ's consume queues tell that the log does not: that a topic exists, and where a
//! queue ends whose messages have all been deleted.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::num::to_u64;

/// Size of an entry: log offset 8, record size 4, tag hash 8.
///
/// # Source: `ConsumeQueue.CQ_STORE_UNIT_SIZE`
const UNIT_BYTES: u64 = 20;
/// Entries are looked at in pieces of this many bytes.
const STEP_BYTES: usize = 20 << 10;

/// RocketMQ's directory of consume queues.
#[derive(Debug)]
pub(super) struct Queues {
    dir: PathBuf,
    exists: bool,
}

impl Queues {
    pub(super) fn open(store: &Path) -> Self {
        let dir = store.join("consumequeue");
        Self { exists: dir.is_dir(), dir }
    }

    /// Whether a topic that has records must have been deleted: RocketMQ removes its queues then.
    pub(super) fn were_deleted(&self, topic: &str) -> bool {
        self.exists && !self.dir.join(topic).is_dir()
    }

    /// The queue offset behind the last entry of a queue, 0 if there is none or it cannot be read.
    /// It only matters for queues without a record in the log, so nothing depends on it but that
    /// offsets go on from where they were.
    pub(super) fn next(&self, topic: &str, queue_id: u32) -> u64 {
        let dir = self.dir.join(topic).join(queue_id.to_string());
        let Ok(files) = fs::read_dir(dir) else { return 0 };
        let files = files.filter_map(|file| {
            let file = file.ok()?;
            let base: u64 =
                file.file_name().to_str().filter(|name| name.len() == 20)?.parse().ok()?;
            Some((base, file.path()))
        });
        files.max().and_then(|(base, path)| Some(base / UNIT_BYTES + entries(&path)?)).unwrap_or(0)
    }
}

/// Entries at the start of a file. The first that says nothing ends them.
fn entries(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let len = file.metadata().ok()?.len();
    let mut buffer = vec![0; STEP_BYTES];
    let mut at = 0;
    while at < len {
        let read = file.read_at(&mut buffer, at).ok()?;
        let (units, _) = buffer.get(..read)?.as_chunks::<20>();
        if let Some(empty) = units.iter().position(|unit| unit.get(8..12) == Some(&[0; 4])) {
            return Some(at / UNIT_BYTES + to_u64(empty));
        }
        if units.is_empty() {
            break;
        }
        at += to_u64(units.len()) * UNIT_BYTES;
    }
    Some(at / UNIT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_queue_is_found_in_its_last_file() {
        let store = tempfile::tempdir().unwrap();
        let dir = store.path().join("consumequeue/T/3");
        fs::create_dir_all(&dir).unwrap();
        let full = [1; 20 * 2000];
        let mut last = vec![0; full.len()];
        last[..60].fill(7);
        fs::write(dir.join(format!("{:020}", 0)), full).unwrap();
        fs::write(dir.join(format!("{:020}", full.len())), &last).unwrap();
        let queues = Queues::open(store.path());
        assert_eq!(queues.next("T", 3), 2003);
        assert_eq!(queues.next("T", 4), 0);
        assert!(!queues.were_deleted("T") && queues.were_deleted("U"));
        fs::write(dir.join(format!("{:020}", full.len())), full).unwrap();
        assert_eq!(queues.next("T", 3), 4000);
    }
}
