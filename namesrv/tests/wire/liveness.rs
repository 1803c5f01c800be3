//! How a broker's registration ends: with its connection, by silence, or never while it speaks.

use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::peer::{PATIENCE, start, start_with};

#[tokio::test]
async fn disconnect_removes_the_broker_at_once() {
    let namesrv = start().await;
    let mut a = namesrv.peer().await;
    a.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    let mut b = namesrv.peer().await;
    b.register(("b", "0", "b:1"), &["T", "V"], 1).await;
    let mut client = namesrv.peer().await;
    assert_eq!(client.route("U").await.code, 0);
    drop(a);
    client.route_until("U", |reply| reply.code == 17).await;
    let route = client.route("T").await.body;
    assert!(route.contains("b:1") && !route.contains("a:1"), "{route}");
}

#[tokio::test]
async fn old_connection_of_a_broker_that_came_back_ends_nothing() {
    let namesrv = start().await;
    let mut old = namesrv.peer().await;
    old.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    let mut other = namesrv.peer().await;
    other.register(("b", "0", "b:1"), &["V", "W"], 1).await;
    let mut new = namesrv.peer().await;
    new.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    drop(old);
    drop(other);
    // The end of `other` was seen, and connections end in any order: so ask a few times more.
    new.route_until("V", |reply| reply.code == 17).await;
    for _ in 0..50 {
        assert_eq!(new.route("T").await.code, 0);
    }
}

#[tokio::test]
async fn silent_broker_is_removed_and_its_connection_closed() {
    let namesrv = start().await;
    let mut silent = namesrv.peer().await;
    silent.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    let mut client = namesrv.peer().await;
    namesrv.hand.advance(120_000);
    assert_eq!(client.route("T").await.code, 0, "120 s are allowed");
    namesrv.hand.advance(1);
    client.route_until("T", |reply| reply.code == 17).await;
    silent.closed().await;
}

#[tokio::test]
async fn heartbeat_and_version_probe_keep_a_broker() {
    let namesrv = start().await;
    let fields =
        [("brokerName", "a"), ("brokerAddr", "a:1"), ("clusterName", "C"), ("brokerId", "0")];
    let same = br#"{"counter":1,"stateVersion":0,"timestamp":1700000000000}"#;
    let other = br#"{"counter":2,"stateVersion":0,"timestamp":1700000000000}"#;
    let mut broker = namesrv.peer().await;
    let unknown = broker.ask(322, &fields, same).await;
    assert_eq!((unknown.fields["changed"].as_str(), unknown.body.as_str()), ("true", ""));
    broker.register(("a", "0", "a:1"), &["T", "U"], 1).await;

    namesrv.hand.advance(100_000);
    broker.send(904, 2, &fields, b"").await;
    let probe = broker.ask(322, &fields, other).await;
    assert_eq!((probe.fields["changed"].as_str(), probe.body.as_bytes()), ("true", &same[..]));
    namesrv.hand.advance(100_000);
    assert_eq!(broker.ask(322, &fields, same).await.fields["changed"], "false");
    namesrv.hand.advance(100_000);
    assert_eq!(broker.route("T").await.code, 0);
    namesrv.hand.advance(30_000);
    broker.closed().await;
}

#[tokio::test]
async fn group_is_told_that_its_lowest_id_changed() {
    let namesrv = start_with(|config| config.notify_min_broker_id_changed = true).await;
    let slave = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = slave.local_addr().unwrap().to_string();
    let mut peer = namesrv.peer().await;
    peer.register(("a", "1", &address), &["T", "U"], 1).await;
    let mut master = namesrv.peer().await;
    master.register(("a", "0", "10.0.0.1:10911"), &["T", "U"], 1).await;
    let told = async || {
        let (mut stream, _) = slave.accept().await.unwrap();
        let mut frame = Vec::new();
        stream.read_to_end(&mut frame).await.unwrap();
        String::from_utf8_lossy(&frame).into_owned()
    };
    let first = tokio::time::timeout(PATIENCE, told()).await.unwrap();
    assert!(first.contains("10.0.0.1:10911") && first.contains("minBrokerId"), "{first:?}");
    drop(master);
    let second = tokio::time::timeout(PATIENCE, told()).await.unwrap();
    assert!(second.contains("offlineBrokerAddr") && second.contains(&address), "{second:?}");
}
