//! Records, batches, ids, hashes, compressed forms.

use std::io::Read as _;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use protocol::batch::{self, Message};
use protocol::body::DataVersion;
use protocol::body::register::RegisterBody;
use protocol::body::topic::TopicConfig;
use protocol::compression::{compress_zlib, decompress};
use protocol::message_id::{OffsetId, UniqueId};
use protocol::record::{self, NewRecord, RecordView, Version};
use protocol::{frame, property, sys_flag};

macro_rules! golden {
    ($name:literal) => {
        bytes(include_str!($name))
    };
}

/// The bytes of a file of hex digits.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}

fn host(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What V8, V10, V12 and V13 have in common.
fn record<'a>(topic: &'a str, properties: &'a [&'a str]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id: 2,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1_700_000_000_000,
        born_host: host("10.0.0.9:55555"),
        store_host: host("10.0.0.1:10911"),
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"Hello",
        properties,
    }
}

/// Encodes and patches `new`, compares with the golden bytes and returns those as a view.
fn check<'a>(
    golden: &'a [u8],
    new: &NewRecord<'_>,
    queue_offset: i64,
    log_offset: i64,
) -> RecordView<'a> {
    let mut out = BytesMut::new();
    new.encode(&mut out).unwrap();
    record::patch(&mut out, queue_offset, log_offset, 1_700_000_000_123).unwrap();
    assert_eq!(out, golden);
    let view = RecordView::parse(golden).unwrap();
    view.verify().unwrap();
    assert_eq!(view.topic, new.topic);
    assert_eq!(view.queue_id, new.queue_id);
    assert_eq!(view.queue_offset, queue_offset);
    assert_eq!(view.log_offset, log_offset);
    assert_eq!(view.store_timestamp, 1_700_000_000_123);
    assert_eq!(view.born_host, new.born_host);
    assert_eq!(view.store_host, new.store_host);
    assert_eq!(view.reconsume_times, new.reconsume_times);
    assert_eq!(view.body, new.body);
    view
}

#[test]
fn wire_md_shows_the_golden_bytes() {
    let wire = include_str!("../../WIRE.md");
    let examples: Vec<_> = wire
        .split("```text")
        .skip(1)
        .map(|block| {
            let block = block.split("```").next().unwrap();
            // Hex digits, at least three spaces, words.
            let hex = block.lines().map(|line| line.split("   ").next().unwrap());
            bytes(&hex.collect::<String>())
        })
        .collect();
    assert_eq!(examples, [golden!("v02-route-request-binary.hex"), golden!("v08-record-v1.hex")]);
}

#[test]
fn v3_route_reply_carries_its_body() {
    let mut buffer = BytesMut::from(&golden!("v03-route-reply-json.hex")[..]);
    let reply = frame::Frame::decode(frame::split(&mut buffer).unwrap().unwrap()).unwrap();
    assert_eq!(reply.body.len(), 261);
    let route: protocol::body::route::TopicRoute = protocol::json::decode(&reply.body).unwrap();
    assert_eq!(route.broker_datas[0].broker_addrs[&0], "10.0.0.1:10911");
    assert_eq!(route.queue_datas[0].write_queue_nums, 4);
    assert_eq!(protocol::json::encode(&route), reply.body);
}

#[test]
fn v8_record_of_version_1() {
    let golden = golden!("v08-record-v1.hex");
    let properties = ["TAGS\u{1}TagA\u{2}", "KEYS\u{1}k1\u{2}"];
    let view = check(&golden, &record("TopicTest", &properties), 100, 4096);
    assert_eq!(view.version, Version::V1);
    assert_eq!(view.total_size, 123);
    assert_eq!(view.body_crc, 2_010_220_930);
    assert_eq!(view.property(property::TAGS), Some("TagA"));
    assert_eq!(view.property(property::KEYS), Some("k1"));
}

#[test]
fn v10_record_of_version_2() {
    let golden = golden!("v10-record-v2.hex");
    let topic = format!("%RETRY%{}", "g".repeat(125));
    let properties = ["TAGS\u{1}TagA\u{2}"];
    let mut new = record(&topic, &properties);
    new.queue_id = 0;
    new.reconsume_times = 1;
    new.body = b"Hi";
    let view = check(&golden, &new, 1, 8192);
    assert_eq!(view.version, Version::V2);
    assert_eq!(view.total_size, 236);
}

#[test]
fn v12_record_with_ipv6_hosts() {
    let golden = golden!("v12-record-ipv6.hex");
    let properties = ["TAGS\u{1}TagA\u{2}"];
    let mut new = record("TopicTest", &properties);
    new.queue_id = 1;
    new.born_host = host("[2001:db8::9]:55555");
    new.store_host = host("[2001:db8::1]:10911");
    let view = check(&golden, &new, 5, 12_288);
    assert_eq!(view.sys_flag, sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6);
    let id = OffsetId { host: view.store_host, log_offset: view.log_offset };
    assert_eq!(id.to_string(), "20010DB800000000000000000000000100002A9F0000000000003000");
}

#[test]
fn v13_record_with_an_appended_checksum() {
    let golden = golden!("v13-record-appended-crc.hex");
    let properties = ["TAGS\u{1}TagA\u{2}", "__CRC32#\u{1}1824300270\u{2}"];
    let view = check(&golden, &record("TopicTest", &properties), 100, 4096);
    let digits = view.property(property::CRC32).unwrap();
    let appended: u32 = digits.chars().rev().collect::<String>().parse().unwrap();
    assert_eq!(appended, 720_034_281);
}

#[test]
fn v14_batch_of_two_messages() {
    let golden = golden!("v14-batch-body.hex");
    let messages = [
        Message { flag: 0, body: b"one", properties: "TAGS\u{1}TagA\u{2}" },
        Message { flag: 1, body: b"two", properties: "" },
    ];
    let read: Vec<_> = batch::iter(&golden).map(Result::unwrap).collect();
    assert_eq!(read, messages);
    let mut out = BytesMut::new();
    for message in &messages {
        message.encode(&mut out).unwrap();
    }
    assert_eq!(out, golden);
}

#[test]
fn v15_ids() {
    let id = OffsetId { host: host("10.0.0.1:10911"), log_offset: 4096 };
    assert_eq!(id.to_string(), "0A00000100002A9F0000000000001000");
    assert_eq!("0A00000100002A9F0000000000001000".parse(), Ok(id));

    let text = "0A00000910E10BD2C1A9481908000007";
    let id = UniqueId {
        ip: "10.0.0.9".parse().unwrap(),
        pid: 4321,
        loader_hash: 0x0BD2_C1A9,
        month_ms: 1_209_600_000,
        counter: 7,
    };
    assert_eq!(text.parse(), Ok(id));
    assert_eq!(id.to_string(), text);
}

#[test]
fn v16_tag_hashes() {
    let hashes = [
        ("TagA", 2_598_919),
        ("TagB", 2_598_920),
        ("*", 42),
        ("", 0),
        ("中文", 646_394),
        ("😀", 1_772_899),
        ("a-very-long-tag-name-for-overflow", 2_136_073_743),
        ("_RECALL_TAG_", -847_619_372),
        ("TagZZZZZZ", -367_331_910),
    ];
    for (tag, hash) in hashes {
        assert_eq!(property::tag_hash(tag), hash, "{tag}");
    }
}

#[test]
fn v19_compressed_registration() {
    let compressed = golden!("v19-register-compressed.hex");
    assert_eq!(record::body_crc(&compressed), 1_039_549_663);
    let body = RegisterBody::decode(&compressed, 479).unwrap();
    let table = &body.topic_config_serialize_wrapper;
    let version = DataVersion { counter: 7, state_version: 0, timestamp: 1_700_000_000_000 };
    assert_eq!(table.data_version, version);
    let topic = TopicConfig {
        topic_name: "TopicTest".to_owned(),
        read_queue_nums: 4,
        write_queue_nums: 4,
        perm: 6,
        ..TopicConfig::default()
    };
    assert_eq!(table.topic_config_table, [("TopicTest".to_owned(), topic)].into());
    assert_eq!(body.filter_server_list, [""; 0]);

    // The compressed bytes depend on the library, what is compressed does not.
    let mut raw = Vec::new();
    flate2::read::ZlibDecoder::new(&body.encode_compressed()[..]).read_to_end(&mut raw).unwrap();
    assert_eq!(raw, golden!("v19-register-raw.hex"));
}

#[test]
fn v20_checksums_and_compressed_bodies() {
    assert_eq!(record::body_crc(b"Hello"), 2_010_220_930);
    let body = "Hello".repeat(10).into_bytes();
    let forms = [
        (0, "785ef348cdc9c9f720850000eefb1389"),
        (sys_flag::COMPRESSION_ZLIB, "785ef348cdc9c9f720850000eefb1389"),
        (sys_flag::COMPRESSION_LZ4, "04224d186070730f0000005f48656c6c6f0500155048656c6c6f00000000"),
        (sys_flag::COMPRESSION_ZSTD, "28b52ffd00585c00002848656c6c6f0100c22c5a010000"),
    ];
    for (kind, hex) in forms {
        let packed = bytes(hex);
        let plain = decompress(sys_flag::COMPRESSED | kind, &packed, 50).unwrap();
        assert_eq!(plain, body, "{kind:#x}");
    }
    let ours = Bytes::from(compress_zlib(&body));
    assert_eq!(decompress(sys_flag::COMPRESSED, &ours, 50).unwrap(), body);
}
