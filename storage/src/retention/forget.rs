//! Deleting rows of the index whose messages are gone.
//!
//! A compaction filter would do it without looking for them, but it cannot know which block is the
//! last of its queue, and deletes by it are no part of what a replica is sent.

use std::{ops::Range, thread, time::Duration};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{
    ReadError, RetentionError, StateError, TopicId,
    command::Command,
    index::{
        Family, Guard,
        consume_queue::{self, Gone, QueueEnd},
        key_index, meta,
    },
    store::Shared,
    writer::{IndexWriter, Step},
};

/// Rows that one step of the index deletes.
const SWEEP_ROWS: u64 = 4_096;

/// How often a command's answer is looked for.
const ANSWER_INTERVAL: Duration = Duration::from_millis(5);

/// Number of blocks that are deleted one by one; more go as a range.
const SINGLE_MAX: u64 = 128;

/// What the index has to forget.
#[derive(Debug, Default)]
pub(crate) struct Forget {
    /// Where the log begins from now on.
    pub(crate) log_min: Option<u64>,
    /// Blocks of queues.
    pub(crate) blocks: Vec<Gone>,
    /// Where queues without a message ended.
    pub(crate) ended: Vec<QueueEnd>,
    /// Slices of the key index, by number.
    pub(crate) slices: Option<Range<u64>>,
}

/// Deletes the rows of the index that speak of nothing behind `log_min`.
pub(super) fn sweep(shared: &Shared, log_min: u64) -> Result<(), RetentionError> {
    let index = &shared.core.index;
    let mut slices = key_index::below(&index.db()?, log_min)?;
    let mut rows = slices.as_ref().map_or(0, |slices| slices.end - slices.start);
    let mut next = Some((TopicId(0), 0));
    while let Some(from) = next {
        let step = consume_queue::below(&index.db()?, log_min, from, SWEEP_ROWS)?;
        next = step.next;
        rows += step.gone.iter().map(|gone| gone.rows).sum::<u64>();
        let ended = unknown_ends(&index.db()?, step.ended)?;
        if !step.gone.is_empty() || !ended.is_empty() || slices.is_some() {
            let slices = slices.take();
            command(shared, Forget { log_min: None, blocks: step.gone, ended, slices })?;
        }
    }
    tracing::debug!(log_min, rows, "the index has forgotten deleted messages");
    Ok(())
}

/// The ends that are not stored already.
fn unknown_ends(guard: &Guard<'_>, ended: Vec<QueueEnd>) -> Result<Vec<QueueEnd>, ReadError> {
    let mut unknown = Vec::new();
    for (queue, end) in ended {
        if meta::queue_end(guard, queue)? != Some(end) {
            unknown.push((queue, end));
        }
    }
    Ok(unknown)
}

/// Hands a command to the index writer and waits until it is done.
pub(super) fn command(shared: &Shared, forget: Forget) -> Result<(), StateError> {
    let (reply, mut answer) = oneshot::channel();
    shared.input.commands.push(Command::Forget(forget, reply))?;
    shared.input.wake();
    loop {
        match answer.try_recv() {
            Ok(done) => return done,
            Err(TryRecvError::Closed) => return Err(StateError::Closed),
            Err(TryRecvError::Empty) => {}
        }
        shared.core.health.check()?;
        // The writer may have stopped; what it was asked for does no harm if it comes to pass.
        if shared.core.health.is_closed() {
            return Err(StateError::Closed);
        }
        thread::park_timeout(ANSWER_INTERVAL);
    }
}

impl IndexWriter {
    /// Adds what retention wants forgotten.
    pub(crate) fn forget(&self, step: &mut Step, forget: &Forget) -> Result<(), ReadError> {
        let guard = self.shared.core.index.db()?;
        if let Some(log_min) = forget.log_min {
            meta::put_log_min(&mut step.batch, &guard, log_min);
            step.sync = true;
        }
        let family = guard.family(Family::ConsumeQueue);
        for gone in &forget.blocks {
            let key = |number| consume_queue::key(gone.topic, gone.queue_id, number);
            // Every range that is deleted makes later reads look for it.
            if gone.to - gone.from <= SINGLE_MAX {
                (gone.from..gone.to).for_each(|number| step.batch.delete_cf(family, key(number)));
            } else {
                step.batch.delete_range_cf(family, key(gone.from), key(gone.to));
            }
        }
        for &(queue, end) in &forget.ended {
            meta::put_queue_end(&mut step.batch, &guard, queue, end);
        }
        if let Some(slices) = &forget.slices {
            let family = guard.family(Family::KeyIndex);
            let (from, to) = (slices.start, slices.end);
            let rows = (key_index::slice_key(from), key_index::slice_key(to));
            step.batch.delete_range_cf(family, rows.0, rows.1);
            let buckets = (key_index::bucket_key(from, 0), key_index::bucket_key(to, 0));
            step.batch.delete_range_cf(family, buckets.0, buckets.1);
        }
        Ok(())
    }
}
