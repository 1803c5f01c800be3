//! The program `mqnamesrv`: its flags, its exit codes, its end.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

fn program(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqnamesrv"));
    command.env_clear().env("HOME", dir);
    command
}

fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

/// Starts on a free port and waits until it says that it is ready.
fn started(dir: &Path) -> (Child, String) {
    let mut child =
        program(dir).args(["-p", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = lines
        .by_ref()
        .map(Result::unwrap)
        .find_map(|line| Some(line.split_once("name server ready address=")?.1.to_owned()))
        .expect("it says that it is ready");
    // Read to the end, so that the process never waits for a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    (child, address)
}

#[test]
fn later_layers_win_in_the_printed_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("namesrv.toml");
    std::fs::write(&file, "listen_port = 1\nlog = \"warn\"\nenable_topic_list = false\n").unwrap();
    let (code, printed, _) = output(
        program(dir.path())
            .arg("-c")
            .arg(&file)
            .args(["--listen", "3", "--print-config"])
            .env("BASALTMQ_NAMESRV_LISTEN_PORT", "2")
            .env("BASALTMQ_NAMESRV_LOG", "debug"),
    );
    assert_eq!(code, Some(0));
    for line in [
        "listen_port = 3",
        "log = \"debug\"",
        "enable_topic_list = false",
        "scan_not_active_broker_interval_ms = 5000",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line} in {printed}");
    }
}

#[test]
fn mistakes_end_with_exit_code_1_and_say_where() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("namesrv.toml");
    std::fs::write(&file, "# port\nlistenport = 1\n").unwrap();
    let (code, _, error) = output(program(dir.path()).arg("-c").arg(&file));
    assert_eq!(code, Some(1));
    assert!(
        error
            .contains("namesrv.toml line 2: unknown key `listenport`; did you mean `listen_port`?"),
        "{error}"
    );
    let (code, _, error) = output(program(dir.path()).arg("-c").arg(dir.path().join("none.toml")));
    assert_eq!(code, Some(1));
    assert!(error.contains("cannot read the configuration file"), "{error}");
    let (code, _, error) = output(program(dir.path()).env("BASALTMQ_NAMESRV_LOGG", "x"));
    assert_eq!(code, Some(1));
    assert!(
        error.contains("BASALTMQ_NAMESRV_LOGG: unknown key `logg`; did you mean `log`?"),
        "{error}"
    );
    let (code, ..) = output(program(dir.path()).arg("--no-such-flag"));
    assert_eq!(code, Some(2));
}

#[test]
fn port_in_use_is_a_clear_error() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, _, error) = output(program(dir.path()).args(["-p", &address]));
    assert_eq!(code, Some(1));
    assert!(error.contains(&format!("cannot listen on {address}")), "{error}");
    assert!(error.contains("another process uses this port"), "{error}");
}

#[test]
fn signals_end_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, address) = started(dir.path());
        let idle = std::net::TcpStream::connect(address).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        drop(idle);
    }
}

#[test]
fn rocketmq_configuration_starts_it_with_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("namesrv.conf");
    std::fs::write(&file, "listenPort=0\nserverWorkerThreads=8\nkvConfigPath=kv.json\n").unwrap();
    let mut child = program(dir.path())
        .arg("-c")
        .arg(&file)
        .current_dir(dir.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: Vec<String> = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.contains("name server ready"))
        .collect();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    child.wait().unwrap();
    let log = lines.join("\n");
    assert!(log.contains("line 2: `serverWorkerThreads` has no effect"), "{log}");
    assert!(!log.contains('\u{1b}'), "no colours outside a terminal");
}
