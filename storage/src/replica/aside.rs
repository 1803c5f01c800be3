//! Consumer offsets that were committed on a slave: kept aside until its master has them.
//!
//! Consumers commit to a slave only while they do not reach the master. The slave's RocksDB is the
//! master's, so these wait in memory and in a file of their own. The session with the master hands
//! them over; a slave that becomes a master takes them in when it opens.

use std::{collections::HashMap, io, path::Path, sync::Arc};

use prost::Message;
use rocksdb::WriteBatch;

use super::sealed;
use crate::{
    QueueOffset, ReadError, Store,
    index::{Family, Guard, consumer_offset},
    store::Shared,
};

const NAME: &str = "offsets.aside";

/// One of them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct PendingOffset {
    /// Consumer group.
    #[prost(string, tag = "1")]
    pub group: String,
    /// Topic.
    #[prost(string, tag = "2")]
    pub topic: String,
    /// Queue.
    #[prost(uint32, tag = "3")]
    pub queue_id: u32,
    /// Offset of the next message that the group wants.
    #[prost(uint64, tag = "4")]
    pub offset: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    offsets: Vec<PendingOffset>,
}

impl Store {
    /// What was committed here and the master does not have yet, as far as this slave knows.
    pub fn pending_offsets(&self) -> Vec<PendingOffset> {
        pending(&self.shared)
    }

    /// Commits what a slave has kept aside, unless the group has come further here.
    ///
    /// # Errors
    /// [`ReadError::Index`].
    pub fn merge_offset(&self, pending: &PendingOffset) -> Result<(), ReadError> {
        let Some(topic) = self.topic(&pending.topic) else { return Ok(()) };
        let known = self.committed_offset(&pending.group, topic.id, pending.queue_id)?;
        if known.is_none_or(|known| known.0 < pending.offset) {
            let offset = QueueOffset(pending.offset);
            self.commit_offset(&pending.group, &topic, pending.queue_id, offset);
        }
        Ok(())
    }
}

fn pending(shared: &Shared) -> Vec<PendingOffset> {
    let mut found = Vec::new();
    shared.input.offsets.for_each(|group, topic, queue_id, offset| {
        found.push((group.to_owned(), topic, queue_id, offset));
    });
    if found.is_empty() {
        // As almost always, and asked often: a look at every topic would be a waste.
        return Vec::new();
    }
    let mut topics = HashMap::new();
    shared.topics.each(|topic| {
        topics.insert(topic.id, Arc::clone(topic));
    });
    let named = found.into_iter().filter_map(|(group, topic, queue_id, offset)| {
        let topic = topics.get(&topic)?.config.name.clone();
        Some(PendingOffset { group, topic, queue_id, offset: offset.0 })
    });
    named.collect()
}

/// Writes the file if it would change; `last` is what it holds.
///
/// # Errors
/// Of the operating system.
pub(crate) fn keep(shared: &Shared, last: &mut Vec<PendingOffset>) -> io::Result<()> {
    let offsets = pending(shared);
    if offsets == *last {
        return Ok(());
    }
    let file = File { offsets };
    sealed::write(&shared.core.config.path.join(NAME), &file)?;
    *last = file.offsets;
    Ok(())
}

/// What the file holds. A damaged one is as good as none: consumers only see messages again.
///
/// # Errors
/// Of the operating system.
pub(crate) fn load(store: &Path) -> io::Result<Vec<PendingOffset>> {
    match sealed::read::<File>(&store.join(NAME)) {
        Ok(file) => Ok(file.unwrap_or_default().offsets),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::error!(%error, "consumer offsets that were committed on this slave are lost");
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Goes on with what was kept aside before.
pub(crate) fn resume(shared: &Shared, offsets: &[PendingOffset]) {
    for pending in offsets {
        if let Some(topic) = shared.topics.get(&pending.topic) {
            let at = (topic.id, pending.queue_id);
            shared.input.offsets.commit(&pending.group, at, QueueOffset(pending.offset));
        }
    }
}

/// Adds what was kept aside to the batch that begins this master's epoch. [`forget`] follows when
/// it is durable.
pub(crate) fn take_in(
    shared: &Shared,
    guard: &Guard<'_>,
    batch: &mut WriteBatch,
) -> Result<(), ReadError> {
    let reason = |error: io::Error| ReadError::Index { reason: error.to_string() };
    for pending in load(&shared.core.config.path).map_err(reason)? {
        let Some(topic) = shared.topics.get(&pending.topic) else { continue };
        let Some(queue) = topic.queue(pending.queue_id) else { continue };
        let known = consumer_offset::get(guard, &pending.group, topic.id, pending.queue_id)?;
        let offset = QueueOffset(pending.offset.min(queue.max()?.0));
        if known.is_none_or(|known| known < offset) {
            let key = consumer_offset::key(&pending.group, topic.id, pending.queue_id);
            let family = guard.family(Family::ConsumerOffset);
            batch.put_cf(family, key, consumer_offset::value(offset));
        }
    }
    Ok(())
}

/// The index has what the file holds.
///
/// # Errors
/// Of the operating system.
pub(crate) fn forget(store: &Path) -> io::Result<()> {
    sealed::remove(&store.join(NAME))
}
