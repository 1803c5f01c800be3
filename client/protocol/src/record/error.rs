//! Why bytes are not a record, or a message cannot become one.

use thiserror::Error;

use crate::cursor::Fault;

/// Why bytes are not a record, or a message cannot become one.
///
/// From reading: the bytes are damaged or not a record's; skip or cut there. From encoding: the
/// message breaks a limit; answer "illegal message" with the sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecordError {
    /// The bytes end inside of the record.
    #[error("the record is cut: {field} needs {needed} bytes, {left} are left")]
    Truncated {
        /// Field that did not fit.
        field: &'static str,
        /// Bytes it needs.
        needed: usize,
        /// Bytes that are there.
        left: usize,
    },
    /// A length below zero.
    #[error("the record is damaged: the length of {field} is {length}")]
    NegativeLength {
        /// Field whose length it is.
        field: &'static str,
        /// The length as read.
        length: i64,
    },
    /// Neither version 1 nor version 2.
    #[error("no record starts here: its magic is {magic:08X}, expected DAA320A7 or DAA320AB")]
    Magic {
        /// The magic as read.
        magic: u32,
    },
    /// A total size that no record has.
    #[error("the record claims {size} bytes; a record has {min} to {max}")]
    Size {
        /// The size as read or computed.
        size: usize,
        /// Smallest record in bytes.
        min: usize,
        /// Largest record in bytes.
        max: usize,
    },
    /// The fields end before the total size does.
    #[error("the record is damaged: its fields end {unused} bytes before its total size of {size}")]
    Unused {
        /// Total size in bytes.
        size: u32,
        /// Bytes after the last field.
        unused: usize,
    },
    /// The record is not what its seal was made of, or the seal is damaged.
    #[error("the record is damaged: its checksum is {computed}, and its seal says otherwise")]
    Seal {
        /// Checksum of the record as it is.
        computed: u32,
    },
    /// Not UTF-8.
    #[error("the {field} of the record is not UTF-8 from byte {valid_up_to} on")]
    Text {
        /// `topic` or `properties`.
        field: &'static str,
        /// Bytes that are fine.
        valid_up_to: usize,
    },
    /// A port outside of 0 to 65535.
    #[error("the port of the {field} is {port}, expected 0 to 65535")]
    Port {
        /// `born host` or `store host`.
        field: &'static str,
        /// The port as read.
        port: i32,
    },
    /// The body is not what was stored.
    #[error("the body's checksum is {computed:08X}, the record says {stored:08X}: it is damaged")]
    Checksum {
        /// As stored in the record.
        stored: u32,
        /// Of the body as it is.
        computed: u32,
    },
    /// A part of a new message is longer than its limit.
    #[error("the {field} has {length} bytes, the limit is {max}; make it shorter")]
    TooLong {
        /// `topic`, `properties` or `record`.
        field: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// A zero byte in the text of a new message. The checksum does not cover text, so zeros in it are
    /// how a record is known that a crash has torn.
    #[error("the {field} contains a zero byte; leave it out")]
    Zero {
        /// `topic` or `property string`.
        field: &'static str,
    },
    /// A new message without a topic.
    #[error("the message has no topic; set one")]
    NoTopic,
}

impl From<Fault> for RecordError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Short { field, needed, left } => Self::Truncated { field, needed, left },
            Fault::Negative { field, length } => Self::NegativeLength { field, length },
        }
    }
}
