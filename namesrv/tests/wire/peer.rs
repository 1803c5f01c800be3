//! A peer that writes frames by hand, and a name server to speak to.

use std::{collections::BTreeMap, time::Duration};

use namesrv::{Config, NameServer};
use protocol::clock::{Clock, Hand};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Longest wait for anything: only a test that fails gets there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A name server on a free loopback port with a scratch directory and a clock moved by hand.
pub(crate) struct Running {
    pub(crate) server: NameServer,
    pub(crate) hand: Hand,
    pub(crate) dir: TempDir,
}

pub(crate) async fn start() -> Running {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    change(&mut config);
    let (clock, hand) = Clock::manual(1_700_000_000_000);
    let server = NameServer::start_at(config, clock).await.unwrap();
    Running { server, hand, dir }
}

pub(crate) fn config(dir: &TempDir) -> Config {
    Config {
        bind_address: [127, 0, 0, 1].into(),
        listen_port: 0,
        kv_config_path: dir.path().join("kvConfig.json"),
        scan_not_active_broker_interval_ms: 10,
        ..Config::default()
    }
}

impl Running {
    pub(crate) async fn peer(&self) -> Peer {
        Peer { stream: TcpStream::connect(self.server.local_addr()).await.unwrap(), opaque: 0 }
    }
}

pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    opaque: i32,
}

/// A reply, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) code: i64,
    pub(crate) remark: String,
    pub(crate) fields: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) header: Value,
}

impl Peer {
    /// Sends a request as a current Java client does, and waits for its reply.
    pub(crate) async fn ask(&mut self, code: i32, fields: &[(&str, &str)], body: &[u8]) -> Reply {
        self.send(code, 0, fields, body).await;
        let reply = self.reply().await;
        assert_eq!(reply.header["opaque"], self.opaque);
        assert_eq!(reply.header["flag"], 1);
        reply
    }

    /// Sends a request; `flag` 2 wants no reply.
    pub(crate) async fn send(
        &mut self,
        code: i32,
        flag: i32,
        fields: &[(&str, &str)],
        body: &[u8],
    ) {
        self.opaque += 1;
        let fields: BTreeMap<_, _> = fields.iter().copied().collect();
        let header = serde_json::json!({
            "code": code, "extFields": fields, "flag": flag, "language": "JAVA",
            "opaque": self.opaque, "serializeTypeCurrentRPC": "JSON", "version": 479,
        });
        self.send_header(&header.to_string(), body).await;
    }

    pub(crate) async fn send_header(&mut self, header: &str, body: &[u8]) {
        let header_len = u32::try_from(header.len()).unwrap();
        let total = 4 + header_len + u32::try_from(body.len()).unwrap();
        let mut frame = total.to_be_bytes().to_vec();
        frame.extend(header_len.to_be_bytes());
        frame.extend(header.as_bytes());
        frame.extend(body);
        self.stream.write_all(&frame).await.unwrap();
    }

    /// The next frame: type byte, header bytes, body bytes.
    pub(crate) async fn frame(&mut self) -> (u8, Vec<u8>, Vec<u8>) {
        tokio::time::timeout(PATIENCE, async {
            let total = self.stream.read_u32().await.unwrap();
            let mark = self.stream.read_u32().await.unwrap();
            let mut header = vec![0; usize::try_from(mark & 0x00ff_ffff).unwrap()];
            self.stream.read_exact(&mut header).await.unwrap();
            let mut body = vec![0; usize::try_from(total).unwrap() - 4 - header.len()];
            self.stream.read_exact(&mut body).await.unwrap();
            (mark.to_be_bytes()[0], header, body)
        })
        .await
        .expect("no reply")
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        let (encoding, header, body) = self.frame().await;
        assert_eq!(encoding, 0, "a JSON request gets a JSON reply");
        let header: Value = serde_json::from_slice(&header).unwrap();
        let fields = header["extFields"].as_object().expect("extFields is always there");
        Reply {
            code: header["code"].as_i64().unwrap(),
            remark: header["remark"].as_str().unwrap_or_default().to_owned(),
            fields: fields
                .iter()
                .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
                .collect(),
            body: String::from_utf8(body).unwrap(),
            header,
        }
    }

    /// Waits until the name server closes the connection.
    pub(crate) async fn closed(&mut self) {
        let mut byte = [0];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut byte)).await;
        assert!(matches!(read.expect("stays open"), Ok(0) | Err(_)), "unexpected bytes");
    }

    /// Registers a broker of cluster `C` with `topics`, 4 queues each; `counter` is its version.
    pub(crate) async fn register(
        &mut self,
        (broker, id, address): (&str, &str, &str),
        topics: &[&str],
        counter: i64,
    ) -> Reply {
        let fields = [
            ("brokerName", broker),
            ("brokerId", id),
            ("brokerAddr", address),
            ("clusterName", "C"),
            ("haServerAddr", "10.0.0.1:10912"),
            ("compressed", "false"),
            ("bodyCrc32", "0"),
        ];
        self.ask(103, &fields, body(topics, counter).as_bytes()).await
    }

    pub(crate) async fn route(&mut self, topic: &str) -> Reply {
        self.ask(105, &[("topic", topic)], b"").await
    }

    /// Asks until the answer fits, as clients do every 30 s.
    pub(crate) async fn route_until(
        &mut self,
        topic: &str,
        fits: impl Fn(&Reply) -> bool,
    ) -> Reply {
        tokio::time::timeout(PATIENCE, async {
            loop {
                let reply = self.route(topic).await;
                if fits(&reply) {
                    return reply;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the route does not become what is expected")
    }
}

/// A registration body as a Java broker writes it.
pub(crate) fn body(topics: &[&str], counter: i64) -> String {
    let version = serde_json::json!({"counter": counter, "stateVersion": 0, "timestamp": 1_700_000_000_000_i64});
    let table: BTreeMap<_, _> = topics
        .iter()
        .map(|topic| {
            let config = serde_json::json!({
                "attributes": {}, "order": false, "perm": 6, "readQueueNums": 4,
                "topicFilterType": "SINGLE_TAG", "topicName": topic, "topicSysFlag": 0,
                "writeQueueNums": 4,
            });
            (*topic, config)
        })
        .collect();
    serde_json::json!({
        "filterServerList": [],
        "topicConfigSerializeWrapper": {
            "dataVersion": version, "mappingDataVersion": version, "topicConfigTable": table,
            "topicQueueMappingDetailMap": {}, "topicQueueMappingInfoMap": {},
        },
    })
    .to_string()
}

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}
