//! Replication as others see it and change it: status (907), masters that meet (906), promotion
//! (30001) and demotion (30002).

use std::{sync::Arc, time::Duration};

use protocol::{
    body::ha::{HaClient, HaConnection, HaStatus as Body, Replication},
    frame::Frame,
    json,
    request::ha::{ChangeRole, HaInfo, RoleChanged},
};
use storage::replica::Role;
use tokio::time::{sleep, timeout};

use super::reply::{Answer, Handled, Refusal};
use crate::{
    ha::{HaStatus, MasterStatus, SlaveState, SlaveStatus},
    rivals::{self, hex},
    role::{Claim, Standing, Verdict, contest},
    run::Ended,
    state::State,
};

/// A turn of sends that was read before the fence is appended within this time.
const TURN: Duration = Duration::from_millis(20);
/// How often a master that wants to leave looks whether a slave has everything.
const LOOK: Duration = Duration::from_millis(10);

/// Code 907.
pub(super) fn status(state: &State, _: &Frame) -> Handled {
    let position = state.store.position();
    let appended = position.appended.cast_signed();
    let identity = state.store.identity()?;
    let claim = Claim::of(&identity, 0);
    let mut body = Body {
        master: state.is_master(),
        master_commit_log_max_offset: appended,
        replication: Some(Replication {
            broker_id: state.part.standing.broker_id().cast_signed(),
            behind: 0,
            epoch: claim.epoch.cast_signed(),
            in_sync_replicas: i32::try_from(state.copies).unwrap_or(i32::MAX),
            leader: hex(claim.leader),
            listen: state.is_master().then(|| state.registrar.ha_address().to_owned()),
            master_client_addr: state.part.master.known().map(|master| master.address),
            sequence: position.sequence.cast_signed(),
            serves: state.store.serves(),
            store_id: hex(claim.store_id),
        }),
        ..Body::default()
    };
    match state.part.ha.status() {
        HaStatus::Master { slaves, .. } => {
            let in_sync = slaves.iter().filter(|slave| slave.in_sync).count();
            body.in_sync_slave_nums = i32::try_from(in_sync).unwrap_or(i32::MAX);
            body.ha_connection_info = slaves.iter().map(connection).collect();
        }
        HaStatus::Slave(master) => {
            body.ha_client_runtime_info = client(state, &master, appended);
            if let Some(replication) = &mut body.replication {
                replication.behind = master.lag_bytes.cast_signed();
            }
        }
    }
    Ok(Answer::bytes(json::encode(&body)))
}

fn connection(slave: &SlaveStatus) -> HaConnection {
    HaConnection {
        addr: slave.address.to_string(),
        broker_id: slave.broker_id.cast_signed(),
        diff: slave.lag_bytes.cast_signed(),
        in_sync: slave.in_sync,
        lag_ms: lag_ms(slave),
        slave_ack_offset: slave.received.cast_signed(),
        transfer_from_where: slave.received.cast_signed(),
        transferred_byte_in_second: 0,
    }
}

/// How long a slave has lacked something, milliseconds.
pub(super) fn lag_ms(slave: &SlaveStatus) -> i64 {
    if slave.lag_bytes == 0 && slave.state == SlaveState::Streaming {
        return 0;
    }
    i64::try_from(slave.since_ack.as_millis()).unwrap_or(i64::MAX)
}

fn client(state: &State, master: &MasterStatus, appended: i64) -> HaClient {
    let heard_ms = master.since_heard.map_or(0, |since| {
        state.clock.now_ms() - i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    });
    HaClient {
        activated: master.streaming,
        last_read_timestamp: heard_ms,
        last_write_timestamp: heard_ms,
        master_addr: master.address.clone(),
        master_flush_offset: appended.saturating_add(master.lag_bytes.cast_signed()),
        max_offset: appended,
        transferred_byte_in_second: 0,
    }
}

/// Code 906. RocketMQ's fields, and by what a master claims to be one. Nobody gives way to a mere
/// claim: who makes it is asked.
pub(super) async fn exchange(state: Arc<State>, frame: Frame) -> Handled {
    let info = HaInfo::decode(&frame.fields)?;
    let account = rivals::account(&state);
    let claimed = info.master_address.as_deref().and_then(|address| rivals::rival(&info, address));
    if let Some(claimed) =
        claimed.filter(|other| state.is_master() && other.address != state.address)
        && matches!(contest(&account.claim, &claimed.claim), Verdict::Outdated | Verdict::Later)
        && let Some(rival) = state.part.lookout.ask(&claimed.address, &account).await
    {
        rivals::meet(&state, &rival).await;
    }
    Ok(Answer::header(account.header()))
}

/// Code 30001: this slave becomes the master.
pub(super) async fn promote(state: Arc<State>, frame: Frame) -> Handled {
    let ChangeRole { force } = ChangeRole::decode(&frame.fields)?;
    let name = &state.config.name;
    let HaStatus::Slave(master) = state.part.ha.status() else {
        return Err(Refusal::Role(format!("this broker is the master of {name} already")));
    };
    if !force && !state.store.serves() {
        return Err(Refusal::Role(format!(
            "this slave of {name} has not caught up with what it was sent: as a master it would lack \
             messages; wait, or force it"
        )));
    }
    if !force && master.streaming && master.lag_bytes > 0 {
        return Err(Refusal::Role(format!(
            "this slave of {name} is {} bytes behind its master, which can be reached: wait, or force it",
            master.lag_bytes
        )));
    }
    let newest = state.store.identity()?.epochs.last().map_or(0, |epoch| epoch.number);
    // Beyond the epoch of a master that is still there: by this it is known to be the older one.
    let seen_epoch = newest.max(master.epoch) + 1;
    let slave_id = state.part.standing.slave_id;
    let standing = Standing { role: Role::Master, slave_id, seen_epoch };
    let log_end = state.store.position().appended;
    rivals::change_role(&state, standing, Ended::Promoted).await.map_err(Refusal::Role)?;
    tracing::warn!(log_end, lag_bytes = master.lag_bytes, force, "promoted by request");
    Ok(Answer::header(RoleChanged { broker_id: 0, log_end: log_end.cast_signed() }))
}

/// Code 30002: this master becomes a slave. It takes no more messages and waits until a slave has
/// everything, so that nothing is lost when that one is promoted.
pub(super) async fn demote(state: Arc<State>, frame: Frame) -> Handled {
    let ChangeRole { force } = ChangeRole::decode(&frame.fields)?;
    let name = &state.config.name;
    if !state.is_master() {
        return Err(Refusal::Role(format!("this broker is a slave of {name} already")));
    }
    state.fence(true);
    let outcome = leave(&state, force).await;
    if outcome.is_err() {
        state.fence(false);
    }
    let (broker_id, log_end) = outcome?;
    tracing::warn!(log_end, broker_id, force, "demoted by request");
    let (broker_id, log_end) = (broker_id.cast_signed(), log_end.cast_signed());
    Ok(Answer::header(RoleChanged { broker_id, log_end }))
}

async fn leave(state: &Arc<State>, force: bool) -> Result<(u64, u64), Refusal> {
    sleep(TURN).await;
    let target = state.store.position();
    let has_everything = |slave: &SlaveStatus| {
        slave.state == SlaveState::Streaming
            && slave.received >= target.appended
            && slave.sequence >= target.sequence
    };
    let patience = Duration::from_millis(state.config.slave_timeout_ms);
    let followed = timeout(patience, async {
        loop {
            match state.part.ha.status() {
                HaStatus::Master { slaves, .. } if slaves.iter().any(has_everything) => return,
                _ => sleep(LOOK).await,
            }
        }
    });
    if followed.await.is_err() && !force {
        return Err(Refusal::Role(format!(
            "no slave of {} has everything within {} ms: messages would be missing when one is promoted; \
             the broker is still the master, and takes messages again",
            state.config.name, state.config.slave_timeout_ms
        )));
    }
    let slave_id = rivals::slave_id(state, 0).await;
    let seen_epoch = state.part.claim.epoch;
    let standing = Standing { role: Role::Slave, slave_id, seen_epoch };
    rivals::change_role(state, standing, Ended::Demoted).await.map_err(Refusal::Role)?;
    Ok((slave_id, target.appended))
}
