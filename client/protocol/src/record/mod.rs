//! The stored record: what a commit log holds and a pull response carries, byte for byte.
//!
//! [`NewRecord`] encodes, [`patch`] fills in what only the append lock knows, [`RecordView`] reads
//! without copying, [`frame_len`] lets a scanner step. The layout is in `WIRE.md`.

mod encode;
mod error;
mod seal;
mod view;

pub use encode::patch;
#[expect(
    clippy::module_name_repetitions,
    reason = "`New`, `Error`, `View` say too little elsewhere"
)]
pub use {
    encode::NewRecord,
    error::RecordError,
    view::{RecordView, Records, iter},
};

use crate::limits;

/// Magic of a version 1 record: the length of the topic is one byte.
pub const MAGIC_V1: u32 = 0xDAA3_20A7;
/// Magic of a version 2 record: the length of the topic is two bytes. Go and C++ clients cannot
/// read it, so it is used for topics over 127 bytes only.
pub const MAGIC_V2: u32 = 0xDAA3_20AB;
/// Magic of the filler that ends a commit-log segment. It is never sent.
pub const BLANK_MAGIC: u32 = 0xCBD4_3194;

/// Position of the queue offset in every record.
pub const QUEUE_OFFSET_AT: usize = 20;
/// Position of the log offset in every record.
pub const LOG_OFFSET_AT: usize = 28;
/// Position of the system flag in every record.
pub const SYS_FLAG_AT: usize = 36;
/// Size of the fixed fields of a version 1 record with IPv4 hosts: the smallest record.
pub const RECORD_MIN_BYTES: usize = 91;
/// Size of the blank filler's head, and so the least room that must stay free at a segment's end.
pub const BLANK_BYTES: usize = 8;

/// Layout version of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One byte of topic length.
    V1,
    /// Two bytes of topic length.
    V2,
}

impl Version {
    /// The version that a topic of `topic_bytes` needs.
    #[must_use]
    pub const fn for_topic(topic_bytes: usize) -> Self {
        if topic_bytes > limits::TOPIC_MAX_BYTES { Self::V2 } else { Self::V1 }
    }

    /// The magic number of this version.
    #[must_use]
    pub const fn magic(self) -> u32 {
        match self {
            Self::V1 => MAGIC_V1,
            Self::V2 => MAGIC_V2,
        }
    }

    const fn from_magic(magic: u32) -> Option<Self> {
        match magic {
            MAGIC_V1 => Some(Self::V1),
            MAGIC_V2 => Some(Self::V2),
            _ => None,
        }
    }
}

/// What starts at a position of a commit log, judged by its first eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A record of so many bytes, its own length included.
    Record {
        /// Whole size in bytes.
        size: u32,
        /// Layout version.
        version: Version,
    },
    /// Nothing up to the end of the segment, so many bytes, the filler's head included.
    Blank {
        /// Whole size in bytes.
        size: u32,
    },
}

impl Head {
    /// How many bytes to step to reach what follows.
    #[must_use]
    pub const fn size(self) -> u32 {
        match self {
            Self::Record { size, .. } | Self::Blank { size } => size,
        }
    }
}

/// Reads size and magic of what starts `bytes`, so that a scanner can step over it. `None` if the
/// first eight bytes are no plausible head: too few, an unknown magic, or a size that no record
/// has. The rest need not be present and is not looked at.
#[must_use]
pub fn frame_len(bytes: &[u8]) -> Option<Head> {
    let (size, rest) = bytes.split_first_chunk::<4>()?;
    let size = u32::from_be_bytes(*size);
    let magic = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    let length = usize::try_from(size).ok()?;
    if magic == BLANK_MAGIC {
        return (length >= BLANK_BYTES).then_some(Head::Blank { size });
    }
    let version = Version::from_magic(magic)?;
    (RECORD_MIN_BYTES..=limits::RECORD_MAX_BYTES)
        .contains(&length)
        .then_some(Head::Record { size, version })
}

/// The head of the filler for a segment that has `remaining` bytes left, itself included; at least
/// [`BLANK_BYTES`]. What follows it up to the end of the segment has no meaning.
#[must_use]
pub fn blank(remaining: u32) -> [u8; BLANK_BYTES] {
    debug_assert!(usize::try_from(remaining).is_ok_and(|r| r >= BLANK_BYTES));
    (u64::from(remaining) << 32 | u64::from(BLANK_MAGIC)).to_be_bytes()
}

/// The checksum that a record stores for `body`: CRC-32 (IEEE) without its top bit, 0 if empty.
#[must_use]
pub fn body_crc(body: &[u8]) -> u32 {
    crc32fast::hash(body) & 0x7FFF_FFFF
}

#[cfg(test)]
mod tests;
