//! A master, its slave, and what name servers say while the one takes the other's place.

use crate::peer::{body, start};

/// Registers a broker whose topics were last changed under this epoch.
macro_rules! register {
    ($peer:expr, $id:literal, $address:literal, epoch $epoch:literal) => {{
        let text = body(&["T", "U"], 1)
            .replace("\"stateVersion\":0", concat!("\"stateVersion\":", $epoch));
        let fields = [
            ("brokerName", "a"),
            ("brokerId", $id),
            ("brokerAddr", concat!($address, ":1")),
            ("clusterName", "C"),
            ("haServerAddr", concat!($address, ":2")),
            ("enableActingMaster", "false"),
        ];
        let reply = $peer.ask(103, &fields, text.as_bytes()).await;
        assert_eq!(reply.code, 0, "{}", reply.remark);
        reply
    }};
}

const MEMBERS: [(&str, &str); 2] = [("clusterName", "C"), ("brokerName", "a")];

#[tokio::test]
async fn a_promoted_slave_keeps_the_masters_place_from_the_one_that_comes_back() {
    let namesrv = start().await;
    let (mut master, mut slave) = (namesrv.peer().await, namesrv.peer().await);
    let mut client = namesrv.peer().await;
    register!(master, "0", "m", epoch "1");
    let told = register!(slave, "1", "s", epoch "0");
    assert_eq!(told.fields["masterAddr"], "m:1");
    assert_eq!(told.fields["haServerAddr"], "m:2");
    assert!(client.route("T").await.body.contains(r#"{"0":"m:1","1":"s:1"}"#));

    drop(master);
    let left = client.route_until("T", |reply| reply.body.contains(r#"{"1":"s:1"}"#)).await;
    assert!(left.body.contains(r#""perm":6"#), "consumers go on with the slave: {}", left.body);
    let told = register!(slave, "1", "s", epoch "0");
    assert!(told.fields.is_empty(), "no master: {:?}", told.fields);

    register!(slave, "0", "s", epoch "2");
    assert!(client.route("T").await.body.contains(r#""brokerAddrs":{"0":"s:1"}"#));
    let mut old = namesrv.peer().await;
    let ignored = register!(old, "0", "m", epoch "1");
    assert!(ignored.fields.is_empty());
    let members = client.ask(901, &MEMBERS, b"").await;
    assert!(members.body.contains(r#""brokerAddrs":{"0":"s:1"}"#), "{}", members.body);

    let told = register!(old, "1", "m", epoch "0");
    assert_eq!(
        (told.fields["masterAddr"].as_str(), told.fields["haServerAddr"].as_str()),
        ("s:1", "s:2")
    );
    assert!(client.route("T").await.body.contains(r#"{"0":"s:1","1":"m:1"}"#));
}

#[tokio::test]
async fn a_slave_alone_brings_a_route_to_a_name_server_that_starts_late() {
    let namesrv = start().await;
    let mut slave = namesrv.peer().await;
    register!(slave, "2", "s", epoch "3");
    let route = slave.route("T").await;
    assert!(route.body.contains(r#""brokerAddrs":{"2":"s:1"}"#), "{}", route.body);
    let mut master = namesrv.peer().await;
    register!(master, "0", "m", epoch "4");
    let route = slave.route("T").await;
    assert!(route.body.contains(r#"{"0":"m:1","2":"s:1"}"#), "{}", route.body);
    // Each leaves for itself.
    let leave =
        [("brokerName", "a"), ("brokerAddr", "s:1"), ("clusterName", "C"), ("brokerId", "2")];
    assert_eq!(master.ask(104, &leave, b"").await.code, 0);
    let route = slave.route("T").await;
    assert!(route.body.contains(r#""brokerAddrs":{"0":"m:1"}"#), "{}", route.body);
}
