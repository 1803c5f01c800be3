//! A group goes on where it committed, and what it did not acknowledge comes again.

use std::time::Duration;

use crate::common::{Cluster, bodies, create_topic, send_all, take, take_bodies};
use basaltmq::{Client, Consumer, Position};

async fn start(client: &Client) -> Consumer {
    client
        .consumer("mail")
        .topic("orders")
        .start_at(Position::First)
        .redelivery_delay(Duration::from_millis(100))
        .start()
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_resumes_at_the_committed_offset() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &bodies(10)).await;
    let mut consumer = start(&client).await;
    let mut deliveries = take(&mut consumer, 10).await;
    // The fourth stays open: nothing after it may be committed.
    let open = deliveries.remove(3);
    deliveries.into_iter().for_each(basaltmq::Delivery::ack);
    let closing = tokio::spawn(consumer.close());
    drop(open);
    closing.await.unwrap();
    client.close().await;

    let client = cluster.client().await;
    let mut consumer = start(&client).await;
    assert_eq!(take_bodies(&mut consumer, 7).await, bodies(10)[3..]);
    consumer.close().await;
    let mut consumer = start(&client).await;
    send_all(&client, "orders", &["new".to_owned()]).await;
    assert_eq!(take_bodies(&mut consumer, 1).await, ["new"]);
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_survive_a_restart_of_the_broker() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 2).await;
    send_all(&client, "orders", &bodies(10)).await;
    let mut consumer = start(&client).await;
    assert_eq!(take_bodies(&mut consumer, 10).await, bodies(10));
    consumer.close().await;
    cluster.restart_broker(0).await;
    send_all(&client, "orders", &["new".to_owned()]).await;
    let mut consumer = start(&client).await;
    assert_eq!(take_bodies(&mut consumer, 1).await, ["new"]);
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_survives_a_restart_of_the_broker() {
    let mut cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 2).await;
    let mut consumer = start(&client).await;
    send_all(&client, "orders", &bodies(5)).await;
    assert_eq!(take_bodies(&mut consumer, 5).await, bodies(5));
    cluster.restart_broker(0).await;
    send_all(&client, "orders", &bodies(5)).await;
    assert_eq!(take_bodies(&mut consumer, 5).await, bodies(5));
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_delivery_comes_again() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &bodies(1)).await;
    let mut consumer = start(&client).await;
    let first = take(&mut consumer, 1).await.remove(0);
    let offset = first.queue_offset();
    drop(first);
    let again = take(&mut consumer, 1).await.remove(0);
    assert_eq!((again.queue_offset(), again.attempt()), (offset, 1));
    again.ack();
    assert_eq!(consumer.unacknowledged(), 0);
    client.close().await;
    cluster.stop().await;
}
