//! A model store that is open, as replication sees it.

use std::{
    cell::{Cell, RefCell, RefMut},
    io,
    rc::Rc,
};

use bytes::Bytes;

use super::{
    Bug, bug,
    disk::{self, Disk, Kind, Row, SEGMENT, Staged},
};
use crate::ha::replica::{
    Delta, Deltas, Identity, LogPiece, Master, PendingOffset, Position, Replica, Slave, Snapshot,
    SnapshotFile, Stage, StateDigest, StoreError, Wake, Work,
};

/// The indexes of all snapshots ever made; the number of one is its place, from 1.
pub(super) type Snapshots = Rc<RefCell<Vec<Vec<Row>>>>;

/// A store and the process that has it open.
#[derive(Clone)]
pub(super) struct Model(Rc<Open>);

pub(super) struct Open {
    disk: RefCell<Disk>,
    rest: RefCell<Vec<u8>>,
    confirmed: Cell<u64>,
    pub(super) replicated: Cell<u64>,
    pub(super) is_master: bool,
    pub(super) sync_flush: bool,
    pub(super) waits: bool,
    pub(super) differs: Cell<bool>,
    snapshots: Snapshots,
}

impl std::ops::Deref for Model {
    type Target = Open;

    fn deref(&self) -> &Open {
        &self.0
    }
}

impl Model {
    pub(super) fn open(
        disk: Disk,
        snapshots: &Snapshots,
        is_master: bool,
        (sync_flush, waits): (bool, bool),
    ) -> Self {
        let confirmed = disk.index_end().min(disk.end());
        let open = Open {
            disk: RefCell::new(disk),
            rest: RefCell::default(),
            confirmed: Cell::new(confirmed),
            replicated: Cell::new(0),
            is_master,
            sync_flush,
            waits,
            differs: Cell::new(false),
            snapshots: Rc::clone(snapshots),
        };
        Self(Rc::new(open))
    }
}

impl Open {
    pub(super) fn disk(&self) -> RefMut<'_, Disk> {
        self.disk.borrow_mut()
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed.get()
    }

    pub(super) fn serves(&self) -> bool {
        self.is_master || (self.confirmed() >= self.disk().index_end() && !self.differs.get())
    }

    /// Shows what is safe on a master.
    pub(super) fn confirm(&self) {
        let disk = self.disk();
        let safe = if self.sync_flush { disk.flushed } else { disk.end() };
        let safe = if self.waits { safe.min(self.replicated.get()) } else { safe };
        self.confirmed.set(self.confirmed.get().max(safe));
    }
}

fn refused<T>(why: String) -> Result<T, StoreError> {
    Err(StoreError::Refused(why))
}

impl Replica for Model {
    type Watch = ();

    fn watch(&self, _: Wake) {}

    fn identity(&self) -> Result<Identity, StoreError> {
        let disk = self.disk();
        Ok(Identity { store_id: disk.store_id, epochs: disk.epochs(), families: Vec::new() })
    }

    fn position(&self) -> Position {
        let disk = self.disk();
        let (appended, sequence) = (disk.end(), disk.sequence());
        let flushed = if bug(Bug::FalseDurable) { appended } else { disk.flushed };
        Position {
            log_min: disk.log_min,
            appended,
            flushed: flushed.min(appended),
            confirmed: self.confirmed.get(),
            sequence,
            durable_sequence: disk.durable_sequence(),
            index_end: disk.index_end(),
        }
    }

    fn log_crc(&self, from: u64, to: u64) -> Result<u32, StoreError> {
        let disk = self.disk();
        let bytes = disk.slice(from, to);
        bytes.map(crc32fast::hash).ok_or_else(|| StoreError::Behind(format!("{from} to {to}")))
    }

    fn state_digest(&self) -> Result<StateDigest, StoreError> {
        let disk = self.disk();
        let crc = disk.rows.last().map_or(0, |row| row.chain);
        Ok(StateDigest { sequence: disk.sequence(), rows: disk.rows.len() as u64, crc })
    }
}

impl Master for Model {
    type Snapshot = Copy;

    fn log_piece(&self, from: u64, max_bytes: usize) -> Result<Option<LogPiece>, StoreError> {
        let disk = self.disk();
        let segment_base = from / SEGMENT * SEGMENT;
        let to = disk.end().min(segment_base + SEGMENT).min(from + max_bytes as u64);
        if from >= disk.end() {
            return Ok(None);
        }
        let Some(bytes) = disk.slice(from, to) else {
            return Err(StoreError::Behind(format!("{from} is before {}", disk.log_min)));
        };
        let bytes = Bytes::copy_from_slice(bytes);
        Ok(Some(LogPiece { offset: from, segment_base, segment_bytes: SEGMENT, bytes }))
    }

    fn deltas_after(&self, sequence: u64, max_bytes: usize) -> Result<Deltas, StoreError> {
        let disk = self.disk();
        let at = disk.rows.partition_point(|row| row.first <= sequence);
        let Some(next) = disk.rows.get(at) else { return Ok(Deltas::Next(Vec::new())) };
        if next.first != sequence + 1 || next.first < disk.kept_from {
            return Ok(Deltas::Gone);
        }
        let delta = |row: &Row| Delta {
            first_sequence: row.first,
            last_sequence: row.last,
            needs: row.needs,
            batch: row.bytes(),
        };
        let most = (max_bytes / 64).max(1);
        Ok(Deltas::Next(disk.rows[at..].iter().take(most).map(delta).collect()))
    }

    fn keeps_after(&self, sequence: u64) -> Result<bool, StoreError> {
        Ok(self.deltas_after(sequence, 1)? != Deltas::Gone)
    }

    fn snapshot(&self) -> Result<Copy, StoreError> {
        let disk = self.disk();
        let mut all = self.snapshots.borrow_mut();
        all.push(disk.rows.clone());
        let id = all.len() as u64;
        let file = |n: u64| SnapshotFile { name: format!("{id}-{n}"), bytes: 5 * n };
        let files = (0..3).map(file).collect();
        Ok(Copy { id, sequence: disk.sequence(), needs: disk.index_end(), files })
    }

    fn set_replicated(&self, log_offset: u64) {
        self.replicated.set(self.replicated.get().max(log_offset));
        self.confirm();
    }

    fn merge_offset(&self, _: &PendingOffset) -> Result<(), StoreError> {
        Ok(())
    }
}

/// A snapshot; its bytes only show that all of them arrive.
pub(super) struct Copy {
    id: u64,
    sequence: u64,
    needs: u64,
    files: Vec<SnapshotFile>,
}

impl Snapshot for Copy {
    fn id(&self) -> u64 {
        self.id
    }

    fn sequence(&self) -> u64 {
        self.sequence
    }

    fn needs(&self) -> u64 {
        self.needs
    }

    fn files(&self) -> &[SnapshotFile] {
        &self.files
    }

    fn read(&self, name: &str, offset: u64, _: usize) -> io::Result<Bytes> {
        let file = self.files.iter().find(|file| file.name == name).unwrap();
        // In parts of three bytes, so that a snapshot can be cut everywhere.
        let left = (file.bytes - offset).min(3) as usize;
        Ok(Bytes::from(vec![offset as u8; left]))
    }
}

impl Slave for Model {
    type Stage = Incoming;

    fn receive_log(&self, piece: &LogPiece) -> Result<u64, StoreError> {
        let mut disk = self.disk();
        let mut rest = self.rest.borrow_mut();
        let received = disk.end() + rest.len() as u64;
        if piece.offset != received {
            return refused(format!("log from {} while {received} is next", piece.offset));
        }
        rest.extend_from_slice(&piece.bytes);
        let len = disk::whole(&rest, disk.end());
        disk.log.extend(rest.drain(..len));
        Ok(disk.end())
    }

    fn received(&self) -> Result<u64, StoreError> {
        Ok(self.disk().end() + self.rest.borrow().len() as u64)
    }

    fn apply(&self, delta: &Delta) -> Result<(), StoreError> {
        let mut disk = self.disk();
        let Some(row) = Row::from_bytes(&delta.batch) else {
            return refused("no row".to_owned());
        };
        let next = disk.sequence() + 1;
        if row.first != next || (row.first, row.last) != (delta.first_sequence, delta.last_sequence)
        {
            return refused(format!("change {} while {next} is next", row.first));
        }
        if delta.needs > disk.end() {
            return refused(format!("a change of {} with the log at {}", delta.needs, disk.end()));
        }
        if let (Kind::Epoch(epoch), 0) = (row.kind, disk.store_id) {
            disk.store_id = epoch.leader;
        }
        disk.push(row);
        let shown = delta.needs.min(disk.end());
        self.confirmed.set(self.confirmed.get().max(shown));
        Ok(())
    }

    fn sync_index(&self) -> Result<(), StoreError> {
        let mut disk = self.disk();
        disk.durable_rows = disk.rows.len();
        Ok(())
    }

    fn set_master_confirmed(&self, log_offset: u64) -> Result<(), StoreError> {
        let end = log_offset.min(self.disk().end());
        self.confirmed.set(self.confirmed.get().max(end));
        Ok(())
    }

    fn pending_offsets(&self) -> Vec<PendingOffset> {
        Vec::new()
    }

    fn stop_serving(&self) {
        self.differs.set(true);
    }

    fn seen_epoch(&self) -> Result<u64, StoreError> {
        Ok(self.disk().seen_epoch)
    }

    fn remember_epoch(&self, number: u64) -> Result<(), StoreError> {
        let mut disk = self.disk();
        disk.seen_epoch = disk.seen_epoch.max(number);
        Ok(())
    }

    fn stage(&self, id: u64) -> Result<Incoming, StoreError> {
        let mut disk = self.disk();
        if disk.staged.id != id {
            disk.staged = Staged { id, ..Staged::default() };
        }
        drop(disk);
        Ok(Incoming(self.clone()))
    }

    fn plan(&self, work: Work) -> Result<(), StoreError> {
        self.disk().work = Some(work);
        Ok(())
    }
}

/// A snapshot that arrives.
pub(super) struct Incoming(Model);

impl Stage for Incoming {
    fn have(&self, name: &str) -> io::Result<u64> {
        let disk = self.0.disk();
        let file = disk.staged.files.iter().find(|(file, _)| file == name);
        Ok(file.map_or(0, |(_, bytes)| bytes.len() as u64))
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.have(name)? != offset {
            return Err(io::Error::other(format!("{name}: bytes at {offset} do not follow")));
        }
        let mut disk = self.0.disk();
        let files = &mut disk.staged.files;
        match files.iter_mut().find(|(file, _)| file == name) {
            Some((_, here)) => here.extend_from_slice(bytes),
            None => files.push((name.to_owned(), bytes.to_vec())),
        }
        Ok(())
    }

    fn finish(&self, files: &[SnapshotFile]) -> io::Result<()> {
        for SnapshotFile { name, bytes } in files {
            if self.have(name)? != *bytes {
                return Err(io::Error::other(format!("{name} is not complete")));
            }
        }
        self.0.disk().staged.finished = true;
        Ok(())
    }
}
