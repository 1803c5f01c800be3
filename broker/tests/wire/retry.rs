//! The return of messages whose consumption failed.

use bytes::Bytes;
use protocol::{
    body::group::GroupConfig,
    code::RequestCode,
    frame::Frame,
    header::NoFields,
    json,
    message_id::OffsetId,
    request::{
        pull::{Pull, flag},
        send::SendBack,
    },
};

use crate::common::{Client, GROUP, Node, TOPIC, node, number, outcome, pull, records};

fn back(log_offset: i64) -> SendBack<'static> {
    SendBack {
        log_offset,
        group: GROUP,
        delay_level: 0,
        origin_message_id: None,
        origin_topic: Some(TOPIC),
        unit_mode: false,
        max_reconsume_times: None,
    }
}

async fn failing(node: &Node) -> (Client, i64) {
    let client = node.client().await;
    client.put(TOPIC, 0, "poison", &[("TAGS", "TagA"), ("UNIQ_KEY", "ID"), ("DELAY", "0")]).await;
    let pulled = client.pull(TOPIC, 0, 0).await;
    let log_offset = records(&pulled)[0].log_offset;
    (client, log_offset)
}

async fn send_back(client: &Client, header: &SendBack<'_>) -> Frame {
    client.call(RequestCode::ConsumerSendMsgBack, header, Bytes::new()).await
}

#[tokio::test]
async fn a_failed_message_comes_back_with_its_count_and_its_origin() {
    let node = node().await;
    let (client, first) = failing(&node).await;
    let retry = format!("%RETRY%{GROUP}");
    let origin = OffsetId { host: node.broker.local_addr(), log_offset: first }.to_string();
    let mut log_offset = first;
    for times in 1..=3 {
        assert_eq!(send_back(&client, &back(log_offset)).await.code, 0);
        let pulled = client.pull(&retry, 0, i64::from(times) - 1).await;
        let record = records(&pulled)[0];
        assert_eq!(record.body, b"poison");
        assert_eq!(record.reconsume_times, times);
        assert_eq!(record.born_timestamp, 1_700_000_000_000);
        assert_eq!(record.property("RETRY_TOPIC"), Some(TOPIC), "the first topic, ever after");
        assert_eq!(record.property("ORIGIN_MESSAGE_ID"), Some(origin.as_str()));
        assert_eq!(record.property("UNIQ_KEY"), Some("ID"));
        assert_eq!(record.property("TAGS"), Some("TagA"));
        assert_eq!(record.property("DELAY"), None);
        log_offset = record.log_offset;
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_message_is_dead_after_the_groups_maximum_or_at_once_on_demand() {
    let node = node().await;
    let (client, first) = failing(&node).await;
    let (retry, dead) = (format!("%RETRY%{GROUP}"), format!("%DLQ%{GROUP}"));
    let mut log_offset = first;
    let with_max = |log_offset| SendBack { max_reconsume_times: Some(2), ..back(log_offset) };
    for n in 0..2 {
        assert_eq!(send_back(&client, &with_max(log_offset)).await.code, 0);
        let pulled = client.pull(&retry, 0, n).await;
        log_offset = records(&pulled)[0].log_offset;
    }
    assert_eq!(client.pull(&dead, 0, 0).await.code, 17, "not dead yet");
    assert_eq!(send_back(&client, &with_max(log_offset)).await.code, 0);
    let pulled = client.pull(&dead, 0, 0).await;
    assert_eq!(records(&pulled)[0].reconsume_times, 3);
    assert_eq!(records(&pulled)[0].property("RETRY_TOPIC"), Some(TOPIC));
    let now = SendBack { delay_level: -1, ..back(first) };
    assert_eq!(send_back(&client, &now).await.code, 0);
    assert_eq!(records(&client.pull(&dead, 0, 1).await)[0].body, b"poison");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_returned_message_wakes_who_waits_for_it() {
    let node = node().await;
    let (client, first) = failing(&node).await;
    assert_eq!(send_back(&client, &back(first)).await.code, 0);
    let retry = format!("%RETRY%{GROUP}");
    let other = node.client().await;
    let held = Pull {
        sys_flag: flag::SUBSCRIPTION | flag::SUSPEND,
        suspend_timeout_ms: 9_000,
        ..pull(&retry, 0, 1)
    };
    let again = back(first);
    let (woken, sent) = tokio::join!(
        other.call(RequestCode::PullMessage, &held, Bytes::new()),
        send_back(&client, &again),
    );
    assert_eq!(sent.code, 0);
    assert_eq!((woken.code, number(&woken, "nextBeginOffset")), (0, 2));
    node.broker.shutdown().await;
}

#[tokio::test]
async fn what_cannot_come_back_is_refused() {
    let node = node().await;
    let (client, first) = failing(&node).await;
    let wrong = send_back(&client, &back(first + 1)).await;
    assert_eq!(wrong.code, 1);
    assert!(outcome(&wrong).1.contains("no message starts at log offset"), "{:?}", wrong.remark);

    let none =
        GroupConfig { group_name: GROUP.to_owned(), retry_queue_nums: 0, ..GroupConfig::default() };
    client.ok(RequestCode::UpdateAndCreateSubscriptionGroup, &NoFields, json::encode(&none)).await;
    assert_eq!(send_back(&client, &back(first)).await.code, 0, "a group may want no retries");
    assert_eq!(client.pull(&format!("%RETRY%{GROUP}"), 0, 0).await.code, 17);
    node.broker.shutdown().await;

    let node = crate::common::node_with(|config| config.auto_create_group = false).await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    assert_eq!(send_back(&client, &back(0)).await.code, 26);
    node.broker.shutdown().await;
}
