//! The durable watermark: up to where the log has been synced. It tells a torn tail, which may be
//! cut, from damage, which may not.
//!
//! Two slots are written in turn, so that a write that is torn leaves the other one intact.

use std::{io, os::unix::fs::FileExt, path::Path};

use crate::{
    OpenError,
    file::{self, DiskFile, failed},
    num::{take, to_usize},
};

/// Its name in the store.
pub(crate) const NAME: &str = "commitlog.watermark";

const MAGIC: u32 = 0x424D_574D; // "BMWM"
const VERSION: u16 = 2;
/// Each slot has a page of its own: a page is what a disk tears.
const SLOT_BYTES: u64 = 4096;
const ENTRY_BYTES: usize = 36;
const CLEAN: u16 = 1;

/// What one slot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Grows with every write; the larger of the two slots counts.
    pub(crate) sequence: u64,
    /// Log offset up to which everything is on the disk.
    pub(crate) durable: u64,
    /// RocksDB's sequence number up to which everything is on the disk.
    pub(crate) index_sequence: u64,
    /// The store was closed in order: there is nothing beyond `durable`.
    pub(crate) clean: bool,
}

/// What the two slots say, without changing anything; nothing where a slot is not intact.
///
/// # Errors
/// Of the operating system, when there is a file that cannot be read.
pub(crate) fn read(dir: &Path) -> io::Result<[Option<Mark>; 2]> {
    let bytes = match std::fs::read(dir.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let slot = |at| bytes.get(at..at + ENTRY_BYTES).and_then(decode);
    Ok([slot(0), slot(to_usize(SLOT_BYTES))])
}

/// The file `commitlog.watermark`.
#[derive(Debug)]
pub(crate) struct MarkFile {
    file: DiskFile,
    sequence: u64,
}

impl MarkFile {
    /// Opens the file, or creates it, and reads the newest mark that is intact.
    ///
    /// # Errors
    /// Of the operating system.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Option<Mark>), OpenError> {
        let path = dir.join(NAME);
        let file = DiskFile::open_or_create(&path).map_err(failed("open", &path))?;
        let length = file.file().metadata().map_err(failed("read", &path))?.len();
        if length < 2 * SLOT_BYTES {
            // Written, not only made longer: a full disk must not stop it later.
            file.write_at(&[0; 2 * 4096], 0)
                .and_then(|()| file.sync())
                .and_then(|()| file::sync_dir(dir))
                .map_err(failed("create", &path))?;
        }
        let mut newest: Option<Mark> = None;
        for slot in 0..2 {
            let mut bytes = [0; ENTRY_BYTES];
            file.file()
                .read_exact_at(&mut bytes, slot * SLOT_BYTES)
                .map_err(failed("read", &path))?;
            let mark = decode(&bytes);
            if mark.is_some_and(|mark| newest.is_none_or(|best| mark.sequence > best.sequence)) {
                newest = mark;
            }
        }
        let sequence = newest.map_or(0, |mark| mark.sequence);
        Ok((Self { file, sequence }, newest))
    }

    /// Records what is durable, durably.
    ///
    /// # Errors
    /// The disk failed; treat it like a failed sync of the log.
    pub(crate) fn write(
        &mut self,
        durable: u64,
        index_sequence: u64,
        clean: bool,
    ) -> io::Result<()> {
        self.sequence += 1;
        let mark = Mark { sequence: self.sequence, durable, index_sequence, clean };
        self.file.write_at(&encode(mark), self.sequence % 2 * SLOT_BYTES)?;
        self.file.sync()
    }
}

pub(crate) fn encode(mark: Mark) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ENTRY_BYTES);
    bytes.extend_from_slice(&MAGIC.to_be_bytes());
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&if mark.clean { CLEAN } else { 0 }.to_be_bytes());
    bytes.extend_from_slice(&mark.sequence.to_be_bytes());
    bytes.extend_from_slice(&mark.durable.to_be_bytes());
    bytes.extend_from_slice(&mark.index_sequence.to_be_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Mark> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let (magic, rest) = take!(u32, body)?;
    let (version, rest) = take!(u16, rest)?;
    let (flags, rest) = take!(u16, rest)?;
    let (sequence, rest) = take!(u64, rest)?;
    let (durable, rest) = take!(u64, rest)?;
    let (index_sequence, _) = take!(u64, rest)?;
    let intact = crc32fast::hash(body) == u32::from_be_bytes(*crc);
    (intact && magic == MAGIC && version == VERSION).then_some(Mark {
        sequence,
        durable,
        index_sequence,
        clean: flags & CLEAN != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_intact_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (mut file, mark) = MarkFile::open(dir.path()).unwrap();
        assert_eq!(mark, None);
        file.write(100, 7, false).unwrap();
        file.write(200, 8, true).unwrap();
        let second = Mark { sequence: 2, durable: 200, index_sequence: 8, clean: true };
        let (mut file, mark) = MarkFile::open(dir.path()).unwrap();
        assert_eq!(mark, Some(second));
        file.write(300, 9, false).unwrap();
        // Tear the newest.
        file.file.write_at(&[0xFF], SLOT_BYTES + 20).unwrap();
        let (_, mark) = MarkFile::open(dir.path()).unwrap();
        assert_eq!(mark, Some(second));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes =
            encode(Mark { sequence: 7, durable: 1 << 40, index_sequence: 1 << 33, clean: false });
        assert_eq!(bytes.len(), ENTRY_BYTES);
        assert!(decode(&bytes).is_some());
        for at in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(&damaged), None, "bit {at}");
        }
    }
}
