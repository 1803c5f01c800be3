//! Pulling: codes and offsets of every outcome, filters, offsets that ride along, and waiting.

use std::time::{Duration, Instant};

use bytes::Bytes;
use protocol::{
    code::RequestCode,
    request::{
        offset::Query,
        pull::{Pull, flag},
    },
};

use crate::common::{GROUP, PATIENCE, TOPIC, bodies, node, node_with, number, outcome, pull};

#[tokio::test]
async fn every_offset_has_its_code_and_next_step() {
    let node = node().await;
    let client = node.client().await;
    for n in 0..40 {
        client.put(TOPIC, 0, &n.to_string(), &[]).await;
    }
    for (offset, code, status, next) in [
        (0, 0, "FOUND", 32),
        (32, 0, "FOUND", 40),
        (40, 19, "OFFSET_OVERFLOW_ONE", 40),
        (41, 21, "OFFSET_OVERFLOW_BADLY", 40),
        (1_000_000, 21, "OFFSET_OVERFLOW_BADLY", 40),
        (-1, 21, "OFFSET_TOO_SMALL", 0),
    ] {
        let answer = client.pull(TOPIC, 0, offset).await;
        assert_eq!((answer.code, outcome(&answer).1), (code, status), "offset {offset}");
        assert_eq!(number(&answer, "nextBeginOffset"), next, "offset {offset}");
        assert_eq!(number(&answer, "minOffset"), 0);
        assert_eq!(number(&answer, "maxOffset"), 40);
        assert_eq!(number(&answer, "suggestWhichBrokerId"), 0);
        assert_eq!(number(&answer, "topicSysFlag"), 0);
        assert_eq!(number(&answer, "groupSysFlag"), 0);
        assert_eq!(answer.body.is_empty(), code != 0);
    }
    for (offset, code, next) in [(0, 19, 0), (5, 21, 0)] {
        let answer = client.pull(TOPIC, 1, offset).await;
        assert_eq!((answer.code, outcome(&answer).1), (code, "NO_MESSAGE_IN_QUEUE"));
        assert_eq!(number(&answer, "nextBeginOffset"), next);
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_pull_is_bounded_by_count_and_bytes() {
    let node = node().await;
    let client = node.client().await;
    let body = "x".repeat(10_000);
    for _ in 0..50 {
        client.put(TOPIC, 0, &body, &[]).await;
    }
    let few = Pull { max_messages: 3, ..pull(TOPIC, 0, 0) };
    assert_eq!(bodies(&client.ok(RequestCode::PullMessage, &few, Bytes::new()).await).len(), 3);
    let all = client.pull(TOPIC, 0, 0).await;
    assert_eq!(number(&all, "nextBeginOffset"), i64::try_from(bodies(&all).len()).unwrap());
    assert!(all.body.len() <= 256 * 1024 && bodies(&all).len() > 20, "{}", bodies(&all).len());
    let small = Pull { max_bytes: Some(1), ..pull(TOPIC, 0, 0) };
    let one = client.ok(RequestCode::PullMessage, &small, Bytes::new()).await;
    assert_eq!(bodies(&one).len(), 1, "at least one message, however large");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn refusals_have_their_codes() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    let call = async |header: Pull<'static>| {
        client.call(RequestCode::PullMessage, &header, Bytes::new()).await
    };
    let base = || pull(TOPIC, 0, 0);
    for (header, code, words) in [
        (pull("Missing", 0, 0), 17, "Missing does not exist"),
        (pull(TOPIC, 9, 0), 29, "there is no queue 9"),
        (pull(TOPIC, -1, 0), 29, "there is no queue -1"),
        (Pull { subscription: Some("||"), ..base() }, 23, "names no tag"),
        (Pull { sys_flag: 0, ..base() }, 24, "is not subscribed"),
        (
            Pull { expression_type: Some("SQL92"), subscription: Some("a > 1"), ..base() },
            1,
            "SQL92",
        ),
        (Pull { consumer_group: "bad group", ..base() }, 29, "bad group"),
    ] {
        let answer = call(header).await;
        assert_eq!(answer.code, code, "{:?}", answer.remark);
        assert!(outcome(&answer).1.contains(words), "{:?}", answer.remark);
    }
    node.broker.shutdown().await;

    let node = node_with(|config| config.auto_create_group = false).await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    assert_eq!(client.pull(TOPIC, 0, 0).await.code, 26);
    node.broker.shutdown().await;

    let node = node_with(|config| config.permission = 2).await;
    let client = node.client().await;
    client.put(TOPIC, 0, "x", &[]).await;
    let answer = client.pull(TOPIC, 0, 0).await;
    assert_eq!(answer.code, 16);
    assert_eq!(answer.fields.get("forbiddenType"), Some("1"));
    node.broker.shutdown().await;
}

#[tokio::test]
async fn tags_are_filtered_by_hash_and_passed_over() {
    let node = node().await;
    let client = node.client().await;
    for (body, tag) in
        [("a1", "TagA"), ("b1", "TagB"), ("a2", "TagA"), ("none", ""), ("c1", "TagC")]
    {
        let tags = [("TAGS", tag)];
        client.put(TOPIC, 0, body, if tag.is_empty() { &[] } else { &tags }).await;
    }
    let tagged = async |expression: &'static str, offset| {
        let header = Pull { subscription: Some(expression), ..pull(TOPIC, 0, offset) };
        client.call(RequestCode::PullMessage, &header, Bytes::new()).await
    };
    let found = tagged("TagA || TagC", 0).await;
    assert_eq!(bodies(&found), ["a1", "a2", "c1"]);
    assert_eq!(number(&found, "nextBeginOffset"), 5);
    assert_eq!(bodies(&tagged("TagA", 0).await), ["a1", "a2"]);
    assert_eq!(
        number(&tagged("TagA", 0).await, "nextBeginOffset"),
        5,
        "filtered ones are passed over"
    );
    let none = tagged("TagX", 0).await;
    assert_eq!((none.code, outcome(&none).1), (20, "NO_MATCHED_MESSAGE"));
    assert_eq!(number(&none, "nextBeginOffset"), 5);
    assert_eq!(bodies(&tagged("*", 0).await).len(), 5);
    let by_class = Pull {
        sys_flag: flag::SUBSCRIPTION | flag::CLASS_FILTER,
        subscription: Some("TagX"),
        ..pull(TOPIC, 0, 0)
    };
    let all = client.ok(RequestCode::PullMessage, &by_class, Bytes::new()).await;
    assert_eq!(bodies(&all).len(), 5, "the client filters by itself");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_pull_commits_the_offset_that_it_carries() {
    let node = node().await;
    let client = node.client().await;
    for _ in 0..5 {
        client.put(TOPIC, 0, "x", &[]).await;
    }
    let query = Query {
        consumer_group: GROUP,
        topic: TOPIC,
        queue_id: 0,
        set_zero_if_not_found: Some(false),
    };
    let committing = Pull {
        sys_flag: flag::SUBSCRIPTION | flag::COMMIT_OFFSET,
        commit_offset: 3,
        ..pull(TOPIC, 0, 3)
    };
    let ignored = Pull { sys_flag: flag::SUBSCRIPTION, ..committing.clone() };
    client.ok(RequestCode::PullMessage, &ignored, Bytes::new()).await;
    assert_eq!(client.call(RequestCode::QueryConsumerOffset, &query, Bytes::new()).await.code, 22);
    client.ok(RequestCode::PullMessage, &committing, Bytes::new()).await;
    let committed = client.ok(RequestCode::QueryConsumerOffset, &query, Bytes::new()).await;
    assert_eq!(number(&committed, "offset"), 3);
    node.broker.shutdown().await;
}

fn held(offset: i64, timeout_ms: i64) -> Pull<'static> {
    Pull {
        sys_flag: flag::SUBSCRIPTION | flag::SUSPEND,
        suspend_timeout_ms: timeout_ms,
        ..pull(TOPIC, 0, offset)
    }
}

/// Sends the pull and returns when the broker holds it: a request behind it has been answered.
async fn hold(
    client: &crate::common::Client,
    header: Pull<'static>,
) -> tokio::task::JoinHandle<protocol::frame::Frame> {
    let connection = std::sync::Arc::clone(&client.connection);
    let task = tokio::spawn(async move {
        connection.request(RequestCode::PullMessage, &header, Bytes::new(), PATIENCE).await.unwrap()
    });
    tokio::task::yield_now().await;
    client.pull(TOPIC, 1, 0).await;
    task
}

#[tokio::test]
async fn a_held_pull_is_woken_by_a_message_within_100_ms() {
    let node = node().await;
    let (consumer, producer) = (node.client().await, node.client().await);
    producer.put(TOPIC, 1, "elsewhere", &[]).await;
    for n in 0..10 {
        let task = hold(&consumer, held(n, 9_000)).await;
        let sent = Instant::now();
        producer.put(TOPIC, 0, "news", &[]).await;
        let answer = task.await.unwrap();
        let took = sent.elapsed();
        assert_eq!(bodies(&answer), ["news"]);
        assert!(took < Duration::from_millis(100), "woken after {took:?}");
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_held_pull_that_waits_in_vain_is_answered_in_time() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 1, "elsewhere", &[]).await;
    let started = Instant::now();
    let answer = client.call(RequestCode::PullMessage, &held(0, 300), Bytes::new()).await;
    let took = started.elapsed();
    assert_eq!((answer.code, outcome(&answer).1), (19, "NO_MESSAGE_IN_QUEUE"));
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(3), "{took:?}");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_held_pull_waits_for_a_tag_that_it_wants() {
    let node = node().await;
    let (consumer, producer) = (node.client().await, node.client().await);
    producer.put(TOPIC, 1, "elsewhere", &[]).await;
    let task = hold(&consumer, Pull { subscription: Some("TagB"), ..held(0, 9_000) }).await;
    for _ in 0..3 {
        producer.put(TOPIC, 0, "unwanted", &[("TAGS", "TagA")]).await;
    }
    producer.put(TOPIC, 0, "wanted", &[("TAGS", "TagB")]).await;
    let answer = task.await.unwrap();
    assert_eq!(bodies(&answer), ["wanted"]);
    assert_eq!(number(&answer, "nextBeginOffset"), 4);

    let vain = Pull { subscription: Some("TagB"), ..held(4, 300) };
    let task = hold(&consumer, vain).await;
    producer.put(TOPIC, 0, "unwanted", &[("TAGS", "TagA")]).await;
    let answer = task.await.unwrap();
    assert_eq!((answer.code, outcome(&answer).1), (20, "NO_MATCHED_MESSAGE"));
    assert_eq!(number(&answer, "nextBeginOffset"), 5, "what was passed over is not read again");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn the_number_of_held_pulls_is_bounded() {
    let node = node_with(|config| config.held_pulls_max = 1).await;
    let client = node.client().await;
    client.put(TOPIC, 1, "elsewhere", &[]).await;
    let first = hold(&client, held(0, 9_000)).await;
    let second = client.call(RequestCode::PullMessage, &held(0, 9_000), Bytes::new()).await;
    assert_eq!(second.code, 2, "{:?}", second.remark);
    client.put(TOPIC, 0, "news", &[]).await;
    assert_eq!(bodies(&first.await.unwrap()), ["news"]);
    let third = hold(&client, held(1, 9_000)).await;
    client.put(TOPIC, 0, "more", &[]).await;
    assert_eq!(bodies(&third.await.unwrap()), ["more"], "the place was given back");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_stopping_broker_answers_held_pulls() {
    let node = node().await;
    let client = node.client().await;
    client.put(TOPIC, 1, "elsewhere", &[]).await;
    let task = hold(&client, held(0, 60_000)).await;
    let started = Instant::now();
    node.broker.shutdown().await;
    assert_eq!(task.await.unwrap().code, 19);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn without_long_polling_a_pull_waits_a_moment_only() {
    let node = node_with(|config| {
        config.long_poll = false;
        config.short_poll_ms = 50;
    })
    .await;
    let client = node.client().await;
    client.put(TOPIC, 1, "elsewhere", &[]).await;
    let started = Instant::now();
    let answer = client.call(RequestCode::PullMessage, &held(0, 9_000), Bytes::new()).await;
    assert_eq!(answer.code, 19);
    assert!(started.elapsed() < Duration::from_secs(5));
    node.broker.shutdown().await;
}
