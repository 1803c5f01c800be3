//! Offsets of queues and of groups: codes 14, 15, 29 to 32.

use crate::header::header;

header! {
    /// A queue of a topic: codes 30, 31, 32.
    pub struct Queue<'a> {
        /// Topic.
        pub topic: &'a str = "topic",
        /// Queue.
        pub queue_id: i32 = "queueId",
    }
}

header! {
    /// Reply that is one queue offset.
    pub struct Offset {
        /// Queue offset.
        pub offset: i64 = "offset",
    }
}

header! {
    /// Reply to code 32.
    pub struct StoreTime {
        /// Store time in Unix milliseconds; -1 when the queue is empty.
        pub timestamp: i64 = "timestamp",
    }
}

header! {
    /// Search by store time, code 29.
    pub struct Search<'a> {
        /// Topic.
        pub topic: &'a str = "topic",
        /// Queue.
        pub queue_id: i32 = "queueId",
        /// Store time in Unix milliseconds.
        pub timestamp: i64 = "timestamp",
        /// `LOWER` (first message at or after) or `UPPER` (last one at or before).
        pub boundary: Option<&'a str> = "boundaryType",
    }
}

header! {
    /// Read a group's committed offset, code 14.
    pub struct Query<'a> {
        /// Consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// Topic.
        pub topic: &'a str = "topic",
        /// Queue.
        pub queue_id: i32 = "queueId",
        /// Whether a group without an offset may be told 0.
        pub set_zero_if_not_found: Option<bool> = "setZeroIfNotFound",
    }
}

header! {
    /// Commit a group's offset, code 15.
    pub struct Commit<'a> {
        /// Consumer group.
        pub consumer_group: &'a str = "consumerGroup",
        /// Topic.
        pub topic: &'a str = "topic",
        /// Queue.
        pub queue_id: i32 = "queueId",
        /// Queue offset of the next message to consume.
        pub commit_offset: i64 = "commitOffset",
    }
}

header! {
    /// Broker to client: take these offsets, code 220. The body has them.
    pub struct ResetOffsets<'a> {
        /// Topic.
        pub topic: &'a str = "topic",
        /// Consumer group.
        pub group: &'a str = "group",
        /// Store time that the offsets were looked up by, Unix milliseconds.
        pub timestamp: i64 = "timestamp",
        /// Whether offsets may go back.
        pub is_force: bool = "isForce",
    }
}
