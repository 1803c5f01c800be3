//! Brokers register in every known form; routes come back in the one form that all clients read.

use crate::peer::{body, hex, start, start_with};

const STRICT: &str = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#;

/// The compressed body of one topic, `TopicTest 4 4 6 SINGLE_TAG {}`, as a Java broker makes it.
const COMPRESSED: &str = "78da636060b0a8564ace2fcd2b492d52b232d7512a2e492c490d4b2d2acecccf\
    53b232d0512ac9cc4d050ae6162859199a1b20402d0303032310cb86e41764268700d5289800a19942b0a79fbb8f\
    6b7c88a3bb4235481153742c90640000549f1b67";
const COMPRESSED_CRC: &str = "1039549663";

fn fields<'a>(broker_id: &'a str, address: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        ("brokerName", "broker-a"),
        ("brokerId", broker_id),
        ("brokerAddr", address),
        ("clusterName", "DefaultCluster"),
        ("haServerAddr", "10.0.0.1:10912"),
    ]
}

#[tokio::test]
async fn route_is_strict_json_for_every_client_version() {
    let namesrv = start().await;
    let mut broker = namesrv.peer().await;
    let text = body(&["TopicTest", "Other"], 7);
    let master = broker.ask(103, &fields("0", "10.0.0.1:10911"), text.as_bytes()).await;
    assert_eq!((master.code, master.fields.len(), master.body.as_str()), (0, 0, ""));
    let slave = broker.ask(103, &fields("1", "10.0.0.2:10911"), text.as_bytes()).await;
    assert_eq!(slave.fields["masterAddr"], "10.0.0.1:10911");
    assert_eq!(slave.fields["haServerAddr"], "10.0.0.1:10912");

    let mut client = namesrv.peer().await;
    assert_eq!(client.route("TopicTest").await.body, STRICT);
    for version in [0, 232, 317, 333, 399, 401, 479, 612] {
        let header = format!(
            r#"{{"code":105,"extFields":{{"topic":"TopicTest"}},"flag":0,"language":"JAVA","opaque":1,"version":{version}}}"#
        );
        client.send_header(&header, b"").await;
        assert_eq!(client.reply().await.body, STRICT, "version {version}");
    }
    let unknown = client.route("Nowhere").await;
    assert_eq!(unknown.code, 17);
    assert_eq!(unknown.remark, "No topic route info in name server for the topic: Nowhere");
}

#[tokio::test]
async fn compressed_registration_is_read_whatever_its_header_says() {
    let namesrv = start().await;
    for compressed in ["true", "false"] {
        let mut broker = namesrv.peer().await;
        let text = body(&["Full", "Other"], 1);
        broker.ask(103, &fields("0", "10.0.0.1:10911"), text.as_bytes()).await;
        let mut fields = fields("0", "10.0.0.1:10911");
        fields.extend([("compressed", compressed), ("bodyCrc32", COMPRESSED_CRC)]);
        let reply = broker.ask(103, &fields, &hex(COMPRESSED)).await;
        assert_eq!((reply.code, reply.remark.as_str()), (0, ""), "compressed={compressed}");
        assert_eq!(broker.route("TopicTest").await.code, 0);
        assert_eq!(broker.route("Full").await.code, 0, "one topic adds, it does not replace");
        drop(broker);
        let mut client = namesrv.peer().await;
        client.route_until("TopicTest", |reply| reply.code == 17).await;
    }
}

#[tokio::test]
async fn damaged_registrations_are_refused_and_the_connection_stays() {
    let namesrv = start().await;
    let mut broker = namesrv.peer().await;
    let text = body(&["T", "U"], 1);
    let mut wrong_crc = fields("0", "10.0.0.1:10911");
    wrong_crc.push(("bodyCrc32", "12345"));
    let reply = broker.ask(103, &wrong_crc, text.as_bytes()).await;
    assert_eq!(reply.code, 1);
    assert!(reply.remark.starts_with("crc32 not match"), "{}", reply.remark);
    for damaged in [&b"{"[..], b"\x78\xda\x63\x60", b"\x78", b"\xff\xff", b"7"] {
        let reply = broker.ask(103, &fields("0", "10.0.0.1:10911"), damaged).await;
        assert_eq!(reply.code, 1, "{damaged:?}");
        assert!(!reply.remark.is_empty());
    }
    let reply = broker.ask(103, &fields("0", "10.0.0.1:10911")[1..], text.as_bytes()).await;
    assert_eq!((reply.code, reply.remark.as_str()), (1, "header field brokerName is missing"));
    let reply = broker.ask(103, &fields("0", ""), text.as_bytes()).await;
    assert!(reply.remark.starts_with("the broker address has 0 bytes"), "{}", reply.remark);
    assert_eq!(
        broker.register(("broker-a", "0", "a:1"), &["T"], 1).await.remark,
        "register broker failed"
    );
    assert_eq!(broker.register(("broker-a", "0", "a:1"), &["T", "U"], 1).await.code, 0);
}

#[tokio::test]
async fn broker_without_topics_and_without_body_is_in_the_cluster() {
    let namesrv = start().await;
    let mut broker = namesrv.peer().await;
    let reply = broker.ask(103, &fields("0", "10.0.0.1:10911"), b"").await;
    assert_eq!(reply.code, 0);
    let clusters = broker.ask(106, &[], b"").await;
    let expected = r#"{"brokerAddrTable":{"broker-a":{"brokerAddrs":{"0":"10.0.0.1:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}},"clusterAddrTable":{"DefaultCluster":["broker-a"]}}"#;
    assert_eq!(clusters.body, expected);
}

#[tokio::test]
async fn several_brokers_and_topics_are_kept_apart() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    peer.register(("a", "0", "a:1"), &["T", "OnlyA"], 1).await;
    peer.register(("b", "0", "b:1"), &["T", "OnlyB"], 1).await;
    let both = peer.route("T").await.body;
    assert!(both.contains(r#""0":"a:1""#) && both.contains(r#""0":"b:1""#), "{both}");
    assert!(!peer.route("OnlyA").await.body.contains("b:1"));
    assert!(!peer.route("OnlyB").await.body.contains("a:1"));
    peer.register(("a", "0", "a:1"), &["T", "OnlyA", "New"], 2).await;
    assert_eq!(peer.route("New").await.code, 0);
    let fields =
        [("brokerName", "a"), ("brokerAddr", "a:1"), ("clusterName", "C"), ("brokerId", "0")];
    assert_eq!(peer.ask(104, &fields, b"").await.code, 0);
    assert_eq!(peer.route("OnlyA").await.code, 17);
    assert!(!peer.route("T").await.body.contains("a:1"));
    assert_eq!(peer.ask(104, &fields, b"").await.code, 0, "leaving twice is no error");
}

#[tokio::test]
async fn routes_wait_for_brokers_after_the_start_if_configured() {
    let namesrv = start_with(|config| config.need_wait_for_service = true).await;
    let mut peer = namesrv.peer().await;
    peer.register(("a", "0", "a:1"), &["T", "U"], 1).await;
    let early = peer.route("T").await;
    assert_eq!(early.code, 1);
    assert!(early.remark.starts_with("name server not ready"), "{}", early.remark);
    namesrv.hand.advance(45_000);
    assert_eq!(peer.route("T").await.code, 0);
}
