//! Deleting old messages: by age, and when the disk fills up.
//!
//! A round decides which of the oldest segments go ([`decide`]), finds out who has not consumed
//! them ([`unread`]), makes the new start of the log durable in the index, and only then removes
//! the files. A power cut may bring a removed file back; the stored start tells that it was deleted.
//! Rows of the index that speak of nothing else follow later.

mod decide;
pub(crate) mod forget;
mod unread;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use decide::{SEGMENTS_MAX, Sealed, SettledClock};
use forget::{Forget, command, sweep};
pub use unread::Unconsumed;

use crate::{
    Boundary, LogOffset, OpenError, RetentionError, StateError, Store, Topic,
    commit_log::{allocate, segment::Segment},
    core::Core,
    file::{self, failed},
    index::meta,
    space::Disk,
    store::Shared,
};

/// How often the disk is asked how full it is.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the rows of deleted messages are looked for: each time takes a look at every queue.
const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

/// Most lines about unconsumed messages that a round logs.
const LINES_MAX: usize = 20;

/// Topic attribute: hours after which a topic's messages are hidden. Consumers see a larger
/// smallest offset, as if the messages were deleted; they still take their space and are found by
/// key until the whole segment goes. Longer than the store's own retention it means nothing. It
/// counts from the first round after a start or after a queue was idle.
///
/// # Source: `TopicAttributes.TOPIC_RESERVE_TIME_ATTRIBUTE`
const RESERVE_TIME: &str = "reserve.time";

/// What one round has deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Number of segments.
    pub segments: usize,
    /// So many of them were not old enough; the disk was full.
    pub unexpired: usize,
    /// Where the log begins now.
    pub log_min: LogOffset,
    /// What groups had not consumed, the most first.
    pub unconsumed: Vec<Unconsumed>,
}

/// What rounds remember. One round at a time.
#[derive(Debug)]
pub(crate) struct Retention {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    clock: SettledClock,
    /// The start of the log for which rows were deleted, and when.
    swept: Option<(u64, Instant)>,
}

impl Retention {
    pub(crate) fn new(now_ms: i64) -> Self {
        let clock = SettledClock::new(now_ms);
        Self { state: Mutex::new(State { begun: Instant::now(), clock, swept: None }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Deletes what is due now, as the store does by itself every ten seconds. Blocking.
    ///
    /// # Errors
    /// [`RetentionError`]; what was deleted before stays deleted.
    pub fn delete_expired(&self) -> Result<Deleted, RetentionError> {
        let mut state = self.shared.retention.state();
        state.swept = None;
        round(&self.shared, &mut state)
    }
}

/// The thread's loop; ends when the store closes or fails.
pub(crate) fn run(shared: &Shared) {
    let core = &shared.core;
    let interval = Duration::from_millis(core.config.retention_interval_ms);
    let mut last = Instant::now();
    while !core.health.is_closed() && core.health.check().is_ok() {
        let full = core.space.look().is_some_and(|disk| {
            core.config.delete_unexpired
                && disk.used_percent() > core.config.disk_force_clean_percent
        });
        if last.elapsed() >= if full { interval.min(LOOK_INTERVAL) } else { interval } {
            last = Instant::now();
            match round(shared, &mut shared.retention.state()) {
                Ok(_) | Err(RetentionError::State(StateError::Closed)) => {}
                Err(error) => {
                    tracing::warn!(%error, "old messages could not be deleted; next try soon")
                }
            }
        }
        thread::park_timeout(LOOK_INTERVAL);
    }
}

fn round(shared: &Shared, state: &mut State) -> Result<Deleted, RetentionError> {
    let core = &shared.core;
    let passed_ms = i64::try_from(state.begun.elapsed().as_millis()).unwrap_or(i64::MAX);
    let now_ms = state.clock.now_ms(core.clock.now_ms(), passed_ms);
    let disk = core.space.look().unwrap_or_default();
    let deleted = delete_segments(shared, now_ms, disk)?;
    hide_old(shared, now_ms);
    let log_min = core.log.min();
    let due = state.swept.is_none_or(|(min, at)| min < log_min && at.elapsed() >= SWEEP_INTERVAL);
    if due && log_min > 0 {
        sweep(shared, log_min)?;
        state.swept = Some((log_min, Instant::now()));
    }
    Ok(deleted)
}

fn delete_segments(shared: &Shared, now_ms: i64, disk: Disk) -> Result<Deleted, RetentionError> {
    let core = &shared.core;
    let from = core.log.min();
    // What the index does not hold yet would be lost for it, and with it where the queues end.
    let indexed = meta::checkpoint(&core.index.db()?)?.log_offset;
    let mut segments = core.log.sealed_before(indexed);
    segments.truncate(SEGMENTS_MAX);
    let sealed: Vec<_> = segments.iter().map(|segment| look_at(core, segment, now_ms)).collect();
    let plan = decide::plan(&core.config, disk, local_hour(now_ms), &sealed);
    segments.truncate(plan.segments);
    let log_min = segments.last().map_or(from, |last| last.limit_offset());
    let none = Deleted { log_min: LogOffset(from), ..Deleted::default() };
    if segments.is_empty() {
        return Ok(none);
    }
    let unconsumed = unread::find(shared, from..log_min)?;
    command(shared, Forget { log_min: Some(log_min), ..Forget::default() })?;
    core.log.forget_before(log_min);
    remove(core, &segments);
    let deleted = Deleted {
        segments: plan.segments,
        unexpired: plan.unexpired,
        log_min: LogOffset(log_min),
        unconsumed,
    };
    tell(&deleted, from, disk);
    Ok(deleted)
}

/// Size and age of a segment. One that cannot be looked at is too young for anything.
fn look_at(core: &Core, segment: &Segment, now_ms: i64) -> Sealed {
    let limit_offset = segment.limit_offset();
    let len_bytes = limit_offset - segment.base_offset();
    let changed = fs::metadata(path_of(core, segment)).and_then(|file| file.modified());
    // Store times never descend, so the next record tells how old the last one is at most.
    let stored_ms = if limit_offset == core.log.appended() {
        Some(core.log.last_store_ms())
    } else {
        core.log.store_time(limit_offset).ok().flatten()
    };
    let age_ms = match changed {
        Ok(changed) => decide::age_ms(now_ms, stored_ms, unix_ms(changed)),
        Err(_) => i64::MIN,
    };
    Sealed { limit_offset, len_bytes, age_ms }
}

fn path_of(core: &Core, segment: &Segment) -> PathBuf {
    core.config.path.join("commitlog").join(allocate::name(segment.base_offset()))
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The hour of the day where the broker runs.
fn local_hour(now_ms: i64) -> Option<u8> {
    let now = jiff::Timestamp::from_millisecond(now_ms).ok()?;
    u8::try_from(jiff::tz::TimeZone::system().to_datetime(now).hour()).ok()
}

/// Lets go of the segments before `log_min`, which the master has deleted.
pub(crate) fn follow(core: &Core, log_min: u64) {
    let mut segments = core.log.segments_between(0, log_min);
    segments.retain(|segment| {
        segment.limit_offset() <= log_min && !core.log.is_being_written(segment.base_offset())
    });
    let Some(last) = segments.last() else { return };
    core.log.forget_before(last.limit_offset());
    remove(core, &segments);
    tracing::info!(
        segments = segments.len(),
        log_min,
        "the master has deleted the oldest messages"
    );
}

/// Removes the files. One that cannot be removed is tried again at the next start.
fn remove(core: &Core, segments: &[Arc<Segment>]) {
    for segment in segments {
        let path = path_of(core, segment);
        if let Err(error) = file::remove(&path) {
            tracing::error!(path = %path.display(), %error, "a deleted segment's file stays");
        }
    }
}

fn tell(deleted: &Deleted, from: u64, disk: Disk) {
    tracing::info!(
        segments = deleted.segments,
        from,
        to = deleted.log_min.0,
        unexpired = deleted.unexpired,
        disk_used_percent = disk.used_percent(),
        "the oldest messages are deleted"
    );
    for Unconsumed { topic, group, messages } in deleted.unconsumed.iter().take(LINES_MAX) {
        tracing::warn!(topic, group, messages, "deleted before the group had consumed them");
    }
    let more = deleted.unconsumed.len().saturating_sub(LINES_MAX);
    if more > 0 {
        tracing::warn!(more, "as many more pairs of topic and group have lost fewer messages");
    }
}

/// Raises the smallest offset of queues whose topic keeps messages for a shorter time.
fn hide_old(shared: &Shared, now_ms: i64) {
    let mut short = Vec::new();
    shared.topics.each(|topic| {
        if let Some(hours) = reserve_hours(topic, shared.core.config.retention_hours) {
            short.push((Arc::clone(topic), hours));
        }
    });
    for (topic, hours) in short {
        let since_ms = now_ms.saturating_sub(decide::hours(hours));
        for queue in (0..topic.queue_count).filter_map(|queue_id| topic.queue(queue_id)) {
            let raised = queue
                .offset_at_time(since_ms, Boundary::Lower)
                .and_then(|offset| queue.raise_min(offset));
            if let Err(error) = raised {
                let (topic, queue_id) = (&topic.config.name, queue.queue_id);
                tracing::debug!(topic, queue_id, %error, "old messages are not hidden");
            }
        }
    }
}

fn reserve_hours(topic: &Topic, retention_hours: u64) -> Option<u64> {
    let hours = topic.config.attributes.get(RESERVE_TIME)?.parse().ok()?;
    (1..retention_hours).contains(&hours).then_some(hours)
}

/// Removes files of the commit log in `dir` that were deleted before and are back: they end at or
/// before `log_min`, where the index says the log begins.
///
/// # Errors
/// [`OpenError::File`].
pub(crate) fn remove_returned(dir: &Path, log_min: u64) -> Result<(), OpenError> {
    let dir = dir.join("commitlog");
    if log_min == 0 || !dir.is_dir() {
        return Ok(());
    }
    let mut first = u64::MAX;
    let mut removed: u64 = 0;
    for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
        let entry = entry.map_err(failed("read", &dir))?;
        let path = entry.path();
        let name = entry.file_name();
        let Some((20, Ok(base_offset))) =
            name.to_str().map(|name| (name.len(), name.parse::<u64>()))
        else {
            continue;
        };
        let len = entry.metadata().map_err(failed("read", &path))?.len();
        if base_offset.saturating_add(len) <= log_min {
            file::remove(&path).map_err(failed("remove", &path))?;
            removed += 1;
        } else {
            first = first.min(base_offset);
        }
    }
    if removed > 0 {
        tracing::info!(removed, log_min, "segments that had been deleted before are removed again");
        file::sync_dir(&dir).map_err(failed("sync", &dir))?;
    }
    if first > log_min && first != u64::MAX {
        tracing::error!(
            from = log_min,
            to = first,
            "the oldest segments are missing, with their messages"
        );
    }
    Ok(())
}
