//! Opening a store: everything in its order, threads last.

use std::{
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    thread::{self, JoinHandle},
};

use protocol::{clock::Clock, limits};
use rocksdb::WriteBatch;

use crate::{
    Config, OpenError, ReadError, Recovery, Store, adopt,
    append::Appender,
    bug::{self, Bug},
    commit_log::{
        self,
        allocate::Allocator,
        durable::{Mark, MarkFile},
        flush::Flusher,
        writer::LogWriter,
    },
    core::Core,
    dispatch::Input,
    file::{self, failed},
    health::Health,
    index::{
        Index,
        meta::{self, Versioned},
    },
    keys::KeyTail,
    lock::Lock,
    read::Reported,
    recover::{self, Replay},
    replica::{self, Role, epochs, follow::Follower, work},
    retention::{self, Retention},
    space::Space,
    store::{Shared, Threads},
    table::Table,
    writer::IndexWriter,
};

const SEGMENT_MIN_BYTES: u64 = 64 << 10;
/// A record must fit into a segment.
const SEGMENT_MAX_BYTES: u64 = 1 << 32;

impl Store {
    /// Opens the store, creating it when it does not exist, and recovers it. Blocking.
    ///
    /// # Errors
    /// [`OpenError`] says what to do; nothing was changed when the lock is held by another process.
    pub fn open(config: Config, clock: Clock) -> Result<Arc<Self>, OpenError> {
        check(&config)?;
        file::create_dir(&config.path).map_err(failed("create", &config.path))?;
        let lock = Lock::take(&config.path)?;
        work::carry_out(&config)?;
        let opened = match open_locked(config.clone(), clock.clone(), Families::AsTheyAre) {
            Err(error) if config.role == Role::Slave && is_about_files(&error) => {
                work::discard(&config, &error)?;
                open_locked(config, clock, Families::AsTheyAre)?
            }
            Err(OpenError::Read(ReadError::Lost { reason })) => {
                tracing::error!(reason, "consume queues and key index are rebuilt from the log");
                open_locked(config, clock, Families::Lost)?
            }
            opened => opened?,
        };
        let (shared, writer, recovery) = opened;
        let core = &shared.core;
        let follower = match core.config.role {
            Role::Master => None,
            Role::Slave => {
                let checkpoint = meta::checkpoint(&core.index.db()?)?.log_offset;
                Some(Follower::new(&shared, core.log.confirmed.get().max(checkpoint))?)
            }
        };
        let follower = Mutex::new(follower);
        let threads = Mutex::new(start(&shared, writer)?);
        let lock = Mutex::new(Some(lock));
        Ok(Arc::new(Self { shared, threads, recovery, lock, follower }))
    }
}

/// Whether a slave is better off with what its master has.
fn is_about_files(error: &OpenError) -> bool {
    matches!(
        error,
        OpenError::Index { .. }
            | OpenError::IndexBehind { .. }
            | OpenError::IndexMissing { .. }
            | OpenError::LogGap { .. }
            | OpenError::LogShort { .. }
            | OpenError::Read(ReadError::Lost { .. } | ReadError::Index { .. })
    )
}

/// What to do with the derived families.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Families {
    AsTheyAre,
    /// Empty them; the log has everything.
    Lost,
}

fn open_locked(
    config: Config,
    clock: Clock,
    families: Families,
) -> Result<(Arc<Shared>, IndexWriter, Recovery), OpenError> {
    let index =
        Index::open_for_slaves(&config.path, config.block_cache_bytes, config.kept_wal_bytes)?;
    let slave = config.role == Role::Slave;
    let sequence_start = index.db()?.db().latest_sequence_number();
    let new = !begin_or_check(&config, &index)?;
    let lost = families == Families::Lost || meta::lost(&index.db()?)?;
    if lost && slave {
        let reason = "the master was rebuilding them".to_owned();
        return Err(ReadError::Lost { reason }.into());
    }
    if lost {
        let stored = meta::checkpoint(&index.db()?)?;
        index.drop_derived(&meta::Checkpoint { log_offset: 0, ..stored })?;
    }
    let (checkpoint, log_end) = {
        let guard = index.db()?;
        (meta::checkpoint(&guard)?, meta::log_end(&guard)?)
    };
    let (mark_file, mark) = MarkFile::open(&config.path)?;
    if !new {
        check_sequence(&index, mark)?;
    }
    // A new index counts from the beginning.
    let mark = mark.map(|mark| Mark { index_sequence: index.durable_sequence(), ..mark });
    retention::remove_returned(&config.path, meta::log_min(&index.db()?)?)?;
    let log = commit_log::recover::open(
        &config.path,
        config.segment_size_bytes,
        checkpoint.log_offset,
        (mark_file, mark),
    )?;
    let mut recovery = Recovery {
        end: crate::LogOffset(log.end),
        cut: log.cut,
        unsynced_bytes: log.unsynced_bytes,
        synced_in: log.synced_in,
        ..Recovery::default()
    };
    if new {
        begin_index(&index, log.end, slave)?;
    }
    if log_end > log.end && !slave && !bug::on(Bug::NoIndexCut) {
        tracing::warn!(log_end, end = log.end, "the index is ahead of the log");
        recovery.removed_entries = recover::cut_index(&index, log.end)?;
    }
    log.log.set_last_store_ms(checkpoint.last_store_ms);
    let promoted = epochs::was_slave(&config.path);
    if slave || (config.wait_for_slaves && !promoted) {
        // Nobody says that the rest is safe, or which topics it belongs to.
        log.log.confirmed.begin_at(log_end.min(log.end));
    }
    let core = Arc::new(Core {
        space: Space::new(&config),
        reported: Reported::default(),
        config,
        clock,
        log: log.log,
        index,
        health: Health::default(),
        mark: Mutex::new(log.mark),
        queues_in_memory: AtomicUsize::new(0),
        replicated: AtomicU64::new(0),
        index_end: AtomicU64::new(if slave { log_end } else { log_end.min(log.end) }),
        differs: AtomicBool::new(false),
        watchers: Arc::default(),
    });
    let shared = share(&core, log.current)?;
    let to = if slave { core.log.confirmed.get() } else { log.end };
    let range = (checkpoint.log_offset.min(to), to);
    let writer = replay(&shared, &log.found, range, &mut recovery)?;
    epochs::open(&shared, sequence_start)?;
    Ok((shared, writer, recovery))
}

/// Whether there is an index already, or one that was adopted; then it fits this program.
fn begin_or_check(config: &Config, index: &Index) -> Result<bool, OpenError> {
    let Some(found) = meta::schema(&index.db()?)? else {
        return if config.role == Role::Slave { Ok(false) } else { adopt::begin(config, index) };
    };
    if found != meta::SCHEMA_VERSION {
        let (path, known) = (config.path.clone(), meta::SCHEMA_VERSION);
        return Err(OpenError::Schema { path, found, known });
    }
    if config.role == Role::Master {
        adopt::merge(config, index)?;
    }
    Ok(true)
}

/// Brings the index up to the end of the log.
fn replay(
    shared: &Arc<Shared>,
    found: &[commit_log::recover::Found],
    (from, end): (u64, u64),
    recovery: &mut Recovery,
) -> Result<IndexWriter, OpenError> {
    let core = &shared.core;
    let next_topic_id = meta::next_topic_id(&core.index.db()?)?;
    let mut writer = IndexWriter::new(Arc::clone(shared), from, next_topic_id);
    let mut replay = Replay::default();
    replay.run(&mut writer, found, (from, end))?;
    recovery.replayed_records = replay.records;
    recovery.damaged = replay.damaged;
    if core.config.role == Role::Slave {
        return Ok(writer);
    }
    if meta::unclamped(&core.index.db()?)? {
        recover::clamp_offsets(shared, end)?;
    }
    if meta::lost(&core.index.db()?)? {
        writer.write_checkpoint(true)?;
        let mut batch = WriteBatch::default();
        meta::put_lost(&mut batch, &core.index.db()?, false);
        core.index.write(batch, true)?;
    }
    Ok(writer)
}

fn check(config: &Config) -> Result<(), OpenError> {
    let within = |setting, value, ok: bool, bounds| {
        if ok { Ok(()) } else { Err(OpenError::Setting { setting, value, bounds }) }
    };
    let segment = config.segment_size_bytes;
    within(
        "segment_size_bytes",
        segment,
        (SEGMENT_MIN_BYTES..=SEGMENT_MAX_BYTES).contains(&segment) && segment.is_multiple_of(4096),
        "64 KiB to 4 GiB, in whole pages of 4 KiB",
    )?;
    within(
        "slice_messages",
        config.slice_messages.into(),
        config.slice_messages > 0,
        "at least 1",
    )?;
    within(
        "max_message_bytes",
        crate::num::to_u64(config.max_message_bytes),
        (1..=limits::RECORD_MAX_BYTES).contains(&config.max_message_bytes),
        "1 byte to 16 MiB",
    )
}

/// RocksDB takes the first unreadable place of its WAL for the end of it. What the mark says was
/// durable behind that place is lost, and nobody else would notice.
fn check_sequence(index: &Index, mark: Option<Mark>) -> Result<(), OpenError> {
    let durable = mark.map_or(0, |mark| mark.index_sequence);
    let found = index.db()?.db().latest_sequence_number();
    if found >= durable {
        index.set_durable_sequence(durable);
        return Ok(());
    }
    Err(OpenError::IndexBehind { path: index.path().to_owned(), found, durable })
}

/// Marks a new index. It cannot be new when the log is not: the topics would be missing, and the
/// records of topics that do not exist are never shown.
///
/// A slave has an empty one until its master sends a snapshot.
fn begin_index(index: &Index, end: u64, slave: bool) -> Result<(), OpenError> {
    if end > 0 {
        let path = index.path().to_owned();
        return Err(OpenError::IndexMissing { path, end: crate::LogOffset(end) });
    }
    if slave {
        return Ok(());
    }
    let mut batch = WriteBatch::default();
    meta::put_schema(&mut batch, &index.db()?);
    Ok(index.write(batch, true)?)
}

fn share(core: &Arc<Core>, current: commit_log::segment::Writer) -> Result<Arc<Shared>, OpenError> {
    let end = core.log.appended();
    let Config { segment_size_bytes, role, .. } = core.config;
    let allocator =
        Arc::new(Allocator::new(&core.config.path.join("commitlog"), segment_size_bytes));
    let log = LogWriter::new(
        Arc::clone(&core.log),
        Arc::clone(&allocator),
        current,
        (segment_size_bytes, role),
    );
    let (next_slice, covered) = recover::next_slice(&core.index)?;
    let guard = core.index.db()?;
    let shared = Shared {
        core: Arc::clone(core),
        topics: Table::new(recover::load_topics(core, end)?),
        groups: Table::new(recover::load_groups(&core.index)?),
        topic_version: Mutex::new(meta::version(&guard, Versioned::Topics)?),
        group_version: Mutex::new(meta::version(&guard, Versioned::Groups)?),
        input: Input::default(),
        keys: Mutex::new(KeyTail::new(core.config.slice_messages, next_slice, covered)),
        appender: Mutex::new(Appender::new(Arc::clone(core), log)),
        allocator,
        flusher: OnceLock::new(),
        retention: Retention::new(core.clock.now_ms()),
    };
    Ok(Arc::new(shared))
}

fn start(shared: &Arc<Shared>, writer: IndexWriter) -> Result<Threads, OpenError> {
    let allocator = Arc::clone(&shared.allocator);
    let allocator = spawn(shared, "log-allocate", {
        let core = Arc::clone(&shared.core);
        move || allocator.run(&|bytes| core.space.room_for(bytes))
    })?;
    let flusher = Flusher::new(Arc::clone(&shared.core));
    let flusher = spawn(shared, "log-flush", move || flusher.run())?;
    // Set here and nowhere else, as is the index writer.
    let _first = shared.flusher.set(flusher.thread().clone());
    let mut export = adopt::Export::new(Arc::clone(shared));
    let exporter = spawn(shared, "config-export", move || export.run())?;
    let threads = Threads {
        exporter: Some(exporter),
        flusher: Some(flusher),
        allocator: Some(allocator),
        ..Threads::default()
    };
    if shared.core.config.role == Role::Slave {
        let keeper = Arc::clone(shared);
        let keeper = spawn(shared, "slave-keep", move || replica::keep::run(&keeper))?;
        return Ok(Threads { keeper: Some(keeper), ..threads });
    }
    let index_writer = spawn(shared, "index-write", move || writer.run())?;
    shared.input.set_thread(index_writer.thread().clone());
    let retainer = {
        let shared = Arc::clone(shared);
        move || retention::run(&shared)
    };
    let retainer = spawn(shared, "retain", retainer)?;
    Ok(Threads { retainer: Some(retainer), index_writer: Some(index_writer), ..threads })
}

/// Starts a thread of the store; if it panics, the store has failed.
fn spawn(
    shared: &Arc<Shared>,
    name: &'static str,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let core = Arc::clone(&shared.core);
    let guarded = move || {
        let run = std::panic::AssertUnwindSafe(run);
        if std::panic::catch_unwind(run).is_err() {
            core.fail(&format!("the thread {name} has panicked"));
        }
    };
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(guarded)
        .map_err(failed("start a thread for", &shared.core.config.path))
}

#[cfg(test)]
mod tests;
