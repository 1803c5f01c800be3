//! Topics: codes 17, 21, 202, 215, 216, 217, 300 and 351.

use crate::header::header;

header! {
    /// Create or change a topic, code 17.
    pub struct CreateTopic<'a> {
        /// Topic.
        pub topic: &'a str = "topic",
        /// Template, unused by RocketMQ's broker.
        pub default_topic: Option<&'a str> = "defaultTopic",
        /// Queues that may be read.
        pub read_queues: i32 = "readQueueNums",
        /// Queues that may be written.
        pub write_queues: i32 = "writeQueueNums",
        /// Permission bits.
        pub perm: i32 = "perm",
        /// `SINGLE_TAG` or `MULTI_TAG`.
        pub filter_type: Option<&'a str> = "topicFilterType",
        /// System flag.
        pub sys_flag: i32 = "topicSysFlag",
        /// Whether queue order matters to routes.
        pub order: bool = "order",
        /// Changes to attributes: `+key=value,-key`.
        pub attributes: Option<&'a str> = "attributes",
    }
}

header! {
    /// Names a topic: codes 202, 215, 300, 351 and others.
    pub struct Topic<'a> {
        /// Topic.
        pub topic: &'a str = "topic",
        /// Cluster, where the request is about one.
        pub cluster: Option<&'a str> = "clusterName",
    }
}

header! {
    /// Read every topic's configuration, code 21. Without [`AllTopics::from`] everything is
    /// wanted at once; older peers send no field at all.
    pub struct AllTopics<'a> {
        /// Position of the first topic wanted.
        pub from: Option<i32> = "topicSeq",
        /// Version that the peer's earlier pages had, as JSON.
        pub data_version: Option<&'a str> = "dataVersion",
        /// Most topics wanted.
        pub max: Option<i32> = "maxTopicNum",
    }
}

header! {
    /// Reply to code 21.
    pub struct TopicCount {
        /// Number of topics in all.
        pub total: i32 = "totalTopicNum",
    }
}
