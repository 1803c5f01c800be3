//! What every command does with wrong usage, and with nobody to talk to.

use std::net::TcpListener;

use crate::{command, fails, ok, run, server::Dev};

/// An address of this machine at which nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn an_unreachable_name_server_is_named_with_what_to_start() {
    let address = nobody();
    let commands: [&[&str]; 9] = [
        &["topic", "ls"],
        &["group", "ls"],
        &["cluster", "ls"],
        &["msg", "send", "--topic", "t", "hello"],
        &["msg", "tail", "--topic", "t"],
        &["msg", "find", "--topic", "t", "--key", "k"],
        &["msg", "get", "--id", "7F0000010000271100000000000000AA"],
        &["bench", "send"],
        &["bench", "consume"],
    ];
    for command in commands {
        let said = fails(&run(&[command, &["-n", &address]].concat()), 4);
        assert!(said.contains(&address) && said.contains("mqtool dev"), "{said}");
    }
}

#[test]
fn wrong_usage_is_told_apart() {
    let lines: [&[&str]; 11] = [
        &[],
        &["topics"],
        &["topic", "ls", "--frob"],
        &["topic", "show"],
        &["topic", "ls", "-o", "xml"],
        &["topic", "ls", "--timeout", "soon"],
        &["msg", "send", "--topic", "t"],
        &["msg", "get", "--topic", "t"],
        &["msg", "get", "--id", "x", "--queue", "1"],
        &["msg", "tail", "--topic", "t", "--from", "whenever"],
        &["bench", "send", "--rate", "0"],
    ];
    for line in lines {
        fails(&run(line), 2);
    }
    let said = fails(&run(&["topic", "ls", "-n", "not an address"]), 2);
    assert!(said.contains("not an address"), "{said}");
}

#[test]
fn the_environment_names_the_name_server_and_the_flag_wins() {
    let dev = Dev::start(&[]);
    let mut by_environment = command(&["topic", "ls"]);
    ok(&by_environment.env("NAMESRV_ADDR", &dev.namesrv).output().unwrap());
    let mut by_flag = command(&["-n", &dev.namesrv, "topic", "ls"]);
    ok(&by_flag.env("NAMESRV_ADDR", nobody()).output().unwrap());
}

#[test]
fn help_and_version_are_data() {
    assert!(ok(&run(&["--version"])).starts_with("mqtool "));
    let help = ok(&run(&["msg", "send", "--help"]));
    assert!(help.contains("empty lines are skipped"), "{help}");
    assert!(ok(&run(&["--help"])).contains("Exit codes"));
}

#[test]
fn shells_get_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ok(&run(&["completions", shell]));
        assert!(script.contains("mqtool") && script.contains("cluster"), "{shell}");
    }
    fails(&run(&["completions", "cobol"]), 2);
}
