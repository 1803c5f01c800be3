//! What clients tell brokers about themselves: codes 34 and 46.

use serde::{Deserialize, Deserializer, Serialize};

use crate::{json, property};

/// Where a new member of a group starts, by ordinal.
const CONSUME_FROM_WHERE: [&str; 6] = [
    "CONSUME_FROM_LAST_OFFSET",
    "CONSUME_FROM_LAST_OFFSET_AND_FROM_MIN_WHEN_BOOT_FIRST",
    "CONSUME_FROM_MIN_OFFSET",
    "CONSUME_FROM_MAX_OFFSET",
    "CONSUME_FROM_FIRST_OFFSET",
    "CONSUME_FROM_TIMESTAMP",
];
/// Who asks whom, by ordinal.
const CONSUME_TYPE: [&str; 3] = ["CONSUME_ACTIVELY", "CONSUME_PASSIVELY", "CONSUME_POP"];
/// Who gets a message, by ordinal.
const MESSAGE_MODEL: [&str; 2] = ["BROADCASTING", "CLUSTERING"];

/// A client's heartbeat, code 34.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Heartbeat {
    /// Client id.
    #[serde(rename = "clientID")]
    pub client_id: String,
    /// Groups it consumes for.
    pub consumer_data_set: Vec<ConsumerData>,
    /// [`Heartbeat::fingerprint`] of a client that leaves out what did not change; else 0.
    pub heartbeat_fingerprint: i32,
    /// Groups it produces for.
    pub producer_data_set: Vec<ProducerData>,
    /// Whether the subscriptions are left out.
    #[serde(alias = "isWithoutSub")]
    pub without_sub: bool,
}

impl Heartbeat {
    /// Identifies the groups and subscriptions, whoever sends them and whenever.
    ///
    /// # Source: `HeartbeatData.computeHeartbeatFingerprint`
    #[must_use]
    pub fn fingerprint(&self) -> i32 {
        let mut timeless = self.clone();
        timeless.client_id.clear();
        timeless.heartbeat_fingerprint = 0;
        timeless.without_sub = false;
        for consumer in &mut timeless.consumer_data_set {
            for subscription in &mut consumer.subscription_data_set {
                subscription.sub_version = 0;
            }
        }
        let text = json::encode(&timeless);
        property::java_hash(&String::from_utf8_lossy(&text))
    }
}

/// A group that a client produces for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProducerData {
    /// Producer group.
    pub group_name: String,
}

/// A group that a client consumes for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ConsumerData {
    /// Name of RocketMQ's enum, `CONSUME_FROM_…`.
    #[serde(deserialize_with = "consume_from_where")]
    pub consume_from_where: String,
    /// `CONSUME_ACTIVELY` pulls, `CONSUME_PASSIVELY` is pushed to.
    #[serde(deserialize_with = "consume_type")]
    pub consume_type: String,
    /// Consumer group.
    pub group_name: String,
    /// `CLUSTERING` or `BROADCASTING`.
    #[serde(deserialize_with = "message_model")]
    pub message_model: String,
    /// What it subscribes to.
    pub subscription_data_set: Vec<SubscriptionData>,
    /// Whether it consumes one unit of several.
    pub unit_mode: bool,
}

impl Default for ConsumerData {
    fn default() -> Self {
        Self {
            consume_from_where: "CONSUME_FROM_LAST_OFFSET".to_owned(),
            consume_type: "CONSUME_PASSIVELY".to_owned(),
            group_name: String::new(),
            message_model: "CLUSTERING".to_owned(),
            subscription_data_set: Vec::new(),
            unit_mode: false,
        }
    }
}

/// What a group wants of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct SubscriptionData {
    /// The client filters by class: the broker does not filter.
    pub class_filter_mode: bool,
    /// Hashes of the tags; empty means all.
    pub code_set: Vec<i32>,
    /// `TAG` or `SQL92`. C++ clients leave it out.
    pub expression_type: String,
    /// The expression as the user wrote it.
    pub sub_string: String,
    /// Grows with every change; milliseconds, nanoseconds with Go.
    pub sub_version: i64,
    /// Tags; empty means all.
    pub tags_set: Vec<String>,
    /// Topic.
    pub topic: String,
}

impl Default for SubscriptionData {
    fn default() -> Self {
        Self {
            class_filter_mode: false,
            code_set: Vec::new(),
            expression_type: "TAG".to_owned(),
            sub_string: String::new(),
            sub_version: 0,
            tags_set: Vec::new(),
            topic: String::new(),
        }
    }
}

/// Asks whether the broker can serve a subscription, code 46.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CheckClient {
    /// Client id.
    pub client_id: String,
    /// Consumer group.
    pub group: String,
    /// Namespace, if any.
    pub namespace: Option<String>,
    /// The subscription.
    pub subscription_data: SubscriptionData,
}

pub(super) fn consume_from_where<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    json::enum_name(d, &CONSUME_FROM_WHERE)
}

pub(super) fn consume_type<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    json::enum_name(d, &CONSUME_TYPE)
}

pub(super) fn message_model<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    json::enum_name(d, &MESSAGE_MODEL)
}
