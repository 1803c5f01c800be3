//! A consumer takes no more than it may hold, and goes on as it acknowledges.

use std::time::Duration;

use basaltmq::Position;

use crate::common::{Cluster, bodies, create_topic, send_all, take, take_bodies, until};

#[tokio::test(flavor = "multi_thread")]
async fn unacknowledged_messages_stop_the_pull() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &bodies(50)).await;
    let mut consumer = client
        .consumer("mail")
        .topic("orders")
        .start_at(Position::First)
        .pull_batch(5)
        .max_unacknowledged(10)
        .start()
        .await
        .unwrap();
    until("the limit", async || consumer.unacknowledged() >= 10).await;
    let held = take(&mut consumer, 10).await;
    // More would come at once if the limit did not hold.
    assert!(tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err());
    assert_eq!(consumer.unacknowledged(), 10);
    held.into_iter().for_each(basaltmq::Delivery::ack);
    for ten in bodies(50)[10..].chunks(10) {
        assert_eq!(take_bodies(&mut consumer, 10).await, ten);
    }
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_stop_the_pull_by_their_bytes() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    // Random enough not to be compressed away.
    let body = |index: u32| -> String {
        (0..2000)
            .map(|step: u32| format!("{:08x}", (step * 0x9E37 + index).wrapping_mul(0x85EB_CA6B)))
            .collect()
    };
    let producer = client.producer("shop").compress_above_bytes(usize::MAX).build().await.unwrap();
    for index in 0..20 {
        producer.send(basaltmq::Message::new("orders", body(index))).await.unwrap();
    }
    let mut consumer = client
        .consumer("mail")
        .topic("orders")
        .start_at(Position::First)
        .pull_batch(1)
        .max_unacknowledged_bytes(3 * 16_000)
        .start()
        .await
        .unwrap();
    let held = take(&mut consumer, 3).await;
    assert!(tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err());
    held.into_iter().for_each(basaltmq::Delivery::ack);
    for index in 3..20 {
        let delivery = take(&mut consumer, 1).await.remove(0);
        assert_eq!(delivery.body(), body(index).as_bytes());
        delivery.ack();
    }
    client.close().await;
    cluster.stop().await;
}
