//! Consumer groups.

use std::collections::BTreeMap;

use bytes::Bytes;
use protocol::{
    body::{
        group::{ConsumerList, GroupConfig, GroupTable},
        stats::{ConsumeStats, ConsumerConnections},
    },
    code::{RequestCode, ResponseCode},
    frame::Frame,
    header::NoFields,
    json, names,
    request::{
        group::{ConsumeStats as StatsHeader, DeleteGroup},
        heartbeat::ConsumerGroup,
    },
};

use super::Admin;
use crate::{
    core::{refused, success, unreadable},
    error::Error,
    queue::Queue,
};

/// A consumer group to be created or changed.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    name: String,
    max_retries: i32,
    enabled: bool,
    broadcast: bool,
}

/// A consumer group as brokers know it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// The brokers that have it, sorted.
    pub brokers: Vec<String>,
    /// Whether it may consume.
    pub enabled: bool,
    /// How often a failed message comes back before it becomes a dead letter.
    pub max_retries: i32,
}

/// How far a group is behind.
#[derive(Clone, Debug)]
pub struct GroupLag {
    /// Its name.
    pub group: String,
    /// Messages per second that it received lately, all brokers together.
    pub messages_per_second: f64,
    /// Each queue that it consumes, sorted.
    pub queues: Vec<QueueLag>,
    /// Who is online.
    pub members: Vec<GroupMember>,
}

/// How far a group is behind in one queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueueLag {
    /// The queue.
    pub queue: Queue,
    /// The offset after the queue's last message.
    pub broker_offset: i64,
    /// The group's committed offset.
    pub consumer_offset: i64,
    /// When the message before the committed offset was stored, in Unix milliseconds; 0 if that
    /// is unknown.
    pub last_timestamp_ms: i64,
}

/// A member of a group that is online.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GroupMember {
    /// Its client id.
    pub client_id: String,
    /// The address it connected from.
    pub address: String,
    /// What it is written in.
    pub language: String,
    /// Its protocol version.
    pub version: i32,
}

impl GroupSpec {
    /// A group that may consume, with 16 retries.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), max_retries: 16, enabled: true, broadcast: true }
    }

    /// How often a failed message comes back before it becomes a dead letter.
    #[must_use]
    pub fn max_retries(mut self, retries: i32) -> Self {
        self.max_retries = retries;
        self
    }

    /// Whether the group may consume at all.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.enabled = enabled;
        self
    }

    /// Whether members may consume broadcasting.
    #[must_use]
    pub fn broadcast(mut self, broadcast: bool) -> Self {
        self.broadcast = broadcast;
        self
    }
}

impl QueueLag {
    /// Messages that are not consumed yet.
    pub fn lag(&self) -> i64 {
        self.broker_offset - self.consumer_offset
    }
}

impl GroupLag {
    /// Messages that are not consumed yet, all queues together.
    pub fn lag(&self) -> i64 {
        self.queues.iter().map(QueueLag::lag).sum()
    }
}

impl Admin {
    /// Creates a consumer group on every master, or changes it there.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for an impossible name, [`Error::Refused`], or that a server does not
    /// answer.
    pub async fn create_group(&self, spec: &GroupSpec) -> Result<(), Error> {
        names::check_group(&spec.name)?;
        let body = json::encode(&GroupConfig {
            group_name: spec.name.clone(),
            retry_max_times: spec.max_retries,
            consume_enable: spec.enabled,
            consume_broadcast_enable: spec.broadcast,
            ..GroupConfig::default()
        });
        for broker in self.core.masters().await? {
            let code = RequestCode::UpdateAndCreateSubscriptionGroup;
            self.core.call(&broker.address, code, &NoFields, body.clone()).await?;
        }
        Ok(())
    }

    /// Deletes a consumer group and its offsets from every master.
    ///
    /// # Errors
    ///
    /// [`Error::GroupNotFound`], [`Error::Refused`], or that a server does not answer.
    pub async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let known = self.groups().await?;
        if !known.iter().any(|known| known.name == group) {
            return Err(Error::GroupNotFound { group: group.to_owned() });
        }
        let header = DeleteGroup { group, clean_offset: true };
        for broker in self.core.masters().await? {
            let code = RequestCode::DeleteSubscriptionGroup;
            let frame = self.core.request(&broker.address, code, &header, Bytes::new()).await?;
            if frame.response_code() != ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST {
                success(frame, &broker.address, code)?;
            }
        }
        Ok(())
    }

    /// All consumer groups, sorted, those of the system included.
    ///
    /// # Errors
    ///
    /// When a server does not answer.
    pub async fn groups(&self) -> Result<Vec<GroupInfo>, Error> {
        let code = RequestCode::GetAllSubscriptionGroupConfig;
        let mut groups: BTreeMap<String, GroupInfo> = BTreeMap::new();
        for broker in self.core.one_of_each_name().await? {
            let address = &broker.address;
            let frame = self.core.call(address, code, &NoFields, Bytes::new()).await?;
            let table: GroupTable =
                json::decode(&frame.body).map_err(|error| unreadable(address, code)(&error))?;
            for (name, config) in table.subscription_group_table {
                let group = groups.entry(name).or_insert_with_key(|name| GroupInfo {
                    name: name.clone(),
                    brokers: Vec::new(),
                    enabled: config.consume_enable,
                    max_retries: config.retry_max_times,
                });
                group.brokers.push(broker.name.clone());
            }
        }
        Ok(groups.into_values().collect())
    }

    /// How far a group is behind, and who is online.
    ///
    /// # Errors
    ///
    /// [`Error::GroupNotFound`] when no broker knows it, or that a server does not answer.
    pub async fn group_lag(&self, group: &str) -> Result<GroupLag, Error> {
        let mut lag = GroupLag {
            group: group.to_owned(),
            messages_per_second: 0.0,
            queues: Vec::new(),
            members: Vec::new(),
        };
        for broker in self.core.one_of_each_name().await? {
            if let Some(stats) = self.consume_stats(&broker.address, group).await? {
                lag.messages_per_second += stats.consume_tps;
                lag.queues.extend(stats.offset_table.into_iter().map(|(queue, progress)| {
                    QueueLag {
                        queue: Queue::new(queue.topic, queue.broker_name, queue.queue_id),
                        broker_offset: progress.broker_offset,
                        consumer_offset: progress.consumer_offset,
                        last_timestamp_ms: progress.last_timestamp,
                    }
                }));
            }
            lag.members.extend(self.members(&broker.address, group).await?);
        }
        lag.queues.sort_by(|left, right| left.queue.cmp(&right.queue));
        lag.members.sort();
        // A client has one connection to each broker.
        lag.members.dedup_by(|later, first| later.client_id == first.client_id);
        // Brokers have no complaint about a group that they never heard of.
        if lag.queues.is_empty() && lag.members.is_empty() && !self.is_known(group).await? {
            return Err(Error::GroupNotFound { group: group.to_owned() });
        }
        Ok(lag)
    }

    async fn is_known(&self, group: &str) -> Result<bool, Error> {
        Ok(self.groups().await?.iter().any(|known| known.name == group))
    }

    async fn consume_stats(
        &self,
        address: &str,
        group: &str,
    ) -> Result<Option<ConsumeStats>, Error> {
        let code = RequestCode::GetConsumeStats;
        let header = StatsHeader { consumer_group: group, topic: None };
        let frame = self.core.request(address, code, &header, Bytes::new()).await?;
        match frame.response_code() {
            ResponseCode::SUCCESS => json::decode(&frame.body)
                .map(Some)
                .map_err(|error| unreadable(address, code)(&error)),
            ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST => Ok(None),
            _ => Err(refused(&frame, address, code)),
        }
    }

    async fn members(&self, address: &str, group: &str) -> Result<Vec<GroupMember>, Error> {
        let code = RequestCode::GetConsumerConnectionList;
        let header = ConsumerGroup { consumer_group: group };
        let frame = self.core.request(address, code, &header, Bytes::new()).await?;
        match frame.response_code() {
            ResponseCode::SUCCESS => {
                let list: ConsumerConnections =
                    json::decode(&frame.body).map_err(|error| unreadable(address, code)(&error))?;
                Ok(list
                    .connection_set
                    .into_iter()
                    .map(|member| GroupMember {
                        client_id: member.client_id,
                        address: member.client_addr,
                        language: member.language,
                        version: member.version,
                    })
                    .collect())
            }
            // RocketMQ says 206 for a group that nobody is online for, and 1 for some of them.
            ResponseCode::CONSUMER_NOT_ONLINE | ResponseCode::SYSTEM_ERROR => Ok(Vec::new()),
            _ => Err(refused(&frame, address, code)),
        }
    }
}

/// Reads the list of a group's members.
pub(crate) fn consumer_ids(frame: &Frame, address: &str) -> Result<Vec<String>, Error> {
    let code = RequestCode::GetConsumerListByGroup;
    let list: ConsumerList =
        json::decode(&frame.body).map_err(|error| unreadable(address, code)(&error))?;
    Ok(list.consumer_id_list)
}
