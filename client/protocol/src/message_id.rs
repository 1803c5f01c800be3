//! Message ids: the offset id, which says where a message is stored, and the unique id, which its
//! producer gives it. Both are upper-case hex text of 32 characters, 56 with IPv6.

use std::fmt::{self, Display, Formatter};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::str::{self, FromStr};
use std::sync::atomic::{AtomicU16, Ordering};

use thiserror::Error;

use crate::clock::Clock;
use crate::cursor::{Cursor, Fault};

/// Characters of an id with an IPv4 address.
pub const ID_V4_CHARS: usize = 32;
/// Characters of an id with an IPv6 address.
pub const ID_V6_CHARS: usize = 56;

const ID_V6_BYTES: usize = ID_V6_CHARS / 2;
const DAY_MS: i64 = 86_400_000;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    /// Neither 32 nor 56 characters.
    #[error("a message id has 32 or 56 characters, this one has {length}")]
    Length {
        /// Length of the text in bytes.
        length: usize,
    },
    /// A character that is no hexadecimal digit.
    #[error("a message id consists of hexadecimal digits, this one has none at byte {at}")]
    Digit {
        /// Position in bytes.
        at: usize,
    },
    /// A port outside of 0 to 65535.
    #[error("this is no offset id: its port would be {port}; it may be a unique id")]
    Port {
        /// The port as read.
        port: u32,
    },
}

/// Where a message is stored: the broker's address and the log offset of the record. Its text form
/// is the `msgId` of a send reply.
///
/// # Source: `MessageDecoder.createMessageId`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetId {
    /// Store host of the record.
    pub host: SocketAddr,
    /// Position of the record in the commit log, bytes.
    pub log_offset: i64,
}

impl Display for OffsetId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut hex = Hex::new();
        hex.ip(self.host.ip());
        hex.put(&u32::from(self.host.port()).to_be_bytes());
        hex.put(&self.log_offset.to_be_bytes());
        f.write_str(hex.as_str())
    }
}

/// Writes the offset ids of one broker, which differ in the log offset alone.
#[derive(Debug)]
pub struct OffsetIds {
    /// Everything before the log offset.
    head: String,
}

impl OffsetIds {
    /// For records with this store host.
    #[must_use]
    pub fn new(host: SocketAddr) -> Self {
        let mut head = OffsetId { host, log_offset: 0 }.to_string();
        head.truncate(head.len() - 2 * size_of::<i64>());
        Self { head }
    }

    /// Appends the id of the record at `log_offset`.
    pub fn push(&self, text: &mut String, log_offset: i64) {
        let mut hex = Hex::new();
        hex.put(&log_offset.to_be_bytes());
        text.push_str(&self.head);
        text.push_str(hex.as_str());
    }
}

impl FromStr for OffsetId {
    type Err = ParseError;

    /// Reads either case.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (bytes, length) = unhex(text)?;
        let mut fields = Cursor::new(bytes.get(..length).unwrap_or_default());
        // The length was checked, so no field lacks bytes.
        let read = |_| ParseError::Length { length: text.len() };
        let ip = read_ip(&mut fields, length).map_err(read)?;
        let port = fields.u32("port").map_err(read)?;
        let port = u16::try_from(port).map_err(|_| ParseError::Port { port })?;
        let log_offset = fields.i64("log offset").map_err(read)?;
        Ok(Self { host: SocketAddr::new(ip, port), log_offset })
    }
}

/// The parts of a unique id as RocketMQ's Java client makes them. Other clients have other layouts
/// of the same length: never reject an id because its parts look odd.
///
/// # Source: `MessageClientIDSetter`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniqueId {
    /// Address of the producer.
    pub ip: IpAddr,
    /// Lower 16 bits of its process id.
    pub pid: u16,
    /// Tells several producers of one process apart.
    pub loader_hash: u32,
    /// Milliseconds since the month began, in the producer's time zone.
    pub month_ms: u32,
    /// Counts the ids of one producer.
    pub counter: u16,
}

impl UniqueId {
    /// About when the id was made, Unix ms, seen from `now_ms`; exact if its producer counts
    /// months in UTC, else off by its time zone.
    #[must_use]
    pub fn near_time_ms(&self, now_ms: i64) -> i64 {
        let month = month_start_ms(now_ms);
        let time = month + i64::from(self.month_ms);
        if time <= now_ms { time } else { month_start_ms(month - 1) + i64::from(self.month_ms) }
    }
}

impl Display for UniqueId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut hex = Hex::new();
        hex.ip(self.ip);
        hex.put(&self.pid.to_be_bytes());
        hex.put(&self.loader_hash.to_be_bytes());
        hex.put(&self.month_ms.to_be_bytes());
        hex.put(&self.counter.to_be_bytes());
        f.write_str(hex.as_str())
    }
}

impl FromStr for UniqueId {
    type Err = ParseError;

    /// Reads either case.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (bytes, length) = unhex(text)?;
        let mut fields = Cursor::new(bytes.get(..length).unwrap_or_default());
        // The length was checked, so no field lacks bytes.
        let read = |_| ParseError::Length { length: text.len() };
        Ok(Self {
            ip: read_ip(&mut fields, length).map_err(read)?,
            pid: fields.u16("pid").map_err(read)?,
            loader_hash: fields.u32("loader hash").map_err(read)?,
            month_ms: fields.u32("month time").map_err(read)?,
            counter: fields.u16("counter").map_err(read)?,
        })
    }
}

/// Makes unique ids; share one per process or producer. Never blocks.
///
/// Two ids are equal only if one generator makes 65,536 within a millisecond, or its clock is set
/// back and the counter happens to stand where it stood.
#[derive(Debug)]
pub struct UniqueIds {
    clock: Clock,
    ip: IpAddr,
    pid: u16,
    loader_hash: u32,
    counter: AtomicU16,
}

impl UniqueIds {
    /// A generator for the process at `ip`. Months are counted in UTC.
    #[must_use]
    pub fn new(ip: IpAddr, clock: Clock) -> Self {
        // Containers often share an address and a process id; random bits keep them apart.
        let [a, b, c, d, e, f, ..] = RandomState::new().hash_one(ip).to_be_bytes();
        let [.., high, low] = std::process::id().to_be_bytes();
        Self {
            clock,
            ip,
            pid: u16::from_be_bytes([high, low]),
            loader_hash: u32::from_be_bytes([a, b, c, d]),
            counter: AtomicU16::new(u16::from_be_bytes([e, f])),
        }
    }

    /// A new id.
    #[must_use]
    pub fn make(&self) -> UniqueId {
        let now_ms = self.clock.now_ms();
        UniqueId {
            ip: self.ip,
            pid: self.pid,
            loader_hash: self.loader_hash,
            // A month has at most 2,678,400,000 ms.
            month_ms: u32::try_from(now_ms - month_start_ms(now_ms)).unwrap_or_default(),
            counter: self.counter.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// When the month of `now_ms` began, Unix ms, UTC.
fn month_start_ms(now_ms: i64) -> i64 {
    // Days since 0000-03-01 of the proleptic Gregorian calendar: with March as the first month the
    // leap day is the last day of a year, and months follow a linear rule.
    let days = now_ms.div_euclid(DAY_MS) + 719_468;
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5;
    (now_ms.div_euclid(DAY_MS) - day_of_month) * DAY_MS
}

/// Hex text of an id in the making; on the stack, for every send is answered with one.
struct Hex {
    text: [u8; ID_V6_CHARS],
    length: usize,
}

impl Hex {
    fn new() -> Self {
        Self { text: [0; ID_V6_CHARS], length: 0 }
    }

    fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.put(&ip.octets()),
            IpAddr::V6(ip) => self.put(&ip.octets()),
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        let digit = |nibble| nibble + if nibble < 10 { b'0' } else { b'A' - 10 };
        let free = self.text.get_mut(self.length..).unwrap_or_default();
        for (pair, byte) in free.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xF)]);
            self.length += 2;
        }
    }

    fn as_str(&self) -> &str {
        let text = self.text.get(..self.length).unwrap_or_default();
        str::from_utf8(text).expect("hex digits are ASCII")
    }
}

/// The bytes of an id and how many of them there are.
fn unhex(text: &str) -> Result<([u8; ID_V6_BYTES], usize), ParseError> {
    let length = text.len();
    if length != ID_V4_CHARS && length != ID_V6_CHARS {
        return Err(ParseError::Length { length });
    }
    let mut bytes = [0; ID_V6_BYTES];
    for (at, (byte, pair)) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)).enumerate() {
        for (side, &digit) in pair.iter().enumerate() {
            let nibble = char::from(digit)
                .to_digit(16)
                .and_then(|nibble| u8::try_from(nibble).ok())
                .ok_or(ParseError::Digit { at: 2 * at + side })?;
            *byte = *byte << 4 | nibble;
        }
    }
    Ok((bytes, length / 2))
}

fn read_ip(fields: &mut Cursor<'_>, id_bytes: usize) -> Result<IpAddr, Fault> {
    Ok(if id_bytes == ID_V6_BYTES {
        IpAddr::from(fields.array::<16>("address")?)
    } else {
        IpAddr::from(fields.array::<4>("address")?)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn offset_id_reads_lower_case_and_writes_upper_case() {
        let id: OffsetId = "0a00000100002a9f0000000000001000".parse().unwrap();
        assert_eq!(id, OffsetId { host: "10.0.0.1:10911".parse().unwrap(), log_offset: 4096 });
        assert_eq!(id.to_string(), "0A00000100002A9F0000000000001000");
    }

    #[test]
    fn what_is_no_id_is_refused_with_a_reason() {
        assert_eq!("".parse::<OffsetId>(), Err(ParseError::Length { length: 0 }));
        assert_eq!(
            "0A00000100002A9F000000000000100g".parse::<OffsetId>(),
            Err(ParseError::Digit { at: 31 })
        );
        let unique = "0A00000910E10BD2C1A9481908000007";
        assert_eq!(unique.parse::<OffsetId>(), Err(ParseError::Port { port: 0x10E1_0BD2 }));
        "é".repeat(16).parse::<UniqueId>().unwrap_err();
    }

    #[test]
    fn months_begin_at_midnight_utc_of_the_first() {
        let leap = |year| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let mut start = 0;
        for year in 1970..2110 {
            let february = if leap(year) { 29 } else { 28 };
            for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
                let next = start + days * DAY_MS;
                assert_eq!(month_start_ms(start), start, "first of a month of {year}");
                assert_eq!(month_start_ms(next - 1), start, "end of a month of {year}");
                start = next;
            }
        }
    }

    #[test]
    fn unique_id_remembers_when_it_was_made() {
        let now = 1_700_000_000_123;
        let (clock, hand) = Clock::manual(now);
        let id = UniqueIds::new("10.0.0.9".parse().unwrap(), clock).make();
        assert_eq!(id.near_time_ms(now), now);
        // Seen from early in the next month it is still of the month before.
        hand.set(1_701_388_800_000);
        assert_eq!(id.near_time_ms(1_701_388_800_000), now);
    }

    #[test]
    fn unique_ids_differ_within_and_between_generators() {
        let (clock, _hand) = Clock::manual(1_700_000_000_000);
        let ip = "10.0.0.9".parse().unwrap();
        let generators = [UniqueIds::new(ip, clock.clone()), UniqueIds::new(ip, clock)];
        let ids: HashSet<String> =
            generators.iter().flat_map(|ids| (0..1000).map(|_| ids.make().to_string())).collect();
        assert_eq!(ids.len(), 2000);
        assert!(ids.iter().all(|id| id.len() == ID_V4_CHARS));
    }

    proptest! {
        #[test]
        fn offset_ids_survive(ip: IpAddr, port: u16, log_offset: i64) {
            let id = OffsetId { host: SocketAddr::new(ip, port), log_offset };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn unique_ids_survive(ip: IpAddr, pid: u16, loader_hash: u32, month_ms: u32, counter: u16) {
            let id = UniqueId { ip, pid, loader_hash, month_ms, counter };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn any_text_can_be_tried(text in any::<String>()) {
            let _offset = text.parse::<OffsetId>();
            let _unique = text.parse::<UniqueId>();
        }
    }
}
