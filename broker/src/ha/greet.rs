//! How a master greets a slave: what it looks up for the decision, and what it answers.

#[cfg(test)]
use super::{
    frame::LogPlan,
    sim::{Bug, bug},
};
use super::{
    frame::{self, Body, Frame, Hello, Welcome},
    plan::{self, Own, Plan, Refusal},
    replica::{Identity, Master, StoreError},
    sink::Who,
};

/// Longest tail of a log whose CRC is compared.
const TAIL_MAX_BYTES: u64 = 4 << 20;

/// Why a slave is not greeted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetError {
    /// It is not taken.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The master cannot read itself.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Decides what becomes of a slave. `lost` is the sequence number after which its last session found
/// a change that cannot be applied any more.
///
/// # Errors
/// [`GreetError`].
pub(crate) fn greet(
    store: &impl Master,
    who: &Who,
    hello: &Hello,
    lost: Option<u64>,
) -> Result<(Identity, Plan), GreetError> {
    let identity = store.identity()?;
    let position = store.position();
    let mut own = Own {
        cluster: &who.cluster,
        broker_name: &who.broker_name,
        broker_id: who.broker_id,
        identity: &identity,
        position,
        tail_crc: None,
        deltas_kept: false,
    };
    // Before anything is read for a stranger.
    plan::check(hello, &own)?;
    let tail = hello.tail_to.saturating_sub(hello.tail_from);
    if (1..=TAIL_MAX_BYTES).contains(&tail)
        && hello.tail_from >= position.log_min
        && hello.tail_to <= position.appended
    {
        own.tail_crc = Some(store.log_crc(hello.tail_from, hello.tail_to)?);
    }
    own.deltas_kept = hello.sequence <= position.sequence
        && lost.is_none_or(|lost| hello.sequence > lost)
        && store.keeps_after(hello.sequence)?;
    let plan = plan::decide(hello, &own)?;
    #[cfg(test)]
    let plan = if bug(Bug::NoTruncation) && matches!(plan.log, LogPlan::Cut(_)) {
        Plan { log: LogPlan::Keep(hello.received), ..plan }
    } else {
        plan
    };
    Ok((identity, plan))
}

/// The answer to a slave that is taken.
pub(crate) fn welcome(
    (identity, plan): (&Identity, &Plan),
    (who, hello): (&Who, &Hello),
    durable: bool,
) -> Frame {
    let epoch = identity.epochs.last().copied().unwrap_or_default();
    let welcome = Welcome {
        version: frame::VERSION,
        store_id: identity.store_id,
        leader: epoch.leader,
        master_id: who.broker_id,
        newer_epochs: plan.newer_epochs.clone(),
        log: Some(plan.log),
        sequence: hello.sequence,
        snapshot: plan.snapshot,
        durable,
    };
    Frame { epoch: epoch.number, ..Frame::greeting(Body::Welcome(welcome)) }
}
