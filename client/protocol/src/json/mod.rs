//! The JSON of bodies: reads every dialect that RocketMQ's clients, brokers and tools write, and
//! writes what all of them read.
//!
//! RocketMQ's own library (fastjson) writes maps with bare numbers as keys (`{0:"a"}`) and with
//! objects as keys (`{{"brokerName":"b","queueId":0,"topic":"T"}:5}`), replaces repeated objects by
//! `{"$ref":…}`, and reads numbers from strings and strings from numbers. None of that survives a
//! strict JSON parser, so reader and writer are our own, behind serde's traits:
//!
//! * [`decode`] takes all of that, and bare or single-quoted keys, raw line breaks in strings,
//!   trailing commas, maps as lists of pairs, and objects inside of strings as keys. Entries that
//!   are `null` or a `$ref` count as absent, so give every field a default.
//! * [`encode`] writes compact JSON with fields in the order of declaration (declare them
//!   alphabetically), leaves out `null` entries, and quotes every map key except objects.

mod de;
mod reader;
mod ser;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use thiserror::Error;

use self::reader::Reader;
use crate::limits;

/// Why a body is not the JSON that a request calls for. Answer with the sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[expect(clippy::module_name_repetitions, reason = "converted from in crates with many errors")]
pub enum JsonError {
    /// No body.
    #[error("the body is empty, a JSON object is expected")]
    Empty,
    /// A body over the limit.
    #[error("the body has {size} bytes of JSON, the limit is {max}")]
    TooLarge {
        /// Size in bytes.
        size: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// Nesting over the limit.
    #[error("the JSON is nested deeper than {max} levels at byte {at}")]
    TooDeep {
        /// Position in bytes.
        at: usize,
        /// The limit in levels.
        max: usize,
    },
    /// Not JSON, not even for RocketMQ.
    #[error("the JSON is damaged at byte {at}: expected {expected}, found {found}")]
    Syntax {
        /// Position in bytes.
        at: usize,
        /// What would have been right.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// JSON, but a value does not fit its field.
    #[error("the JSON does not fit before byte {at}: {message}")]
    Mismatch {
        /// Position after the value, in bytes.
        at: usize,
        /// Which value and why.
        message: String,
    },
}

/// Reads a body.
///
/// # Errors
/// [`JsonError`]: too large, too deep, damaged, or not of the shape of `T`.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, JsonError> {
    if body.len() > limits::JSON_MAX_BYTES {
        return Err(JsonError::TooLarge { size: body.len(), max: limits::JSON_MAX_BYTES });
    }
    // Java replaces what is not UTF-8 and goes on.
    let text = String::from_utf8_lossy(body);
    let mut reader = Reader::new(text.trim_start_matches('\u{feff}'));
    if reader.peek().is_none() {
        return Err(JsonError::Empty);
    }
    match T::deserialize(&mut reader) {
        Ok(value) => reader.expect_end().map(|()| value),
        Err(JsonError::Mismatch { message, .. }) => {
            Err(JsonError::Mismatch { at: reader.at(), message })
        }
        Err(error) => Err(error),
    }
}

/// Writes a body.
///
/// # Panics
/// If `T`'s own `Serialize` fails; none in this crate does.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Bytes {
    let mut out = Vec::with_capacity(256);
    value.serialize(ser::Writer::new(&mut out)).expect("writing JSON to memory does not fail");
    out.into()
}

/// Reads an enum's name from its name or its ordinal, for `#[serde(deserialize_with)]`. C++
/// clients send ordinals. An unknown name is kept, for it is only shown.
pub(crate) fn enum_name<'de, D: Deserializer<'de>>(
    deserializer: D,
    names: &[&str],
) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name = text.parse().ok().and_then(|ordinal: usize| names.get(ordinal));
    Ok(name.map_or(text, |&name| name.to_owned()))
}

#[cfg(test)]
mod tests;
