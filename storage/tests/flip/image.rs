//! Stores to flip bits in: one that was closed, one that was killed.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use protocol::{clock::Clock, property, record::NewRecord};
use storage::{
    AppendBatch, AppendError, Config, FlushMode, GroupConfig, LogOffset, QueueOffset, Store, Topic,
    TopicConfig,
};

use crate::Random;

const TOPICS: u32 = 3;
const QUEUES: u32 = 4;
const MESSAGES: u32 = 2_000;
/// The watermark of the killed store says that so many are durable.
const DURABLE: u32 = 1_500;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Segment,
    Watermark,
    Sst,
    Wal,
    Manifest,
    Current,
    Options,
}

/// One bit of a store.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// Relative to the store.
    pub(crate) file: PathBuf,
    pub(crate) at: u64,
    pub(crate) bit: usize,
    image: &'static str,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, bit, image, .. } = self;
        write!(f, "{image}: bit {bit} of byte {at} of {}", file.display())
    }
}

/// One message as it was stored.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) topic: u32,
    pub(crate) key: String,
    pub(crate) log_offset: u64,
    pub(crate) record: Vec<u8>,
}

/// A store on the disk and everything that must be in it.
#[derive(Debug)]
pub(crate) struct Image {
    name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) sent: Vec<Sent>,
    pub(crate) state: State,
    /// What the watermark says.
    pub(crate) durable: u64,
    files: BTreeMap<Kind, Vec<(PathBuf, Range<u64>)>>,
}

/// Topics, groups and consumer offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    topics: BTreeMap<String, (u32, String)>,
    groups: BTreeMap<String, String>,
    offsets: BTreeMap<(String, u32, u32), u64>,
}

impl State {
    /// # Errors
    /// What cannot be read.
    pub(crate) fn of(store: &Store) -> Result<Self, String> {
        let topics = store.topics();
        let groups = store.groups();
        let mut offsets = BTreeMap::new();
        for group in &groups {
            let of_group =
                store.offsets_of_group(&group.name).map_err(|error| error.to_string())?;
            for (topic, queue, offset) in of_group {
                offsets.insert((group.name.clone(), topic.0, queue), offset.0);
            }
        }
        let topic = |topic: &Arc<Topic>| {
            (topic.config.name.clone(), (topic.id.0, format!("{:?}", topic.config)))
        };
        let group = |group: &Arc<GroupConfig>| (group.name.clone(), format!("{group:?}"));
        Ok(Self {
            topics: topics.iter().map(topic).collect(),
            groups: groups.iter().map(group).collect(),
            offsets,
        })
    }
}

impl Image {
    pub(crate) fn choose(&self, random: &mut Random) -> Place {
        let kinds: Vec<_> = self.files.keys().copied().collect();
        let kind = kinds[random.below(kinds.len())];
        let files = &self.files[&kind];
        let (file, used) = &files[random.below(files.len())];
        let len = usize::try_from(used.end - used.start).unwrap();
        let at = used.start + u64::try_from(random.below(len)).unwrap();
        Place { kind, file: file.clone(), at, bit: random.below(8), image: self.name }
    }

    /// Where in the log a bit of a segment is.
    pub(crate) fn log_offset(&self, place: &Place) -> Option<u64> {
        let name = place.file.file_name().unwrap().to_str().unwrap();
        (place.kind == Kind::Segment).then(|| name.parse::<u64>().unwrap() + place.at)
    }

    /// The message that a bit belongs to.
    pub(crate) fn message_at(&self, place: &Place) -> Option<usize> {
        let at = self.log_offset(place)?;
        self.sent.iter().position(|sent| {
            (sent.log_offset..sent.log_offset + sent.record.len() as u64).contains(&at)
        })
    }
}

/// Makes both stores in `root`.
pub(crate) fn make(root: &Path) -> Vec<Image> {
    let mut config = Config::new(root.join("made"));
    config.segment_size_bytes = 128 << 10;
    config.slice_messages = 400;
    config.tail_entries = 1 << 8;
    config.block_cache_bytes = 1 << 20;
    config.flush = FlushMode::Sync;
    config.disk_clean_percent = 100;
    config.disk_force_clean_percent = 100;
    config.disk_refuse_percent = 100;
    config.retention_interval_ms = 3_600_000;
    let (clock, _) = Clock::manual(1_700_000_000_000);
    let mut sent = Vec::new();
    let store = Store::open(config.clone(), clock.clone()).unwrap();
    begin(&store);
    send(&store, MESSAGES / 2, &mut sent);
    store.close();
    // Opening writes the index to tables.
    let store = Store::open(config.clone(), clock.clone()).unwrap();
    send(&store, DURABLE - 1, &mut sent);
    std::thread::sleep(Duration::from_millis(1_100));
    send(&store, DURABLE, &mut sent);
    let durable = sent.last().map(|sent| sent.log_offset + sent.record.len() as u64).unwrap();
    // The mark is written behind the sync that confirms.
    std::thread::sleep(Duration::from_millis(100));
    send(&store, MESSAGES, &mut sent);
    let state = State::of(&store).unwrap();
    let killed = root.join("killed");
    copy_running(&config.path, &killed);
    store.close();
    let closed = root.join("closed");
    #[expect(clippy::disallowed_methods, reason = "nothing has to survive a power cut here")]
    fs::rename(&config.path, &closed).unwrap();
    let end = sent.last().map(|sent| sent.log_offset + sent.record.len() as u64).unwrap();
    [("killed", killed, durable), ("closed", closed, end)]
        .map(|(name, path, durable)| {
            let files = files(&path, end);
            let (config, clock) = (config.clone(), clock.clone());
            let (sent, state) = (sent.clone(), state.clone());
            Image { name, path, config, clock, sent, state, durable, files }
        })
        .into()
}

fn begin(store: &Store) {
    for number in 0..TOPICS {
        let name = format!("T{number}");
        let config = TopicConfig {
            name,
            read_queues: QUEUES,
            write_queues: QUEUES,
            perm: 6,
            ..Default::default()
        };
        let topic = wait(store.put_topic(config)).unwrap();
        for group in ["G1", "G2"] {
            wait(store.put_group(GroupConfig::new(group))).unwrap();
            for queue in 0..QUEUES {
                store.commit_offset(group, &topic, queue, QueueOffset(u64::from(queue + number)));
            }
        }
    }
}

fn send(store: &Store, until: u32, sent: &mut Vec<Sent>) {
    let topics: Vec<_> = (0..TOPICS).map(|n| store.topic(&format!("T{n}")).unwrap()).collect();
    let host = "127.0.0.1:10911".parse().unwrap();
    let mut batch = AppendBatch::default();
    while sent.len() < until as usize {
        let number = u32::try_from(sent.len()).unwrap();
        let (topic, queue) = (number % TOPICS, number / TOPICS % QUEUES);
        let key = format!("k{number}");
        let body = format!("body of {number}, ").repeat(number as usize % 17 + 1);
        let mut properties = String::new();
        property::push(&mut properties, property::KEYS, &key);
        property::push(&mut properties, property::TAGS, "tag");
        property::push(&mut properties, property::UNIQ_KEY, &format!("{number:032X}"));
        let record = NewRecord {
            topic: "",
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1_700_000_000_000,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: body.as_bytes(),
            properties: &[&properties],
        };
        batch.clear();
        batch.push(&topics[topic as usize], queue, &record).unwrap();
        while let Err(error) = store.append(&mut batch) {
            assert!(matches!(error, AppendError::Busy { .. }), "{error}");
            std::thread::yield_now();
        }
        let result = batch.results()[0];
        let end = LogOffset(result.log_offset.0 + u64::from(result.size));
        wait(store.wait_confirmed(end)).unwrap();
        let record = store.record_at(result.log_offset).unwrap().unwrap().to_vec();
        sent.push(Sent { topic, key, log_offset: result.log_offset.0, record });
    }
}

/// The files of a store and which of their bytes may matter.
fn files(path: &Path, end: u64) -> BTreeMap<Kind, Vec<(PathBuf, Range<u64>)>> {
    let mut files: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let mut add = |kind, file: PathBuf, used: Range<u64>| {
        if !used.is_empty() {
            files.entry(kind).or_default().push((file, used));
        }
    };
    for entry in fs::read_dir(path.join("commitlog")).unwrap() {
        let entry = entry.unwrap();
        let base: u64 = entry.file_name().to_str().unwrap().parse().unwrap();
        let used = end.saturating_sub(base).min(entry.metadata().unwrap().len());
        add(Kind::Segment, Path::new("commitlog").join(entry.file_name()), 0..used);
    }
    add(Kind::Watermark, "commitlog.watermark".into(), 0..40);
    add(Kind::Watermark, "commitlog.watermark".into(), 4096..4136);
    for entry in fs::read_dir(path.join("rocksdb")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let text = name.to_str().unwrap();
        let kind = match text {
            "CURRENT" => Kind::Current,
            _ if text.ends_with(".sst") => Kind::Sst,
            _ if text.ends_with(".log") => Kind::Wal,
            _ if text.starts_with("MANIFEST") => Kind::Manifest,
            _ if text.starts_with("OPTIONS") => Kind::Options,
            // Text for people, and an identity that nothing compares.
            _ => continue,
        };
        add(kind, Path::new("rocksdb").join(&name), 0..entry.metadata().unwrap().len());
    }
    files
}

/// Copies a store that is open, as a kill would leave it.
fn copy_running(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    copy(&from.join("commitlog.watermark"), &to.join("commitlog.watermark"));
    // A flush or compaction in between would give a mixture that never was on the disk.
    loop {
        let before = names(&from.join("rocksdb"));
        copy(&from.join("rocksdb"), &to.join("rocksdb"));
        if names(&from.join("rocksdb")) == before {
            break;
        }
        fs::remove_dir_all(to.join("rocksdb")).unwrap();
    }
    copy(&from.join("commitlog"), &to.join("commitlog"));
}

fn names(dir: &Path) -> Vec<OsString> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// Copies a file or a directory. Files may vanish meanwhile.
pub(crate) fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        if let Err(error) = fs::copy(from, to) {
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
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
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(future)
}
