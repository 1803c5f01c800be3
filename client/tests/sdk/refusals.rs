//! What a producer does with brokers that refuse or hang. The brokers are fakes: real ones do
//! neither when a test wants them to.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::common::fake::{Answer, Fake, ok, refusal, route, sent};
use basaltmq::{Client, Error, Message, Producer, ResponseCode, SendStatus};
use protocol::code::RequestCode;

/// Two brokers, of which `a` answers sends with `first`, and a producer on them.
async fn two_brokers(
    first: impl Fn() -> Answer + Send + Sync + 'static,
    settings: impl FnOnce(basaltmq::ProducerBuilder) -> basaltmq::ProducerBuilder,
) -> (Fake, Fake, Fake, Client, Producer) {
    let broker = async |answer: Box<dyn Fn() -> Answer + Send + Sync>| {
        Fake::start(move |code, _, _, _| match code {
            RequestCode::SendMessageV2 => answer(),
            _ => ok(),
        })
        .await
    };
    let (a, b) = (broker(Box::new(first)).await, broker(Box::new(sent)).await);
    let brokers = [a.address, b.address];
    let name_server = Fake::start(move |_, _, _, _| route(&brokers)).await;
    let client = Client::connect(name_server.address.to_string()).await.unwrap();
    let producer = settings(client.producer("shop")).build().await.unwrap();
    (name_server, a, b, client, producer)
}

async fn send_some(producer: &Producer, count: usize) {
    for _ in 0..count {
        let receipt = producer.send(Message::new("orders", "body")).await.unwrap();
        assert_eq!(receipt.queue().broker(), "b");
        assert_eq!(receipt.queue_offset(), 7);
    }
}

#[tokio::test]
async fn what_one_broker_is_too_busy_for_another_one_takes() {
    let (_name_server, a, b, _client, producer) =
        two_brokers(|| refusal(ResponseCode::SYSTEM_BUSY), |builder| builder).await;
    send_some(&producer, 4).await;
    assert!(a.count(RequestCode::SendMessageV2) >= 1, "its turn came");
    assert_eq!(b.count(RequestCode::SendMessageV2), 4);
}

#[tokio::test]
async fn an_illegal_message_is_not_sent_again() {
    let (_name_server, a, b, _client, producer) =
        two_brokers(|| refusal(ResponseCode::MESSAGE_ILLEGAL), |builder| builder).await;
    let mut refused = 0;
    for _ in 0..4 {
        match producer.send(Message::new("orders", "body")).await {
            Ok(_) => {}
            Err(Error::Refused { code, remark, .. }) => {
                assert_eq!(code, ResponseCode::MESSAGE_ILLEGAL);
                assert_eq!(remark, "as the test wants");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 2, "every second turn");
    assert_eq!(a.count(RequestCode::SendMessageV2), 2);
    assert_eq!(b.count(RequestCode::SendMessageV2), 2);
}

#[tokio::test]
async fn a_broker_that_hangs_costs_half_of_the_timeout_once() {
    let (_name_server, a, _b, _client, producer) =
        two_brokers(|| Answer::Silence, |builder| builder.send_timeout(Duration::from_secs(1)))
            .await;
    let started = Instant::now();
    send_some(&producer, 10).await;
    let took = started.elapsed();
    assert_eq!(a.count(RequestCode::SendMessageV2), 1, "then it is stepped over");
    assert!(took < Duration::from_millis(900), "10 sends took {took:?}");
}

#[tokio::test]
async fn without_retries_the_first_failure_is_the_last() {
    let (_name_server, a, b, _client, producer) =
        two_brokers(|| refusal(ResponseCode::SYSTEM_BUSY), |builder| builder.retries(0)).await;
    let mut failed = 0;
    for _ in 0..4 {
        failed += usize::from(producer.send(Message::new("orders", "body")).await.is_err());
    }
    assert_eq!((failed, a.count(RequestCode::SendMessageV2)), (2, 2));
    assert_eq!(b.count(RequestCode::SendMessageV2), 2);
}

#[tokio::test]
async fn stored_but_not_yet_safe_counts_as_sent() {
    for (code, status) in [
        (ResponseCode::FLUSH_DISK_TIMEOUT, SendStatus::FlushDiskTimeout),
        (ResponseCode::FLUSH_SLAVE_TIMEOUT, SendStatus::FlushSlaveTimeout),
        (ResponseCode::SLAVE_NOT_AVAILABLE, SendStatus::SlaveNotAvailable),
    ] {
        let (_name_server, _a, _b, _client, producer) = two_brokers(
            move || match sent() {
                Answer::Reply(_, fields, body) => Answer::Reply(code, fields, body),
                silence => silence,
            },
            |builder| builder,
        )
        .await;
        let mut statuses = Vec::new();
        for _ in 0..2 {
            let receipt = producer.send(Message::new("orders", "body")).await.unwrap();
            statuses.push(receipt.status());
        }
        assert!(statuses.contains(&status), "{statuses:?}");
    }
}

#[tokio::test]
async fn all_tries_carry_the_same_id() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let broker = Fake::start({
        let ids = Arc::clone(&ids);
        move |code, frame, before, _| match code {
            RequestCode::SendMessageV2 => {
                let properties = frame.fields.get("i").unwrap().to_owned();
                let id = protocol::property::find(&properties, "UNIQ_KEY").unwrap().to_owned();
                ids.lock().unwrap().push(id);
                if before < 2 { refusal(ResponseCode::SYSTEM_BUSY) } else { sent() }
            }
            _ => ok(),
        }
    })
    .await;
    let address = broker.address;
    let name_server = Fake::start(move |_, _, _, _| route(&[address])).await;
    let client = Client::connect(name_server.address.to_string()).await.unwrap();
    let producer = client.producer("shop").build().await.unwrap();
    let receipt = producer.send(Message::new("orders", "body")).await.unwrap();
    assert_eq!(*ids.lock().unwrap(), vec![receipt.id().to_owned(); 3]);
}
