//! One message is found by key, by either id, and by offset.

use crate::common::{Cluster, bodies, create_topic, send_all, until};
use basaltmq::{Error, ErrorKind, Message, Queue, SearchWindow};

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_found_by_key_ids_and_offset() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 2).await;
    send_all(&client, "orders", &bodies(20)).await;
    let producer = client.producer("shop").build().await.unwrap();
    let receipt =
        producer.send(Message::new("orders", "wanted").key("4711").key("4712")).await.unwrap();

    for key in ["4711", "4712", receipt.id()] {
        let found = client.find_by_key("orders", key, SearchWindow::default()).await.unwrap();
        let ids: Vec<_> = found.messages.iter().map(|message| message.id()).collect();
        assert_eq!(ids, [receipt.id()], "by {key}");
        assert_eq!(found.brokers.len(), 2);
        assert!(found.brokers.iter().all(|broker| broker.outcome.is_ok()));
    }
    for id in [receipt.id(), receipt.offset_id()] {
        let found = client.message_by_id(id, Some("orders")).await.unwrap();
        assert_eq!(&found.body()[..], b"wanted");
        assert_eq!(found.queue(), receipt.queue());
    }
    let found = client.message_at(receipt.queue(), receipt.queue_offset()).await.unwrap();
    assert_eq!(found.id(), receipt.id());
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_reported_as_not_found() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &bodies(3)).await;
    let found = client.find_by_key("orders", "nowhere", SearchWindow::default()).await.unwrap();
    assert!(found.messages.is_empty());
    let [answer] = &found.brokers[..] else { panic!("{found:?}") };
    let progress = answer.outcome.as_ref().unwrap();
    assert_eq!(progress.found, 0);
    assert!(progress.indexed_to > 0, "the index reaches {progress:?}");

    let queue = Queue::new("orders", "broker-0", 0);
    let outcomes = [
        client.message_at(&queue, 99).await.map(drop),
        client.message_by_id(&"0".repeat(32), Some("orders")).await.map(drop),
        client.message_by_id("0A00000910E10BD2C1A9481908000007", None).await.map(drop),
        client.find_by_key("no-such-topic", "k", SearchWindow::default()).await.map(drop),
        client.message_at(&Queue::new("orders", "broker-9", 0), 0).await.map(drop),
        client.message_at(&Queue::new("orders", "broker-0", 9), 0).await.map(drop),
    ];
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{index}: {error}");
    }
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_down_is_named_in_the_answer() {
    let mut cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &bodies(2)).await;
    let stopped = cluster.broker_address(1).to_string();
    // Learnt while both live; the route is not read again before the query.
    assert_eq!(client.queues("orders").await.unwrap().len(), 2);
    cluster.stop_broker(1).await;
    let found = client.find_by_key("orders", "k", SearchWindow::default()).await.unwrap();
    let failed: Vec<_> = found.brokers.iter().filter(|broker| broker.outcome.is_err()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].address, stopped);
    assert!(matches!(failed[0].outcome, Err(Error::BrokerUnreachable { .. })));
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_reads_at_any_offset_and_time() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &bodies(10)).await;
    let reader = client.reader(Queue::new("orders", "broker-0", 0));
    assert_eq!((reader.min().await.unwrap(), reader.max().await.unwrap()), (0, 10));
    let page = reader.read(4, 3).await.unwrap();
    let offsets: Vec<_> = page.messages.iter().map(|message| message.queue_offset()).collect();
    assert_eq!((offsets, page.next, page.max), (vec![4, 5, 6], 7, 10));
    let time = page.messages[0].store_timestamp_ms();
    assert!(reader.offset_at_time(time).await.unwrap() <= 4);
    assert_eq!(reader.offset_at_time(i64::MAX).await.unwrap(), 10);
    let beyond = reader.read(99, 1).await.unwrap();
    assert_eq!((beyond.messages.len(), beyond.next), (0, 10));

    let waiting = tokio::spawn({
        let reader = reader.clone();
        async move { reader.read_or_wait(10, 1, std::time::Duration::from_secs(10)).await }
    });
    send_all(&client, "orders", &["tail".to_owned()]).await;
    let page = waiting.await.unwrap().unwrap();
    assert_eq!(page.messages[0].body(), "tail");
    until("no group to be left behind", async || {
        let groups = client.admin().groups().await.unwrap();
        groups.iter().all(|group| !group.name.contains("reader"))
    })
    .await;
    client.close().await;
    cluster.stop().await;
}
