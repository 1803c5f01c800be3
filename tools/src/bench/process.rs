//! CPU time and memory of a process, as Linux counts them.

use std::{fs, io, time::Duration};

/// User and system time of all threads of a process since its start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct CpuTime {
    ticks: u64,
}

impl CpuTime {
    /// The time that a process has used so far.
    pub(super) fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        parse(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    }

    /// The time used between two readings.
    pub(super) fn since(self, before: Self) -> Duration {
        let per_second = rustix::param::clock_ticks_per_second();
        let ticks = self.ticks.saturating_sub(before.ticks);
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000) / per_second.max(1))
    }
}

/// Memory of a process that no file backs, in bytes: its heap and stacks. Pages of mapped files are
/// the system's cache, of which a broker that maps its log holds any amount.
pub(super) fn anonymous_memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    anonymous(&status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024)
}

/// The name, which may hold anything, ends with the last parenthesis; user and system time are
/// the 12th and 13th fields after it.
fn parse(stat: &str) -> Option<CpuTime> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(CpuTime { ticks: user + system })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_confuse() {
        let stat = "7 (a) b (c) R 1 7 7 0 -1 4194304 9 0 0 0 300 45 0 0 20 0 1 0 5";
        assert_eq!(parse(stat), Some(CpuTime { ticks: 345 }));
        assert_eq!(parse("nonsense"), None);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        assert_eq!(
            anonymous("VmRSS:\t 9 kB\nRssAnon:\t    1204 kB\nRssFile: 1 kB"),
            Some(1_232_896)
        );
        assert_eq!(anonymous("RssAnon: 7"), None);
        assert!(anonymous_memory(std::process::id()).unwrap() > 100_000);
    }

    #[test]
    fn work_costs_time() {
        let before = CpuTime::of(std::process::id()).unwrap();
        let mut sum = 0_u64;
        while CpuTime::of(std::process::id()).unwrap() == before {
            sum = sum.wrapping_add(1);
        }
        let spent = CpuTime::of(std::process::id()).unwrap().since(before);
        assert!(spent >= Duration::from_millis(1), "{spent:?} after {sum} rounds");
    }
}
