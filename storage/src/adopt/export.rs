//! Keeping `config/*.json` up to date, for RocketMQ to take the directory back, and as a second
//! copy of what the log does not tell.

use std::{
    collections::{BTreeMap, HashMap},
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use protocol::{
    body::config_file::{GroupFile, TopicFile, WRITTEN_BY_US},
    json,
};

use super::files::{self, GROUPS, OFFSETS, TOPICS};
use crate::{
    DataVersion, ReadError, TopicId, bodies,
    file::{self, DiskFile},
    index::consumer_offset,
    store::Shared,
};

/// Shortest time between two rounds.
const INTERVAL: Duration = Duration::from_secs(30);
/// Writing may take one part in so many of the time: a million offsets take longer than ten.
const SHARE: u32 = 20;
/// How often the thread looks whether the store is closing.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the files when what they hold has changed.
#[derive(Debug)]
pub(crate) struct Export {
    shared: Arc<Shared>,
    dir: PathBuf,
    topics: Option<DataVersion>,
    groups: Option<DataVersion>,
    /// RocksDB's sequence number and the checksum of the offsets, as last written.
    offsets: Option<(u64, u32)>,
}

impl Export {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let dir = shared.core.config.path.join("config");
        Self { shared, dir, topics: None, groups: None, offsets: None }
    }

    /// The thread's loop; ends when the store closes or fails. Closing writes once more, after the
    /// last change.
    pub(crate) fn run(&mut self) {
        let core = Arc::clone(&self.shared.core);
        let mut due = Instant::now();
        while !core.health.is_closed() && core.health.check().is_ok() {
            if Instant::now() >= due {
                let begun = Instant::now();
                self.write();
                due = Instant::now() + INTERVAL.max(begun.elapsed() * SHARE);
            }
            thread::park_timeout(LOOK_INTERVAL);
        }
    }

    /// Writes what has changed. Nothing of ours depends on these files, so a failure is only said.
    pub(crate) fn write(&mut self) {
        if let Err(error) = self.try_write() {
            let path = self.dir.display();
            tracing::warn!(%path, %error, "RocketMQ's files could not be written; next try soon");
        }
    }

    fn try_write(&mut self) -> Result<(), Failure> {
        file::create_dir(&self.dir)?;
        let version = *self.shared.topic_version();
        if self.topics != Some(version) {
            replace(&self.dir, TOPICS, &self.topic_file(version))?;
            self.topics = Some(version);
        }
        let version = *self.shared.group_version();
        if self.groups != Some(version) {
            replace(&self.dir, GROUPS, &self.group_file(version))?;
            self.groups = Some(version);
        }
        let sequence = self.shared.core.index.db()?.db().latest_sequence_number();
        if self.offsets.is_some_and(|(at, _)| at == sequence) {
            return Ok(());
        }
        let bytes = self.offset_file()?;
        let checksum = crc32fast::hash(&bytes);
        if self.offsets.is_none_or(|(_, before)| before != checksum) {
            replace(&self.dir, OFFSETS, &bytes)?;
        }
        self.offsets = Some((sequence, checksum));
        Ok(())
    }

    fn topic_file(&self, version: DataVersion) -> Vec<u8> {
        let topics = self.shared.topics.all();
        let table: BTreeMap<_, _> = topics
            .iter()
            .map(|topic| (topic.config.name.clone(), bodies::of_topic(&topic.config)))
            .collect();
        let file = TopicFile {
            data_version: files::version_body(version),
            topic_config_table: table,
            written_by: Some(WRITTEN_BY_US.to_owned()),
        };
        json::encode(&file).into()
    }

    fn group_file(&self, version: DataVersion) -> Vec<u8> {
        let groups = self.shared.groups.all();
        let table: BTreeMap<_, _> =
            groups.iter().map(|group| (group.name.clone(), bodies::of_group(group))).collect();
        let file = GroupFile {
            data_version: files::version_body(version),
            subscription_group_table: table,
            written_by: Some(WRITTEN_BY_US.to_owned()),
            ..GroupFile::default()
        };
        json::encode(&file).into()
    }

    /// The text is built directly, because there may be a million offsets.
    fn offset_file(&self) -> Result<Vec<u8>, ReadError> {
        let topics = self.shared.topics.all();
        let names: HashMap<TopicId, &str> =
            topics.iter().map(|topic| (topic.id, topic.config.name.as_str())).collect();
        let mut out = b"{\"dataVersion\":{},\"offsetTable\":{".to_vec();
        let mut at = None;
        let mut of = String::new();
        consumer_offset::scan(
            &self.shared.core.index.db()?,
            None,
            |group, topic, queue, offset| {
                let Some(name) = names.get(&topic) else { return Ok(()) };
                if at == Some(topic) && of == group {
                    out.push(b',');
                } else {
                    out.extend_from_slice(if at.is_some() { b"},\n" } else { b"\n" });
                    out.extend_from_slice(&json::encode(&format!("{name}@{group}")));
                    out.extend_from_slice(b":{");
                    at = Some(topic);
                    group.clone_into(&mut of);
                }
                write!(out, "\"{queue}\":{}", offset.0).expect("memory takes everything");
                Ok(())
            },
        )?;
        out.extend_from_slice(if at.is_some() { b"}\n}" } else { b"}" });
        write!(out, ",\"writtenBy\":\"{WRITTEN_BY_US}\"}}").expect("memory takes everything");
        Ok(out)
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    File(#[from] std::io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Replaces a file durably; what it held before is kept as RocketMQ keeps it.
///
/// # Source: `MixAll.string2File`
fn replace(dir: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let path = dir.join(name);
    let new = dir.join(format!("{name}.tmp"));
    let file = DiskFile::create(&new)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    if path.exists() {
        file::rename(&path, &dir.join(format!("{name}.bak")))?;
    }
    file::rename(&new, &path)
}
