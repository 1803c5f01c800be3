//! Replication: codes 906, 30001 and 30002.

use crate::header::header;

header! {
    /// What a master says of itself to another broker, and the answer: code 906. The first three
    /// fields are RocketMQ's, the others ours.
    pub struct HaInfo {
        /// Address that slaves replicate from.
        pub master_ha_address: Option<String> = "masterHaAddress",
        /// End of what is durable in its log.
        pub master_flush_offset: Option<i64> = "masterFlushOffset",
        /// Address that clients connect to.
        pub master_address: Option<String> = "masterAddress",
        /// Whether who says this is a master; absent from RocketMQ's brokers.
        pub is_master: Option<bool> = "isMaster",
        /// Which store, as 16 hexadecimal digits.
        pub store_id: Option<String> = "storeId",
        /// Number of its epoch.
        pub epoch: Option<i64> = "epoch",
        /// Who began that epoch, as 16 hexadecimal digits.
        pub leader: Option<String> = "leader",
        /// When it began to serve as master, Unix milliseconds.
        pub since_ms: Option<i64> = "sinceMs",
        /// The broker id that it is configured with.
        pub configured_id: Option<i64> = "configuredId",
    }
}

header! {
    /// Changes the role of a broker, codes 30001 and 30002.
    pub struct ChangeRole {
        /// Even if messages may be lost by it.
        pub force: bool = "force",
    }
}

header! {
    /// Reply to codes 30001 and 30002.
    pub struct RoleChanged {
        /// The broker id that it will have.
        pub broker_id: i64 = "brokerId",
        /// End of the log that it goes on with, or that it had as a master.
        pub log_end: i64 = "logEnd",
    }
}
