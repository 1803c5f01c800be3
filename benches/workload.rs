//! What the benches work on: a scratch store and messages like those of real clients.
//!
//! Run all with `cargo bench -p benches`, one with `cargo bench -p benches --bench append`.

use std::{net::SocketAddr, sync::Arc};

use bytes::{Bytes, BytesMut};
use protocol::{
    clock::Clock,
    frame::{self, Encoding, Head},
    property,
    record::NewRecord,
    request::send::{Send, Sent},
};
use storage::{AppendBatch, Config, Store, Topic, TopicConfig};

/// The host that all messages are from and stored on.
const HOST: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 10_911);

/// A store in a temporary directory that goes with it.
#[derive(Debug)]
pub struct Scratch {
    /// The open store.
    pub store: Arc<Store>,
    runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

impl Scratch {
    /// An empty store.
    ///
    /// # Panics
    ///
    /// When the store cannot be opened: there is nothing to measure then.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let mut config = Config::new(directory.path());
        config.segment_size_bytes = 256 << 20;
        let store = Store::open(config, Clock::system()).expect("an empty store opens");
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { store, runtime, _directory: directory }
    }

    /// Creates a topic.
    ///
    /// # Panics
    ///
    /// When the store refuses it.
    pub fn topic(&self, name: &str, queues: u32) -> Arc<Topic> {
        let config = TopicConfig {
            name: name.to_owned(),
            read_queues: queues,
            write_queues: queues,
            perm: 6,
            ..TopicConfig::default()
        };
        self.runtime.block_on(self.store.put_topic(config)).expect("the topic is legal")
    }

    /// Appends `count` messages of `body` to the topic's queues in turn, 32 at a time; message *i*
    /// has the key `k<i>`.
    ///
    /// # Panics
    ///
    /// When the store refuses them.
    pub fn fill(&self, topic: &Arc<Topic>, queues: u32, count: u64, body: &[u8]) {
        let mut batch = AppendBatch::default();
        for number in 0..count {
            let queue_id = u32::try_from(number % u64::from(queues)).expect("below queues");
            push(&mut batch, topic, queue_id, &properties(number), body);
            if batch.len() == 32 || number + 1 == count {
                self.store.append(&mut batch).expect("room for the workload");
                batch.clear();
            }
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// Properties as a Java producer and the broker make them, with key `k<number>`.
pub fn properties(number: u64) -> String {
    let mut text = String::new();
    property::push(&mut text, property::KEYS, &format!("k{number}"));
    property::push(&mut text, property::UNIQ_KEY, &format!("7F00000100002A9F{number:016X}"));
    property::push(&mut text, property::TAGS, "TagA");
    property::push(&mut text, property::WAIT, "true");
    text
}

/// The frame of a send, with its length, without a body.
pub fn send_frame(encoding: Encoding) -> Bytes {
    let properties = properties(1);
    let send = Send {
        producer_group: "please_rename_unique_group_name",
        topic: "TopicTest",
        default_topic: Some("TBW102"),
        default_topic_queues: 4,
        queue_id: 1,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        flag: 0,
        properties: Some(&properties),
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: Some("broker-a"),
    };
    let mut out = BytesMut::new();
    frame::write(&mut out, &Head::request(310, 7, encoding, false), &send, 0);
    out.freeze()
}

/// The answer to it.
pub fn sent() -> Sent {
    Sent {
        message_id: "7F00000100002A9F0000000000001000".to_owned(),
        queue_id: 1,
        queue_offset: 42,
        transaction_id: None,
        region_id: Some("DefaultRegion".to_owned()),
        trace_on: Some("true".to_owned()),
    }
}

/// A message for topic `topic`.
pub fn record<'a>(topic: &'a str, body: &'a [u8], properties: &'a [&'a str]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: HOST,
        store_host: HOST,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body,
        properties,
    }
}

/// Adds a message to a batch.
///
/// # Panics
///
/// When the batch refuses it.
pub fn push(
    batch: &mut AppendBatch,
    topic: &Arc<Topic>,
    queue_id: u32,
    properties: &str,
    body: &[u8],
) {
    batch
        .push(topic, queue_id, &record(&topic.config.name, body, &[properties]))
        .expect("the record is legal");
}
