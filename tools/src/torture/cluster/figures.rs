//! What a run has done and seen, and its row of the ledger.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    path::Path,
    time::Duration,
};

use serde::Serialize;

use super::Plan;
use crate::torture::{ledger, verdict::Verdict};

/// Sums and worst cases of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) episodes: u64,
    pub(super) stores: u64,
    pub(super) kills: u64,
    pub(super) partitions: u64,
    pub(super) zombies: u64,
    pub(super) promotions: u64,
    /// Acknowledged messages that the checker has found on both brokers.
    pub(super) acked: u64,
    pub(super) refused: u64,
    /// Messages that groups have read more than once.
    pub(super) duplicates: u64,
    /// How far a committed offset went back at most.
    pub(super) regress: u64,
    /// How long promotions took.
    pub(super) promotion_us: u64,
    pub(super) worst_promotion_us: u64,
    /// From the return of an old master to its being a slave, at most.
    pub(super) worst_give_up_us: u64,
    /// From the end of a fault to the first acknowledged send, at most.
    pub(super) worst_outage_us: u64,
    pub(super) outage_us: u64,
    outages: u64,
    /// The store's part of the figures, which both verdicts about it have.
    #[serde(skip)]
    store: (u64, u64),
}

fn us(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn mean_ms(sum_us: u64, count: u64) -> u64 {
    sum_us.checked_div(count).unwrap_or(0) / 1_000
}

impl Figures {
    pub(super) fn promoted(&mut self, took: Duration) {
        self.promotions += 1;
        self.promotion_us += us(took);
        self.worst_promotion_us = self.worst_promotion_us.max(us(took));
    }

    pub(super) fn gave_up(&mut self, took: Duration) {
        self.worst_give_up_us = self.worst_give_up_us.max(us(took));
    }

    pub(super) fn acknowledged_again(&mut self, took: Duration) {
        self.outages += 1;
        self.outage_us += us(took);
        self.worst_outage_us = self.worst_outage_us.max(us(took));
    }

    pub(super) fn judged(&mut self, verdict: &Verdict) {
        self.store = (verdict.acked, verdict.duplicates);
        self.regress = self.regress.max(verdict.regress);
    }

    /// A pair of stores has passed its last check.
    pub(super) fn store_done(&mut self) {
        let (acked, duplicates) = std::mem::take(&mut self.store);
        self.stores += 1;
        self.acked += acked;
        self.duplicates += duplicates;
    }

    /// What to print. That nothing was lost and no offset was given twice is what a run that ends
    /// well has proven.
    pub(super) fn pairs(&self, plan: &Plan) -> Vec<(&'static str, String)> {
        let ms = |us: u64| format!("{} ms", us / 1_000);
        vec![
            ("episodes", self.episodes.to_string()),
            ("kills", self.kills.to_string()),
            ("partitions", self.partitions.to_string()),
            ("zombies", self.zombies.to_string()),
            ("promotions", self.promotions.to_string()),
            ("flush", plan.mode.name().to_owned()),
            ("file system", plan.fs.name().to_owned()),
            ("seed", plan.seed.to_string()),
            ("pairs of stores compared", self.stores.to_string()),
            ("acked messages checked", self.acked.to_string()),
            ("refused sends", self.refused.to_string()),
            ("read more than once", self.duplicates.to_string()),
            ("committed offsets back by", self.regress.to_string()),
            ("promotion, mean", format!("{} ms", mean_ms(self.promotion_us, self.promotions))),
            ("promotion, worst", ms(self.worst_promotion_us)),
            ("old master gives up, worst", ms(self.worst_give_up_us)),
            ("sends go on, mean", format!("{} ms", mean_ms(self.outage_us, self.outages))),
            ("sends go on, worst", ms(self.worst_outage_us)),
        ]
    }

    /// Adds a row to the last table of the ledger.
    pub(super) fn append_to(&self, path: &Path, plan: &Plan) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        file.write_all(self.row(plan, &ledger::today(), &ledger::commit()).as_bytes())
    }

    fn row(&self, plan: &Plan, date: &str, commit: &str) -> String {
        format!(
            "| {date} | {commit} | cluster of two, {} flush, {}, seed {}: `mqtool torture cluster` | \
             {} episodes, {} kills, {} partitions, {} promotions; {} acked messages checked on both, \
             0 lost, 0 offsets given twice, {} pairs of stores equal; promotion at most {} ms, sends \
             go on at most {} ms after a fault |\n",
            plan.mode.name(),
            plan.fs.name(),
            plan.seed,
            self.episodes,
            self.kills,
            self.partitions,
            self.promotions,
            self.acked,
            self.stores,
            self.worst_promotion_us / 1_000,
            self.worst_outage_us / 1_000,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::{Mode, medium::Fs};

    #[test]
    fn a_row_has_the_columns_of_the_ledgers_last_table() {
        let plan = Plan {
            nemeses: Vec::new(),
            fs: Fs::Dir,
            mode: Mode::Async,
            seed: 5,
            broker: "mqbroker".into(),
            name_server: "mqnamesrv".into(),
            work: "work".into(),
        };
        let mut figures = Figures { kills: 7, ..Figures::default() };
        figures.promoted(Duration::from_millis(70));
        let row = figures.row(&plan, "2026-11-24", "abc");
        let ledger = include_str!("../../../torture/LEDGER.md");
        let head = ledger.lines().rfind(|line| line.starts_with("| date")).unwrap();
        assert_eq!(row.matches('|').count(), head.matches('|').count(), "{row}\n{head}");
        assert!(row.contains("async flush, dir, seed 5"), "{row}");
        assert!(row.contains("7 kills, 0 partitions, 1 promotions"), "{row}");
    }

    #[test]
    fn worst_and_mean_are_kept() {
        let mut figures = Figures::default();
        for ms in [10, 30] {
            figures.acknowledged_again(Duration::from_millis(ms));
        }
        assert_eq!(
            (figures.worst_outage_us, mean_ms(figures.outage_us, figures.outages)),
            (30_000, 20)
        );
        assert_eq!(mean_ms(0, 0), 0);
    }
}
