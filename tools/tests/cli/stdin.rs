//! `mqtool msg send -`.

use std::{collections::BTreeMap, io::Write};

use crate::{fails, json, ok, server::Dev, words};

const SEND: [&str; 5] = ["msg", "send", "--topic", "lines", "-"];

/// The bodies of a topic, counted.
fn bodies(dev: &Dev, count: usize) -> BTreeMap<String, usize> {
    let count = count.to_string();
    let tail =
        ["msg", "tail", "--topic", "lines", "--from", "first", "--count", &count, "-o", "json"];
    let mut bodies = BTreeMap::new();
    for message in json(&ok(&dev.run(&tail))) {
        let body = message["body"].as_str().or(message["body_base64"].as_str()).unwrap();
        *bodies.entry(body.to_owned()).or_default() += 1;
    }
    bodies
}

#[test]
fn lines_arrive_as_they_are_and_empty_ones_are_counted() {
    let dev = Dev::start(&[]);
    let output =
        dev.run_with(&SEND, b"first\r\n\n  two  \n\nfirst\r\n\xff\xfe\xfb\nlast without line feed");
    let table = ok(&output);
    assert!(words(&output).contains("2 empty lines were skipped"), "{}", words(&output));
    assert!(table.lines().nth(1).unwrap().starts_with("lines"), "{table}");
    let expected = [("first\r", 2), ("  two  ", 1), ("//77", 1), ("last without line feed", 1)];
    let expected: BTreeMap<_, _> =
        expected.into_iter().map(|(body, count)| (body.to_owned(), count)).collect();
    assert_eq!(bodies(&dev, 5), expected);
}

#[test]
fn every_line_of_many_is_one_message() {
    let dev = Dev::start(&[]);
    let lines: Vec<String> = (0..5000).map(|number| format!("line {}", number % 4000)).collect();
    ok(&dev.run_with(&SEND, (lines.join("\n") + "\n").as_bytes()));
    let mut expected = BTreeMap::new();
    for line in lines {
        *expected.entry(line).or_default() += 1;
    }
    assert_eq!(bodies(&dev, 5000), expected);
}

#[test]
fn json_has_a_line_for_every_message_in_the_order_of_the_input() {
    let dev = Dev::start(&[]);
    let sent = ok(&dev.run_with(&[&SEND[..], &["-o", "json"]].concat(), b"a\nb\nc\n"));
    for (sent, body) in json(&sent).iter().zip(["a", "b", "c"]) {
        let id = sent["offset_id"].as_str().unwrap();
        let found = json(&ok(&dev.run(&["msg", "get", "--id", id, "-o", "json"])));
        assert_eq!(found[0]["body"], body);
    }
    assert_eq!(json(&sent).len(), 3);
}

#[test]
fn keys_tags_and_properties_go_with_every_line() {
    let dev = Dev::start(&[]);
    let send = [&SEND[..], &["--key", "k", "--tag", "t", "--property", "a=b"]].concat();
    ok(&dev.run_with(&send, b"one\ntwo\n"));
    let found =
        json(&ok(&dev.run(&["msg", "find", "--topic", "lines", "--key", "k", "-o", "json"])));
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|message| message["tag"] == "t" && message["properties"]["a"] == "b"));
}

#[test]
fn a_slow_input_is_sent_line_by_line() {
    let dev = Dev::start(&[]);
    let mut child = dev.spawn(&SEND);
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"now\n").unwrap();
    // The input stays open, and the line is there all the same: `show` waits for the topic.
    while dev.run(&["topic", "show", "lines"]).status.code() == Some(3) {}
    assert_eq!(bodies(&dev, 1)["now"], 1);
    drop(stdin);
    ok(&child.wait_with_output().unwrap());
}

#[test]
fn a_line_that_is_too_long_ends_it_and_says_what_was_stored() {
    let dev = Dev::start(&[]);
    let mut input = b"short\n".to_vec();
    input.resize(input.len() + 5 * 1024 * 1024, b'x');
    let said = fails(&dev.run_with(&SEND, &input), 2);
    assert!(said.contains("lines 2 to 2") && said.contains("4194304"), "{said}");
    assert!(said.contains("1 messages are stored"), "{said}");
    assert_eq!(bodies(&dev, 1)["short"], 1);
}

#[test]
fn no_lines_are_no_failure() {
    let dev = Dev::start(&[]);
    let table = ok(&dev.run_with(&SEND, b""));
    assert_eq!(table.lines().count(), 2, "{table}");
}
