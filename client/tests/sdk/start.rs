//! Where a new group starts, and how a failed message goes back. The broker is a fake that knows no
//! offsets: real ones start new groups on young topics at the beginning.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use basaltmq::{Client, Position};
use bytes::BytesMut;
use protocol::{
    code::{RequestCode, ResponseCode},
    record::{NewRecord, patch},
};

use crate::common::{
    fake::{Answer, Fake, offset, ok, pulled, refusal, route},
    soon, until,
};

#[tokio::test]
async fn a_new_group_starts_where_it_is_told() {
    for (position, expected) in
        [(Position::First, 0), (Position::Last, 17), (Position::Timestamp(1_700_000_000_000), 12)]
    {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let broker = Fake::start({
            let asked = Arc::clone(&asked);
            move |code, frame, _, _| match code {
                RequestCode::QueryConsumerOffset => refusal(ResponseCode::QUERY_NOT_FOUND),
                RequestCode::GetMaxOffset => offset(17),
                RequestCode::SearchOffsetByTimestamp => {
                    assert_eq!(frame.fields.get("timestamp"), Some("1700000000000"));
                    offset(12)
                }
                RequestCode::PullMessage => {
                    let from: i64 = frame.fields.get("queueOffset").unwrap().parse().unwrap();
                    asked.lock().unwrap().push(from);
                    Answer::Silence
                }
                _ => ok(),
            }
        })
        .await;
        let address = broker.address;
        let name_server = Fake::start(move |_, _, _, _| route(&[address])).await;
        let client = Client::connect(name_server.address.to_string()).await.unwrap();
        // Broadcasting needs no list of members.
        let consumer = client.consumer("screens").topic("prices").broadcasting();
        let consumer = consumer.start_at(position).start().await.unwrap();
        until("the first pull", async || !asked.lock().unwrap().is_empty()).await;
        assert_eq!(*asked.lock().unwrap(), [expected], "{position:?}");
        drop(consumer);
    }
}

#[tokio::test]
async fn a_failed_message_goes_back_to_its_broker_and_is_passed() {
    let member = Arc::new(Mutex::new(String::new()));
    let returned = Arc::new(Mutex::new(Vec::new()));
    let broker = Fake::start({
        let (member, returned) = (Arc::clone(&member), Arc::clone(&returned));
        move |code, frame, before, _| match code {
            RequestCode::GetConsumerListByGroup => {
                let body = format!(r#"{{"consumerIdList":["{}"]}}"#, member.lock().unwrap());
                Answer::Reply(ResponseCode::SUCCESS, Vec::new(), body.into())
            }
            RequestCode::QueryConsumerOffset => offset(5),
            RequestCode::PullMessage if frame.fields.get("topic") == Some("orders") => {
                if frame.fields.get("queueOffset") == Some("5") {
                    pulled(ResponseCode::SUCCESS, 6, record(5, 4096))
                } else {
                    Answer::Silence
                }
            }
            RequestCode::PullMessage => Answer::Silence,
            RequestCode::ConsumerSendMsgBack => {
                let field = |name| frame.fields.get(name).unwrap().to_owned();
                let fields = [field("offset"), field("group"), field("originTopic")];
                returned
                    .lock()
                    .unwrap()
                    .push((fields, frame.fields.get("maxReconsumeTimes").map(str::to_owned)));
                // The first try fails, so the message must be handed out again.
                if before == 0 { refusal(ResponseCode::SYSTEM_ERROR) } else { ok() }
            }
            _ => ok(),
        }
    })
    .await;
    let address = broker.address;
    let name_server = Fake::start(move |_, _, _, _| route(&[address])).await;
    let client = Client::connect(name_server.address.to_string()).await.unwrap();
    client.id().clone_into(&mut member.lock().unwrap());
    let consumer = client
        .consumer("mail")
        .topic("orders")
        .max_attempts(3)
        .redelivery_delay(Duration::from_millis(20))
        .start()
        .await
        .unwrap();
    let closer = consumer.closer();
    let run = tokio::spawn(consumer.run(|_| async { Err::<(), _>("as the test wants") }, 1));
    until("the return", async || returned.lock().unwrap().len() == 2).await;
    let expected = ["4096", "mail", "orders"].map(str::to_owned);
    for back in returned.lock().unwrap().iter() {
        assert_eq!(*back, (expected.clone(), Some("3".to_owned())));
    }
    soon("the end", closer.close()).await;
    run.await.unwrap();
    assert!(broker.count(RequestCode::UpdateConsumerOffset) > 0, "offset 6 is committed");
}

fn record(queue_offset: i64, log_offset: i64) -> bytes::Bytes {
    let host = SocketAddr::from(([127, 0, 0, 1], 10911));
    let mut out = BytesMut::new();
    NewRecord {
        topic: "orders",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: b"body",
        properties: &[],
    }
    .encode(&mut out)
    .unwrap();
    patch(&mut out, queue_offset, log_offset, 2).unwrap();
    out.freeze()
}
