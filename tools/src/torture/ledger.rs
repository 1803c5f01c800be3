//! The ledger: one row for each campaign that went well. Its head is in `tools/torture/LEDGER.md`.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
    process::Command,
};

use jiff::{Timestamp, tz::TimeZone};
use protocol::clock::Clock;

use super::{Plan, tally::Tally};

pub(super) fn append(path: &Path, plan: &Plan, tally: &Tally) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(row(plan, tally, &today(), &commit()).as_bytes())
}

fn row(plan: &Plan, tally: &Tally, date: &str, commit: &str) -> String {
    let names: Vec<_> = plan.nemeses.iter().map(|nemesis| nemesis.name()).collect();
    format!(
        "| {date} | {commit} | {} | {} | {} | {} | {} | {} | {} | {} | {} ms | {} ms |\n",
        plan.seed,
        names.join(" "),
        plan.fs.name(),
        plan.mode.name(),
        tally.cycles,
        tally.acked,
        tally.lost,
        tally.rewritten,
        tally.worst_window_us / 1_000,
        tally.worst_restart_us / 1_000,
    )
}

pub(super) fn today() -> String {
    let now = Timestamp::from_millisecond(Clock::system().now_ms()).unwrap_or_default();
    TimeZone::UTC.to_datetime(now).date().to_string()
}

/// What is checked out where this runs, if anything is.
pub(super) fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let hash = output.ok().filter(|output| output.status.success());
    let hash = hash.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    hash.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::{Mode, medium::Fs, nemesis::Nemesis};

    #[test]
    fn a_row_has_the_columns_of_the_head() {
        let plan = Plan {
            nemeses: vec![Nemesis::Kill, Nemesis::Cut],
            fs: Fs::Xfs,
            mode: Mode::Sync,
            seed: 5,
            broker: "mqbroker".into(),
            work: "work".into(),
            bug: None,
            check_every: 25,
        };
        let row = row(&plan, &Tally { cycles: 9, ..Tally::default() }, "2026-11-24", "abc");
        let head = include_str!("../../torture/LEDGER.md");
        let head = head.lines().find(|line| line.starts_with("| date")).unwrap();
        assert_eq!(row.matches('|').count(), head.matches('|').count(), "{row}\n{head}");
        assert!(row.contains("| 2026-11-24 | abc | 5 | kill cut | xfs | sync | 9 |"), "{row}");
    }
}
