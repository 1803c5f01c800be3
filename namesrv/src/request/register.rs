//! Registration of brokers: codes 103, 104, 205, 322, 327, 901 and 904.

use std::{hash::BuildHasher, sync::Arc};

use protocol::{
    body::{
        DataVersion,
        cluster::MemberGroupBody,
        kv::KvTable,
        register::RegisterBody,
        topic::{TopicConfig, TopicConfigTable},
    },
    connection::Body,
    json,
    request::register::{
        Added, Broker, BrokerName, MemberGroup, Registered, VersionChanged, Wiped,
    },
};

use super::{Failure, Request, cut};
use crate::{
    expire::{gone, tell},
    kv::ORDER_TOPIC_CONFIG,
    route_table::{Identity, Queues, Refused, Registration, Topics},
};

fn identity<'a>(header: &Broker<'a>) -> Identity<'a> {
    Identity {
        cluster: header.cluster_name,
        broker: header.broker_name,
        address: header.broker_addr,
    }
}

pub(super) fn register(request: &Request<'_>) -> Result<(), Failure> {
    let (server, frame) = (request.server, request.frame);
    let header = Broker::decode(&frame.fields)?;
    check_crc(header.body_crc32, &frame.body)?;
    let config = server.config.load();
    let new = Registration {
        identity: identity(&header),
        id: header.broker_id,
        ha_address: header.ha_server_addr.unwrap_or_default(),
        zone: header.zone.filter(|zone| !zone.is_empty()),
        enable_acting_master: header.enable_acting_master,
        silence_max_ms: header.heartbeat_timeout_ms,
        fingerprint: server.hasher.hash_one((frame.version, &*frame.body)),
        topics: None,
        complete: config.delete_topic_with_broker_registration,
        connection: request.connection.id(),
        now_ms: server.clock.now_ms(),
    };
    // Reading 10,000 topics costs 40 ms, finding that they are the same as 30 s ago 1 ms.
    let registered = match server.table.register(&new) {
        Err(Refused::NotTheSame) => {
            let body = RegisterBody::decode(&frame.body, frame.version)?;
            let TopicConfigTable { data_version: version, topic_config_table, .. } =
                body.topic_config_serialize_wrapper;
            let layout: Vec<_> = topic_config_table.into_iter().map(layout).collect();
            let topics = Some(Topics { version, layout: &layout });
            server.table.register(&Registration { topics, ..new })?
        }
        outcome => outcome?,
    };
    server.links().insert(request.connection.id(), Arc::clone(request.connection));
    if registered.first {
        tracing::info!(broker = ?new.identity, id = new.id, "broker registered");
    }
    if let Some(lowest) = registered.lowest {
        tell(server, lowest);
    }
    let order = config
        .return_order_topic_config_to_broker
        .then(|| server.kv.namespace(ORDER_TOPIC_CONFIG))
        .flatten();
    let body = order.map_or(Body::Empty, |table| Body::Bytes(json::encode(&KvTable { table })));
    let (master_addr, ha_server_addr) = registered.master.unzip();
    request.reply(&Registered { ha_server_addr, master_addr }, body)
}

fn layout((key, topic): (String, TopicConfig)) -> (String, Queues) {
    let queues = Queues {
        read: topic.read_queue_nums,
        write: topic.write_queue_nums,
        perm: topic.perm,
        sys_flag: topic.topic_sys_flag,
    };
    (if topic.topic_name.is_empty() { key } else { topic.topic_name }, queues)
}

/// The checksum covers the body as sent; 0 is none.
fn check_crc(header: i32, body: &[u8]) -> Result<(), Failure> {
    let crc = crc32fast::hash(body);
    let matches = header == 0 || u32::try_from(header) == Ok(crc & 0x7fff_ffff);
    if matches { Ok(()) } else { Err(Failure::Checksum { header, body: crc }) }
}

pub(super) fn unregister(request: &Request<'_>) -> Result<(), Failure> {
    let header = Broker::decode(&request.frame.fields)?;
    if let Some(removed) = request.server.table.unregister(identity(&header)) {
        gone(request.server, removed, "unregistered");
    }
    request.done()
}

pub(super) fn heartbeat(request: &Request<'_>) -> Result<(), Failure> {
    let header = Broker::decode(&request.frame.fields)?;
    let server = request.server;
    if !server.table.heartbeat(identity(&header), server.clock.now_ms()) {
        tracing::debug!(broker = ?cut(header.broker_name), "heartbeat of a broker that is not registered");
    }
    request.done()
}

/// Whether a broker has to register again: it is unknown, or its topics have another version.
pub(super) fn version(request: &Request<'_>) -> Result<(), Failure> {
    let (server, frame) = (request.server, request.frame);
    let header = Broker::decode(&frame.fields)?;
    let asked: DataVersion = json::decode(&frame.body)?;
    let known = server.table.version(identity(&header));
    let changed = known.as_ref() != Some(&asked);
    if !changed {
        server.table.heartbeat(identity(&header), server.clock.now_ms());
    }
    let body = known.map_or(Body::Empty, |version| Body::Bytes(json::encode(&version)));
    request.reply(&VersionChanged { changed }, body)
}

pub(super) fn members(request: &Request<'_>) -> Result<(), Failure> {
    let MemberGroup { cluster_name, broker_name } = MemberGroup::decode(&request.frame.fields)?;
    let broker_member_group = request.server.table.members(cluster_name, broker_name);
    request.body(json::encode(&MemberGroupBody { broker_member_group }))
}

pub(super) fn wipe_write_permission(request: &Request<'_>) -> Result<(), Failure> {
    let BrokerName { broker_name } = BrokerName::decode(&request.frame.fields)?;
    let topics = request.server.table.wipe_write_permission(broker_name);
    let broker = cut(broker_name);
    tracing::info!(peer = %request.connection.peer(), ?broker, topics, "write permission wiped");
    request.reply(&Wiped { topics: i32::try_from(topics).unwrap_or(i32::MAX) }, Body::Empty)
}

pub(super) fn add_write_permission(request: &Request<'_>) -> Result<(), Failure> {
    let BrokerName { broker_name } = BrokerName::decode(&request.frame.fields)?;
    let topics = request.server.table.add_write_permission(broker_name);
    let broker = cut(broker_name);
    tracing::info!(peer = %request.connection.peer(), ?broker, topics, "write permission added");
    request.reply(&Added { topics: i32::try_from(topics).unwrap_or(i32::MAX) }, Body::Empty)
}
