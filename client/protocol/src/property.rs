//! Message properties: the text form `name 0x01 value 0x02 …`, the names that have a meaning, and
//! the tag hash that consume queues store.

use std::borrow::Cow;

use memchr::memchr;
use thiserror::Error;

/// Separates a name from its value.
pub const NAME_END: char = '\u{1}';
/// Ends a pair.
pub const PAIR_END: char = '\u{2}';
const NAME_END_BYTE: u8 = 1;
const PAIR_END_BYTE: u8 = 2;

/// Index keys, separated by spaces.
pub const KEYS: &str = "KEYS";
/// The tag.
pub const TAGS: &str = "TAGS";
/// The message id that clients create and show.
pub const UNIQ_KEY: &str = "UNIQ_KEY";
/// Whether the producer waits for the store: `true` or `false`.
pub const WAIT: &str = "WAIT";
/// Delay level, 1 to 18.
pub const DELAY: &str = "DELAY";
/// The topic a message of a retry topic came from.
pub const RETRY_TOPIC: &str = "RETRY_TOPIC";
/// Where a waiting message goes in the end: the topic.
pub const REAL_TOPIC: &str = "REAL_TOPIC";
/// Where a waiting message goes in the end: the queue.
pub const REAL_QUEUE_ID: &str = "REAL_QID";
/// `true` on a half message.
pub const HALF_MESSAGE: &str = "TRAN_MSG";
/// Producer group, needed to ask back for the outcome of a transaction.
pub const PRODUCER_GROUP: &str = "PGROUP";
/// Smallest offset of the queue, set by clients from the pull response.
pub const MIN_OFFSET: &str = "MIN_OFFSET";
/// Largest offset of the queue, set by clients from the pull response.
pub const MAX_OFFSET: &str = "MAX_OFFSET";
/// Offset message id of the first delivery of a retried message.
pub const ORIGIN_MESSAGE_ID: &str = "ORIGIN_MESSAGE_ID";
/// Deliveries so far, on send-back.
pub const RECONSUME_TIMES: &str = "RECONSUME_TIME";
/// Most deliveries, on send-back.
pub const MAX_RECONSUME_TIMES: &str = "MAX_RECONSUME_TIMES";
/// Region id that the broker stamps.
pub const MSG_REGION: &str = "MSG_REGION";
/// Trace switch that the broker stamps.
pub const TRACE_ON: &str = "TRACE_ON";
/// Name of the cluster, stamped by the broker.
pub const CLUSTER: &str = "CLUSTER";
/// When the client started to consume, ms.
pub const CONSUME_START_TIME: &str = "CONSUME_START_TIME";
/// Number of messages in an inner batch.
pub const INNER_NUM: &str = "INNER_NUM";
/// Transaction id.
pub const TRANSACTION_ID: &str = "__transactionId__";
/// Seconds before the first check-back.
pub const CHECK_IMMUNITY_SECONDS: &str = "CHECK_IMMUNITY_TIME_IN_SECONDS";
/// Check-backs so far.
pub const TRANSACTION_CHECK_TIMES: &str = "TRANSACTION_CHECK_TIMES";
/// Namespace or instance of the topic.
pub const INSTANCE_ID: &str = "INSTANCE_ID";
/// Correlates a reply with its request.
pub const CORRELATION_ID: &str = "CORRELATION_ID";
/// Client id that waits for the reply.
pub const REPLY_TO_CLIENT: &str = "REPLY_TO_CLIENT";
/// `reply` on a reply.
pub const MSG_TYPE: &str = "MSG_TYPE";
/// Time to live of a request, ms.
pub const TTL: &str = "TTL";
/// Handle of a popped message.
pub const POP_CK: &str = "POP_CK";
/// Time of the first pop, ms.
pub const FIRST_POP_TIME: &str = "1ST_POP_TIME";
/// The producer's sharding key.
pub const SHARDING_KEY: &str = "__SHARDINGKEY";
/// Relative delay in seconds.
pub const TIMER_DELAY_SEC: &str = "TIMER_DELAY_SEC";
/// Relative delay in milliseconds.
pub const TIMER_DELAY_MS: &str = "TIMER_DELAY_MS";
/// Absolute delivery time, Unix ms.
pub const TIMER_DELIVER_MS: &str = "TIMER_DELIVER_MS";
/// Appended record checksum.
pub const CRC32: &str = "__CRC32#";

/// Why a pair cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PairError {
    /// Readers drop pairs without a name.
    #[error("a property has no name; remove it or name it")]
    NoName,
    /// Readers drop pairs without a value.
    #[error("the property {name:?} has an empty value; leave it out instead")]
    NoValue {
        /// Name of the property.
        name: String,
    },
    /// The text form has no escapes.
    #[error("the property {name:?} contains byte 0x01 or 0x02, which the format reserves")]
    Reserved {
        /// Name of the property.
        name: String,
    },
}

/// Checks that a pair survives encoding and decoding.
///
/// # Errors
/// [`PairError`] if a reader would drop or misread it.
pub fn check_pair(name: &str, value: &str) -> Result<(), PairError> {
    let reserved = [NAME_END, PAIR_END];
    if name.is_empty() {
        Err(PairError::NoName)
    } else if value.is_empty() {
        Err(PairError::NoValue { name: name.to_owned() })
    } else if name.contains(reserved) || value.contains(reserved) {
        Err(PairError::Reserved { name: name.to_owned() })
    } else {
        Ok(())
    }
}

/// Appends a pair to `properties`, closing an open last pair first. No check is made: pass what
/// [`check_pair`] accepts or what [`iter`] returned.
pub fn push(properties: &mut String, name: &str, value: &str) {
    if !properties.is_empty() && !properties.ends_with(PAIR_END) {
        properties.push(PAIR_END);
    }
    properties.reserve(name.len() + value.len() + 2);
    properties.push_str(name);
    properties.push(NAME_END);
    properties.push_str(value);
    properties.push(PAIR_END);
}

/// The pairs of `properties` in their order, names possibly repeated.
///
/// Follows RocketMQ's reader: a pair without a name, a value or the separator is dropped, the
/// final 0x02 is optional, and a value may contain further 0x01.
///
/// # Source: `MessageDecoder.string2messageProperties`
#[must_use]
pub fn iter(properties: &str) -> Pairs<'_> {
    Pairs { rest: properties }
}

/// Iterator over pairs; see [`iter`].
#[derive(Clone, Debug)]
pub struct Pairs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Pairs<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        // Both separators are ASCII, so every cut is between characters.
        while !self.rest.is_empty() {
            let bytes = self.rest.as_bytes();
            let end = memchr(PAIR_END_BYTE, bytes).unwrap_or(bytes.len());
            let pair = self.rest.get(..end).unwrap_or_default();
            self.rest = self.rest.get(end + 1..).unwrap_or_default();
            let Some(at) = memchr(NAME_END_BYTE, pair.as_bytes()) else { continue };
            let name = pair.get(..at).unwrap_or_default();
            let value = pair.get(at + 1..).unwrap_or_default();
            if !name.is_empty() && !value.is_empty() {
                return Some((name, value));
            }
        }
        None
    }
}

/// The value of `name`. If the name is repeated the last one counts, as in RocketMQ's map.
#[must_use]
pub fn find<'a>(properties: &'a str, name: &str) -> Option<&'a str> {
    iter(properties).filter(|&(n, _)| n == name).last().map(|(_, value)| value)
}

/// `properties` without every pair called one of `names`; borrowed if there is none.
#[must_use]
pub fn without<'a>(properties: &'a str, names: &[&str]) -> Cow<'a, str> {
    if !iter(properties).any(|(name, _)| names.contains(&name)) {
        return Cow::Borrowed(properties);
    }
    let mut kept = String::with_capacity(properties.len());
    for (name, value) in iter(properties).filter(|(name, _)| !names.contains(name)) {
        push(&mut kept, name, value);
    }
    Cow::Owned(kept)
}

/// The single keys of a `KEYS` value.
pub fn keys(value: &str) -> impl Iterator<Item = &str> {
    value.split(' ').filter(|key| !key.is_empty())
}

/// What a consume queue stores for a tag: Java's `String.hashCode`, sign-extended. The whole TAGS
/// value is hashed, also if it lists several tags. Messages without a tag store 0.
#[must_use]
pub fn tag_hash(tag: &str) -> i64 {
    i64::from(java_hash(tag))
}

/// Java's `String.hashCode`: over UTF-16 units, wrapping at 32 bits.
pub(crate) fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0, |hash: i32, unit| hash.wrapping_mul(31).wrapping_add(unit.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn reads_what_it_pushes() {
        let mut properties = String::new();
        push(&mut properties, TAGS, "TagA");
        push(&mut properties, KEYS, "k1 k2");
        assert_eq!(properties, "TAGS\u{1}TagA\u{2}KEYS\u{1}k1 k2\u{2}");
        assert_eq!(find(&properties, KEYS), Some("k1 k2"));
        assert_eq!(keys("k1  k2 ").collect::<Vec<_>>(), ["k1", "k2"]);
    }

    #[test]
    fn drops_what_the_java_reader_drops() {
        let odd = "\u{1}v\u{2}n\u{1}\u{2}noise\u{2}\u{2}a\u{1}b\u{1}c\u{2}last\u{1}1";
        assert_eq!(iter(odd).collect::<Vec<_>>(), [("a", "b\u{1}c"), ("last", "1")]);
    }

    #[test]
    fn last_of_a_repeated_name_counts() {
        assert_eq!(find("a\u{1}1\u{2}a\u{1}2\u{2}", "a"), Some("2"));
    }

    #[test]
    fn push_closes_an_open_pair() {
        let mut properties = "a\u{1}1".to_owned();
        push(&mut properties, "b", "2");
        assert_eq!(iter(&properties).collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
    }

    #[test]
    fn without_borrows_when_nothing_is_removed() {
        let properties = "a\u{1}1\u{2}b\u{1}2\u{2}";
        assert!(matches!(without(properties, &["c"]), Cow::Borrowed(_)));
        assert_eq!(without(properties, &["a"]), "b\u{1}2\u{2}");
    }

    #[test]
    fn check_pair_refuses_what_would_be_lost() {
        check_pair("n", "v").unwrap();
        assert!(matches!(check_pair("", "v"), Err(PairError::NoName)));
        assert!(matches!(check_pair("n", ""), Err(PairError::NoValue { .. })));
        assert!(matches!(check_pair("n", "a\u{2}b"), Err(PairError::Reserved { .. })));
        assert!(matches!(check_pair("n\u{1}", "v"), Err(PairError::Reserved { .. })));
    }

    proptest! {
        #[test]
        fn pairs_survive(pairs: Vec<(String, String)>) {
            let pairs: Vec<_> =
                pairs.into_iter().filter(|(n, v)| check_pair(n, v).is_ok()).collect();
            let mut properties = String::new();
            for (name, value) in &pairs {
                push(&mut properties, name, value);
            }
            let read: Vec<_> =
                iter(&properties).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn any_text_can_be_read(text in any::<String>()) {
            for (name, value) in iter(&text) {
                prop_assert_eq!(find(&text, name).is_some(), true);
                prop_assert_eq!(value.is_empty(), false);
            }
        }
    }
}
