//! Registration of brokers: codes 103, 104, 205, 322, 327, 901, 904 and 905.

use crate::header::header;

header! {
    /// A broker: the header of codes 103, 104, 322 and 904.
    pub struct Broker<'a> {
        /// Broker name.
        pub broker_name: &'a str = "brokerName",
        /// Address that clients connect to.
        pub broker_addr: &'a str = "brokerAddr",
        /// Cluster.
        pub cluster_name: &'a str = "clusterName",
        /// 0 for a master.
        pub broker_id: i64 = "brokerId",
        /// Address that slaves replicate from.
        pub ha_server_addr: Option<&'a str> = "haServerAddr",
        /// How long the registration lives without a heartbeat, in milliseconds.
        pub heartbeat_timeout_ms: Option<i64> = "heartbeatTimeoutMillis",
        /// Whether a slave may stand in for the master.
        pub enable_acting_master: Option<bool> = "enableActingMaster",
        /// Whether the body is compressed.
        pub compressed: bool = "compressed",
        /// Checksum of the body; 0 means unchecked.
        pub body_crc32: i32 = "bodyCrc32",
        /// Zone.
        pub zone: Option<&'a str> = "__ZONE_NAME",
    }
}

header! {
    /// Reply to code 103.
    pub struct Registered {
        /// Address that a slave replicates from.
        pub ha_server_addr: Option<String> = "haServerAddr",
        /// Address of the master.
        pub master_addr: Option<String> = "masterAddr",
    }
}

header! {
    /// Reply to code 322.
    pub struct VersionChanged {
        /// Whether the name server's view is older.
        pub changed: bool = "changed",
    }
}

header! {
    /// Names a broker, codes 205 and 327.
    pub struct BrokerName<'a> {
        /// Broker name.
        pub broker_name: &'a str = "brokerName",
    }
}

header! {
    /// Reply to code 205.
    pub struct Wiped {
        /// Topics changed.
        pub topics: i32 = "wipeTopicCount",
    }
}

header! {
    /// Reply to code 327.
    pub struct Added {
        /// Topics changed.
        pub topics: i32 = "addTopicCount",
    }
}

header! {
    /// Names a broker group, code 901.
    pub struct MemberGroup<'a> {
        /// Cluster.
        pub cluster_name: &'a str = "clusterName",
        /// Broker name.
        pub broker_name: &'a str = "brokerName",
    }
}

header! {
    /// The member of a broker group that has the lowest id now, code 905.
    pub struct LowestBroker<'a> {
        /// Broker name.
        pub broker_name: &'a str = "brokerName",
        /// The lowest id.
        pub broker_id: i64 = "minBrokerId",
        /// The address of the member that has it.
        pub broker_addr: Option<&'a str> = "minBrokerAddr",
        /// The address of the member that had it, if that one is gone.
        pub offline_broker_addr: Option<&'a str> = "offlineBrokerAddr",
        /// Address that slaves replicate from.
        pub ha_broker_addr: Option<&'a str> = "haBrokerAddr",
    }
}
