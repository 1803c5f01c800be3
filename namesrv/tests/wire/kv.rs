//! Key-value configuration over the wire, across a restart, and in routes and registrations.

use namesrv::NameServer;

use crate::peer::{Running, start, start_with};

#[tokio::test]
async fn keys_are_put_read_listed_deleted_and_survive_a_restart() {
    let Running { server, dir, hand } = start().await;
    let namesrv = Running { server, dir, hand };
    let mut peer = namesrv.peer().await;
    for (key, value) in [("k1", "v1"), ("k2", "v;2=ü")] {
        let fields = [("namespace", "NS"), ("key", key), ("value", value)];
        assert_eq!(peer.ask(100, &fields, b"").await.code, 0);
    }
    assert_eq!(peer.ask(102, &[("namespace", "NS"), ("key", "k1")], b"").await.code, 0);
    namesrv.server.shutdown().await;
    peer.closed().await;

    let server = NameServer::start(crate::peer::config(&namesrv.dir)).await.unwrap();
    let namesrv = Running { server, ..namesrv };
    let mut peer = namesrv.peer().await;
    let found = peer.ask(101, &[("namespace", "NS"), ("key", "k2")], b"").await;
    assert_eq!(found.fields["value"], "v;2=ü");
    let gone = peer.ask(101, &[("namespace", "NS"), ("key", "k1")], b"").await;
    assert_eq!((gone.code, gone.remark.as_str()), (22, "No config item, Namespace: NS Key: k1"));
    let list = peer.ask(219, &[("namespace", "NS")], b"").await;
    assert_eq!(list.body, r#"{"table":{"k2":"v;2=ü"}}"#);
    let none = peer.ask(219, &[("namespace", "other")], b"").await;
    assert_eq!((none.code, none.remark.as_str()), (22, "No config item, Namespace: other"));
    let refused = peer.ask(100, &[("namespace", ""), ("key", "k"), ("value", "v")], b"").await;
    assert_eq!(refused.code, 1);
}

#[tokio::test]
async fn order_configuration_reaches_brokers_and_if_enabled_routes() {
    let namesrv = start_with(|config| config.order_message_enable = true).await;
    let mut peer = namesrv.peer().await;
    peer.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    assert!(!peer.route("T").await.body.contains("orderTopicConf"));
    let fields = [("namespace", "ORDER_TOPIC_CONFIG"), ("key", "T"), ("value", "a:4;b:4")];
    peer.ask(100, &fields, b"").await;
    assert!(peer.route("T").await.body.contains(r#""orderTopicConf":"a:4;b:4""#));
    let registered = peer.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    assert_eq!(registered.body, r#"{"table":{"T":"a:4;b:4"}}"#);
    peer.ask(102, &fields[..2], b"").await;
    assert!(!peer.route("T").await.body.contains("orderTopicConf"));
    assert_eq!(peer.register(("a", "0", "a:1"), &["T", "U"], 1).await.body, "");
}

#[tokio::test]
async fn damaged_file_stops_the_start_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("kvConfig.json"), "no JSON").unwrap();
    let error = NameServer::start(crate::peer::config(&dir)).await.unwrap_err().to_string();
    assert!(error.contains("kvConfig.json is not a key-value configuration"), "{error}");
    assert!(error.contains("move it away"), "{error}");
}
