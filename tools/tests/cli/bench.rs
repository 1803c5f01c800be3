//! `mqtool bench`.

use serde_json::Value;

use crate::{fails, json, ok, server::Dev};

const SHORT: [&str; 6] = ["--warm-up", "50ms", "--duration", "300ms", "-o", "json"];

fn bench(dev: &Dev, arguments: &[&str]) -> Value {
    json(&ok(&dev.run(&[&["bench"], arguments, &SHORT].concat()))).remove(0)
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {report}"))
}

/// Messages in a topic.
fn messages(dev: &Dev, topic: &str) -> i64 {
    let shown = json(&ok(&dev.run(&["topic", "show", topic, "-o", "json"]))).remove(0);
    let queues = shown["queues"].as_array().unwrap();
    queues.iter().map(|queue| queue["messages"].as_i64().unwrap()).sum()
}

#[test]
fn what_is_sent_is_stored_and_can_be_read_back() {
    let dev = Dev::start(&[]);
    let pid = dev.pid().to_string();
    let sent = bench(&dev, &["send", "--size", "100", "--queues", "3", "--server-pid", &pid]);
    assert!(number(&sent, "messages") > 0.0, "{sent}");
    assert_eq!((&sent["refused"], &sent["lost"]), (&0.into(), &0.into()));
    assert!(number(&sent, "latency_p50_us") <= number(&sent, "latency_max_us"));
    assert!(number(&sent, "server_cpu_us_per_message") > 0.0, "{sent}");
    assert!(number(&sent, "server_anonymous_memory_bytes") > 100_000.0, "{sent}");
    // Those of the warm-up and the last ones in flight are stored too.
    assert!(messages(&dev, "mqtool-bench") >= sent["messages"].as_i64().unwrap());

    let read = bench(&dev, &["consume", "--connections", "2", "--in-flight", "5"]);
    assert!(number(&read, "messages") > 0.0, "{read}");
    assert_eq!((&read["refused"], &read["lost"]), (&0.into(), &0.into()));
}

#[test]
fn batches_and_both_header_kinds_are_stored() {
    let dev = Dev::start(&[]);
    for (topic, header) in [("a", "json"), ("b", "binary")] {
        let arguments = ["send", "-t", topic, "--batch", "7", "--header", header, "--write-each"];
        let sent = bench(&dev, &arguments);
        let stored = messages(&dev, topic);
        assert!(stored > 0 && stored % 7 == 0, "{stored} messages in batches of 7");
        assert_eq!(number(&sent, "messages"), 7.0 * number(&sent, "requests"));
    }
}

#[test]
fn a_named_broker_is_loaded_without_a_name_server() {
    let dev = Dev::start(&[]);
    let direct = |verb, more: &[&str]| {
        let to_it = ["bench", verb, "--broker", &dev.broker, "-n", "127.0.0.1:1", "-t", "direct"];
        crate::run(&[&to_it, more, &SHORT[..]].concat())
    };
    assert!(fails(&direct("consume", &[]), 3).contains("\"direct\""));
    let sent = json(&ok(&direct("send", &["--queues", "2"]))).remove(0);
    assert!(messages(&dev, "direct") >= sent["messages"].as_i64().unwrap());
    let read = json(&ok(&direct("consume", &["--queues", "2"]))).remove(0);
    assert!(number(&read, "messages") > 0.0, "{read}");
}

#[test]
fn deliveries_are_timed_and_checked() {
    let dev = Dev::start(&[]);
    let own = ["deliver", "--consumers", "5", "--rate", "500", "--size", "100"];
    let own = bench(&dev, &own);
    // 300 ms at 500 a second, each to the one consumer of its queue; a machine that stalls leaves out
    // the last ones.
    assert_eq!(number(&own, "queues"), 5.0);
    assert!((100.0..=150.0).contains(&number(&own, "latency_samples")), "{own}");
    assert!(number(&own, "written_latency_p50_us") <= number(&own, "latency_p50_us"), "{own}");
    let shared = ["deliver", "-t", "shared", "-c", "5", "--queues", "2", "--rate", "500"];
    let shared = bench(&dev, &shared);
    // Turns go to two queues, of which one has three consumers and one has two.
    assert_eq!(number(&shared, "queues"), 2.0);
    assert!((250.0..=375.0).contains(&number(&shared, "latency_samples")), "{shared}");
    for report in [own, shared] {
        for fault in ["deliveries_lost", "deliveries_twice", "deliveries_disordered"] {
            assert_eq!(number(&report, fault), 0.0, "{report}");
        }
    }
    let said = fails(&dev.run(&["bench", "deliver", "--size", "39"]), 2);
    assert!(said.contains("40 bytes"), "{said}");
}

#[test]
fn what_goes_one_way_is_stored() {
    let dev = Dev::start(&[]);
    let sent = bench(&dev, &["send", "--oneway", "--in-flight", "8"]);
    assert_eq!((&sent["not_stored"], &sent["lost"]), (&0.into(), &0.into()));
    assert_eq!(number(&sent, "messages") % 8.0, 0.0);
    assert!(number(&sent, "messages") > number(&sent, "latency_samples"), "{sent}");
}

#[test]
fn topics_are_created() {
    let dev = Dev::start(&[]);
    let arguments =
        ["bench", "topics", "--count", "30", "-w", "4", "--prefix", "made", "-o", "json"];
    let report = json(&ok(&dev.run(&arguments))).remove(0);
    assert_eq!((&report["messages"], &report["latency_samples"]), (&30.into(), &30.into()));
    let listed = ok(&dev.run(&["topic", "ls"]));
    assert_eq!(listed.lines().filter(|line| line.contains("made-")).count(), 30, "{listed}");
}

#[test]
fn the_largest_body_is_sent_and_more_is_refused() {
    let dev = Dev::start(&[]);
    let sent = bench(&dev, &["send", "--size", "4MiB", "-c", "1", "-w", "2"]);
    assert_eq!((&sent["body_bytes"], &sent["refused"]), (&4_194_304.into(), &0.into()));
    assert!(messages(&dev, "mqtool-bench") > 0);
    fails(&dev.run(&["bench", "send", "--size", "5MiB"]), 2);
    let said = fails(&dev.run(&["bench", "send", "--size", "64KiB", "--batch", "1000"]), 2);
    assert!(said.contains("65536000 bytes"), "{said}");
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let dev = Dev::start(&[]);
    let arguments = ["send", "--rate", "2000", "--in-flight", "1000"];
    let sent = bench(&dev, &arguments);
    // 50 ms of warm-up and 300 ms at 2000 a second.
    assert_eq!(messages(&dev, "mqtool-bench") + sent["missed"].as_i64().unwrap(), 700);
}

#[test]
fn a_report_is_readable() {
    let dev = Dev::start(&[]);
    let report = ok(&dev.run(&[&["bench", "send"], &SHORT[..4]].concat()));
    for part in ["closed loop", "messages/s", "p99.99", "generator CPU"] {
        assert!(report.contains(part), "{part:?} is missing in {report}");
    }
}

#[test]
fn nothing_to_read_is_not_found() {
    let dev = Dev::start(&[]);
    fails(&dev.run(&["bench", "consume", "-t", "nothing"]), 3);
    ok(&dev.run(&["topic", "create", "empty"]));
    let said = fails(&dev.run(&["bench", "consume", "-t", "empty"]), 3);
    assert!(said.contains("bench send --topic empty"), "{said}");
}

#[test]
fn refusals_make_it_fail() {
    let dev = Dev::start(&[]);
    ok(&dev.run(&["topic", "create", "closed", "--perm", "r"]));
    let said = fails(&dev.run(&["bench", "send", "-t", "closed"]), 1);
    assert!(said.contains("\"closed\""), "{said}");
    let output = dev.run(&[&["bench", "send", "--server-pid", "4194305"], &SHORT[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(crate::words(&output).contains("4194305"));
}
