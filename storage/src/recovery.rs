//! What opening a store found and did.

use std::time::Duration;

use crate::LogOffset;

/// What recovery found and did. All positions are bytes of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Where the log ends.
    pub end: LogOffset,
    /// The torn tail that was cut off, if there was one. None of its records was durable.
    pub cut: Option<Cut>,
    /// Damage below the durable watermark: the records of these ranges cannot be read. Everything
    /// else can, and nothing was removed.
    pub damaged: Vec<DamagedRange>,
    /// Records that the index did not hold yet.
    pub replayed_records: u64,
    /// Bytes of log whose durability nothing vouched for: they were synced, read back and verified.
    pub unsynced_bytes: u64,
    /// How long the disk took to write what the kernel still had of them.
    pub synced_in: Duration,
    /// Entries of the index that pointed beyond the end of the log and were removed.
    pub removed_entries: u64,
}

/// A torn tail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the log ends now.
    pub at: LogOffset,
    /// What was wrong with what followed.
    pub reason: String,
}

/// A range of the log without readable records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedRange {
    /// First damaged byte.
    pub from: LogOffset,
    /// First good byte after it.
    pub to: LogOffset,
}
