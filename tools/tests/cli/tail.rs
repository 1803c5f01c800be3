//! `mqtool msg tail`.

use std::{
    io::{BufRead, BufReader},
    process::Child,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{json, ok, server::Dev};

fn bodies(data: &str) -> Vec<String> {
    json(data).iter().map(|message| message["body"].as_str().unwrap().to_owned()).collect()
}

/// Reads a line that a running command prints.
fn line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut stdout = BufReader::with_capacity(1, child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    child.stdout = Some(stdout.into_inner());
    line
}

#[test]
fn it_prints_what_arrives_while_it_runs() {
    let dev = Dev::start(&[]);
    ok(&dev.run(&["topic", "create", "news", "--queues", "2"]));
    ok(&dev.run(&["msg", "send", "--topic", "news", "old"]));
    let mut tail = dev.spawn(&["msg", "tail", "--topic", "news", "--from", "first"]);
    assert!(line(&mut tail).ends_with("old\n"));
    ok(&dev.run(&["msg", "send", "--topic", "news", "--key", "4711", "--tag", "hot", "new\x07"]));
    let printed = line(&mut tail);
    assert!(printed.contains("tag=hot") && printed.contains("key=4711"), "{printed}");
    assert!(printed.ends_with("new\\u{7}\n"), "{printed:?}");
    kill_process(Pid::from_child(&tail), Signal::INT).unwrap();
    let output = tail.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(crate::words(&output).contains("messages printed: 2; no group was made"));
}

#[test]
fn tags_choose_and_a_count_ends() {
    let dev = Dev::start(&[]);
    ok(&dev.run(&["topic", "create", "news", "--queues", "1"]));
    for (tag, body) in [("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")] {
        ok(&dev.run(&["msg", "send", "--topic", "news", "--tag", tag, body]));
    }
    let tail = ["msg", "tail", "--topic", "news", "--from", "first", "-o", "json"];
    let chosen = ok(&dev.run(&[&tail[..], &["--tag", "a || c", "--count", "3"]].concat()));
    assert_eq!(bodies(&chosen), ["1", "3", "4"]);
    let first = ok(&dev.run(&[&tail[..], &["--count", "1"]].concat()));
    assert_eq!(bodies(&first), ["1"]);
}

#[test]
fn a_time_is_a_place_to_start() {
    let dev = Dev::start(&[]);
    ok(&dev.run(&["topic", "create", "news", "--queues", "1"]));
    let store_time = |body: &str| {
        let sent = json(&ok(&dev.run(&["msg", "send", "--topic", "news", body, "-o", "json"])));
        let id = sent[0]["offset_id"].as_str().unwrap().to_owned();
        json(&ok(&dev.run(&["msg", "get", "--id", &id, "-o", "json"])))[0]["stored_ms"]
            .as_i64()
            .unwrap()
    };
    let first = store_time("1");
    let mut last = store_time("2");
    // Two messages of one millisecond cannot be told apart by time.
    while last == first {
        last = store_time("2");
    }
    let from = format!("@{last}");
    let tail = ["msg", "tail", "--topic", "news", "--from", &from, "--count", "1", "-o", "json"];
    assert_eq!(bodies(&ok(&dev.run(&tail))), ["2"]);
}
