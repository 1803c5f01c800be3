//! The built `mqtool`, driven as a person or a script drives it.

#![cfg(test)]

mod bench;
mod dev;
mod group;
mod ha;
mod msg;
mod server;
mod stdin;
mod store;
mod tail;
mod topic;
mod usage;

use std::process::{Command, Output};

use serde_json::Value;

/// A command that nothing of this machine's environment influences.
fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtool"));
    command.args(arguments).env_remove("NAMESRV_ADDR").env_remove("RUST_LOG");
    command
}

/// Runs a command to its end.
fn run(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// What a command printed as data.
fn data(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command said.
fn words(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Its standard output after it ended well.
#[track_caller]
fn ok(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", data(output), words(output));
    data(output)
}

/// What it said after it ended with this code, having printed no data.
#[track_caller]
fn fails(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", data(output), words(output));
    assert_eq!(data(output), "", "data of a command that failed");
    assert_ne!(words(output), "", "a failure without a word");
    words(output)
}

/// JSON lines.
#[track_caller]
fn json(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
