//! What operators look at: queues of a topic (202), progress of a group (208), and who is
//! connected (203, 204).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::QueueMap;
use super::heartbeat::{SubscriptionData, consume_from_where, consume_type, message_model};

/// The queues of a topic on one broker, reply to code 202.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TopicStats {
    /// Bounds by queue.
    pub offset_table: QueueMap<QueueBounds>,
    /// Messages per second that arrive.
    pub topic_put_tps: f64,
}

/// Bounds of a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueBounds {
    /// When its last message was stored, Unix ms; 0 if it has none.
    pub last_update_timestamp: i64,
    /// Offset after the last message.
    pub max_offset: i64,
    /// Offset of the first message.
    pub min_offset: i64,
}

/// Progress of a group on one broker, reply to code 208.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumeStats {
    /// Messages per second that are consumed.
    pub consume_tps: f64,
    /// Progress by queue.
    pub offset_table: QueueMap<Progress>,
}

/// Progress in a queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Progress {
    /// Offset after the last message.
    pub broker_offset: i64,
    /// Committed offset.
    pub consumer_offset: i64,
    /// When the message before the committed offset was stored, Unix ms.
    pub last_timestamp: i64,
    /// Offset that the group pulls from next.
    pub pull_offset: i64,
}

/// The members of a consumer group and what they do, reply to code 203.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerConnections {
    /// The members.
    pub connection_set: Vec<ClientConnection>,
    /// Name of RocketMQ's enum, `CONSUME_FROM_…`.
    #[serde(deserialize_with = "consume_from_where")]
    pub consume_from_where: String,
    /// `CONSUME_ACTIVELY` pulls, `CONSUME_PASSIVELY` is pushed to.
    #[serde(deserialize_with = "consume_type")]
    pub consume_type: String,
    /// `CLUSTERING` or `BROADCASTING`.
    #[serde(deserialize_with = "message_model")]
    pub message_model: String,
    /// Subscriptions by topic.
    pub subscription_table: BTreeMap<String, SubscriptionData>,
}

/// The members of a producer group, reply to code 204.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerConnections {
    /// The members.
    pub connection_set: Vec<ClientConnection>,
}

/// A member of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ClientConnection {
    /// Where it connects from.
    pub client_addr: String,
    /// Client id.
    pub client_id: String,
    /// What it says it is written in; a name of [`crate::frame::Language`].
    pub language: String,
    /// Its protocol version, as [`crate::frame::VERSION`] counts.
    pub version: i32,
}
