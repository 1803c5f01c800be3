//! What a model store keeps: bytes of records and changes of rows, each with an end of what is
//! durable.

use bytes::Bytes;

use super::{Bug, Random, bug};
use crate::ha::replica::{Epoch, Work};

/// Length of a segment.
pub(super) const SEGMENT: u64 = 128;
/// Queues of the model.
pub(super) const QUEUES: u8 = 2;
const HEADER: usize = 8;

/// A record: who it is and where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) queue: u8,
    pub(super) offset: u16,
    pub(super) id: u32,
}

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Epoch(Epoch),
    /// A queue's entry.
    Entry {
        at: u64,
        id: u32,
    },
    /// Some state.
    Set(u64),
    /// Recovery: entries from here on are gone.
    Cut(u64),
    /// Retention: the log begins here.
    LogMin(u64),
}

/// A batch of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) first: u64,
    pub(super) last: u64,
    /// The index speaks of the log up to here.
    pub(super) needs: u64,
    pub(super) kind: Kind,
    /// Checksum of everything up to here.
    pub(super) chain: u32,
}

impl Row {
    pub(super) fn bytes(&self) -> Bytes {
        let Self { first, last, needs, kind, .. } = *self;
        let (tag, a, b, c, d) = match kind {
            Kind::Epoch(it) => (0, it.number, it.leader, it.log_start, it.sequence_start),
            Kind::Entry { at, id } => (1, at, u64::from(id), 0, 0),
            Kind::Set(value) => (2, value, 0, 0, 0),
            Kind::Cut(end) => (3, end, 0, 0, 0),
            Kind::LogMin(at) => (4, at, 0, 0, 0),
        };
        let words = [first, last, needs, tag, a, b, c, d];
        words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>().into()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |i: usize| Some(u64::from_be_bytes(*bytes.get(i * 8..)?.first_chunk()?));
        let [a, b, c, d] = [word(4)?, word(5)?, word(6)?, word(7)?];
        let kind = match word(3)? {
            0 => Kind::Epoch(Epoch { number: a, leader: b, log_start: c, sequence_start: d }),
            1 => Kind::Entry { at: a, id: u32::try_from(b).ok()? },
            2 => Kind::Set(a),
            3 => Kind::Cut(a),
            _ => Kind::LogMin(a),
        };
        Some(Self { first: word(0)?, last: word(1)?, needs: word(2)?, kind, chain: 0 })
    }
}

/// A snapshot that arrives: its number, what it is, and the bytes of its files.
#[derive(Clone, Debug, Default)]
pub(super) struct Staged {
    pub(super) id: u64,
    pub(super) files: Vec<(String, Vec<u8>)>,
    pub(super) finished: bool,
}

/// What outlives a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) store_id: u64,
    pub(super) log_min: u64,
    pub(super) log: Vec<u8>,
    pub(super) flushed: u64,
    pub(super) rows: Vec<Row>,
    pub(super) durable_rows: usize,
    /// Changes before this one cannot be told one by one.
    pub(super) kept_from: u64,
    pub(super) seen_epoch: u64,
    pub(super) work: Option<Work>,
    pub(super) staged: Staged,
}

impl Disk {
    pub(super) fn end(&self) -> u64 {
        self.log_min + self.log.len() as u64
    }

    pub(super) fn sequence(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.last)
    }

    pub(super) fn durable_sequence(&self) -> u64 {
        self.rows[..self.durable_rows].last().map_or(0, |row| row.last)
    }

    pub(super) fn index_end(&self) -> u64 {
        self.rows.last().map_or(0, |row| row.needs)
    }

    pub(super) fn epochs(&self) -> Vec<Epoch> {
        let epoch = |row: &Row| match row.kind {
            Kind::Epoch(epoch) => Some(epoch),
            _ => None,
        };
        self.rows.iter().filter_map(epoch).collect()
    }

    /// The newest epoch whose beginning it has, and its end: who has the larger one has all that
    /// was promised.
    pub(super) fn reach(&self) -> (u64, u64) {
        if self.log.is_empty() {
            return (0, 0);
        }
        let end = self.end();
        let epochs = self.epochs();
        let of_end = epochs.iter().rev().find(|epoch| epoch.log_start <= end);
        (of_end.map_or(0, |epoch| epoch.number), end)
    }

    pub(super) fn push(&mut self, mut row: Row) {
        let before = self.rows.last().map_or(0, |row| row.chain);
        let mut crc = crc32fast::Hasher::new_with_initial(before);
        crc.update(&row.bytes());
        row.chain = crc.finalize();
        self.rows.push(row);
        if let Kind::LogMin(at) = row.kind {
            self.trim(at);
        }
    }

    /// Adds a change as the master does.
    pub(super) fn change(&mut self, kind: Kind, needs: u64, operations: u64) {
        let first = self.sequence() + 1;
        self.push(Row { first, last: first + operations - 1, needs, kind, chain: 0 });
    }

    fn trim(&mut self, at: u64) {
        if at > self.log_min && at <= self.end() {
            self.log.drain(..(at - self.log_min) as usize);
            self.log_min = at;
        }
    }

    pub(super) fn slice(&self, from: u64, to: u64) -> Option<&[u8]> {
        let (from, to) = (from.checked_sub(self.log_min)?, to.checked_sub(self.log_min)?);
        self.log.get(from as usize..to as usize)
    }

    /// The record at an offset.
    pub(super) fn record(&self, at: u64) -> Option<Record> {
        let rest = self.log.get(at.checked_sub(self.log_min)? as usize..)?;
        parse(rest, at)
    }

    pub(super) fn records(&self, from: u64) -> impl Iterator<Item = Record> + '_ {
        let mut at = from.max(self.log_min);
        std::iter::from_fn(move || {
            while at < self.end() {
                match self.record(at) {
                    Some(record) => {
                        at = record.end;
                        return Some(record);
                    }
                    None => at = (at / SEGMENT + 1) * SEGMENT,
                }
            }
            None
        })
    }

    /// Appends a record, in the next segment if this one is too full.
    pub(super) fn append(&mut self, queue: u8, offset: u16, id: u32, len: u64) {
        let left = SEGMENT - self.end() % SEGMENT;
        if left < len {
            self.log.resize(self.log.len() + left as usize, 0);
        }
        let mut bytes = vec![len as u8, queue];
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.resize(len as usize, id as u8);
        self.log.extend_from_slice(&bytes);
    }

    /// The machine loses power: of what is not durable a part is left.
    pub(super) fn power_cut(&mut self, random: &mut Random) {
        let end = random.between(self.flushed.max(self.log_min), self.end());
        self.log.truncate((end - self.log_min) as usize);
        let rows = random.between(self.durable_rows as u64, self.rows.len() as u64);
        self.rows.truncate(rows as usize);
        self.durable_rows = self.rows.len();
    }

    /// What every open does first: planned work, and the end of a torn log.
    pub(super) fn open(&mut self, snapshots: &[Vec<Row>]) {
        if let Some(work) = self.work.take() {
            if let Some(at) = work.restart_log_at {
                self.log.clear();
                self.log_min = at;
            } else if let Some(at) = work.cut_log_at.filter(|at| *at < self.end()) {
                self.log.truncate(at.saturating_sub(self.log_min) as usize);
            }
            if let Some(id) = work.install_snapshot {
                assert!(self.staged.id == id && self.staged.finished, "snapshot {id} is not here");
                self.rows.clone_from(&snapshots[id as usize - 1]);
                self.durable_rows = self.rows.len();
                self.kept_from = self.sequence() + 1;
            }
        }
        self.log.truncate(whole(&self.log, self.log_min));
        self.flushed = self.end();
        if let Some(first) = self.epochs().first().filter(|_| self.store_id == 0) {
            self.store_id = first.leader;
        }
        let log_min = self.rows.iter().rev().find_map(|row| match row.kind {
            Kind::LogMin(at) => Some(at),
            _ => None,
        });
        self.trim(log_min.unwrap_or(0));
    }

    /// What a master's open does then: nothing in the index speaks of what the log lost, and a new
    /// epoch begins.
    pub(super) fn lead(&mut self, leader: u64, promoted: bool) -> Epoch {
        let (end, mut sequence_start) = (self.end(), self.sequence());
        if self.index_end() > end {
            self.change(Kind::Cut(end), end, 1);
        }
        if bug(Bug::LateEpoch) {
            sequence_start = self.sequence();
        }
        let newest = self.epochs().last().map_or(0, |epoch| epoch.number).max(self.seen_epoch);
        // A promotion is never the epoch of an old master that starts again.
        let number = if promoted { (newest / 1000 + 1) * 1000 } else { newest + 1 };
        let epoch = Epoch { number, leader, log_start: end, sequence_start };
        self.change(Kind::Epoch(epoch), self.index_end(), 1);
        self.durable_rows = self.rows.len();
        if self.store_id == 0 {
            self.store_id = leader;
        }
        self.seen_epoch = self.seen_epoch.max(number);
        epoch
    }
}

/// The record that these bytes begin with; `None` for the filling of a segment, or a part.
fn parse(bytes: &[u8], at: u64) -> Option<Record> {
    let len = usize::from(*bytes.first()?);
    if len < HEADER || bytes.len() < len {
        return None;
    }
    let offset = u16::from_be_bytes([bytes[2], bytes[3]]);
    let id = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    Some(Record { at, end: at + len as u64, queue: bytes[1], offset, id })
}

/// How many of the bytes are whole records, or segments filled to their end.
pub(super) fn whole(bytes: &[u8], from: u64) -> usize {
    let mut at = 0;
    while let Some(first) = bytes.get(at) {
        let left = SEGMENT - (from + at as u64) % SEGMENT;
        let len = if *first == 0 { left as usize } else { usize::from(*first) };
        if at + len > bytes.len() {
            break;
        }
        at += len;
    }
    at
}
