//! Tags: a group gets the messages with the tags it asked for.

use crate::common::{Cluster, create_topic, take_bodies};
use basaltmq::Message;

#[tokio::test(flavor = "multi_thread")]
async fn only_wanted_tags_are_delivered() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    let mut consumer =
        client.consumer("mail").topic("orders").tags("created || Aa").start().await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    let send = async |body: &'static str, tag: &str| {
        producer.send(Message::new("orders", body).tag(tag)).await.unwrap();
    };
    send("1", "created").await;
    send("2", "paid").await;
    // The same Java hash as "Aa": brokers let it through, the client must not.
    send("3", "BB").await;
    producer.send(Message::new("orders", "4")).await.unwrap();
    send("5", "Aa").await;
    send("6", "created").await;
    assert_eq!(take_bodies(&mut consumer, 3).await, ["1", "5", "6"]);
    client.close().await;
    cluster.stop().await;
}
