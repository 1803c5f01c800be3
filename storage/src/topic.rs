//! Topics as the broker sees them.

use std::{collections::BTreeMap, sync::Arc};

use crate::{Queue, TopicId, index::key_index::KeyHasher};

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
/// shares the queues.
#[derive(Debug)]
pub struct Topic {
    /// Identifies this incarnation.
    pub id: TopicId,
    /// Its configuration.
    pub config: TopicConfig,
    /// Records of this name before this log offset belong to an earlier incarnation.
    pub(crate) since_log_offset: u64,
    /// Every queue that ever was, also those that the configuration hides now.
    pub(crate) queues: Box<[Arc<Queue>]>,
    pub(crate) hasher: KeyHasher,
}

impl Topic {
    /// A queue of the topic, or `None` if its number is not below the larger of the numbers of
    /// read and write queues.
    pub fn queue(&self, queue_id: u32) -> Option<Arc<Queue>> {
        self.visible_queue(queue_id).map(Arc::clone)
    }

    pub(crate) fn visible_queue(&self, queue_id: u32) -> Option<&Arc<Queue>> {
        let visible = self.config.visible_queues();
        self.queues.get(usize::try_from(queue_id).ok()?).filter(|_| queue_id < visible)
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
