//! The files of the log: bridging what is missing, end marks.

use std::path::Path;

use protocol::record;

use super::super::files::{Files, Gap};
use crate::{
    file::{self, DiskFile},
    num::to_u64,
};

/// Largest segment that bridges a missing range.
const BRIDGE_MAX_BYTES: u64 = 1 << 30;

/// Puts empty segments where some are missing. They have no blocks: nothing is ever written there.
pub(super) fn write_bridge(log_dir: &Path, files: &Files, gap: Gap) -> std::io::Result<()> {
    // A segment that is too short gets its length back; what is missing in it reads as zeros.
    let short = files.segments.iter().find(|segment| segment.limit_offset() == gap.from);
    let usual = files.segments.iter().map(|segment| segment.len).max().unwrap_or_default();
    let mut from = gap.from;
    if let Some(short) = short.filter(|short| short.len < usual) {
        let to = (short.base_offset + usual).min(gap.to);
        let file = DiskFile::open(&short.path)?;
        file.write_at(&[0], to - short.base_offset - 1)?;
        file.sync()?;
        from = to;
    }
    while from < gap.to {
        let len = (gap.to - from).min(BRIDGE_MAX_BYTES);
        let path = log_dir.join(format!("{from:020}"));
        let file = DiskFile::create(&path)?;
        let filler = u32::try_from(len).map_err(std::io::Error::other)?;
        file.write_at(&[0], len - 1)?;
        file.write_at(&record::blank(filler), 0)?;
        file.sync()?;
        from += len;
    }
    file::sync_dir(log_dir)
}

pub(super) fn write_filler(files: &Files, at: u64) -> std::io::Result<()> {
    let segment = files.segment_at(at).ok_or_else(|| std::io::Error::other("no such segment"))?;
    let left = segment.limit_offset() - at;
    let Ok(left) = u32::try_from(left) else { return Err(std::io::Error::other("too long")) };
    // Less than a filler needs no filler.
    if to_u64(record::BLANK_BYTES) > u64::from(left) {
        return Ok(());
    }
    let file = DiskFile::open(&segment.path)?;
    file.write_at(&record::blank(left), at - segment.base_offset)?;
    file.sync()
}
