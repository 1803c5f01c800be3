//! Single messages of a stopped store. The log alone is enough: where the index is lost, what it
//! would have said is searched for.

use std::{ops::ControlFlow, path::Path};

use protocol::{compression, limits, property, record::RecordView, sys_flag};

use super::{
    Error,
    files::{Files, Lookup},
    log::{self, Damage, Event},
    rows,
};
use crate::{
    commit_log::scan::Step,
    dispatch::queue_offset,
    index::{self, Index, consume_queue},
    lock::Lock,
};

/// A store that is open for reading messages. Holds the store's lock.
#[derive(Debug)]
pub struct Messages {
    files: Files,
    index: Option<Index>,
    _lock: Lock,
}

/// Where to begin reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// At this log offset, or the first record behind it.
    Log(u64),
    /// At this offset of a queue, or the first message behind it; only the queue's messages.
    Queue {
        /// The topic.
        topic: String,
        /// The queue.
        queue_id: u32,
        /// The offset.
        from: u64,
    },
}

/// Which messages are wanted; everything that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this topic.
    pub topic: Option<String>,
    /// With this key or unique key.
    pub key: Option<String>,
    /// With this text in the body as the producer gave it, or in a property.
    pub text: Option<String>,
    /// Stored at this time or later, Unix ms.
    pub from_ms: Option<i64>,
    /// Stored at this time or earlier, Unix ms.
    pub to_ms: Option<i64>,
}

/// What is called with each record, as it is stored, until it says stop.
type Each<'a> = &'a mut dyn FnMut(&RecordView<'_>) -> ControlFlow<()>;

impl Messages {
    /// Opens the store in `dir`. Blocking, as everything here.
    ///
    /// # Errors
    /// [`Error`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let lock = super::lock(dir)?;
        let files = Files::read(dir)?;
        // Without an index everything is found too, only later.
        let index = Index::read_only(&dir.join(index::DIR)).ok();
        Ok(Self { files, index, _lock: lock })
    }

    /// Calls `each` with the record that begins at this log offset. `false` if none does.
    ///
    /// # Errors
    /// [`Error::Read`] when what is there is damaged.
    pub fn at(
        &self,
        log_offset: u64,
        each: &mut dyn FnMut(&RecordView<'_>),
    ) -> Result<bool, Error> {
        match Lookup::new(&self.files).at(log_offset)? {
            Step::Record(record) => {
                each(&record);
                Ok(true)
            }
            Step::Empty | Step::Filled => Ok(false),
            Step::Invalid(reason) => {
                let log_offset = crate::LogOffset(log_offset);
                Err(crate::ReadError::Damaged { log_offset, reason }.into())
            }
        }
    }

    /// Calls `each` with the records from `place` on, in their order, until it says stop. Calls
    /// `damaged` with every range of the log that cannot be read.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(
        &self,
        place: &Place,
        each: Each<'_>,
        damaged: &mut dyn FnMut(std::ops::Range<u64>, &str),
    ) -> Result<(), Error> {
        match place {
            Place::Log(from) => self.log(*from, each, damaged),
            Place::Queue { topic, queue_id, from } => {
                let wanted = (topic.as_str(), *queue_id);
                let mut next = *from;
                let mut stopped = false;
                let log_from = self.indexed(wanted, &mut next, &mut |record| {
                    stopped = each(record).is_break();
                    if stopped { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
                if stopped {
                    return Ok(());
                }
                self.log(
                    log_from,
                    &mut |record| match place_of(record, wanted) {
                        Some(offset) if offset >= next => each(record),
                        _ => ControlFlow::Continue(()),
                    },
                    damaged,
                )
            }
        }
    }

    /// The messages that the index knows. Returns from where the log must be searched for more,
    /// and in `next` from which offset on.
    fn indexed(
        &self,
        (topic, queue_id): (&str, u32),
        next: &mut u64,
        each: Each<'_>,
    ) -> Result<u64, Error> {
        let min = self.files.min();
        let Some(index) = &self.index else { return Ok(min) };
        let guard = index.db()?;
        let ignored = &mut |_| {};
        let meta = rows::meta(&guard, ignored);
        let Ok(found) = rows::read(&guard, (meta, u64::MAX), ignored) else { return Ok(min) };
        let Some(of) = found.topics.get(topic) else { return Ok(min) };
        let mut lookup = Lookup::new(&self.files);
        let mut from = min;
        let mut blocks = consume_queue::Blocks::of(&guard, (of.id, queue_id));
        let mut number = *next / consume_queue::BLOCK_ENTRIES;
        while let Ok(Some(block)) = blocks.at_or_after(number) {
            for (offset, entry) in (block.first()..).zip(&block.entries) {
                if entry.is_hole() || offset < *next || entry.log_offset < min {
                    continue;
                }
                match lookup.at(entry.log_offset)? {
                    Step::Record(record)
                        if place_of(&record, (topic, queue_id)) == Some(offset) =>
                    {
                        from = entry.end();
                        *next = offset + 1;
                        if each(&record).is_break() {
                            return Ok(from);
                        }
                    }
                    // The index is wrong here, so it is not asked any more.
                    _ => return Ok(from),
                }
            }
            number = block.number + 1;
        }
        Ok(from.max(meta.checkpoint.min(meta.log_end)))
    }

    fn log(
        &self,
        from: u64,
        each: Each<'_>,
        damaged: &mut dyn FnMut(std::ops::Range<u64>, &str),
    ) -> Result<(), Error> {
        let from = from.max(self.files.min());
        let certain = log::certain_end(&self.files).map(|end| end.max(from));
        log::walk(&self.files, from, certain, &mut |event| {
            Ok(match event {
                Event::Record(record) => each(&record),
                Event::Damage(Damage { from, to, reason, .. }) => {
                    damaged(from..to, &reason);
                    ControlFlow::Continue(())
                }
            })
        })?;
        Ok(())
    }
}

/// The queue offset of a record, if it is one of this queue.
fn place_of(record: &RecordView<'_>, (topic, queue_id): (&str, u32)) -> Option<u64> {
    let same = record.topic == topic && u32::try_from(record.queue_id) == Ok(queue_id);
    queue_offset(record.queue_offset).filter(|_| same)
}

impl Wanted {
    /// Whether a record is wanted.
    pub fn fits(&self, record: &RecordView<'_>) -> bool {
        let stored = record.store_timestamp;
        self.topic.as_ref().is_none_or(|topic| record.topic == topic)
            && self.from_ms.is_none_or(|from| stored >= from)
            && self.to_ms.is_none_or(|to| stored <= to)
            && self.key.as_ref().is_none_or(|key| has_key(record, key))
            && self.text.as_ref().is_none_or(|text| has_text(record, text))
    }
}

fn has_key(record: &RecordView<'_>, key: &str) -> bool {
    let keys = record.property(property::KEYS).unwrap_or_default();
    property::keys(keys).any(|own| own == key) || record.property(property::UNIQ_KEY) == Some(key)
}

fn has_text(record: &RecordView<'_>, text: &str) -> bool {
    let holds = |bytes: &[u8]| {
        text.is_empty() || bytes.windows(text.len()).any(|part| part == text.as_bytes())
    };
    if property::iter(record.properties).any(|(_, value)| value.contains(text)) {
        return true;
    }
    if record.sys_flag & sys_flag::COMPRESSED == 0 {
        return holds(record.body);
    }
    let max = limits::BODY_INFLATED_MAX_BYTES;
    // What cannot be decompressed is searched as it is stored.
    match compression::decompress(record.sys_flag, record.body, max) {
        Ok(body) => holds(&body),
        Err(_) => holds(record.body),
    }
}
