//! RocksDB's write-ahead log without what is damaged. RocksDB passes over the rest of a block when the
//! checksum of a record does not fit, because the length may be wrong too; the records behind are found
//! by their own checksums.

use std::{fs, io, path::Path};

use crate::index::mend::{BLOCK_BYTES, HEAD_BYTES, masked, part};

const FULL: u8 = 1;
const FIRST: u8 = 2;
const MIDDLE: u8 = 3;
const LAST: u8 = 4;
/// Writes the logs of a copy of RocksDB anew in which something is damaged.
///
/// # Errors
/// Of the operating system.
pub(super) fn leave_out_damage(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log")
            && let Some(intact) = intact(&fs::read(&path)?)
        {
            tracing::warn!(path = %path.display(), "leaving out damaged records");
            fs::write(&path, intact)?;
        }
    }
    Ok(())
}

/// What is left if something is damaged. Nothing if there is a kind of record that this does not know.
fn intact(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut begun: Option<Vec<u8>> = None;
    let mut damaged = false;
    for mut rest in bytes.chunks(BLOCK_BYTES) {
        while rest.len() >= HEAD_BYTES && rest.iter().any(|byte| *byte != 0) {
            let Some((kind, payload, behind)) = part(rest) else {
                (damaged, begun) = (true, None);
                rest = rest.get(1..)?;
                continue;
            };
            rest = behind;
            match kind {
                FULL => put(&mut out, payload),
                FIRST => begun = Some(payload.to_vec()),
                MIDDLE | LAST => {
                    let Some(mut record) = begun.take() else { continue };
                    record.extend_from_slice(payload);
                    if kind == LAST {
                        put(&mut out, &record);
                    } else {
                        begun = Some(record);
                    }
                }
                _ => return None,
            }
        }
    }
    damaged.then_some(out)
}

/// Adds a record, in parts that do not cross blocks.
fn put(out: &mut Vec<u8>, record: &[u8]) {
    let (mut rest, mut first) = (record, true);
    loop {
        let left = BLOCK_BYTES - out.len() % BLOCK_BYTES;
        if left < HEAD_BYTES {
            out.resize(out.len() + left, 0);
            continue;
        }
        let (payload, behind) = rest.split_at(rest.len().min(left - HEAD_BYTES));
        let kind = match (first, behind.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, true) => LAST,
            (false, false) => MIDDLE,
        };
        let [a, b, c, d] = masked(kind, payload).to_be_bytes();
        let length = u16::try_from(payload.len()).expect("a block is shorter than 64 KiB");
        let [high, low] = length.to_be_bytes();
        out.extend_from_slice(&[d, c, b, a, low, high, kind]);
        out.extend_from_slice(payload);
        if behind.is_empty() {
            return;
        }
        (rest, first) = (behind, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Vec<u8>> {
        let len = |number: u8| usize::from(number).pow(3) * 3 + 12;
        (0..30).map(|number| vec![0xF0 | number; len(number)]).collect()
    }

    fn log(records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        records.iter().for_each(|record| put(&mut bytes, record));
        bytes
    }

    #[test]
    fn only_the_record_that_was_hit_is_left_out() {
        let records = records();
        let whole = log(&records);
        assert!(whole.len() > 10 * BLOCK_BYTES, "{}", whole.len());
        assert_eq!(intact(&whole), None);
        let mut padding = 0;
        let ends: Vec<_> = (1..=records.len()).map(|count| log(&records[..count]).len()).collect();
        for at in (0..whole.len()).step_by(7_001).chain(0..40) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            let hit = ends.partition_point(|end| *end <= at);
            let mut expected = records.clone();
            expected.remove(hit);
            match intact(&bytes) {
                Some(found) => assert!(found == log(&expected), "byte {at}"),
                // The rest of a block that is too short for a record.
                None => padding += 1,
            }
        }
        assert!(padding < 5, "{padding}");
    }

    #[test]
    fn zeros_and_what_is_torn_end_a_log() {
        let whole = log(&records()[..25]);
        let mut reserved = whole.clone();
        reserved.resize(20 * BLOCK_BYTES, 0);
        assert_eq!(intact(&reserved), None);
        let torn = &whole[..whole.len() - 5];
        assert_eq!(intact(torn), Some(log(&records()[..24])));
    }
}
