//! The body of a client-side batch: messages of one topic back to back. Layout: `WIRE.md`.

use std::str;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::cursor::{Cursor, Fault};
use crate::limits;

/// Size of a message's fixed fields: the smallest message of a batch.
pub const MESSAGE_MIN_BYTES: usize = 22;

/// One message of a batch. Topic, queue, system flag and born time are those of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The user's own number.
    pub flag: i32,
    /// Body.
    pub body: &'a [u8],
    /// Encoded properties, stored as they are.
    pub properties: &'a str,
}

/// Why a body is no batch, or a message cannot be added to one. Answer "illegal message" with the
/// sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Error {
    /// The body ends inside of a message.
    #[error("message {index} of the batch is cut: {field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// Position in the batch, from 0.
        index: usize,
        /// Field that did not fit.
        field: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length below zero.
    #[error("message {index} of the batch gives {field} a length of {length}")]
    NegativeLength {
        /// Position in the batch, from 0.
        index: usize,
        /// Field whose length it is.
        field: &'static str,
        /// The length as read.
        length: i64,
    },
    /// The fields do not end where the message's size says.
    #[error("message {index} of the batch claims {claimed} bytes, its fields have {actual}")]
    Size {
        /// Position in the batch, from 0.
        index: usize,
        /// Size as read.
        claimed: u32,
        /// Size of the fields in bytes.
        actual: usize,
    },
    /// Properties are not UTF-8.
    #[error("the properties of message {index} of the batch are not UTF-8")]
    Text {
        /// Position in the batch, from 0.
        index: usize,
    },
    /// Too many messages.
    #[error("the batch has more than {max} messages; split it")]
    TooMany {
        /// Most messages of a batch.
        max: usize,
    },
    /// Too long a part of a message to be encoded.
    #[error("the {field} has {length} bytes, the limit is {max}; make it shorter")]
    TooLong {
        /// `body` or `property string`.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
}

/// The messages of a batch body in their order. After an error there is nothing more. An empty body
/// has no messages; whoever expects some must check.
pub fn iter(body: &[u8]) -> Messages<'_> {
    Messages { rest: Cursor::new(body), index: 0 }
}

/// Iterator over a batch; see [`iter`].
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    rest: Cursor<'a>,
    index: usize,
}

impl<'a> Messages<'a> {
    fn read(&mut self) -> Result<Message<'a>, Error> {
        let index = self.index;
        if index == limits::BATCH_MAX_MESSAGES {
            return Err(Error::TooMany { max: index });
        }
        let cut = |fault| match fault {
            Fault::Short { field, needed, left } => Error::Truncated { index, field, needed, left },
            Fault::Negative { field, length } => Error::NegativeLength { index, field, length },
        };
        let before = self.rest.left();
        let claimed = self.rest.u32("size").map_err(cut)?;
        // Magic and checksum are zero and mean nothing.
        self.rest.u32("magic").map_err(cut)?;
        self.rest.u32("checksum").map_err(cut)?;
        let flag = self.rest.i32("flag").map_err(cut)?;
        let body = self.rest.bytes_i32("body").map_err(cut)?;
        let properties = self.rest.bytes_i16("properties").map_err(cut)?;
        let actual = before - self.rest.left();
        if usize::try_from(claimed) != Ok(actual) {
            return Err(Error::Size { index, claimed, actual });
        }
        let properties = str::from_utf8(properties).map_err(|_| Error::Text { index })?;
        Ok(Message { flag, body, properties })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.left() == 0 {
            return None;
        }
        let read = self.read();
        self.index += 1;
        if read.is_err() {
            self.rest = Cursor::new(&[]);
        }
        Some(read)
    }
}

impl Message<'_> {
    /// Size of the message in a batch, bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        MESSAGE_MIN_BYTES + self.body.len() + self.properties.len()
    }

    /// Appends the message to a batch body. On an error `out` is as it was.
    ///
    /// # Errors
    /// [`Error::TooLong`] if a part breaks its limit.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), Error> {
        let too_long = |field, length, max| Error::TooLong { field, length, max };
        let (body, properties) = (self.body.len(), self.properties.len());
        if properties > limits::PROPERTIES_MAX_BYTES {
            return Err(too_long("property string", properties, limits::PROPERTIES_MAX_BYTES));
        }
        if body > limits::RECORD_MAX_BYTES {
            return Err(too_long("body", body, limits::RECORD_MAX_BYTES));
        }
        let narrow = |length| u32::try_from(length).map_err(|_| too_long("body", length, body));
        let total = narrow(self.encoded_len())?;
        let body_length = narrow(body)?;
        let properties_length = u16::try_from(properties)
            .map_err(|_| too_long("property string", properties, properties))?;
        out.reserve(self.encoded_len());
        out.put_u32(total);
        out.put_u32(0); // magic
        out.put_u32(0); // checksum
        out.put_i32(self.flag);
        out.put_u32(body_length);
        out.put_slice(self.body);
        out.put_u16(properties_length);
        out.put_slice(self.properties.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    fn encode(messages: &[Message<'_>]) -> BytesMut {
        let mut out = BytesMut::new();
        for message in messages {
            let before = out.len();
            message.encode(&mut out).unwrap();
            assert_eq!(out.len() - before, message.encoded_len());
        }
        out
    }

    const ONE: Message<'_> = Message { flag: 1, body: b"one", properties: "TAGS\u{1}a\u{2}" };

    #[test]
    fn sizes_must_agree() {
        let mut body = encode(&[ONE, ONE]);
        body[3] += 1;
        let read: Vec<_> = iter(&body).collect();
        assert_eq!(read, [Err(Error::Size { index: 0, claimed: 33, actual: 32 })]);
    }

    #[test]
    fn a_cut_batch_names_the_message_and_the_field() {
        let body = encode(&[ONE, ONE]);
        let last = iter(&body[..body.len() - 1]).last().unwrap();
        assert_eq!(
            last.unwrap_err().to_string(),
            "message 1 of the batch is cut: properties needs 7 bytes, 6 are left"
        );
    }

    #[test]
    fn negative_lengths_are_refused() {
        let mut body = encode(&[ONE]);
        body[16] = 0x80;
        assert!(matches!(
            iter(&body).next(),
            Some(Err(Error::NegativeLength { index: 0, field: "body", .. }))
        ));
    }

    #[test]
    fn number_of_messages_is_bounded() {
        let small = encode(&[Message { flag: 0, body: b"", properties: "" }]);
        let body = small.repeat(limits::BATCH_MAX_MESSAGES + 1);
        assert_eq!(iter(&body).filter(Result::is_ok).count(), limits::BATCH_MAX_MESSAGES);
        assert_eq!(iter(&body).last(), Some(Err(Error::TooMany { max: 65_536 })));
    }

    #[test]
    fn too_long_properties_are_not_encoded() {
        let long = "p".repeat(32_768);
        let mut out = BytesMut::new();
        let message = Message { properties: &long, ..ONE };
        assert!(matches!(message.encode(&mut out), Err(Error::TooLong { .. })));
        assert!(out.is_empty());
    }

    proptest! {
        #[test]
        fn every_batch_survives(messages in vec(any::<(i32, Vec<u8>, String)>(), 0..5)) {
            let messages: Vec<_> = messages
                .iter()
                .map(|(flag, body, properties)| Message { flag: *flag, body, properties })
                .collect();
            let body = encode(&messages);
            let read: Result<Vec<_>, _> = iter(&body).collect();
            prop_assert_eq!(read.unwrap(), messages);
        }

        #[test]
        fn damage_never_panics(cut in any::<usize>(), at in any::<usize>(), bit in 0..8_u32) {
            let mut body = encode(&[ONE, ONE]);
            let at = at % body.len();
            body[at] ^= 1_u8 << bit;
            body.truncate(cut % (body.len() + 1));
            let _count = iter(&body).count();
        }
    }
}
