//! Listing what a store holds.

use clap::Args;
use serde::Serialize;
use storage::inspect::{self, FamilyInfo, SegmentInfo, SlotInfo, TopicInfo, Tree};

use super::Directory;
use crate::{
    Context,
    error::Failure,
    output::{Align, Format, Row},
    time::stamp,
};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// Count records and rows, which reads everything
    #[arg(long)]
    count: bool,
}

#[derive(Serialize)]
struct Segment {
    base_offset: u64,
    bytes: u64,
    disk_bytes: u64,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    records: Option<u64>,
}

#[derive(Serialize)]
struct Slot {
    sequence: u64,
    durable: u64,
    index_sequence: u64,
    clean: bool,
}

#[derive(Serialize)]
struct Family {
    name: &'static str,
    kind: &'static str,
    rows: u64,
    counted: bool,
    table_bytes: u64,
}

#[derive(Serialize)]
struct Topic {
    topic: String,
    id: u32,
    queues: u32,
    since_log_offset: u64,
    records: Option<u64>,
}

#[derive(Serialize)]
struct Shown {
    log_end: u64,
    checkpoint: u64,
    index_log_end: u64,
    index_sequence: u64,
    index_failure: Option<String>,
    groups: u64,
    consumer_offsets: u64,
    log_bytes: u64,
    index_bytes: u64,
    aside_bytes: u64,
    other_files: Vec<String>,
    watermark: Vec<Slot>,
    segments: Vec<Segment>,
    families: Vec<Family>,
    topics: Vec<Topic>,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let tree = inspect::tree(&arguments.directory.path, arguments.count)?;
    let shown = Shown::new(tree, arguments.count);
    if context.output.format() == Format::Json {
        return Ok(context.output.json(&shown)?);
    }
    context.output.rows(&shown.segments)?;
    context.output.line("")?;
    context.output.rows(&shown.watermark)?;
    context.output.line("")?;
    context.output.rows(&shown.families)?;
    context.output.line("")?;
    context.output.rows(&shown.topics)?;
    context.output.line("")?;
    let index = shown.index_failure.clone().unwrap_or_else(|| {
        format!(
            "holds everything before {}, nothing at or behind {}; last change {}",
            shown.checkpoint, shown.index_log_end, shown.index_sequence
        )
    });
    let mut pairs = vec![
        ("log ends at", shown.log_end.to_string()),
        ("index", index),
        ("groups", format!("{} with {} offsets", shown.groups, shown.consumer_offsets)),
        (
            "bytes on disk",
            format!(
                "log {}, RocksDB {}, set aside {}",
                shown.log_bytes, shown.index_bytes, shown.aside_bytes
            ),
        ),
    ];
    if !shown.other_files.is_empty() {
        pairs.push(("other files", shown.other_files.join(", ")));
    }
    Ok(context.output.object(&pairs, &shown)?)
}

impl Shown {
    fn new(tree: Tree, counted: bool) -> Self {
        Self {
            log_end: tree.log_end,
            checkpoint: tree.checkpoint,
            index_log_end: tree.index_log_end,
            index_sequence: tree.index_sequence,
            index_failure: tree.index_failure,
            groups: tree.groups,
            consumer_offsets: tree.consumer_offsets,
            log_bytes: tree.log_bytes,
            index_bytes: tree.index_bytes,
            aside_bytes: tree.aside_bytes,
            other_files: tree.other_files,
            watermark: tree.slots.into_iter().map(Slot::new).collect(),
            segments: tree.segments.into_iter().map(Segment::new).collect(),
            families: tree.families.into_iter().map(|of| Family::new(of, counted)).collect(),
            topics: tree.topics.into_iter().map(Topic::new).collect(),
        }
    }
}

impl Segment {
    fn new(of: SegmentInfo) -> Self {
        let SegmentInfo { base_offset, len, disk_bytes, first_ms, last_ms, records } = of;
        Self { base_offset, bytes: len, disk_bytes, first_ms, last_ms, records }
    }
}

impl Slot {
    fn new(of: SlotInfo) -> Self {
        let SlotInfo { sequence, durable, index_sequence, clean } = of;
        Self { sequence, durable, index_sequence, clean }
    }
}

impl Family {
    fn new(of: FamilyInfo, counted: bool) -> Self {
        let FamilyInfo { name, derived, rows, table_bytes } = of;
        let kind = if derived { "derived" } else { "primary" };
        Self { name, kind, rows, counted, table_bytes }
    }
}

impl Topic {
    fn new(of: TopicInfo) -> Self {
        let TopicInfo { name, id, queues, since_log_offset, records } = of;
        Self { topic: name, id, queues, since_log_offset, records }
    }
}

fn counted(records: Option<u64>) -> String {
    records.map_or_else(|| "-".to_owned(), |records| records.to_string())
}

impl Row for Segment {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("SEGMENT", Align::Right),
        ("BYTES", Align::Right),
        ("ON DISK", Align::Right),
        ("FIRST STORED", Align::Left),
        ("LAST STORED", Align::Left),
        ("RECORDS", Align::Right),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.base_offset.to_string(),
            self.bytes.to_string(),
            self.disk_bytes.to_string(),
            stamp(self.first_ms.unwrap_or_default()),
            stamp(self.last_ms.unwrap_or_default()),
            counted(self.records),
        ]
    }
}

impl Row for Slot {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("WATERMARK", Align::Right),
        ("DURABLE", Align::Right),
        ("INDEX CHANGE", Align::Right),
        ("CLOSED", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.sequence.to_string(),
            self.durable.to_string(),
            self.index_sequence.to_string(),
            if self.clean { "in order" } else { "no" }.to_owned(),
        ]
    }
}

impl Row for Family {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("FAMILY", Align::Left),
        ("KIND", Align::Left),
        ("ROWS", Align::Right),
        ("TABLE BYTES", Align::Right),
    ];

    fn cells(&self) -> Vec<String> {
        let about = if self.counted { "" } else { "~" };
        vec![
            self.name.to_owned(),
            self.kind.to_owned(),
            format!("{about}{}", self.rows),
            self.table_bytes.to_string(),
        ]
    }
}

impl Row for Topic {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("TOPIC", Align::Left),
        ("ID", Align::Right),
        ("QUEUES", Align::Right),
        ("SINCE", Align::Right),
        ("RECORDS", Align::Right),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.id.to_string(),
            self.queues.to_string(),
            self.since_log_offset.to_string(),
            counted(self.records),
        ]
    }
}
