//! What administrators ask and change: permissions, topics, lists, members, configuration.

use crate::peer::{start, start_with};

#[tokio::test]
async fn write_permission_of_a_broker_is_wiped_and_added() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    peer.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    peer.register(("b", "0", "b:1"), &["T", "V"], 1).await;
    let wiped = peer.ask(205, &[("brokerName", "a")], b"").await;
    assert_eq!(wiped.fields["wipeTopicCount"], "2");
    let route = peer.route("T").await.body;
    assert!(route.contains(r#"{"brokerName":"a","perm":4"#), "{route}");
    assert!(route.contains(r#"{"brokerName":"b","perm":6"#), "{route}");
    peer.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    assert!(peer.route("T").await.body.contains(r#"{"brokerName":"a","perm":4"#));
    let added = peer.ask(327, &[("brokerName", "a")], b"").await;
    assert_eq!(added.fields["addTopicCount"], "2");
    assert!(peer.route("T").await.body.contains(r#"{"brokerName":"a","perm":6"#));
}

#[tokio::test]
async fn topics_are_added_deleted_and_listed() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    peer.register(("a", "0", "a:1"), &["T", "%RETRY%G"], 1).await;
    let route = br#"{"brokerDatas":[],"filterServerTable":{},"queueDatas":[{"brokerName":"a","perm":6,"readQueueNums":2,"topicSysFlag":1,"writeQueueNums":2}]}"#;
    assert_eq!(peer.ask(217, &[("topic", "New")], route).await.code, 0);
    assert!(peer.route("New").await.body.contains(r#""readQueueNums":2"#));
    assert_eq!(peer.ask(206, &[], b"").await.body, r#"{"topicList":["%RETRY%G","New","T"]}"#);
    assert_eq!(
        peer.ask(224, &[("cluster", "C")], b"").await.body,
        r#"{"topicList":["%RETRY%G","New","T"]}"#
    );
    assert_eq!(peer.ask(224, &[("cluster", "none")], b"").await.body, r#"{"topicList":[]}"#);
    assert_eq!(peer.ask(304, &[], b"").await.body, r#"{"brokerAddr":"a:1","topicList":["C","a"]}"#);
    assert_eq!(peer.ask(311, &[], b"").await.body, r#"{"topicList":["New"]}"#);
    assert_eq!(peer.ask(312, &[], b"").await.body, r#"{"topicList":[]}"#);
    assert_eq!(peer.ask(313, &[], b"").await.body, r#"{"topicList":[]}"#);
    assert_eq!(peer.ask(216, &[("topic", "New"), ("clusterName", "other")], b"").await.code, 0);
    assert_eq!(peer.route("New").await.code, 0);
    assert_eq!(peer.ask(216, &[("topic", "New")], b"").await.code, 0);
    assert_eq!(peer.ask(216, &[("topic", "T")], b"").await.code, 0);
    assert_eq!(peer.route("T").await.code, 17);
    peer.register(("a", "0", "a:1"), &["T", "%RETRY%G"], 1).await;
    assert_eq!(peer.route("T").await.code, 0, "its broker still has it");
    assert_eq!(peer.route("New").await.code, 17);
}

#[tokio::test]
async fn lists_can_be_switched_off() {
    let namesrv = start_with(|config| {
        config.enable_all_topic_list = false;
        config.enable_topic_list = false;
    })
    .await;
    let mut peer = namesrv.peer().await;
    for (code, key) in [
        (206, "enable_all_topic_list"),
        (224, "enable_topic_list"),
        (304, "enable_topic_list"),
        (311, "enable_topic_list"),
    ] {
        let reply = peer.ask(code, &[("cluster", "C")], b"").await;
        assert_eq!(reply.code, 1);
        assert!(reply.remark.contains(key), "{}", reply.remark);
    }
}

#[tokio::test]
async fn members_of_a_group_are_listed() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    peer.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    peer.register(("a", "1", "a:2"), &["T", "U"], 1).await;
    let fields = [("clusterName", "C"), ("brokerName", "a")];
    let expected = r#"{"brokerMemberGroup":{"brokerAddrs":{"0":"a:1","1":"a:2"},"brokerName":"a","cluster":"C"}}"#;
    assert_eq!(peer.ask(901, &fields, b"").await.body, expected);
    let none = peer.ask(901, &[("clusterName", "C"), ("brokerName", "x")], b"").await;
    assert_eq!(
        none.body,
        r#"{"brokerMemberGroup":{"brokerAddrs":{},"brokerName":"x","cluster":"C"}}"#
    );
}

#[tokio::test]
async fn configuration_is_read_and_only_allowed_keys_change() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    let read = peer.ask(319, &[], b"").await.body;
    assert!(read.contains("enableAllTopicList=true\n"), "{read}");
    assert_eq!(peer.ask(318, &[], b"enableAllTopicList=false\n").await.code, 0);
    assert!(peer.ask(319, &[], b"").await.body.contains("enableAllTopicList=false\n"));
    assert_eq!(peer.ask(206, &[], b"").await.code, 1, "it works at once");
    for forbidden in [
        "configBlackList=",
        "configStorePath=/x",
        "kvConfigPath=/etc/passwd",
        "listenPort=1",
        "what=1",
    ] {
        let body = format!("enableAllTopicList=true\n{forbidden}\n");
        let reply = peer.ask(318, &[], body.as_bytes()).await;
        assert_eq!(reply.code, 16, "{forbidden}");
        assert!(reply.remark.contains("can not be changed by a request"), "{}", reply.remark);
    }
    assert_eq!(peer.ask(206, &[], b"").await.code, 1, "nothing of a refused change is done");
    assert_eq!(peer.ask(318, &[], b"enableTopicList=perhaps").await.code, 1);
    assert_eq!(peer.ask(318, &[], b"\xff\xfe").await.code, 1);
}

#[tokio::test]
async fn acting_master_appears_when_switched_on_at_run_time() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    let fields = [
        ("brokerName", "a"),
        ("brokerId", "2"),
        ("brokerAddr", "a:3"),
        ("clusterName", "C"),
        ("haServerAddr", "h:1"),
        ("enableActingMaster", "true"),
    ];
    peer.ask(103, &fields, crate::peer::body(&["T", "U"], 1).as_bytes()).await;
    assert!(peer.route("T").await.body.contains(r#"{"2":"a:3"}"#));
    peer.ask(318, &[], b"supportActingMaster=true").await;
    let route = peer.route("T").await.body;
    assert!(route.contains(r#"{"0":"a:3"}"#) && route.contains(r#""perm":4"#), "{route}");
}
