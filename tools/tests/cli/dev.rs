//! `mqtool dev`.

use std::{net::TcpListener, path::Path};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::{command, data, fails, ok, run, server::Dev, words};

fn entries(path: &Path) -> usize {
    std::fs::read_dir(path).unwrap().count()
}

#[test]
fn it_says_when_it_serves_and_then_serves() {
    let dev = Dev::start(&[]);
    let expected = format!("ready namesrv={} broker={}\n", dev.namesrv, dev.broker);
    assert_eq!(dev.ready, expected);
    ok(&dev.run(&["msg", "send", "--topic", "orders", "hello"]));
    let ended = dev.stop(Signal::TERM);
    assert_eq!((ended.code, ended.rest.as_str()), (Some(0), ""), "{}", ended.log);
}

#[test]
fn ctrl_c_stops_it_and_leaves_nothing_behind() {
    let temporary = TempDir::new().unwrap();
    let directory = temporary.path().to_str().unwrap();
    let dev = Dev::start_in(&[], &[("TMPDIR", directory), ("HOME", directory)]);
    ok(&dev.run(&["msg", "send", "--topic", "orders", "hello"]));
    assert_eq!(entries(temporary.path()), 1);
    let (namesrv, broker) = (dev.namesrv.clone(), dev.broker.clone());
    let ended = dev.stop(Signal::INT);
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert_eq!(entries(temporary.path()), 0);
    for address in [namesrv, broker] {
        TcpListener::bind(&address).unwrap();
    }
}

#[test]
fn a_data_directory_outlives_it() {
    let directory = TempDir::new().unwrap();
    let data_dir = directory.path().join("made");
    let arguments = ["--data-dir", data_dir.to_str().unwrap()];
    let dev = Dev::start(&arguments);
    ok(&dev.run(&["msg", "send", "--topic", "orders", "--key", "4711", "hello"]));
    assert_eq!(dev.stop(Signal::TERM).code, Some(0));
    let dev = Dev::start(&arguments);
    let found = ok(&dev.run(&["msg", "find", "--topic", "orders", "--key", "4711"]));
    assert!(found.contains("hello"), "{found}");
}

#[test]
fn a_port_in_use_is_said_with_a_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = fails(&run(&["dev", "-n", &address, "--broker", "127.0.0.1:0"]), 1);
    assert!(said.contains(&address) && said.contains("--namesrv"), "{said}");
    let said = fails(&run(&["dev", "-n", "127.0.0.1:0", "--broker", &address]), 1);
    assert!(said.contains(&address) && said.contains("--broker"), "{said}");
}

#[test]
fn a_store_in_use_is_refused_and_goes_on() {
    let directory = TempDir::new().unwrap();
    let data_dir = directory.path().to_str().unwrap();
    let dev = Dev::start(&["--data-dir", data_dir]);
    let second = ["dev", "-n", "127.0.0.1:0", "--broker", "127.0.0.1:0", "--data-dir", data_dir];
    let said = fails(&run(&second), 1);
    assert!(said.contains(data_dir), "{said}");
    ok(&dev.run(&["msg", "send", "--topic", "orders", "hello"]));
}

#[test]
fn what_cannot_be_listened_on_is_wrong_usage() {
    let said = fails(&run(&["dev", "-n", "nowhere"]), 2);
    assert!(said.contains("\"nowhere\""), "{said}");
    let said = fails(&run(&["dev", "--broker", "127.0.0.1"]), 2);
    assert!(said.contains("127.0.0.1"), "{said}");
    let said = fails(&run(&["dev", "-n", "127.0.0.1:0", "--log", "a=b=c"]), 2);
    assert!(said.contains("a=b=c"), "{said}");
}

#[test]
fn the_servers_of_the_environment_are_not_listened_on() {
    // A documentation address, which no machine can listen on.
    let dev = Dev::start_in(&[], &[("NAMESRV_ADDR", "192.0.2.1:9876")]);
    assert!(dev.namesrv.starts_with("127.0.0.1:"), "{}", dev.ready);
}

#[test]
fn its_own_figures_name_it() {
    let dev = Dev::start(&[]);
    let listed = ok(&dev.run(&["cluster", "ls"]));
    assert!(listed.contains("DefaultCluster") && listed.contains(&dev.broker), "{listed}");
    let listed = crate::json(&ok(&dev.run(&["cluster", "ls", "-o", "json"])));
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0]["address"], dev.broker.as_str());
    assert_eq!(listed[0]["id"], 0);
    assert!(listed[0]["version"].is_string(), "{}", listed[0]);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let mut child = command(&["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), words(&output), data(&output)),
        (Some(0), String::new(), String::new())
    );
}
