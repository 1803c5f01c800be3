//! A message as a broker stores it: what consumers, readers and queries get.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use protocol::{
    compression, limits,
    message_id::OffsetId,
    names, property,
    record::{self, RecordError, RecordView},
    sys_flag,
};

use crate::queue::Queue;

/// A stored message.
///
/// The body is shared with the buffer it was received in, so keeping one message of a pull keeps
/// the whole pull in memory; copy the body to keep it for long.
#[derive(Clone, Debug)]
pub struct StoredMessage {
    queue: Queue,
    topic: Arc<str>,
    body: Bytes,
    inflated: bool,
    /// UTF-8, as part of the record.
    properties: Bytes,
    flag: i32,
    sys_flag: i32,
    queue_offset: i64,
    log_offset: i64,
    born_timestamp_ms: i64,
    born_host: SocketAddr,
    store_timestamp_ms: i64,
    store_host: SocketAddr,
    reconsume_times: i32,
    record_bytes: usize,
}

impl StoredMessage {
    /// A record that was read from a commit log without a broker; `broker` names whose it is.
    pub fn of_record(record: &RecordView<'_>, broker: &str) -> Self {
        let body = Bytes::copy_from_slice(record.body);
        let properties = Bytes::copy_from_slice(record.properties.as_bytes());
        build((body, properties), record, &broker.into(), &mut Topics::default())
    }

    /// The topic it was sent to, also when it came back through a group's retry topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The queue it lies in; of a message that came back, a queue of the retry topic.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Its position in its queue, in messages from 0.
    pub fn queue_offset(&self) -> i64 {
        self.queue_offset
    }

    /// Its position in the broker's commit log, in bytes.
    pub fn log_offset(&self) -> i64 {
        self.log_offset
    }

    /// The body, decompressed.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Whether [`StoredMessage::body`] is what the producer gave. False when it was compressed in
    /// a way that could not be undone: damaged, or larger than 32 MiB. It is then as stored.
    pub fn body_is_readable(&self) -> bool {
        self.inflated
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.property(property::TAGS)
    }

    /// The keys by which it can be found.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        property::keys(self.property(property::KEYS).unwrap_or_default())
    }

    /// One property.
    pub fn property(&self, name: &str) -> Option<&str> {
        property::find(self.encoded_properties(), name)
    }

    /// All properties, those of producer and broker included, in stored order.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        property::iter(self.encoded_properties())
    }

    /// The id that the producer gave it: unique, and equal for all copies of a send that was
    /// repeated. The offset id if the producer gave none.
    pub fn id(&self) -> String {
        self.property(property::UNIQ_KEY).map_or_else(|| self.offset_id(), str::to_owned)
    }

    /// The id that says where it is stored: broker address and log offset in hexadecimal.
    pub fn offset_id(&self) -> String {
        OffsetId { host: self.store_host, log_offset: self.log_offset }.to_string()
    }

    /// The 32 bits that the producer set.
    pub fn flag(&self) -> i32 {
        self.flag
    }

    /// The protocol's own bits: compression, transaction state, address families.
    pub fn sys_flag(&self) -> i32 {
        self.sys_flag
    }

    /// When the producer made it, by the producer's clock, in Unix milliseconds.
    pub fn born_timestamp_ms(&self) -> i64 {
        self.born_timestamp_ms
    }

    /// The producer's address as the broker saw it.
    pub fn born_host(&self) -> SocketAddr {
        self.born_host
    }

    /// When the broker stored it, by the broker's clock, in Unix milliseconds.
    pub fn store_timestamp_ms(&self) -> i64 {
        self.store_timestamp_ms
    }

    /// The broker that stored it.
    pub fn store_host(&self) -> SocketAddr {
        self.store_host
    }

    /// How often the group failed to consume it before.
    pub fn reconsume_times(&self) -> i32 {
        self.reconsume_times
    }

    /// Size of the stored record in bytes.
    pub fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    fn encoded_properties(&self) -> &str {
        std::str::from_utf8(&self.properties).expect("checked when the record was parsed")
    }

    /// Whether `key` is one of its keys, or its id.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.keys().any(|own| own == key) || self.property(property::UNIQ_KEY) == Some(key)
    }
}

/// Decodes the records of a reply's body. `broker` names who stored them.
pub(crate) fn decode_all(
    body: &Bytes,
    broker: &Arc<str>,
) -> Result<Vec<StoredMessage>, RecordError> {
    let mut topics = Topics::default();
    record::iter(body)
        .map(|record| record.map(|view| decode(body, &view, broker, &mut topics)))
        .collect()
}

/// Almost all records of a reply have the same topic, so it is shared.
#[derive(Default)]
struct Topics {
    last: Option<Arc<str>>,
}

impl Topics {
    fn share(&mut self, topic: &str) -> Arc<str> {
        match &self.last {
            Some(last) if **last == *topic => Arc::clone(last),
            _ => {
                let topic: Arc<str> = topic.into();
                self.last = Some(Arc::clone(&topic));
                topic
            }
        }
    }
}

fn decode(
    body: &Bytes,
    record: &RecordView<'_>,
    broker: &Arc<str>,
    topics: &mut Topics,
) -> StoredMessage {
    let parts = (body.slice_ref(record.body), body.slice_ref(record.properties.as_bytes()));
    build(parts, record, broker, topics)
}

fn build(
    (body, properties): (Bytes, Bytes),
    record: &RecordView<'_>,
    broker: &Arc<str>,
    topics: &mut Topics,
) -> StoredMessage {
    let (payload, inflated) = inflate(body, record);
    let stored_in = topics.share(record.topic);
    let origin = record
        .property(property::RETRY_TOPIC)
        .filter(|_| names::is_retry_topic(record.topic))
        .map_or_else(|| Arc::clone(&stored_in), Arc::from);
    StoredMessage {
        queue: Queue::new(stored_in, Arc::clone(broker), record.queue_id),
        topic: origin,
        body: payload,
        inflated,
        properties,
        flag: record.flag,
        sys_flag: record.sys_flag,
        queue_offset: record.queue_offset,
        log_offset: record.log_offset,
        born_timestamp_ms: record.born_timestamp,
        born_host: record.born_host,
        store_timestamp_ms: record.store_timestamp,
        store_host: record.store_host,
        reconsume_times: record.reconsume_times,
        record_bytes: usize::try_from(record.total_size).unwrap_or(usize::MAX),
    }
}

/// A body that cannot be inflated is handed out as it is: the rest of the message may still tell
/// what happened, and a consumer must be able to get past it.
fn inflate(stored: Bytes, record: &RecordView<'_>) -> (Bytes, bool) {
    if record.sys_flag & sys_flag::COMPRESSED == 0 {
        return (stored, true);
    }
    let max = limits::BODY_INFLATED_MAX_BYTES;
    match compression::decompress(record.sys_flag, &stored, max) {
        Ok(body) => (body.into_owned().into(), true),
        Err(error) => {
            tracing::warn!(
                topic = record.topic,
                log_offset = record.log_offset,
                %error,
                "the body of a message cannot be decompressed and is delivered as stored"
            );
            (stored, false)
        }
    }
}
