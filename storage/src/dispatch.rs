//! From a record of the log to entries of the index: the one function that appending and recovery
//! share, and what it hands over to the index writer.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use protocol::property;

use crate::{
    Queue, ReadError,
    command::Commands,
    index::{consume_queue::BlockEntry, key_index::KeyHasher},
    keys::KeyTail,
    num::to_usize,
    offsets::Offsets,
    read::Mode,
    tail::Replayed,
};

/// So many full blocks make it worth waking the index writer: fewer would spend more on waking it
/// than on writing them.
const WAKE_BLOCKS: usize = 64;

/// What the index keeps of one record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Indexed<'a> {
    pub(crate) entry: BlockEntry,
    /// Hashes of its keys.
    pub(crate) hashes: &'a [u32],
    pub(crate) store_ms: i64,
}

/// Where a record goes in its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place {
    /// Behind the last one: it is being appended.
    Next,
    /// Where its own queue offset says: it is read from the log.
    At(u64),
}

/// Collects what the index writer must look at, to hand it over once per batch.
#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    /// Queues whose last block has become full.
    full: Vec<Arc<Queue>>,
    /// Queues that no checkpoint has seen since they changed.
    dirty: Vec<Arc<Queue>>,
}

/// What goes to the index writer.
#[derive(Debug, Default)]
pub(crate) struct Input {
    work: Mutex<Dispatcher>,
    /// Full blocks that are handed over and not written.
    pub(crate) pending_blocks: AtomicUsize,
    pub(crate) commands: Commands,
    pub(crate) offsets: Offsets,
    /// No more input will come.
    pub(crate) stop: AtomicBool,
    thread: OnceLock<std::thread::Thread>,
}

impl Dispatcher {
    /// Puts a record into its queue's tail and the key index. Returns the queue offset, or what
    /// was wrong with the one it has.
    pub(crate) fn dispatch(
        &mut self,
        queue: &Arc<Queue>,
        place: Place,
        record: Indexed<'_>,
        keys: &mut KeyTail,
    ) -> Result<(u64, Replayed), ReadError> {
        let Indexed { entry, hashes, store_ms } = record;
        let placed = {
            let mut tail = queue.tail(Mode::MayBlock)?;
            let placed = match place {
                Place::Next => (tail.append(entry, store_ms), Replayed::Added),
                Place::At(offset) => (offset, tail.replay(offset, entry, store_ms)),
            };
            if placed.1 == Replayed::Added {
                if tail.ends_block() {
                    self.full.push(Arc::clone(queue));
                }
                if tail.set_dirty() {
                    self.dirty.push(Arc::clone(queue));
                }
            }
            placed
        };
        if placed.1 != Replayed::Absurd {
            keys.add(hashes, entry.log_offset, entry.size, store_ms);
        }
        Ok(placed)
    }

    /// Hands over what was collected.
    pub(crate) fn hand_over(&mut self, input: &Input) {
        if self.full.is_empty() && self.dirty.is_empty() {
            return;
        }
        input.pending_blocks.fetch_add(self.full.len(), Ordering::Relaxed);
        let mut work = input.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.full.append(&mut self.full);
        work.dirty.append(&mut self.dirty);
    }
}

impl Input {
    /// Queues whose last block was full at some time.
    pub(crate) fn take_full(&self) -> Vec<Arc<Queue>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut work.full)
    }

    /// Queues that have changed since a checkpoint took them.
    pub(crate) fn take_dirty(&self) -> Vec<Arc<Queue>> {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut work.dirty)
    }

    /// Gives queues back that a checkpoint could not finish.
    pub(crate) fn return_dirty(&self, mut queues: Vec<Arc<Queue>>) {
        let mut work = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        work.dirty.append(&mut queues);
    }

    /// Names the thread to wake.
    pub(crate) fn set_thread(&self, thread: std::thread::Thread) {
        // There is one index writer, started once.
        let _already = self.thread.set(thread);
    }

    /// Wakes the index writer if there is enough to do.
    pub(crate) fn wake_if_worth(&self) {
        if self.pending_blocks.load(Ordering::Relaxed) >= WAKE_BLOCKS {
            self.wake();
        }
    }

    /// Wakes the index writer.
    pub(crate) fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Adds the hashes of a message's keys (`KEYS` and `UNIQ_KEY`) to `hashes` and returns the hash of
/// its tag.
pub(crate) fn terms(properties: &str, hasher: &KeyHasher, hashes: &mut Vec<u32>) -> i32 {
    let mut tag_hash = 0;
    let mut keys = None;
    let mut unique_key = None;
    for (name, value) in property::iter(properties) {
        // Of a repeated name the last one counts.
        match name {
            property::TAGS => tag_hash = property::tag_hash(value),
            property::KEYS => keys = Some(value),
            property::UNIQ_KEY => unique_key = Some(value),
            _ => {}
        }
    }
    hashes.extend(keys.into_iter().flat_map(property::keys).map(|key| hasher.hash(key)));
    hashes.extend(unique_key.map(|key| hasher.hash(key)));
    i32::try_from(tag_hash).expect("a tag hash is a sign-extended 32-bit number")
}

/// The properties of an encoded record, which are its last `len` bytes.
pub(crate) fn properties_of(record: &[u8], len: usize) -> &str {
    let at = record.len().saturating_sub(len);
    let properties = record.get(at..).unwrap_or_default();
    std::str::from_utf8(properties).unwrap_or_default()
}

/// The queue offset of a record, which is never negative in a valid one.
pub(crate) fn queue_offset(stored: i64) -> Option<u64> {
    u64::try_from(stored).ok()
}

/// The size of an encoded record.
pub(crate) fn size_of_record(len: usize) -> u32 {
    u32::try_from(len).expect("records are at most 16 MiB")
}

/// Bytes of a stored size.
pub(crate) fn bytes_of(size: u32) -> usize {
    to_usize(u64::from(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_keys_unique_key_and_tag() {
        let hasher = KeyHasher::new("T");
        let mut hashes = Vec::new();
        let properties = "TAGS\u{1}a\u{2}KEYS\u{1}k1 k2\u{2}UNIQ_KEY\u{1}u\u{2}x\u{1}y";
        assert_eq!(terms(properties, &hasher, &mut hashes), 97);
        assert_eq!(hashes, ["k1", "k2", "u"].map(|key| hasher.hash(key)));
        hashes.clear();
        assert_eq!(terms("", &hasher, &mut hashes), 0);
        assert!(hashes.is_empty());
    }

    #[test]
    fn last_of_a_repeated_property_counts() {
        let hasher = KeyHasher::new("T");
        let mut hashes = Vec::new();
        let properties = "KEYS\u{1}old\u{2}TAGS\u{1}x\u{2}KEYS\u{1}new\u{2}TAGS\u{1}b\u{2}";
        assert_eq!(terms(properties, &hasher, &mut hashes), 98);
        assert_eq!(hashes, [hasher.hash("new")]);
    }
}
