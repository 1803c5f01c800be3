//! Topics, groups and clusters: what operators and tools need.

mod cluster;
mod group;
mod replication;
mod topic;

use std::sync::Arc;

pub(crate) use self::group::consumer_ids;
pub use self::{
    cluster::BrokerInfo,
    group::{GroupInfo, GroupLag, GroupMember, GroupSpec, QueueLag},
    replication::{MasterInfo, ReplicationInfo, RoleChange, SlaveInfo},
    topic::{QueueBounds, TopicInfo, TopicOnBroker, TopicSpec},
};
use crate::core::Core;

/// Administration; made by [`crate::Client::admin`].
///
/// What concerns all brokers is done on one after the other, and stops at the first that fails:
/// calling again is always safe.
#[derive(Clone, Debug)]
pub struct Admin {
    core: Arc<Core>,
}

impl Admin {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}
