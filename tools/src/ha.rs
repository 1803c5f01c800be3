//! `mqtool ha`: masters and slaves, and how far each is.

use basaltmq::{BrokerInfo, ReplicationInfo, SlaveInfo};
use clap::Subcommand;
use serde::Serialize;

use crate::{
    Context,
    error::Failure,
    output::{Align, Row},
};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List brokers with their roles, and how far slaves are behind
    Status,
}

pub(crate) async fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    let Verb::Status = verb;
    let client = context.client().await?;
    let admin = client.admin();
    let mut rows = Vec::new();
    let mut silent = None;
    for broker in admin.brokers().await? {
        match admin.replication(&broker.address).await {
            Ok(replication) => rows.push(Status::new(broker, replication)),
            Err(error) => {
                rows.push(Status::silent(broker));
                silent = silent.or(Some(error));
            }
        }
    }
    context.output.rows(&rows)?;
    client.close().await;
    silent.map_or(Ok(()), |error| Err(error.into()))
}

#[derive(Serialize)]
struct Status {
    cluster: String,
    broker: String,
    id: i64,
    address: String,
    role: &'static str,
    epoch: Option<i64>,
    log_end: Option<i64>,
    /// Of a slave: bytes that it lacks.
    behind_bytes: Option<i64>,
    /// Of a slave: whether it follows the master.
    connected: Option<bool>,
    serves: Option<bool>,
    /// Of a master: copies that a send waits for.
    copies: Option<i32>,
    slaves: Vec<Slave>,
}

#[derive(Serialize)]
struct Slave {
    id: Option<i64>,
    address: String,
    in_sync: bool,
    lag_bytes: i64,
    lag_seconds: Option<f64>,
}

impl Status {
    fn silent(broker: BrokerInfo) -> Self {
        let BrokerInfo { cluster, name, id, address } = broker;
        Self {
            cluster,
            broker: name,
            id,
            address,
            role: "?",
            epoch: None,
            log_end: None,
            behind_bytes: None,
            connected: None,
            serves: None,
            copies: None,
            slaves: Vec::new(),
        }
    }

    fn new(broker: BrokerInfo, replication: ReplicationInfo) -> Self {
        Self {
            role: if replication.is_master { "master" } else { "slave" },
            epoch: replication.epoch,
            log_end: Some(replication.log_end),
            behind_bytes: replication.master.as_ref().map(|master| master.lag_bytes),
            connected: replication.master.as_ref().map(|master| master.connected),
            serves: Some(replication.serves),
            copies: replication.copies.filter(|_| replication.is_master),
            slaves: replication.slaves.iter().map(Slave::of).collect(),
            ..Self::silent(broker)
        }
    }

    /// The state in a few words.
    fn words(&self) -> String {
        match (self.role, self.connected) {
            ("?", _) => "does not answer".to_owned(),
            ("slave", Some(false)) => "no master".to_owned(),
            ("slave", _) if self.serves == Some(false) => "catching up".to_owned(),
            ("slave", _) => format!("{} B behind", self.behind_bytes.unwrap_or(0)),
            _ if self.slaves.is_empty() => "no slaves".to_owned(),
            _ => self.slaves.iter().map(Slave::words).collect::<Vec<_>>().join(", "),
        }
    }
}

impl Slave {
    fn of(slave: &SlaveInfo) -> Self {
        Self {
            id: slave.id,
            address: slave.address.clone(),
            in_sync: slave.in_sync,
            lag_bytes: slave.lag_bytes,
            lag_seconds: slave.lag.map(|lag| lag.as_secs_f64()),
        }
    }

    fn words(&self) -> String {
        let name = self.id.map_or_else(|| self.address.clone(), |id| id.to_string());
        let state = if self.in_sync { "in sync" } else { "not in sync" };
        let seconds = self.lag_seconds.unwrap_or(0.0);
        format!("slave {name} {state}: {} B, {seconds:.1} s", self.lag_bytes)
    }
}

impl Row for Status {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("CLUSTER", Align::Left),
        ("BROKER", Align::Left),
        ("ID", Align::Right),
        ("ADDRESS", Align::Left),
        ("ROLE", Align::Left),
        ("EPOCH", Align::Right),
        ("LOG END", Align::Right),
        ("COPIES", Align::Right),
        ("STATE", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        let number = |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
        vec![
            self.cluster.clone(),
            self.broker.clone(),
            self.id.to_string(),
            self.address.clone(),
            self.role.to_owned(),
            number(self.epoch),
            number(self.log_end),
            number(self.copies.map(i64::from)),
            self.words(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(role: &'static str) -> Status {
        let broker = BrokerInfo {
            cluster: "C".to_owned(),
            name: "a".to_owned(),
            id: 0,
            address: "a:1".to_owned(),
        };
        Status { role, ..Status::silent(broker) }
    }

    #[test]
    fn the_state_is_told_in_words() {
        assert_eq!(status("?").words(), "does not answer");
        assert_eq!(status("master").words(), "no slaves");
        let slave = Slave {
            id: Some(1),
            address: "b:2".to_owned(),
            in_sync: false,
            lag_bytes: 7,
            lag_seconds: Some(1.25),
        };
        let master = Status { slaves: vec![slave], ..status("master") };
        assert_eq!(master.words(), "slave 1 not in sync: 7 B, 1.2 s");
        let slave = |connected, serves| Status {
            connected: Some(connected),
            serves: Some(serves),
            behind_bytes: Some(3),
            ..status("slave")
        };
        assert_eq!(slave(false, true).words(), "no master");
        assert_eq!(slave(true, false).words(), "catching up");
        assert_eq!(slave(true, true).words(), "3 B behind");
    }
}
