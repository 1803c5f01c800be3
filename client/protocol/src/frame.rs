//! One frame: a request or a reply as it travels. Layout: WIRE.md.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use thiserror::Error;

use crate::{
    code::ResponseCode,
    header::{Encode, FieldWriter, Fields, binary, json},
    limits,
};

/// The protocol version that this project speaks, as RocketMQ counts: the ordinal of `V5_3_3`.
pub const VERSION: i32 = 479;

const FLAG_REPLY: i32 = 1;
const FLAG_ONEWAY: i32 = 2;

/// How a frame's header is written. A reply uses the encoding of its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Encoding {
    /// One JSON object; type byte 0.
    Json,
    /// RocketMQ's binary form; type byte 1.
    Binary,
}

macro_rules! languages {
    ($($(#[$doc:meta])* $name:ident = $byte:literal $text:literal,)*) => {
        /// The language a peer says it is written in. Shown in connection lists, decides nothing.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Language { $($(#[$doc])* $name,)* }

        impl Language {
            /// The name on the wire.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            pub(crate) fn as_byte(self) -> u8 {
                match self { $(Self::$name => $byte,)* }
            }

            pub(crate) fn from_byte(byte: u8) -> Self {
                match byte { $($byte => Self::$name,)* _ => Self::Other }
            }

            /// By name or by ordinal; what is unknown is [`Language::Other`].
            pub(crate) fn from_text(text: &str) -> Self {
                match text {
                    $($text => Self::$name,)*
                    other => other.parse().map_or(Self::Other, Self::from_byte),
                }
            }
        }
    };
}

languages! {
    /// Java.
    Java = 0 "JAVA",
    /// C++.
    Cpp = 1 "CPP",
    /// .NET.
    Dotnet = 2 "DOTNET",
    /// Python.
    Python = 3 "PYTHON",
    /// Delphi.
    Delphi = 4 "DELPHI",
    /// Erlang.
    Erlang = 5 "ERLANG",
    /// Ruby.
    Ruby = 6 "RUBY",
    /// Anything else, and what is unknown.
    Other = 7 "OTHER",
    /// A gateway from HTTP.
    Http = 8 "HTTP",
    /// Go.
    Go = 9 "GO",
    /// PHP.
    Php = 10 "PHP",
    /// OpenMessaging.
    Oms = 11 "OMS",
    /// Rust.
    Rust = 12 "RUST",
    /// Node.js.
    NodeJs = 13 "NODE_JS",
}

/// A received frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Request code, or response code of a reply.
    pub code: i32,
    /// What the peer is written in.
    pub language: Language,
    /// The peer's protocol version, as [`VERSION`] counts.
    pub version: i32,
    /// Chosen by the sender of a request, repeated in its reply.
    pub opaque: i32,
    /// Bit 0 reply, bit 1 one-way.
    pub flag: i32,
    /// How the header was written.
    pub encoding: Encoding,
    /// The description of an error, if any.
    pub remark: Option<String>,
    /// The header's fields.
    pub fields: Fields,
    /// What follows the header.
    pub body: Bytes,
}

/// What a reply needs to know of its request.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    /// The request's code.
    pub code: i32,
    /// The request's opaque.
    pub opaque: i32,
    /// The request's encoding.
    pub encoding: Encoding,
    /// Whether no reply is wanted.
    pub oneway: bool,
}

/// Why bytes are not a frame. The connection cannot go on: what follows has no known start.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Malformed {
    /// The length prefix exceeds the cap.
    #[error(
        "the peer announces a frame of {length} bytes, at most {max} are accepted{hint}",
        max = limits::FRAME_MAX_BYTES
    )]
    TooLong {
        /// The announced length in bytes.
        length: u32,
        /// What the bytes look like instead, if known.
        hint: &'static str,
    },
    /// The length prefix cannot hold a header.
    #[error("the peer announces a frame of {length} bytes, at least 5 are needed")]
    TooShort {
        /// The announced length in bytes.
        length: u32,
    },
    /// The header would not end inside the frame.
    #[error("the header is said to have {header} bytes in a frame of {frame} bytes")]
    HeaderTooLong {
        /// Announced header length in bytes.
        header: usize,
        /// Frame length in bytes.
        frame: usize,
    },
    /// The type byte is neither 0 nor 1.
    #[error("header type {0} is unknown, expected 0 (JSON) or 1 (binary)")]
    UnknownEncoding(u8),
    /// The header ends early.
    #[error("the header ends inside its {what}")]
    Truncated {
        /// What was being read.
        what: &'static str,
    },
    /// A length inside the header is negative.
    #[error("the {what} is said to have {length} bytes")]
    Length {
        /// What was being read.
        what: &'static str,
        /// The announced length.
        length: i64,
    },
    /// Text is not UTF-8.
    #[error("the {what} is not UTF-8")]
    Utf8 {
        /// What was being read.
        what: &'static str,
    },
    /// The header is not the JSON it claims to be.
    #[error("the JSON header has something else than {expected} at byte {position}")]
    Json {
        /// What would have been accepted.
        expected: &'static str,
        /// Where, in bytes from the header's start.
        position: usize,
    },
    /// A number of the header does not fit 32 bits or is not one.
    #[error("the JSON header's {what} at byte {position} is not a 32-bit integer")]
    Number {
        /// The key.
        what: &'static str,
        /// Where, in bytes from the header's start.
        position: usize,
    },
    /// The JSON header lacks a code.
    #[error("the JSON header has no code")]
    NoCode,
    /// More fields than any client sends.
    #[error("the header has more than {max} fields", max = limits::HEADER_FIELDS_MAX)]
    TooManyFields,
}

/// Takes one whole frame, without its length prefix, off the front of `buffer`; `None` when more
/// bytes are needed.
///
/// # Errors
///
/// When the length prefix is impossible; close the connection.
pub fn split(buffer: &mut BytesMut) -> Result<Option<Bytes>, Malformed> {
    let Some(prefix) = buffer.first_chunk::<4>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes(*prefix);
    let total = usize::try_from(length).unwrap_or(usize::MAX).saturating_add(4);
    if total > limits::FRAME_MAX_BYTES {
        return Err(Malformed::TooLong { length, hint: hint(*prefix) });
    }
    if length < 5 {
        return Err(Malformed::TooShort { length });
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let mut frame = buffer.split_to(total);
    frame.advance(4);
    Ok(Some(frame.freeze()))
}

/// What an impossible length prefix often is.
fn hint(prefix: [u8; 4]) -> &'static str {
    match &prefix {
        [0x16, 3, ..] => "; this looks like TLS, which is not served on this port",
        b"GET " | b"POST" | b"HEAD" => "; this looks like HTTP",
        b"PROX" | [0x0d, 0x0a, 0x0d, 0x0a] => {
            "; this looks like the PROXY protocol, which is not served"
        }
        _ => "",
    }
}

impl Frame {
    /// Decodes a frame as [`split`] returns it: type byte, header length, header, body.
    ///
    /// # Errors
    ///
    /// When the bytes are not a frame; log the reason and close the connection.
    pub fn decode(mut frame: Bytes) -> Result<Self, Malformed> {
        let length = frame.len();
        if length < 4 {
            return Err(Malformed::Truncated { what: "header length" });
        }
        let mark = frame.get_u32();
        let header_length = usize::try_from(mark & 0x00ff_ffff).unwrap_or(usize::MAX);
        if header_length > frame.len() || header_length > limits::HEADER_MAX_BYTES {
            return Err(Malformed::HeaderTooLong { header: header_length, frame: length });
        }
        let header = frame.split_to(header_length);
        let [encoding, ..] = mark.to_be_bytes();
        let mut decoded = match encoding {
            0 => json::decode(header)?,
            1 => binary::decode(header)?,
            other => return Err(Malformed::UnknownEncoding(other)),
        };
        decoded.body = frame;
        Ok(decoded)
    }

    /// Whether this answers a request.
    pub fn is_reply(&self) -> bool {
        self.flag & FLAG_REPLY != 0
    }

    /// Whether the sender wants no reply.
    pub fn is_oneway(&self) -> bool {
        self.flag & FLAG_ONEWAY != 0
    }

    /// The same frame in memory of its own. A received frame keeps the whole buffer that it was
    /// read into; whoever holds one for long detaches it first.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.fields.detach();
        self.body = Bytes::copy_from_slice(&self.body);
        self
    }

    /// What the reply to this request needs.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            code: self.code,
            opaque: self.opaque,
            encoding: self.encoding,
            oneway: self.is_oneway(),
        }
    }

    /// The response code, when this is a reply.
    pub fn response_code(&self) -> ResponseCode {
        ResponseCode(self.code)
    }
}

/// The fixed part of a header to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// Request or response code.
    pub code: i32,
    /// What this peer is written in.
    pub language: Language,
    /// This peer's protocol version.
    pub version: i32,
    /// Request id.
    pub opaque: i32,
    /// Bit 0 reply, bit 1 one-way.
    pub flag: i32,
    /// The description of an error.
    pub remark: Option<&'a str>,
    /// How the header is written.
    pub encoding: Encoding,
}

impl<'a> Head<'a> {
    /// The head of a request of this project.
    pub fn request(code: i32, opaque: i32, encoding: Encoding, oneway: bool) -> Self {
        let flag = if oneway { FLAG_ONEWAY } else { 0 };
        Self {
            code,
            language: Language::Rust,
            version: VERSION,
            opaque,
            flag,
            remark: None,
            encoding,
        }
    }

    /// The head of the reply to `ticket`.
    pub fn reply(ticket: Ticket, code: ResponseCode, remark: Option<&'a str>) -> Self {
        Self {
            code: code.0,
            language: Language::Rust,
            version: VERSION,
            opaque: ticket.opaque,
            flag: FLAG_REPLY,
            remark,
            encoding: ticket.encoding,
        }
    }
}

/// Appends a frame's prefix and header to `out`; `body_len` bytes of body must follow.
///
/// # Panics
///
/// When header and body exceed 4 GiB together; senders keep to [`limits::FRAME_MAX_BYTES`].
pub fn write(
    out: &mut BytesMut,
    head: &Head<'_>,
    header: &(impl Encode + ?Sized),
    body_len: usize,
) {
    let start = out.len();
    out.put_u64(0);
    match head.encoding {
        Encoding::Json => {
            json::write_head(out, head);
            header.encode(&mut FieldWriter::new(out, Encoding::Json));
            json::write_tail(out, head);
        }
        Encoding::Binary => {
            binary::write_head(out, head);
            let fields = out.len();
            out.put_u32(0);
            header.encode(&mut FieldWriter::new(out, Encoding::Binary));
            let length = out.len() - fields - 4;
            put_u32_at(out, fields, length);
        }
    }
    let header_len = out.len() - start - 8;
    let mark = match head.encoding {
        Encoding::Json => 0,
        Encoding::Binary => 1 << 24,
    };
    put_u32_at(out, start, 4 + header_len + body_len);
    put_u32_at(out, start + 4, mark | header_len);
}

fn put_u32_at(out: &mut BytesMut, at: usize, value: usize) {
    let value = u32::try_from(value).expect("frames are bounded well below 4 GiB");
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}
