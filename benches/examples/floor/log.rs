//! The log, a mapped file in which records follow each other, and where each queue's records are.
//!
//! One `pwrite` for all records of a read, the other way, costs 1.3 times as much with batches of 32
//! and twice as much with one message a read; `sendfile` for pulls costs 1.5 times as much as one
//! `writev` from the mapping for all of them.

use std::{fs::File, io, net::SocketAddrV4, ops::Range, path::Path};

use bytes::BufMut as _;
use memmap2::MmapMut;

use super::reply::hex;

/// Size of the file, and of what is remembered.
const LOG_BYTES: u64 = 512 << 20;
/// A record without its body, topic and properties.
const FIXED_BYTES: usize = 91;
/// Magic number of a record, version 1.
const MAGIC: u32 = 0xDAA3_20A7;
/// Most queues; a larger number is refused.
const QUEUES_MAX: usize = 1 << 20;

/// An address and a port as records have them.
pub(crate) type Host = [u8; 8];

/// The form that records have an address in.
pub(crate) fn host(address: SocketAddrV4) -> Host {
    let mut host = [0; 8];
    let mut out = &mut host[..];
    out.put_slice(&address.ip().octets());
    out.put_u32(address.port().into());
    host
}

pub(crate) struct Log {
    map: MmapMut,
    /// How much was ever written; where the next record goes, modulo the size of the file.
    end: u64,
    store_host: Host,
    /// The same in digits.
    id_start: Vec<u8>,
    queues: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Queue offset of the first entry.
    first: u64,
    entries: Vec<Entry>,
}

/// Where a record lies, in all that was ever written.
#[derive(Clone, Copy)]
struct Entry {
    at: u64,
    size: u32,
}

/// The parts of a record that differ between messages.
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a [u8],
    pub(crate) flag: i64,
    pub(crate) sys_flag: i64,
    pub(crate) born_ms: i64,
    pub(crate) born_host: Host,
    pub(crate) deliveries: i64,
    pub(crate) store_ms: i64,
    pub(crate) body: &'a [u8],
    pub(crate) properties: &'a [u8],
}

/// Where a record went.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) log_offset: u64,
    pub(crate) queue_offset: u64,
}

impl Log {
    #[expect(
        unsafe_code,
        reason = "a mapped file is the cheapest log there is, and this is only a yardstick"
    )]
    pub(crate) fn new(dir: &Path, listen: SocketAddrV4) -> io::Result<Self> {
        let file: File = tempfile::tempfile_in(dir)?;
        // A full disk is an error here and a signal once it is mapped.
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, LOG_BYTES)?;
        // SAFETY: the file has no name, so that nobody else changes its bytes or its length.
        let mut map = unsafe { MmapMut::map_mut(&file) }?;
        // No page is to be found missing later.
        map.fill(0);
        let store_host = host(listen);
        let mut id_start = Vec::new();
        hex(&mut id_start, u64::from_be_bytes(store_host));
        Ok(Self { map, end: 0, store_host, id_start, queues: Vec::new() })
    }

    /// Writes a record and remembers it; `None` if something in it is too large.
    pub(crate) fn append(&mut self, queue_id: i64, message: &Message<'_>) -> Option<Stored> {
        let Message { topic, body, properties, .. } = message;
        let size = FIXED_BYTES + topic.len() + body.len() + properties.len();
        let total = u32::try_from(size).ok()?;
        let topic_len = u8::try_from(topic.len()).ok()?;
        let properties_len = u16::try_from(properties.len()).ok()?;
        let stored_queue = i32::try_from(queue_id).ok()?;
        let index = usize::try_from(queue_id).ok().filter(|index| *index < QUEUES_MAX)?;
        if self.end % LOG_BYTES + u64::from(total) > LOG_BYTES {
            self.begin_again();
        }
        if index >= self.queues.len() {
            self.queues.resize_with(index + 1, Queue::default);
        }
        let queue = self.queues.get_mut(index)?;
        let queue_offset = queue.next();
        let log_offset = self.end;
        let at = usize::try_from(log_offset % LOG_BYTES).ok()?;
        let mut out = self.map.get_mut(at..at + size)?;
        out.put_u32(total);
        out.put_u32(MAGIC);
        out.put_u32(crc32fast::hash(body) & 0x7fff_ffff);
        out.put_i32(stored_queue);
        out.put_i32(i32::try_from(message.flag).ok()?);
        out.put_u64(queue_offset);
        out.put_u64(log_offset);
        out.put_i32(i32::try_from(message.sys_flag).ok()?);
        out.put_i64(message.born_ms);
        out.put_slice(&message.born_host);
        out.put_i64(message.store_ms);
        out.put_slice(&self.store_host);
        out.put_i32(i32::try_from(message.deliveries).ok()?);
        out.put_i64(0);
        out.put_u32(u32::try_from(body.len()).ok()?);
        out.put_slice(body);
        out.put_u8(topic_len);
        out.put_slice(topic);
        out.put_u16(properties_len);
        out.put_slice(properties);
        queue.entries.push(Entry { at: log_offset, size: total });
        self.end += u64::from(total);
        Some(Stored { log_offset, queue_offset })
    }

    /// Goes on at the file's start, and forgets what is overwritten by now.
    fn begin_again(&mut self) {
        self.end = self.end.next_multiple_of(LOG_BYTES);
        let end = self.end;
        for queue in &mut self.queues {
            let gone = queue.gone(end);
            queue.first += u64::try_from(gone).unwrap_or_default();
            queue.entries.drain(..gone);
        }
    }

    /// How the ids of all messages begin.
    pub(crate) fn id_start(&self) -> &[u8] {
        &self.id_start
    }

    /// The first offset of a queue and the next one.
    pub(crate) fn bounds(&self, queue_id: i64) -> (u64, u64) {
        let queue = usize::try_from(queue_id).ok().and_then(|index| self.queues.get(index));
        queue.map_or((0, 0), |queue| (queue.min(self.end), queue.next()))
    }

    /// Adds where up to `count` messages from a queue offset within [`Log::bounds`] lie, neighbours
    /// together. Returns how many messages and bytes they are.
    pub(crate) fn runs(
        &self,
        queue_id: i64,
        from: u64,
        count: usize,
        runs: &mut Vec<(usize, Range<usize>)>,
    ) -> (u64, usize) {
        let queue = usize::try_from(queue_id).ok().and_then(|index| self.queues.get(index));
        let entries = queue.map_or(&[][..], |queue| {
            let at = usize::try_from(from.saturating_sub(queue.first)).unwrap_or(usize::MAX);
            queue.entries.get(at..).unwrap_or_default()
        });
        let (mut messages, mut bytes) = (0, 0);
        // A run never goes on from that of another pull.
        let mut end = None;
        for entry in entries.iter().take(count) {
            let start = usize::try_from(entry.at % LOG_BYTES).unwrap_or_default();
            let size = usize::try_from(entry.size).unwrap_or_default();
            match runs.last_mut() {
                Some((_, run)) if end == Some(start) => run.end += size,
                _ => runs.push((0, start..start + size)),
            }
            end = Some(start + size);
            messages += 1;
            bytes += size;
        }
        (messages, bytes)
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.map.get(range).unwrap_or_default()
    }
}

impl Queue {
    fn next(&self) -> u64 {
        self.first + u64::try_from(self.entries.len()).unwrap_or_default()
    }

    /// How many entries are of records that others lie over, when the log ends at `end`.
    fn gone(&self, end: u64) -> usize {
        match self.entries.first() {
            Some(first) if first.at + LOG_BYTES < end => {
                self.entries.partition_point(|entry| entry.at + LOG_BYTES < end)
            }
            _ => 0,
        }
    }

    fn min(&self, end: u64) -> u64 {
        self.first + u64::try_from(self.gone(end)).unwrap_or_default()
    }
}
