//! One life of a program: it recovers the log, appends to it and syncs it, in the way of the writer,
//! the allocator and the flusher, and everything that it does to the disk is recorded.

use std::{ops::Range, path::Path, rc::Rc, sync::Arc};

use bytes::BytesMut;
use protocol::record::{self, BLANK_BYTES, NewRecord};

use super::{
    history::{Event, Item},
    random::Random,
};
use crate::{
    OpenError,
    commit_log::{
        CommitLog, allocate,
        durable::MarkFile,
        recover::{self, Opened},
        segment::Writer,
    },
    file::{Change, record as recorder},
    num::to_u64,
};

/// Recovers the log below `dir`.
///
/// # Errors
/// As [`recover::open`].
pub(super) fn recover(dir: &Path, segment_size_bytes: u64) -> Result<Opened, OpenError> {
    let mark = MarkFile::open(dir)?;
    recover::open(dir, segment_size_bytes, 0, mark)
}

/// What was done and promised.
#[derive(Debug, Default)]
pub(super) struct Life {
    pub(super) changes: Vec<Change>,
    /// With the number of changes that were made before.
    pub(super) events: Vec<(usize, Event)>,
    /// The changes that recovery made.
    pub(super) recovery: Range<usize>,
}

/// The program.
struct Program<'a> {
    dir: &'a Path,
    segment_size_bytes: u64,
    random: &'a mut Random,
    log: Arc<CommitLog>,
    mark: MarkFile,
    current: Writer,
    next: Option<Writer>,
    events: Vec<(usize, Event)>,
    /// Puts the number of the life into each record, so that no two are the same.
    number: u32,
}

impl Life {
    /// Lives on after `opened`, whose recovery is the beginning of the record.
    pub(super) fn live(
        dir: &Path,
        opened: Opened,
        (number, segment_size_bytes): (u32, u64),
        random: &mut Random,
    ) -> Self {
        let recovery = 0..recorder::len();
        let mut program = Program {
            dir,
            segment_size_bytes,
            random,
            log: opened.log,
            mark: opened.mark,
            current: opened.current,
            next: None,
            events: vec![(recovery.end, Event::Recovered(opened.end))],
            number,
        };
        for _ in 0..program.random.below(30) {
            program.step();
        }
        if program.random.one_in(4) {
            program.sync();
            program.mark.write(program.log.flushed(), 0, true).unwrap();
        }
        let events = program.events;
        Self { changes: recorder::take(), events, recovery }
    }
}

impl Program<'_> {
    fn step(&mut self) {
        match self.random.below(10) {
            0..=4 => self.append(),
            5..=6 => self.sync(),
            7 => self.make_next(),
            _ => {
                self.sync();
                self.mark.write(self.log.flushed(), 0, false).unwrap();
            }
        }
    }

    fn note(&mut self, event: Event) {
        self.events.push((recorder::len(), event));
    }

    fn append(&mut self) {
        let mut batch = Vec::new();
        let mut written = self.current.end_offset();
        for _ in 0..=self.random.below(4) {
            let record = self.record();
            if batch.len() + record.len() + BLANK_BYTES > self.current.remaining() {
                self.write(&batch);
                batch.clear();
                self.roll();
                written = self.current.end_offset();
            }
            let at = written + to_u64(batch.len());
            let record = patched(record, at);
            let end = at + to_u64(record.len());
            batch.extend_from_slice(&record);
            self.note(Event::Append(Item { at, end, bytes: record.into() }));
        }
        self.write(&batch);
        self.log.set_appended(self.current.end_offset(), 0);
    }

    fn write(&mut self, batch: &[u8]) {
        self.current.append(batch).unwrap();
    }

    /// A record that cannot be mistaken for another one.
    fn record(&mut self) -> Vec<u8> {
        // Stale records behind a torn one only fit if sizes repeat.
        let repeated = self.random.one_in(2);
        let size = match self.random.below(3) {
            _ if repeated => 401,
            0 => 0,
            1 => self.random.below(200),
            _ => self.random.below(6000),
        };
        let pairs = if repeated { 3 } else { self.random.below(12) };
        let tag = u64::from(self.number) << 32 | self.random.next() >> 16;
        let body: Vec<u8> = tag.to_be_bytes().into_iter().cycle().take(size).collect();
        let properties = format!("UNIQ_KEY\u{1}{tag:016x}\u{2}").repeat(pairs);
        let host = std::net::SocketAddr::from(([127, 0, 0, 1], 10911));
        let record = NewRecord {
            topic: "T",
            queue_id: 1,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: host,
            store_host: host,
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: &body,
            properties: &[&properties],
        };
        let mut bytes = BytesMut::new();
        // As we write, and as RocketMQ does whose log we go on with.
        if repeated || self.random.one_in(2) {
            record.encode_sealed(&mut bytes).unwrap();
        } else {
            record.encode(&mut bytes).unwrap();
        }
        bytes.to_vec()
    }

    fn make_next(&mut self) {
        if self.next.is_none() {
            let base_offset = self.current.segment().limit_offset();
            let dir = self.dir.join("commitlog");
            let made = allocate::create(&dir, base_offset, self.segment_size_bytes);
            self.next = Some(made.unwrap());
        }
    }

    fn roll(&mut self) {
        self.make_next();
        let head = record::blank(u32::try_from(self.current.remaining()).unwrap());
        let (at, end) = (self.current.end_offset(), self.current.segment().limit_offset());
        self.note(Event::Append(Item { at, end, bytes: Rc::new(head) }));
        self.current.fill(&head).unwrap();
        let next = self.next.take().unwrap();
        self.log.push_segment(next.segment());
        self.current = next;
    }

    /// As the flusher does it.
    fn sync(&mut self) {
        let (from, to) = (self.log.flushed(), self.log.appended());
        for segment in self.log.segments_between(from, to) {
            segment.sync().unwrap();
        }
        self.log.set_flushed(to);
        self.note(Event::Acked(to));
    }
}

fn patched(mut record: Vec<u8>, at: u64) -> Vec<u8> {
    record::patch(&mut record, 7, i64::try_from(at).unwrap(), 1).unwrap();
    record
}
