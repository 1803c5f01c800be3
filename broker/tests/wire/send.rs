//! Sending: what is stored, what is answered, and what comes into being by itself.

use bytes::{Bytes, BytesMut};
use protocol::{
    batch,
    code::RequestCode,
    frame::Encoding,
    header::{Encode, FieldWriter},
    message_id::OffsetId,
    request::send::Send,
};

use crate::common::{
    GROUP, QUEUES, TOPIC, bodies, message, node, node_with, number, outcome, properties, records,
};

#[tokio::test]
async fn a_message_is_stored_with_the_brokers_stamps_and_answered_with_its_place() {
    let node = node().await;
    let client = node.client().await;
    let text = properties(&[("KEYS", "k1 k2"), ("TAGS", "TagA"), ("UNIQ_KEY", "0A01")]);
    let header = Send { properties: Some(&text), flag: 7, ..message(TOPIC, 2) };
    let sent = client.send(&header, "hello").await;
    assert_eq!(sent.code, 0, "{:?}", sent.remark);
    assert_eq!(number(&sent, "queueId"), 2);
    assert_eq!(number(&sent, "queueOffset"), 0);
    assert_eq!(sent.fields.get("transactionId"), Some("0A01"));
    assert_eq!(sent.fields.get("MSG_REGION"), Some("DefaultRegion"));
    assert_eq!(sent.fields.get("TRACE_ON"), Some("true"));
    let id: OffsetId = sent.fields.get("msgId").unwrap().parse().unwrap();
    assert_eq!(id.host, node.broker.local_addr());

    let pulled = client.pull(TOPIC, 2, 0).await;
    let records = records(&pulled);
    let record = records[0];
    record.verify().unwrap();
    assert_eq!(
        (record.body, record.topic, record.queue_id, record.flag),
        (&b"hello"[..], TOPIC, 2, 7)
    );
    assert_eq!(record.log_offset, id.log_offset);
    assert_eq!(record.born_host, client.connection.local());
    assert_eq!(record.born_timestamp, 1_700_000_000_000);
    assert_eq!(record.store_host, node.broker.local_addr());
    for (name, value) in [
        ("KEYS", "k1 k2"),
        ("TAGS", "TagA"),
        ("UNIQ_KEY", "0A01"),
        ("MSG_REGION", "DefaultRegion"),
        ("TRACE_ON", "true"),
        ("CLUSTER", "DefaultCluster"),
    ] {
        assert_eq!(record.property(name), Some(value), "{name}");
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_message_without_an_id_gets_one() {
    let node = node().await;
    let client = node.client().await;
    let sent = client.send(&message(TOPIC, 0), "x").await;
    let id = sent.fields.get("transactionId").unwrap().to_owned();
    assert_eq!(id.len(), 32);
    let pulled = client.pull(TOPIC, 0, 0).await;
    assert_eq!(records(&pulled)[0].property("UNIQ_KEY"), Some(id.as_str()));
    node.broker.shutdown().await;
}

#[tokio::test]
async fn what_only_brokers_set_is_not_stored_twice() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[("CLUSTER", "elsewhere"), ("POP_CK", "handle"), ("a", "b")]).await;
    let pulled = client.pull(TOPIC, 0, 0).await;
    let text = records(&pulled)[0].properties;
    let all: Vec<(&str, &str)> = protocol::property::iter(text).collect();
    assert_eq!(all.iter().filter(|(name, _)| *name == "CLUSTER").count(), 1, "{all:?}");
    assert!(all.contains(&("CLUSTER", "DefaultCluster")) && all.contains(&("a", "b")));
    assert!(!all.iter().any(|(name, _)| *name == "POP_CK"));
    node.broker.shutdown().await;
}

/// The header of a send with long names, as C++ and Go write it.
struct Long<'a>(&'a Send<'a>);

impl Encode for Long<'_> {
    fn encode(&self, fields: &mut FieldWriter<'_>) {
        fields.text("producerGroup", self.0.producer_group);
        fields.text("topic", self.0.topic);
        fields.text("defaultTopic", "TBW102");
        fields.text("defaultTopicQueueNums", "4");
        fields.number("queueId", self.0.queue_id);
        fields.text("sysFlag", "0");
        fields.text("bornTimestamp", "1");
        fields.text("flag", "0");
        fields.text("properties", self.0.properties.unwrap_or_default());
        fields.text("batch", if self.0.batch { "true" } else { "false" });
    }
}

fn two_messages() -> Bytes {
    let mut body = BytesMut::new();
    let first = properties(&[("TAGS", "TagA"), ("KEYS", "first")]);
    batch::Message { flag: 0, body: b"one", properties: &first }.encode(&mut body).unwrap();
    batch::Message { flag: 1, body: b"two", properties: "" }.encode(&mut body).unwrap();
    body.freeze()
}

#[tokio::test]
async fn the_header_says_what_is_a_batch_and_both_name_forms_are_read_under_every_code() {
    let node = node().await;
    let client = node.client().await;
    let codes =
        [RequestCode::SendMessage, RequestCode::SendMessageV2, RequestCode::SendBatchMessage];
    for (queue, code) in (0..).zip(codes) {
        let single = message(TOPIC, queue);
        let batch = Send { batch: true, ..message(TOPIC, queue) };
        client.ok(code, &single, "short names").await;
        client.ok(code, &Long(&single), "long names").await;
        let sent = client.ok(code, &batch, two_messages()).await;
        let ids = sent.fields.get("msgId").unwrap();
        assert_eq!(ids.split(',').count(), 2, "{ids}");
        assert_eq!(number(&sent, "queueOffset"), 2, "that of the first message");
        client.ok(code, &Long(&batch), two_messages()).await;
        let pulled = client.pull(TOPIC, queue, 0).await;
        assert_eq!(bodies(&pulled), ["short names", "long names", "one", "two", "one", "two"]);
        let records = records(&pulled);
        assert_eq!(records[2].property("KEYS"), Some("first"));
        assert_eq!(records[3].flag, 1);
        // A batch's properties are stored as they came, and sealed.
        let names: Vec<_> =
            protocol::property::iter(records[3].properties).map(|(name, _)| name).collect();
        assert_eq!(names, [protocol::property::CRC32]);
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn both_header_encodings_are_answered_in_kind() {
    let node = node().await;
    for encoding in [Encoding::Json, Encoding::Binary] {
        let client = crate::common::Client::connect(&node.address(), encoding).await;
        let sent = client.send(&message(TOPIC, 1), "x").await;
        assert_eq!(sent.encoding, encoding);
        assert_eq!(number(&sent, "queueId"), 1);
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_oneway_send_is_stored_and_not_answered() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "first", &[]).await;
    client
        .connection
        .oneway(RequestCode::SendMessageV2, &message(TOPIC, 0), Bytes::from_static(b"second"))
        .unwrap();
    assert_eq!(client.put(TOPIC, 0, "third", &[]).await, 2);
    assert_eq!(bodies(&client.pull(TOPIC, 0, 0).await), ["first", "second", "third"]);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn many_sends_at_once_keep_their_order_in_a_queue() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "first", &[]).await;
    let sends = (1..=2_000).map(|n| {
        let connection = std::sync::Arc::clone(&client.connection);
        async move {
            let body = Bytes::from(n.to_string());
            let sent = connection
                .request(
                    RequestCode::SendMessageV2,
                    &message(TOPIC, 0),
                    body,
                    crate::common::PATIENCE,
                )
                .await
                .unwrap();
            assert_eq!(number(&sent, "queueOffset"), n);
        }
    });
    // Requests are written in the order in which the tasks are polled first: that of creation.
    let mut tasks = tokio::task::JoinSet::new();
    for send in sends {
        tasks.spawn(send);
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_topic_comes_into_being_with_the_smaller_number_of_queues() {
    let node = node().await;
    let client = node.client().await;
    for (topic, wanted, queues) in [("Few", QUEUES, 4), ("Many", 100, 8)] {
        let header = Send { default_topic_queues: wanted, ..message(topic, 0) };
        assert_eq!(client.send(&header, "x").await.code, 0);
        assert_eq!(
            client.send(&Send { queue_id: queues - 1, ..header.clone() }, "x").await.code,
            0
        );
        let refused = client.send(&Send { queue_id: queues, ..header }, "x").await;
        assert_eq!(refused.code, 29);
        assert!(outcome(&refused).1.contains(&format!("{queues} queues")), "{:?}", refused.remark);
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn no_topic_comes_into_being_without_leave() {
    let node = node_with(|config| config.auto_create_topic = false).await;
    let client = node.client().await;
    let refused = client.send(&message(TOPIC, 0), "x").await;
    assert_eq!(refused.code, 17);
    assert!(outcome(&refused).1.contains("topic TopicTest does not exist on broker broker-a"));
    assert_eq!(refused.fields.get("MSG_REGION"), Some("DefaultRegion"), "on errors too");
    node.broker.shutdown().await;

    let node = crate::common::node().await;
    let client = node.client().await;
    let header = Send { default_topic: Some("TopicWithoutInherit"), ..message(TOPIC, 0) };
    assert_eq!(client.send(&header, "x").await.code, 17, "the template does not exist");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_negative_queue_lets_the_broker_choose() {
    let node = node().await;
    let client = node.client().await;
    let mut chosen = std::collections::BTreeSet::new();
    for _ in 0..16 {
        let sent = client.send(&message(TOPIC, -1), "x").await;
        chosen.insert(number(&sent, "queueId"));
    }
    assert_eq!(chosen.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3]);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_synced_send_is_answered_when_it_is_on_disk() {
    let node = node_with(|config| config.flush = "sync".to_owned()).await;
    let client = node.client().await;
    assert_eq!(client.put(TOPIC, 0, "a", &[]).await, 0);
    assert_eq!(client.put(TOPIC, 0, "b", &[("WAIT", "false")]).await, 1);
    assert_eq!(client.put(TOPIC, 0, "c", &[]).await, 2);
    assert_eq!(bodies(&client.pull(TOPIC, 0, 0).await), ["a", "b", "c"]);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_retry_past_its_maximum_goes_to_the_dead_letter_topic() {
    let node = node().await;
    let client = node.client().await;
    let topic = format!("%RETRY%{GROUP}");
    let alive = Send { reconsume_times: 3, max_reconsume_times: Some(3), ..message(&topic, 0) };
    assert_eq!(client.send(&alive, "again").await.code, 0);
    let dead = Send { reconsume_times: 4, max_reconsume_times: Some(3), ..message(&topic, 0) };
    assert_eq!(client.send(&dead, "dead").await.code, 0);
    assert_eq!(bodies(&client.pull(&topic, 0, 0).await), ["again"]);
    assert_eq!(bodies(&client.pull(&format!("%DLQ%{GROUP}"), 0, 0).await), ["dead"]);
    node.broker.shutdown().await;
}
