//! `mqtool dev` for one test.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Output, Stdio},
    thread::JoinHandle,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::command;

/// A running `mqtool dev` on free ports. Ends with the test.
pub(crate) struct Dev {
    child: Child,
    pub(crate) ready: String,
    pub(crate) namesrv: String,
    pub(crate) broker: String,
    /// Collects, so that a full pipe does not stop the server.
    log: Option<JoinHandle<String>>,
}

/// How a server ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Standard output after the first line.
    pub(crate) rest: String,
    pub(crate) log: String,
}

impl Dev {
    /// Starts one with further arguments.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(arguments, &[])
    }

    /// As `start`, with environment variables.
    pub(crate) fn start_in(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(&["dev", "-n", "127.0.0.1:0", "--broker", "127.0.0.1:0"]);
        command.args(arguments).envs(environment.iter().copied());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        // A byte at a time, so that what follows the line stays in the pipe.
        let mut stdout = BufReader::with_capacity(1, child.stdout.take().unwrap());
        stdout.read_line(&mut ready).unwrap();
        child.stdout = Some(stdout.into_inner());
        let mut stderr = child.stderr.take().unwrap();
        let log = std::thread::spawn(move || {
            let mut log = String::new();
            stderr.read_to_string(&mut log).unwrap();
            log
        });
        let word = |name: &str| {
            let found = ready.split_whitespace().find_map(|word| word.strip_prefix(name));
            found.unwrap_or_default().to_owned()
        };
        let (namesrv, broker) = (word("namesrv="), word("broker="));
        Self { child, ready, namesrv, broker, log: Some(log) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Runs a command against this server.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        command(arguments).args(["-n", &self.namesrv]).output().unwrap()
    }

    /// Runs a command against this server with standard input.
    pub(crate) fn run_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self.spawn(arguments);
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // A command that fails early does not read it all.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        output
    }

    /// Starts a command against this server.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        command(arguments)
            .args(["-n", &self.namesrv])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Stops it with a signal and waits for its end.
    pub(crate) fn stop(mut self, signal: Signal) -> Ended {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let code = self.child.wait().unwrap().code();
        let mut rest = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
        Ended { code, rest, log: self.log.take().unwrap().join().unwrap() }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(log) = self.log.take()
            && std::thread::panicking()
        {
            eprintln!("{}", log.join().unwrap_or_default());
        }
    }
}
