//! Limits and wrong input: each has its code and a sentence, and the connection lives on.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    code::RequestCode,
    request::{query::ById, send::Send},
};

use crate::common::{TOPIC, message, node, outcome, properties};

#[tokio::test]
async fn wrong_sends_are_refused_and_the_connection_survives() {
    let node = node().await;
    let client = node.client().await;
    let long_topic = "t".repeat(128);
    let long_properties = properties(&[("k", &"v".repeat(32_700))]);
    let delay = properties(&[("DELAY", "3")]);
    let timer = properties(&[("TIMER_DELAY_SEC", "3")]);
    let half = properties(&[("TRAN_MSG", "true")]);
    let base = || message(TOPIC, 0);
    let five_mib = Bytes::from(vec![b'x'; 5 * 1024 * 1024]);
    let small = || Bytes::from_static(b"x");
    let cases: Vec<(Send<'_>, Bytes, i32, &str)> = vec![
        (base(), five_mib, 13, "5242880 bytes, the limit of this broker is 4194304"),
        (base(), Bytes::new(), 13, "body is empty"),
        (message("../../x", 0), small(), 29, "contains '.'"),
        (message("", 0), small(), 29, "empty"),
        (message(&long_topic, 0), small(), 29, "128 bytes, the limit is 127"),
        (message("SCHEDULE_TOPIC_XXXX", 0), small(), 16, "belongs to the broker"),
        (Send { queue_id: 1_000, ..base() }, small(), 29, "there is no queue 1000"),
        (Send { properties: Some(&long_properties), ..base() }, small(), 13, "32767"),
        (Send { properties: Some(&delay), ..base() }, small(), 13, "delay level are not supported"),
        (
            Send { properties: Some(&timer), ..base() },
            small(),
            1,
            "timer messages are not supported",
        ),
        (Send { properties: Some(&half), ..base() }, small(), 16, "transactional messages are not"),
        (Send { sys_flag: 4, ..base() }, small(), 16, "transactional messages are not"),
        (Send { batch: true, ..base() }, small(), 13, "message 0 of the batch"),
        (Send { batch: true, ..message("%RETRY%g", 0) }, small(), 13, "retry topic"),
    ];
    client.put(TOPIC, 0, "before", &[]).await;
    for (header, body, code, words) in cases {
        let topic = header.topic.to_owned();
        let answer = client.send(&header, body).await;
        assert_eq!(answer.code, code, "{topic}: {:?}", answer.remark);
        assert!(outcome(&answer).1.contains(words), "{topic}: {:?}", answer.remark);
        assert_eq!(answer.fields.get("TRACE_ON"), Some("true"), "clients read it from errors too");
    }
    assert_eq!(client.put(TOPIC, 0, "after", &[]).await, 1, "nothing of that was stored");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn the_largest_message_and_properties_are_stored() {
    let node = node().await;
    let client = node.client().await;
    let body = Bytes::from(vec![b'x'; 4 * 1024 * 1024]);
    assert_eq!(client.send(&message(TOPIC, 0), body).await.code, 0);
    // What the broker adds counts too.
    let text = properties(&[("k", &"v".repeat(32_000)), ("UNIQ_KEY", "ID")]);
    let header = Send { properties: Some(&text), ..message(TOPIC, 1) };
    let sent = client.send(&header, "x").await;
    assert_eq!(sent.code, 0, "{:?}", sent.remark);
    let pulled = client.pull(TOPIC, 1, 0).await;
    assert_eq!(crate::common::records(&pulled)[0].property("k").unwrap().len(), 32_000);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn an_unknown_request_is_answered_with_code_3() {
    let node = node().await;
    let client = node.client().await;
    // A code that this project knows but a broker does not serve.
    let answer = client
        .call(RequestCode::GetRouteInfoByTopic, &protocol::header::NoFields, Bytes::new())
        .await;
    assert_eq!(outcome(&answer), (3, " request type 105 not supported"));
    client.put(TOPIC, 0, "alive", &[]).await;

    let mut socket = raw(&node);
    let header = br#"{"code":4242,"opaque":7,"flag":0,"language":"BRAINFUCK","version":1}"#;
    socket.write_all(&frame(0, header, b"")).unwrap();
    // On its own thread: the broker shares this test's.
    let answer =
        tokio::task::spawn_blocking(move || read_frame(&mut socket).unwrap()).await.unwrap();
    assert!(
        answer.contains("\"code\":3") && answer.contains(" request type 4242 not supported"),
        "{answer}"
    );
    assert!(answer.contains("\"opaque\":7") && answer.contains("\"extFields\":{"), "{answer}");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_missing_field_is_an_answer_not_an_end() {
    let node = node().await;
    let client = node.client().await;
    for code in [
        RequestCode::SendMessageV2,
        RequestCode::PullMessage,
        RequestCode::QueryMessage,
        RequestCode::QueryConsumerOffset,
        RequestCode::UpdateConsumerOffset,
        RequestCode::GetMaxOffset,
        RequestCode::UnregisterClient,
        RequestCode::GetConsumerListByGroup,
        RequestCode::UpdateAndCreateTopic,
        RequestCode::DeleteTopicInBroker,
        RequestCode::DeleteSubscriptionGroup,
        RequestCode::ConsumerSendMsgBack,
    ] {
        let answer = client.call(code, &protocol::header::NoFields, Bytes::new()).await;
        assert_eq!(answer.code, 1, "{code:?}: {:?}", answer.remark);
        assert!(outcome(&answer).1.contains("is missing"), "{code:?}: {:?}", answer.remark);
    }
    for code in [RequestCode::HeartBeat, RequestCode::LockBatchMq, RequestCode::UnlockBatchMq] {
        let answer =
            client.call(code, &protocol::header::NoFields, Bytes::from_static(b"{nonsense")).await;
        assert_eq!(answer.code, 1, "{code:?}: {:?}", answer.remark);
        assert!(
            outcome(&answer).1.contains("body cannot be read"),
            "{code:?}: {:?}",
            answer.remark
        );
    }
    client.put(TOPIC, 0, "alive", &[]).await;
    node.broker.shutdown().await;
}

#[tokio::test]
async fn an_offset_that_starts_no_message_is_refused() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "only", &[]).await;
    let call = async |log_offset| {
        let header = ById { log_offset, topic: None };
        client.call(RequestCode::ViewMessageById, &header, Bytes::new()).await
    };
    assert_eq!(crate::common::bodies(&call(0).await), ["only"]);
    for wrong in [-1, 1, 5, 1 << 40, i64::MAX, i64::MIN] {
        let answer = call(wrong).await;
        assert_eq!(answer.code, 1);
        assert!(
            outcome(&answer).1.contains("no message starts at log offset"),
            "{:?}",
            answer.remark
        );
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_their_connection_only() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "before", &[]).await;
    let gibibyte = (1_u32 << 30).to_be_bytes().to_vec();
    let undecodable = frame(0, b"{nonsense", b"");
    let unknown_type = frame(9, b"{}", b"");
    let header_too_long = [&12_u32.to_be_bytes()[..], &1000_u32.to_be_bytes(), &[0; 8]].concat();
    for (what, bytes) in [
        ("a length of 1 GiB", gibibyte),
        ("an undecodable header", undecodable),
        ("an unknown encoding", unknown_type),
        ("a header longer than its frame", header_too_long),
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ] {
        let mut socket = raw(&node);
        socket.write_all(&bytes).unwrap();
        let ended =
            tokio::task::spawn_blocking(move || read_frame(&mut socket).is_none()).await.unwrap();
        assert!(ended, "{what} must end the connection");
    }
    assert_eq!(client.put(TOPIC, 0, "after", &[]).await, 1);
    node.broker.shutdown().await;
}

fn raw(node: &crate::common::Node) -> TcpStream {
    let socket = TcpStream::connect(node.broker.local_addr()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn frame(encoding: u8, header: &[u8], body: &[u8]) -> Vec<u8> {
    let header_len = u32::try_from(header.len()).unwrap();
    let total = 4 + header_len + u32::try_from(body.len()).unwrap();
    let mark = (u32::from(encoding) << 24) | header_len;
    [&total.to_be_bytes()[..], &mark.to_be_bytes(), header, body].concat()
}

/// The header of the next frame as text, or nothing when the connection has ended.
fn read_frame(socket: &mut TcpStream) -> Option<String> {
    let mut prefix = [0; 4];
    socket.read_exact(&mut prefix).ok()?;
    let mut rest = vec![0; u32::from_be_bytes(prefix) as usize];
    socket.read_exact(&mut rest).unwrap();
    Some(String::from_utf8_lossy(&rest[4..]).into_owned())
}
