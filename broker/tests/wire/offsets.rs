//! Offsets of groups and queues, and finding messages by key and by id.

use broker::Broker;
use bytes::Bytes;
use protocol::{
    code::RequestCode,
    frame::Frame,
    request::{
        offset::{Commit, Query, Queue, Search},
        query::{ById, ByKey},
    },
};

use crate::common::{Client, GROUP, TOPIC, bodies, config, node, number, outcome, pull, records};

fn query(queue_id: i32, zero: Option<bool>) -> Query<'static> {
    Query { consumer_group: GROUP, topic: TOPIC, queue_id, set_zero_if_not_found: zero }
}

fn commit(queue_id: i32, commit_offset: i64) -> Commit<'static> {
    Commit { consumer_group: GROUP, topic: TOPIC, queue_id, commit_offset }
}

async fn ask(client: &Client, header: &Query<'_>) -> Frame {
    client.call(RequestCode::QueryConsumerOffset, header, Bytes::new()).await
}

#[tokio::test]
async fn committed_offsets_are_read_back_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::start(config(&dir)).await.unwrap();
    let client =
        Client::connect(&broker.local_addr().to_string(), protocol::frame::Encoding::Json).await;
    for _ in 0..10 {
        client.put(TOPIC, 1, "x", &[]).await;
    }
    client.pull(TOPIC, 1, 0).await;
    client.ok(RequestCode::UpdateConsumerOffset, &commit(1, 7), Bytes::new()).await;
    assert_eq!(number(&ask(&client, &query(1, Some(false))).await, "offset"), 7);
    client
        .connection
        .oneway(RequestCode::UpdateConsumerOffset, &commit(1, 9), Bytes::new())
        .unwrap();
    assert_eq!(number(&ask(&client, &query(1, Some(false))).await, "offset"), 9);
    broker.shutdown().await;

    let broker = Broker::start(config(&dir)).await.unwrap();
    let client =
        Client::connect(&broker.local_addr().to_string(), protocol::frame::Encoding::Json).await;
    assert_eq!(number(&ask(&client, &query(1, Some(false))).await, "offset"), 9);
    assert_eq!(bodies(&client.pull(TOPIC, 1, 0).await).len(), 10);
    broker.shutdown().await;
}

#[tokio::test]
async fn a_group_without_an_offset_is_told_0_while_the_topic_is_young() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    for zero in [None, Some(true)] {
        let answer = ask(&client, &query(0, zero)).await;
        assert_eq!((answer.code, number(&answer, "offset")), (0, 0));
    }
    let answer = ask(&client, &query(0, Some(false))).await;
    assert_eq!(answer.code, 22);
    assert!(outcome(&answer).1.contains("has committed no offset of queue 0"));
    node.broker.shutdown().await;
}

#[tokio::test]
async fn commits_are_checked() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    let call = async |header: Commit<'static>| {
        client.call(RequestCode::UpdateConsumerOffset, &header, Bytes::new()).await.code
    };
    assert_eq!(call(commit(0, 1)).await, 26, "the group does not exist yet");
    client.pull(TOPIC, 0, 0).await;
    assert_eq!(call(commit(0, 1)).await, 0);
    assert_eq!(call(Commit { topic: "Missing", ..commit(0, 1) }).await, 17);
    assert_eq!(call(commit(4, 1)).await, 29);
    assert_eq!(call(commit(-1, 1)).await, 29);
    assert_eq!(call(commit(0, -1)).await, 29);
    assert_eq!(number(&ask(&client, &query(0, None)).await, "offset"), 1);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn queues_tell_their_bounds_and_find_times() {
    let node = node().await;
    let client = node.client().await;
    for n in 0..5 {
        client.put(TOPIC, 2, &n.to_string(), &[]).await;
    }
    let queue = |queue_id| Queue { topic: TOPIC, queue_id };
    let get = async |code, header: Queue<'static>, field| {
        number(&client.ok(code, &header, Bytes::new()).await, field)
    };
    assert_eq!(get(RequestCode::GetMaxOffset, queue(2), "offset").await, 5);
    assert_eq!(get(RequestCode::GetMinOffset, queue(2), "offset").await, 0);
    assert_eq!(get(RequestCode::GetMaxOffset, queue(3), "offset").await, 0);
    assert_eq!(get(RequestCode::GetEarliestMsgStoreTime, queue(3), "timestamp").await, -1);
    let earliest = get(RequestCode::GetEarliestMsgStoreTime, queue(2), "timestamp").await;
    let pulled = client.pull(TOPIC, 2, 0).await;
    let times: Vec<i64> = records(&pulled).iter().map(|record| record.store_timestamp).collect();
    assert_eq!(earliest, times[0]);

    let search = async |timestamp, boundary| {
        let header = Search { topic: TOPIC, queue_id: 2, timestamp, boundary };
        number(
            &client.ok(RequestCode::SearchOffsetByTimestamp, &header, Bytes::new()).await,
            "offset",
        )
    };
    assert_eq!(search(0, None).await, 0, "before everything");
    assert_eq!(search(times[4] + 1, None).await, 5, "after everything");
    let first_at_last_time = times.iter().position(|time| *time == times[4]).unwrap();
    assert_eq!(search(times[4], Some("LOWER")).await, i64::try_from(first_at_last_time).unwrap());
    assert_eq!(search(times[4], Some("upper")).await, 4);

    for code in
        [RequestCode::GetMaxOffset, RequestCode::GetMinOffset, RequestCode::GetEarliestMsgStoreTime]
    {
        let missing = Queue { topic: "Missing", queue_id: 0 };
        assert_eq!(client.call(code, &missing, Bytes::new()).await.code, 17);
        assert_eq!(client.call(code, &queue(9), Bytes::new()).await.code, 29);
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_message_is_found_by_each_key_by_its_unique_id_and_by_its_offset() {
    let node = node().await;
    let client = node.client().await;
    for n in 0..5 {
        let (key, id) = (format!("order-{n} all"), format!("ID{n}"));
        client.put(TOPIC, n % 4, &n.to_string(), &[("KEYS", &key), ("UNIQ_KEY", &id)]).await;
    }
    let find = async |key, unique_key, max_messages| {
        let header = ByKey {
            topic: TOPIC,
            key,
            max_messages,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            unique_key,
        };
        client.call(RequestCode::QueryMessage, &header, Bytes::new()).await
    };
    let found = find("order-3", false, 32).await;
    assert_eq!((found.code, bodies(&found)), (0, vec!["3".to_owned()]));
    assert!(number(&found, "indexLastUpdatePhyoffset") > 0);
    assert!(number(&found, "indexLastUpdateTimestamp") > 1_700_000_000_000);
    assert_eq!(bodies(&find("all", false, 32).await), ["4", "3", "2", "1", "0"], "newest first");
    assert_eq!(bodies(&find("all", false, 2).await), ["4", "3"]);
    assert_eq!(bodies(&find("ID2", true, 1).await), ["2"]);
    let nothing = find("order-9", false, 32).await;
    assert_eq!(nothing.code, 22);
    assert!(outcome(&nothing).1.contains("no message of topic TopicTest with key \"order-9\""));
    assert!(number(&nothing, "indexLastUpdateTimestamp") > 0, "how far the index reaches");

    let log_offset = records(&found)[0].log_offset;
    let by_id = ById { log_offset, topic: Some(TOPIC) };
    assert_eq!(bodies(&client.ok(RequestCode::ViewMessageById, &by_id, Bytes::new()).await), ["3"]);
    assert_eq!(
        bodies(&client.ok(RequestCode::LitePullMessage, &pull(TOPIC, 3, 0), Bytes::new()).await),
        ["3"]
    );
    node.broker.shutdown().await;
}
