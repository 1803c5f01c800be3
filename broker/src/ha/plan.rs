//! What a master does with a slave that says hello: a pure decision.

#[cfg(test)]
use super::sim::{Bug, bug};
use super::{
    frame::{self, Hello, LogPlan},
    replica::{Epoch, Identity, Position, newest},
};

/// What the decision needs to know of the master.
#[derive(Clone, Debug)]
pub(crate) struct Own<'a> {
    /// Its cluster.
    pub(crate) cluster: &'a str,
    /// Its name.
    pub(crate) broker_name: &'a str,
    /// Its number.
    pub(crate) broker_id: u64,
    /// Whose data it has. The newest epoch is its own.
    pub(crate) identity: &'a Identity,
    /// Where it stands.
    pub(crate) position: Position,
    /// CRC-32 of its log where the slave tells that of its tail, if it has these bytes.
    pub(crate) tail_crc: Option<u32>,
    /// Whether what follows the slave's sequence number can be told as changes.
    pub(crate) deltas_kept: bool,
}

/// What a slave does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// With its log.
    pub(crate) log: LogPlan,
    /// Whether it gets a snapshot of the index.
    pub(crate) snapshot: bool,
    /// The master's epochs that it does not know, oldest first.
    pub(crate) newer_epochs: Vec<Epoch>,
    /// Why it cannot just go on, for the log.
    pub(crate) why: Option<&'static str>,
}

impl Plan {
    /// Whether the stream can begin in this session.
    pub(crate) fn streams(&self) -> bool {
        matches!(self.log, LogPlan::Keep(_)) && !self.snapshot
    }
}

/// Kinds of refusals, as they are on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Code {
    /// The protocol's version differs.
    Version = 1,
    /// The cluster or the broker's name differs.
    Name = 2,
    /// The broker's number is taken by the master.
    BrokerId = 3,
    /// The slave has data of another store.
    Store = 4,
    /// The slave has heard of a newer master.
    NewerEpoch = 5,
    /// There are too many sessions, or this broker does not serve slaves now.
    Unavailable = 6,
}

/// Why a slave is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// It speaks another version.
    #[error(
        "it speaks version {theirs} of the protocol, this broker {}; update one of them",
        frame::VERSION
    )]
    Version {
        /// Its version.
        theirs: u32,
    },
    /// It belongs to another cluster.
    #[error(
        "it is of cluster {theirs:?}, this broker of {ours:?}; correct `cluster` of one of them"
    )]
    Cluster {
        /// Its cluster.
        theirs: String,
        /// The master's.
        ours: String,
    },
    /// It has another name.
    #[error("its name is {theirs:?}, this broker's {ours:?}; correct `name` of one of them")]
    Name {
        /// Its name.
        theirs: String,
        /// The master's.
        ours: String,
    },
    /// It has the master's number.
    #[error("its broker_id is {id} as this broker's; give it another one")]
    BrokerId {
        /// The number of both.
        id: u64,
    },
    /// It has data that never came from here.
    #[error(
        "its store ({theirs:016x}) is not a copy of this broker's ({ours:016x}); if its data are not \
         needed, start it with an empty store path"
    )]
    Store {
        /// Its store's id, 0 if no master ever opened it.
        theirs: u64,
        /// The master's.
        ours: u64,
    },
    /// It has heard of a newer master.
    #[error("it has seen epoch {seen}, this broker's is {ours}: there is a newer master")]
    NewerEpoch {
        /// What it has seen.
        seen: u64,
        /// The master's.
        ours: u64,
    },
}

impl Refusal {
    /// Its kind on the wire.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Version { .. } => Code::Version,
            Self::Cluster { .. } | Self::Name { .. } => Code::Name,
            Self::BrokerId { .. } => Code::BrokerId,
            Self::Store { .. } => Code::Store,
            Self::NewerEpoch { .. } => Code::NewerEpoch,
        }
    }
}

/// What the slave must do, or why it is not taken.
///
/// # Errors
/// [`Refusal`]. After [`Refusal::NewerEpoch`] the master gives up its role.
pub(crate) fn decide(hello: &Hello, own: &Own<'_>) -> Result<Plan, Refusal> {
    check(hello, own)?;
    let epochs = &own.identity.epochs;
    let (log_min, end) = (own.position.log_min, own.position.appended);
    let anew = |snapshot, why, newer_epochs| Plan {
        // Nothing to set aside where nothing was ever received.
        log: if hello.received == log_min && hello.log_min == log_min && is_empty(hello) {
            LogPlan::Keep(log_min)
        } else {
            LogPlan::Restart(log_min)
        },
        snapshot,
        newer_epochs,
        why: Some(why),
    };
    let Some((theirs, ours)) = newest_common(&hello.epochs, epochs) else {
        let why = if is_empty(hello) { "it is new" } else { "it knows none of the epochs" };
        return Ok(anew(true, why, epochs.clone()));
    };
    let (their_next, our_next) = (hello.epochs.get(theirs + 1), epochs.get(ours + 1));
    let newer_epochs = epochs.get(ours + 1..).unwrap_or_default().to_vec();
    if hello.diverged {
        return Ok(anew(true, "it has found a difference", newer_epochs));
    }
    // A later epoch may begin before an earlier one: its master had a snapshot, and had lost log.
    let later = [hello.epochs.get(theirs + 1..), epochs.get(ours + 1..)];
    let starts = later.into_iter().flatten().flatten().map(|epoch| epoch.log_start);
    let common_end = starts.chain([hello.received, end]).min().unwrap_or(end);
    // A log without bytes has none of another master, wherever it begins.
    let bare = hello.received == hello.log_min && (log_min..=end).contains(&hello.received);
    let common_end = if bare { hello.received } else { common_end };
    let cuts = common_end < hello.received;
    if hello.tail_to <= common_end && own.tail_crc.is_some_and(|crc| crc != hello.tail_crc) {
        return Ok(anew(true, "the end of its log differs", newer_epochs));
    }
    let sequence_end = our_next.map_or(own.position.sequence, |next| next.sequence_start);
    // Rows cannot be taken back. The row of an epoch of its own is one of them.
    let why_snapshot = if their_next.is_some() {
        Some("its index has an epoch of another master")
    } else if hello.sequence > sequence_end {
        Some("its index is ahead of the common epoch")
    } else if !same_families(hello, own.identity) {
        Some("its column families differ")
    } else if !own.deltas_kept {
        Some("the changes it lacks are not kept any more")
    } else {
        None
    };
    if common_end < log_min || common_end < hello.log_min {
        let why = why_snapshot.unwrap_or("its log ends before this broker's begins");
        return Ok(anew(why_snapshot.is_some(), why, newer_epochs));
    }
    let log = if cuts { LogPlan::Cut(common_end) } else { LogPlan::Keep(hello.received) };
    let why = why_snapshot.or(cuts.then_some("its log has bytes of another master"));
    Ok(Plan { log, snapshot: why_snapshot.is_some(), newer_epochs, why })
}

/// Whether the slave may be taken at all; looks at nothing that costs anything.
///
/// # Errors
/// As [`decide`].
pub(crate) fn check(hello: &Hello, own: &Own<'_>) -> Result<(), Refusal> {
    if hello.version != frame::VERSION {
        return Err(Refusal::Version { theirs: hello.version });
    }
    if hello.cluster != own.cluster {
        let (theirs, ours) = (hello.cluster.clone(), own.cluster.to_owned());
        return Err(Refusal::Cluster { theirs, ours });
    }
    if hello.broker_name != own.broker_name {
        let (theirs, ours) = (hello.broker_name.clone(), own.broker_name.to_owned());
        return Err(Refusal::Name { theirs, ours });
    }
    if hello.broker_id == own.broker_id {
        return Err(Refusal::BrokerId { id: hello.broker_id });
    }
    if hello.store_id != own.identity.store_id && !is_empty(hello) {
        return Err(Refusal::Store { theirs: hello.store_id, ours: own.identity.store_id });
    }
    // Only now: a stranger's epoch means nothing.
    let known = newest(&hello.epochs);
    let (seen, ours) = (hello.seen_epoch.max(known), newest(&own.identity.epochs));
    #[cfg(test)]
    let seen = if bug(Bug::OldEpoch) { 0 } else { seen };
    if seen > ours { Err(Refusal::NewerEpoch { seen, ours }) } else { Ok(()) }
}

/// Whether the slave never had anything: its data cannot be lost.
fn is_empty(hello: &Hello) -> bool {
    hello.store_id == 0 && hello.epochs.is_empty() && hello.received == hello.log_min
}

/// Places of the newest epoch that both know.
fn newest_common(theirs: &[Epoch], ours: &[Epoch]) -> Option<(usize, usize)> {
    theirs.iter().enumerate().rev().find_map(|(at, epoch)| {
        let same = ours.binary_search_by_key(&epoch.number, |ours| ours.number).ok()?;
        (ours.get(same) == Some(epoch)).then_some((at, same))
    })
}

fn same_families(hello: &Hello, own: &Identity) -> bool {
    let mut theirs: Vec<_> = hello.families.iter().map(|it| (it.name.as_str(), it.id)).collect();
    let mut ours: Vec<_> = own.families.iter().map(|(name, id)| (name.as_str(), *id)).collect();
    theirs.sort_unstable();
    ours.sort_unstable();
    theirs == ours
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
