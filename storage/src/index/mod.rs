//! The index: the one RocksDB. One family, one file; this one opens it and holds the `default`
//! family.
//!
//! Everything here is bytes and reading. All writing is done by the one index writer.

pub(crate) mod consume_queue;
pub(crate) mod consumer_offset;
pub(crate) mod group;
pub(crate) mod key_index;
pub(crate) mod mend;
pub(crate) mod meta;
pub(crate) mod options;
pub(crate) mod topic;

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, WriteBatch, WriteOptions};

use crate::{OpenError, ReadError, commit_log::durable, file, replica::delta::Ring};

/// Its directory in the store. RocketMQ keeps files of its own in `index`.
pub(crate) const DIR: &str = "rocksdb";

/// Cache of blocks for those that look at a stopped store.
const READ_ONLY_CACHE_BYTES: usize = 32 << 20;

/// Names of the families, as on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Schema version, checkpoint, versions.
    Default,
    /// Topic name to its row.
    Topic,
    /// Group name to its row.
    Group,
    /// Blocks of 64 entries.
    ConsumeQueue,
    /// Slices and buckets.
    KeyIndex,
    /// How far groups have consumed.
    ConsumerOffset,
}

impl Family {
    pub(crate) const ALL: [Self; 6] = [
        Self::Default,
        Self::Topic,
        Self::Group,
        Self::ConsumeQueue,
        Self::KeyIndex,
        Self::ConsumerOffset,
    ];

    /// Those that can be rebuilt from the log.
    pub(crate) const DERIVED: [Self; 2] = [Self::ConsumeQueue, Self::KeyIndex];

    fn is_derived(self) -> bool {
        Self::DERIVED.contains(&self)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Topic => "topic",
            Self::Group => "group",
            Self::ConsumeQueue => "consume_queue",
            Self::KeyIndex => "key_index",
            Self::ConsumerOffset => "consumer_offset",
        }
    }
}

/// Why a batch was not written.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// There was no space for it, so nothing of it is there. RocksDB refuses all writes from then
    /// on, until [`Index::reopen`].
    Full {
        /// RocksDB's reason.
        reason: String,
    },
    /// RocksDB met a file of a derived family that it cannot read. It refuses all writes from then
    /// on, until [`Index::reopen`].
    Lost,
    /// RocksDB and the memory of the process differ now: the store must not go on.
    Failed(ReadError),
}

/// What is wrong with the derived families.
#[derive(Debug, Default)]
struct Derived {
    /// Why somebody could not read one.
    lost: Mutex<Option<String>>,
    rebuilding: AtomicBool,
}

/// The open RocksDB. It can be closed while handles to queues are still around.
#[derive(Debug)]
pub(crate) struct Index {
    db: RwLock<Option<DB>>,
    path: PathBuf,
    block_cache_bytes: usize,
    /// 0: there are no slaves, and changes are forgotten.
    kept_wal_bytes: u64,
    ring: Mutex<Ring>,
    derived: Derived,
    /// RocksDB's sequence number up to which everything is on the disk, or a smaller one.
    durable_sequence: AtomicU64,
}

/// RocksDB, open for as long as this lives.
pub(crate) struct Guard<'a>(RwLockReadGuard<'a, Option<DB>>);

impl Index {
    /// Opens the index in `dir/rocksdb`, creating it when it does not exist.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(dir: &Path, block_cache_bytes: usize) -> Result<Self, OpenError> {
        Self::open_for_slaves(dir, block_cache_bytes, 0)
    }

    /// As [`Index::open`]; what is written can be had again from [`crate::replica`], as far as so
    /// many bytes of WAL hold it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open_for_slaves(
        dir: &Path,
        block_cache_bytes: usize,
        kept_wal_bytes: u64,
    ) -> Result<Self, OpenError> {
        let path = dir.join(DIR);
        file::create_dir(&path).map_err(file::failed("create", &path))?;
        mend::mend(&path).map_err(file::failed("check the logs of", &path))?;
        check_log(dir, &path)?;
        let families = families(block_cache_bytes);
        let db = DB::open_cf_descriptors(&options::of_database(kept_wal_bytes), &path, families)
            .map_err(|source| OpenError::Index { path: path.clone(), source })?;
        Ok(Self { kept_wal_bytes, ..Self::of(db, path, block_cache_bytes) })
    }

    fn of(db: DB, path: PathBuf, block_cache_bytes: usize) -> Self {
        Self {
            db: RwLock::new(Some(db)),
            path,
            block_cache_bytes,
            kept_wal_bytes: 0,
            ring: Mutex::default(),
            derived: Derived::default(),
            durable_sequence: AtomicU64::new(0),
        }
    }

    /// Opens RocksDB anew: after an error it refuses all writes.
    ///
    /// # Errors
    /// RocksDB's; then the index is closed.
    pub(crate) fn reopen(&self) -> Result<(), ReadError> {
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        drop(db.take());
        let options = options::of_database(self.kept_wal_bytes);
        let opened =
            DB::open_cf_descriptors(&options, &self.path, families(self.block_cache_bytes));
        *db = Some(opened.map_err(read_error)?);
        Ok(())
    }

    /// Opens the RocksDB in the directory `path` for reading; nothing on the disk changes.
    ///
    /// # Errors
    /// [`OpenError::Index`].
    pub(crate) fn read_only(path: &Path) -> Result<Self, OpenError> {
        mend::check(path).map_err(file::failed("read", path))?;
        let options = options::of_database(0);
        let families = families(READ_ONLY_CACHE_BYTES);
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false)
            .map_err(|source| OpenError::Index { path: path.to_owned(), source })?;
        Ok(Self::of(db, path.to_owned(), READ_ONLY_CACHE_BYTES))
    }

    /// Reads a derived family. If it cannot be read, the index writer rebuilds it.
    ///
    /// # Errors
    /// [`ReadError::Lost`], [`ReadError::Rebuilding`], or another one of `read`.
    pub(crate) fn derived<T>(
        &self,
        read: impl FnOnce(&Guard<'_>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        if self.derived.rebuilding.load(Ordering::Acquire) {
            return Err(ReadError::Rebuilding);
        }
        let found = read(&self.db()?);
        if let Err(ReadError::Lost { reason }) = &found {
            self.note_lost(reason);
        }
        found
    }

    fn note_lost(&self, reason: &str) {
        let mut lost = self.derived.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.get_or_insert_with(|| reason.to_owned());
    }

    /// Why a derived family could not be read, once.
    pub(crate) fn take_lost(&self) -> Option<String> {
        self.derived.lost.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether [`Index::derived`] is to refuse.
    pub(crate) fn set_rebuilding(&self, rebuilding: bool) {
        self.derived.rebuilding.store(rebuilding, Ordering::Release);
    }

    /// Empties the derived families; `from` is where the log begins. Until
    /// [`meta::put_lost`] takes it back, the next start does the same and reads the whole log.
    ///
    /// # Errors
    /// RocksDB's.
    pub(crate) fn drop_derived(&self, from: &meta::Checkpoint) -> Result<(), ReadError> {
        let mut batch = WriteBatch::default();
        {
            let guard = self.db()?;
            meta::put_lost(&mut batch, &guard, true);
            meta::put_checkpoint(&mut batch, &guard, from);
        }
        self.write(batch, true)?;
        // Slaves are not told of dropped families by any batch.
        self.ring().bar(self.db()?.db().latest_sequence_number());
        let cache = rocksdb::Cache::new_lru_cache(self.block_cache_bytes);
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let Some(db) = db.as_mut() else { return Err(closed()) };
        for family in Family::DERIVED {
            db.drop_cf(family.name()).map_err(read_error)?;
            let options = options::of_family(family, &cache);
            db.create_cf(family.name(), &options).map_err(read_error)?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// # Errors
    /// [`ReadError::Index`] once the index is closed.
    pub(crate) fn db(&self) -> Result<Guard<'_>, ReadError> {
        let guard = self.db.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() { Ok(Guard(guard)) } else { Err(closed()) }
    }

    /// Writes `batch` as one atomic step, and waits for the disk if `sync`.
    ///
    /// # Errors
    /// RocksDB's. The store must not go on: RocksDB and the memory of the process differ now.
    pub(crate) fn write(&self, batch: WriteBatch, sync: bool) -> Result<(), ReadError> {
        self.try_write(batch, sync).map_err(|error| match error {
            WriteError::Full { reason } => ReadError::Index { reason },
            WriteError::Lost => ReadError::Rebuilding,
            WriteError::Failed(error) => error,
        })
    }

    /// As [`Index::write`], for those who can wait for space.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn try_write(&self, batch: WriteBatch, sync: bool) -> Result<(), WriteError> {
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        let guard = self.db().map_err(WriteError::Failed)?;
        let mut ring = self.ring();
        let logged = (self.kept_wal_bytes > 0).then(|| batch.data().to_vec());
        guard.db().write_opt(batch, &options).map_err(|error| {
            if guard.is_derived_file(&error) {
                self.note_lost(error.as_ref());
                return WriteError::Lost;
            }
            write_error(error)
        })?;
        if let Some(logged) = logged {
            ring.push(&guard, logged).map_err(WriteError::Failed)?;
        }
        drop(ring);
        if sync {
            // There is one writer, so nothing was written in between.
            let sequence = guard.db().latest_sequence_number();
            self.durable_sequence.fetch_max(sequence, Ordering::Release);
        }
        Ok(())
    }

    /// Makes everything durable that was written without `sync`.
    ///
    /// # Errors
    /// RocksDB's. The store must not go on.
    pub(crate) fn sync(&self) -> Result<(), ReadError> {
        let guard = self.db()?;
        let sequence = guard.db().latest_sequence_number();
        guard.db().flush_wal(true).map_err(read_error)?;
        self.durable_sequence.fetch_max(sequence, Ordering::Release);
        Ok(())
    }

    /// The newest changes; nothing is written while this lives.
    pub(crate) fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Index::ring`], or `None` while a batch is being written.
    pub(crate) fn try_ring(&self) -> Option<MutexGuard<'_, Ring>> {
        match self.ring.try_lock() {
            Ok(ring) => Some(ring),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// RocksDB's sequence number up to which everything is known to be on the disk; 0 until
    /// something was synced.
    pub(crate) fn durable_sequence(&self) -> u64 {
        self.durable_sequence.load(Ordering::Acquire)
    }

    /// Says what was durable before this process opened the index.
    pub(crate) fn set_durable_sequence(&self, sequence: u64) {
        self.durable_sequence.fetch_max(sequence, Ordering::Release);
    }

    /// Closes RocksDB. Later reads fail.
    pub(crate) fn close(&self) {
        self.db.write().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// RocksDB removes its write-ahead log once it has opened it, also what lies behind the first damaged
/// place. Where that was durable it must stay until a repair has read it.
fn check_log(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let marks = durable::read(dir).map_err(file::failed("read", dir.join(durable::NAME)))?;
    let mark = marks.into_iter().flatten().max_by_key(|mark| mark.sequence);
    let durable = mark.map_or(0, |mark| mark.index_sequence);
    if durable == 0 || !mend::is_log_damaged(path).map_err(file::failed("read", path))? {
        return Ok(());
    }
    let index = Index::read_only(path)?;
    let found = index.db().map_or(0, |guard| guard.db().latest_sequence_number());
    if found >= durable {
        return Ok(());
    }
    Err(OpenError::IndexBehind { path: path.to_owned(), found, durable })
}

fn families(block_cache_bytes: usize) -> [ColumnFamilyDescriptor; Family::ALL.len()] {
    let cache = rocksdb::Cache::new_lru_cache(block_cache_bytes);
    Family::ALL.map(|family| {
        ColumnFamilyDescriptor::new(family.name(), options::of_family(family, &cache))
    })
}

/// A full disk is met when a file is made longer, before anything is acknowledged. When a sync
/// meets it, what was written before may be lost: that is a failure.
fn write_error(error: rocksdb::Error) -> WriteError {
    let reason = error.into_string();
    let says = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    let full = says(&["No space left on device", "Disk quota exceeded"]);
    if full && !says(&["While fsync", "While fdatasync", "While sync_file_range"]) {
        WriteError::Full { reason }
    } else {
        WriteError::Failed(ReadError::Index { reason })
    }
}

impl Guard<'_> {
    pub(crate) fn db(&self) -> &DB {
        self.0.as_ref().expect("checked when the guard was made; closing needs the write lock")
    }

    pub(crate) fn family(&self, family: Family) -> &ColumnFamily {
        self.db().cf_handle(family.name()).expect("all families are opened with the database")
    }

    /// # Errors
    /// [`ReadError::Index`].
    pub(crate) fn get(&self, family: Family, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let found = self.db().get_cf(self.family(family), key);
        found.map_err(if family.is_derived() { lost_error } else { read_error })
    }

    /// Whether an error is about a file of a derived family that is damaged.
    fn is_derived_file(&self, error: &rocksdb::Error) -> bool {
        let files = || self.db().live_files().unwrap_or_default();
        is_lost(error)
            && files().iter().any(|file| {
                let derived = Family::DERIVED.iter().any(|of| of.name() == file.column_family_name);
                derived && error.as_ref().contains(file.name.trim_start_matches('/'))
            })
    }

    /// An iterator that sees the keys in `from..to` only, not yet positioned.
    pub(crate) fn range(
        &self,
        family: Family,
        from: Vec<u8>,
        to: Vec<u8>,
    ) -> rocksdb::DBRawIterator<'_> {
        let mut options = rocksdb::ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        self.db().raw_iterator_cf_opt(self.family(family), options)
    }
}

/// Every key and value of an iterator, from its first on.
///
/// # Errors
/// [`ReadError::Index`], or what `each` returns.
pub(crate) fn for_each(
    mut rows: rocksdb::DBRawIterator<'_>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        each(key, value)?;
        rows.next();
    }
    rows.status().map_err(read_error)
}

fn closed() -> ReadError {
    ReadError::Index { reason: "the store is closed".to_owned() }
}

/// Whether what RocksDB wanted to read is gone, not only out of reach for now.
fn is_lost(error: &rocksdb::Error) -> bool {
    error.kind() == rocksdb::ErrorKind::Corruption
        || ["No such file or directory", "Input/output error"]
            .iter()
            .any(|reason| error.as_ref().contains(reason))
}

/// RocksDB's error from reading a derived family.
pub(crate) fn lost_error(error: rocksdb::Error) -> ReadError {
    if is_lost(&error) {
        ReadError::Lost { reason: error.into_string() }
    } else {
        read_error(error)
    }
}

/// RocksDB's error as ours.
pub(crate) fn read_error(error: rocksdb::Error) -> ReadError {
    let damaged = error.kind() == rocksdb::ErrorKind::Corruption;
    let mut reason = error.into_string();
    if damaged {
        reason.push_str("; stop the broker and run `mqtool store repair` on the store");
    }
    ReadError::Index { reason }
}

/// A value that cannot be decoded.
pub(crate) fn damaged(family: Family, key: &[u8]) -> ReadError {
    let reason = format!("damaged value in family {}, key {}", family.name(), key.escape_ascii());
    if family.is_derived() { ReadError::Lost { reason } } else { ReadError::Index { reason } }
}
