//! Bodies of clients that differ from Java's, and of old ones that lack newer fields.

use protocol::body::MessageQueue;
use protocol::body::group::{GroupTable, RetryKind};
use protocol::body::heartbeat::{CheckClient, Heartbeat};
use protocol::body::lock::QueueSet;
use protocol::body::offset::ResetOffsets;
use protocol::body::route::TopicRoute;
use protocol::body::topic::TopicConfigTable;
use protocol::json;
use serde::de::DeserializeOwned;

fn read<T: DeserializeOwned>(body: &str) -> T {
    json::decode(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"))
}

#[test]
fn heartbeat_of_the_cpp_client_has_ordinals_and_lacks_fields() {
    let beat: Heartbeat = read(concat!(
        r#"{"clientID":"10.0.0.9@1","consumerDataSet":[{"consumeFromWhere":4,"consumeType":1,"#,
        r#""groupName":"CG","messageModel":0,"subscriptionDataSet":[{"codeSet":["42"],"#,
        r#""subString":"*","subVersion":"1700000000000","tagsSet":["*"],"topic":"T"}]}]}"#,
        "\n"
    ));
    let consumer = &beat.consumer_data_set[0];
    assert_eq!(consumer.consume_from_where, "CONSUME_FROM_FIRST_OFFSET");
    assert_eq!(consumer.consume_type, "CONSUME_PASSIVELY");
    assert_eq!(consumer.message_model, "BROADCASTING");
    let subscription = &consumer.subscription_data_set[0];
    assert_eq!(subscription.expression_type, "TAG");
    assert_eq!(subscription.sub_version, 1_700_000_000_000);
    assert_eq!(subscription.code_set, [42]);
    assert!(beat.producer_data_set.is_empty());
}

#[test]
fn heartbeat_of_the_go_client_has_nanoseconds_and_null_sets() {
    let beat: Heartbeat = read(
        r#"{"clientID":"c","producerDataSet":null,"consumerDataSet":[{"groupName":"CG",
        "consumeType":"CONSUME_PASSIVELY","messageModel":"CLUSTERING","unitMode":false,
        "consumeFromWhere":"CONSUME_FROM_LAST_OFFSET","subscriptionDataSet":[
        {"classFilterMode":false,"topic":"T","subString":"a","tagsSet":null,"codeSet":["97"],
        "subVersion":1700000000000000000,"expressionType":"TAG"}]}]}"#,
    );
    let subscription = &beat.consumer_data_set[0].subscription_data_set[0];
    assert_eq!(subscription.sub_version, 1_700_000_000_000_000_000);
    assert_eq!(subscription.code_set, [97]);
    assert!(subscription.tags_set.is_empty());
    assert_eq!(beat.heartbeat_fingerprint, 0);
}

#[test]
fn heartbeat_flag_has_two_names() {
    assert!(read::<Heartbeat>(r#"{"withoutSub":true}"#).without_sub);
    assert!(read::<Heartbeat>(r#"{"isWithoutSub":true}"#).without_sub);
}

#[test]
fn lock_of_a_4x_client_lacks_the_newest_field() {
    let wanted: QueueSet = read(
        r#"{"clientId":"c1","consumerGroup":"CG",
        "mqSet":[{"brokerName":"b","queueId":0,"topic":"T"}]}"#,
    );
    assert!(!wanted.only_this_broker);
    assert_eq!(wanted.mq_set.len(), 1);
}

#[test]
fn check_of_a_subscription_may_lack_the_namespace() {
    let check: CheckClient = read(
        r#"{"clientId":"c","group":"CG","subscriptionData":{"expressionType":"SQL92",
        "subString":"a > 1","topic":"T","tagsSet":[],"codeSet":[],"subVersion":1}}"#,
    );
    assert_eq!(check.namespace, None);
    assert_eq!(check.subscription_data.expression_type, "SQL92");
}

#[test]
fn reset_offsets_come_as_pairs_from_go_tools() {
    let expected = MessageQueue { broker_name: "b".to_owned(), queue_id: 1, topic: "T".to_owned() };
    for body in [
        r#"{"offsetTable":[[{"topic":"T","brokerName":"b","queueId":1},"7"]]}"#,
        r#"{"offsetTable":{{"topic":"T","brokerName":"b","queueId":1}:7,{"$ref":"$.a"}:8}}"#,
        r#"{"offsetTable":[{"topic":"T","brokerName":"b","queueId":"1","offset":7}]}"#,
    ] {
        let offsets: ResetOffsets = read(body);
        assert_eq!(offsets.offset_table, [(expected.clone(), 7)].into(), "{body}");
    }
    for body in [r#"{"offsetTable":{}}"#, r#"{"offsetTable":[]}"#, r#"{"offsetTable":null}"#, "{}"]
    {
        assert_eq!(read::<ResetOffsets>(body), ResetOffsets::default(), "{body}");
    }
    json::decode::<ResetOffsets>(br#"{"offsetTable":[[{}]]}"#).unwrap_err();
    json::decode::<ResetOffsets>(br#"{"offsetTable":5}"#).unwrap_err();
}

#[test]
fn old_brokers_topics_lack_versions_and_attributes() {
    let table: TopicConfigTable = read(
        r#"{"dataVersion":{"counter":1,"timestatmp":5},"topicConfigTable":{"T":{"order":false,
        "perm":6,"readQueueNums":8,"topicFilterType":"SINGLE_TAG","topicName":"T",
        "topicSysFlag":0,"writeQueueNums":8}}}"#,
    );
    assert_eq!(table.data_version.counter, 1);
    assert_eq!(table.topic_config_table["T"].read_queue_nums, 8);
}

#[test]
fn groups_keep_their_defaults_and_retry_policies() {
    let table: GroupTable = read(
        r#"{"dataVersion":{},"forbiddenTable":{"CG":{"T":1}},"subscriptionGroupTable":{
        "Old":{"groupName":"Old","retryMaxTimes":3},
        "New":{"groupName":"New","consumeEnable":null,"groupRetryPolicy":{"type":"EXPONENTIAL",
        "exponentialRetryPolicy":{"initial":1000,"max":60000,"multiplier":3}}}}}"#,
    );
    let old = &table.subscription_group_table["Old"];
    assert!(old.consume_enable && old.notify_consumer_ids_changed_enable);
    assert_eq!((old.retry_max_times, old.retry_queue_nums), (3, 1));
    let new = &table.subscription_group_table["New"];
    assert!(new.consume_enable);
    assert_eq!(new.group_retry_policy.kind, RetryKind::Exponential);
    assert_eq!(new.group_retry_policy.exponential_retry_policy.as_ref().unwrap().multiplier, 3);
    assert_eq!(json::decode::<GroupTable>(&json::encode(&table)), Ok(table));
}

#[test]
fn routes_may_be_padded_and_lack_what_is_new() {
    let route: TopicRoute = read(
        "{ \"queueDatas\" : [ { \"brokerName\" : \"b\" , \"perm\" : \"6\" } ] ,\n \
         \"brokerDatas\" : [ { \"brokerName\" : \"b\" , \"brokerAddrs\" : { 0 : \"a:1\" } } ] }",
    );
    assert_eq!(route.queue_datas[0].perm, 6);
    assert_eq!(route.broker_datas[0].broker_addrs[&0], "a:1");
    assert!(!route.broker_datas[0].enable_acting_master);
}
