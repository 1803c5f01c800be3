//! A broker in this process on a free port, and clients that speak raw frames to it.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use broker::{Broker, Config};
use bytes::Bytes;
use protocol::{
    channel::{Channels, DialOptions},
    code::{RequestCode, ResponseCode},
    connection::{Connection, Service},
    frame::{Encoding, Frame},
    header::Encode,
    property,
    record::RecordView,
    request::{
        pull::{Pull, flag},
        send::Send,
    },
};
use tempfile::TempDir;
use tokio::sync::Notify;

/// How long a test waits for something that should happen at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Topic of most tests; the first send creates it with [`QUEUES`] queues.
pub(crate) const TOPIC: &str = "TopicTest";
/// Group of most tests.
pub(crate) const GROUP: &str = "GID_test";
/// Queues that a client asks for when its send creates a topic.
pub(crate) const QUEUES: i32 = 4;

/// A running broker with a store of its own.
pub(crate) struct Node {
    pub(crate) broker: Broker,
    /// Removed with the node.
    _dir: TempDir,
}

/// A configuration for tests: loopback, free port, small files.
pub(crate) fn config(dir: &TempDir) -> Config {
    Config {
        name: "broker-a".to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        store: dir.path().join("store"),
        segment_size_bytes: 8 * 1024 * 1024,
        // A test must not depend on how full the disk is that it runs on.
        disk_clean_percent: 100,
        disk_force_clean_percent: 100,
        disk_refuse_percent: 100,
        ..Config::default()
    }
}

/// Starts a broker after `adjust` had its say.
pub(crate) async fn node_with(adjust: impl FnOnce(&mut Config)) -> Node {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    adjust(&mut config);
    let broker = Broker::start(config).await.unwrap();
    Node { broker, _dir: dir }
}

/// Starts a broker.
pub(crate) async fn node() -> Node {
    node_with(|_| {}).await
}

impl Node {
    pub(crate) fn address(&self) -> String {
        self.broker.local_addr().to_string()
    }

    /// A new connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address(), Encoding::Json).await
    }
}

/// The requests that a broker sent to a client.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    frames: Mutex<Vec<Frame>>,
    arrived: Notify,
    pub(crate) closed: std::sync::atomic::AtomicBool,
}

impl Service for Inbox {
    type Turn = ();

    fn request(&self, _: &Arc<Connection>, frame: Frame, (): &mut ()) {
        self.frames.lock().unwrap().push(frame);
        self.arrived.notify_waiters();
    }

    fn closed(&self, _: &Arc<Connection>) {
        self.closed.store(true, std::sync::atomic::Ordering::Relaxed);
        self.arrived.notify_waiters();
    }
}

impl Inbox {
    /// Frames received so far.
    pub(crate) fn frames(&self) -> Vec<Frame> {
        self.frames.lock().unwrap().clone()
    }

    /// Waits until `count` frames have arrived.
    pub(crate) async fn wait_for(&self, count: usize) -> Vec<Frame> {
        let wait = async {
            loop {
                let arrived = self.arrived.notified();
                let frames = self.frames();
                if frames.len() >= count {
                    return frames;
                }
                arrived.await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("the broker never sent it")
    }

    /// Forgets what was received.
    pub(crate) fn clear(&self) {
        self.frames.lock().unwrap().clear();
    }
}

/// One connection to a broker.
pub(crate) struct Client {
    pub(crate) connection: Arc<Connection>,
    pub(crate) inbox: Arc<Inbox>,
    /// Keeps the connection.
    _channels: Channels<Inbox>,
}

impl Client {
    pub(crate) async fn connect(address: &str, encoding: Encoding) -> Self {
        let inbox = Arc::new(Inbox::default());
        let mut config = DialOptions::default();
        config.connection.encoding = encoding;
        let channels = Channels::new(Arc::clone(&inbox), config);
        let connection = channels.get(address).await.unwrap();
        Self { connection, inbox, _channels: channels }
    }

    pub(crate) async fn call(
        &self,
        code: RequestCode,
        header: &impl Encode,
        body: impl Into<Bytes>,
    ) -> Frame {
        self.connection.request(code, header, body.into(), PATIENCE).await.unwrap()
    }

    /// As [`Client::call`], for requests that succeed.
    pub(crate) async fn ok(
        &self,
        code: RequestCode,
        header: &impl Encode,
        body: impl Into<Bytes>,
    ) -> Frame {
        let frame = self.call(code, header, body).await;
        assert_eq!(frame.response_code(), ResponseCode::SUCCESS, "{:?}", frame.remark);
        frame
    }

    /// Sends one message with properties.
    pub(crate) async fn send(&self, header: &Send<'_>, body: impl Into<Bytes>) -> Frame {
        self.call(RequestCode::SendMessageV2, header, body).await
    }

    /// Sends one message that must be stored; returns its queue offset.
    pub(crate) async fn put(
        &self,
        topic: &str,
        queue_id: i32,
        body: &str,
        pairs: &[(&str, &str)],
    ) -> i64 {
        let properties = properties(pairs);
        let frame = self
            .send(
                &Send { properties: Some(&properties), ..message(topic, queue_id) },
                body.to_owned(),
            )
            .await;
        assert_eq!(frame.response_code(), ResponseCode::SUCCESS, "{:?}", frame.remark);
        number(&frame, "queueOffset")
    }

    /// Pulls once without waiting.
    pub(crate) async fn pull(&self, topic: &str, queue_id: i32, offset: i64) -> Frame {
        self.call(RequestCode::PullMessage, &pull(topic, queue_id, offset), Bytes::new()).await
    }
}

/// Encoded properties.
pub(crate) fn properties(pairs: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        property::push(&mut text, name, value);
    }
    text
}

/// The header of a send as clients fill it.
pub(crate) fn message(topic: &str, queue_id: i32) -> Send<'_> {
    Send {
        producer_group: "PG",
        topic,
        default_topic: Some("TBW102"),
        default_topic_queues: QUEUES,
        queue_id,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: None,
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: None,
    }
}

/// The header of a pull that carries its subscription and does not wait.
pub(crate) fn pull(topic: &str, queue_id: i32, offset: i64) -> Pull<'_> {
    Pull {
        consumer_group: GROUP,
        topic,
        queue_id,
        queue_offset: offset,
        max_messages: 32,
        sys_flag: flag::SUBSCRIPTION,
        commit_offset: 0,
        suspend_timeout_ms: 0,
        subscription: Some("*"),
        subscription_version: 0,
        expression_type: Some("TAG"),
        max_bytes: None,
    }
}

/// A number of a reply's header.
pub(crate) fn number(frame: &Frame, field: &str) -> i64 {
    let text = frame.fields.get(field).unwrap_or_else(|| panic!("no {field} in {frame:?}"));
    text.parse().unwrap()
}

/// The code and remark of a reply.
pub(crate) fn outcome(frame: &Frame) -> (i32, &str) {
    (frame.code, frame.remark.as_deref().unwrap_or_default())
}

/// The records of a reply's body.
pub(crate) fn records(frame: &Frame) -> Vec<RecordView<'_>> {
    protocol::record::iter(&frame.body).collect::<Result<_, _>>().unwrap()
}

/// The bodies of a reply's records.
pub(crate) fn bodies(frame: &Frame) -> Vec<String> {
    records(frame).iter().map(|record| String::from_utf8(record.body.to_vec()).unwrap()).collect()
}
