//! Saying where the rows of a new RocksDB come from, and what is lost.

use super::{
    super::salvage::{Salvaged, Source},
    Action, Tell, change,
    rows::Rows,
};
use crate::{
    adopt::files::{GROUPS, OFFSETS, TOPICS},
    num::to_u64,
};

impl Rows {
    pub(super) fn tell(&self, each: Tell<'_>) {
        self.tell_salvaged(each);
        self.tell_exported(each);
        for name in &self.again {
            let detail = format!(
                "topic {name} as it was created again, with the settings that it had before"
            );
            each(change(Action::Create, 1, detail));
        }
        for (name, row) in &self.created {
            let detail = format!(
                "topic {name} with {} queues as its messages have them, readable and writable; \
                 other settings are lost",
                row.queues
            );
            each(change(Action::Create, 1, detail));
        }
    }

    fn tell_salvaged(&self, each: Tell<'_>) {
        let Salvaged { unreadable, source, .. } = &self.salvaged;
        let how = match source {
            Source::AsIs => "of the old RocksDB",
            Source::Skipped => {
                "of the old RocksDB, without the damaged places of its write-ahead log"
            }
            Source::Manifest => "of the old RocksDB, opened with its newest manifest",
            Source::Repaired => "of the old RocksDB, after RocksDB's own repair of a copy",
            Source::Nothing => "",
        };
        let (topics, groups, offsets) =
            (&self.salvaged.topics, &self.salvaged.groups, &self.salvaged.offsets);
        let kept = [
            ("topics", to_u64(topics.len()) - self.taken.topics),
            ("groups", to_u64(groups.len()) - self.taken.groups),
            ("offsets", to_u64(offsets.len()) - self.taken.offsets),
        ];
        for (what, count) in kept.into_iter().filter(|_| *source != Source::Nothing) {
            each(change(Action::Keep, count, format!("{what} {how}")));
        }
        if *unreadable > 0 {
            each(change(Action::Drop, *unreadable, "rows that cannot be decoded"));
        }
        if self.dropped_offsets > 0 {
            let detail = "consumer offsets of topics or queues that do not exist";
            each(change(Action::Drop, self.dropped_offsets, detail));
        }
        for name in &self.denied {
            let detail = format!(
                "topic {name}, which is not in config/{TOPICS} and has no message since that was \
                 written: it was deleted"
            );
            each(change(Action::Drop, 1, detail));
        }
    }

    /// What comes from the files for RocketMQ, and what is in none of both.
    fn tell_exported(&self, each: Tell<'_>) {
        for error in &self.exported.damaged {
            each(change(Action::Lost, 0, format!("what config/*.json would say: {error}")));
        }
        let taken = &self.taken;
        for (count, what, file) in
            [(taken.topics, "topics", TOPICS), (taken.groups, "groups", GROUPS)]
        {
            if count > 0 {
                let detail = format!("{what} that RocksDB has lost come from config/{file}");
                each(change(Action::Restore, count, detail));
            }
        }
        if taken.offsets > 0 {
            let detail = format!(
                "consumer offsets that RocksDB has lost come from config/{OFFSETS} and are as old \
                 as that file, which the broker writes every 30 s and at close: what was consumed \
                 since is delivered again"
            );
            each(change(Action::Restore, taken.offsets, detail));
        }
        if taken.moved > 0 {
            let detail = format!("consumer offsets that are further in config/{OFFSETS}");
            each(change(Action::Restore, taken.moved, detail));
        }
        if self.salvaged.holes.is_empty() {
            return;
        }
        let detail = if self.exported.is_empty() {
            "topics without messages, settings of topics, groups and consumer offsets that RocksDB \
             cannot read: there are no config/*.json that have them"
        } else {
            "topics without messages, settings of topics, groups and consumer offsets that RocksDB \
             cannot read, if they were made or changed after config/*.json was written"
        };
        each(change(Action::Lost, 0, detail));
    }
}
