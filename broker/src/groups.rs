//! Consumer groups that come into being by themselves.

use std::sync::Arc;

use protocol::names;
use storage::{GroupConfig, Topic};

use crate::{confirm, request::reply::Refusal, state::State, topics};

/// The group, or why it cannot be used. Does not create it.
///
/// # Errors
///
/// When it does not exist.
pub(crate) fn existing(state: &State, group: &str) -> Result<Arc<GroupConfig>, Refusal> {
    state.store.group(group).ok_or_else(|| Refusal::NoGroup { group: group.to_owned() })
}

/// The group that somebody wants to read as. A slave serves one that it does not know as it will be
/// when a heartbeat has created it at the master: new groups begin to read while there is none.
///
/// # Errors
///
/// When it does not exist, and would not come into being by itself.
pub(crate) fn reading(state: &State, group: &str) -> Result<Arc<GroupConfig>, Refusal> {
    match existing(state, group) {
        Err(_) if state.config.auto_create_group && !state.is_master() => {
            names::check_group(group)?;
            Ok(Arc::new(GroupConfig::new(group)))
        }
        outcome => outcome,
    }
}

/// The group, created with RocketMQ's defaults if that is allowed.
///
/// # Errors
///
/// When it does not exist and may not be created.
pub(crate) async fn ensure(state: &State, group: &str) -> Result<Arc<GroupConfig>, Refusal> {
    if let Some(config) = state.store.group(group) {
        return Ok(config);
    }
    // A slave learns of it from the master, where the client's heartbeat creates it.
    if !state.config.auto_create_group || !state.is_master() {
        return Err(Refusal::NoGroup { group: group.to_owned() });
    }
    names::check_group(group)?;
    let creating = state.creating(group).await;
    if let Some(config) = state.store.group(group) {
        return Ok(config);
    }
    let config = state.store.put_group(GroupConfig::new(group)).await?;
    drop(creating);
    tracing::info!(group, "consumer group created");
    // What cannot be confirmed is in the log; the group serves its client all the same.
    let _ = confirm::change(state, &format!("consumer group {group}")).await;
    Ok(config)
}

/// The group's retry topic, created if it is missing; `None` if the group retries nothing.
///
/// # Errors
///
/// When the store refuses.
pub(crate) async fn ensure_retry_topic(
    state: &State,
    group: &GroupConfig,
    unit_mode: bool,
) -> Result<Option<Arc<Topic>>, Refusal> {
    match u32::try_from(group.retry_queues) {
        Err(_) | Ok(0) => Ok(None),
        Ok(queues) => {
            let topic =
                topics::create(state, topics::retry(&group.name, queues, unit_mode)).await?;
            Ok(Some(topic))
        }
    }
}
