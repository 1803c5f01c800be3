//! Members of a group share its queues, and take over what a leaving member had.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use crate::common::{Cluster, bodies, create_topic, send_all, take_bodies, until};
use basaltmq::Client;

async fn join(client: &Client) -> basaltmq::Consumer {
    client.consumer("mail").topic("orders").start().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_and_the_other_takes_over_within_two_seconds() {
    let cluster = Cluster::start(1).await;
    let (left, right) = (cluster.client().await, cluster.client().await);
    create_topic(&left, "orders", 8).await;
    let first = join(&left).await;
    let mut second = join(&right).await;
    until("an even division", async || {
        first.queues().iter().filter(|queue| queue.topic() == "orders").count() == 4
            && second.queues().iter().filter(|queue| queue.topic() == "orders").count() == 4
    })
    .await;
    let owned: BTreeSet<_> = first.queues().into_iter().chain(second.queues()).collect();
    assert_eq!(owned.iter().filter(|queue| queue.topic() == "orders").count(), 8);

    let leaving = Instant::now();
    first.close().await;
    until("the takeover", async || {
        second.queues().iter().filter(|queue| queue.topic() == "orders").count() == 8
    })
    .await;
    let took = leaving.elapsed();
    assert!(took < Duration::from_secs(2), "the takeover took {took:?}");

    send_all(&right, "orders", &bodies(40)).await;
    assert_eq!(take_bodies(&mut second, 40).await, bodies(40));
    left.close().await;
    right.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_vanishes_is_replaced_within_two_seconds() {
    let cluster = Cluster::start(1).await;
    let right = cluster.client().await;
    create_topic(&right, "orders", 4).await;
    let second = join(&right).await;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = cluster.address();
    runtime.spawn(async move {
        let client = Client::connect(address).await.unwrap();
        let _consumer = join(&client).await;
        std::future::pending::<()>().await;
    });
    until("a division", async || {
        second.queues().iter().filter(|queue| queue.topic() == "orders").count() == 2
    })
    .await;
    let vanishing = Instant::now();
    // Without a word: its sockets close, nothing is sent.
    runtime.shutdown_background();
    until("the takeover", async || {
        second.queues().iter().filter(|queue| queue.topic() == "orders").count() == 4
    })
    .await;
    let took = vanishing.elapsed();
    assert!(took < Duration::from_secs(2), "the takeover took {took:?}");
    right.close().await;
    cluster.stop().await;
}
