//! Which broker a client should pull from next: the master, or a slave while the client is so far
//! behind that its reads would push newer messages out of the master's memory.
//!
//! # Source: `PullMessageProcessor`, `accessMessageInMemoryMaxRatio` = 40

use std::sync::atomic::Ordering::Relaxed;

use protocol::{code::ResponseCode, record::LOG_OFFSET_AT};
use storage::{GroupConfig, Read, ReadStatus};

use crate::state::State;

/// Share of the machine's memory, in percent, that is taken to hold the newest messages.
const IN_MEMORY_PERCENT: u64 = 40;

/// What a suggestion depends on.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "facts, independent of each other")]
pub(super) struct Scene {
    pub(super) is_master: bool,
    /// The own number.
    pub(super) broker_id: i64,
    /// Whether slaves serve pulls at all.
    pub(super) slave_read: bool,
    /// Of a master: whether a slave is connected and in sync. Of a slave: whether it follows its
    /// master.
    pub(super) other_is_there: bool,
    /// Whether the client reads what is not in memory any more.
    pub(super) far_behind: bool,
    /// Number that the group reads from.
    pub(super) group_id: i64,
    /// Number that the group reads from when it is slow.
    pub(super) slow_id: i64,
}

impl Scene {
    /// What there is to know after this read.
    pub(super) fn of(state: &State, group: &GroupConfig, read: &Read) -> Self {
        let other_is_there = state.reach.load(Relaxed);
        let interesting = state.config.slave_read && (other_is_there || !state.is_master());
        let records = read.slices.first().filter(|_| interesting);
        Self {
            is_master: state.is_master(),
            broker_id: state.part.standing.broker_id().cast_signed(),
            slave_read: state.config.slave_read,
            other_is_there,
            far_behind: records.is_some_and(|records| {
                is_far_behind(records, state.store.max_log_offset().0, state.memory_bytes)
            }),
            group_id: group.broker_id,
            slow_id: group.which_broker_when_consume_slowly,
        }
    }

    /// The number of the broker to pull from next.
    pub(super) fn broker(&self) -> i64 {
        match (self.is_master, self.other_is_there) {
            _ if !self.slave_read => 0,
            (true, false) => 0,
            (true, true) if self.far_behind => self.slow_id,
            (true, true) => self.group_id,
            (false, _) if self.far_behind => self.slow_id,
            (false, true) => 0,
            // Without a master, clients stay where they are served.
            (false, false) => self.broker_id,
        }
    }

    /// What a slave answers instead of what it found itself: it may be a moment behind, so that an
    /// offset beyond its end is no mistake, and the end of a queue is for the master to tell.
    pub(super) fn instead(&self, status: ReadStatus, code: ResponseCode) -> Instead {
        let found = code == ResponseCode::SUCCESS;
        match status {
            _ if self.is_master || found => Instead::Nothing,
            _ if self.other_is_there => Instead::AskMaster,
            ReadStatus::OffsetOverflowBadly
            | ReadStatus::NoMessageInQueue
            | ReadStatus::NoMatchedLogicQueue => Instead::Wait,
            _ => Instead::Nothing,
        }
    }
}

/// What a slave answers instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// What it found.
    Nothing,
    /// "Pull again at once", the same offset, from the master.
    AskMaster,
    /// "Nothing there yet" at the same offset.
    Wait,
}

/// Whether records that begin with these bytes are so far from the end of the log that they are
/// not in memory.
pub(super) fn is_far_behind(records: &[u8], log_end: u64, memory_bytes: u64) -> bool {
    let at = records.get(LOG_OFFSET_AT..LOG_OFFSET_AT + 8);
    let offset = at.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
    offset.is_some_and(|offset| {
        log_end.saturating_sub(offset) > memory_bytes / 100 * IN_MEMORY_PERCENT
    })
}

/// Memory of this machine in bytes; as good as none at all if the system does not say.
pub(crate) fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scene(is_master: bool, other_is_there: bool, far_behind: bool) -> Scene {
        Scene {
            is_master,
            broker_id: if is_master { 0 } else { 2 },
            slave_read: true,
            other_is_there,
            far_behind,
            group_id: 0,
            slow_id: 1,
        }
    }

    #[test]
    fn slow_readers_go_to_a_slave_that_is_there() {
        assert_eq!(scene(true, true, true).broker(), 1);
        assert_eq!(scene(true, false, true).broker(), 0, "nobody there");
        assert_eq!(scene(true, true, false).broker(), 0);
        assert_eq!(Scene { slave_read: false, ..scene(true, true, true) }.broker(), 0);
        assert_eq!(Scene { group_id: 3, ..scene(true, true, false) }.broker(), 3);
    }

    #[test]
    fn a_slave_sends_readers_back_once_they_have_caught_up() {
        assert_eq!(scene(false, true, true).broker(), 1);
        assert_eq!(scene(false, true, false).broker(), 0);
        assert_eq!(scene(false, false, false).broker(), 2, "no master: stay");
    }

    #[test]
    fn a_slave_corrects_no_offsets_while_it_has_a_master() {
        let moved = ResponseCode::PULL_OFFSET_MOVED;
        let overflow = ReadStatus::OffsetOverflowBadly;
        assert_eq!(scene(true, true, false).instead(overflow, moved), Instead::Nothing);
        assert_eq!(scene(false, true, false).instead(overflow, moved), Instead::AskMaster);
        assert_eq!(scene(false, false, false).instead(overflow, moved), Instead::Wait);
        let too_small = ReadStatus::OffsetTooSmall;
        assert_eq!(scene(false, false, false).instead(too_small, moved), Instead::Nothing);
        let found = ResponseCode::SUCCESS;
        assert_eq!(scene(false, true, false).instead(ReadStatus::Found, found), Instead::Nothing);
    }

    #[test]
    fn far_behind_is_a_share_of_the_memory() {
        let mut record = [0; 40];
        record[LOG_OFFSET_AT..LOG_OFFSET_AT + 8].copy_from_slice(&1_000_u64.to_be_bytes());
        assert!(!is_far_behind(&record, 1_400, 1_000));
        assert!(is_far_behind(&record, 1_401, 1_000));
        assert!(!is_far_behind(&[], 1_401, 1_000));
        assert!(memory_bytes() > 1 << 20);
    }
}
