//! The store of this broker, as replication asks it.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;
use storage::{
    Store,
    replica::{self, Role, SavedRole, Wake},
};

use super::replica::{
    Delta, Deltas, Identity, LogPiece, Master, PendingOffset, Position, Replica, Slave, Snapshot,
    SnapshotFile, Stage, StateDigest, StoreError, Work,
};

/// A store and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Local {
    pub(crate) store: Arc<Store>,
    pub(crate) path: PathBuf,
    pub(crate) broker_id: u64,
}

impl Replica for Local {
    type Watch = replica::WatchGuard;

    fn watch(&self, wake: Wake) -> Self::Watch {
        self.store.watch(wake)
    }

    fn identity(&self) -> Result<Identity, StoreError> {
        Ok(self.store.identity()?)
    }

    fn position(&self) -> Position {
        self.store.position()
    }

    fn log_crc(&self, from: u64, to: u64) -> Result<u32, StoreError> {
        Ok(self.store.log_crc(from, to)?)
    }

    fn state_digest(&self) -> Result<StateDigest, StoreError> {
        Ok(self.store.state_digest()?)
    }
}

impl Master for Local {
    type Snapshot = replica::Snapshot;

    fn log_piece(&self, from: u64, max_bytes: usize) -> Result<Option<LogPiece>, StoreError> {
        Ok(self.store.log_piece(from, max_bytes)?)
    }

    fn deltas_after(&self, sequence: u64, max_bytes: usize) -> Result<Deltas, StoreError> {
        Ok(self.store.deltas_after(sequence, max_bytes)?)
    }

    fn keeps_after(&self, sequence: u64) -> Result<bool, StoreError> {
        Ok(self.store.keeps_after(sequence)?)
    }

    fn snapshot(&self) -> Result<Self::Snapshot, StoreError> {
        Ok(self.store.snapshot()?)
    }

    fn set_replicated(&self, log_offset: u64) {
        self.store.set_replicated(log_offset);
    }

    fn merge_offset(&self, offset: &PendingOffset) -> Result<(), StoreError> {
        Ok(self.store.merge_offset(offset)?)
    }
}

impl Snapshot for replica::Snapshot {
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

    fn read(&self, name: &str, offset: u64, max_bytes: usize) -> io::Result<Bytes> {
        Self::read(self, name, offset, max_bytes)
    }
}

impl Slave for Local {
    type Stage = replica::Stage;

    fn receive_log(&self, piece: &LogPiece) -> Result<u64, StoreError> {
        Ok(self.store.receive_log(piece)?)
    }

    fn received(&self) -> Result<u64, StoreError> {
        Ok(self.store.received()?)
    }

    fn apply(&self, delta: &Delta) -> Result<(), StoreError> {
        Ok(self.store.apply(delta)?)
    }

    fn sync_index(&self) -> Result<(), StoreError> {
        Ok(self.store.sync_index()?)
    }

    fn set_master_confirmed(&self, log_offset: u64) -> Result<(), StoreError> {
        Ok(self.store.set_master_confirmed(log_offset)?)
    }

    fn pending_offsets(&self) -> Vec<PendingOffset> {
        self.store.pending_offsets()
    }

    fn stop_serving(&self) {
        self.store.stop_serving();
    }

    fn seen_epoch(&self) -> Result<u64, StoreError> {
        Ok(replica::saved_role(&self.path)?.map_or(0, |saved| saved.seen_epoch))
    }

    fn remember_epoch(&self, number: u64) -> Result<(), StoreError> {
        let here = SavedRole { role: Role::Slave, broker_id: self.broker_id, seen_epoch: 0 };
        let saved = replica::saved_role(&self.path)?.unwrap_or(here);
        let seen_epoch = saved.seen_epoch.max(number);
        Ok(replica::save_role(&self.path, &SavedRole { seen_epoch, ..saved })?)
    }

    fn stage(&self, snapshot_id: u64) -> Result<Self::Stage, StoreError> {
        Ok(replica::stage(&self.path, snapshot_id)?)
    }

    fn plan(&self, work: Work) -> Result<(), StoreError> {
        Ok(replica::plan(&self.path, &work)?)
    }
}

impl Stage for replica::Stage {
    fn have(&self, name: &str) -> io::Result<u64> {
        Self::have(self, name)
    }

    fn write(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        Self::write(self, name, offset, bytes)
    }

    fn finish(&self, files: &[SnapshotFile]) -> io::Result<()> {
        Self::finish(self, files)
    }
}
