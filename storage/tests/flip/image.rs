//! Stores to flip bits in: one that was closed, one that was killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    fmt, fs, io,
    ops::Range,
    os::unix::fs::MetadataExt,
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

/// RocksDB writes its log in blocks.
const WAL_BLOCK_BYTES: usize = 32 << 10;

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
    /// As `config/*.json` have it.
    exported: State,
    /// What the watermark says.
    pub(crate) durable: u64,
    files: BTreeMap<Kind, Vec<(PathBuf, Range<u64>)>>,
}

/// Topics, groups and consumer offsets: what it is to what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State(BTreeMap<String, String>);

/// A row that is not as it was.
#[derive(Clone, Debug)]
pub(crate) struct Differing {
    row: String,
    found: Option<String>,
    expected: Option<String>,
}

impl fmt::Display for Differing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {:?} instead of {:?}", self.row, self.found, self.expected)
    }
}

impl State {
    /// # Errors
    /// What cannot be read.
    pub(crate) fn of(store: &Store) -> Result<Self, String> {
        let mut rows = BTreeMap::new();
        let mut names = BTreeMap::new();
        for topic in store.topics() {
            let name = &topic.config.name;
            rows.insert(format!("topic {name}"), format!("{:?}", topic.config));
            names.insert(topic.id, name.clone());
        }
        for group in store.groups() {
            let name = &group.name;
            rows.insert(format!("group {name}"), format!("{group:?}"));
            for (topic, queue, offset) in
                store.offsets_of_group(name).map_err(|error| error.to_string())?
            {
                let topic = names.get(&topic).map_or("nothing", String::as_str);
                rows.insert(format!("offset {name} {topic} {queue}"), offset.to_string());
            }
        }
        Ok(Self(rows))
    }

    /// What `found` has otherwise.
    pub(crate) fn differing(&self, found: &Self) -> Vec<Differing> {
        let rows: BTreeSet<_> = self.0.keys().chain(found.0.keys()).collect();
        rows.into_iter()
            .filter(|row| self.0.get(*row) != found.0.get(*row))
            .map(|row| Differing {
                row: row.clone(),
                found: found.0.get(row).cloned(),
                expected: self.0.get(row).cloned(),
            })
            .collect()
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

impl Image {
    /// Whether a row was lost with the record of the write-ahead log that was hit: it is as
    /// `config/*.json` have it, which were written before, or an offset from in between.
    pub(crate) fn may_be_outdated(&self, place: &Place, differing: &Differing) -> bool {
        let exported = self.exported.0.get(&differing.row);
        let number = |text: Option<&String>| text.and_then(|text| text.parse::<u64>().ok());
        let between = number(differing.found.as_ref()).is_some_and(|found| {
            number(exported) <= Some(found) && Some(found) < number(differing.expected.as_ref())
        });
        if place.kind != Kind::Wal || !(between || exported == differing.found.as_ref()) {
            return false;
        }
        // Topics that have messages are in the log too.
        let mut words = differing.row.split(' ');
        let name = match (words.next(), words.next()) {
            (Some("group" | "offset"), Some(group)) => group,
            (Some("topic"), Some("Empty")) => "Empty",
            _ => return false,
        };
        let wal = fs::read(self.path.join(&place.file)).unwrap();
        let record = wal_record(&wal, usize::try_from(place.at).unwrap());
        record.windows(name.len()).any(|text| text == name.as_bytes())
    }
}

/// The record of RocksDB's log that holds byte `at`, put together from its parts: checksum (4),
/// length (2, the lowest byte first), kind (1), payload.
fn wal_record(wal: &[u8], at: usize) -> Vec<u8> {
    let (mut from, mut record, mut hit) = (0, Vec::new(), false);
    while from + 7 <= wal.len() && wal[from + 6] != 0 {
        let to = from + 7 + usize::from(wal[from + 4]) + (usize::from(wal[from + 5]) << 8);
        record.extend_from_slice(&wal[from + 7..to]);
        hit |= (from..to).contains(&at);
        // A whole one, or the last part.
        if matches!(wal[from + 6], 1 | 4) {
            if hit {
                return record;
            }
            record.clear();
        }
        let left = WAL_BLOCK_BYTES - to % WAL_BLOCK_BYTES;
        from = if left < 7 { to + left } else { to };
    }
    Vec::new()
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
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    let mut sent = Vec::new();
    let store = Store::open(config.clone(), clock.clone()).unwrap();
    begin(&store);
    send(&store, MESSAGES / 2, &mut sent);
    wait(store.delete_topic("Gone")).unwrap();
    wait(store.delete_group("Gone", true)).unwrap();
    store.close();
    let before = exported_at(&config.path);
    // Opening writes the index to tables, and config/*.json.
    let store = Store::open(config.clone(), clock.clone()).unwrap();
    while exported_at(&config.path) == before {
        std::thread::sleep(Duration::from_millis(2));
    }
    let exported = State::of(&store).unwrap();
    hand.advance(1_000);
    put_topic(&store, TOPICS);
    let empty = TopicConfig { name: "Empty".to_owned(), ..config_of(0) };
    wait(store.put_topic(empty)).unwrap();
    for (stage, until) in (1..).zip([DURABLE / 2, DURABLE / 4 * 3, DURABLE - 1]) {
        go_on(&store, stage);
        send(&store, until, &mut sent);
    }
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
            let exported = if name == "killed" { &exported } else { &state }.clone();
            Image { name, path, config, clock, sent, state, exported, durable, files }
        })
        .into()
}

fn begin(store: &Store) {
    for number in 0..TOPICS {
        let topic = put_topic(store, number);
        for group in ["G1", "G2"] {
            wait(store.put_group(GroupConfig::new(group))).unwrap();
            for queue in 0..QUEUES {
                store.commit_offset(group, &topic, queue, QueueOffset(u64::from(queue + number)));
            }
        }
    }
    // What is deleted stays deleted, whatever is lost.
    let config = TopicConfig { name: "Gone".to_owned(), ..config_of(0) };
    let topic = wait(store.put_topic(config)).unwrap();
    wait(store.put_group(GroupConfig::new("Gone"))).unwrap();
    store.commit_offset("Gone", &topic, 0, QueueOffset(0));
    append(store, &topic, 0, 0);
}

fn config_of(number: u32) -> TopicConfig {
    TopicConfig {
        name: format!("T{number}"),
        read_queues: QUEUES,
        write_queues: QUEUES,
        perm: 6,
        ..Default::default()
    }
}

fn put_topic(store: &Store, number: u32) -> Arc<Topic> {
    wait(store.put_topic(config_of(number))).unwrap()
}

/// What only the write-ahead log has: a group goes on, another one begins. All of it is durable, as
/// groups are when they are there.
fn go_on(store: &Store, stage: u32) {
    let topic = store.topic("T0").unwrap();
    let group = format!("Late{stage}");
    for queue in 0..QUEUES {
        store.commit_offset("G1", &topic, queue, QueueOffset(u64::from(queue + 10 * stage)));
        store.commit_offset(&group, &topic, queue, QueueOffset(u64::from(queue + stage)));
    }
    wait(store.put_group(GroupConfig::new(group))).unwrap();
}

/// Tells one version of the exported consumer offsets from the next.
fn exported_at(path: &Path) -> u64 {
    fs::metadata(path.join("config/consumerOffset.json")).map_or(0, |found| found.ino())
}

fn send(store: &Store, until: u32, sent: &mut Vec<Sent>) {
    let topics: Vec<_> = (0..).map_while(|n| store.topic(&format!("T{n}"))).collect();
    let count = u32::try_from(topics.len()).unwrap();
    while sent.len() < until as usize {
        let number = u32::try_from(sent.len()).unwrap();
        let (topic, queue) = (number % count, number / count % QUEUES);
        let (at, record) = append(store, &topics[topic as usize], queue, number);
        sent.push(Sent { topic, key: key(number), log_offset: at, record });
    }
}

fn key(number: u32) -> String {
    format!("k{number}")
}

/// Sends a message. Returns its log offset and how it was stored.
fn append(store: &Store, topic: &Arc<Topic>, queue: u32, number: u32) -> (u64, Vec<u8>) {
    let host = "127.0.0.1:10911".parse().unwrap();
    let body = format!("body of {number}, ").repeat(number as usize % 17 + 1);
    let mut properties = String::new();
    property::push(&mut properties, property::KEYS, &key(number));
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
    let mut batch = AppendBatch::default();
    batch.push(topic, queue, &record).unwrap();
    while let Err(error) = store.append(&mut batch) {
        assert!(matches!(error, AppendError::Busy { .. }), "{error}");
        std::thread::yield_now();
    }
    let result = batch.results()[0];
    let end = LogOffset(result.log_offset.0 + u64::from(result.size));
    wait(store.wait_confirmed(end)).unwrap();
    (result.log_offset.0, store.record_at(result.log_offset).unwrap().unwrap().to_vec())
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
    copy(&from.join("config"), &to.join("config"));
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
