//! Finding single messages: by key, by id, by offset.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{
    code::{RequestCode, ResponseCode},
    message_id::OffsetId,
    request::query::{ById, ByKey, Found},
};
use tokio::task::JoinSet;

use crate::{
    client::Client,
    core::{Core, header, refused, unreadable},
    error::Error,
    queue::Queue,
    reader::Reader,
    stored::{StoredMessage, decode_all},
};

/// How many messages, from which time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SearchWindow {
    /// Most messages wanted of each broker.
    pub max_messages: usize,
    /// Earliest store time, in Unix milliseconds.
    pub begin_ms: i64,
    /// Latest store time, in Unix milliseconds.
    pub end_ms: i64,
}

impl Default for SearchWindow {
    /// 64 messages of any time.
    fn default() -> Self {
        Self { max_messages: 64, begin_ms: 0, end_ms: i64::MAX }
    }
}

/// What a search by key brought, and how far it could see. Nothing found means that the key is
/// not there only if every broker answered and their indexes reach past the end of the window.
#[derive(Debug)]
pub struct KeyMatches {
    /// The messages with exactly this key or id, newest first.
    pub messages: Vec<StoredMessage>,
    /// What each broker of the topic said.
    pub brokers: Vec<BrokerAnswer>,
    /// What was searched.
    pub window: SearchWindow,
}

/// One broker's part in a search by key.
#[derive(Debug)]
pub struct BrokerAnswer {
    /// The broker's name.
    pub broker: String,
    /// The address that was asked.
    pub address: String,
    /// How far its index reaches, or why it did not answer.
    pub outcome: Result<IndexProgress, Error>,
}

/// How far a broker's key index reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IndexProgress {
    /// Messages found.
    pub found: usize,
    /// Store time of the last indexed message in Unix milliseconds; 0 if there is none.
    pub indexed_to_time_ms: i64,
    /// Commit-log offset up to which messages are indexed, in bytes.
    pub indexed_to: i64,
}

impl Client {
    /// Finds messages by one of their keys, or by the id that their producer gave them. Every
    /// broker of the topic is asked; those that fail are named in the answer.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    ///
    /// # Errors
    ///
    /// [`Error::TopicNotFound`], or that no name server answers.
    pub async fn find_by_key(
        &self,
        topic: &str,
        key: &str,
        window: SearchWindow,
    ) -> Result<KeyMatches, Error> {
        let route = self.core().route(topic).await?;
        let mut asked = JoinSet::new();
        for (broker, address) in route.brokers() {
            let (broker, address) = (Arc::clone(broker), Arc::clone(address));
            let (core, topic, key) = (Arc::clone(self.core()), topic.to_owned(), key.to_owned());
            asked.spawn(async move {
                let outcome = core.query_key((&broker, &address), &topic, &key, window).await;
                (broker, address, outcome)
            });
        }
        let mut matches = KeyMatches { messages: Vec::new(), brokers: Vec::new(), window };
        for (broker, address, outcome) in asked.join_all().await {
            let outcome = outcome.map(|(messages, progress)| {
                matches.messages.extend(messages);
                progress
            });
            let (broker, address) = (broker.to_string(), address.to_string());
            matches.brokers.push(BrokerAnswer { broker, address, outcome });
        }
        matches.brokers.sort_by(|left, right| left.broker.cmp(&right.broker));
        matches.messages.sort_by_key(|message| std::cmp::Reverse(message.store_timestamp_ms()));
        Ok(matches)
    }

    /// The message at one position of a queue.
    ///
    /// # Errors
    ///
    /// [`Error::MessageNotFound`] when there is none at this offset, [`Error::TopicNotFound`],
    /// [`Error::BrokerNotFound`], or that a server does not answer.
    pub async fn message_at(&self, queue: &Queue, offset: i64) -> Result<StoredMessage, Error> {
        let reader = Reader::new(Arc::clone(self.core()), queue.clone());
        let page = reader.read(offset, 1).await?;
        page.messages.into_iter().find(|message| message.queue_offset() == offset).ok_or_else(
            || Error::MessageNotFound {
                what: format!(
                    "at offset {offset} of {queue}, which holds {} to {}",
                    page.min,
                    page.max - 1
                ),
            },
        )
    }

    /// A message by its id: the one that says where it is stored, or, if `topic` is given, the
    /// one that its producer gave it. Of several copies with the same id the newest.
    ///
    /// # Errors
    ///
    /// [`Error::MessageNotFound`] when there is none, [`Error::TopicNotFound`], or that a server
    /// does not answer.
    pub async fn message_by_id(
        &self,
        id: &str,
        topic: Option<&str>,
    ) -> Result<StoredMessage, Error> {
        let stored = match id.parse::<OffsetId>() {
            Ok(place) if place.host.port() != 0 => {
                self.core().view(&place.host.to_string(), place.log_offset, topic).await
            }
            // What a producer made reads as an address with a port that no broker has.
            _ => Err(Error::MessageNotFound { what: format!("with the id {id}") }),
        };
        let (Err(missing), Some(topic)) = (&stored, topic) else { return stored };
        let missing = missing.clone();
        let matches = self.find_by_key(topic, id, SearchWindow::default()).await?;
        match matches.messages.into_iter().next() {
            Some(message) => Ok(message),
            // A broker that did not answer may have it.
            None => match matches.brokers.into_iter().find_map(|answer| answer.outcome.err()) {
                Some(error) => Err(error),
                None => Err(missing),
            },
        }
    }
}

impl Core {
    async fn query_key(
        &self,
        (broker, address): (&Arc<str>, &Arc<str>),
        topic: &str,
        key: &str,
        window: SearchWindow,
    ) -> Result<(Vec<StoredMessage>, IndexProgress), Error> {
        const CODE: RequestCode = RequestCode::QueryMessage;
        let query = ByKey {
            topic,
            key,
            max_messages: i32::try_from(window.max_messages).unwrap_or(i32::MAX),
            begin_timestamp: window.begin_ms,
            end_timestamp: window.end_ms,
            unique_key: false,
        };
        let frame = self.request(address, CODE, &query, Bytes::new()).await?;
        let messages = match frame.response_code() {
            ResponseCode::SUCCESS => decode_all(&frame.body, broker)
                .map_err(|error| unreadable(address, CODE)(&error))?,
            ResponseCode::QUERY_NOT_FOUND => Vec::new(),
            _ => return Err(refused(&frame, address, CODE)),
        };
        // Indexes hold hashes, so another key's message may be among them.
        let messages: Vec<_> =
            messages.into_iter().filter(|message| message.has_key(key)).collect();
        let reached = header(Found::decode(&frame.fields), address, CODE)?;
        let progress = IndexProgress {
            found: messages.len(),
            indexed_to_time_ms: reached.index_last_update_timestamp,
            indexed_to: reached.index_last_update_offset,
        };
        Ok((messages, progress))
    }

    async fn view(
        &self,
        address: &str,
        log_offset: i64,
        topic: Option<&str>,
    ) -> Result<StoredMessage, Error> {
        const CODE: RequestCode = RequestCode::ViewMessageById;
        let frame = self.request(address, CODE, &ById { log_offset, topic }, Bytes::new()).await?;
        let what = || format!("at log offset {log_offset} of {address}");
        match frame.response_code() {
            ResponseCode::SUCCESS => {}
            // RocketMQ answers its general error when there is no message.
            ResponseCode::SYSTEM_ERROR | ResponseCode::QUERY_NOT_FOUND => {
                return Err(Error::MessageNotFound { what: what() });
            }
            _ => return Err(refused(&frame, address, CODE)),
        }
        decode_all(&frame.body, &self.broker_name(address).await)
            .map_err(|error| unreadable(address, CODE)(&error))?
            .into_iter()
            .next()
            .ok_or_else(|| Error::MessageNotFound { what: what() })
    }
}
