//! Bodies of requests and replies: RocketMQ's JSON objects as structs, one file per family.
//!
//! Every field has a default, because some generation of peers leaves it out: check what you read
//! (an absent name is the empty string). Fields are declared in the order of their JSON names, in
//! which RocketMQ writes them.

#![expect(clippy::module_name_repetitions, reason = "the names tell bodies of one family apart")]

pub mod cluster;
pub mod config_file;
pub mod group;
pub mod ha;
pub mod heartbeat;
pub mod kv;
pub mod lock;
pub mod offset;
pub mod register;
pub mod route;
pub mod stats;
pub mod topic;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A table with queues as keys: in JSON an object whose keys are objects.
pub type QueueMap<V> = BTreeMap<MessageQueue, V>;

/// A queue of a topic on a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MessageQueue {
    /// Broker name.
    pub broker_name: String,
    /// Number of the queue, from 0.
    pub queue_id: i32,
    /// Topic.
    pub topic: String,
}

/// When and how often a configuration changed. Equal versions mean equal configurations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DataVersion {
    /// Number of changes.
    pub counter: i64,
    /// Epoch of the master that made the last change.
    pub state_version: i64,
    /// When the last change was made, Unix ms.
    pub timestamp: i64,
}
