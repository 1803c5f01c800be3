//! Where a broker listens and what it tells clients about it.

use std::net::TcpListener;

use broker::Broker;
use protocol::{frame::Encoding, message_id::OffsetId};

use crate::common::{Client, TOPIC, config, message};

/// Two free ports, the first two below the second.
fn two_ports() -> (u16, u16) {
    for _ in 0..1_000 {
        let main = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = main.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port - 2)).is_ok() {
            return (port - 2, port);
        }
    }
    panic!("no two free ports");
}

#[tokio::test]
async fn the_port_two_below_serves_too_unless_somebody_else_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let (vip, main) = two_ports();
    let mut config = config(&dir);
    config.listen = ([127, 0, 0, 1], main).into();
    let broker = Broker::start(config.clone()).await.unwrap();
    let old = Client::connect(&format!("127.0.0.1:{vip}"), Encoding::Json).await;
    let sent = old.send(&message(TOPIC, 0), "x").await;
    let id: OffsetId = sent.fields.get("msgId").unwrap().parse().unwrap();
    assert_eq!(id.host.port(), main, "ids name the main port");
    broker.shutdown().await;

    let other = TcpListener::bind(("127.0.0.1", vip)).unwrap();
    let broker = Broker::start(config).await.unwrap();
    let client = Client::connect(&format!("127.0.0.1:{main}"), Encoding::Json).await;
    client.put(TOPIC, 0, "x", &[]).await;
    broker.shutdown().await;
    drop(other);
}

#[tokio::test]
async fn the_advertised_host_is_in_ids_and_names() {
    let node = crate::common::node_with(|config| config.advertise = "10.1.2.3".to_owned()).await;
    let port = node.broker.local_addr().port();
    assert_eq!(node.broker.advertised(), format!("10.1.2.3:{port}"));
    let client = node.client().await;
    let sent = client.send(&message(TOPIC, 0), "x").await;
    let id: OffsetId = sent.fields.get("msgId").unwrap().parse().unwrap();
    assert_eq!(id.host.to_string(), format!("10.1.2.3:{port}"));
    node.broker.shutdown().await;
}

#[tokio::test]
async fn wrong_hosts_and_names_are_refused_with_their_key() {
    for (adjust, words) in [
        (
            (|config| config.advertise = "no.such.host.invalid".to_owned())
                as fn(&mut broker::Config),
            "advertise = ",
        ),
        (|config| config.name = "a b".to_owned(), "name = \"a b\" must have"),
        (|config| config.cluster = String::new(), "cluster = \"\" must have"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(&dir);
        adjust(&mut config);
        let error = Broker::start(config).await.unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        assert!(!dir.path().join("store").exists(), "nothing was touched");
    }
}

#[tokio::test]
async fn a_stopped_broker_can_be_started_again_in_the_same_process() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..3 {
        let broker = Broker::start(config(&dir)).await.unwrap();
        let client = Client::connect(&broker.local_addr().to_string(), Encoding::Json).await;
        assert_eq!(client.put(TOPIC, 0, "x", &[]).await, n);
        broker.shutdown().await;
    }
}
