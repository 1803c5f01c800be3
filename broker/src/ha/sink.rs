//! The slave's side of one session: what it says of itself, what it does with the master's frames,
//! and what it acknowledges. No socket, no thread, no clock.

use std::io;

#[cfg(test)]
use super::sim::{Bug, bug};
use super::{
    frame::{self, Body, FamilyId, FileBytes, Frame, Hello, LogPlan, SnapshotBegin, Welcome},
    incoming::{Stream, compare_state},
    replica::{Identity, Slave, SnapshotFile, Stage, StoreError, Work, newest},
    session::{Count, SILENCE_MAX_MS, SessionEnd},
};

/// How much of its log's end a slave tells the CRC of.
const TAIL_BYTES: u64 = 1 << 20;

/// Who a slave is.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    /// Its cluster.
    pub(crate) cluster: String,
    /// Its name.
    pub(crate) broker_name: String,
    /// Its number.
    pub(crate) broker_id: u64,
}

/// Why a session ends, as its slave sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FollowEnd {
    /// Work is planned that needs the store closed.
    #[error("the store must be opened anew: {0}")]
    Reopen(String),
    /// The master does not take this slave.
    #[error("the master refuses this slave: {reason}")]
    Refused {
        /// [`super::plan::Code`].
        code: u32,
        /// The same in words.
        reason: String,
    },
    /// The peer is not the newest master any more.
    #[error("its epoch is {theirs}, but {seen} was seen: it is not the master any more")]
    OldMaster {
        /// Its epoch.
        theirs: u64,
        /// What was seen.
        seen: u64,
    },
    /// A frame that does not fit into the session.
    #[error(transparent)]
    Frame(#[from] SessionEnd),
    /// The master breaks the protocol.
    #[error("the master breaks the protocol: {0}")]
    Protocol(String),
    /// What is stored here is not what the master has.
    #[error("this store differs from the master's: {0}; it is replaced by the master's")]
    Diverged(String),
    /// The store does not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The master was not heard.
    #[error("the master was silent for {silent_ms} ms")]
    Silent {
        /// For how long.
        silent_ms: u64,
    },
}

pub(super) fn protocol<T>(what: impl Into<String>) -> Result<T, FollowEnd> {
    Err(FollowEnd::Protocol(what.into()))
}

/// What a slave says first.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn hello<S: Slave>(
    store: &S,
    who: &Who,
    staged: Option<&Staged<S>>,
    diverged: bool,
) -> Result<Hello, StoreError> {
    let Identity { store_id, epochs, families } = store.identity()?;
    let position = store.position();
    let tail_to = position.appended;
    let tail_from = tail_to.saturating_sub(TAIL_BYTES).max(position.log_min);
    let have = |(stage, begin): &Staged<S>| -> io::Result<Vec<FileBytes>> {
        let files = begin.files.iter();
        files
            .map(|FileBytes { name, .. }| Ok((name.clone(), stage.have(name)?)))
            .map(|file| file.map(|(name, bytes)| FileBytes { name, bytes }))
            .collect()
    };
    Ok(Hello {
        version: frame::VERSION,
        cluster: who.cluster.clone(),
        broker_name: who.broker_name.clone(),
        broker_id: who.broker_id,
        store_id,
        seen_epoch: store.seen_epoch()?,
        epochs,
        log_min: position.log_min,
        received: store.received()?,
        sequence: position.sequence,
        index_end: position.index_end,
        families: families.into_iter().map(|(name, id)| FamilyId { name, id }).collect(),
        tail_from,
        tail_to,
        tail_crc: store.log_crc(tail_from, tail_to)?,
        snapshot_id: staged.map_or(0, |(_, begin)| begin.id),
        have: staged.map(have).transpose()?.unwrap_or_default(),
        diverged,
    })
}

/// A snapshot that has arrived in part.
pub(crate) type Staged<S> = (<S as Slave>::Stage, SnapshotBegin);

/// What is done with the master's frames.
pub(crate) struct Follower<S: Slave> {
    count: Count,
    heard_ms: u64,
    known_epoch: u64,
    master_end: u64,
    mode: Mode<S>,
    durable: bool,
}

enum Mode<S: Slave> {
    Stream(Stream),
    Prepare { log: LogPlan, stage: Option<Staged<S>> },
}

impl<S: Slave> Follower<S> {
    /// Takes the master's answer to `hello`.
    ///
    /// # Errors
    /// The session must end; [`FollowEnd::Reopen`] is a part of the plan.
    pub(crate) fn welcomed(
        store: &S,
        hello: &Hello,
        frame: Frame,
        now_ms: u64,
    ) -> Result<Self, FollowEnd> {
        let epoch = frame.epoch;
        let welcome = match frame.body {
            Some(Body::Welcome(welcome)) => welcome,
            Some(Body::Refuse(refuse)) => {
                return Err(FollowEnd::Refused { code: refuse.code, reason: refuse.reason });
            }
            _ => return protocol("it answers with neither a welcome nor a refusal"),
        };
        check_master(hello, epoch, &welcome)?;
        let Some(log) = welcome.log else { return protocol("a welcome without a plan") };
        if epoch > hello.seen_epoch {
            store.remember_epoch(epoch)?;
        }
        let known_epoch = newest(&hello.epochs);
        let mode = match (log, welcome.snapshot) {
            (LogPlan::Keep(from), false) => {
                if (from, welcome.sequence) != (hello.received, hello.sequence) {
                    return protocol("the stream would not begin where this store ends");
                }
                // The rows of the epochs must not be lost when the log of theirs is kept.
                store.sync_index()?;
                Mode::Stream(Stream::new(welcome.newer_epochs))
            }
            (log, true) => Mode::Prepare { log, stage: None },
            (log, false) => return Err(reopen(store, log, None)),
        };
        let count = Count::new(epoch);
        Ok(Self {
            count,
            heard_ms: now_ms,
            known_epoch,
            master_end: 0,
            mode,
            durable: welcome.durable,
        })
    }

    /// Whether the master's log is being followed.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.mode, Mode::Stream(_))
    }

    /// The master's epoch.
    pub(crate) fn epoch(&self) -> u64 {
        self.count.epoch
    }

    /// Where the master's log ends, as it said last.
    pub(crate) fn master_end(&self) -> u64 {
        self.master_end
    }

    /// Newest epoch whose row the disk has.
    pub(crate) fn known_epoch(&self) -> u64 {
        self.known_epoch
    }

    /// Whether the master waits for what is durable.
    pub(crate) fn durable(&self) -> bool {
        self.durable
    }

    /// What has arrived of a snapshot, for the next session.
    pub(crate) fn into_staged(self) -> Option<Staged<S>> {
        match self.mode {
            Mode::Prepare { stage, .. } => stage,
            Mode::Stream(_) => None,
        }
    }

    /// Time has passed without a frame.
    ///
    /// # Errors
    /// Too much of it.
    pub(crate) fn tick(&self, now_ms: u64) -> Result<(), FollowEnd> {
        let silent_ms = now_ms.saturating_sub(self.heard_ms);
        if silent_ms > SILENCE_MAX_MS { Err(FollowEnd::Silent { silent_ms }) } else { Ok(()) }
    }

    /// Does what a frame says.
    ///
    /// # Errors
    /// The session must end.
    pub(crate) fn receive(
        &mut self,
        store: &S,
        frame: Frame,
        now_ms: u64,
    ) -> Result<(), FollowEnd> {
        self.count.check(&frame)?;
        self.heard_ms = now_ms;
        let Some(body) = frame.body else { return protocol("a frame without contents") };
        match (&mut self.mode, body) {
            (_, Body::Heartbeat(master_end)) => {
                self.master_end = master_end;
                Ok(())
            }
            (Mode::Stream(stream), Body::Log(log)) => stream.log(store, log),
            (Mode::Stream(stream), Body::Delta(delta)) => {
                if let Some(known) = stream.delta(store, delta)? {
                    self.known_epoch = known;
                }
                Ok(())
            }
            (Mode::Stream(_), Body::Confirm(to)) => Ok(store.set_master_confirmed(to)?),
            (Mode::Stream(_), Body::State(theirs)) => compare_state(store, theirs),
            (Mode::Stream(stream), Body::LogDigest(digest)) => stream.digest(store, digest),
            (Mode::Prepare { stage, .. }, Body::SnapshotBegin(begin)) => {
                check_names(&begin)?;
                *stage = Some((store.stage(begin.id)?, begin));
                Ok(())
            }
            (Mode::Prepare { stage: Some((stage, begin)), .. }, Body::SnapshotBytes(part)) => {
                if !begin.files.iter().any(|file| file.name == part.file) {
                    return protocol(format!("{:?} is no file of the snapshot", part.file));
                }
                Ok(stage.write(&part.file, part.offset, &part.bytes).map_err(StoreError::from)?)
            }
            (Mode::Prepare { log, stage: Some((stage, begin)) }, Body::SnapshotEnd(_)) => {
                let files: Vec<_> = begin.files.iter().map(SnapshotFile::from).collect();
                stage.finish(&files).map_err(StoreError::from)?;
                Err(reopen(store, *log, Some(begin.id)))
            }
            _ => protocol("a frame that does not belong here"),
        }
    }
}

/// Notes what must happen while the store is closed.
fn reopen(store: &impl Slave, log: LogPlan, install_snapshot: Option<u64>) -> FollowEnd {
    let mut work = Work { install_snapshot, ..Work::default() };
    let mut what = match log {
        LogPlan::Keep(_) => String::new(),
        LogPlan::Cut(at) => {
            work.cut_log_at = Some(at);
            format!("its log is cut at {at}; ")
        }
        LogPlan::Restart(at) => {
            work.restart_log_at = Some(at);
            format!("its log begins anew at {at}; ")
        }
    };
    if let Some(id) = install_snapshot {
        what += &format!("its index is the master's snapshot {id:016x}; ");
    }
    match store.plan(work) {
        Ok(()) => FollowEnd::Reopen(what.trim_end_matches("; ").to_owned()),
        Err(error) => error.into(),
    }
}

fn check_master(hello: &Hello, epoch: u64, welcome: &Welcome) -> Result<(), FollowEnd> {
    if welcome.version != frame::VERSION {
        return protocol(format!("it speaks version {}", welcome.version));
    }
    let known = newest(&hello.epochs);
    let seen = hello.seen_epoch.max(known);
    #[cfg(test)]
    let seen = if bug(Bug::OldEpoch) { 0 } else { seen };
    if epoch < seen {
        return Err(FollowEnd::OldMaster { theirs: epoch, seen });
    }
    if welcome.store_id == 0 || (hello.store_id != 0 && hello.store_id != welcome.store_id) {
        return protocol(format!("its store is {:016x}", welcome.store_id));
    }
    Ok(())
}

/// A name is the name of a file, nothing else.
fn check_names(begin: &SnapshotBegin) -> Result<(), FollowEnd> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let fine = |name: &str| {
        (1..=255).contains(&name.len()) && name.chars().all(plain) && !name.starts_with('.')
    };
    match begin.files.iter().find(|file| !fine(&file.name)) {
        Some(file) => protocol(format!("{:?} is no name of a snapshot's file", file.name)),
        None => Ok(()),
    }
}
