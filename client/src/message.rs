//! A message as an application makes it, and what must be true of it before it is sent.

use bytes::Bytes;
use protocol::{
    limits::{BODY_MAX_BYTES, PROPERTIES_MAX_BYTES},
    property::{self, PairError},
};
use thiserror::Error;

/// A message to send.
///
/// ```
/// use basaltmq::Message;
///
/// let message = Message::new("orders", r#"{"id":4711}"#)
///     .tag("created")
///     .key("4711")
///     .property("source", "shop");
/// assert_eq!(message.topic(), "orders");
/// ```
#[derive(Clone, Debug)]
pub struct Message {
    topic: String,
    body: Bytes,
    tag: Option<String>,
    keys: Vec<String>,
    sharding_key: Option<String>,
    properties: Vec<(String, String)>,
    flag: i32,
    wait_for_store: bool,
}

/// What keeps a message from being sent.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// RocketMQ refuses messages without a body.
    #[error("it has no body; brokers refuse empty messages")]
    Empty,
    /// The body, or the batch, is too large.
    #[error("its body has {bytes} bytes, the limit is {max}; split it or store it elsewhere")]
    TooLarge {
        /// Size in bytes before compression.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// The properties are too large.
    #[error("its properties need {bytes} bytes, the limit is {max}; move some into the body")]
    PropertiesTooLarge {
        /// Size in bytes once encoded.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A property cannot be encoded.
    #[error(transparent)]
    Property(#[from] PairError),
    /// A property's name means something to brokers or consumers.
    #[error("the property {name:?} is reserved; choose another name")]
    Reserved {
        /// The name.
        name: String,
    },
    /// Keys are stored separated by spaces.
    #[error("the key {key:?} contains white space; use several keys or another separator")]
    KeyWithSpace {
        /// The key.
        key: String,
    },
    /// The batch cannot be encoded.
    #[error("{reason}")]
    Batch {
        /// What is wrong.
        reason: String,
    },
    /// A batch holds nothing.
    #[error("the batch is empty")]
    EmptyBatch,
    /// A batch mixes what must be equal.
    #[error("the batch mixes {what}; send one batch for each")]
    Mixed {
        /// What differs between its messages.
        what: &'static str,
    },
}

/// Names that brokers or consumers give a meaning to. An application sets them through the
/// methods of [`Message`], or not at all.
const RESERVED: [&str; 26] = [
    property::KEYS,
    property::TAGS,
    property::UNIQ_KEY,
    property::WAIT,
    property::DELAY,
    property::RETRY_TOPIC,
    property::REAL_TOPIC,
    property::REAL_QUEUE_ID,
    property::HALF_MESSAGE,
    property::PRODUCER_GROUP,
    property::MIN_OFFSET,
    property::MAX_OFFSET,
    property::ORIGIN_MESSAGE_ID,
    property::RECONSUME_TIMES,
    property::MAX_RECONSUME_TIMES,
    property::MSG_REGION,
    property::TRACE_ON,
    property::CLUSTER,
    property::CONSUME_START_TIME,
    property::INNER_NUM,
    property::TRANSACTION_ID,
    property::POP_CK,
    property::FIRST_POP_TIME,
    property::SHARDING_KEY,
    property::CRC32,
    property::TIMER_DELIVER_MS,
];

impl Message {
    /// A message for `topic`. The body is kept, not copied; it may have 1 byte to 4 MiB.
    pub fn new(topic: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            body: body.into(),
            tag: None,
            keys: Vec::new(),
            sharding_key: None,
            properties: Vec::new(),
            flag: 0,
            wait_for_store: true,
        }
    }

    /// Sets the tag that consumers can filter by. A message has at most one.
    #[must_use]
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tag = Some(tag.into());
        self
    }

    /// Adds a key by which the message can be found. Keys contain no white space.
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Messages of one topic with equal sharding keys go to the same queue, in the order in which
    /// they are sent, as long as the number of queues stays the same.
    #[must_use]
    pub fn sharding_key(mut self, key: impl Into<String>) -> Self {
        self.sharding_key = Some(key.into());
        self
    }

    /// Adds a property of the application's own. Neither name nor value may be empty.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((name.into(), value.into()));
        self
    }

    /// Sets the 32 bits that brokers store and never look at.
    #[must_use]
    pub fn flag(mut self, flag: i32) -> Self {
        self.flag = flag;
        self
    }

    /// With `false`, a broker that flushes or replicates before it answers does not do so for
    /// this message. The default is `true`.
    #[must_use]
    pub fn wait_for_store(mut self, wait: bool) -> Self {
        self.wait_for_store = wait;
        self
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    pub(crate) fn sharding(&self) -> Option<&str> {
        self.sharding_key.as_deref()
    }

    pub(crate) fn flag_bits(&self) -> i32 {
        self.flag
    }

    pub(crate) fn waits_for_store(&self) -> bool {
        self.wait_for_store
    }

    /// Checks everything that can be known before a broker is asked, and encodes the properties.
    pub(crate) fn encode_properties(&self, unique_id: &str) -> Result<String, Fault> {
        if self.body.is_empty() {
            return Err(Fault::Empty);
        }
        if self.body.len() > BODY_MAX_BYTES {
            return Err(Fault::TooLarge { bytes: self.body.len(), max: BODY_MAX_BYTES });
        }
        let mut out = String::with_capacity(96);
        if !self.keys.is_empty() {
            push(&mut out, property::KEYS, &self.joined_keys()?)?;
        }
        push(&mut out, property::UNIQ_KEY, unique_id)?;
        if !self.wait_for_store {
            push(&mut out, property::WAIT, "false")?;
        }
        if let Some(key) = &self.sharding_key {
            push(&mut out, property::SHARDING_KEY, key)?;
        }
        for (name, value) in &self.properties {
            if RESERVED.contains(&name.as_str()) {
                return Err(Fault::Reserved { name: name.clone() });
            }
            push(&mut out, name, value)?;
        }
        if let Some(tag) = &self.tag {
            push(&mut out, property::TAGS, tag)?;
        }
        if out.len() > PROPERTIES_MAX_BYTES {
            return Err(Fault::PropertiesTooLarge { bytes: out.len(), max: PROPERTIES_MAX_BYTES });
        }
        Ok(out)
    }

    /// The properties of a batch's request, which only say how to store it.
    pub(crate) fn shared_properties(&self) -> String {
        let mut out = String::new();
        if !self.wait_for_store {
            property::push(&mut out, property::WAIT, "false");
        }
        out
    }

    fn joined_keys(&self) -> Result<String, Fault> {
        match self.keys.iter().find(|key| key.contains(char::is_whitespace)) {
            Some(key) => Err(Fault::KeyWithSpace { key: key.clone() }),
            None => Ok(self.keys.join(" ")),
        }
    }
}

fn push(out: &mut String, name: &str, value: &str) -> Result<(), Fault> {
    property::check_pair(name, value)?;
    property::push(out, name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message::new("orders", "body")
    }

    #[test]
    fn properties_carry_keys_tag_id_and_the_applications_own() {
        let encoded = message()
            .tag("created")
            .key("4711")
            .key("shop-1")
            .sharding_key("customer-9")
            .property("source", "shop")
            .wait_for_store(false)
            .encode_properties("ID")
            .unwrap();
        let find = |name| property::find(&encoded, name);
        assert_eq!(find(property::KEYS), Some("4711 shop-1"));
        assert_eq!(find(property::TAGS), Some("created"));
        assert_eq!(find(property::UNIQ_KEY), Some("ID"));
        assert_eq!(find(property::SHARDING_KEY), Some("customer-9"));
        assert_eq!(find(property::WAIT), Some("false"));
        assert_eq!(find("source"), Some("shop"));
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_it_is_sent() {
        let fault = |message: Message| message.encode_properties("ID").unwrap_err();
        assert_eq!(fault(Message::new("t", "")), Fault::Empty);
        assert_eq!(
            fault(Message::new("t", vec![0; BODY_MAX_BYTES + 1])),
            Fault::TooLarge { bytes: BODY_MAX_BYTES + 1, max: BODY_MAX_BYTES }
        );
        assert_eq!(
            fault(message().property("UNIQ_KEY", "x")),
            Fault::Reserved { name: "UNIQ_KEY".into() }
        );
        assert_eq!(fault(message().key("a b")), Fault::KeyWithSpace { key: "a b".into() });
        assert!(matches!(fault(message().property("a", "")), Fault::Property(_)));
        assert!(matches!(fault(message().tag("a\u{2}b")), Fault::Property(_)));
        assert!(matches!(
            fault(message().property("a", "x".repeat(PROPERTIES_MAX_BYTES))),
            Fault::PropertiesTooLarge { .. }
        ));
    }
}
