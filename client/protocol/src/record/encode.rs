//! Encoding: from the parts of a message to the bytes of its record.

use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, BytesMut};
use memchr::memchr;

use super::{QUEUE_OFFSET_AT, RECORD_MIN_BYTES, RecordError, SYS_FLAG_AT, Version, body_crc, seal};
use crate::{limits, sys_flag};

/// Store timestamp of a record whose born host is IPv4; 12 bytes later with IPv6.
const STORE_TIMESTAMP_AT: usize = 56;
/// How much longer an IPv6 address is than an IPv4 one.
const V6_EXTRA_BYTES: usize = 12;

/// Everything before the body, with two IPv6 hosts.
const HEAD_MAX_BYTES: usize = 112;

/// The parts of a message that is about to be stored.
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a> {
    /// Topic, 1 to 255 bytes.
    pub topic: &'a str,
    /// Queue of the topic.
    pub queue_id: i32,
    /// The user's own number.
    pub flag: i32,
    /// See [`sys_flag`]. The two address-family bits are taken from the hosts instead.
    pub sys_flag: i32,
    /// When the producer made the message, Unix ms.
    pub born_timestamp: i64,
    /// The producer's address as the broker sees it.
    pub born_host: SocketAddr,
    /// The broker's own address.
    pub store_host: SocketAddr,
    /// Deliveries so far.
    pub reconsume_times: i32,
    /// Log offset of the half message of a committed transaction, else 0.
    pub prepared_transaction_offset: i64,
    /// Body as it travels, possibly compressed.
    pub body: &'a [u8],
    /// Encoded properties in pieces that are stored one after the other, 32,767 bytes in all.
    pub properties: &'a [&'a str],
}

impl NewRecord<'_> {
    /// Size in bytes of the record that [`NewRecord::encode_sealed`] makes.
    #[must_use]
    pub fn sealed_len(&self) -> usize {
        self.encoded_len() + self.seal().len()
    }

    /// Size in bytes of the properties that [`NewRecord::encode_sealed`] stores.
    #[must_use]
    pub fn sealed_properties_len(&self) -> usize {
        self.properties_len() + self.seal().len()
    }

    /// The seal, not computed yet; nothing if the properties leave no room for it.
    fn seal(&self) -> &'static str {
        let last = self.properties.iter().rev().find(|piece| !piece.is_empty());
        let seal = match last {
            Some(last) if !last.ends_with('\u{2}') => seal::SEPARATED_BLANK,
            _ => seal::BLANK,
        };
        let fits = self.properties_len() + seal.len() <= limits::PROPERTIES_MAX_BYTES;
        if fits { seal } else { "" }
    }

    /// Size of the record in bytes, whether or not it is within the limits.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let version_extra = match Version::for_topic(self.topic.len()) {
            Version::V1 => 0,
            Version::V2 => 1,
        };
        let host_extra = [self.born_host, self.store_host]
            .map(|host| if host.is_ipv6() { V6_EXTRA_BYTES } else { 0 });
        RECORD_MIN_BYTES
            + version_extra
            + host_extra.iter().sum::<usize>()
            + self.body.len()
            + self.topic.len()
            + self.properties_len()
    }

    fn properties_len(&self) -> usize {
        self.properties.iter().map(|piece| piece.len()).sum()
    }

    /// Appends the record to `out`, with zero as queue offset, log offset and store timestamp;
    /// [`patch`] sets them. On an error `out` is as it was.
    ///
    /// # Errors
    /// [`RecordError::NoTopic`], [`RecordError::TooLong`] or [`RecordError::Zero`]: the message
    /// breaks a limit.
    pub fn encode(&self, out: &mut BytesMut) -> Result<(), RecordError> {
        self.encode_with(out, "")
    }

    /// As [`NewRecord::encode`], with the seal as last property: [`patch`] fills in a checksum of
    /// the whole record, and [`super::RecordView::verify`] compares it.
    ///
    /// # Errors
    /// As [`NewRecord::encode`].
    pub fn encode_sealed(&self, out: &mut BytesMut) -> Result<(), RecordError> {
        let begin = out.len();
        let seal = self.seal();
        self.encode_with(out, seal)?;
        let record = out.get(begin..).unwrap_or_default();
        if seal.is_empty() && seal::read(record).0 != seal::Seal::Absent {
            // It would be taken for a seal that is wrong.
            out.truncate(begin);
            let (field, length) = ("property string", self.properties_len());
            let max = limits::PROPERTIES_MAX_BYTES - seal::SEPARATED_BLANK.len();
            return Err(RecordError::TooLong { field, length, max });
        }
        Ok(())
    }

    fn encode_with(&self, out: &mut BytesMut, seal: &'static str) -> Result<(), RecordError> {
        let lengths = self.check(seal.len())?;
        let version = Version::for_topic(self.topic.len());
        // Gathered first: many small writes to a growing buffer cost more than the body's copy.
        let mut head = [0; HEAD_MAX_BYTES];
        let mut free = head.as_mut_slice();
        free.put_u32(lengths.total);
        free.put_u32(version.magic());
        free.put_u32(body_crc(self.body));
        free.put_i32(self.queue_id);
        free.put_i32(self.flag);
        free.put_i64(0); // queue offset
        free.put_i64(0); // log offset
        free.put_i32(self.sys_flag_with_families());
        free.put_i64(self.born_timestamp);
        put_host(&mut free, self.born_host);
        free.put_i64(0); // store timestamp
        put_host(&mut free, self.store_host);
        free.put_i32(self.reconsume_times);
        free.put_i64(self.prepared_transaction_offset);
        free.put_u32(lengths.body);
        let head_len = HEAD_MAX_BYTES - free.len();
        out.reserve(self.encoded_len() + seal.len());
        out.extend_from_slice(head.get(..head_len).unwrap_or_default());
        out.extend_from_slice(self.body);
        match version {
            Version::V1 => out.put_u8(lengths.topic),
            Version::V2 => out.put_u16(lengths.topic.into()),
        }
        out.extend_from_slice(self.topic.as_bytes());
        out.put_u16(lengths.properties);
        for piece in self.properties {
            out.extend_from_slice(piece.as_bytes());
        }
        out.extend_from_slice(seal.as_bytes());
        Ok(())
    }

    fn check(&self, seal_bytes: usize) -> Result<Lengths, RecordError> {
        let too_long = |field, length, max| RecordError::TooLong { field, length, max };
        if self.topic.is_empty() {
            return Err(RecordError::NoTopic);
        }
        let topic = u8::try_from(self.topic.len())
            .map_err(|_| too_long("topic", self.topic.len(), limits::TOPIC_INTERNAL_MAX_BYTES))?;
        let properties = self.properties_len() + seal_bytes;
        if properties > limits::PROPERTIES_MAX_BYTES {
            return Err(too_long("property string", properties, limits::PROPERTIES_MAX_BYTES));
        }
        if memchr(0, self.topic.as_bytes()).is_some() {
            return Err(RecordError::Zero { field: "topic" });
        }
        if self.properties.iter().any(|piece| memchr(0, piece.as_bytes()).is_some()) {
            return Err(RecordError::Zero { field: "property string" });
        }
        let total = self.encoded_len() + seal_bytes;
        if total > limits::RECORD_MAX_BYTES {
            return Err(too_long("record", total, limits::RECORD_MAX_BYTES));
        }
        // The total was just checked to be far below 4 GiB, so its parts are too.
        let narrow = |length| u32::try_from(length).map_err(|_| too_long("record", length, total));
        Ok(Lengths {
            total: narrow(total)?,
            body: narrow(self.body.len())?,
            topic,
            properties: u16::try_from(properties)
                .map_err(|_| too_long("property string", properties, total))?,
        })
    }

    fn sys_flag_with_families(&self) -> i32 {
        let mut flag = self.sys_flag & !(sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
        if self.born_host.is_ipv6() {
            flag |= sys_flag::BORN_HOST_V6;
        }
        if self.store_host.is_ipv6() {
            flag |= sys_flag::STORE_HOST_V6;
        }
        flag
    }
}

/// The lengths of a record in the widths in which it stores them.
struct Lengths {
    total: u32,
    body: u32,
    topic: u8,
    properties: u16,
}

fn put_host(out: &mut impl BufMut, host: SocketAddr) {
    match host.ip() {
        IpAddr::V4(ip) => out.put_slice(&ip.octets()),
        IpAddr::V6(ip) => out.put_slice(&ip.octets()),
    }
    out.put_u32(host.port().into());
}

/// Sets what is known only when the record's place in the log is: the queue offset (messages), the
/// log offset (bytes) and the store timestamp (Unix ms), and then the seal if there is one. `record`
/// is the record and nothing else.
///
/// # Errors
/// [`RecordError::Truncated`] if `record` is shorter than those fields; then nothing was written.
pub fn patch(
    record: &mut [u8],
    queue_offset: i64,
    log_offset: i64,
    store_timestamp: i64,
) -> Result<(), RecordError> {
    let left = record.len();
    let truncated = |needed| RecordError::Truncated { field: "store timestamp", needed, left };
    let flag = record
        .get(SYS_FLAG_AT..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map(|flag| i32::from_be_bytes(*flag))
        .ok_or_else(|| truncated(SYS_FLAG_AT + 4))?;
    let v6 = flag & sys_flag::BORN_HOST_V6 != 0;
    let time_at = STORE_TIMESTAMP_AT + if v6 { V6_EXTRA_BYTES } else { 0 };
    record
        .get_mut(time_at..)
        .and_then(|rest| rest.first_chunk_mut::<8>())
        .ok_or_else(|| truncated(time_at + 8))?
        .copy_from_slice(&store_timestamp.to_be_bytes());
    // The two offsets lie side by side.
    let offsets = (i128::from(queue_offset) << 64) | i128::from(log_offset.cast_unsigned());
    record
        .get_mut(QUEUE_OFFSET_AT..)
        .and_then(|rest| rest.first_chunk_mut::<16>())
        .ok_or_else(|| truncated(time_at + 8))?
        .copy_from_slice(&offsets.to_be_bytes());
    seal::close(record);
    Ok(())
}
