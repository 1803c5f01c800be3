//! Membership: codes 34, 35, 38 and 40.

use crate::header::header;

header! {
    /// Reply to a heartbeat, code 34.
    pub struct HeartbeatReply {
        /// Whether this broker understands heartbeats without subscriptions.
        pub supports_v2: bool = "IS_SUPPORT_HEART_BEAT_V2",
        /// Whether the client should send its subscriptions again.
        pub subscription_changed: bool = "IS_SUB_CHANGE",
    }
}

header! {
    /// A client leaves, code 35.
    pub struct Unregister<'a> {
        /// Client id.
        pub client_id: &'a str = "clientID",
        /// Producer group that is left.
        pub producer_group: Option<&'a str> = "producerGroup",
        /// Consumer group that is left.
        pub consumer_group: Option<&'a str> = "consumerGroup",
    }
}

header! {
    /// Names a consumer group: codes 38, 40, 203, 300 and others.
    pub struct ConsumerGroup<'a> {
        /// Consumer group.
        pub consumer_group: &'a str = "consumerGroup",
    }
}

header! {
    /// Names a producer group, code 204.
    pub struct ProducerGroup<'a> {
        /// Producer group.
        pub producer_group: &'a str = "producerGroup",
    }
}
