//! The files that a broker keeps in `config/` of its store: its topics, groups and consumer
//! offsets, in RocketMQ's format.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DataVersion;
use super::group::GroupConfig;
use super::topic::TopicConfig;

/// What we put into [`TopicFile::written_by`] and its neighbours. RocketMQ ignores the field and
/// leaves it out when it writes the file itself, so the field tells whose version a file is.
pub const WRITTEN_BY_US: &str = "BasaltMQ";

/// `config/topics.json`.
///
/// # Source: `TopicConfigManager.encode`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicFile {
    /// Version of the topics.
    pub data_version: DataVersion,
    /// By topic.
    pub topic_config_table: BTreeMap<String, TopicConfig>,
    /// [`WRITTEN_BY_US`], or nothing if RocketMQ wrote the file.
    pub written_by: Option<String>,
}

/// `config/subscriptionGroup.json`.
///
/// # Source: `SubscriptionGroupManager.encode`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct GroupFile {
    /// Version of the groups.
    pub data_version: DataVersion,
    /// What groups may not do, by group and topic.
    pub forbidden_table: BTreeMap<String, BTreeMap<String, i32>>,
    /// By group.
    pub subscription_group_table: BTreeMap<String, GroupConfig>,
    /// [`WRITTEN_BY_US`], or nothing if RocketMQ wrote the file.
    pub written_by: Option<String>,
}

/// `config/consumerOffset.json`.
///
/// # Source: `ConsumerOffsetManager.encode`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct OffsetFile {
    /// Version of the offsets.
    pub data_version: DataVersion,
    /// Offset of the next message by queue, for every `topic@group`.
    pub offset_table: BTreeMap<String, BTreeMap<i32, i64>>,
    /// [`WRITTEN_BY_US`], or nothing if RocketMQ wrote the file.
    pub written_by: Option<String>,
}

/// `config/delayOffset.json`: how far each level of delayed messages is delivered.
///
/// # Source: `ScheduleMessageService.encode`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DelayFile {
    /// Offset in the level's queue by delay level, from 1.
    pub offset_table: BTreeMap<i32, i64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn offsets_are_read_as_rocketmq_writes_them() {
        let text = br#"{
	"dataVersion":{"counter":3,"stateVersion":0,"timestamp":1700000000000},
	"offsetTable":{"T@g":{0:12,1:0},"%RETRY%g@g":{0:7}},
	"pullOffsetTable":{},"resetOffsetTable":{}
}"#;
        let file: OffsetFile = json::decode(text).unwrap();
        assert_eq!(file.offset_table["T@g"], [(0, 12), (1, 0)].into());
        assert_eq!((file.data_version.counter, file.written_by.as_deref()), (3, None));
        let ours = OffsetFile { written_by: Some(WRITTEN_BY_US.to_owned()), ..file };
        assert_eq!(json::decode::<OffsetFile>(&json::encode(&ours)).unwrap(), ours);
    }

    #[test]
    fn topics_and_groups_of_both_generations_are_read() {
        // 4.9: attributes and retry policy are missing.
        let old = br#"{"dataVersion":{"counter":2,"timestamp":5},"topicConfigTable":{"T":{"order":true,"perm":6,
            "readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"T","topicSysFlag":0,"writeQueueNums":4}}}"#;
        let file: TopicFile = json::decode(old).unwrap();
        let topic = &file.topic_config_table["T"];
        assert_eq!((topic.read_queue_nums, topic.write_queue_nums, topic.order), (8, 4, true));
        // 5.x: attributes, and fields that we do not know.
        let new = br#"{"dataVersion":{"counter":1,"stateVersion":0,"timestamp":5},"forbiddenTable":{},
            "subscriptionGroupTable":{"g":{"attributes":{},"brokerId":0,"consumeEnable":false,"groupName":"g",
            "groupRetryPolicy":{"type":"CUSTOMIZED"},"retryMaxTimes":3,"unknown":[1]}}}"#;
        let file: GroupFile = json::decode(new).unwrap();
        let group = &file.subscription_group_table["g"];
        assert_eq!((group.consume_enable, group.retry_max_times), (false, 3));
    }
}
