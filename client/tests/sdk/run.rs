//! Handlers: many at a time, failures and panics come back, closing waits for them.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::common::{Cluster, bodies, create_topic, send_all, soon, until};
use basaltmq::Position;

#[tokio::test(flavor = "multi_thread")]
async fn handlers_run_side_by_side_and_every_message_is_handled() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 4).await;
    send_all(&client, "orders", &bodies(100)).await;
    let consumer =
        client.consumer("mail").topic("orders").start_at(Position::First).start().await.unwrap();
    let closer = consumer.closer();
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let handled = Arc::new(Mutex::new(Vec::new()));
    let run = tokio::spawn(consumer.run(
        {
            let (running, most, handled) =
                (Arc::clone(&running), Arc::clone(&most), Arc::clone(&handled));
            move |message| {
                let (running, most, handled) =
                    (Arc::clone(&running), Arc::clone(&most), Arc::clone(&handled));
                async move {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    handled.lock().unwrap().push(String::from_utf8(message.body().to_vec()));
                    Ok::<(), String>(())
                }
            }
        },
        8,
    ));
    until("all messages to be handled", async || handled.lock().unwrap().len() == 100).await;
    closer.close().await;
    soon("the end of the run", run).await.unwrap();
    let mut handled: Vec<_> = handled.lock().unwrap().drain(..).map(|body| body.unwrap()).collect();
    handled.sort();
    assert_eq!(handled, bodies(100));
    let most = most.load(Ordering::SeqCst);
    assert!((2..=8).contains(&most), "{most} at a time");

    let lag = client.admin().group_lag("mail").await.unwrap();
    let orders: i64 =
        lag.queues.iter().filter(|lag| lag.queue.topic() == "orders").map(|lag| lag.lag()).sum();
    assert_eq!(orders, 0, "everything was committed: {lag:?}");
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_and_a_panicked_message_come_again() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &["fails".to_owned(), "panics".to_owned()]).await;
    let consumer = client
        .consumer("mail")
        .topic("orders")
        .start_at(Position::First)
        .redelivery_delay(Duration::from_millis(50))
        .start()
        .await
        .unwrap();
    let closer = consumer.closer();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let run = tokio::spawn(consumer.run(
        {
            let seen = Arc::clone(&seen);
            move |message| {
                let body = String::from_utf8(message.body().to_vec()).unwrap();
                let first = !seen.lock().unwrap().contains(&body);
                seen.lock().unwrap().push(body.clone());
                async move {
                    match (first, &*body) {
                        (true, "panics") => panic!("as the test wants"),
                        (true, _) => Err("as the test wants"),
                        (false, _) => Ok(()),
                    }
                }
            }
        },
        1,
    ));
    until("both messages to come again", async || {
        let seen = seen.lock().unwrap();
        ["fails", "panics"].iter().all(|body| seen.iter().filter(|seen| seen == body).count() == 2)
    })
    .await;
    closer.close().await;
    soon("the end of the run", run).await.unwrap();
    client.close().await;
    cluster.stop().await;
}
