//! Small files that say something about the store: a checksum in front of a message, replaced as a
//! whole.

use std::{fs, io, path::Path};

use prost::Message;

use crate::{
    file::{self, DiskFile},
    num::take,
};

/// Writes the file durably.
///
/// # Errors
/// Of the operating system; the file is as it was.
pub(crate) fn write(path: &Path, message: &impl Message) -> io::Result<()> {
    let message = message.encode_to_vec();
    let bytes = [&crc32fast::hash(&message).to_be_bytes()[..], &message].concat();
    let new = path.with_extension("tmp");
    let file = DiskFile::create(&new)?;
    file.write_at(&bytes, 0)?;
    file.sync()?;
    file::rename(&new, path)
}

/// Reads the file, if there is one.
///
/// # Errors
/// Of the operating system, or that it is damaged.
pub(crate) fn read<M: Message + Default>(path: &Path) -> io::Result<Option<M>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let message = take!(u32, bytes)
        .filter(|(crc, message)| crc32fast::hash(message) == *crc)
        .and_then(|(_, message)| M::decode(message).ok());
    message.map(Some).ok_or_else(|| {
        let reason =
            format!("{} is damaged; remove it, and its store will start without", path.display());
        io::Error::new(io::ErrorKind::InvalidData, reason)
    })
}

/// Removes the file durably, if there is one.
///
/// # Errors
/// Of the operating system.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if !path.try_exists()? {
        return Ok(());
    }
    file::remove(path)?;
    path.parent().map_or(Ok(()), file::sync_dir)
}
