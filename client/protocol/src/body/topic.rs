//! Topics: their configuration (21, 351 and inside of 103) and lists of names (206 and others).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DataVersion;

/// How tags of a topic are meant. Nothing depends on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FilterType {
    /// One tag per message.
    #[default]
    SingleTag,
    /// Several.
    MultiTag,
}

impl FilterType {
    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SingleTag => "SINGLE_TAG",
            Self::MultiTag => "MULTI_TAG",
        }
    }

    /// By name; anything but `MULTI_TAG` is single.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        if name == Self::MultiTag.name() { Self::MultiTag } else { Self::SingleTag }
    }
}

/// Configuration of a topic on one broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfig {
    /// Attributes.
    pub attributes: BTreeMap<String, String>,
    /// Whether the topic is ordered.
    pub order: bool,
    /// 4 may be read, 2 may be written, 1 may be inherited, added up.
    pub perm: i32,
    /// Queues that may be read.
    pub read_queue_nums: i32,
    /// How tags are meant.
    pub topic_filter_type: FilterType,
    /// Topic.
    pub topic_name: String,
    /// 1 unit, 2 unit subscription.
    pub topic_sys_flag: i32,
    /// Queues that may be written.
    pub write_queue_nums: i32,
}

/// # Source: `TopicConfig`, 16 queues each way and permission 6
impl Default for TopicConfig {
    fn default() -> Self {
        Self {
            attributes: BTreeMap::new(),
            order: false,
            perm: 6,
            read_queue_nums: 16,
            topic_filter_type: FilterType::SingleTag,
            topic_name: String::new(),
            topic_sys_flag: 0,
            write_queue_nums: 16,
        }
    }
}

/// All topics of a broker: reply to code 21, and part of code 103.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicConfigTable {
    /// Version of the topics.
    pub data_version: DataVersion,
    /// Version of the mappings of static topics.
    pub mapping_data_version: Option<DataVersion>,
    /// By topic.
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// Static topics, which are not supported.
    pub topic_queue_mapping_detail_map: NoMappings,
    /// Static topics, which are not supported.
    pub topic_queue_mapping_info_map: NoMappings,
}

/// The mappings of static topics, which we do not have: written as an empty object, and ignored
/// when read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoMappings {}

/// Names of topics: codes 206, 224, 304, 305, 311 to 313 and 343.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicList {
    /// Address of a broker, with system topics (304).
    pub broker_addr: Option<String>,
    /// The names.
    pub topic_list: Vec<String>,
}
