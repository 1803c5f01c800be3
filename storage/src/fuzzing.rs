//! What fuzz targets call: everything that is read from a disk, with bytes that nobody wrote.

use std::{fmt::Debug, fs, path::Path};

use prost::Message;
use protocol::record::{self, RecordView};

use crate::{
    commit_log::{
        durable::{self, Mark, MarkFile},
        recover,
        scan::{Scanner, Step},
    },
    index::{consume_queue, consumer_offset, group::GroupRow, key_index, meta, topic::TopicRow},
    num::{to_u64, to_usize},
};

/// Values of the index and slots of the watermark: the first byte chooses which. What can be read
/// is written as something that reads the same.
///
/// # Panics
/// When it does not.
pub fn value(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    match kind % 8 {
        0 => block(data),
        1 => {
            let key = key_index::slice_key(7);
            if let Some((slice, row)) = key_index::decode_slice(&key, data) {
                assert_eq!((slice, &row.encode()[..]), (7, data));
            }
        }
        2 => bucket(data),
        3 => message::<TopicRow>(data, |row| {
            let _config = row.into_config("T".to_owned());
        }),
        4 => message::<GroupRow>(data, |row| {
            let again = GroupRow::new(row.clone().into_config("G".to_owned()));
            let config = again.into_config("G".to_owned());
            assert_eq!(config, row.into_config("G".to_owned()));
        }),
        5 => message::<meta::Checkpoint>(data, drop),
        6 => {
            if let Some(mark) = durable::decode(data) {
                let again = durable::encode(mark);
                assert_eq!(durable::decode(&again), Some(mark));
            }
        }
        _ => keys(data),
    }
}

fn message<T: Message + Default + PartialEq + Debug + Clone>(data: &[u8], each: impl Fn(T)) {
    let Ok(row) = T::decode(data) else { return };
    let again = T::decode(row.encode_to_vec().as_slice()).expect("what we write, we read");
    assert_eq!(again, row);
    each(row);
}

fn block(data: &[u8]) {
    let key = consume_queue::key(crate::TopicId(1), 2, 3);
    let Some((_, _, block)) = consume_queue::decode_row(&key, data) else { return };
    let places = u64::from(block.start) + to_u64(block.entries.len());
    assert!((1..=consume_queue::BLOCK_ENTRIES).contains(&places));
    let bytes = consume_queue::encode(block.start, block.first_ms, block.entries.iter().copied());
    let again = consume_queue::decode_row(&key, &bytes).expect("what we write, we read");
    assert_eq!(again.2, block);
    assert!(block.entries.is_sorted_by_key(|entry| entry.log_offset));
}

fn bucket(data: &[u8]) {
    let mut again = Vec::new();
    for (hash, log_offset) in key_index::entries(data) {
        key_index::push(&mut again, hash, log_offset);
    }
    assert!(data.starts_with(&again) && data.len() - again.len() < key_index::ENTRY_BYTES);
    let end = again.first_chunk().map_or(7, |head| u64::from_be_bytes(*head));
    assert!(again.starts_with(key_index::before(&again, end)));
}

fn keys(data: &[u8]) {
    let (key, value) = data.split_at(data.len() / 2);
    let _row = consume_queue::decode_row(key, value);
    let _slice = key_index::decode_slice(key, value);
    if let Ok((group, topic, queue_id, offset)) = consumer_offset::decode(key, value) {
        assert_eq!(consumer_offset::key(group, topic, queue_id), key);
        assert!(value.starts_with(&consumer_offset::value(offset)));
    }
}

/// Bytes of segments and a watermark, recovered in `dir`, which is emptied first. The log is refused,
/// or every record behind the place where verification began is valid, and nothing follows the last.
///
/// # Panics
/// When that does not hold, or when recovering again gives another log.
pub fn recovery(dir: &Path, data: &[u8]) {
    let Some((choices, bytes)) = data.split_first_chunk::<8>() else { return };
    let shape = Shape::new(*choices);
    shape.write(dir, bytes);
    let Ok((mark, found)) = MarkFile::open(dir) else { return };
    let Ok(opened) = recover::open(dir, SEGMENT_BYTES, shape.checkpoint, (mark, found)) else {
        return;
    };
    let (end, segments) = (opened.end, opened.found);
    let first = segments.first().map_or(0, |segment| segment.base_offset);
    let verified_from = found.map_or(shape.checkpoint, |mark| mark.durable).max(first);
    assert!(end >= first && found.is_none_or(|mark| end >= mark.durable));
    for segment in &segments {
        let mut scanner = Scanner::open(&segment.path, segment.base_offset).expect("it was open");
        let mut offset = segment.base_offset.max(verified_from);
        // Below the place where verification begins, damage stays where it is.
        while found.is_some() && offset < end.min(segment.limit_offset()) {
            match scanner.step(offset).expect("it was read") {
                Step::Record(record) => offset += u64::from(record.total_size),
                Step::Filled => break,
                step => panic!("{step:?} at {offset} in a log up to {end}"),
            }
        }
        let clean = found.is_some_and(|mark| mark.clean);
        if end < segment.limit_offset() && !clean {
            let bytes = fs::read(&segment.path).expect("it was read");
            let behind = to_usize(end.max(segment.base_offset) - segment.base_offset);
            // As one comparison: the fuzzer watches every single one.
            let tail = bytes.get(behind..).unwrap_or_default();
            assert_eq!(tail, vec![0; tail.len()], "nothing lies behind {end}");
        }
    }
    drop(opened.log);
    let mark = MarkFile::open(dir).expect("recovery has written it");
    assert_eq!(mark.1.map(|mark| (mark.durable, mark.clean)), Some((end, false)));
    let again = recover::open(dir, SEGMENT_BYTES, shape.checkpoint, mark).expect("it was open");
    assert_eq!((again.end, again.cut, again.found), (end, None, segments));
}

const SEGMENT_BYTES: u64 = 8192;

/// What the first bytes of the input choose.
struct Shape {
    segments: usize,
    base_offset: u64,
    /// Leaves a gap in front of the last segment.
    gap: bool,
    /// Puts positions and checksums right, so that records are records.
    patched: bool,
    mark: Option<Mark>,
    checkpoint: u64,
}

impl Shape {
    fn new([segments, base, flags, durable, more, checkpoint, sequence, _]: [u8; 8]) -> Self {
        let base_offset = match base % 4 {
            0 => 0,
            1 => 8192,
            2 => 1 << 40,
            _ => (1 << 61) + 4096,
        };
        let near = |n: u8| base_offset + u64::from(n) * 96;
        let mark = Mark {
            sequence: u64::from(sequence),
            durable: (near(durable) + u64::from(more)).saturating_sub(u64::from(flags & 16)),
            index_sequence: 0,
            clean: flags & 1 != 0,
        };
        Self {
            segments: usize::from(segments % 4),
            base_offset,
            gap: flags & 2 != 0,
            patched: flags & 4 != 0,
            mark: (flags & 8 != 0).then_some(mark),
            checkpoint: near(checkpoint),
        }
    }

    fn write(&self, dir: &Path, mut bytes: &[u8]) {
        let log_dir = dir.join("commitlog");
        for part in [&log_dir, &dir.join("cut")] {
            let _none = fs::remove_dir_all(part);
        }
        fs::create_dir_all(&log_dir).expect("a directory to write to");
        let slots = match self.mark {
            Some(mark) => durable::encode(mark),
            None => bytes.get(..36).unwrap_or_default().to_vec(),
        };
        fs::write(dir.join(durable::NAME), slots).expect("room in the directory");
        for number in 0..self.segments {
            let (here, rest) = bytes.split_at(bytes.len().min(to_usize(SEGMENT_BYTES)));
            bytes = rest;
            let last = number + 1 == self.segments;
            let gap = u64::from(self.gap && last);
            let at = self.base_offset + (to_u64(number) + gap) * SEGMENT_BYTES;
            let mut segment = here.to_vec();
            // The last one may be shorter, as a file of another program could be.
            if !last || here.len() % 2 == 0 {
                segment.resize(to_usize(SEGMENT_BYTES), 0);
            }
            if self.patched {
                patch(&mut segment, at);
            }
            let path = log_dir.join(crate::commit_log::allocate::name(at));
            fs::write(path, segment).expect("room in the directory");
        }
    }
}

/// Makes the records of a segment say where they are, as far as they are records.
fn patch(segment: &mut [u8], base_offset: u64) {
    let mut at = 0;
    while let Some(rest) = segment.get_mut(at..) {
        let Ok(view) = RecordView::parse(rest) else { return };
        let (size, crc) = (view.total_size, record::body_crc(view.body));
        let log_offset = i64::try_from(base_offset + to_u64(at)).unwrap_or_default();
        let (queue_offset, store_ms) = (view.queue_offset, view.store_timestamp);
        record::patch(rest, queue_offset, log_offset, store_ms).expect("a whole record");
        if let Some(stored) = rest.get_mut(8..12) {
            stored.copy_from_slice(&crc.to_be_bytes());
        }
        at += to_usize(u64::from(size));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    /// A record as the fuzzer's seeds have it.
    fn seed(count: usize) -> Vec<u8> {
        let record = record::NewRecord {
            topic: "T",
            queue_id: 0,
            flag: 0,
            sys_flag: 0,
            born_timestamp: 1,
            born_host: ([127, 0, 0, 1], 1).into(),
            store_host: ([127, 0, 0, 1], 2).into(),
            reconsume_times: 0,
            prepared_transaction_offset: 0,
            body: b"body",
            properties: &["KEYS\u{1}k\u{2}"],
        };
        let mut bytes = bytes::BytesMut::new();
        for _ in 0..count {
            record.encode(&mut bytes).unwrap();
        }
        bytes.to_vec()
    }

    proptest! {
        #[test]
        fn arbitrary_values_are_read_or_refused(bytes: Vec<u8>) {
            value(&bytes);
        }

        #[test]
        fn arbitrary_files_are_recovered_or_refused(
            choices: [u8; 8], records in 0..90_usize, at: usize, bytes in any::<Vec<u8>>(),
        ) {
            // In memory if possible: every recovery syncs.
            let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            let mut data = choices.to_vec();
            data.extend_from_slice(&seed(records));
            let at = at % data.len();
            for (place, byte) in data.iter_mut().skip(at).zip(&bytes) {
                *place = *byte;
            }
            data.extend_from_slice(&bytes);
            recovery(dir.path(), &data);
        }
    }
}
