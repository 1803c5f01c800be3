//! Topics.

use bytes::Bytes;
use protocol::{
    body::{stats::TopicStats, topic::TopicList},
    code::{RequestCode, ResponseCode},
    header::NoFields,
    json, names,
    names::AUTO_CREATE_TOPIC,
    request::topic::{CreateTopic, Topic as TopicHeader},
};

use super::Admin;
use crate::{
    core::{refused, success, unreadable},
    error::Error,
    queue::Queue,
    route::Route,
};

/// A topic to be created or changed.
#[derive(Clone, Debug)]
pub struct TopicSpec {
    name: String,
    read_queues: i32,
    write_queues: i32,
    permission: i32,
    order: bool,
}

/// A topic as the name servers know it.
#[derive(Clone, Debug)]
pub struct TopicInfo {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub brokers: Vec<TopicOnBroker>,
}

/// A topic's queues on one broker.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TopicOnBroker {
    /// The broker's name.
    pub broker: String,
    /// An address of it, the master's if there is one.
    pub address: String,
    /// Queues that can be read.
    pub read_queues: i32,
    /// Queues that can be written.
    pub write_queues: i32,
    /// 4 may be read, 2 may be written, added up.
    pub permission: i32,
}

/// The bounds of one queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueueBounds {
    /// The queue.
    pub queue: Queue,
    /// Offset of its first message.
    pub min: i64,
    /// Offset after its last message.
    pub max: i64,
    /// When its last message was stored, in Unix milliseconds; 0 if it never had one.
    pub last_update_ms: i64,
}

impl TopicSpec {
    /// A topic with 8 queues per broker that may be read and written.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), read_queues: 8, write_queues: 8, permission: 6, order: false }
    }

    /// Queues on each broker, for reading and for writing.
    #[must_use]
    pub fn queues(mut self, queues: i32) -> Self {
        (self.read_queues, self.write_queues) = (queues, queues);
        self
    }

    /// Queues that may be read on each broker. To shrink a topic, shrink writing first, and
    /// reading once the rest is consumed.
    #[must_use]
    pub fn read_queues(mut self, queues: i32) -> Self {
        self.read_queues = queues;
        self
    }

    /// Queues that may be written on each broker.
    #[must_use]
    pub fn write_queues(mut self, queues: i32) -> Self {
        self.write_queues = queues;
        self
    }

    /// 4 may be read, 2 may be written, added up.
    #[must_use]
    pub fn permission(mut self, permission: i32) -> Self {
        self.permission = permission;
        self
    }

    /// Whether the topic's queues keep their brokers when one of them is down.
    #[must_use]
    pub fn order(mut self, order: bool) -> Self {
        self.order = order;
        self
    }
}

impl Admin {
    /// Creates a topic on every master, or changes it there.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for an impossible name, [`Error::Refused`] when a broker refuses,
    /// [`Error::BrokerNotFound`] when there is no broker, or that a server does not answer.
    pub async fn create_topic(&self, spec: &TopicSpec) -> Result<(), Error> {
        names::check_topic(&spec.name)?;
        let header = CreateTopic {
            topic: &spec.name,
            default_topic: Some(AUTO_CREATE_TOPIC),
            read_queues: spec.read_queues,
            write_queues: spec.write_queues,
            perm: spec.permission,
            filter_type: Some("SINGLE_TAG"),
            sys_flag: 0,
            order: spec.order,
            attributes: None,
        };
        for broker in self.masters_for(&spec.name).await? {
            let code = RequestCode::UpdateAndCreateTopic;
            self.core.call(&broker.address, code, &header, Bytes::new()).await?;
        }
        Ok(())
    }

    /// Deletes a topic with its messages from every master, and its route from every name server.
    ///
    /// # Errors
    ///
    /// [`Error::TopicNotFound`], [`Error::Refused`], or that a server does not answer.
    pub async fn delete_topic(&self, topic: &str) -> Result<(), Error> {
        // Looked up first: brokers do not say whether they had it.
        self.core.fetch_route(topic).await?;
        let header = TopicHeader { topic, cluster: None };
        for broker in self.masters_for(topic).await? {
            let code = RequestCode::DeleteTopicInBroker;
            let frame = self.core.request(&broker.address, code, &header, Bytes::new()).await?;
            if frame.response_code() != ResponseCode::TOPIC_NOT_EXIST {
                success(frame, &broker.address, code)?;
            }
        }
        for address in &self.core.name_servers.addresses {
            let code = RequestCode::DeleteTopicInNamesrv;
            self.core.call(address, code, &header, Bytes::new()).await?;
        }
        Ok(())
    }

    /// The names of all topics, sorted, those of the system and of retries included.
    ///
    /// # Errors
    ///
    /// When no name server answers.
    pub async fn topics(&self) -> Result<Vec<String>, Error> {
        let code = RequestCode::GetAllTopicListFromNameServer;
        let (address, frame) = self.core.call_name_server(code, &NoFields).await?;
        let list: TopicList =
            json::decode(&frame.body).map_err(|error| unreadable(&address, code)(&error))?;
        let mut topics = list.topic_list;
        topics.sort();
        topics.dedup();
        Ok(topics)
    }

    /// Where a topic is.
    ///
    /// # Errors
    ///
    /// [`Error::TopicNotFound`], or that no name server answers.
    pub async fn topic(&self, topic: &str) -> Result<TopicInfo, Error> {
        let body = self.core.fetch_route(topic).await?;
        let route = Route::new(topic, &body);
        let mut brokers: Vec<_> = body
            .queue_datas
            .iter()
            .map(|data| TopicOnBroker {
                broker: data.broker_name.clone(),
                address: route
                    .brokers()
                    .find(|(name, _)| ***name == *data.broker_name)
                    .map(|(_, address)| address.to_string())
                    .unwrap_or_default(),
                read_queues: data.read_queue_nums,
                write_queues: data.write_queue_nums,
                permission: data.perm,
            })
            .collect();
        brokers.sort_by(|left, right| left.broker.cmp(&right.broker));
        Ok(TopicInfo { name: topic.to_owned(), brokers })
    }

    /// The bounds of a topic's queues, sorted.
    ///
    /// # Errors
    ///
    /// [`Error::TopicNotFound`], [`Error::Refused`], or that a server does not answer.
    pub async fn topic_stats(&self, topic: &str) -> Result<Vec<QueueBounds>, Error> {
        let code = RequestCode::GetTopicStatsInfo;
        let header = TopicHeader { topic, cluster: None };
        let route = Route::new(topic, &self.core.fetch_route(topic).await?);
        let mut queues = Vec::new();
        for (_, address) in route.brokers() {
            let frame = self.core.request(address, code, &header, Bytes::new()).await?;
            if frame.response_code() != ResponseCode::SUCCESS {
                return Err(match frame.response_code() {
                    ResponseCode::TOPIC_NOT_EXIST => {
                        Error::TopicNotFound { topic: topic.to_owned() }
                    }
                    _ => refused(&frame, address, code),
                });
            }
            let stats: TopicStats =
                json::decode(&frame.body).map_err(|error| unreadable(address, code)(&error))?;
            queues.extend(stats.offset_table.into_iter().map(|(queue, bounds)| QueueBounds {
                queue: Queue::new(queue.topic, queue.broker_name, queue.queue_id),
                min: bounds.min_offset,
                max: bounds.max_offset,
                last_update_ms: bounds.last_update_timestamp,
            }));
        }
        queues.sort_by(|left, right| left.queue.cmp(&right.queue));
        Ok(queues)
    }

    async fn masters_for(&self, what: &str) -> Result<Vec<super::BrokerInfo>, Error> {
        let masters = self.core.masters().await?;
        if masters.is_empty() {
            return Err(Error::BrokerNotFound {
                broker: "(any)".to_owned(),
                topic: what.to_owned(),
            });
        }
        Ok(masters)
    }
}
