//! Who is connected (203, 204) and how the broker is configured (26).

use std::{fmt::Write as _, sync::Arc};

use protocol::{
    body::{
        heartbeat::SubscriptionData,
        stats::{ClientConnection, ConsumerConnections, ProducerConnections},
    },
    connection::Connection,
    frame::Frame,
    json,
    request::{
        admin::ConfigVersion,
        heartbeat::{ConsumerGroup, ProducerGroup},
    },
};

use super::{
    reply::{Answer, Handled, Refusal},
    topic::version,
};
use crate::{
    clients::{Member, Subscription},
    config::KEYS,
    state::State,
};

/// Code 203.
pub(super) fn consumer_connections(state: &State, frame: &Frame) -> Handled {
    let header = ConsumerGroup::decode(&frame.fields)?;
    let group = state
        .clients
        .consumer_group(header.consumer_group)
        .ok_or_else(|| Refusal::NotOnline { group: header.consumer_group.to_owned() })?;
    let model = if group.manner.broadcast { "BROADCASTING" } else { "CLUSTERING" };
    Ok(Answer::bytes(json::encode(&ConsumerConnections {
        connection_set: group.members.iter().map(client).collect(),
        consume_from_where: group.manner.from,
        consume_type: group.manner.consume_type,
        message_model: model.to_owned(),
        subscription_table: group
            .subscriptions
            .iter()
            .map(|subscription| (subscription.topic.clone(), body(subscription)))
            .collect(),
    })))
}

/// Code 204.
pub(super) fn producer_connections(state: &State, frame: &Frame) -> Handled {
    let header = ProducerGroup::decode(&frame.fields)?;
    let members = state.clients.producers(header.producer_group);
    if members.is_empty() {
        return Err(Refusal::ProducersOffline { group: header.producer_group.to_owned() });
    }
    let connection_set = members.iter().map(client).collect();
    Ok(Answer::bytes(json::encode(&ProducerConnections { connection_set })))
}

fn client(member: &Member<Arc<Connection>>) -> ClientConnection {
    ClientConnection {
        client_addr: member.address.to_string(),
        client_id: member.client_id.to_string(),
        language: member.language.name().to_owned(),
        version: member.version,
    }
}

fn body(subscription: &Arc<Subscription>) -> SubscriptionData {
    SubscriptionData {
        class_filter_mode: subscription.class_filter,
        code_set: subscription.codes.clone(),
        expression_type: subscription.expression_type.clone(),
        sub_string: subscription.expression.clone(),
        sub_version: subscription.version,
        tags_set: subscription.tags.clone(),
        topic: subscription.topic.clone(),
    }
}

/// Code 26: the keys that RocketMQ knows, under its names.
pub(super) fn config(state: &State, _: &Frame) -> Handled {
    let mut text = String::new();
    let mut put = |key: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key}={value}");
    };
    let config = &state.config;
    put("brokerRole", state.part.standing.name(state.copies));
    put("flushDiskType", if config.flush == "sync" { "SYNC_FLUSH" } else { "ASYNC_FLUSH" });
    put("bindAddress", &config.listen.ip().to_string());
    put("listenPort", &state.store_host.port().to_string());
    for key in KEYS.iter().filter(|key| !key.rocketmq.is_empty()) {
        match key.rocketmq {
            "brokerIP1" => put("brokerIP1", &config.advertised_host()),
            "brokerId" => put("brokerId", &state.part.standing.broker_id().to_string()),
            name => put(name, &key.text(config)),
        }
    }
    let version = json::encode(&version(state.store.topic_version()));
    let version = String::from_utf8_lossy(&version).into_owned();
    Ok(Answer::header(ConfigVersion { version })
        .with_body(protocol::connection::Body::Bytes(text.into())))
}
