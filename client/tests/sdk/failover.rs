//! A producer steps over the broker that just failed.

use std::time::{Duration, Instant};

use crate::common::{Cluster, bodies, create_topic};
use basaltmq::{Error, Message};

#[tokio::test(flavor = "multi_thread")]
async fn sends_go_on_while_a_broker_is_down() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 2).await;
    let producer = client.producer("shop").build().await.unwrap();
    let mut brokers = std::collections::BTreeSet::new();
    for body in bodies(8) {
        let receipt = producer.send(Message::new("orders", body)).await.unwrap();
        brokers.insert(receipt.queue().broker().to_owned());
    }
    assert_eq!(brokers.len(), 2, "both brokers take their turn");

    cluster.stop_broker(0).await;
    let started = Instant::now();
    for body in bodies(50) {
        let receipt = producer.send(Message::new("orders", body)).await.unwrap();
        assert_eq!(receipt.queue().broker(), "broker-1");
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(2), "50 sends took {took:?}");
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_ends_within_its_timeout_when_no_broker_is_left() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 2).await;
    let producer =
        client.producer("shop").send_timeout(Duration::from_millis(500)).build().await.unwrap();
    producer.send(Message::new("orders", "first")).await.unwrap();
    cluster.stop_broker(0).await;
    let started = Instant::now();
    let error = producer.send(Message::new("orders", "second")).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "it took {:?}", started.elapsed());
    assert!(
        matches!(error, Error::BrokerUnreachable { .. } | Error::TopicNotFound { .. }),
        "{error}"
    );
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_sharding_keys_keep_their_queue_and_order() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 4).await;
    let producer = client.producer("shop").build().await.unwrap();
    let mut offsets = Vec::new();
    for body in bodies(10) {
        let message = Message::new("orders", body).sharding_key("customer-9");
        let receipt = producer.send(message).await.unwrap();
        offsets.push((receipt.queue().clone(), receipt.queue_offset()));
    }
    let queue = offsets[0].0.clone();
    let expected: Vec<_> = (0..10).map(|offset| (queue.clone(), offset)).collect();
    assert_eq!(offsets, expected);

    let chosen = producer
        .send_selected(Message::new("orders", "body"), |queues| {
            queues.iter().position(|other| *other != queue).unwrap()
        })
        .await
        .unwrap();
    assert_ne!(chosen.queue(), &queue);
    client.close().await;
    cluster.stop().await;
}
