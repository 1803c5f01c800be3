//! A flipped bit that RocksDB would not notice: the length of a record in its MANIFEST or write-ahead
//! log.
//!
//! RocksDB takes a record that is longer than the rest of the file for one that a crash has torn, and
//! goes on without it and everything behind it: the tables that those edits name are deleted as
//! garbage. If the checksum fits with one bit of the length changed back, no crash has done that.

use std::{fs, io, path::Path};

use crate::{file::DiskFile, num::to_u64};

/// Records do not cross blocks of this size, except in parts.
const BLOCK_BYTES: usize = 32 << 10;
/// Checksum (4), length (2) and type (1), the lowest byte first.
const HEAD_BYTES: usize = 7;
/// What is added to a rotated checksum.
const MASK_DELTA: u32 = 0xA282_EAD8;

/// A length that was changed: where in the file, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flipped {
    at: usize,
    length: u16,
}

/// Puts such lengths right, durably.
///
/// # Errors
/// Of the operating system.
pub(super) fn mend(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let log = name.strip_suffix(".log").is_some_and(|name| name.parse::<u64>().is_ok());
        if !log && !name.starts_with("MANIFEST-") {
            continue;
        }
        let path = entry.path();
        let Some(Flipped { at, length }) = flipped(&fs::read(&path)?) else { continue };
        tracing::error!(path = %path.display(), at, length, "the length of a record is put right");
        let [high, low] = length.to_be_bytes();
        let file = DiskFile::open(&path)?;
        file.write_at(&[low, high], to_u64(at))?;
        file.sync()?;
    }
    Ok(())
}

/// The first length that does not fit into its block or the file and would with one bit changed.
fn flipped(bytes: &[u8]) -> Option<Flipped> {
    let mut at = 0;
    loop {
        let left = BLOCK_BYTES - at % BLOCK_BYTES;
        if left < HEAD_BYTES {
            at += left;
            continue;
        }
        let block = bytes.get(at..bytes.len().min(at + left))?;
        let (&[a, b, c, d, low, high, kind], rest) = block.split_first_chunk::<HEAD_BYTES>()?;
        let length = u16::from_be_bytes([high, low]);
        let stored = u32::from_be_bytes([d, c, b, a]);
        if kind == 0 && length == 0 {
            return None;
        }
        if usize::from(length) <= rest.len() {
            at += HEAD_BYTES + usize::from(length);
            continue;
        }
        return (0..u16::BITS).map(|bit| length ^ (1 << bit)).find_map(|length| {
            let payload = rest.get(..usize::from(length))?;
            (masked(kind, payload) == stored).then_some(Flipped { at: at + 4, length })
        });
    }
}

/// RocksDB's checksum of a record: CRC-32C of type and payload, rotated and shifted.
fn masked(kind: u8, payload: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in std::iter::once(&kind).chain(payload) {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 0 { 0 } else { 0x82F6_3B78 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(MASK_DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(records: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for record in records {
            let [high, low] = u16::try_from(record.len()).unwrap().to_be_bytes();
            let mut crc = masked(1, record).to_be_bytes();
            crc.reverse();
            bytes.extend_from_slice(&crc);
            bytes.extend_from_slice(&[low, high, 1]);
            bytes.extend_from_slice(record);
        }
        bytes
    }

    #[test]
    fn checksum_is_crc_32c() {
        // "123456789" is the check value of every list of checksums; the first byte is our type.
        let crc = masked(b'1', b"23456789").wrapping_sub(MASK_DELTA).rotate_left(15);
        assert_eq!(crc, 0xE306_9283);
    }

    #[test]
    fn lengths_are_put_right_and_torn_records_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("MANIFEST-000007");
        let whole = log(&[b"first", &[7; 300], b"last"]);
        for at in [4, 16, 323] {
            for bit in 0..16 {
                let mut bytes = whole.clone();
                let place = at + bit / 8;
                bytes[place] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                mend(dir.path()).unwrap();
                let mended = fs::read(&path).unwrap();
                // A length that fits is noticed by RocksDB itself.
                let overrun = flipped(&bytes).is_some();
                assert_eq!(mended == whole, overrun, "bit {bit} at {at}");
                assert!(overrun || bit < 9, "bit {bit} at {at}");
            }
        }
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            mend(dir.path()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole[..end]);
        }
    }
}
