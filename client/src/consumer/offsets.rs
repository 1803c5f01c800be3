//! Where a group's offsets are kept: with the brokers, or, for broadcasting, with this client.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use protocol::{
    code::{RequestCode, ResponseCode},
    names,
    request::offset::{Commit, Offset, Query},
};

use super::{assigned::Assigned, group::Group, position::Position};
use crate::{
    core::{header, refused},
    error::Error,
    queue::Queue,
    registry::lock,
};

/// A group's offsets.
#[derive(Debug)]
pub(super) enum Offsets {
    /// Each broker keeps those of its queues.
    Broker,
    /// This client keeps its own.
    Local(Local),
}

/// Offsets of a broadcasting consumer, which no other client shares.
#[derive(Debug)]
pub(super) struct Local {
    path: Option<PathBuf>,
    offsets: Mutex<BTreeMap<Queue, i64>>,
}

impl Local {
    /// Reads `path` if it is given and exists.
    pub(super) fn open(path: Option<PathBuf>) -> Result<Self, Error> {
        let offsets = match &path {
            Some(path) => read(path).map_err(|error| offset_file(path, &error))?,
            None => BTreeMap::new(),
        };
        Ok(Self { path, offsets: Mutex::new(offsets) })
    }

    async fn save(&self) -> Result<(), Error> {
        let Some(path) = self.path.clone() else { return Ok(()) };
        let offsets = lock(&self.offsets).clone();
        let writing = tokio::task::spawn_blocking(move || {
            write(&path, &offsets).map_err(|error| offset_file(&path, &error))
        });
        writing.await.unwrap_or(Err(Error::Closed))
    }
}

fn offset_file(path: &Path, error: &io::Error) -> Error {
    Error::OffsetFile { path: path.display().to_string(), reason: error.to_string() }
}

/// One queue per line: offset, queue number, topic, broker. A broker's name may contain spaces,
/// so it comes last.
fn read(path: &Path) -> io::Result<BTreeMap<Queue, i64>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    text.lines()
        .enumerate()
        .map(|(index, line)| {
            parse(line).ok_or_else(|| {
                let reason = format!(
                    "line {} is {line:?}, expected offset, queue, topic and broker; repair or \
                     delete the file",
                    index + 1
                );
                io::Error::new(io::ErrorKind::InvalidData, reason)
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<(Queue, i64)> {
    let mut words = line.splitn(4, ' ');
    let offset = words.next()?.parse().ok()?;
    let id = words.next()?.parse().ok()?;
    Some((Queue::new(words.next()?, words.next()?, id), offset))
}

/// Replaces the file in one step, so that a crash leaves the old or the new one.
fn write(path: &Path, offsets: &BTreeMap<Queue, i64>) -> io::Result<()> {
    let mut scratch = path.as_os_str().to_owned();
    scratch.push(".new");
    let mut file = std::fs::File::create(&scratch)?;
    for (queue, offset) in offsets {
        writeln!(file, "{offset} {} {} {}", queue.id(), queue.topic(), queue.broker())?;
    }
    file.sync_all()?;
    #[expect(
        clippy::disallowed_methods,
        reason = "a client cannot depend on storage, and a lost rename costs five seconds of offsets"
    )]
    std::fs::rename(&scratch, path)
}

impl Group {
    /// Where to start in a queue that this consumer takes over.
    ///
    /// # Source: `RebalancePushImpl.computePullFromWhereWithException`
    pub(super) async fn start_of(&self, queue: &Queue) -> Result<i64, Error> {
        let known = match &self.offsets {
            Offsets::Local(local) => lock(&local.offsets).get(queue).copied(),
            Offsets::Broker => self.committed(queue).await?,
        };
        if let Some(offset) = known {
            return Ok(offset);
        }
        // A message that failed must not be missed because the group is new to the retry queue.
        if names::is_retry_topic(queue.topic()) {
            return Ok(0);
        }
        match self.member.position {
            Position::First => Ok(0),
            Position::Last => self.core.max_offset(queue).await,
            Position::Timestamp(ms) => self.core.offset_at_time(queue, ms).await,
        }
    }

    /// The offset that the broker has for the group.
    async fn committed(&self, queue: &Queue) -> Result<Option<i64>, Error> {
        let code = RequestCode::QueryConsumerOffset;
        let query = Query {
            consumer_group: self.name(),
            topic: queue.topic(),
            queue_id: queue.id(),
            set_zero_if_not_found: None,
        };
        let route = self.core.route(queue.topic()).await?;
        let address = route.master(queue)?;
        let frame = self.core.request(address, code, &query, Bytes::new()).await?;
        match frame.response_code() {
            ResponseCode::SUCCESS => {
                let offset = header(Offset::decode(&frame.fields), address, code)?.offset;
                Ok((offset >= 0).then_some(offset))
            }
            ResponseCode::QUERY_NOT_FOUND => Ok(None),
            _ => Err(refused(&frame, address, code)),
        }
    }

    /// Commits what changed of these queues. What fails is tried again with the next commit.
    pub(super) async fn commit(&self, queues: &[Arc<Assigned>]) {
        match &self.offsets {
            Offsets::Local(local) => {
                let mut changed = false;
                for assigned in queues {
                    if let Some(offset) = assigned.uncommitted() {
                        lock(&local.offsets).insert(assigned.queue().clone(), offset);
                        assigned.committed(offset);
                        changed = true;
                    }
                }
                if changed && let Err(error) = local.save().await {
                    tracing::warn!(group = self.name(), %error, "offsets cannot be saved");
                }
            }
            Offsets::Broker => self.commit_to_brokers(queues).await,
        }
    }

    async fn commit_to_brokers(&self, queues: &[Arc<Assigned>]) {
        let mut silent: Vec<&str> = Vec::new();
        for assigned in queues {
            let queue = assigned.queue();
            // One wait for a broker that does not answer, not one for each of its queues.
            let Some(offset) = assigned.uncommitted() else { continue };
            if silent.contains(&queue.broker()) {
                continue;
            }
            match self.commit_one(queue, offset).await {
                Ok(()) => assigned.committed(offset),
                Err(error) => {
                    tracing::debug!(group = self.name(), %queue, %error, "a commit failed");
                    if matches!(error, Error::BrokerUnreachable { .. }) {
                        silent.push(queue.broker());
                    }
                }
            }
        }
    }

    async fn commit_one(&self, queue: &Queue, offset: i64) -> Result<(), Error> {
        let commit = Commit {
            consumer_group: self.name(),
            topic: queue.topic(),
            queue_id: queue.id(),
            commit_offset: offset,
        };
        let route = self.core.route(queue.topic()).await?;
        let code = RequestCode::UpdateConsumerOffset;
        self.core.call(route.master(queue)?, code, &commit, Bytes::new()).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn offsets_survive_in_a_file() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("offsets");
        let local = Local::open(Some(path.clone())).unwrap();
        lock(&local.offsets).insert(Queue::new("orders", "broker a", 3), 41);
        local.save().await.unwrap();
        let again = Local::open(Some(path)).unwrap();
        assert_eq!(lock(&again.offsets).get(&Queue::new("orders", "broker a", 3)), Some(&41));
    }

    #[test]
    fn a_damaged_file_is_an_error_with_its_line() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("offsets");
        std::fs::write(&path, "41 3 orders a\nnonsense\n").unwrap();
        let error = Local::open(Some(path)).unwrap_err().to_string();
        assert!(error.contains("line 2 is \"nonsense\""), "{error}");
    }
}
