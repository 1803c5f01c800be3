//! Scratch stores, and sending and reading in one line.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::{
    clock::{Clock, Hand},
    record::{self, NewRecord, RecordView},
};
use storage::{
    AppendBatch, AppendError, Appended, Config, FlushMode, Mode, Queue, QueueOffset, Read,
    ReadLimits, ReadStatus, Store, Topic, TopicConfig,
};
use tempfile::TempDir;

/// Where the clock of a scratch store stands first.
pub(crate) const T0: i64 = 1_700_000_000_000;

/// A store in a temporary directory, with small segments and slices so that their ends are met.
pub(crate) struct Scratch {
    pub(crate) dir: TempDir,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) hand: Hand,
}

/// What was sent, to compare with what is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) key: String,
    pub(crate) tag: String,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn new(key: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { key: key.into(), tag: String::new(), body: body.into() }
    }

    pub(crate) fn of(record: &RecordView<'_>) -> Self {
        let property = |name| record.property(name).unwrap_or_default().to_owned();
        Self { key: property("KEYS"), tag: property("TAGS"), body: record.body.to_vec() }
    }
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::manual(T0);
        let mut config = Config::new(dir.path().join("store"));
        config.segment_size_bytes = 1 << 20;
        config.slice_messages = 1_000;
        config.tail_entries = 1 << 10;
        config.block_cache_bytes = 1 << 20;
        // A test must not depend on how full the disk is that it runs on, nor on when a round comes.
        config.disk_clean_percent = 100;
        config.disk_force_clean_percent = 100;
        config.disk_refuse_percent = 100;
        config.retention_interval_ms = 3_600_000;
        Self { dir, config, clock, hand }
    }

    pub(crate) fn open(&self) -> Arc<Store> {
        Store::open(self.config.clone(), self.clock.clone()).unwrap()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.config.path
    }

    /// What would be there if the process died now: a copy of the files. The index first, so that
    /// it is not ahead of the log.
    pub(crate) fn crash_image(&self) -> Self {
        let image = Self { config: self.config.clone(), ..Self::new() };
        let path = image.dir.path().join("store");
        fs::create_dir(&path).unwrap();
        copy(&self.path().join("commitlog.watermark"), &path.join("commitlog.watermark"));
        // A flush or compaction in between would give a mixture that never was on the disk.
        let (from, to) = (self.path().join("rocksdb"), path.join("rocksdb"));
        loop {
            let before = names(&from);
            copy(&from, &to);
            if names(&from) == before {
                break;
            }
            fs::remove_dir_all(&to).unwrap();
        }
        copy(&self.path().join("commitlog"), &path.join("commitlog"));
        let config = Config { path, ..self.config.clone() };
        Self { config, clock: self.clock.clone(), hand: self.hand.clone(), ..image }
    }

    /// The segment files in order.
    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.path().join("commitlog")).unwrap();
        // One that is being made has another name as yet.
        let mut files: Vec<_> = files
            .map(|file| file.unwrap().path())
            .filter(|path| path.extension().is_none())
            .collect();
        files.sort();
        files
    }
}

/// Makes the durable watermark of a store forget which changes of the index were durable, so that an
/// older index beside it is taken for one that had not been synced.
pub(crate) fn forget_durable_index(scratch: &Scratch) {
    let path = scratch.path().join("commitlog.watermark");
    let mut bytes = fs::read(&path).unwrap();
    for slot in [0, 4096] {
        bytes[slot + 24..slot + 32].fill(0);
        let crc = crc32fast::hash(&bytes[slot..slot + 32]);
        bytes[slot + 32..slot + 36].copy_from_slice(&crc.to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}

fn names(dir: &Path) -> BTreeSet<OsString> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

/// Copies a file or a directory. Files may vanish meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        if let Err(error) = fs::copy(from, to) {
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        }
        return;
    }
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

/// Runs a future of the store to its end.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future)
}

pub(crate) fn topic(store: &Store, name: &str, queues: u32) -> Arc<Topic> {
    wait(store.put_topic(topic_config(name, queues))).unwrap()
}

pub(crate) fn topic_config(name: &str, queues: u32) -> TopicConfig {
    TopicConfig {
        name: name.to_owned(),
        read_queues: queues,
        write_queues: queues,
        perm: 6,
        ..TopicConfig::default()
    }
}

/// Adds a message to a batch.
pub(crate) fn push(
    batch: &mut AppendBatch,
    topic: &Arc<Topic>,
    queue: u32,
    message: &Message,
) -> Result<(), AppendError> {
    let host: SocketAddr = "127.0.0.1:10911".parse().unwrap();
    let mut properties = String::new();
    for (name, value) in [("KEYS", &message.key), ("TAGS", &message.tag)] {
        if !value.is_empty() {
            protocol::property::push(&mut properties, name, value);
        }
    }
    let record = NewRecord {
        topic: "",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: T0,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: &message.body,
        properties: &[&properties],
    };
    batch.push(topic, queue, &record)
}

/// Appends a batch, again and again while the index is behind: small slices are full quickly.
pub(crate) fn append(store: &Store, batch: &mut AppendBatch) {
    loop {
        match store.append(batch) {
            Ok(()) => return,
            Err(AppendError::Busy { .. }) => std::thread::yield_now(),
            Err(error) => panic!("{error}"),
        }
    }
}

/// Appends messages to one queue as one batch and waits until they are confirmed.
pub(crate) fn send(
    store: &Store,
    topic: &Arc<Topic>,
    queue: u32,
    messages: &[Message],
) -> Vec<Appended> {
    let mut batch = AppendBatch::default();
    for message in messages {
        push(&mut batch, topic, queue, message).unwrap();
    }
    append(store, &mut batch);
    let results = batch.results().to_vec();
    let last = results.last().unwrap();
    let end = storage::LogOffset(last.log_offset.0 + u64::from(last.size));
    wait(store.wait_confirmed(end)).unwrap();
    results
}

/// `count` small messages with keys `prefix` and a number.
pub(crate) fn numbered(prefix: &str, numbers: std::ops::Range<u64>) -> Vec<Message> {
    numbers.map(|i| Message::new(format!("{prefix}{i}"), format!("body of {prefix}{i}"))).collect()
}

pub(crate) const ANY: &dyn Fn(i64) -> bool = &|_| true;

pub(crate) fn limits(max_messages: usize) -> ReadLimits {
    ReadLimits { max_messages, max_bytes: 1 << 20 }
}

/// Reads on a blocking thread's terms.
pub(crate) fn read(queue: &Queue, from: u64, max_messages: usize) -> Read {
    queue.read(QueueOffset(from), limits(max_messages), Mode::MayBlock, ANY).unwrap()
}

/// Every message of a queue from `from` on; checks offsets and order on the way.
pub(crate) fn read_all(queue: &Queue, from: u64) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut next = from;
    loop {
        let read = read(queue, next, 32);
        if read.status != ReadStatus::Found {
            assert_eq!(read.status, end_status(&read), "at {next}");
            return messages;
        }
        for slice in &read.slices {
            for record in record::iter(slice) {
                let record = record.unwrap();
                record.verify().unwrap();
                assert_eq!(u64::try_from(record.queue_offset).unwrap(), next);
                messages.push(Message::of(&record));
                next += 1;
            }
        }
        assert_eq!(read.next, QueueOffset(next));
    }
}

fn end_status(read: &Read) -> ReadStatus {
    if read.max.0 == 0 { ReadStatus::NoMessageInQueue } else { ReadStatus::OffsetOverflowOne }
}

/// Asks for sync flush.
pub(crate) fn sync_flush(config: &mut Config) {
    config.flush = FlushMode::Sync;
}
