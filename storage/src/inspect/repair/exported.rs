//! What `config/*.json` of a store say, for rows that RocksDB has lost. The broker writes these
//! files every half a minute and at close; what it has deleted until then is not in them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use prost::Message;
use protocol::{
    body::config_file::{GroupFile, OffsetFile, TopicFile},
    json::{self, JsonError},
};

use super::{super::salvage::Salvaged, rows::Seen};
use crate::{
    DataVersion, QueueOffset, TopicConfig, TopicId,
    adopt::files::{self, GROUPS, OFFSETS, TOPICS},
    bodies,
    index::{Family, consumer_offset, group::GroupRow, topic::TopicRow},
};

/// The files.
#[derive(Debug, Default)]
pub(super) struct Exported {
    topics: Option<Table<TopicConfig>>,
    /// Encoded rows.
    groups: Option<Table<Vec<u8>>>,
    offsets: Option<OffsetFile>,
    /// Why some cannot be read.
    pub(super) damaged: Vec<String>,
}

/// One file: rows by name.
#[derive(Debug)]
struct Table<T> {
    version: DataVersion,
    rows: BTreeMap<String, T>,
}

/// How many rows were taken from the files.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Taken {
    pub(super) topics: u64,
    pub(super) groups: u64,
    pub(super) offsets: u64,
    /// Consumer offsets that were there and further in the file.
    pub(super) moved: u64,
}

impl<T> Table<T> {
    /// Whether the index knew of no later change. `None` is what it could not tell.
    fn is_newest(&self, known: Option<DataVersion>) -> bool {
        known.is_some_and(|known| self.version.counter >= known.counter)
    }

    fn newer(&self, known: Option<DataVersion>) -> Option<DataVersion> {
        known.filter(|known| known.counter >= self.version.counter).or(Some(self.version))
    }
}

impl Exported {
    /// Reads what is in `config` of the store in `dir`.
    pub(super) fn read(dir: &Path) -> Self {
        let mut of = Self::default();
        of.topics = of.file(dir, TOPICS, json::decode::<TopicFile>).map(|file| Table {
            version: files::version(file.data_version),
            rows: with_names(file.topic_config_table, bodies::to_topic),
        });
        of.groups = of.file(dir, GROUPS, json::decode::<GroupFile>).map(|file| Table {
            version: files::version(file.data_version),
            rows: with_names(file.subscription_group_table, |name, body| {
                GroupRow::new(bodies::to_group(name, body)).encode_to_vec()
            }),
        });
        of.offsets = of.file(dir, OFFSETS, json::decode::<OffsetFile>);
        of
    }

    fn file<T>(
        &mut self,
        dir: &Path,
        name: &str,
        decode: impl Fn(&[u8]) -> Result<T, JsonError>,
    ) -> Option<T> {
        files::read(&dir.join("config"), name, decode).unwrap_or_else(|error| {
            self.damaged.push(error.to_string());
            None
        })
    }

    /// Whether there is no file at all.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_none() && self.groups.is_none() && self.offsets.is_none()
    }

    /// The settings of a topic.
    pub(super) fn topic(&self, name: &str) -> Option<&TopicConfig> {
        self.topics.as_ref()?.rows.get(name)
    }

    /// Names of topics without a row whose row was lost.
    pub(super) fn lost_topics(&self, salvaged: &Salvaged) -> Vec<String> {
        let there: HashSet<_> = salvaged.topics.iter().map(|(name, _)| name.as_str()).collect();
        let names = self.topics.iter().flat_map(|table| table.rows.keys());
        names
            .filter(|name| !there.contains(name.as_str()))
            .filter(|name| salvaged.may_have_had(Family::Topic, name.as_bytes()))
            .cloned()
            .collect()
    }

    /// Whether a topic was made after the file was written and its row was lost with others.
    pub(super) fn admits(&self, name: &str, salvaged: &Salvaged, seen: &Seen) -> bool {
        let doubtful = salvaged.is_doubtful(Family::Topic) && self.topics.is_some();
        doubtful && !self.denies(name, Some(seen))
    }

    /// Whether a topic was deleted, as far as the file tells: it is not in it and has no message that
    /// was stored after the last change in it. One that was made since has.
    pub(super) fn denies(&self, name: &str, seen: Option<&Seen>) -> bool {
        let Some(table) = &self.topics else { return false };
        let sent_since = seen.is_some_and(|seen| seen.last_store_ms > table.version.timestamp);
        !table.rows.contains_key(name) && !sent_since
    }

    /// Where salvaged topics may have been deleted or changed: takes away those that were, and
    /// returns their names; the others get the settings of the file if it is as new as the index.
    pub(super) fn settle_topics(
        &self,
        salvaged: &mut Salvaged,
        seen: &BTreeMap<String, Seen>,
    ) -> Vec<String> {
        let doubtful = salvaged.is_doubtful(Family::Topic);
        let Some(table) = self.topics.as_ref().filter(|_| doubtful) else { return Vec::new() };
        let newest = table.is_newest(salvaged.topic_version);
        let exported = salvaged.topics.iter().filter(|(name, _)| table.rows.contains_key(name));
        let last_id = exported.map(|(_, row)| row.id).max().unwrap_or_default();
        let mut denied = Vec::new();
        salvaged.topics.retain_mut(|(name, row)| {
            if let Some(config) = table.rows.get(name).filter(|_| newest) {
                *row = TopicRow::new(TopicId(row.id), row.since_log_offset, row.queues, config);
            }
            // It has no message yet, but a later number than all that were there.
            let made_since = !newest && row.id > last_id && !seen.contains_key(name);
            let stays = made_since || !self.denies(name, seen.get(name));
            if !stays {
                denied.push(name.clone());
            }
            stays
        });
        denied
    }

    /// Adds groups whose rows were lost; where salvaged ones may have been deleted or changed, the
    /// file counts if it is as new as the index. Returns how many were added.
    pub(super) fn add_groups(&self, salvaged: &mut Salvaged) -> u64 {
        let Some(table) = &self.groups else { return 0 };
        if salvaged.is_doubtful(Family::Group) && table.is_newest(salvaged.group_version) {
            salvaged.groups.retain_mut(|(name, row)| {
                table.rows.get(name).inspect(|newer| row.clone_from(newer)).is_some()
            });
        }
        let there: HashSet<_> = salvaged.groups.iter().map(|(name, _)| name.clone()).collect();
        let mut added = 0;
        for (name, row) in &table.rows {
            if !there.contains(name) && salvaged.may_have_had(Family::Group, name.as_bytes()) {
                salvaged.groups.push((name.clone(), row.clone()));
                added += 1;
            }
        }
        added
    }

    /// Adds consumer offsets that were lost, and those of topics whose old id is not known. Where
    /// salvaged ones may be older than others that were lost, the further one counts: groups go
    /// forward. Returns how many were added and how many went further.
    pub(super) fn add_offsets(
        &self,
        salvaged: &mut Salvaged,
        topics: &HashMap<String, (TopicId, u32)>,
        new_ids: &HashSet<TopicId>,
    ) -> (u64, u64) {
        let missing = salvaged.holes.iter().any(|hole| hole.family == Family::ConsumerOffset);
        let wanted = missing || !new_ids.is_empty();
        let Some(file) = self.offsets.as_ref().filter(|_| wanted) else { return (0, 0) };
        let doubtful = salvaged.is_doubtful(Family::ConsumerOffset);
        let there: HashMap<_, _> = salvaged
            .offsets
            .iter()
            .enumerate()
            .map(|(at, (group, topic, queue, _))| (consumer_offset::key(group, *topic, *queue), at))
            .collect();
        let (mut added, mut moved) = (0, 0);
        for (of, queues) in &file.offset_table {
            let Some((topic, group)) = of.split_once('@') else { continue };
            let Some(&(topic, count)) = topics.get(topic) else { continue };
            for (&queue_id, &offset) in queues {
                let (Ok(queue_id), Ok(offset)) = (u32::try_from(queue_id), u64::try_from(offset))
                else {
                    continue;
                };
                let key = consumer_offset::key(group, topic, queue_id);
                match there.get(&key).map(|&at| salvaged.offsets.get_mut(at)) {
                    Some(found) => {
                        if let Some(found) = found.filter(|of| doubtful && offset > of.3.0) {
                            found.3 = QueueOffset(offset);
                            moved += 1;
                        }
                    }
                    None => {
                        let lost = new_ids.contains(&topic)
                            || salvaged.may_have_had(Family::ConsumerOffset, &key);
                        if lost && queue_id < count {
                            let offset = QueueOffset(offset);
                            salvaged.offsets.push((group.to_owned(), topic, queue_id, offset));
                            added += 1;
                        }
                    }
                }
            }
        }
        (added, moved)
    }

    /// Versions must not go back: clients would not take what is new.
    pub(super) fn keep_versions(&self, salvaged: &mut Salvaged) {
        if let Some(table) = &self.topics {
            salvaged.topic_version = table.newer(salvaged.topic_version);
        }
        if let Some(table) = &self.groups {
            salvaged.group_version = table.newer(salvaged.group_version);
        }
    }
}

fn with_names<B, T>(bodies: BTreeMap<String, B>, of: impl Fn(&str, B) -> T) -> BTreeMap<String, T> {
    bodies
        .into_iter()
        .map(|(name, body)| {
            let row = of(&name, body);
            (name, row)
        })
        .collect()
}
