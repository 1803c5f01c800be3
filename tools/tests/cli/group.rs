//! `mqtool group`.

use basaltmq::{Client, Position};

use crate::{fails, json, ok, server::Dev};

/// Consumes some messages of a topic as a group, and leaves.
fn consume(namesrv: &str, group: &str, topic: &str, count: usize) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(namesrv).await.unwrap();
        let builder = client.consumer(group).topic(topic).start_at(Position::First);
        let mut consumer = builder.start().await.unwrap();
        for _ in 0..count {
            consumer.next().await.unwrap().ack();
        }
        consumer.close().await;
        client.close().await;
    });
}

#[test]
fn lag_is_what_was_sent_and_not_consumed() {
    let dev = Dev::start(&[]);
    ok(&dev.run(&["topic", "create", "orders", "--queues", "1"]));
    ok(&dev.run_with(&["msg", "send", "--topic", "orders", "-"], b"a\nb\nc\n"));
    consume(&dev.namesrv, "mail", "orders", 3);
    ok(&dev.run_with(&["msg", "send", "--topic", "orders", "-"], b"d\ne\n"));

    let groups = json(&ok(&dev.run(&["group", "ls", "-o", "json"])));
    assert_eq!(groups.len(), 1, "{groups:?}");
    assert_eq!(groups[0]["group"], "mail");
    let all = json(&ok(&dev.run(&["group", "ls", "--all", "-o", "json"])));
    assert!(all.iter().any(|row| row["group"] == "mail"), "{all:?}");

    let all = json(&ok(&dev.run(&["group", "lag", "-o", "json"])));
    let orders = all.iter().find(|row| row["topic"] == "orders").unwrap();
    assert_eq!((&orders["group"], &orders["lag"]), (&"mail".into(), &2.into()));

    let queues = json(&ok(&dev.run(&["group", "lag", "mail", "-o", "json"])));
    let queue = queues.iter().find(|row| row["topic"] == "orders").unwrap();
    assert_eq!((&queue["consumer_offset"], &queue["max_offset"]), (&3.into(), &5.into()));
    assert!(ok(&dev.run(&["group", "lag", "mail"])).starts_with("TOPIC"));
}

#[test]
fn an_unknown_group_is_not_found() {
    let dev = Dev::start(&[]);
    let said = fails(&dev.run(&["group", "lag", "nobody"]), 3);
    assert!(said.contains("\"nobody\"") && said.contains("group ls"), "{said}");
}
