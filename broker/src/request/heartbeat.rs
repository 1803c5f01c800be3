//! Membership: heartbeats (34), leaving (35), members (38), subscription checks (46), and the
//! notification of members when their group changes (40).

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use protocol::{
    body::{
        group::ConsumerList,
        heartbeat::{CheckClient, ConsumerData, Heartbeat, SubscriptionData},
    },
    code::RequestCode,
    connection::Connection,
    frame::Frame,
    json, limits, names,
    request::heartbeat::{ConsumerGroup, HeartbeatReply, Unregister},
};

use super::reply::{Answer, Handled, Refusal, finish};
use crate::{
    clients::{Manner, Member, Notice, Subscription},
    filter::{Filter, is_tag_type},
    groups,
    state::State,
};

/// Most groups of one client, producers and consumers each; a consumer group may create a topic.
const GROUPS_MAX: usize = 1_000;

/// Code 34. Answered at once when every group is known; a new group and its retry topic are created
/// first, because the client asks for that topic's route next.
pub(super) fn beat(state: &Arc<State>, connection: &Arc<Connection>, frame: Frame) {
    let ticket = frame.ticket();
    let beat = match decode(&frame) {
        Ok(beat) => beat,
        Err(refusal) => return finish(connection, ticket, Err(refusal)),
    };
    if beat.consumer_data_set.iter().all(|data| is_ready(state, &data.group_name)) {
        let answer = register(state, connection, &frame, beat);
        return finish(connection, ticket, Ok(answer));
    }
    let (state, connection_) = (Arc::clone(state), Arc::clone(connection));
    connection.spawn(ticket, async move {
        let handled = match prepare(&state, &beat).await {
            Ok(()) => Ok(register(&state, &connection_, &frame, beat)),
            Err(refusal) => Err(refusal),
        };
        finish(&connection_, ticket, handled);
    });
}

fn decode(frame: &Frame) -> Result<Heartbeat, Refusal> {
    let beat: Heartbeat = json::decode(&frame.body)?;
    let length = beat.client_id.len();
    if length == 0 || length > limits::CLIENT_ID_MAX_BYTES {
        return Err(Refusal::Parameter {
            field: "clientID",
            value: format!("{length} bytes long"),
            expected: format!("expected 1 to {}", limits::CLIENT_ID_MAX_BYTES),
        });
    }
    for count in [beat.consumer_data_set.len(), beat.producer_data_set.len()] {
        if count > GROUPS_MAX {
            return Err(Refusal::Parameter {
                field: "number of groups",
                value: count.to_string(),
                expected: format!("expected at most {GROUPS_MAX} of one client"),
            });
        }
    }
    let producers = beat.producer_data_set.iter().map(|data| &data.group_name);
    let consumers = beat.consumer_data_set.iter().map(|data| &data.group_name);
    for group in producers.chain(consumers) {
        names::check_group(group)?;
    }
    Ok(beat)
}

/// Whether nothing has to be created for a member of this group.
fn is_ready(state: &State, group: &str) -> bool {
    // A slave creates nothing: it follows the master, which gets this heartbeat too.
    if !state.is_master() {
        return true;
    }
    match state.store.group(group) {
        Some(config) => {
            config.retry_queues <= 0 || state.store.topic(&names::retry_topic(group)).is_some()
        }
        // It may not be created: the member is registered all the same, as RocketMQ does.
        None => !state.config.auto_create_group,
    }
}

async fn prepare(state: &State, beat: &Heartbeat) -> Result<(), Refusal> {
    for data in &beat.consumer_data_set {
        if !is_ready(state, &data.group_name) {
            let group = groups::ensure(state, &data.group_name).await?;
            groups::ensure_retry_topic(state, &group, data.unit_mode).await?;
        }
    }
    Ok(())
}

fn register(state: &State, connection: &Arc<Connection>, frame: &Frame, beat: Heartbeat) -> Answer {
    let member = Member {
        connection: Arc::clone(connection),
        connection_id: connection.id(),
        client_id: beat.client_id.into(),
        address: plain(connection.peer()),
        language: frame.language,
        version: frame.version,
        seen_ms: state.clock.now_ms(),
    };
    let fingerprint = beat.heartbeat_fingerprint;
    // Clients of version 1 of heartbeats always send everything, and are told so.
    let mut subscription_changed = fingerprint == 0;
    for data in beat.consumer_data_set {
        let group = data.group_name.clone();
        subscription_changed |= state.clients.fingerprint(&group, fingerprint);
        let (manner, subscriptions) = split(data);
        let subscriptions = (!beat.without_sub).then_some(subscriptions);
        let registered = state.clients.consumes(&group, member.clone(), manner, subscriptions);
        // After a restart of the broker the client does not know that its subscriptions are gone.
        subscription_changed |= beat.without_sub && registered.wants_subscriptions;
        state.notify(registered.notice);
    }
    for data in &beat.producer_data_set {
        state.clients.produces(&data.group_name, member.clone());
    }
    if connection.is_closed() {
        // It ended while its groups were created: its end was handled before it was registered.
        state.notify(state.clients.gone(connection.id(), state.clock.now_ms()));
    }
    Answer::header(HeartbeatReply { supports_v2: true, subscription_changed })
}

fn split(data: ConsumerData) -> (Manner, Vec<Subscription>) {
    let manner = Manner {
        consume_type: data.consume_type,
        broadcast: data.message_model == "BROADCASTING",
        from: data.consume_from_where,
    };
    (manner, data.subscription_data_set.into_iter().map(compile).collect())
}

fn compile(data: SubscriptionData) -> Subscription {
    let filter = if !is_tag_type(Some(&data.expression_type)) {
        None
    } else if matches!(data.sub_string.trim(), "" | "*") {
        Some(Filter::All)
    } else {
        // The hashes that the client sent, or those of its expression if it sent none.
        Filter::of_hashes(data.code_set.iter().map(|code| i64::from(*code)))
            .or_else(|| Filter::parse(Some(&data.sub_string)))
    };
    Subscription {
        topic: data.topic,
        expression: data.sub_string,
        expression_type: data.expression_type,
        version: data.sub_version,
        class_filter: data.class_filter_mode,
        tags: data.tags_set,
        codes: data.code_set,
        filter,
    }
}

/// Code 35.
pub(super) fn unregister(state: &State, connection: &Arc<Connection>, frame: &Frame) {
    let handled = Unregister::decode(&frame.fields).map_err(Refusal::from).map(|header| {
        let (id, now_ms) = (connection.id(), state.clock.now_ms());
        let producer = header.producer_group.filter(|group| !group.is_empty());
        let consumer = header.consumer_group.filter(|group| !group.is_empty());
        state.notify(state.clients.leave(id, producer, consumer, now_ms));
        Answer::done()
    });
    finish(connection, frame.ticket(), handled);
}

/// Code 38.
pub(super) fn consumer_list(state: &State, frame: &Frame) -> Handled {
    let header = ConsumerGroup::decode(&frame.fields)?;
    let consumer_id_list = state.clients.client_ids(header.consumer_group);
    if consumer_id_list.is_empty() {
        // Clients take this for "no change", and an empty list for "give everything up".
        return Err(Refusal::GroupOffline { group: header.consumer_group.to_owned() });
    }
    Ok(Answer::bytes(json::encode(&ConsumerList { consumer_id_list })))
}

/// Code 46.
pub(super) fn check_subscription(_: &State, frame: &Frame) -> Handled {
    let check: CheckClient = json::decode(&frame.body)?;
    let data = check.subscription_data;
    if !is_tag_type(Some(&data.expression_type)) {
        return Err(Refusal::ExpressionType { kind: data.expression_type });
    }
    match Filter::parse(Some(&data.sub_string)) {
        Some(_) => Ok(Answer::done()),
        None => Err(Refusal::Expression { topic: data.topic, expression: data.sub_string }),
    }
}

/// Code 40 to every member of a group.
pub(crate) fn notify(notice: &Notice<Arc<Connection>>) {
    let header = ConsumerGroup { consumer_group: &notice.group };
    for connection in &notice.connections {
        let told = connection.oneway(RequestCode::NotifyConsumerIdsChanged, &header, Bytes::new());
        if let Err(error) = told {
            tracing::debug!(group = &*notice.group, %error, "a member could not be told");
        }
    }
}

/// An address as IPv4 where it is one.
fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
