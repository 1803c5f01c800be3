//! One-way sends: stored, though nobody says so.

use crate::common::{Cluster, bodies, create_topic, take_bodies};
use basaltmq::Message;

#[tokio::test(flavor = "multi_thread")]
async fn one_way_messages_arrive() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 2).await;
    let mut consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    for body in bodies(50) {
        producer.send_oneway(Message::new("orders", body)).await.unwrap();
    }
    assert_eq!(take_bodies(&mut consumer, 50).await, bodies(50));
    client.close().await;
    cluster.stop().await;
}
