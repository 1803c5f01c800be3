//! `mqtool cluster`: the brokers that name servers know, and what they say of themselves.

use basaltmq::{BrokerInfo, Error};
use clap::Subcommand;
use serde::Serialize;

use crate::{
    Context,
    error::Failure,
    output::{Align, Row, say},
};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List clusters and their brokers
    Ls,
}

pub(crate) async fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    let Verb::Ls = verb;
    let client = context.client().await?;
    let admin = client.admin();
    let mut rows = Vec::new();
    let mut silent = None;
    for broker in admin.brokers().await? {
        let runtime = admin.broker_runtime(&broker.address).await;
        let figure = |name| runtime.as_ref().ok().and_then(|table| table.get(name).cloned());
        rows.push(Broker {
            version: figure("brokerVersionDesc"),
            in_per_second: figure("putTps").and_then(|rates| latest(&rates)),
            // RocketMQ before 5.0 and since name it differently.
            out_per_second: figure("getTransferredTps")
                .or_else(|| figure("getTransferedTps"))
                .and_then(|rates| latest(&rates)),
            ..Broker::new(broker)
        });
        silent = silent.or(runtime.err());
    }
    context.output.rows(&rows)?;
    client.close().await;
    match silent {
        Some(error @ Error::BrokerUnreachable { .. }) => Err(error.into()),
        Some(error) => {
            say(&format!("not all figures are known: {error}"));
            Ok(())
        }
        None => Ok(()),
    }
}

/// The first of RocketMQ's rates over 10 s, 1 min and 10 min.
fn latest(rates: &str) -> Option<f64> {
    rates.split_whitespace().next()?.parse().ok()
}

#[derive(Serialize)]
struct Broker {
    cluster: String,
    broker: String,
    id: i64,
    address: String,
    version: Option<String>,
    in_per_second: Option<f64>,
    out_per_second: Option<f64>,
}

impl Broker {
    fn new(broker: BrokerInfo) -> Self {
        let BrokerInfo { cluster, name, id, address } = broker;
        Self {
            cluster,
            broker: name,
            id,
            address,
            version: None,
            in_per_second: None,
            out_per_second: None,
        }
    }
}

impl Row for Broker {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("CLUSTER", Align::Left),
        ("BROKER", Align::Left),
        ("ID", Align::Right),
        ("ADDRESS", Align::Left),
        ("VERSION", Align::Left),
        ("IN/S", Align::Right),
        ("OUT/S", Align::Right),
    ];

    fn cells(&self) -> Vec<String> {
        let rate =
            |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"));
        vec![
            self.cluster.clone(),
            self.broker.clone(),
            self.id.to_string(),
            self.address.clone(),
            self.version.clone().unwrap_or_else(|| "-".to_owned()),
            rate(self.in_per_second),
            rate(self.out_per_second),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_three_rates_is_the_first() {
        assert_eq!(latest("12.5 3.0 1.0"), Some(12.5));
        assert_eq!(latest(""), None);
    }
}
