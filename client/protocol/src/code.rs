//! Request and response codes, and the permission that each request needs.

use std::fmt;

/// What a caller must be allowed to do before a request is served. A new code does not compile
/// without one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Permission {
    /// Write messages to the topic that the request names.
    Publish,
    /// Read messages of the topic as the group that the request names.
    Subscribe,
    /// Be a client at all: heartbeats, routes, membership.
    Connect,
    /// Read metadata and statistics.
    Inspect,
    /// Change topics, groups or configuration.
    Administer,
    /// Be a process of the cluster: registration.
    Cluster,
    /// Sent by a broker to its clients, never to a broker.
    Push,
}

macro_rules! request_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal => $permission:ident,)*) => {
        /// A request that some process of this project serves or sends. Source: RocketMQ's
        /// `RequestCode`; the numbers are part of the protocol.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
        pub enum RequestCode { $($(#[$doc])* $name,)* }

        impl RequestCode {
            /// The request with this number, if this project knows it.
            pub fn from_i32(code: i32) -> Option<Self> {
                match code { $($value => Some(Self::$name),)* _ => None }
            }

            /// The number on the wire.
            pub fn as_i32(self) -> i32 {
                match self { $(Self::$name => $value,)* }
            }

            /// What a caller must be allowed to do.
            pub fn permission(self) -> Permission {
                match self { $(Self::$name => Permission::$permission,)* }
            }
        }

        #[cfg(test)]
        const ALL: &[RequestCode] = &[$(RequestCode::$name,)*];
    };
}

request_codes! {
    /// Send one message, long header names.
    SendMessage = 10 => Publish,
    /// Pull messages of one queue.
    PullMessage = 11 => Subscribe,
    /// Find messages by key.
    QueryMessage = 12 => Inspect,
    /// Read a group's committed offset of one queue.
    QueryConsumerOffset = 14 => Subscribe,
    /// Commit a group's offset of one queue.
    UpdateConsumerOffset = 15 => Subscribe,
    /// Create or change a topic.
    UpdateAndCreateTopic = 17 => Administer,
    /// Read every topic's configuration.
    GetAllTopicConfig = 21 => Inspect,
    /// Change configuration keys of the broker.
    UpdateBrokerConfig = 25 => Administer,
    /// Read the broker's configuration.
    GetBrokerConfig = 26 => Inspect,
    /// Read the broker's state and statistics.
    GetBrokerRuntimeInfo = 28 => Inspect,
    /// Find a queue offset by store time.
    SearchOffsetByTimestamp = 29 => Subscribe,
    /// Read the offset after a queue's last message.
    GetMaxOffset = 30 => Subscribe,
    /// Read a queue's first offset.
    GetMinOffset = 31 => Subscribe,
    /// Read the store time of a queue's first message.
    GetEarliestMsgStoreTime = 32 => Subscribe,
    /// Read one message by its commit-log offset.
    ViewMessageById = 33 => Inspect,
    /// A client's heartbeat with its groups and subscriptions.
    HeartBeat = 34 => Connect,
    /// A client leaves its groups.
    UnregisterClient = 35 => Connect,
    /// Return a message whose consumption failed.
    ConsumerSendMsgBack = 36 => Subscribe,
    /// Commit or roll back a transaction.
    EndTransaction = 37 => Publish,
    /// List the live members of a group.
    GetConsumerListByGroup = 38 => Connect,
    /// Broker to client: report the state of a transaction.
    CheckTransactionState = 39 => Push,
    /// Broker to client: the members of a group changed.
    NotifyConsumerIdsChanged = 40 => Push,
    /// Lock queues for ordered consumption.
    LockBatchMq = 41 => Subscribe,
    /// Release queue locks.
    UnlockBatchMq = 42 => Subscribe,
    /// Check that a subscription's expression compiles.
    CheckClientConfig = 46 => Connect,
    /// Put a key of the name server's key-value configuration.
    PutKvConfig = 100 => Administer,
    /// Get a key of the name server's key-value configuration.
    GetKvConfig = 101 => Inspect,
    /// Delete a key of the name server's key-value configuration.
    DeleteKvConfig = 102 => Administer,
    /// A broker registers with a name server.
    RegisterBroker = 103 => Cluster,
    /// A broker leaves a name server.
    UnregisterBroker = 104 => Cluster,
    /// Read the route of a topic.
    GetRouteInfoByTopic = 105 => Connect,
    /// List clusters and brokers.
    GetBrokerClusterInfo = 106 => Inspect,
    /// Create or change a consumer group.
    UpdateAndCreateSubscriptionGroup = 200 => Administer,
    /// Read every consumer group's configuration.
    GetAllSubscriptionGroupConfig = 201 => Inspect,
    /// Read the offsets of a topic's queues.
    GetTopicStatsInfo = 202 => Inspect,
    /// List a consumer group's connections.
    GetConsumerConnectionList = 203 => Inspect,
    /// List a producer group's connections.
    GetProducerConnectionList = 204 => Inspect,
    /// Forbid writing to a broker.
    WipeWritePermOfBroker = 205 => Administer,
    /// List all topics of a name server.
    GetAllTopicListFromNameServer = 206 => Inspect,
    /// Delete a consumer group.
    DeleteSubscriptionGroup = 207 => Administer,
    /// Read a group's progress.
    GetConsumeStats = 208 => Inspect,
    /// Delete a topic on a broker.
    DeleteTopicInBroker = 215 => Administer,
    /// Delete a topic's route on a name server.
    DeleteTopicInNamesrv = 216 => Administer,
    /// Add a topic's route on a name server.
    RegisterTopicInNamesrv = 217 => Cluster,
    /// List a namespace of the key-value configuration.
    GetKvListByNamespace = 219 => Inspect,
    /// Broker to client: take new offsets.
    ResetConsumerClientOffset = 220 => Push,
    /// List the topics of a cluster.
    GetTopicsByCluster = 224 => Inspect,
    /// List the groups that consume a topic.
    QueryTopicConsumeByWho = 300 => Inspect,
    /// List a name server's system topics.
    GetSystemTopicListFromNs = 304 => Inspect,
    /// List a broker's system topics.
    GetSystemTopicListFromBroker = 305 => Inspect,
    /// Ask a consumer for its state.
    GetConsumerRunningInfo = 307 => Inspect,
    /// Let a consumer consume one message.
    ConsumeMessageDirectly = 309 => Administer,
    /// Send one message, one-letter header names.
    SendMessageV2 = 310 => Publish,
    /// List unit topics.
    GetUnitTopicList = 311 => Inspect,
    /// List topics with unit subscriptions.
    GetHasUnitSubTopicList = 312 => Inspect,
    /// List topics with unit subscriptions that are not unit topics.
    GetHasUnitSubUnUnitTopicList = 313 => Inspect,
    /// Change configuration keys of a name server.
    UpdateNamesrvConfig = 318 => Administer,
    /// Read a name server's configuration.
    GetNamesrvConfig = 319 => Inspect,
    /// Send a batch of messages.
    SendBatchMessage = 320 => Publish,
    /// A broker asks whether its registration is current.
    QueryDataVersion = 322 => Cluster,
    /// Allow writing to a broker again.
    AddWritePermOfBroker = 327 => Administer,
    /// List the topics that a group consumes.
    QueryTopicsByConsumer = 343 => Inspect,
    /// Read one topic's configuration.
    GetTopicConfig = 351 => Inspect,
    /// Read one consumer group's configuration.
    GetSubscriptionGroupConfig = 352 => Inspect,
    /// Pull messages of one queue, sent by lite pull consumers.
    LitePullMessage = 361 => Subscribe,
    /// List the members of a broker group.
    GetBrokerMemberGroup = 901 => Cluster,
    /// A broker is alive.
    BrokerHeartbeat = 904 => Cluster,
    /// Name server to broker: another member of its group has the lowest id now.
    NotifyMinBrokerIdChange = 905 => Cluster,
    /// Broker to broker: who is the master of a broker name, and of which epoch.
    ExchangeBrokerHaInfo = 906 => Cluster,
    /// Read how far the slaves of a master are, or a slave itself.
    GetBrokerHaStatus = 907 => Inspect,
    /// Make a slave the master. Not RocketMQ's.
    PromoteBroker = 30_001 => Administer,
    /// Make a master a slave. Not RocketMQ's.
    DemoteBroker = 30_002 => Administer,
}

macro_rules! response_codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal,)*) => {
        /// The outcome of a request. An open set: peers may send numbers unknown here. Source:
        /// RocketMQ's `ResponseCode`.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Hash)]
        pub struct ResponseCode(pub i32);

        impl ResponseCode { $($(#[$doc])* pub const $name: Self = Self($value);)* }

        impl fmt::Display for ResponseCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.0 {
                    $($value => f.write_str(concat!(stringify!($name), " (", $value, ")")),)*
                    other => write!(f, "code {other}"),
                }
            }
        }
    };
}

response_codes! {
    /// Done.
    SUCCESS = 0,
    /// Failed; the remark says why.
    SYSTEM_ERROR = 1,
    /// Overloaded; try another broker or later.
    SYSTEM_BUSY = 2,
    /// The request code is unknown to this process.
    REQUEST_CODE_NOT_SUPPORTED = 3,
    /// Stored, but not known to be on disk in time. Counts as sent.
    FLUSH_DISK_TIMEOUT = 10,
    /// Stored, but no slave is connected. Counts as sent.
    SLAVE_NOT_AVAILABLE = 11,
    /// Stored, but no slave confirmed in time. Counts as sent.
    FLUSH_SLAVE_TIMEOUT = 12,
    /// The message breaks a rule.
    MESSAGE_ILLEGAL = 13,
    /// The store does not accept writes now.
    SERVICE_NOT_AVAILABLE = 14,
    /// Not allowed.
    NO_PERMISSION = 16,
    /// No such topic.
    TOPIC_NOT_EXIST = 17,
    /// Nothing at this offset yet.
    PULL_NOT_FOUND = 19,
    /// Nothing that passes the filter; pull again from the next offset.
    PULL_RETRY_IMMEDIATELY = 20,
    /// The offset is outside the queue; go on from the offset given.
    PULL_OFFSET_MOVED = 21,
    /// Nothing found.
    QUERY_NOT_FOUND = 22,
    /// The subscription's expression does not compile.
    SUBSCRIPTION_PARSE_FAILED = 23,
    /// The group has no such subscription.
    SUBSCRIPTION_NOT_EXIST = 24,
    /// The broker's subscription is older than the client's.
    SUBSCRIPTION_NOT_LATEST = 25,
    /// No such consumer group.
    SUBSCRIPTION_GROUP_NOT_EXIST = 26,
    /// A field of the request is wrong.
    INVALID_PARAMETER = 29,
    /// The consumer is not online.
    CONSUMER_NOT_ONLINE = 206,
    /// The consumer did not answer in time.
    CONSUME_MSG_TIMEOUT = 207,
    /// The process is going away; reconnect.
    GO_AWAY = 1500,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        for code in ALL {
            assert_eq!(RequestCode::from_i32(code.as_i32()), Some(*code));
        }
        assert_eq!(RequestCode::from_i32(-1), None);
    }

    #[test]
    fn codes_are_named_in_messages() {
        assert_eq!(ResponseCode::TOPIC_NOT_EXIST.to_string(), "TOPIC_NOT_EXIST (17)");
        assert_eq!(ResponseCode(4242).to_string(), "code 4242");
    }
}
