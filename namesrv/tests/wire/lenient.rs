//! Headers and bodies that deviate the way real clients and brokers do.

use tokio::io::AsyncWriteExt;

use crate::peer::{hex, start};

#[tokio::test]
async fn headers_of_every_client_family_are_answered() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    peer.register(("a", "0", "a:1"), &["TopicTest", "U"], 1).await;
    let headers = [
        // C++: trailing newline, an empty remark, no serializeTypeCurrentRPC, empty ACL fields.
        "{\"code\":105,\"extFields\":{\"AccessKey\":\"\",\"OnsChannel\":\"\",\"Signature\":\"\",\"topic\":\"TopicTest\"},\"flag\":0,\"language\":\"CPP\",\"opaque\":9,\"remark\":\"\",\"version\":333}\n",
        // Go.
        r#"{"code":105,"language":"GO","version":317,"opaque":9,"flag":0,"remark":"","extFields":{"topic":"TopicTest"}}"#,
        // An unknown language, an unknown key, numbers as text, a field that is no text.
        r#"{"code":"105","language":"KLINGON","version":"1","opaque":9,"flag":"0","later":{"a":[1]},"extFields":{"topic":"TopicTest","n":4,"b":true}}"#,
        // No more than needed.
        r#"{"code":105,"opaque":9,"extFields":{"topic":"TopicTest"}}"#,
        r#"{"code":105,"opaque":9,"language":null,"remark":null,"extFields":{"topic":"TopicTest"}}"#,
    ];
    for header in headers {
        peer.send_header(header, b"").await;
        let reply = peer.reply().await;
        assert_eq!((reply.code, reply.header["opaque"].as_i64()), (0, Some(9)), "{header}");
        assert!(reply.header["version"].is_i64() && reply.header["language"].is_string());
    }
}

#[tokio::test]
async fn binary_headers_are_answered_in_binary() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    let request = hex(
        "0000002d0100002900690001df000000010000000000000000000000140005746f70696300000009546f70696354657374",
    );
    peer.stream.write_all(&request).await.unwrap();
    let (encoding, header, body) = peer.frame().await;
    assert_eq!(encoding, 1);
    assert_eq!(header[..2], [0, 17]);
    assert!(body.is_empty());
    peer.register(("a", "0", "a:1"), &["TopicTest", "U"], 1).await;
    peer.stream.write_all(&request).await.unwrap();
    let (encoding, header, body) = peer.frame().await;
    assert_eq!((encoding, &header[..2]), (1, &[0, 0][..]));
    assert!(
        String::from_utf8(body)
            .unwrap()
            .starts_with(r#"{"brokerDatas":[{"brokerAddrs":{"0":"a:1"}"#)
    );
}

#[tokio::test]
async fn registrations_of_several_generations_are_read() {
    let namesrv = start().await;
    let topic = |name: &str, rest: &str| {
        format!(
            r#""{name}":{{"perm":6,"readQueueNums":4,"topicName":"{name}","writeQueueNums":4{rest}}}"#
        )
    };
    let wrapper = |rest: &str| {
        let (t, u) = (topic("T", rest), topic("U", rest));
        format!(r#""dataVersion":{{"counter":1,"timestamp":5}},"topicConfigTable":{{{t},{u}}}"#)
    };
    let bodies = [
        // 4.x: no attributes, no state version, no mapping.
        (
            479,
            format!(
                r#"{{"filterServerList":[],"topicConfigSerializeWrapper":{{{}}}}}"#,
                wrapper("")
            ),
        ),
        // A reference instead of an equal object.
        (
            479,
            format!(
                r#"{{"filterServerList":[],"topicConfigSerializeWrapper":{{{},"mappingDataVersion":{{"$ref":"$.topicConfigSerializeWrapper.dataVersion"}}}}}}"#,
                wrapper(r#","order":false,"topicFilterType":"SINGLE_TAG","topicSysFlag":0"#)
            ),
        ),
        // Before V3_0_11 the body was the wrapper alone.
        (36, format!("{{{}}}", wrapper(""))),
    ];
    for (version, body) in bodies {
        let mut peer = namesrv.peer().await;
        let header = format!(
            r#"{{"code":103,"extFields":{{"brokerName":"a","brokerAddr":"a:1","clusterName":"C","haServerAddr":"h:1","brokerId":0}},"flag":0,"language":"JAVA","opaque":3,"version":{version}}}"#
        );
        peer.send_header(&header, body.as_bytes()).await;
        let reply = peer.reply().await;
        assert_eq!((reply.code, reply.remark.as_str()), (0, ""), "{body}");
        assert!(peer.route("U").await.body.contains(r#""readQueueNums":4"#));
        drop(peer);
        let mut client = namesrv.peer().await;
        client.route_until("U", |reply| reply.code == 17).await;
    }
}

#[tokio::test]
async fn oneway_requests_get_no_reply_even_when_they_fail() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    peer.send(105, 2, &[("topic", "Nowhere")], b"").await;
    peer.send(4711, 2, &[], b"").await;
    peer.send(100, 2, &[("namespace", "N"), ("key", "k"), ("value", "v")], b"").await;
    // The next reply is that of the next request: `ask` compares their numbers.
    let reply = peer.ask(101, &[("namespace", "N"), ("key", "k")], b"").await;
    assert_eq!(reply.fields["value"], "v");
}

#[tokio::test]
async fn unknown_requests_are_answered_and_the_connection_stays() {
    let namesrv = start().await;
    let mut peer = namesrv.peer().await;
    for code in [4711, -1, 10, 11, 34] {
        let reply = peer.ask(code, &[], b"").await;
        assert_eq!(reply.code, 3);
        assert_eq!(reply.remark, format!(" request type {code} not supported"));
    }
}
