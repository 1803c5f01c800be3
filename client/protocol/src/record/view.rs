//! Reading: a record without copying it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str;

use super::seal::{self, Seal};
use super::{BLANK_MAGIC, RECORD_MIN_BYTES, RecordError, Version, body_crc};
use crate::cursor::Cursor;
use crate::{limits, property, sys_flag};

/// A record, its variable parts borrowed from the bytes it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Size of the record in bytes.
    pub total_size: u32,
    /// Layout version.
    pub version: Version,
    /// Stored checksum of the body.
    pub body_crc: u32,
    /// Queue of the topic.
    pub queue_id: i32,
    /// The user's own number.
    pub flag: i32,
    /// Position in the queue, in messages.
    pub queue_offset: i64,
    /// Position in the commit log, in bytes.
    pub log_offset: i64,
    /// See [`sys_flag`].
    pub sys_flag: i32,
    /// When the producer made the message, Unix ms.
    pub born_timestamp: i64,
    /// The producer's address as the broker saw it.
    pub born_host: SocketAddr,
    /// When the broker stored the message, Unix ms.
    pub store_timestamp: i64,
    /// Address of the broker that stored it.
    pub store_host: SocketAddr,
    /// Deliveries before this one.
    pub reconsume_times: i32,
    /// Log offset of the half message of a committed transaction, else 0.
    pub prepared_transaction_offset: i64,
    /// Body as it travels, possibly compressed.
    pub body: &'a [u8],
    /// Topic.
    pub topic: &'a str,
    /// Encoded properties; see [`property`].
    pub properties: &'a str,
    /// All of it.
    bytes: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// Parses the record that starts `bytes`; what follows it is ignored. Every length is checked
    /// against the record's own size; the body's checksum is not, see [`RecordView::verify`].
    ///
    /// # Errors
    /// [`RecordError`]: the bytes end too early, are damaged, or are no record.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, RecordError> {
        let total_size = Cursor::new(bytes).u32("total size")?;
        let bytes = whole(bytes, total_size)?;
        let mut fields = Cursor::new(bytes);
        fields.u32("total size")?;
        let magic = fields.u32("magic")?;
        let version = Version::from_magic(magic).ok_or(RecordError::Magic { magic })?;
        let body_crc = fields.u32("body checksum")?;
        let queue_id = fields.i32("queue id")?;
        let flag = fields.i32("flag")?;
        let queue_offset = fields.i64("queue offset")?;
        let log_offset = fields.i64("log offset")?;
        let sys_flag = fields.i32("system flag")?;
        let born_timestamp = fields.i64("born timestamp")?;
        let born_v6 = sys_flag & sys_flag::BORN_HOST_V6 != 0;
        let born_host = read_host(&mut fields, born_v6, "born host")?;
        let store_timestamp = fields.i64("store timestamp")?;
        let store_v6 = sys_flag & sys_flag::STORE_HOST_V6 != 0;
        let store_host = read_host(&mut fields, store_v6, "store host")?;
        let reconsume_times = fields.i32("reconsume times")?;
        let prepared_transaction_offset = fields.i64("prepared transaction offset")?;
        let body = fields.bytes_i32("body")?;
        let topic_bytes = match version {
            Version::V1 => fields.u8("topic")?.into(),
            Version::V2 => fields.u16("topic")?.into(),
        };
        let topic = text(fields.bytes(topic_bytes, "topic")?, "topic")?;
        let properties = text(fields.bytes_i16("properties")?, "properties")?;
        match fields.left() {
            0 => Ok(Self {
                total_size,
                version,
                body_crc,
                queue_id,
                flag,
                queue_offset,
                log_offset,
                sys_flag,
                born_timestamp,
                born_host,
                store_timestamp,
                store_host,
                reconsume_times,
                prepared_transaction_offset,
                body,
                topic,
                properties,
                bytes,
            }),
            unused => Err(RecordError::Unused { size: total_size, unused }),
        }
    }

    /// Compares the body with its stored checksum, and the whole record with its seal if it has
    /// one.
    ///
    /// # Errors
    /// [`RecordError::Checksum`] or [`RecordError::Seal`]: the record is damaged.
    pub fn verify(&self) -> Result<(), RecordError> {
        match seal::read(self.bytes) {
            (Seal::Absent, _) => {}
            (Seal::Stored(stored), computed) if stored == computed => {}
            (Seal::Stored(_) | Seal::Damaged, computed) => {
                return Err(RecordError::Seal { computed });
            }
        }
        let computed = body_crc(self.body);
        if computed == self.body_crc {
            Ok(())
        } else {
            Err(RecordError::Checksum { stored: self.body_crc, computed })
        }
    }

    /// Whether a part of the text reads as zeros, as what a crash kept from the disk does. The
    /// checksum covers the body alone, and no record is written with a zero in its text.
    #[must_use]
    pub fn is_torn(&self) -> bool {
        self.topic.contains('\0') || self.properties.contains('\0')
    }

    /// The value of a property; see [`property::find`].
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&'a str> {
        property::find(self.properties, name)
    }
}

/// The bytes of a record that claims `total_size`, no more and no fewer.
fn whole(bytes: &[u8], total_size: u32) -> Result<&[u8], RecordError> {
    // The magic is judged first: of garbage, it tells more than a size out of range does.
    let mut head = Cursor::new(bytes);
    head.u32("total size")?;
    let magic = head.u32("magic")?;
    if magic == BLANK_MAGIC || Version::from_magic(magic).is_none() {
        return Err(RecordError::Magic { magic });
    }
    let (min, max) = (RECORD_MIN_BYTES, limits::RECORD_MAX_BYTES);
    let size = usize::try_from(total_size).unwrap_or(usize::MAX);
    if !(min..=max).contains(&size) {
        return Err(RecordError::Size { size, min, max });
    }
    bytes.get(..size).ok_or(RecordError::Truncated {
        field: "record",
        needed: size,
        left: bytes.len(),
    })
}

fn read_host(
    fields: &mut Cursor<'_>,
    v6: bool,
    field: &'static str,
) -> Result<SocketAddr, RecordError> {
    let ip = if v6 {
        IpAddr::V6(Ipv6Addr::from(fields.array::<16>(field)?))
    } else {
        IpAddr::V4(Ipv4Addr::from(fields.array::<4>(field)?))
    };
    let port = fields.i32(field)?;
    let port = u16::try_from(port).map_err(|_| RecordError::Port { field, port })?;
    Ok(SocketAddr::new(ip, port))
}

fn text<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, RecordError> {
    str::from_utf8(bytes)
        .map_err(|error| RecordError::Text { field, valid_up_to: error.valid_up_to() })
}

/// The records that follow each other in `bytes`, as in the body of a pull response. After an
/// error there is nothing more.
pub fn iter(bytes: &[u8]) -> Records<'_> {
    Records { rest: bytes }
}

/// Iterator over concatenated records; see [`iter`].
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = RecordView::parse(self.rest);
        self.rest = match &parsed {
            Ok(view) => usize::try_from(view.total_size)
                .ok()
                .and_then(|size| self.rest.get(size..))
                .unwrap_or_default(),
            Err(_) => &[],
        };
        Some(parsed)
    }
}
