//! When what was stored is as safe as the configuration promises: on the disk, and on as many
//! slaves as it takes.

use protocol::code::ResponseCode;
use storage::{LogOffset, Poison};
use thiserror::Error;
use tokio::time::{Duration, Instant, sleep, timeout, timeout_at};

use crate::{ha::NotReplicated, state::State};

/// How often the end of what is on the disk is looked at while slaves are missing: the store wakes
/// only those that wait for all of it.
const LOOK: Duration = Duration::from_millis(2);

/// Stored, but not known to be as safe as promised.
#[derive(Clone, Debug, Error)]
pub(crate) enum Unconfirmed {
    /// The disk is slow.
    #[error("stored, but the disk did not confirm it in time")]
    Disk,
    /// The store has failed: it is in the log, and a later start may find it there.
    #[error(transparent)]
    Poisoned(#[from] Poison),
    /// There are not enough slaves.
    #[error(
        "stored, but {in_sync} slaves are in sync and {needed} are needed; nobody reads it before they \
         have it"
    )]
    NoSlave {
        /// Slaves that it takes.
        needed: usize,
        /// Slaves that follow.
        in_sync: usize,
    },
    /// The slaves are slow.
    #[error("stored, but {needed} slaves did not confirm it within {waited_ms} ms")]
    SlaveLate {
        /// Slaves that it takes.
        needed: usize,
        /// How long was waited.
        waited_ms: u64,
    },
}

impl Unconfirmed {
    /// RocketMQ's code for it; clients count all of these as sent.
    pub(crate) fn code(&self) -> ResponseCode {
        match self {
            Self::Disk | Self::Poisoned(_) => ResponseCode::FLUSH_DISK_TIMEOUT,
            Self::NoSlave { .. } => ResponseCode::SLAVE_NOT_AVAILABLE,
            Self::SlaveLate { .. } => ResponseCode::FLUSH_SLAVE_TIMEOUT,
        }
    }
}

/// Waits until all records below `end` are as safe as promised.
///
/// # Errors
///
/// Why that is not known; the records are stored.
pub(crate) async fn records(state: &State, end: LogOffset) -> Result<(), Unconfirmed> {
    let flush_deadline = Instant::now() + Duration::from_millis(state.config.flush_timeout_ms);
    let confirmed = state.store.wait_confirmed(end);
    let needed = state.copies - 1;
    if needed == 0 {
        let outcome = timeout_at(flush_deadline, confirmed).await;
        return outcome.map_err(|_| Unconfirmed::Disk)?.map_err(Unconfirmed::from);
    }
    let missing = missing_slaves(state, needed);
    let waited_ms = state.config.slave_timeout_ms;
    if missing.is_none()
        && let Ok(outcome) = timeout(Duration::from_millis(waited_ms), confirmed).await
    {
        return outcome.map_err(Unconfirmed::from);
    }
    flushed(state, end, flush_deadline).await?;
    Err(missing.unwrap_or(Unconfirmed::SlaveLate { needed, waited_ms }))
}

/// Waits until the disk has all records below `end`, if sends wait for the disk.
async fn flushed(state: &State, end: LogOffset, deadline: Instant) -> Result<(), Unconfirmed> {
    while state.config.flush == "sync" && state.store.flushed() < end {
        state.store.health()?;
        if Instant::now() >= deadline {
            return Err(Unconfirmed::Disk);
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until the change of `what` that was just made is on as many slaves as it takes. Says so in
/// the log if it is not.
///
/// # Errors
///
/// The change is made, and perhaps on fewer slaves.
pub(crate) async fn change(state: &State, what: &str) -> Result<(), Unconfirmed> {
    let needed = state.copies - 1;
    if needed == 0 {
        return Ok(());
    }
    let waited_ms = state.config.slave_timeout_ms;
    let outcome = match missing_slaves(state, needed) {
        Some(missing) => Err(missing),
        None => {
            let sequence = state.store.position().sequence;
            let waited = Duration::from_millis(waited_ms);
            state.part.ha.wait_sequence(sequence, waited).await.map_err(|error| match error {
                NotReplicated::Timeout { .. } | NotReplicated::Ended { .. } => {
                    Unconfirmed::SlaveLate { needed, waited_ms }
                }
            })
        }
    };
    if let Err(reason) = &outcome {
        tracing::warn!(what, %reason, "this change could be lost with this machine");
    }
    outcome
}

fn missing_slaves(state: &State, needed: usize) -> Option<Unconfirmed> {
    let in_sync = state.part.ha.connected_in_sync();
    (in_sync < needed).then_some(Unconfirmed::NoSlave { needed, in_sync })
}
