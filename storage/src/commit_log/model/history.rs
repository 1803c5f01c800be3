//! What was promised, and whether a recovered log keeps it.

use std::{fs, path::Path, rc::Rc};

use crate::{
    commit_log::{
        durable::{self, MarkFile},
        recover::Opened,
    },
    num::{to_u64, to_usize},
};

/// A record that was appended, or the filler that ended a segment.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) at: u64,
    pub(super) end: u64,
    pub(super) bytes: Rc<[u8]>,
}

/// The log as its writer knows it.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) items: Vec<Item>,
    /// Everything before this log offset was acknowledged.
    pub(super) acked: u64,
}

/// What happens to a history while a program runs.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The log was recovered up to here.
    Recovered(u64),
    /// Something is about to be written.
    Append(Item),
    /// Everything before is acknowledged.
    Acked(u64),
}

impl History {
    pub(super) fn apply(&mut self, event: &Event) {
        match event {
            Event::Recovered(end) => {
                self.items.retain(|item| item.end <= *end);
                // Readers may see it from now on, so it must not disappear again.
                self.acked = *end;
            }
            Event::Append(item) => self.items.push(item.clone()),
            Event::Acked(end) => self.acked = *end,
        }
    }

    /// Compares a recovered log with what was promised.
    ///
    /// # Errors
    /// The promise that was broken.
    pub(super) fn check(&self, dir: &Path, opened: &Opened) -> Result<(), String> {
        let end = opened.end;
        if end < self.acked {
            return Err(format!("the log ends at {end}, acknowledged was {}", self.acked));
        }
        let first = self.items.first().map_or(0, |item| item.at);
        if end != first && !self.items.iter().any(|item| item.end == end) {
            return Err(format!("the log ends at {end}, where nothing that was written ends"));
        }
        for item in self.items.iter().take_while(|item| item.end <= end) {
            let found = opened.log.read(item.at, item.bytes.len());
            let found = found.as_deref().unwrap_or_default();
            if let Some(place) =
                (0..item.bytes.len()).find(|&at| found.get(at) != item.bytes.get(at))
            {
                let (at, end) = (item.at, item.end);
                return Err(format!(
                    "byte {place} of what lies at {at} to {end} is {:02x?} instead of {:02x?}",
                    found.get(place),
                    item.bytes.get(place),
                ));
            }
        }
        self.check_behind(dir, opened)
    }

    /// Nothing may lie behind the end, and the watermark must say where that is.
    fn check_behind(&self, dir: &Path, opened: &Opened) -> Result<(), String> {
        let end = opened.end;
        let segment = opened.current.segment();
        let base = segment.base_offset();
        if end < base || end > segment.limit_offset() {
            return Err(format!("appending goes on at {base}, the log ends at {end}"));
        }
        let last = opened.found.last().filter(|last| last.base_offset == base);
        let last = last.ok_or_else(|| format!("no file for the segment at {base}"))?;
        let bytes = fs::read(&last.path).map_err(|error| error.to_string())?;
        if to_u64(bytes.len()) != last.len || bytes[to_usize(end - base)..].iter().any(|&b| b != 0)
        {
            return Err(format!("{} is not zero from {end} on", last.path.display()));
        }
        let files = fs::read_dir(dir.join("commitlog")).map_err(|error| error.to_string())?.count();
        if files != opened.found.len() {
            return Err(format!("{files} files where {} segments are", opened.found.len()));
        }
        let (_, mark) = MarkFile::open(dir).map_err(|error| error.to_string())?;
        let mark = mark.ok_or_else(|| format!("no mark in {}", durable::NAME))?;
        if mark.durable != end || mark.clean {
            return Err(format!("the log ends at {end}, the watermark says {mark:?}"));
        }
        Ok(())
    }
}
