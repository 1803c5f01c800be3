//! A flipped bit that RocksDB does not survive or notice: in the length or the kind of a record in its
//! MANIFEST or write-ahead log.
//!
//! RocksDB takes a record that is longer than the rest of the file for one that a crash has torn, and
//! goes on without it and everything behind it: the tables that those edits name are deleted as
//! garbage. It takes a record of a kind that only recycled files have for an old one, whatever its
//! checksum, and reads a MANIFEST with such a one for ever. If the checksum fits with one bit of the
//! length or the kind changed back, no crash has done that.

use std::{
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use crate::{file::DiskFile, num::to_u64};

/// Records do not cross blocks of this size, except in parts.
pub(crate) const BLOCK_BYTES: usize = 32 << 10;
/// Checksum (4), length (2) and type (1), the lowest byte first.
pub(crate) const HEAD_BYTES: usize = 7;
/// What is added to a rotated checksum.
const MASK_DELTA: u32 = 0xA282_EAD8;

/// Kinds of records that our RocksDB writes: a whole one, a first, a middle and a last part.
const WRITTEN: RangeInclusive<u8> = 1..=4;

/// A byte that was changed: where in the file, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flipped {
    at: usize,
    byte: u8,
}

/// Puts such bits right, durably.
///
/// # Errors
/// Of the operating system.
pub(crate) fn mend(dir: &Path) -> io::Result<()> {
    for path in logs(dir, true)? {
        let Some(Flipped { at, byte }) = flipped(&fs::read(&path)?) else { continue };
        tracing::error!(path = %path.display(), at, byte, "a bit of a record's head is put right");
        let file = DiskFile::open(&path)?;
        file.write_at(&[byte], to_u64(at))?;
        file.sync()?;
    }
    Ok(())
}

/// For those that change nothing: refuses what [`mend`] would put right.
///
/// # Errors
/// There is such a bit, or the operating system's.
pub(crate) fn check(dir: &Path) -> io::Result<()> {
    for path in logs(dir, true)? {
        if let Some(Flipped { at, .. }) = flipped(&fs::read(&path)?) {
            let path = path.display();
            return Err(io::Error::other(format!("byte {at} of {path} has a flipped bit")));
        }
    }
    Ok(())
}

/// Whether a record of the write-ahead log does not fit its checksum. A crash does that too.
///
/// # Errors
/// Of the operating system.
pub(crate) fn is_log_damaged(dir: &Path) -> io::Result<bool> {
    for path in logs(dir, false)? {
        for mut rest in fs::read(&path)?.chunks(BLOCK_BYTES) {
            while rest.len() >= HEAD_BYTES && rest.iter().any(|byte| *byte != 0) {
                let Some((_, _, behind)) = part(rest) else { return Ok(true) };
                rest = behind;
            }
        }
    }
    Ok(false)
}

/// The write-ahead log and, if wanted, manifests.
fn logs(dir: &Path, manifests: bool) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let log = name.strip_suffix(".log").is_some_and(|name| name.parse::<u64>().is_ok());
        if log || (manifests && name.starts_with("MANIFEST-")) {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

/// The valid part of a record at the start of `bytes`: kind, payload and what is behind it.
pub(crate) fn part(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[a, b, c, d, low, high, kind], rest) = bytes.split_first_chunk::<HEAD_BYTES>()?;
    let (payload, behind) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
    (masked(kind, payload) == u32::from_be_bytes([d, c, b, a])).then_some((kind, payload, behind))
}

/// The first length that does not fit into its block or the file, or kind that nobody writes, and
/// would be right with one bit changed.
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
        let fits = |kind, length: u16| {
            rest.get(..length.into()).is_some_and(|payload| masked(kind, payload) == stored)
        };
        if kind == 0 && length == 0 {
            return None;
        }
        if usize::from(length) > rest.len() {
            let bit = (0..u16::BITS).find(|bit| fits(kind, length ^ (1 << bit)))?;
            let [high, low] = (length ^ (1 << bit)).to_be_bytes();
            let (place, byte) = if bit < u8::BITS { (4, low) } else { (5, high) };
            return Some(Flipped { at: at + place, byte });
        }
        if !WRITTEN.contains(&kind) {
            let kinds = (0..u8::BITS).map(|bit| kind ^ (1 << bit));
            let right =
                kinds.into_iter().find(|kind| WRITTEN.contains(kind) && fits(*kind, length));
            if let Some(byte) = right {
                return Some(Flipped { at: at + 6, byte });
            }
        }
        at += HEAD_BYTES + usize::from(length);
    }
}

/// What a byte does to a CRC-32C.
static STEPS: LazyLock<[u32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|byte| {
        let step = |crc: u32, _| (crc >> 1) ^ if crc & 1 == 0 { 0 } else { 0x82F6_3B78 };
        (0..8).fold(u32::try_from(byte).unwrap_or_default(), step)
    })
});

/// RocksDB's checksum of a record: CRC-32C of type and payload, rotated and shifted.
pub(crate) fn masked(kind: u8, payload: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in std::iter::once(&kind).chain(payload) {
        let [.., low] = crc.to_be_bytes();
        let step = STEPS.get(usize::from(low ^ byte)).copied().unwrap_or_default();
        crc = (crc >> 8) ^ step;
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
    fn lengths_and_kinds_are_put_right_and_torn_records_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("MANIFEST-000007");
        let whole = log(&[b"first", &[7; 300], b"last"]);
        for at in [4, 16, 323] {
            for bit in 0..24 {
                let mut bytes = whole.clone();
                let place = at + bit / 8;
                bytes[place] ^= 1 << (bit % 8);
                fs::write(&path, &bytes).unwrap();
                // A length that fits, or another kind that is written, is noticed by RocksDB itself.
                let found = flipped(&bytes).is_some();
                assert_eq!(check(dir.path()).is_err(), found);
                mend(dir.path()).unwrap();
                let mended = fs::read(&path).unwrap();
                assert_eq!(mended == whole, found, "bit {bit} at {at}");
                let noticed = bit < 9 || bit == 17;
                assert!(found || noticed, "bit {bit} at {at}");
            }
        }
        for end in 0..whole.len() {
            fs::write(&path, &whole[..end]).unwrap();
            mend(dir.path()).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole[..end]);
        }
    }
}
