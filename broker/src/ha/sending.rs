//! A snapshot on its way to a slave.

use bytes::Bytes;

use super::{
    frame::{Body, FileBytes, Nothing, PART_MAX_BYTES, SnapshotBegin, SnapshotBytes},
    replica::{Snapshot, SnapshotFile, StoreError},
    session::SessionEnd,
};

/// A snapshot on its way.
pub(crate) struct Sending<T> {
    pub(crate) snapshot: T,
    have: Vec<FileBytes>,
    /// What follows; `None` before the beginning and after the end.
    at: Option<(usize, u64)>,
    begun: bool,
}

impl<T: Snapshot> Sending<T> {
    pub(crate) fn new(snapshot: T, have: Vec<FileBytes>) -> Self {
        Self { snapshot, have, at: None, begun: false }
    }

    /// The next part; nothing at the end.
    ///
    /// # Errors
    /// A file cannot be read.
    pub(crate) fn poll(&mut self) -> Result<Vec<Body>, SessionEnd> {
        let files = self.snapshot.files();
        if !self.begun {
            self.begun = true;
            self.at = Some((0, self.had(0)));
            return Ok(vec![Body::SnapshotBegin(SnapshotBegin {
                id: self.snapshot.id(),
                sequence: self.snapshot.sequence(),
                needs: self.snapshot.needs(),
                files: files.iter().map(FileBytes::from).collect(),
            })]);
        }
        while let Some((file, offset)) = self.at {
            let Some(SnapshotFile { name, bytes }) = files.get(file) else {
                self.at = None;
                return Ok(vec![Body::SnapshotEnd(Nothing {})]);
            };
            let part = self.part(name, offset, *bytes)?;
            let end = offset + part.len() as u64;
            let next = if end < *bytes { (file, end) } else { (file + 1, self.had(file + 1)) };
            self.at = Some(next);
            // An empty file must be named too.
            if !part.is_empty() || offset == 0 {
                let file = name.clone();
                return Ok(vec![Body::SnapshotBytes(SnapshotBytes { file, offset, bytes: part })]);
            }
        }
        Ok(Vec::new())
    }

    fn part(&self, name: &str, offset: u64, bytes: u64) -> Result<Bytes, StoreError> {
        if offset >= bytes {
            return Ok(Bytes::new());
        }
        let part = self.snapshot.read(name, offset, PART_MAX_BYTES)?;
        if part.is_empty() {
            let reason = format!("the snapshot's file {name} ends at {offset} of {bytes} bytes");
            return Err(StoreError::Failed(reason));
        }
        Ok(part)
    }

    /// Bytes of a file that the slave has from an earlier session.
    fn had(&self, file: usize) -> u64 {
        let name = self.snapshot.files().get(file).map(|file| &file.name);
        let had = self.have.iter().find(|had| Some(&had.name) == name);
        had.map_or(0, |had| had.bytes)
    }
}
