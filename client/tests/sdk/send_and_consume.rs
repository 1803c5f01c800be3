//! A message that was sent is consumed, with everything its producer gave it.

use crate::common::{Cluster, bodies, create_topic, send_all, soon, take, take_bodies};
use basaltmq::{Message, Position, SendStatus};
use futures_util::StreamExt as _;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_arrives_with_tag_keys_and_properties() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 4).await;
    let mut consumer =
        client.consumer("mail").topic("orders").start_at(Position::First).start().await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    let message = Message::new("orders", "created")
        .tag("new")
        .key("4711")
        .key("shop-1")
        .property("source", "web")
        .flag(42);
    let receipt = producer.send(message).await.unwrap();
    assert_eq!(receipt.status(), SendStatus::Stored);

    let delivery = take(&mut consumer, 1).await.remove(0);
    assert_eq!(&delivery.body()[..], b"created");
    assert_eq!(delivery.tag(), Some("new"));
    assert_eq!(delivery.keys().collect::<Vec<_>>(), ["4711", "shop-1"]);
    assert_eq!(delivery.property("source"), Some("web"));
    assert_eq!(delivery.flag(), 42);
    assert_eq!(delivery.id(), receipt.id());
    assert_eq!(delivery.offset_id(), receipt.offset_id());
    assert_eq!(delivery.queue(), receipt.queue());
    assert_eq!(delivery.queue_offset(), receipt.queue_offset());
    assert_eq!(delivery.attempt(), 0);
    delivery.ack();
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_sends_in_flight_all_arrive_once() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 4).await;
    let consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    let sends: Vec<_> = bodies(500)
        .into_iter()
        .map(|body| {
            let producer = producer.clone();
            tokio::spawn(async move { producer.send(Message::new("orders", body)).await })
        })
        .collect();
    for send in sends {
        soon("a send", send).await.unwrap().unwrap();
    }
    // As a stream, as any other.
    let received = soon(
        "the delivery of 500 messages",
        consumer
            .take(500)
            .map(|delivery| {
                let body = String::from_utf8(delivery.body().to_vec()).unwrap();
                delivery.ack();
                body
            })
            .collect::<Vec<_>>(),
    )
    .await;
    let mut received = received;
    received.sort();
    assert_eq!(received, bodies(500));
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_send_creates_a_topic_that_a_waiting_consumer_then_finds() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let mut consumer =
        client.consumer("mail").topic("not-yet").start_at(Position::First).start().await.unwrap();
    assert_eq!(consumer.queues(), []);
    send_all(&client, "not-yet", &bodies(3)).await;
    assert_eq!(take_bodies(&mut consumer, 3).await, bodies(3));
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_compressed_on_the_way_only() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    let mut consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    let body = "basalt ".repeat(100_000);
    let producer = client.producer("shop").build().await.unwrap();
    producer.send(Message::new("orders", body.clone())).await.unwrap();
    let delivery = take(&mut consumer, 1).await.remove(0);
    assert!(delivery.record_bytes() < 10_000, "stored in {} bytes", delivery.record_bytes());
    assert!(delivery.body_is_readable());
    assert_eq!(delivery.body(), body.as_bytes());
    delivery.ack();
    client.close().await;
    cluster.stop().await;
}
