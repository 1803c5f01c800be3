//! Brokers that are gone: silent for too long, or disconnected. The decision is
//! `RouteTable`'s; here is what follows from it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    channel::{Channels, DialOptions},
    code::RequestCode,
    request::register::LowestBroker,
};

use crate::{
    route_table::{LowestChanged, Removed},
    server::Shared,
};

/// Removes silent brokers again and again.
pub(crate) async fn run(shared: Arc<Shared>) -> Infallible {
    loop {
        let interval_ms = shared.config.load().scan_not_active_broker_interval_ms;
        tokio::time::sleep(Duration::from_millis(interval_ms.max(1))).await;
        for removed in shared.table.expire(shared.clock.now_ms()) {
            let link = shared.links().get(&removed.connection).map(Arc::clone);
            if let Some(link) = link {
                link.close("its broker was silent for too long");
            }
            gone(&shared, removed, "silent for too long");
        }
    }
}

/// What follows when a process is not registered any more.
pub(crate) fn gone(shared: &Shared, removed: Removed, reason: &str) {
    let Removed { broker, id, address, lowest, .. } = removed;
    tracing::info!(?broker, id, ?address, reason, "broker removed");
    if let Some(lowest) = lowest {
        tell(shared, lowest);
    }
}

/// Tells the members of a group that another of them has the lowest id now, if that is configured.
///
/// # Source: `RouteInfoManager.notifyMinBrokerIdChanged`
pub(crate) fn tell(shared: &Shared, lowest: LowestChanged) {
    if !shared.config.load().notify_min_broker_id_changed {
        return;
    }
    tokio::spawn(async move {
        // Rare enough for connections of its own: nothing is kept for addresses that peers name.
        let channels = Channels::new(Arc::new(()), DialOptions::default());
        let header = LowestBroker {
            broker_name: &lowest.broker,
            broker_id: lowest.id,
            broker_addr: Some(&lowest.address),
            offline_broker_addr: lowest.gone.as_deref(),
            ha_broker_addr: Some(&lowest.ha_address),
        };
        for address in &lowest.tell {
            let code = RequestCode::NotifyMinBrokerIdChange;
            if let Err(error) = channels.oneway(address, code, &header, Bytes::new()).await {
                tracing::warn!(broker = ?lowest.broker, %error, "broker not told of its lowest id");
            }
        }
        channels.close_all().await;
    });
}
