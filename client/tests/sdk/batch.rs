//! Batches: one request, consecutive offsets, each message its own.

use crate::common::{Cluster, bodies, create_topic, take};
use basaltmq::{Error, Message, MessageFault};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_gets_consecutive_offsets_of_one_queue() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 4).await;
    let mut consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    let messages =
        bodies(20).into_iter().map(|body| Message::new("orders", body.clone()).key(body));
    let receipts = producer.send_batch(messages).await.unwrap();
    assert_eq!(receipts.len(), 20);
    for (receipt, offset) in receipts.iter().zip(receipts[0].queue_offset()..) {
        assert_eq!(receipt.queue(), receipts[0].queue());
        assert_eq!(receipt.queue_offset(), offset);
    }
    let deliveries = take(&mut consumer, 20).await;
    for ((delivery, receipt), body) in deliveries.into_iter().zip(&receipts).zip(bodies(20)) {
        assert_eq!(delivery.body(), body.as_bytes());
        assert_eq!(delivery.keys().collect::<Vec<_>>(), [body]);
        assert_eq!(delivery.id(), receipt.id());
        assert_eq!(delivery.offset_id(), receipt.offset_id());
        delivery.ack();
    }
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_cannot_be_stored_as_one_is_refused() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let producer = client.producer("shop").build().await.unwrap();
    let fault = async |messages: Vec<Message>| match producer.send_batch(messages).await {
        Err(Error::Message { fault, .. }) => fault,
        other => panic!("{other:?}"),
    };
    assert_eq!(fault(vec![]).await, MessageFault::EmptyBatch);
    let mixed = vec![Message::new("a", "1"), Message::new("b", "1")];
    assert_eq!(fault(mixed).await, MessageFault::Mixed { what: "topics" });
    let large = vec![Message::new("a", vec![0; 3 << 20]); 2];
    assert!(matches!(fault(large).await, MessageFault::TooLarge { .. }));
    client.close().await;
    cluster.stop().await;
}
