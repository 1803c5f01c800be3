//! Finding messages by key.

use std::{collections::HashSet, ops::ControlFlow};

use bytes::Bytes;
use protocol::{limits, property, record::RecordView};

use crate::{
    LogOffset, ReadError, Store, Topic,
    index::{
        Guard,
        key_index::{self, bucket_of},
    },
    store::Shared,
};

/// A search ends with so many bytes: more would not fit into one answer.
const ANSWER_BYTES: usize = limits::FRAME_MAX_BYTES / 4 * 3;

/// The answer of [`Store::query_key`].
#[derive(Clone, Debug)]
pub struct KeyQuery {
    /// Whole records, newest first.
    pub records: Vec<Bytes>,
    /// The key index covers everything stored up to this time, in Unix milliseconds.
    pub indexed_to_time_ms: i64,
    /// The key index covers the log up to here.
    pub indexed_to: LogOffset,
}

/// One search and what it has found so far.
struct Search<'a> {
    shared: &'a Shared,
    topic: &'a Topic,
    key: &'a str,
    max: usize,
    time: (i64, i64),
    /// Log offsets that were looked at: an entry can be in two slices after a crash.
    seen: HashSet<u64>,
    found: Vec<Bytes>,
    /// What the disk did not give back.
    unread: Option<ReadError>,
    found_bytes: usize,
}

impl Store {
    /// Finds messages of a topic by one of their keys or their unique key, newest first, at most
    /// `max` and not many more than 12 MiB, stored between `begin_ms` and `end_ms` inclusive. Blocking.
    ///
    /// A damaged record is left out and logged.
    ///
    /// # Errors
    /// [`ReadError::Index`], and [`ReadError::Disk`] if nothing was found and something could not
    /// be read.
    #[expect(clippy::too_many_arguments, reason = "RocketMQ's five parameters of a query")]
    pub fn query_key(
        &self,
        topic: &str,
        key: &str,
        max: usize,
        begin_ms: i64,
        end_ms: i64,
    ) -> Result<KeyQuery, ReadError> {
        let core = &self.shared.core;
        // The time first: the log may only have grown when its end is read.
        let indexed_to_time_ms = core.log.last_store_ms();
        let indexed_to = LogOffset(core.log.confirmed.get());
        let mut records = Vec::new();
        if let Some(topic) = self.shared.topics.get(topic) {
            let mut search = Search {
                shared: &self.shared,
                topic: &topic,
                key,
                max,
                time: (begin_ms, end_ms),
                seen: HashSet::new(),
                found: Vec::new(),
                unread: None,
                found_bytes: 0,
            };
            search.run()?;
            records = search.found;
            // Nothing found because it could not be read is no answer.
            if let Some(unread) = search.unread.filter(|_| records.is_empty()) {
                return Err(unread);
            }
        }
        Ok(KeyQuery { records, indexed_to_time_ms, indexed_to })
    }
}

impl Search<'_> {
    fn run(&mut self) -> Result<(), ReadError> {
        let hash = self.topic.hasher().hash(self.key);
        // Memory before RocksDB: what moves meanwhile is met twice, and not missed.
        let mut recent = Vec::new();
        self.shared.keys().find(hash, self.time, &mut recent);
        recent.sort_unstable();
        for log_offset in recent.into_iter().rev() {
            if self.look_at(log_offset).is_break() {
                return Ok(());
            }
        }
        let shared = self.shared;
        shared.core.index.derived(|guard| self.run_stored(guard, hash))
    }

    fn run_stored(&mut self, guard: &Guard<'_>, hash: u32) -> Result<(), ReadError> {
        key_index::slices(guard, |slice, row| {
            if !row.overlaps(self.time.0, self.time.1) {
                return Ok(ControlFlow::Continue(()));
            }
            let bucket = key_index::bucket(guard, slice, bucket_of(hash))?;
            let hits = key_index::entries(&bucket).rev().filter(|&(h, _)| h == hash);
            for (_, log_offset) in hits {
                if self.look_at(log_offset).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Takes the record at `log_offset` if it is one that was searched for.
    fn look_at(&mut self, log_offset: u64) -> ControlFlow<()> {
        if self.is_enough() {
            return ControlFlow::Break(());
        }
        if log_offset >= self.topic.since_log_offset && self.seen.insert(log_offset) {
            match self.shared.core.log.record(log_offset) {
                Ok(Some(bytes)) if self.wanted(&bytes) => {
                    self.found_bytes += bytes.len();
                    self.found.push(bytes);
                }
                Ok(_) => {}
                Err(error) => {
                    if self.shared.core.reported.is_new(log_offset) {
                        tracing::error!(%error, "left out of a query by key");
                    }
                    if matches!(error, ReadError::Disk { .. }) {
                        self.unread = Some(error);
                    }
                }
            }
        }
        if self.is_enough() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn is_enough(&self) -> bool {
        self.found.len() >= self.max || self.found_bytes >= ANSWER_BYTES
    }

    fn wanted(&self, bytes: &[u8]) -> bool {
        RecordView::parse(bytes).is_ok_and(|record| {
            let unique = record.property(property::UNIQ_KEY) == Some(self.key);
            let keys = record.property(property::KEYS);
            let keyed = || keys.is_some_and(|keys| property::keys(keys).any(|key| key == self.key));
            record.topic == self.topic.config.name
                && (self.time.0..=self.time.1).contains(&record.store_timestamp)
                && (unique || keyed())
        })
    }
}
