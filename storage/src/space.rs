//! How full the disk is, and refusing writes before it is full.
//!
//! RocksDB cannot go on when the disk is full, and with it consumers could not commit what they
//! have consumed: so producers are stopped while there is room for everything else.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{AppendError, Config};

/// So much stays free for RocksDB, whatever percentage is configured…
const RESERVE_MAX_BYTES: u64 = 256 << 20;
/// …but no more than this part of a small disk.
const RESERVE_PART: u64 = 16;
/// RocksDB goes on with this part of the reserve.
const INDEX_PART: u64 = 4;

/// How full the file system of a store is, by whomever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Disk {
    pub(crate) total_bytes: u64,
    pub(crate) used_bytes: u64,
    /// What may still be used; less than the difference, because file systems keep a reserve.
    pub(crate) free_bytes: u64,
}

/// Whether there is room for more messages.
#[derive(Debug)]
pub(crate) struct Space {
    path: PathBuf,
    refuse_percent: u64,
    segment_size_bytes: u64,
    /// As `state.reason`, for the path of every send.
    refusing: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Why writes are refused, while they are.
    reason: Option<Arc<str>>,
    /// Somebody has met the end of the disk, so there must be room for a segment before writes are
    /// accepted again.
    exhausted: bool,
    /// What a test wants the disk to be.
    pretended: Option<Disk>,
}

impl Disk {
    /// Used share in percent, rounded up.
    ///
    /// # Source: `UtilAll.getDiskPartitionSpaceUsedPercent`
    pub(crate) fn used_percent(self) -> u64 {
        let usable = u128::from(self.used_bytes) + u128::from(self.free_bytes);
        if usable == 0 {
            return 0;
        }
        let percent = (u128::from(self.used_bytes) * 100).div_ceil(usable);
        u64::try_from(percent).unwrap_or(100)
    }

    /// Bytes that must become free until at most `percent` are used.
    pub(crate) fn excess_over(self, percent: u64) -> u64 {
        let usable = u128::from(self.used_bytes) + u128::from(self.free_bytes);
        let allowed = u64::try_from(usable * u128::from(percent) / 100).unwrap_or(u64::MAX);
        self.used_bytes.saturating_sub(allowed)
    }

    /// What must stay free.
    fn reserve_bytes(self) -> u64 {
        (self.total_bytes / RESERVE_PART).min(RESERVE_MAX_BYTES)
    }
}

impl Space {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            path: config.path.clone(),
            refuse_percent: config.disk_refuse_percent,
            segment_size_bytes: config.segment_size_bytes,
            refusing: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Errors
    /// [`AppendError::DiskFull`] while there is no room.
    pub(crate) fn check(&self) -> Result<(), AppendError> {
        if !self.refusing.load(Ordering::Relaxed) {
            return Ok(());
        }
        match &self.state().reason {
            Some(reason) => Err(AppendError::DiskFull { reason: Arc::clone(reason) }),
            None => Ok(()),
        }
    }

    /// Asks the operating system and decides. A disk that cannot be asked changes nothing.
    pub(crate) fn look(&self) -> Option<Disk> {
        let disk = match self.disk() {
            Ok(disk) => disk,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "cannot tell how full the disk is");
                return None;
            }
        };
        let mut state = self.state();
        let segment = if state.exhausted { self.segment_size_bytes } else { 0 };
        let needed = disk.reserve_bytes() + segment;
        let used = disk.used_percent();
        let reason = if used >= self.refuse_percent {
            let limit = self.refuse_percent;
            Some(format!("{used} % of it are used and messages are accepted below {limit} % only"))
        } else if disk.free_bytes < needed {
            let free = disk.free_bytes;
            Some(format!("{free} bytes are left and {needed} must be ({used} % are used)"))
        } else {
            state.exhausted = false;
            None
        };
        self.decide(&mut state, reason);
        Some(disk)
    }

    /// Somebody has met the end of the disk: writes are refused until [`Space::look`] finds room.
    pub(crate) fn exhausted(&self, reason: &str) {
        let mut state = self.state();
        state.exhausted = true;
        if state.reason.is_none() {
            self.decide(&mut state, Some(reason.to_owned()));
        }
    }

    fn decide(&self, state: &mut State, reason: Option<String>) {
        match (&state.reason, &reason) {
            (None, Some(reason)) => {
                tracing::error!(path = %self.path.display(), reason, "disk full: messages are refused");
            }
            (Some(_), None) => {
                tracing::info!(path = %self.path.display(), "the disk has room: messages are accepted");
            }
            _ => {}
        }
        self.refusing.store(reason.is_some(), Ordering::Relaxed);
        state.reason = reason.map(Arc::from);
    }

    /// Whether a file of `bytes` may be made.
    ///
    /// # Errors
    /// Why not. Nothing is refused but this.
    pub(crate) fn room_for(&self, bytes: u64) -> io::Result<()> {
        let disk = self.disk()?;
        let (free, reserve) = (disk.free_bytes, disk.reserve_bytes());
        if free >= bytes.saturating_add(reserve) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::StorageFull,
            format!("{free} bytes are left, a segment takes {bytes} and {reserve} must stay free"),
        ))
    }

    /// Whether the index may go on after it has met the end of the disk: long before messages are
    /// accepted again, because offsets are committed and messages deleted through it.
    pub(crate) fn has_room_for_index(&self) -> bool {
        self.disk().is_ok_and(|disk| disk.free_bytes >= disk.reserve_bytes() / INDEX_PART)
    }

    /// How full the disk is.
    ///
    /// # Errors
    /// The operating system's reason.
    pub(crate) fn disk(&self) -> io::Result<Disk> {
        if let Some(pretended) = self.state().pretended {
            return Ok(pretended);
        }
        let found = rustix::fs::statvfs(&self.path)?;
        Ok(Disk {
            total_bytes: found.f_blocks * found.f_frsize,
            used_bytes: found.f_blocks.saturating_sub(found.f_bfree) * found.f_frsize,
            free_bytes: found.f_bavail * found.f_frsize,
        })
    }

    /// For tests: the disk as it should seem; `None` for the real one.
    pub(crate) fn pretend(&self, disk: Option<Disk>) {
        self.state().pretended = disk;
        self.look();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn disk(total: u64, free: u64) -> Disk {
        Disk { total_bytes: total, used_bytes: total - free, free_bytes: free }
    }

    fn space() -> Space {
        let mut config = Config::new("/nowhere");
        config.segment_size_bytes = 16 * MIB;
        Space::new(&config)
    }

    #[test]
    fn percentages_are_rounded_up_and_never_divide_by_nothing() {
        assert_eq!(disk(1_000, 101).used_percent(), 90);
        assert_eq!(disk(1_000, 100).used_percent(), 90);
        assert_eq!(disk(1_000, 99).used_percent(), 91);
        assert_eq!(Disk::default().used_percent(), 0);
        assert_eq!(disk(u64::MAX, 0).used_percent(), 100);
        assert_eq!(disk(1_000, 100).excess_over(85), 50);
        assert_eq!(disk(1_000, 200).excess_over(85), 0);
    }

    #[test]
    fn writes_are_refused_at_the_limit_and_accepted_below_it() {
        let space = space();
        space.pretend(Some(disk(1_000 * MIB, 111 * MIB)));
        space.check().unwrap();
        space.pretend(Some(disk(1_000 * MIB, 100 * MIB)));
        let error = space.check().unwrap_err().to_string();
        assert!(error.contains("90 % of it are used"), "{error}");
        space.pretend(Some(disk(1_000 * MIB, 111 * MIB)));
        space.check().unwrap();
    }

    #[test]
    fn the_reserve_counts_whatever_the_percentage_says() {
        let mut config = Config::new("/nowhere");
        config.disk_refuse_percent = 100;
        let space = Space::new(&config);
        space.pretend(Some(disk(64 * MIB, 5 * MIB)));
        space.check().unwrap();
        space.pretend(Some(disk(64 * MIB, 3 * MIB)));
        space.check().unwrap_err();
        assert!(space.has_room_for_index());
        space.pretend(Some(disk(64 * MIB, MIB - 1)));
        assert!(!space.has_room_for_index());
        space.pretend(Some(disk(1 << 40, 255 * MIB)));
        space.check().unwrap_err();
    }

    #[test]
    fn after_the_end_of_the_disk_a_segment_must_fit_again() {
        let space = space();
        let nearly = disk(160 * MIB, 18 * MIB);
        space.pretend(Some(nearly));
        space.check().unwrap();
        space.room_for(16 * MIB).unwrap_err();
        space.exhausted("no space left on device");
        space.check().unwrap_err();
        space.look();
        space.check().unwrap_err();
        space.pretend(Some(disk(160 * MIB, 26 * MIB)));
        space.check().unwrap();
        space.room_for(16 * MIB).unwrap();
        // Forgotten: only the reserve counts now.
        space.pretend(Some(nearly));
        space.check().unwrap();
    }
}
