//! What can be wrong with a store, or only worth knowing.

use std::{fmt, ops::Range};

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A record that cannot be read, and an index that says it can, or does not know yet.
    LogDamage,
    /// The end mark of a segment is damaged; no message is.
    FillerDamage,
    /// Segments are missing, or one is too short.
    LogGap,
    /// The log ends before what was durable.
    LogShort,
    /// Something lies behind the end of a log that was closed in order.
    BehindEnd,
    /// Neither slot of the durable watermark can be read.
    WatermarkLost,
    /// There is no RocksDB, or an empty one.
    IndexMissing,
    /// RocksDB cannot be opened or read.
    IndexUnreadable,
    /// Changes that were durable are missing in RocksDB.
    IndexBehind,
    /// RocksDB refers to the log behind the end of a log that was closed in order.
    IndexAhead,
    /// A key or value of RocksDB cannot be decoded.
    RowDamaged,
    /// A row that says what other rows exclude.
    RowContradicts,
    /// Messages without an entry in their consume queue.
    EntryMissing,
    /// Entries of a consume queue that differ from the message.
    EntryWrong,
    /// Entries of a consume queue that point to no message of that queue.
    EntryStray,
    /// Messages without an entry in the key index.
    KeyMissing,
    /// Entries of the key index that point to no message with such a key.
    KeyStray,
    /// A row refers to the log behind the end that RocksDB itself states.
    BeyondLogEnd,
    /// Messages of a queue that their topic does not have.
    QueueUnknown,
    /// Two messages with one queue offset, or an offset that goes back.
    OffsetRepeated,
    /// Queue offsets without a message, and no damage that explains it.
    OffsetGap,
    /// A group that has consumed more than there ever was.
    ConsumerBeyond,

    /// Records that cannot be read; the index passes over them.
    DamageContained,
    /// A part of the log that was lost and that `repair` has bridged.
    LostRange,
    /// What lies behind the end after a crash; it is cut when the broker starts.
    TornTail,
    /// Messages that are not in the index yet; they are added when the broker starts.
    ReplayWindow,
    /// RocksDB survived a crash better than the log; it is cut when the broker starts.
    CutWindow,
    /// Messages of topics that were deleted.
    DeletedTopics,
    /// Rows of topics that were deleted.
    OrphanRows,
    /// Files that do not belong there or are removed at the next start.
    OtherFiles,
}

impl Kind {
    /// Whether the store is not as it should be. Otherwise it is only worth knowing.
    pub fn is_problem(self) -> bool {
        !matches!(
            self,
            Self::DamageContained
                | Self::LostRange
                | Self::TornTail
                | Self::ReplayWindow
                | Self::CutWindow
                | Self::DeletedTopics
                | Self::OrphanRows
                | Self::OtherFiles
        )
    }

    /// What to do about it.
    pub fn advice(self) -> &'static str {
        match self {
            Self::LogDamage => "restore the segment, or `repair`: consumers then pass over it",
            Self::FillerDamage => "`repair` writes it again; nothing is lost",
            Self::LogGap => "restore the segments, or `repair`: the range is lost",
            Self::LogShort => "restore the segments, or `repair`: the messages are lost",
            Self::BehindEnd | Self::WatermarkLost => "`repair`; nothing is lost",
            Self::IndexMissing | Self::IndexUnreadable | Self::IndexBehind => {
                "restore the rocksdb directory, or `repair`: it is built again from what is left"
            }
            Self::IndexAhead
            | Self::RowDamaged
            | Self::RowContradicts
            | Self::EntryMissing
            | Self::EntryWrong
            | Self::EntryStray
            | Self::KeyMissing
            | Self::KeyStray
            | Self::BeyondLogEnd
            | Self::QueueUnknown => "`repair` builds the index again from the log",
            Self::OffsetRepeated | Self::OffsetGap => {
                "keep a copy of the store and report it: the broker never writes this"
            }
            Self::ConsumerBeyond => "`repair` moves it back to the end of the queue",
            Self::DamageContained | Self::LostRange => "these messages are lost",
            Self::TornTail | Self::ReplayWindow | Self::CutWindow => {
                "nothing: the broker does it at its next start"
            }
            Self::DeletedTopics | Self::OrphanRows | Self::OtherFiles => "nothing",
        }
    }
}

/// Some offsets of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueRange {
    /// The topic; its id when its name is not known.
    pub topic: String,
    /// The queue.
    pub queue_id: u32,
    /// The first offset.
    pub from: u64,
    /// The offset behind the last one.
    pub to: u64,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What kind it is.
    pub kind: Kind,
    /// The part of the log that it is about, in bytes.
    pub log: Option<Range<u64>>,
    /// The part of a queue that it is about.
    pub queue: Option<QueueRange>,
    /// How many messages, rows or entries it is about; 0 when that is not known.
    pub count: u64,
    /// What exactly, as a sentence without its place.
    pub detail: String,
}

impl Problem {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, log: None, queue: None, count: 0, detail: detail.into() }
    }

    pub(super) fn at(mut self, from: u64, to: u64) -> Self {
        self.log = Some(from..to);
        self
    }

    pub(super) fn of(mut self, queue: QueueRange) -> Self {
        self.queue = Some(queue);
        self
    }

    pub(super) fn count(mut self, count: u64) -> Self {
        self.count = count;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.kind)?;
        if let Some(QueueRange { topic, queue_id, from, to }) = &self.queue {
            write!(f, " in topic {topic} queue {queue_id} offsets {from} to {to}")?;
        }
        if let Some(log) = &self.log {
            write!(f, " at log offsets {} to {}", log.start, log.end)?;
        }
        write!(f, ": {}", self.detail)
    }
}
