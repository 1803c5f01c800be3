//! `mqtool msg send|find|get`.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

use crate::{command, fails, json, ok, server::Dev};

const SEND: [&str; 12] = [
    "msg",
    "send",
    "--topic",
    "orders",
    "--key",
    "4711",
    "--key",
    "shop-1",
    "--tag",
    "created",
    "--property",
    "origin=web",
];

/// Sends one message and returns what was said about it.
fn send(dev: &Dev) -> serde_json::Value {
    let arguments = [&SEND[..], &["one cup", "-o", "json"]].concat();
    json(&ok(&dev.run(&arguments))).remove(0)
}

#[test]
fn a_message_is_found_by_place_by_key_and_by_both_ids() {
    let dev = Dev::start(&[]);
    let sent = send(&dev);
    assert_eq!(sent["status"], "SEND_OK");
    let text = |name: &str| sent[name].as_str().unwrap().to_owned();
    let (queue, offset) = (sent["queue"].to_string(), sent["offset"].to_string());
    let ways: [&[&str]; 4] = [
        &["get", "--topic", "orders", "--queue", &queue, "--offset", &offset],
        &["get", "--id", &text("offset_id")],
        &["get", "--id", &text("id"), "--topic", "orders"],
        &["find", "--topic", "orders", "--key", "shop-1"],
    ];
    for way in ways {
        let arguments = [&["msg"], way].concat();
        let found = json(&ok(&dev.run(&[&arguments[..], &["-o", "json"]].concat()))).remove(0);
        assert_eq!(found["body"], "one cup");
        assert_eq!(found["tag"], "created");
        assert_eq!(found["keys"], serde_json::json!(["4711", "shop-1"]));
        assert_eq!(found["properties"]["origin"], "web");
        assert_eq!(found["properties"]["UNIQ_KEY"], text("id"));
        assert_eq!(found["offset_id"], text("offset_id"));
        assert_eq!(found["store_host"], dev.broker.as_str());
        let page = ok(&dev.run(&arguments));
        for part in ["origin = web", "KEYS = 4711 shop-1", "TAGS = created", "\none cup\n"] {
            assert!(page.contains(part), "{part:?} is missing in {page}");
        }
    }
}

#[test]
fn an_argument_is_sent_byte_for_byte() {
    let dev = Dev::start(&[]);
    let body = OsStr::from_bytes(b"\xff");
    let mut send = command(&["msg", "send", "-n", &dev.namesrv, "--topic", "bytes"]);
    ok(&send.arg(body).output().unwrap());
    let found = ok(&dev.run(&[
        "msg", "tail", "--topic", "bytes", "--from", "first", "--count", "1", "-o", "json",
    ]));
    assert_eq!(json(&found)[0]["body_base64"], "/w==");
}

#[test]
fn an_empty_find_says_who_was_asked_about_what() {
    let dev = Dev::start(&[]);
    send(&dev);
    let said = fails(&dev.run(&["msg", "find", "--topic", "orders", "--key", "4712"]), 3);
    for part in [
        "\"4712\"",
        "orders",
        "brokers asked: 1, answered: 1",
        &dev.broker,
        "reaches to",
        "all there is",
    ] {
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
    // The message is older than that.
    let said = fails(
        &dev.run(&[
            "msg",
            "find",
            "--topic",
            "orders",
            "--key",
            "4711",
            "--from",
            "@4102444800000",
        ]),
        3,
    );
    assert!(said.contains("from 2100-01-01") || said.contains("from 2099-12-31"), "{said}");
}

#[test]
fn what_does_not_exist_is_not_found() {
    let dev = Dev::start(&[]);
    let sent = send(&dev);
    let queue = sent["queue"].to_string();
    let missing: [(&[&str], &str); 6] = [
        (&["get", "--topic", "orders", "--queue", &queue, "--offset", "77"], "77"),
        (&["get", "--topic", "orders", "--queue", "77", "--offset", "0"], "no queue 77"),
        (&["get", "--topic", "nothing", "--queue", "0", "--offset", "0"], "\"nothing\""),
        (&["get", "--id", "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF", "--topic", "orders"], "FFFF"),
        (&["find", "--topic", "nothing", "--key", "4711"], "\"nothing\""),
        (&["tail", "--topic", "nothing"], "\"nothing\""),
    ];
    for (arguments, part) in missing {
        let said = fails(&dev.run(&[&["msg"], arguments].concat()), 3);
        assert!(said.contains(part), "{part:?} is missing in {said}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused_before_it_is_sent() {
    let dev = Dev::start(&[]);
    let said = fails(&dev.run(&["msg", "send", "--topic", "../../x", "hello"]), 2);
    assert!(said.contains("../../x"), "{said}");
    let said = fails(&dev.run(&["msg", "send", "--topic", "orders", ""]), 2);
    assert!(said.contains("body"), "{said}");
    let said = fails(&dev.run(&["msg", "send", "--topic", "orders", "--key", "a b", "hello"]), 2);
    assert!(said.contains("\"a b\""), "{said}");
    let said =
        fails(&dev.run(&["msg", "send", "--topic", "orders", "--property", "UNIQ_KEY=1", "x"]), 2);
    assert!(said.contains("UNIQ_KEY"), "{said}");
    let said =
        fails(&dev.run(&["msg", "send", "--topic", "orders", "--property", "novalue", "x"]), 2);
    assert!(said.contains("NAME=VALUE"), "{said}");
}

#[test]
fn a_table_has_a_header_and_a_row() {
    let dev = Dev::start(&[]);
    let table = ok(&dev.run(&["msg", "send", "--topic", "orders", "hello"]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("TOPIC"), "{table}");
    assert!(lines[1].starts_with("orders") && lines[1].ends_with("SEND_OK"), "{table}");
}
