//! Checking a store.

use std::ops::Range;

use serde::Serialize;
use storage::inspect::{self, Problem, QueueRange, Summary};

use super::{Directory, text_of};
use crate::{
    Context,
    error::Failure,
    output::{Align, Format, Row, say},
};

/// Most findings of a table; JSON has them all.
const ROWS_MAX: usize = 1_000;

#[derive(Serialize)]
struct Finding {
    kind: String,
    problem: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Range<u64>>,
    count: u64,
    what: String,
    to_do: &'static str,
}

impl Finding {
    fn new(problem: Problem) -> Self {
        let Problem { kind, log, queue, count, detail } = problem;
        let part = |of: fn(&QueueRange) -> u64| queue.as_ref().map(of);
        Self {
            kind: format!("{kind:?}"),
            problem: kind.is_problem(),
            from: part(|queue| queue.from),
            to: part(|queue| queue.to),
            queue: queue.as_ref().map(|queue| queue.queue_id),
            topic: queue.map(|queue| queue.topic),
            log,
            count,
            what: detail,
            to_do: kind.advice(),
        }
    }
}

impl Row for Finding {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("FINDING", Align::Left),
        ("PROBLEM", Align::Left),
        ("WHERE", Align::Left),
        ("COUNT", Align::Right),
        ("WHAT", Align::Left),
        ("TO DO", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        let mut place = match (&self.topic, self.queue, self.from, self.to) {
            (Some(topic), Some(queue), Some(from), Some(to)) => {
                format!("{topic}/{queue} #{from}..{to} ")
            }
            _ => String::new(),
        };
        place.push_str(&text_of(self.log.as_ref()));
        vec![
            self.kind.clone(),
            if self.problem { "yes" } else { "no" }.to_owned(),
            place.trim_end().to_owned(),
            if self.count > 0 { self.count.to_string() } else { String::new() },
            self.what.clone(),
            self.to_do.to_owned(),
        ]
    }
}

#[derive(Serialize)]
struct Counts {
    problems: u64,
    notes: u64,
    log_min: u64,
    log_end: u64,
    checkpoint: u64,
    segments: u64,
    records: u64,
    damaged_bytes: u64,
    topics: u64,
    queues: u64,
    groups: u64,
    consumer_offsets: u64,
    blocks: u64,
    entries: u64,
    slices: u64,
    keys: u64,
}

impl From<&Summary> for Counts {
    fn from(of: &Summary) -> Self {
        Self {
            problems: of.problems,
            notes: of.notes,
            log_min: of.log_min,
            log_end: of.log_end,
            checkpoint: of.checkpoint,
            segments: of.segments,
            records: of.records,
            damaged_bytes: of.damaged_bytes,
            topics: of.topics,
            queues: of.queues,
            groups: of.groups,
            consumer_offsets: of.consumer_offsets,
            blocks: of.blocks,
            entries: of.entries,
            slices: of.slices,
            keys: of.keys,
        }
    }
}

pub(super) fn run(arguments: &Directory, context: &mut Context) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut more: u64 = 0;
    let mut written = Ok(());
    let json = context.output.format() == Format::Json;
    let summary = inspect::verify(&arguments.path, &mut |problem| {
        let finding = Finding::new(problem);
        if json {
            if written.is_ok() {
                written = context.output.json(&finding);
            }
        } else if rows.len() < ROWS_MAX {
            rows.push(finding);
        } else {
            more += 1;
        }
    })?;
    written?;
    if !json && !rows.is_empty() {
        rows.sort_by_key(|finding| !finding.problem);
        context.output.rows(&rows)?;
        context.output.line("")?;
    }
    if more > 0 {
        say(&format!("{more} more findings are not shown; -o json has them all"));
    }
    show(&summary, context)?;
    match summary.problems {
        0 => Ok(()),
        problems => Err(Failure::Problems { problems, path: arguments.path.clone() }),
    }
}

fn show(summary: &Summary, context: &mut Context) -> Result<(), Failure> {
    let counts = Counts::from(summary);
    let pairs = [
        ("problems", counts.problems.to_string()),
        ("worth knowing", counts.notes.to_string()),
        (
            "log",
            format!("{} to {} in {} segments", counts.log_min, counts.log_end, counts.segments),
        ),
        ("records", format!("{}, damaged bytes: {}", counts.records, counts.damaged_bytes)),
        ("checkpoint", counts.checkpoint.to_string()),
        ("topics", format!("{} with {} queues", counts.topics, counts.queues)),
        ("groups", format!("{} with {} offsets", counts.groups, counts.consumer_offsets)),
        ("consume queues", format!("{} entries in {} blocks", counts.entries, counts.blocks)),
        ("key index", format!("{} entries in {} slices", counts.keys, counts.slices)),
    ];
    Ok(context.output.object(&pairs, &counts)?)
}
