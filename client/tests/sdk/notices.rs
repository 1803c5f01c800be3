//! What a consumer does with what its broker tells it: moved and reset offsets. The broker is a
//! fake, as real ones need old data or an operator for that.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::common::{
    fake::{Answer, Fake, offset, ok, pulled, refusal, route},
    until,
};
use basaltmq::Client;
use bytes::Bytes;
use protocol::{
    code::{RequestCode, ResponseCode},
    connection::Connection,
};

/// A broker with one queue of every topic, whose only member the client is. `pull` answers pulls
/// of the topic, given the offset asked for.
async fn cluster(
    pull: impl Fn(i64) -> Answer + Send + Sync + 'static,
) -> (Fake, Fake, Client, Arc<Mutex<Option<Arc<Connection>>>>) {
    let link = Arc::new(Mutex::new(None));
    let member = Arc::new(Mutex::new(String::new()));
    let broker = Fake::start({
        let (link, member) = (Arc::clone(&link), Arc::clone(&member));
        move |code, frame, _, connection| match code {
            RequestCode::HeartBeat => {
                *link.lock().unwrap() = Some(Arc::clone(connection));
                ok()
            }
            RequestCode::GetConsumerListByGroup => {
                let body = format!(r#"{{"consumerIdList":["{}"]}}"#, member.lock().unwrap());
                Answer::Reply(ResponseCode::SUCCESS, Vec::new(), body.into())
            }
            RequestCode::QueryConsumerOffset => offset(3),
            RequestCode::PullMessage if frame.fields.get("topic") == Some("orders") => {
                pull(frame.fields.get("queueOffset").unwrap().parse().unwrap())
            }
            RequestCode::PullMessage => Answer::Silence,
            _ => ok(),
        }
    })
    .await;
    let address = broker.address;
    let name_server = Fake::start(move |_, _, _, _| route(&[address])).await;
    let client = Client::connect(name_server.address.to_string()).await.unwrap();
    client.id().clone_into(&mut member.lock().unwrap());
    (name_server, broker, client, link)
}

#[tokio::test]
async fn a_moved_offset_is_followed() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (_name_server, _broker, client, _) = cluster({
        let asked = Arc::clone(&asked);
        move |from| {
            asked.lock().unwrap().push(from);
            if from == 3 {
                pulled(ResponseCode::PULL_OFFSET_MOVED, 40, Bytes::new())
            } else {
                Answer::Silence
            }
        }
    })
    .await;
    let consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    until("the pull at the new offset", async || *asked.lock().unwrap() == [3, 40]).await;
    drop(consumer);
}

#[tokio::test]
async fn filtered_messages_are_stepped_over_at_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (_name_server, _broker, client, _) = cluster({
        let asked = Arc::clone(&asked);
        move |from| {
            asked.lock().unwrap().push(from);
            if from < 9 {
                pulled(ResponseCode::PULL_RETRY_IMMEDIATELY, from + 2, Bytes::new())
            } else {
                Answer::Silence
            }
        }
    })
    .await;
    let consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    until("the pulls", async || *asked.lock().unwrap() == [3, 5, 7, 9]).await;
    drop(consumer);
}

#[tokio::test]
async fn an_operators_reset_interrupts_a_held_pull() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (_name_server, broker, client, link) = cluster({
        let asked = Arc::clone(&asked);
        move |from| {
            asked.lock().unwrap().push(from);
            Answer::Silence
        }
    })
    .await;
    let consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    until("the first pull", async || *asked.lock().unwrap() == [3]).await;
    let link = link.lock().unwrap().clone().unwrap();
    let body = r#"{"offsetTable":{{"brokerName":"a","queueId":0,"topic":"orders"}:1}}"#;
    let header = [("topic", "orders"), ("group", "mail"), ("timestamp", "0"), ("isForce", "true")];
    link.oneway(RequestCode::ResetConsumerClientOffset, &header, body.into()).unwrap();
    until("the pull at the reset offset", async || *asked.lock().unwrap() == [3, 1]).await;
    until("the commit", async || broker.count(RequestCode::UpdateConsumerOffset) > 0).await;
    drop(consumer);
}

#[tokio::test]
async fn a_refused_pull_is_tried_again_after_a_pause() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (_name_server, _broker, client, _) = cluster({
        let asked = Arc::clone(&asked);
        move |from| {
            let mut asked = asked.lock().unwrap();
            asked.push(tokio::time::Instant::now());
            assert_eq!(from, 3);
            if asked.len() < 3 { refusal(ResponseCode::SYSTEM_ERROR) } else { Answer::Silence }
        }
    })
    .await;
    let consumer = client.consumer("mail").topic("orders").start().await.unwrap();
    until("three pulls", async || asked.lock().unwrap().len() == 3).await;
    let asked = asked.lock().unwrap();
    assert!(asked[1] - asked[0] >= Duration::from_millis(200));
    assert!(asked[2] - asked[1] >= Duration::from_millis(400));
    drop(consumer);
}
