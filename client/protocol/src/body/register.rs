//! What a broker registers at a name server, code 103: JSON, or the compressed layout of
//! `WIRE.md`.

use std::str;

use bytes::{BufMut, BytesMut};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::topic::{FilterType, TopicConfig, TopicConfigTable};
use crate::compression::{self, compress_zlib_at, decompress_zlib};
use crate::cursor::{Cursor, Fault};
use crate::json::{self, JsonError};
use crate::limits;

/// Peers from this version on send a whole [`RegisterBody`]; older ones only its topics.
///
/// # Source: `MQVersion.Version.V3_0_11`
const WHOLE_BODY_VERSION: i32 = 37;
/// First byte of a zlib stream.
const ZLIB_FIRST_BYTE: u8 = 0x78;
/// Level that RocketMQ compresses registrations with.
const LEVEL: u32 = 9;

/// Why a registration cannot be read. Answer "system error" with the sentence.
#[derive(Debug, Error)]
pub enum RegisterError {
    /// The JSON is wrong.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// The compressed form is damaged or too large.
    #[error("the compressed registration cannot be read: {0}")]
    Compression(#[from] compression::Error),
    /// The decompressed form ends early.
    #[error("the registration is cut: {field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// Field that did not fit.
        field: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length below zero.
    #[error("the registration is damaged: the length of {field} is {length}")]
    NegativeLength {
        /// Field whose length it is.
        field: &'static str,
        /// The length as read.
        length: i64,
    },
    /// A topic is not of the form `name read write perm FILTER {attributes}`.
    #[error("{text:?} is no topic, expected: name read write perm FILTER {{attributes}}")]
    Topic {
        /// The text, cut to 64 characters.
        text: String,
    },
}

impl From<Fault> for RegisterError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Short { field, needed, left } => Self::Truncated { field, needed, left },
            Fault::Negative { field, length } => Self::NegativeLength { field, length },
        }
    }
}

/// What a broker registers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegisterBody {
    /// Filter servers; a feature of the past.
    pub filter_server_list: Vec<String>,
    /// All topics of the broker.
    pub topic_config_serialize_wrapper: TopicConfigTable,
}

impl RegisterBody {
    /// Reads the body of code 103 from a peer of `version`. Brokers have been seen to compress
    /// and to say that they did not, so the first byte decides. An empty body has no topics.
    ///
    /// # Errors
    /// [`RegisterError`]: damaged, or larger than the limits.
    pub fn decode(body: &[u8], version: i32) -> Result<Self, RegisterError> {
        match body.first() {
            None => Ok(Self::default()),
            Some(&ZLIB_FIRST_BYTE) => {
                Self::decode_binary(&decompress_zlib(body, limits::JSON_MAX_BYTES)?)
            }
            Some(_) if version < WHOLE_BODY_VERSION => {
                Ok(Self { topic_config_serialize_wrapper: json::decode(body)?, ..Self::default() })
            }
            Some(_) => Ok(json::decode(body)?),
        }
    }

    /// The compressed form, for which the header says `compressed`. It has neither the order flag
    /// nor the system flag of topics.
    #[must_use]
    pub fn encode_compressed(&self) -> Vec<u8> {
        compress_zlib_at(&self.encode_binary(), LEVEL)
    }

    fn encode_binary(&self) -> BytesMut {
        let mut out = BytesMut::new();
        let table = &self.topic_config_serialize_wrapper;
        put_block(&mut out, &json::encode(&table.data_version));
        put_count(&mut out, table.topic_config_table.len());
        for topic in table.topic_config_table.values() {
            put_block(&mut out, topic_text(topic).as_bytes());
        }
        put_block(&mut out, &json::encode(&self.filter_server_list));
        put_count(&mut out, 0); // mappings of static topics
        out
    }

    fn decode_binary(bytes: &[u8]) -> Result<Self, RegisterError> {
        let mut fields = Cursor::new(bytes);
        let mut body = Self::default();
        let table = &mut body.topic_config_serialize_wrapper;
        table.data_version = json::decode(fields.bytes_i32("data version")?)?;
        // Each round takes at least four bytes, so a false count ends with the bytes.
        for _ in 0..fields.u32("number of topics")? {
            let topic = parse_topic(fields.bytes_i32("topic")?)?;
            table.topic_config_table.insert(topic.topic_name.clone(), topic);
        }
        body.filter_server_list = json::decode(fields.bytes_i32("filter servers")?)?;
        // Mappings of static topics may follow; they are not supported.
        Ok(body)
    }
}

/// # Source: `TopicConfig.encode`
fn topic_text(topic: &TopicConfig) -> String {
    let TopicConfig { topic_name, read_queue_nums, write_queue_nums, perm, .. } = topic;
    let attributes = json::encode(&topic.attributes);
    let filter = topic.topic_filter_type.name();
    let attributes = String::from_utf8_lossy(&attributes);
    format!("{topic_name} {read_queue_nums} {write_queue_nums} {perm} {filter} {attributes}")
}

/// # Source: `TopicConfig.decode`
fn parse_topic(bytes: &[u8]) -> Result<TopicConfig, RegisterError> {
    let wrong =
        || RegisterError::Topic { text: String::from_utf8_lossy(bytes).chars().take(64).collect() };
    let text = str::from_utf8(bytes).map_err(|_| wrong())?;
    let mut words = text.splitn(6, ' ');
    let mut word = || words.next().filter(|word| !word.is_empty()).ok_or_else(wrong);
    let number = |word: &str| word.parse::<i32>().map_err(|_| wrong());
    let mut topic = TopicConfig {
        topic_name: word()?.to_owned(),
        read_queue_nums: number(word()?)?,
        write_queue_nums: number(word()?)?,
        perm: number(word()?)?,
        topic_filter_type: FilterType::from_name(word()?),
        ..TopicConfig::default()
    };
    if let Some(attributes) = words.next().filter(|text| !text.is_empty()) {
        topic.attributes = json::decode(attributes.as_bytes())?;
    }
    Ok(topic)
}

fn put_count(out: &mut BytesMut, count: usize) {
    out.put_u32(u32::try_from(count).expect("a broker has fewer than 4 billion topics"));
}

fn put_block(out: &mut BytesMut, block: &[u8]) {
    put_count(out, block.len());
    out.put_slice(block);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    fn sample() -> RegisterBody {
        let mut body = RegisterBody::default();
        for (name, attributes) in [("TopicTest", ""), ("TopicFifo", "FIFO")] {
            let mut topic = TopicConfig {
                topic_name: name.to_owned(),
                write_queue_nums: 8,
                ..TopicConfig::default()
            };
            if !attributes.is_empty() {
                topic.attributes.insert("message.type".to_owned(), attributes.to_owned());
            }
            body.topic_config_serialize_wrapper.topic_config_table.insert(name.to_owned(), topic);
        }
        body
    }

    #[test]
    fn json_and_compressed_forms_are_told_apart_by_their_first_byte() {
        let body = sample();
        assert_eq!(RegisterBody::decode(&json::encode(&body), 479).unwrap(), body);
        assert_eq!(RegisterBody::decode(&body.encode_compressed(), 479).unwrap(), body);
        assert_eq!(RegisterBody::decode(b"", 479).unwrap(), RegisterBody::default());
    }

    #[test]
    fn brokers_before_3_0_11_send_their_topics_only() {
        let body = sample();
        let topics = json::encode(&body.topic_config_serialize_wrapper);
        assert_eq!(RegisterBody::decode(&topics, 36).unwrap(), body);
    }

    #[test]
    fn topics_of_old_brokers_have_no_attributes() {
        let topic = parse_topic(b"T 4 2 6 MULTI_TAG").unwrap();
        assert_eq!(
            topic,
            TopicConfig {
                topic_name: "T".to_owned(),
                read_queue_nums: 4,
                write_queue_nums: 2,
                topic_filter_type: FilterType::MultiTag,
                ..TopicConfig::default()
            }
        );
    }

    #[test]
    fn damaged_registrations_are_refused_with_a_reason() {
        let error = |binary: &[u8]| {
            let packed = compress_zlib_at(binary, LEVEL);
            RegisterBody::decode(&packed, 479).unwrap_err().to_string()
        };
        assert_eq!(
            error(b"\0\0\0\x02{}\0\0\0\x01\0\0\0\x03a b"),
            "\"a b\" is no topic, expected: name read write perm FILTER {attributes}"
        );
        assert_eq!(
            error(b"\0\0\0\x02{}\x7F\xFF\xFF\xFF"),
            "the registration is cut: topic needs 4 bytes, 0 are left"
        );
        assert_eq!(
            error(b"\xFF\xFF\xFF\xFF"),
            "the registration is damaged: the length of data version is -1"
        );
    }

    proptest! {
        #[test]
        fn damage_never_panics(cut in any::<usize>(), at in any::<usize>(), byte: u8) {
            let mut binary = sample().encode_binary();
            let at = at % binary.len();
            binary[at] = byte;
            binary.truncate(cut % (binary.len() + 1));
            let _read = RegisterBody::decode_binary(&binary);
            let _sniffed = RegisterBody::decode(&binary, 479);
        }
    }
}
