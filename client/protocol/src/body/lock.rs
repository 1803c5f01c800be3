//! Locking queues for ordered consumption: codes 41 and 42.

use serde::{Deserialize, Serialize};

use super::MessageQueue;

/// Queues to lock (41) or to unlock (42).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueSet {
    /// Client id.
    pub client_id: String,
    /// Consumer group.
    pub consumer_group: String,
    /// The queues.
    pub mq_set: Vec<MessageQueue>,
    /// Whether the broker must not pass the request on to others. Clients of 4.x do not know it.
    pub only_this_broker: bool,
}

/// Reply to 41: the queues that the client owns now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Locked {
    /// The queues.
    #[serde(rename = "lockOKMQSet")]
    pub lock_ok_mq_set: Vec<MessageQueue>,
}
