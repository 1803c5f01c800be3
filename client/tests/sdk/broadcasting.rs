//! Broadcasting: every member gets every message, and keeps its own offsets.

use crate::common::{Cluster, bodies, create_topic, send_all, take_bodies};

#[tokio::test(flavor = "multi_thread")]
async fn every_member_gets_every_message() {
    let cluster = Cluster::start(1).await;
    let (left, right) = (cluster.client().await, cluster.client().await);
    create_topic(&left, "prices", 4).await;
    let start = async |client: &basaltmq::Client| {
        client.consumer("screens").topic("prices").broadcasting().start().await.unwrap()
    };
    let (mut first, mut second) = (start(&left).await, start(&right).await);
    send_all(&left, "prices", &bodies(30)).await;
    assert_eq!(take_bodies(&mut first, 30).await, bodies(30));
    assert_eq!(take_bodies(&mut second, 30).await, bodies(30));
    left.close().await;
    right.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offset_file_is_where_the_next_start_goes_on() {
    let cluster = Cluster::start(1).await;
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("offsets");
    let client = cluster.client().await;
    create_topic(&client, "prices", 2).await;
    let start = async || {
        client
            .consumer("screens")
            .topic("prices")
            .broadcasting()
            .offset_file(&file)
            .start()
            .await
            .unwrap()
    };
    let mut consumer = start().await;
    send_all(&client, "prices", &bodies(10)).await;
    assert_eq!(take_bodies(&mut consumer, 10).await, bodies(10));
    consumer.close().await;
    // Sent while nobody listens, so only the file tells where to go on.
    send_all(&client, "prices", &["later".to_owned()]).await;
    let mut consumer = start().await;
    assert_eq!(take_bodies(&mut consumer, 1).await, ["later"]);
    client.close().await;
    cluster.stop().await;
}
