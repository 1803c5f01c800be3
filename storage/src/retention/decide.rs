//! Which segments go: pure decisions, no I/O.

use crate::{Config, space::Disk};

/// Most segments that one round deletes.
///
/// # Source: `deleteFileBatchMax`
pub(crate) const SEGMENTS_MAX: usize = 10;

const HOUR_MS: i64 = 3_600_000;

/// The clock is said to have jumped when it moves by this much more or less than time has passed.
const JUMP_MS: i64 = 60_000;
/// A clock that has jumped is believed again when it has gone on for so long from there.
const SETTLE_MS: i64 = HOUR_MS;

/// A complete segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) limit_offset: u64,
    pub(crate) len_bytes: u64,
    /// How long ago its last record was stored, at most.
    pub(crate) age_ms: i64,
}

/// What a round has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// So many of the oldest segments go.
    pub(crate) segments: usize,
    /// So many of them are not old enough and go because the disk is full.
    pub(crate) unexpired: usize,
}

/// Decides what to delete of `sealed`, the oldest segments in order.
///
/// # Source: `CleanCommitLogService.deleteExpiredFiles`
pub(crate) fn plan(config: &Config, disk: Disk, hour: Option<u8>, sealed: &[Sealed]) -> Plan {
    let used = disk.used_percent();
    let old = hours(config.retention_hours);
    let expired = sealed.iter().take_while(|segment| segment.age_ms >= old).count();
    let due = hour.is_some_and(|hour| config.delete_hours.contains(&hour))
        || used > config.disk_clean_percent;
    let expired = if due { expired } else { 0 };
    let mut forced = 0;
    if config.delete_unexpired && used > config.disk_force_clean_percent {
        let mut excess = disk.excess_over(config.disk_force_clean_percent);
        let needed = sealed.iter().take_while(|segment| {
            let more = excess > 0;
            excess = excess.saturating_sub(segment.len_bytes);
            more
        });
        forced = needed.count();
    }
    let segments = expired.max(forced).min(SEGMENTS_MAX);
    Plan { segments, unexpired: segments.saturating_sub(expired) }
}

/// Hours in milliseconds.
pub(crate) fn hours(hours: u64) -> i64 {
    i64::try_from(hours).unwrap_or(i64::MAX).saturating_mul(HOUR_MS)
}

/// How long ago a segment was finished, which is never long ago by mistake: `stored_ms` is when its
/// last record was stored, `changed_ms` when its file was changed last, and the later of the two
/// counts. A record from the future was stored by a clock that was wrong, so only the file counts.
pub(crate) fn age_ms(now_ms: i64, stored_ms: Option<i64>, changed_ms: i64) -> i64 {
    let stored_ms = stored_ms.filter(|&stored| stored <= now_ms).unwrap_or(changed_ms);
    now_ms.saturating_sub(stored_ms.max(changed_ms))
}

/// The wall clock, but a jump of it is only believed after an hour: nothing is deleted because
/// somebody set the year wrong for a moment.
#[derive(Debug)]
pub(crate) struct SettledClock {
    /// Wall time minus time that has passed, as it is believed.
    difference_ms: i64,
    /// Where the clock has jumped to, and how much time had passed then.
    jumped: Option<(i64, i64)>,
}

impl SettledClock {
    /// Believes the wall clock of now.
    pub(crate) fn new(wall_ms: i64) -> Self {
        Self { difference_ms: wall_ms, jumped: None }
    }

    /// The time to reckon with, given the wall clock and the time since [`SettledClock::new`].
    pub(crate) fn now_ms(&mut self, wall_ms: i64, passed_ms: i64) -> i64 {
        let difference = wall_ms.saturating_sub(passed_ms);
        let near = |other: i64| difference.saturating_sub(other).saturating_abs() <= JUMP_MS;
        if near(self.difference_ms) {
            // Clocks that are slewed or drift are followed.
            self.difference_ms = difference;
            self.jumped = None;
        } else {
            match self.jumped {
                Some((to, since)) if near(to) && passed_ms - since >= SETTLE_MS => {
                    tracing::info!("retention follows the clock again");
                    self.difference_ms = difference;
                    self.jumped = None;
                }
                Some((to, _)) if near(to) => {}
                _ => {
                    let by_ms = difference.saturating_sub(self.difference_ms);
                    tracing::warn!(
                        by_ms,
                        "the clock has jumped: retention ignores that for an hour"
                    );
                    self.jumped = Some((difference, passed_ms));
                }
            }
        }
        passed_ms.saturating_add(self.difference_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn sealed(ages_h: &[i64]) -> Vec<Sealed> {
        let segment = |(limit_offset, age): (u64, &i64)| Sealed {
            limit_offset,
            len_bytes: GIB,
            age_ms: age * HOUR_MS,
        };
        (1..).zip(ages_h).map(segment).collect()
    }

    fn used(percent: u64) -> Disk {
        let total_bytes = 100 * GIB;
        let used_bytes = percent * GIB;
        Disk { total_bytes, used_bytes, free_bytes: total_bytes - used_bytes }
    }

    fn decide(config: &Config, percent: u64, hour: u8, ages_h: &[i64]) -> (usize, usize) {
        let plan = plan(config, used(percent), Some(hour), &sealed(ages_h));
        (plan.segments, plan.unexpired)
    }

    #[test]
    fn expired_segments_go_at_their_hour_or_when_the_disk_fills_up() {
        let mut config = Config::new("");
        let ages = [100, 73, 72, 71, 80];
        assert_eq!(decide(&config, 50, 3, &ages), (0, 0));
        // The one of 80 hours stays because the one before it does.
        assert_eq!(decide(&config, 50, 4, &ages), (3, 0));
        assert_eq!(decide(&config, 75, 3, &ages), (0, 0));
        assert_eq!(decide(&config, 76, 3, &ages), (3, 0));
        config.delete_hours = vec![3, 16];
        assert_eq!(decide(&config, 50, 16, &ages), (3, 0));
        assert_eq!(decide(&config, 50, 4, &ages), (0, 0));
        assert_eq!(plan(&config, Disk::default(), None, &sealed(&ages)).segments, 0);
        assert_eq!(decide(&config, 76, 3, &[90; 30]), (10, 0));
    }

    #[test]
    fn a_full_disk_costs_unexpired_segments_unless_that_is_forbidden() {
        let mut config = Config::new("");
        assert_eq!(decide(&config, 85, 3, &[1; 20]), (0, 0));
        assert_eq!(decide(&config, 86, 3, &[1; 20]), (1, 1));
        assert_eq!(decide(&config, 89, 3, &[1; 20]), (4, 4));
        assert_eq!(decide(&config, 99, 3, &[1; 20]), (10, 10));
        assert_eq!(decide(&config, 89, 3, &[90, 90, 1, 1, 1]), (4, 2));
        assert_eq!(decide(&config, 87, 3, &[90, 90, 90, 1, 1]), (3, 0));
        assert_eq!(decide(&config, 99, 3, &[]), (0, 0));
        config.delete_unexpired = false;
        assert_eq!(decide(&config, 99, 3, &[1; 20]), (0, 0));
        assert_eq!(decide(&config, 99, 3, &[90, 1]), (1, 0));
    }

    #[test]
    fn a_segment_is_as_young_as_its_record_or_its_file() {
        assert_eq!(age_ms(100, Some(10), 10), 90);
        assert_eq!(age_ms(100, Some(10), 80), 20, "copied lately");
        assert_eq!(age_ms(100, Some(80), 10), 20);
        assert_eq!(age_ms(100, Some(5_000), 10), 90, "stored by a clock that was wrong");
        assert_eq!(age_ms(100, None, 40), 60);
        assert_eq!(age_ms(100, None, 200), -100);
    }

    #[test]
    fn a_jump_of_the_clock_is_believed_after_an_hour() {
        let year = 365 * 24 * HOUR_MS;
        let mut clock = SettledClock::new(1_000);
        assert_eq!(clock.now_ms(1_500, 500), 1_500);
        // Drift is followed.
        assert_eq!(clock.now_ms(31_500, 1_500), 31_500);
        let jumped = |passed: i64| 31_500 - 1_500 + passed + 10 * year;
        assert_eq!(clock.now_ms(jumped(2_000), 2_000), 32_000);
        assert_eq!(
            clock.now_ms(jumped(2_000 + SETTLE_MS - 1), 2_000 + SETTLE_MS - 1),
            32_000 + SETTLE_MS - 1
        );
        assert_eq!(
            clock.now_ms(jumped(2_000 + SETTLE_MS), 2_000 + SETTLE_MS),
            jumped(2_000 + SETTLE_MS)
        );
    }

    #[test]
    fn a_clock_that_jumps_all_the_time_is_never_believed() {
        let mut clock = SettledClock::new(0);
        for step in 1..2_000 {
            let passed = step * 10_000;
            let wall = passed + if step % 2 == 0 { HOUR_MS } else { -HOUR_MS };
            assert_eq!(clock.now_ms(wall, passed), passed);
        }
    }
}
