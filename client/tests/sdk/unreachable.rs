//! Servers that do not answer are named, with what to do.

use std::time::Duration;

use crate::common::Cluster;
use basaltmq::{Client, Error, ErrorKind, Message};
use tokio::net::TcpListener;

/// An address that nobody listens on.
async fn silent_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_name_server_is_named() {
    let (first, second) = (silent_address().await, silent_address().await);
    let error = Client::connect(format!("{first};{second}")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    let text = error.to_string();
    assert!(text.contains(&format!("{first};{second}")), "{text}");
    assert!(text.contains("check the address"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_name_server_that_answers_is_enough() {
    let cluster = Cluster::start(1).await;
    let list = format!("{};{}", silent_address().await, cluster.address());
    let client = Client::connect(list).await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    producer.send(Message::new("orders", "body")).await.unwrap();
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_server_that_hangs_is_given_up_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::builder(listener.local_addr().unwrap().to_string())
        .request_timeout(Duration::from_millis(200))
        .connect()
        .await
        .unwrap();
    let error = client.admin().topics().await.unwrap_err();
    assert!(matches!(error, Error::NameServerUnreachable { .. }), "{error}");
    assert!(error.to_string().contains("200 ms"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_client_starts_nothing_new() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let mut consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    client.close().await;
    let error = producer.send(Message::new("orders", "body")).await.unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    assert!(consumer.next().await.is_none());
    let error = client.producer("shop").build().await.unwrap_err();
    assert!(matches!(error, Error::Closed), "{error}");
    cluster.stop().await;
}
