//! Bodies as Java writes them: read, compared field by field where it matters, written again.

use std::fmt::Debug;

use protocol::body::cluster::{ClusterInfo, MemberGroupBody};
use protocol::body::group::{GroupConfig, GroupList};
use protocol::body::heartbeat::Heartbeat;
use protocol::body::kv::KvTable;
use protocol::body::lock::{Locked, QueueSet};
use protocol::body::offset::{ResetOffsetList, ResetOffsets};
use protocol::body::register::RegisterBody;
use protocol::body::route::TopicRoute;
use protocol::body::stats::{ConsumeStats, ConsumerConnections, ProducerConnections, TopicStats};
use protocol::body::topic::{TopicConfig, TopicConfigTable, TopicList};
use protocol::body::{DataVersion, MessageQueue, QueueMap};
use protocol::json;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

macro_rules! golden {
    ($name:literal) => {
        include_str!(concat!("bodies/", $name)).trim_end()
    };
}

fn read<T: DeserializeOwned>(body: &str) -> T {
    json::decode(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

/// Reads `body` and writes it again, byte for byte except that we quote numbers that are keys.
fn same<T: DeserializeOwned + Serialize + Debug + PartialEq>(body: &str) -> T {
    let value: T = read(body);
    let written = json::encode(&value);
    let quoted = body.replace("{0:", "{\"0\":").replace(",1:", ",\"1\":");
    assert_eq!(std::str::from_utf8(&written).unwrap(), quoted);
    assert_eq!(json::decode::<T>(&written).as_ref(), Ok(&value));
    value
}

fn queue(queue_id: i32) -> MessageQueue {
    MessageQueue { broker_name: "broker-a".to_owned(), queue_id, topic: "TopicTest".to_owned() }
}

#[test]
fn routes() {
    let strict: TopicRoute = same(golden!("105-route-strict.json"));
    assert_eq!(strict.broker_datas[0].broker_addrs[&1], "10.0.0.2:10911");
    let legacy: TopicRoute = same(golden!("105-route-legacy.json"));
    assert_eq!(legacy, strict);
    let with_static_topic: TopicRoute = read(golden!("105-route-static-topic.json"));
    assert_eq!(with_static_topic, strict);
    let ordered = TopicRoute { order_topic_conf: Some("broker-a:4".to_owned()), ..strict };
    assert_eq!(
        json::decode::<TopicRoute>(&json::encode(&ordered)).unwrap().order_topic_conf.as_deref(),
        Some("broker-a:4")
    );
}

#[test]
fn clusters_and_members() {
    let clusters: ClusterInfo = same(golden!("106-clusters.json"));
    assert_eq!(clusters.broker_addr_table["broker-a"].broker_addrs[&0], "10.0.0.1:10911");
    let members: MemberGroupBody = same(golden!("901-members.json"));
    assert_eq!(members.broker_member_group.broker_addrs.len(), 2);
}

#[test]
fn registrations_and_topics() {
    let version = DataVersion { counter: 7, state_version: 0, timestamp: 1_700_000_000_000 };
    assert_eq!(same::<DataVersion>(golden!("322-data-version.json")), version);
    let body: RegisterBody = same(golden!("103-register.json"));
    let table: TopicConfigTable = same(golden!("021-topics.json"));
    assert_eq!(body.topic_config_serialize_wrapper, table);
    assert_eq!(table.data_version, version);
    let topic: TopicConfig = same(golden!("351-topic.json"));
    assert_eq!(table.topic_config_table["TopicTest"], topic);

    // Java may refer to the first version instead of repeating it.
    let first = r#""mappingDataVersion":{"counter":7,"stateVersion":0,"timestamp":1700000000000}"#;
    let reference = r#""mappingDataVersion":{"$ref":"$.topicConfigSerializeWrapper.dataVersion"}"#;
    let referring = golden!("103-register.json").replace(first, reference);
    let read = RegisterBody::decode(referring.as_bytes(), 479).unwrap();
    assert_eq!(read.topic_config_serialize_wrapper.topic_config_table, table.topic_config_table);
    assert_eq!(read.topic_config_serialize_wrapper.mapping_data_version, None);
}

#[test]
fn groups() {
    let group: GroupConfig = same(golden!("200-group.json"));
    assert_eq!(group, GroupConfig { group_name: "GID".to_owned(), ..GroupConfig::default() });
    let list: GroupList = same(golden!("300-group-list.json"));
    assert_eq!(list.group_list, ["CG"]);
}

#[test]
fn v11_heartbeat_and_its_fingerprint() {
    let beat: Heartbeat = same(golden!("034-heartbeat.json"));
    assert_eq!(beat.client_id, "10.0.0.9@4321#1");
    assert_eq!(beat.consumer_data_set[0].subscription_data_set[0].code_set, [2598919, 2598920]);
    assert_eq!(beat.fingerprint(), 808_946_106);
}

#[test]
fn locks() {
    let wanted: QueueSet = same(golden!("041-lock.json"));
    assert_eq!(wanted.mq_set, [queue(1), queue(0)]);
    let locked: Locked = same(golden!("041-locked.json"));
    assert_eq!(locked.lock_ok_mq_set, [queue(0)]);
}

#[test]
fn statistics_and_connections() {
    let stats: ConsumeStats = same(golden!("208-consume-stats.json"));
    assert_eq!(stats.offset_table[&queue(0)].consumer_offset, 90);
    let stats: TopicStats = same(golden!("202-topic-stats.json"));
    assert_eq!(stats.offset_table[&queue(0)].max_offset, 10);
    let consumers: ConsumerConnections = same(golden!("203-consumer-connections.json"));
    assert_eq!(consumers.subscription_table["TopicTest"].tags_set, ["TagA", "TagB"]);
    let producers: ProducerConnections = same(golden!("204-producer-connections.json"));
    assert_eq!(producers.connection_set, consumers.connection_set);
}

#[test]
fn reset_offsets_in_both_forms() {
    let offsets: ResetOffsets = same(golden!("220-reset-offsets.json"));
    assert_eq!(offsets.offset_table, [(queue(0), 5), (queue(1), 6)].into());
    let list: ResetOffsetList = same(golden!("220-reset-offsets-cpp.json"));
    let one = ResetOffsets { offset_table: [(queue(0), 5)].into() };
    assert_eq!(ResetOffsetList::from(&one), list);
    assert_eq!(read::<ResetOffsets>(golden!("220-reset-offsets-cpp.json")), one);
    assert_eq!(json::encode(&ResetOffsets::default()), r#"{"offsetTable":{}}"#);
}

#[test]
fn lists_and_tables() {
    let list: TopicList = same(golden!("206-topic-list.json"));
    assert_eq!(list.topic_list, ["TopicTest"]);
    let system: TopicList = same(golden!("304-system-topics.json"));
    assert_eq!(system.broker_addr.as_deref(), Some("10.0.0.1:10911"));
    let table: KvTable = same(golden!("219-kv-table.json"));
    assert_eq!(table.table["brokerVersionDesc"], "V5_3_3");
}

#[test]
fn tables_whose_keys_are_references_are_read_without_those_entries() {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Tables {
        mq_pop_table: QueueMap<IgnoredAny>,
        mq_table: QueueMap<IgnoredAny>,
    }
    let tables: Tables = read(golden!("307-running-info.json"));
    assert_eq!(tables.mq_pop_table.keys().collect::<Vec<_>>(), [&queue(0)]);
    assert!(tables.mq_table.is_empty());
}
