//! A record between those of RocketMQ and ours, so that RocketMQ finds all of ours when it comes back.
//!
//! When it opens a log that is longer than its consume queues, RocketMQ 5.x takes in the records
//! *behind* the position where its queues end, and so passes over one that begins exactly there.
//! The spacer begins there. It is a prepared message, which is in no queue.
//!
//! # Source: `CommitLog.recoverNormally`, `doDispatch`

use bytes::BytesMut;
use protocol::{
    record::{BLANK_BYTES, NewRecord, patch},
    sys_flag,
};

use crate::{
    OpenError,
    commit_log::{
        recover::Found,
        scan::{Scanner, Step},
    },
    file::{DiskFile, failed},
    num::to_u64,
};

const TOPIC: &str = "basaltmq_took_over";
const BODY: &[u8] = b"From here on BasaltMQ has written.";

/// The end of a log that is valid up to `from`, and the store time of its last record, which is
/// `store_ms` if nothing follows `from`.
///
/// # Errors
/// The log cannot be read.
pub(super) fn end(
    segments: &[Found],
    (from, store_ms): (u64, i64),
) -> Result<(u64, i64), OpenError> {
    let mut last = (from, store_ms);
    let mut offset = from.max(segments.first().map_or(0, |first| first.base_offset));
    for segment in segments.iter().filter(|segment| segment.limit_offset() > from) {
        let failed = || failed("read", &segment.path);
        let mut scanner = Scanner::open(&segment.path, segment.base_offset).map_err(failed())?;
        loop {
            match scanner.step(offset).map_err(failed())? {
                Step::Record(record) => {
                    offset += u64::from(record.total_size);
                    last = (offset, record.store_timestamp);
                }
                Step::Filled => break,
                Step::Empty | Step::Invalid(_) => return Ok(last),
            }
        }
        offset = segment.limit_offset();
    }
    Ok(last)
}

/// Writes the spacer at `end`, durably, and returns where the log ends then. Without room for it,
/// or at the start of a segment, none is needed: the next record begins elsewhere.
///
/// # Errors
/// The segment cannot be written.
pub(super) fn put(segments: &[Found], end: u64, store_ms: i64) -> Result<u64, OpenError> {
    let nowhere = ([0, 0, 0, 0], 0).into();
    let record = NewRecord {
        topic: TOPIC,
        queue_id: 0,
        flag: 0,
        sys_flag: sys_flag::TRANSACTION_PREPARED,
        born_timestamp: store_ms,
        born_host: nowhere,
        store_host: nowhere,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: BODY,
        properties: &[],
    };
    let size = to_u64(record.encoded_len() + BLANK_BYTES);
    let fits = |segment: &&Found| segment.base_offset < end && end + size <= segment.limit_offset();
    let Some(segment) = segments.iter().find(fits) else { return Ok(end) };
    let mut bytes = BytesMut::new();
    record.encode(&mut bytes).expect("the spacer is within all limits");
    let at = i64::try_from(end).expect("no disk holds 8 EiB");
    patch(&mut bytes, 0, at, store_ms).expect("just encoded");
    let write = || {
        let file = DiskFile::open(&segment.path)?;
        file.write_at(&bytes, end - segment.base_offset)?;
        file.sync()
    };
    write().map_err(failed("write", &segment.path))?;
    Ok(end + to_u64(bytes.len()))
}
