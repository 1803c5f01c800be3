//! `mqtool migrate`: moving to BasaltMQ from a directory of Apache RocketMQ.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::clock::Clock;
use serde::Serialize;
use storage::{Concern, Migration};

use crate::{
    Context,
    error::Failure,
    output::{Align, Format, Row},
    time::{length, stamp},
};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Look at a store of RocketMQ: what is there, and what would not carry over
    Check(Arguments),
}

/// Changes nothing; reads the whole log. To take the store over, stop RocketMQ's broker and start
/// ours on it (storePathRootDir); to give it back, stop ours and start RocketMQ's.
#[derive(Args)]
pub(crate) struct Arguments {
    /// RocketMQ's storePathRootDir, which holds commitlog/ and config/
    #[arg(value_name = "DIR")]
    store: PathBuf,
}

pub(crate) fn run(verb: &Verb, context: &mut Context) -> Result<(), Failure> {
    let Verb::Check(Arguments { store }) = verb;
    let found = storage::migrate_check(store, Clock::system().now_ms())?;
    let shown = Shown::new(store, &found);
    if context.output.format() == Format::Json {
        context.output.json(&shown)?;
    } else {
        context.output.object(&shown.pairs(), &shown)?;
        for note in &shown.notes {
            context.output.line(&format!("note: {note}"))?;
        }
        if !shown.does_not_carry_over.is_empty() {
            context.output.line("")?;
            context.output.rows(&shown.does_not_carry_over)?;
        }
    }
    match shown.does_not_carry_over.len() {
        0 => Ok(()),
        kinds => Err(Failure::NotCarriedOver { kinds, path: store.clone() }),
    }
}

/// One kind of thing that stays behind.
#[derive(Serialize)]
struct Left {
    what: &'static str,
    count: u64,
    meaning: String,
}

impl From<&Concern> for Left {
    fn from(concern: &Concern) -> Self {
        Self { what: concern.what, count: concern.count, meaning: concern.meaning.clone() }
    }
}

impl Row for Left {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("DOES NOT CARRY OVER", Align::Left),
        ("COUNT", Align::Right),
        ("WHAT THAT MEANS", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![self.what.to_owned(), self.count.to_string(), self.meaning.clone()]
    }
}

#[derive(Serialize)]
struct Shown {
    store: PathBuf,
    written_by: &'static str,
    clean: bool,
    segments: u64,
    segment_size_bytes: Option<u64>,
    log_min: u64,
    log_end: u64,
    records: u64,
    first_ms: i64,
    last_ms: i64,
    topics: u64,
    queues: u64,
    groups: u64,
    offsets: u64,
    long_topic_records: u64,
    replay_ms: u64,
    notes: Vec<String>,
    does_not_carry_over: Vec<Left>,
}

impl Shown {
    fn new(store: &std::path::Path, found: &Migration) -> Self {
        // Taking over reads the log to find its end, and again to build the index.
        let replay_ms = u64::try_from((found.scan * 2).as_millis()).unwrap_or(u64::MAX);
        Self {
            store: store.to_owned(),
            written_by: found.written_by,
            clean: found.clean,
            segments: found.segments,
            segment_size_bytes: found.segment_size_bytes,
            log_min: found.log_min.0,
            log_end: found.log_end.0,
            records: found.records,
            first_ms: found.first_store_ms,
            last_ms: found.last_store_ms,
            topics: found.topics,
            queues: found.queues,
            groups: found.groups,
            offsets: found.offsets,
            long_topic_records: found.long_topic_records,
            replay_ms,
            notes: found.notes.clone(),
            does_not_carry_over: found.concerns.iter().map(Left::from).collect(),
        }
    }

    fn pairs(&self) -> [(&'static str, String); 9] {
        let closed = if self.clean { "closed in order" } else { "not closed in order" };
        let size = self
            .segment_size_bytes
            .map_or_else(|| "different sizes".to_owned(), |size| format!("{size} bytes each"));
        let replay_ms = i64::try_from(self.replay_ms).unwrap_or(i64::MAX);
        [
            ("store", self.store.display().to_string()),
            ("written by", format!("RocketMQ {}, {closed}", self.written_by)),
            ("segments", format!("{}, {size}", self.segments)),
            ("log", format!("{} to {}", self.log_min, self.log_end)),
            (
                "records",
                format!(
                    "{}, stored {} to {}",
                    self.records,
                    stamp(self.first_ms),
                    stamp(self.last_ms)
                ),
            ),
            ("topics", format!("{} with {} queues", self.topics, self.queues)),
            ("groups", self.groups.to_string()),
            ("consumer offsets", self.offsets.to_string()),
            ("taking over", format!("about {}", length(replay_ms))),
        ]
    }
}
