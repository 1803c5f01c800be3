//! Topics and groups, statistics, and what the broker says of itself.

use std::time::Duration;

use bytes::Bytes;
use protocol::{
    body::{
        MessageQueue,
        group::{GroupConfig, GroupList, GroupTable},
        kv::KvTable,
        stats::{ConsumeStats, TopicStats},
        topic::{TopicConfig, TopicConfigTable, TopicList},
    },
    code::RequestCode,
    header::NoFields,
    json,
    request::{
        group::{AllGroups, ConsumeStats as StatsHeader, DeleteGroup, Group},
        heartbeat::ConsumerGroup,
        offset::Commit,
        pull::Pull,
        send::Send,
        topic::{AllTopics, CreateTopic, Topic},
    },
};

use crate::common::{GROUP, TOPIC, message, node, number, outcome, properties, pull};

fn create(topic: &str) -> CreateTopic<'_> {
    CreateTopic {
        topic,
        default_topic: Some("TBW102"),
        read_queues: 3,
        write_queues: 2,
        perm: 6,
        filter_type: Some("SINGLE_TAG"),
        sys_flag: 0,
        order: false,
        attributes: None,
    }
}

fn topic(topic: &str) -> Topic<'_> {
    Topic { topic, cluster: None }
}

fn queue(queue_id: i32) -> MessageQueue {
    MessageQueue { broker_name: "broker-a".to_owned(), queue_id, topic: TOPIC.to_owned() }
}

#[tokio::test]
async fn topics_are_created_changed_read_and_deleted() {
    let node = node().await;
    let client = node.client().await;
    let new = CreateTopic { attributes: Some("+message.type=FIFO"), ..create(TOPIC) };
    client.ok(RequestCode::UpdateAndCreateTopic, &new, Bytes::new()).await;
    let one = client.ok(RequestCode::GetTopicConfig, &topic(TOPIC), Bytes::new()).await;
    assert_eq!(
        one.body,
        r#"{"attributes":{"message.type":"FIFO"},"order":false,"perm":6,"readQueueNums":3,"topicFilterType":"SINGLE_TAG","topicName":"TopicTest","topicSysFlag":0,"writeQueueNums":2}"#
    );
    assert_eq!(client.send(&message(TOPIC, 2), "x").await.code, 0, "a read queue");
    assert_eq!(client.send(&message(TOPIC, 3), "x").await.code, 29);

    let read_only = CreateTopic { perm: 4, ..create(TOPIC) };
    client.ok(RequestCode::UpdateAndCreateTopic, &read_only, Bytes::new()).await;
    let refused = client.send(&message(TOPIC, 0), "x").await;
    assert_eq!(refused.code, 16);
    assert!(outcome(&refused).1.contains("topic TopicTest does not allow to write"));
    let write_only = CreateTopic { perm: 2, ..create(TOPIC) };
    client.ok(RequestCode::UpdateAndCreateTopic, &write_only, Bytes::new()).await;
    let refused = client.pull(TOPIC, 2, 0).await;
    assert_eq!((refused.code, refused.fields.get("forbiddenType")), (16, Some("3")));

    client.ok(RequestCode::DeleteTopicInBroker, &topic(TOPIC), Bytes::new()).await;
    assert_eq!(
        client.call(RequestCode::GetTopicConfig, &topic(TOPIC), Bytes::new()).await.code,
        17
    );
    client.ok(RequestCode::UpdateAndCreateTopic, &create(TOPIC), Bytes::new()).await;
    assert_eq!(client.pull(TOPIC, 2, 0).await.code, 19, "a new topic of the old name is empty");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn wrong_topics_are_refused() {
    let node = node().await;
    let client = node.client().await;
    for (header, words) in [
        (create("../../x"), "contains '.'"),
        (create("TBW102"), "belongs to the broker"),
        (create("DefaultCluster"), "belongs to the broker"),
        (create("broker-a"), "belongs to the broker"),
        (CreateTopic { read_queues: -1, ..create(TOPIC) }, "readQueueNums is -1"),
        (CreateTopic { write_queues: 100_000, ..create(TOPIC) }, "writeQueueNums is 100000"),
        (CreateTopic { perm: 16, ..create(TOPIC) }, "perm is 16"),
        (
            CreateTopic { attributes: Some("+cleanup.policy=COMPACTION"), ..create(TOPIC) },
            "compaction",
        ),
    ] {
        let answer = client.call(RequestCode::UpdateAndCreateTopic, &header, Bytes::new()).await;
        assert_eq!(answer.code, 29, "{:?}", answer.remark);
        assert!(outcome(&answer).1.contains(words), "{:?}", answer.remark);
    }
    for name in ["TBW102", "SELF_TEST_TOPIC", "a b"] {
        let answer =
            client.call(RequestCode::DeleteTopicInBroker, &topic(name), Bytes::new()).await;
        assert_eq!(answer.code, 29, "{name}");
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn the_brokers_own_topics_exist_from_the_start() {
    let node = node().await;
    let client = node.client().await;
    let none = AllTopics { from: None, data_version: None, max: None };
    let all = client.ok(RequestCode::GetAllTopicConfig, &none, Bytes::new()).await;
    let table: TopicConfigTable = json::decode(&all.body).unwrap();
    let shape = |name: &str| {
        let topic: &TopicConfig = &table.topic_config_table[name];
        (topic.read_queue_nums, topic.write_queue_nums, topic.perm)
    };
    for (name, queues, perm) in [
        ("TBW102", 8, 7),
        ("SELF_TEST_TOPIC", 1, 6),
        ("BenchmarkTest", 1024, 6),
        ("DefaultCluster", 16, 7),
        ("broker-a", 1, 7),
        ("OFFSET_MOVED_EVENT", 1, 6),
    ] {
        assert_eq!(shape(name), (queues, queues, perm), "{name}");
    }
    assert_eq!(number(&all, "totalTopicNum"), 6);
    let page = AllTopics { from: Some(4), data_version: None, max: Some(3) };
    let page = client.ok(RequestCode::GetAllTopicConfig, &page, Bytes::new()).await;
    let page: TopicConfigTable = json::decode(&page.body).unwrap();
    assert_eq!(page.topic_config_table.keys().collect::<Vec<_>>(), ["TBW102", "broker-a"]);
    assert_eq!(page.data_version, table.data_version);
    let system =
        client.ok(RequestCode::GetSystemTopicListFromBroker, &NoFields, Bytes::new()).await;
    assert_eq!(json::decode::<TopicList>(&system.body).unwrap().topic_list.len(), 6);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn groups_are_created_changed_read_and_deleted() {
    let node = node().await;
    let client = node.client().await;
    let config = GroupConfig {
        group_name: GROUP.to_owned(),
        retry_max_times: 3,
        consume_enable: false,
        ..GroupConfig::default()
    };
    client
        .ok(RequestCode::UpdateAndCreateSubscriptionGroup, &NoFields, json::encode(&config))
        .await;
    let named = Group { group: GROUP };
    let one = client.ok(RequestCode::GetSubscriptionGroupConfig, &named, Bytes::new()).await;
    assert_eq!(json::decode::<GroupConfig>(&one.body).unwrap(), config);
    client.put(TOPIC, 0, "x", &[]).await;
    let refused = client.pull(TOPIC, 0, 0).await;
    assert_eq!((refused.code, refused.fields.get("forbiddenType")), (16, Some("2")));

    let none = AllGroups { from: None, data_version: None, max: None };
    let all = client.ok(RequestCode::GetAllSubscriptionGroupConfig, &none, Bytes::new()).await;
    assert_eq!(number(&all, "totalGroupNum"), 1);
    let table: GroupTable = json::decode(&all.body).unwrap();
    assert_eq!(table.subscription_group_table[GROUP], config);

    let delete = DeleteGroup { group: GROUP, clean_offset: true };
    client.ok(RequestCode::DeleteSubscriptionGroup, &delete, Bytes::new()).await;
    let gone = client.call(RequestCode::GetSubscriptionGroupConfig, &named, Bytes::new()).await;
    assert_eq!(gone.code, 26);
    assert_eq!(
        client.call(RequestCode::DeleteSubscriptionGroup, &delete, Bytes::new()).await.code,
        26
    );
    let wrong = GroupConfig { group_name: "a/b".to_owned(), ..GroupConfig::default() };
    let refused = client
        .call(RequestCode::UpdateAndCreateSubscriptionGroup, &NoFields, json::encode(&wrong))
        .await;
    assert_eq!(refused.code, 29);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn topic_and_group_statistics_show_bounds_and_lag() {
    let node = node().await;
    let client = node.client().await;
    for _ in 0..10 {
        client.put(TOPIC, 1, "x", &[]).await;
    }
    let stats = client.ok(RequestCode::GetTopicStatsInfo, &topic(TOPIC), Bytes::new()).await;
    let stats: TopicStats = json::decode(&stats.body).unwrap();
    assert_eq!(stats.offset_table.len(), 4);
    let bounds = stats.offset_table[&queue(1)];
    assert_eq!((bounds.min_offset, bounds.max_offset), (0, 10));
    assert!(bounds.last_update_timestamp > 1_700_000_000_000);
    assert!((stats.topic_put_tps - 10.0 / 60.0).abs() < 0.001, "{}", stats.topic_put_tps);

    let header = Pull { max_messages: 6, ..pull(TOPIC, 1, 0) };
    client.ok(RequestCode::PullMessage, &header, Bytes::new()).await;
    let commit = Commit { consumer_group: GROUP, topic: TOPIC, queue_id: 1, commit_offset: 4 };
    client.ok(RequestCode::UpdateConsumerOffset, &commit, Bytes::new()).await;
    for header in [
        StatsHeader { consumer_group: GROUP, topic: None },
        StatsHeader { consumer_group: GROUP, topic: Some(TOPIC) },
    ] {
        let stats = client.ok(RequestCode::GetConsumeStats, &header, Bytes::new()).await;
        let stats: ConsumeStats = json::decode(&stats.body).unwrap();
        let progress = stats.offset_table[&queue(1)];
        assert_eq!(
            (progress.broker_offset, progress.consumer_offset, progress.pull_offset),
            (10, 4, 6)
        );
        assert!(progress.last_timestamp > 1_700_000_000_000);
    }
    let who = client.ok(RequestCode::QueryTopicConsumeByWho, &topic(TOPIC), Bytes::new()).await;
    assert_eq!(json::decode::<GroupList>(&who.body).unwrap().group_list, [GROUP]);
    let what =
        client.ok(RequestCode::QueryTopicsByConsumer, &Group { group: GROUP }, Bytes::new()).await;
    assert_eq!(json::decode::<TopicList>(&what.body).unwrap().topic_list, [TOPIC]);
    let offline = ConsumerGroup { consumer_group: GROUP };
    let answer = client.call(RequestCode::GetConsumerConnectionList, &offline, Bytes::new()).await;
    assert_eq!(answer.code, 206);
    node.broker.shutdown().await;
}

/// The keys that RocketMQ's tools, dashboard and exporter read.
const RUNTIME_KEYS: &[&str] = &[
    "brokerVersionDesc",
    "brokerVersion",
    "brokerActive",
    "msgPutTotalYesterdayMorning",
    "msgPutTotalTodayMorning",
    "msgPutTotalTodayNow",
    "msgGetTotalYesterdayMorning",
    "msgGetTotalTodayMorning",
    "msgGetTotalTodayNow",
    "sendThreadPoolQueueSize",
    "sendThreadPoolQueueCapacity",
    "sendThreadPoolQueueHeadWaitTimeMills",
    "pullThreadPoolQueueSize",
    "pullThreadPoolQueueCapacity",
    "pullThreadPoolQueueHeadWaitTimeMills",
    "queryThreadPoolQueueSize",
    "queryThreadPoolQueueCapacity",
    "queryThreadPoolQueueHeadWaitTimeMills",
    "ackThreadPoolQueueSize",
    "ackThreadPoolQueueCapacity",
    "ackThreadPoolQueueHeadWaitTimeMills",
    "EndTransactionQueueSize",
    "EndTransactionThreadPoolQueueCapacity",
    "pageCacheLockTimeMills",
    "earliestMessageTimeStamp",
    "commitLogMinOffset",
    "commitLogMaxOffset",
    "commitLogDiskRatio",
    "consumeQueueDiskRatio",
    "bootTimestamp",
    "startAcceptSendRequestTimeStamp",
    "remainTransientStoreBufferNumbs",
    "remainHowManyDataToFlush",
    "dispatchBehindBytes",
    "dispatchMaxBuffer",
    "timerReadBehind",
    "timerOffsetBehind",
    "timerCongestNum",
    "timerEnqueueTps",
    "timerDequeueTps",
    "putTps",
    "getTransferredTps",
    "getTransferedTps",
    "getTotalTps",
    "getFoundTps",
    "getMissTps",
    "commitLogDirCapacity",
    "runtime",
    "putMessageTimesTotal",
    "putMessageSizeTotal",
    "putMessageAverageSize",
];

#[tokio::test]
async fn runtime_information_has_every_key_that_tools_read() {
    let node = node().await;
    let client = node.client().await;
    for _ in 0..10 {
        client.put(TOPIC, 0, "x", &[]).await;
    }
    client.pull(TOPIC, 0, 0).await;
    let read = async || {
        let answer = client.ok(RequestCode::GetBrokerRuntimeInfo, &NoFields, Bytes::new()).await;
        json::decode::<KvTable>(&answer.body).unwrap().table
    };
    let table = read().await;
    for key in RUNTIME_KEYS {
        assert!(table.contains_key(*key), "{key} is missing");
    }
    assert_eq!(table["msgPutTotalTodayNow"], "10");
    assert_eq!(table["msgGetTotalTodayNow"], "10");
    assert!(table["commitLogMaxOffset"].parse::<u64>().unwrap() > 1_000);
    assert!(table["earliestMessageTimeStamp"].parse::<i64>().unwrap() > 1_700_000_000_000);
    let ratio: f64 = table["commitLogDiskRatio"].parse().unwrap();
    assert!(ratio > 0.0 && ratio <= 1.0);
    for key in ["putTps", "getTransferredTps", "getTotalTps", "getFoundTps", "getMissTps"] {
        let rates: Vec<f64> = table[key].split(' ').map(|rate| rate.parse().unwrap()).collect();
        assert_eq!(rates.len(), 3, "{key}: {}", table[key]);
    }
    // The first sample is taken within a second.
    let rate = |table: &std::collections::BTreeMap<String, String>| {
        table["putTps"].split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    let deadline = tokio::time::Instant::now() + crate::common::PATIENCE;
    while rate(&read().await) == 0.0 {
        assert!(tokio::time::Instant::now() < deadline, "the rate never rises");
        client.put(TOPIC, 0, "x", &[]).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn the_configuration_is_shown_under_rocketmqs_names() {
    let node = node().await;
    let client = node.client().await;
    let answer = client.ok(RequestCode::GetBrokerConfig, &NoFields, Bytes::new()).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for line in [
        "brokerName=broker-a",
        "brokerClusterName=DefaultCluster",
        "brokerId=0",
        "brokerIP1=127.0.0.1",
        "flushDiskType=ASYNC_FLUSH",
        "maxMessageSize=4194304",
        "autoCreateTopicEnable=true",
    ] {
        assert!(lines.contains(&line), "{line} is missing in\n{text}");
    }
    assert!(lines.contains(&format!("listenPort={}", node.broker.local_addr().port()).as_str()));
    assert!(answer.fields.get("version").unwrap().contains("\"counter\":"));
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_group_of_ordered_consumers_sends_its_retries_to_the_dead_letter_topic() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    let body = format!(
        r#"{{"clientId":"c","consumerGroup":"{GROUP}","mqSet":[{{"brokerName":"broker-a","queueId":0,"topic":"{TOPIC}"}}]}}"#
    );
    client.ok(RequestCode::LockBatchMq, &NoFields, body).await;
    let text = properties(&[("DELAY", "3")]);
    let retry = format!("%RETRY%{GROUP}");
    let header = Send { reconsume_times: 1, properties: Some(&text), ..message(&retry, 0) };
    assert_eq!(client.send(&header, "out of order").await.code, 0);
    let dead = client.pull(&format!("%DLQ%{GROUP}"), 0, 0).await;
    assert_eq!(crate::common::bodies(&dead), ["out of order"]);
    assert_eq!(crate::common::records(&dead)[0].property("DELAY"), None);
    node.broker.shutdown().await;
}
