//! Routes and clusters: codes 105 and 106.

use protocol::{json, request::route::RouteInfo};

use super::{Failure, Request, cut};
use crate::{kv::ORDER_TOPIC_CONFIG, route_table::RouteOptions};

/// Always answered in strict JSON, which every client generation reads.
pub(super) fn route(request: &Request<'_>) -> Result<(), Failure> {
    let server = request.server;
    let RouteInfo { topic, .. } = RouteInfo::decode(&request.frame.fields)?;
    let config = server.config.load();
    if config.need_wait_for_service {
        let wait_seconds = config.wait_seconds_for_service;
        let ready_ms = server.started_ms.saturating_add(i64::from(wait_seconds) * 1_000);
        if server.clock.now_ms() < ready_ms {
            return Err(Failure::NotReady { wait_seconds });
        }
    }
    // Loaded anew when called, which is with the table locked: a change of these drops what was
    // made before it.
    let options = || {
        let config = server.config.load();
        RouteOptions {
            acting_master: config.support_acting_master,
            order: config
                .order_message_enable
                .then(|| server.kv.get(ORDER_TOPIC_CONFIG, topic))
                .flatten(),
        }
    };
    let body = match zone(request) {
        Some(zone) => server.table.route_in_zone(topic, zone, &options()),
        None => server.table.route(topic, options),
    };
    request.body(body.ok_or_else(|| Failure::NoRoute { topic: cut(topic) })?)
}

/// # Source: `ZoneRouteRPCHook`
fn zone<'a>(request: &Request<'a>) -> Option<&'a str> {
    let fields = &request.frame.fields;
    let on = fields.get("__ZONE_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("true"));
    fields.get("__ZONE_NAME").filter(|zone| on && !zone.is_empty())
}

pub(super) fn clusters(request: &Request<'_>) -> Result<(), Failure> {
    request.body(json::encode(&request.server.table.clusters()))
}
