//! Masters and slaves: how far each is, and who leads.

use std::time::Duration;

use bytes::Bytes;
use protocol::{
    body::ha::{HaConnection, HaStatus, Replication},
    code::RequestCode,
    header::NoFields,
    json,
    request::ha::{ChangeRole, RoleChanged},
};

use super::Admin;
use crate::{
    core::{success, unreadable},
    error::Error,
};

/// A change of roles waits for slaves, longer than other requests take.
const CHANGE_WITHIN: Duration = Duration::from_secs(30);

/// The replication of one broker.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ReplicationInfo {
    /// Whether it is a master.
    pub is_master: bool,
    /// Number of its epoch; none from RocketMQ's brokers.
    pub epoch: Option<i64>,
    /// End of its log.
    pub log_end: i64,
    /// Whether it serves readers.
    pub serves: bool,
    /// Copies that a send waits for, the master's own among them; none from RocketMQ's brokers.
    pub copies: Option<i32>,
    /// Of a master: the slaves that are connected.
    pub slaves: Vec<SlaveInfo>,
    /// Of a slave: its way to the master.
    pub master: Option<MasterInfo>,
}

/// A slave, as its master sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlaveInfo {
    /// Where it connects from.
    pub address: String,
    /// Its number; none from RocketMQ's brokers.
    pub id: Option<i64>,
    /// Whether it counts as in sync.
    pub in_sync: bool,
    /// Bytes that it is behind.
    pub lag_bytes: i64,
    /// How long it has been behind; none from RocketMQ's brokers.
    pub lag: Option<Duration>,
}

/// The master, as a slave sees it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MasterInfo {
    /// Whether the slave follows it.
    pub connected: bool,
    /// Where slaves connect.
    pub ha_address: Option<String>,
    /// Where clients connect.
    pub address: Option<String>,
    /// Bytes that the slave knows of and lacks.
    pub lag_bytes: i64,
}

/// A change of role that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RoleChange {
    /// The number that the broker registers with from now on.
    pub id: i64,
    /// End of its log.
    pub log_end: i64,
}

impl Admin {
    /// How the replication of a broker stands.
    ///
    /// # Errors
    ///
    /// When the broker does not answer.
    pub async fn replication(&self, address: &str) -> Result<ReplicationInfo, Error> {
        let code = RequestCode::GetBrokerHaStatus;
        let frame = self.core.call(address, code, &NoFields, Bytes::new()).await?;
        let status: HaStatus =
            json::decode(&frame.body).map_err(|error| unreadable(address, code)(&error))?;
        Ok(ReplicationInfo::of(status))
    }

    /// Makes a slave the master. It starts anew in its process, and takes messages when it has.
    ///
    /// # Errors
    ///
    /// When it is the master, or lacks messages of a master that can be reached and `force` is
    /// false.
    pub async fn promote(&self, address: &str, force: bool) -> Result<RoleChange, Error> {
        self.change_role(RequestCode::PromoteBroker, address, force).await
    }

    /// Makes a master a slave, once a slave has all that it has.
    ///
    /// # Errors
    ///
    /// When it is a slave, or no slave has everything in time and `force` is false.
    pub async fn demote(&self, address: &str, force: bool) -> Result<RoleChange, Error> {
        self.change_role(RequestCode::DemoteBroker, address, force).await
    }

    async fn change_role(
        &self,
        code: RequestCode,
        address: &str,
        force: bool,
    ) -> Result<RoleChange, Error> {
        let request = (&ChangeRole { force }, Bytes::new());
        let frame = self.core.request_within(CHANGE_WITHIN, address, code, request).await?;
        let frame = success(frame, address, code)?;
        let RoleChanged { broker_id: id, log_end } = RoleChanged::decode(&frame.fields)
            .map_err(|error| unreadable(address, code)(&error))?;
        Ok(RoleChange { id, log_end })
    }
}

impl ReplicationInfo {
    fn of(status: HaStatus) -> Self {
        let ours = status.replication.as_ref();
        let client = &status.ha_client_runtime_info;
        let master = (!status.master).then(|| MasterInfo {
            connected: client.activated,
            ha_address: client.master_addr.clone(),
            address: ours.and_then(|ours| ours.master_client_addr.clone()),
            lag_bytes: ours.map_or(0, |ours| ours.behind),
        });
        Self {
            is_master: status.master,
            epoch: ours.map(|ours| ours.epoch),
            log_end: if status.master || ours.is_some() {
                status.master_commit_log_max_offset
            } else {
                client.max_offset
            },
            serves: ours.is_none_or(|Replication { serves, .. }| *serves),
            copies: ours.map(|ours| ours.in_sync_replicas),
            slaves: status.ha_connection_info.iter().map(SlaveInfo::of).collect(),
            master,
        }
    }
}

impl SlaveInfo {
    fn of(connection: &HaConnection) -> Self {
        Self {
            address: connection.addr.clone(),
            id: Some(connection.broker_id).filter(|id| *id >= 0),
            in_sync: connection.in_sync,
            lag_bytes: connection.diff,
            lag: u64::try_from(connection.lag_ms).ok().map(Duration::from_millis),
        }
    }
}
