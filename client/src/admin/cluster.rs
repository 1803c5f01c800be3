//! Clusters and their brokers.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use protocol::{
    body::{cluster::ClusterInfo, kv::KvTable},
    code::RequestCode,
    header::NoFields,
    json,
};

use super::Admin;
use crate::{
    core::{Core, unreadable},
    error::Error,
};

/// A live broker.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct BrokerInfo {
    /// The cluster it belongs to.
    pub cluster: String,
    /// Its name, which a master and its slaves share.
    pub name: String,
    /// 0 for the master.
    pub id: i64,
    /// The address that clients connect to.
    pub address: String,
}

impl Admin {
    /// The live brokers of all clusters, sorted.
    ///
    /// # Errors
    ///
    /// When no name server answers.
    pub async fn brokers(&self) -> Result<Vec<BrokerInfo>, Error> {
        self.core.brokers().await
    }

    /// A broker's account of itself: RocketMQ's table of runtime figures, by name.
    ///
    /// # Errors
    ///
    /// When the broker does not answer.
    pub async fn broker_runtime(&self, address: &str) -> Result<BTreeMap<String, String>, Error> {
        let code = RequestCode::GetBrokerRuntimeInfo;
        let frame = self.core.call(address, code, &NoFields, Bytes::new()).await?;
        let table: KvTable =
            json::decode(&frame.body).map_err(|error| unreadable(address, code)(&error))?;
        Ok(table.table)
    }
}

impl Core {
    pub(crate) async fn brokers(&self) -> Result<Vec<BrokerInfo>, Error> {
        let code = RequestCode::GetBrokerClusterInfo;
        let (address, frame) = self.call_name_server(code, &NoFields).await?;
        let info: ClusterInfo =
            json::decode(&frame.body).map_err(|error| unreadable(&address, code)(&error))?;
        let mut brokers: Vec<_> = info
            .broker_addr_table
            .into_values()
            .flat_map(|broker| {
                let (cluster, name) = (broker.cluster, broker.broker_name);
                broker.broker_addrs.into_iter().map(move |(id, address)| BrokerInfo {
                    cluster: cluster.clone(),
                    name: name.clone(),
                    id,
                    address,
                })
            })
            .collect();
        brokers.sort();
        Ok(brokers)
    }

    /// One broker of each name: the master, or the slave that is left.
    pub(crate) async fn one_of_each_name(&self) -> Result<Vec<BrokerInfo>, Error> {
        let mut brokers = self.brokers().await?;
        brokers.dedup_by(|later, first| {
            (&later.cluster, &later.name) == (&first.cluster, &first.name)
        });
        Ok(brokers)
    }

    /// The masters, which take changes.
    pub(crate) async fn masters(&self) -> Result<Vec<BrokerInfo>, Error> {
        let mut brokers = self.brokers().await?;
        brokers.retain(|broker| broker.id == 0);
        Ok(brokers)
    }

    /// The name of the broker at an address, or the address when no name server knows it.
    pub(crate) async fn broker_name(&self, address: &str) -> Arc<str> {
        let brokers = self.brokers().await.unwrap_or_default();
        brokers
            .iter()
            .find(|broker| broker.address == address)
            .map_or(address, |broker| broker.name.as_str())
            .into()
    }
}
