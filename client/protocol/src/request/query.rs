//! Finding messages: code 12 by key, code 33 by commit-log offset.

use crate::header::header;

header! {
    /// Find by key, code 12.
    pub struct ByKey<'a> {
        /// Topic.
        pub topic: &'a str = "topic",
        /// Key.
        pub key: &'a str = "key",
        /// Most messages wanted.
        pub max_messages: i32 = "maxNum",
        /// Earliest store time, Unix milliseconds.
        pub begin_timestamp: i64 = "beginTimestamp",
        /// Latest store time, Unix milliseconds.
        pub end_timestamp: i64 = "endTimestamp",
        /// Whether the key is a producer's unique id.
        pub unique_key: bool = "_UNIQUE_KEY_QUERY",
    }
}

header! {
    /// Reply to code 12.
    pub struct Found {
        /// Store time up to which the index reaches, Unix milliseconds.
        pub index_last_update_timestamp: i64 = "indexLastUpdateTimestamp",
        /// Commit-log offset up to which the index reaches.
        pub index_last_update_offset: i64 = "indexLastUpdatePhyoffset",
    }
}

header! {
    /// View by commit-log offset, code 33.
    pub struct ById<'a> {
        /// Commit-log offset.
        pub log_offset: i64 = "offset",
        /// Topic, if the client knows it.
        pub topic: Option<&'a str> = "topic",
    }
}
