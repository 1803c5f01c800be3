//! Pulling: codes 11 and 361.

use crate::header::header;

/// Bits of [`Pull::sys_flag`].
pub mod flag {
    /// Commit [`super::Pull::commit_offset`] with this pull.
    pub const COMMIT_OFFSET: i32 = 1;
    /// Hold the pull while nothing is there.
    pub const SUSPEND: i32 = 2;
    /// The request carries its subscription.
    pub const SUBSCRIPTION: i32 = 4;
    /// The client filters by class; the broker does not filter by tag.
    pub const CLASS_FILTER: i32 = 8;
    /// A lite pull consumer asks.
    pub const LITE: i32 = 16;
}

header! {
    /// Header of a pull.
    pub struct Pull<'a> {
        /// Consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// Topic.
        pub topic: &'a str = "topic",
        /// Queue.
        pub queue_id: i32 = "queueId",
        /// First queue offset wanted.
        pub queue_offset: i64 = "queueOffset",
        /// Most messages wanted.
        pub max_messages: i32 = "maxMsgNums",
        /// See [`flag`].
        pub sys_flag: i32 = "sysFlag",
        /// Offset to commit.
        pub commit_offset: i64 = "commitOffset",
        /// How long the pull may be held, in milliseconds.
        pub suspend_timeout_ms: i64 = "suspendTimeoutMillis",
        /// The subscription's expression.
        pub subscription: Option<&'a str> = "subscription",
        /// The subscription's version.
        pub subscription_version: i64 = "subVersion",
        /// `TAG` or `SQL92`.
        pub expression_type: Option<&'a str> = "expressionType",
        /// Most bytes wanted.
        pub max_bytes: Option<i32> = "maxMsgBytes",
    }
}

header! {
    /// Reply to a pull, present whatever the code.
    pub struct Pulled {
        /// Broker id that the client should pull from next.
        pub suggested_broker_id: i64 = "suggestWhichBrokerId",
        /// Offset to pull next.
        pub next_offset: i64 = "nextBeginOffset",
        /// The queue's first offset.
        pub min_offset: i64 = "minOffset",
        /// The offset after the queue's last message.
        pub max_offset: i64 = "maxOffset",
        /// System flag of the topic.
        pub topic_sys_flag: Option<i32> = "topicSysFlag",
        /// System flag of the group.
        pub group_sys_flag: Option<i32> = "groupSysFlag",
        /// Why a pull is forbidden, with NO_PERMISSION.
        pub forbidden_type: Option<i32> = "forbiddenType",
    }
}
