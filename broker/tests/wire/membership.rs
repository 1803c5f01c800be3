//! Heartbeats, who hears of changes, expiry, and queue locks.

use std::time::{Duration, Instant};

use broker::Broker;
use bytes::Bytes;
use protocol::{
    body::{
        group::ConsumerList,
        heartbeat::{ConsumerData, Heartbeat, ProducerData, SubscriptionData},
        lock::Locked,
        stats::{ConsumerConnections, ProducerConnections},
    },
    clock::Clock,
    code::RequestCode,
    frame::{Encoding, Frame},
    header::NoFields,
    json,
    request::{
        heartbeat::{ConsumerGroup, ProducerGroup, Unregister},
        pull::Pull,
    },
};

use crate::common::{Client, GROUP, TOPIC, bodies, config, node, node_with, outcome, pull};

fn beat(client_id: &str, expression: &str, version: i64) -> Heartbeat {
    let subscription = |topic: &str, expression: &str| SubscriptionData {
        topic: topic.to_owned(),
        sub_string: expression.to_owned(),
        sub_version: version,
        ..SubscriptionData::default()
    };
    Heartbeat {
        client_id: client_id.to_owned(),
        consumer_data_set: vec![ConsumerData {
            group_name: GROUP.to_owned(),
            subscription_data_set: vec![
                subscription(TOPIC, expression),
                subscription(&format!("%RETRY%{GROUP}"), "*"),
            ],
            ..ConsumerData::default()
        }],
        producer_data_set: vec![ProducerData { group_name: "PG".to_owned() }],
        ..Heartbeat::default()
    }
}

async fn send_beat(client: &Client, beat: &Heartbeat) -> Frame {
    client.ok(RequestCode::HeartBeat, &NoFields, json::encode(beat)).await
}

async fn members(client: &Client) -> Result<Vec<String>, i32> {
    let header = ConsumerGroup { consumer_group: GROUP };
    let answer = client.call(RequestCode::GetConsumerListByGroup, &header, Bytes::new()).await;
    match answer.code {
        0 => Ok(json::decode::<ConsumerList>(&answer.body).unwrap().consumer_id_list),
        code => Err(code),
    }
}

fn is_notice(frame: &Frame) -> bool {
    frame.code == 40 && frame.is_oneway() && frame.fields.get("consumerGroup") == Some(GROUP)
}

#[tokio::test]
async fn every_member_hears_of_joins_leaves_and_disconnects() {
    let node = node().await;
    let (a, b) = (node.client().await, node.client().await);
    assert_eq!(
        members(&a).await,
        Err(1),
        "an empty group is an error, which clients take for no change"
    );
    send_beat(&a, &beat("a", "*", 1)).await;
    assert!(is_notice(&a.inbox.wait_for(1).await[0]));
    a.inbox.clear();

    send_beat(&b, &beat("b", "*", 1)).await;
    assert!(is_notice(&a.inbox.wait_for(1).await[0]));
    assert!(is_notice(&b.inbox.wait_for(1).await[0]));
    assert_eq!(members(&a).await.unwrap(), ["a", "b"]);
    a.inbox.clear();
    b.inbox.clear();

    send_beat(&b, &beat("b", "*", 1)).await;
    let leave =
        Unregister { client_id: "b", producer_group: Some("PG"), consumer_group: Some(GROUP) };
    b.ok(RequestCode::UnregisterClient, &leave, Bytes::new()).await;
    a.inbox.wait_for(1).await;
    assert_eq!(members(&a).await.unwrap(), ["a"]);
    assert_eq!(a.inbox.frames().len(), 1, "the renewal before told nobody");
    assert_eq!(b.inbox.frames().len(), 0, "who left is not told");
    a.inbox.clear();

    send_beat(&b, &beat("b", "*", 1)).await;
    a.inbox.wait_for(1).await;
    a.inbox.clear();
    let started = Instant::now();
    b.connection.close("test");
    a.inbox.wait_for(1).await;
    let took = started.elapsed();
    assert!(
        took < Duration::from_millis(500),
        "a disconnect is noticed at once, not after {took:?}"
    );
    assert_eq!(members(&a).await.unwrap(), ["a"]);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn the_first_heartbeat_creates_group_and_retry_topic() {
    let node = node().await;
    let client = node.client().await;
    let answer = send_beat(&client, &beat("a", "*", 1)).await;
    assert_eq!(answer.fields.get("IS_SUPPORT_HEART_BEAT_V2"), Some("true"));
    assert_eq!(
        answer.fields.get("IS_SUB_CHANGE"),
        Some("true"),
        "always, for heartbeats of version 1"
    );
    let retry = format!("%RETRY%{GROUP}");
    assert_eq!(client.pull(&retry, 0, 0).await.code, 19, "the topic exists and is empty");
    let group = protocol::request::group::Group { group: GROUP };
    client.ok(RequestCode::GetSubscriptionGroupConfig, &group, Bytes::new()).await;
    node.broker.shutdown().await;
}

#[tokio::test]
async fn broadcasting_groups_are_not_told() {
    let node = node().await;
    let (a, b) = (node.client().await, node.client().await);
    let broadcast = |id| {
        let mut beat = beat(id, "*", 1);
        beat.consumer_data_set[0].message_model = "BROADCASTING".to_owned();
        beat
    };
    send_beat(&a, &broadcast("a")).await;
    send_beat(&b, &broadcast("b")).await;
    b.connection.close("test");
    while members(&a).await.unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(a.inbox.frames().len(), 0);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_version_2_heartbeat_is_full_once_and_then_bare() {
    let node = node().await;
    let client = node.client().await;
    let mut full = beat("a", "TagA", 1);
    full.heartbeat_fingerprint = 77;
    let changed = async |beat: &Heartbeat| {
        send_beat(&client, beat).await.fields.get("IS_SUB_CHANGE").unwrap().to_owned()
    };
    assert_eq!(changed(&full).await, "false");
    let mut bare = full.clone();
    bare.without_sub = true;
    bare.consumer_data_set[0].subscription_data_set.clear();
    assert_eq!(changed(&bare).await, "false");
    let from_group = Pull { sys_flag: 0, subscription: None, ..pull(TOPIC, 0, 0) };
    client.put(TOPIC, 0, "wanted", &[("TAGS", "TagA")]).await;
    client.put(TOPIC, 0, "not", &[("TAGS", "TagB")]).await;
    let answer = client.ok(RequestCode::PullMessage, &from_group, Bytes::new()).await;
    assert_eq!(bodies(&answer), ["wanted"], "the subscriptions of the full one still hold");
    bare.heartbeat_fingerprint = 78;
    assert_eq!(changed(&bare).await, "true");
    assert_eq!(changed(&bare).await, "false");
    node.broker.shutdown().await;

    let restarted = crate::common::node().await;
    let client = restarted.client().await;
    let answer = send_beat(&client, &bare).await;
    assert_eq!(answer.fields.get("IS_SUB_CHANGE"), Some("true"), "the broker has no subscriptions");
    restarted.broker.shutdown().await;
}

#[tokio::test]
async fn pulls_follow_the_groups_subscription_and_its_version() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "a", &[("TAGS", "TagA")]).await;
    client.put(TOPIC, 0, "b", &[("TAGS", "TagB")]).await;
    send_beat(&client, &beat("a", "TagB", 10)).await;
    let at = |version| Pull {
        sys_flag: 0,
        subscription: None,
        subscription_version: version,
        ..pull(TOPIC, 0, 0)
    };
    let call =
        async |version| client.call(RequestCode::PullMessage, &at(version), Bytes::new()).await;
    assert_eq!(bodies(&call(10).await), ["b"]);
    assert_eq!(bodies(&call(9).await), ["b"]);
    let ahead = call(11).await;
    assert_eq!(bodies(&ahead), ["a", "b"], "a client ahead of its heartbeat is served unfiltered");
    send_beat(&client, &beat("a", "TagA || TagB", 11)).await;
    assert_eq!(bodies(&call(11).await), ["a", "b"]);
    let other = Pull { topic: "BenchmarkTest", ..at(0) };
    assert_eq!(client.call(RequestCode::PullMessage, &other, Bytes::new()).await.code, 24);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn heartbeats_of_all_client_generations_are_read() {
    let node = node().await;
    let client = node.client().await;
    for body in [
        // C++: ordinals, numbers as strings, no expression type, a line end.
        r#"{"clientID":"cpp","consumerDataSet":[{"consumeFromWhere":0,"consumeType":1,"groupName":"G1","messageModel":1,"subscriptionDataSet":[{"classFilterMode":false,"codeSet":["2598919"],"subString":"TagA","subVersion":"123","tagsSet":["TagA"],"topic":"T"}]}]}
"#,
        // Go: strings in codeSet, null sets.
        r#"{"clientID":"go","producerDataSet":[{"groupName":"P"}],"consumerDataSet":[{"groupName":"G2","consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[{"classFilterMode":false,"topic":"T","subString":"*","tagsSet":null,"codeSet":null,"subVersion":1700000000000000000,"expressionType":"TAG"}],"unitMode":false}]}"#,
        // Java of version 3.
        r#"{"clientID":"old","consumerDataSet":[],"producerDataSet":[{"groupName":"P"}]}"#,
    ] {
        client.ok(RequestCode::HeartBeat, &NoFields, body).await;
    }
    let header = ConsumerGroup { consumer_group: "G1" };
    let answer = client.ok(RequestCode::GetConsumerConnectionList, &header, Bytes::new()).await;
    let group: ConsumerConnections = json::decode(&answer.body).unwrap();
    assert_eq!(group.consume_type, "CONSUME_PASSIVELY");
    assert_eq!(group.message_model, "CLUSTERING");
    assert_eq!(group.connection_set[0].client_id, "cpp");
    assert_eq!(group.connection_set[0].client_addr, client.connection.local().to_string());
    assert_eq!(group.subscription_table["T"].code_set, [2_598_919]);
    let header = ProducerGroup { producer_group: "P" };
    let answer = client.ok(RequestCode::GetProducerConnectionList, &header, Bytes::new()).await;
    let producers: ProducerConnections = json::decode(&answer.body).unwrap();
    assert_eq!(producers.connection_set.len(), 1, "one connection, whatever it calls itself");

    let offline = ConsumerGroup { consumer_group: "Nobody" };
    assert_eq!(
        client.call(RequestCode::GetConsumerConnectionList, &offline, Bytes::new()).await.code,
        206
    );
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_silent_client_is_forgotten_and_disconnected() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    let broker = Broker::start_at(config(&dir), clock).await.unwrap();
    let address = broker.local_addr().to_string();
    let a = Client::connect(&address, Encoding::Json).await;
    let b = Client::connect(&address, Encoding::Json).await;
    send_beat(&a, &beat("a", "*", 1)).await;
    hand.advance(60_000);
    send_beat(&b, &beat("b", "*", 1)).await;
    assert_eq!(members(&b).await.unwrap(), ["a", "b"]);
    b.inbox.wait_for(1).await;
    b.inbox.clear();
    hand.advance(60_000);
    b.inbox.wait_for(1).await;
    assert_eq!(members(&b).await.unwrap(), ["b"]);
    while !a.connection.is_closed() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    broker.shutdown().await;
}

#[tokio::test]
async fn notices_can_be_switched_off() {
    let node = node_with(|config| config.notify_consumer_changes = false).await;
    let (a, b) = (node.client().await, node.client().await);
    send_beat(&a, &beat("a", "*", 1)).await;
    send_beat(&b, &beat("b", "*", 1)).await;
    assert_eq!(members(&a).await.unwrap(), ["a", "b"]);
    assert!(a.inbox.frames().is_empty() && b.inbox.frames().is_empty());
    node.broker.shutdown().await;
}

#[tokio::test]
async fn wrong_heartbeats_are_refused_and_harm_nobody() {
    let node = node().await;
    let client = node.client().await;
    for (body, code, words) in [
        (r#"{"clientID":"","producerDataSet":[{"groupName":"P"}]}"#.to_owned(), 29, "clientID"),
        (
            r#"{"clientID":"c","producerDataSet":[{"groupName":"a b"}]}"#.to_owned(),
            29,
            "contains ' '",
        ),
        (
            format!(
                r#"{{"clientID":"c","producerDataSet":[{}{{}}]}}"#,
                r#"{"groupName":"P"},"#.repeat(1_001)
            ),
            29,
            "at most 1000",
        ),
    ] {
        let answer = client.call(RequestCode::HeartBeat, &NoFields, body).await;
        assert_eq!(answer.code, code, "{:?}", answer.remark);
        assert!(outcome(&answer).1.contains(words), "{:?}", answer.remark);
    }
    send_beat(&client, &beat("a", "*", 1)).await;
    node.broker.shutdown().await;
}

/// As clients of version 4 write it: without `onlyThisBroker`.
fn lock_body(client_id: &str, queues: &[i32]) -> String {
    let queue =
        |id: &i32| format!(r#"{{"brokerName":"broker-a","queueId":{id},"topic":"{TOPIC}"}}"#);
    let queues: Vec<String> = queues.iter().map(queue).collect();
    let queues = queues.join(",");
    format!(r#"{{"clientId":"{client_id}","consumerGroup":"{GROUP}","mqSet":[{queues}]}}"#)
}

async fn lock(client: &Client, client_id: &str, queues: &[i32]) -> Vec<i32> {
    let answer = client.ok(RequestCode::LockBatchMq, &NoFields, lock_body(client_id, queues)).await;
    let locked: Locked = json::decode(&answer.body).unwrap();
    locked.lock_ok_mq_set.iter().map(|queue| queue.queue_id).collect()
}

#[tokio::test]
async fn locks_are_exclusive_and_given_up() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    assert_eq!(lock(&client, "a", &[0, 1]).await, [0, 1]);
    assert_eq!(lock(&client, "b", &[0, 1, 2]).await, [2]);
    assert_eq!(lock(&client, "a", &[0]).await, [0], "renewed");
    client.ok(RequestCode::UnlockBatchMq, &NoFields, lock_body("b", &[0])).await;
    assert_eq!(lock(&client, "b", &[0]).await, [0; 0], "only the owner unlocks");
    client
        .connection
        .oneway(RequestCode::UnlockBatchMq, &NoFields, Bytes::from(lock_body("a", &[0])))
        .unwrap();
    assert_eq!(lock(&client, "b", &[0]).await, [0]);
    assert_eq!(lock(&client, "a", &[99, -1]).await, [0; 0], "no such queues");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn an_unrenewed_lock_lasts_60_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    let broker = Broker::start_at(config(&dir), clock).await.unwrap();
    let client = Client::connect(&broker.local_addr().to_string(), Encoding::Json).await;
    client.put(TOPIC, 0, "x", &[]).await;
    assert_eq!(lock(&client, "a", &[0]).await, [0]);
    hand.advance(59_999);
    assert_eq!(lock(&client, "b", &[0]).await, [0; 0]);
    hand.advance(1);
    assert_eq!(lock(&client, "b", &[0]).await, [0]);
    broker.shutdown().await;
}
