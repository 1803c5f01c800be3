//! `mqtool topic`.

use crate::{fails, json, ok, server::Dev};

fn names(listed: &str) -> Vec<String> {
    json(listed).iter().map(|topic| topic["topic"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_topic_is_created_shown_and_deleted() {
    let dev = Dev::start(&[]);
    assert_eq!(ok(&dev.run(&["topic", "ls", "-o", "json"])), "");
    ok(&dev.run(&["topic", "create", "orders", "--queues", "3", "--perm", "r"]));
    assert_eq!(names(&ok(&dev.run(&["topic", "ls", "-o", "json"]))), ["orders"]);
    let table = ok(&dev.run(&["topic", "ls"]));
    assert_eq!(table.split_whitespace().collect::<Vec<_>>(), ["TOPIC", "KIND", "orders", "normal"]);

    let shown = json(&ok(&dev.run(&["topic", "show", "orders", "-o", "json"]))).remove(0);
    let broker = &shown["brokers"][0];
    assert_eq!((&broker["read_queues"], &broker["permission"]), (&3.into(), &"r".into()));
    assert_eq!(broker["address"], dev.broker.as_str());
    assert_eq!(shown["queues"].as_array().unwrap().len(), 3);

    ok(&dev.run(&["topic", "delete", "orders"]));
    assert_eq!(ok(&dev.run(&["topic", "ls", "-o", "json"])), "");
    fails(&dev.run(&["topic", "show", "orders"]), 3);
}

#[test]
fn queues_are_shown_with_their_bounds() {
    let dev = Dev::start(&[]);
    ok(&dev.run(&["topic", "create", "orders", "--queues", "1"]));
    ok(&dev.run_with(&["msg", "send", "--topic", "orders", "-"], b"a\nb\nc\n"));
    let shown = json(&ok(&dev.run(&["topic", "show", "orders", "-o", "json"]))).remove(0);
    let queue = &shown["queues"][0];
    assert_eq!((&queue["min_offset"], &queue["max_offset"]), (&0.into(), &3.into()));
    assert!(queue["last_stored_ms"].as_i64().unwrap() > 0);
    let table = ok(&dev.run(&["topic", "show", "orders"]));
    assert!(table.contains("READ QUEUES") && table.contains("MAX OFFSET"), "{table}");
}

#[test]
fn creating_again_changes() {
    let dev = Dev::start(&[]);
    ok(&dev.run(&["topic", "create", "orders", "--queues", "1"]));
    ok(&dev.run(&["topic", "create", "orders", "--queues", "5"]));
    let shown = json(&ok(&dev.run(&["topic", "show", "orders", "-o", "json"]))).remove(0);
    assert_eq!(shown["queues"].as_array().unwrap().len(), 5);
}

#[test]
fn all_topics_are_more_than_those_of_users() {
    let dev = Dev::start(&[]);
    let all = json(&ok(&dev.run(&["topic", "ls", "--all", "-o", "json"])));
    assert!(all.iter().any(|topic| topic["topic"] == "TBW102" && topic["kind"] == "system"));
    assert!(all.iter().all(|topic| topic["kind"] != "normal"), "{all:?}");
}

#[test]
fn unknown_and_impossible_topics_are_refused() {
    let dev = Dev::start(&[]);
    for verb in ["show", "delete"] {
        let said = fails(&dev.run(&["topic", verb, "nothing"]), 3);
        assert!(said.contains("\"nothing\"") && said.contains("topic ls"), "{said}");
    }
    let said = fails(&dev.run(&["topic", "create", "../../x"]), 2);
    assert!(said.contains("../../x"), "{said}");
    fails(&dev.run(&["topic", "create", "x", "--queues", "0"]), 2);
    fails(&dev.run(&["topic", "create", "x", "--perm", "x"]), 2);
}
