//! Memory that peers can make a broker hold: bounded when they do not read, pull large messages, or
//! wait in great numbers; and those who do read are served meanwhile.

use std::{
    fs,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use protocol::{
    code::RequestCode,
    frame::{self, Encoding, Frame, Head},
    header::{Encode, NoFields},
    request::{
        pull::{Pull, flag},
        query::ById,
    },
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    common::{Client, PATIENCE, TOPIC, bodies, message, node_with, outcome, pull},
    kill::{Daemon, command, start_as},
};

/// Memory of a broker that is no file's, in bytes. It has a process of its own: other tests run in
/// this one.
fn own_bytes(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<usize>().unwrap() * 1024
}

/// A broker in a process of its own with these settings.
fn daemon(dir: &TempDir, settings: &[&str]) -> Daemon {
    let mut command = command(&dir.path().join("store"));
    for setting in settings {
        command.args(["--set", setting]);
    }
    start_as(&mut command)
}

/// `count` requests in a row, as one piece of bytes.
fn requests(code: RequestCode, header: &impl Encode, count: i32) -> BytesMut {
    let mut bytes = BytesMut::new();
    for opaque in 1..=count {
        let head = Head::request(code.as_i32(), opaque, Encoding::Json, false);
        frame::write(&mut bytes, &head, header, 0);
    }
    bytes
}

/// Reads `count` whole frames and nothing beyond them.
async fn replies(stream: &mut TcpStream, count: usize) -> Vec<Frame> {
    let (mut frames, mut buffer) = (Vec::new(), BytesMut::new());
    while frames.len() < count {
        match frame::split(&mut buffer).unwrap() {
            Some(bytes) => frames.push(Frame::decode(bytes).unwrap()),
            None => {
                let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut buffer)).await;
                assert!(read.unwrap().unwrap() > 0, "closed after {} answers", frames.len());
            }
        }
    }
    assert!(buffer.is_empty());
    frames
}

/// Sends messages of 4, 3, 2 and 1 MiB in turn to queue 0 and a small one to queue 1.
async fn fill(client: &Client, messages: usize) {
    for number in 0..messages {
        let body = Bytes::from(vec![b'x'; (4 - number % 4) << 20]);
        let sent = client.send(&message(TOPIC, 0), body).await;
        assert_eq!(sent.code, 0, "{:?}", sent.remark);
    }
    client.put(TOPIC, 1, "small", &[]).await;
    // The group comes into being.
    client.pull(TOPIC, 1, 0).await;
}

/// 64 clients send requests whose answers they never read. Returns what the broker's memory grew
/// by; another client is served all the time.
async fn flood(daemon: &Daemon, bytes: &[u8]) -> usize {
    let before = own_bytes(daemon);
    let mut silent = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(&daemon.address).await.unwrap();
        // The broker may stop to read, or leave: both are right.
        let _ = tokio::time::timeout(Duration::from_millis(20), stream.write_all(bytes)).await;
        silent.push(stream);
    }
    let reading = Client::connect(&daemon.address, Encoding::Json).await;
    let started = Instant::now();
    let (mut most, mut served) = (0, 0);
    while started.elapsed() < Duration::from_secs(3) {
        assert_eq!(bodies(&reading.pull(TOPIC, 1, 0).await), ["small"]);
        served += 1;
        most = most.max(own_bytes(daemon).saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(served > 5, "others were served {served} times only");
    most
}

fn everything() -> Pull<'static> {
    Pull { max_messages: 32, max_bytes: Some(8 << 20), ..pull(TOPIC, 0, 0) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_pull_large_messages_and_read_nothing_cost_little() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = daemon(&dir, &["segment_size_bytes=67108864"]);
    fill(&Client::connect(&daemon.address, Encoding::Json).await, 32).await;
    let pulls = requests(RequestCode::PullMessage, &everything(), 300);
    let grown = flood(&daemon, &pulls).await;
    assert!(grown < 64 << 20, "pulls of the mapped log: {} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_from_the_disk_for_clients_that_read_nothing_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = daemon(&dir, &["segment_size_bytes=67108864", "hot_log_bytes=1000000"]);
    fill(&Client::connect(&daemon.address, Encoding::Json).await, 32).await;
    let pulls = requests(RequestCode::PullMessage, &everything(), 300);
    let grown = flood(&daemon, &pulls).await;
    assert!(grown < 512 << 20, "cold pulls: {} MiB", grown >> 20);
    let by_id = requests(RequestCode::ViewMessageById, &ById { log_offset: 0, topic: None }, 300);
    let grown = flood(&daemon, &by_id).await;
    assert!(grown < 512 << 20, "by id: {} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_pulls_are_cheap_and_beyond_their_limit_refused() {
    const HELD: i32 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let daemon = daemon(&dir, &["held_pulls_max=5000"]);
    let client = Client::connect(&daemon.address, Encoding::Json).await;
    fill(&client, 0).await;
    let hold = Pull {
        sys_flag: flag::SUBSCRIPTION | flag::SUSPEND,
        suspend_timeout_ms: 60_000,
        ..pull(TOPIC, 2, 0)
    };
    let before = own_bytes(&daemon);
    let mut stream = TcpStream::connect(&daemon.address).await.unwrap();
    stream.write_all(&requests(RequestCode::PullMessage, &hold, HELD + 3)).await.unwrap();
    for answer in replies(&mut stream, 3).await {
        let (code, remark) = outcome(&answer);
        assert_eq!(code, 2, "{remark}");
        assert!(remark.contains("5000 pulls are waiting"), "{remark}");
    }
    let each = own_bytes(&daemon).saturating_sub(before) / usize::try_from(HELD).unwrap();
    assert!(each < 6 << 10, "{each} bytes for each held pull");
    // One message answers all of them.
    client.put(TOPIC, 2, "woken", &[]).await;
    for answer in replies(&mut stream, usize::try_from(HELD).unwrap()).await {
        assert_eq!(bodies(&answer), ["woken"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_that_wake_many_pulls_at_once_all_arrive() {
    let node = node_with(|config| config.segment_size_bytes = 64 << 20).await;
    let client = node.client().await;
    fill(&client, 0).await;
    let hold = Pull {
        sys_flag: flag::SUBSCRIPTION | flag::SUSPEND,
        suspend_timeout_ms: 60_000,
        ..pull(TOPIC, 3, 0)
    };
    // 40 answers of 4 MiB: more than may wait for one peer.
    let mut stream = TcpStream::connect(node.broker.local_addr()).await.unwrap();
    stream.write_all(&requests(RequestCode::PullMessage, &hold, 40)).await.unwrap();
    loop {
        let state = client.ok(RequestCode::GetBrokerRuntimeInfo, &NoFields, Bytes::new()).await;
        if String::from_utf8_lossy(&state.body).contains("\"heldPulls\":\"40\"") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let body = Bytes::from(vec![b'x'; 4 << 20]);
    assert_eq!(client.send(&message(TOPIC, 3), body).await.code, 0);
    for answer in replies(&mut stream, 40).await {
        assert_eq!((answer.code, answer.body.len() > 4 << 20), (0, true));
    }
    node.broker.shutdown().await;
}
