//! Topics as the broker sees them.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

use crate::{
    Queue, TopicId,
    core::Core,
    index::{key_index::KeyHasher, topic::TopicRow},
    queues::Queues,
    table::Named,
};

/// How the tags of a topic's messages are meant to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilterType {
    /// One tag per message.
    #[default]
    SingleTag,
    /// Several tags per message.
    MultiTag,
}

/// The configuration of a topic, as RocketMQ's `TopicConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicConfig {
    /// Name, already checked.
    pub name: String,
    /// Number of queues that consumers read.
    pub read_queues: u32,
    /// Number of queues that producers write.
    pub write_queues: u32,
    /// Permission bits: 1 inherit, 2 write, 4 read, 8 priority.
    pub perm: u32,
    /// How tags are read.
    pub filter_type: FilterType,
    /// RocketMQ's `topicSysFlag`.
    pub sys_flag: i32,
    /// Whether the topic is ordered.
    pub order: bool,
    /// Attributes such as `message.type`.
    pub attributes: BTreeMap<String, String>,
}

/// One incarnation of a topic, immutable: a change of its configuration makes a new value that
/// shares the queues. A topic that nobody touches costs this and nothing else.
#[derive(Debug)]
pub struct Topic {
    /// Identifies this incarnation.
    pub id: TopicId,
    /// Its configuration.
    pub config: TopicConfig,
    pub(crate) core: Arc<Core>,
    /// Records of this name before this log offset belong to an earlier incarnation.
    pub(crate) since_log_offset: u64,
    /// Number of queues that ever were, also of those that the configuration hides now.
    pub(crate) queue_count: u32,
    /// The index may have something of so many of them.
    stored_queues: u32,
    /// Made when the first one is touched.
    queues: OnceLock<Arc<Queues>>,
}

impl Topic {
    /// A new incarnation.
    pub(crate) fn new(
        core: &Arc<Core>,
        id: TopicId,
        since_log_offset: u64,
        config: TopicConfig,
    ) -> Self {
        Self {
            id,
            core: Arc::clone(core),
            since_log_offset,
            queue_count: config.visible_queues(),
            stored_queues: 0,
            queues: OnceLock::new(),
            config,
        }
    }

    /// As the index has it. It does not begin behind `end`, where the log does.
    pub(crate) fn stored(core: &Arc<Core>, name: &str, row: TopicRow, end: u64) -> Self {
        let (id, since, count) = (TopicId(row.id), row.since_log_offset.min(end), row.queues);
        let topic = Self::new(core, id, since, row.into_config(name.to_owned()));
        Self { queue_count: count, stored_queues: count, ..topic }
    }

    /// A new incarnation whose row has just come: the index has nothing of its queues.
    pub(crate) fn begun(core: &Arc<Core>, name: &str, row: TopicRow) -> Self {
        let (id, since, queue_count) = (TopicId(row.id), row.since_log_offset, row.queues);
        let topic = Self::new(core, id, since, row.into_config(name.to_owned()));
        Self { queue_count, ..topic }
    }

    /// The same incarnation with another configuration.
    pub(crate) fn with_config(&self, config: TopicConfig) -> Self {
        let queue_count = self.queue_count.max(config.visible_queues());
        let queues = OnceLock::from(Arc::clone(self.queues()));
        let topic = Self::new(&self.core, self.id, self.since_log_offset, config);
        Self { queue_count, queues, ..topic }
    }

    /// What the index keeps of it.
    pub(crate) fn row(&self) -> TopicRow {
        TopicRow::new(self.id, self.since_log_offset, self.queue_count, &self.config)
    }

    /// A queue of the topic, or `None` if its number is not below the larger of the numbers of
    /// read and write queues.
    pub fn queue(&self, queue_id: u32) -> Option<Arc<Queue>> {
        self.has_queue(queue_id).then(|| self.queues().queue(queue_id))
    }

    /// Whether a queue can be used without reading RocksDB first.
    pub fn is_loaded(&self, queue_id: u32) -> bool {
        self.queues().is_loaded(queue_id)
    }

    /// Whether the configuration shows this queue.
    pub(crate) fn has_queue(&self, queue_id: u32) -> bool {
        queue_id < self.config.visible_queues()
    }

    /// A queue that exists, hidden or not.
    pub(crate) fn any_queue(&self, queue_id: u32) -> Option<Arc<Queue>> {
        (queue_id < self.queue_count).then(|| self.queues().queue(queue_id))
    }

    /// A queue that exists, if it is in memory.
    pub(crate) fn any_in_memory(&self, queue_id: u32) -> Option<Arc<Queue>> {
        self.queues_in_memory()?.in_memory(queue_id)
    }

    /// The queues as far as they are in memory.
    pub(crate) fn queues_in_memory(&self) -> Option<&Queues> {
        self.queues.get().map(Arc::as_ref)
    }

    fn queues(&self) -> &Arc<Queues> {
        self.queues.get_or_init(|| Queues::new(&self.core, self.id, self.stored_queues))
    }

    /// Hashes the keys of its messages.
    pub(crate) fn hasher(&self) -> KeyHasher {
        KeyHasher::new(&self.config.name)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.queues_in_memory().is_some_and(Queues::is_deleted)
    }

    /// The topic is deleted. Call it with the append lock held, so that no append is under way.
    pub(crate) fn set_deleted(&self) {
        self.queues().set_deleted();
    }
}

impl Named for Topic {
    fn name(&self) -> &str {
        &self.config.name
    }
}

impl TopicConfig {
    /// Number of queues that are read or written.
    pub(crate) fn visible_queues(&self) -> u32 {
        self.read_queues.max(self.write_queues)
    }
}

/// The version of a table of topics or groups, as RocketMQ's `DataVersion`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataVersion {
    /// Number of changes so far.
    pub counter: i64,
    /// State machine version; 0 unless a controller is used.
    pub state_version: i64,
    /// Time of the last change in Unix milliseconds.
    pub timestamp: i64,
}
