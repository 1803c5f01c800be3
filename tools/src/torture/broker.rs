//! The broker under test: a child process.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(60);
/// An orderly end that takes longer has failed.
const END: Duration = Duration::from_secs(30);

/// What every broker is started with.
pub(super) const SETTINGS: [&str; 8] = [
    // Small, so that all paths are met: many segments, many checkpoints.
    "segment_size_bytes=1048576",
    "checkpoint_interval_ms=200",
    "checkpoint_log_bytes=1048576",
    "pull_max_messages=1024",
    "pull_max_bytes=4194304",
    // Nothing may go but what the nemesis takes.
    "delete_unexpired=false",
    "vip_listen=false",
    "name=torture",
];

/// How the broker is started.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) address: SocketAddr,
    pub(super) store: PathBuf,
    /// `sync` or `async`.
    pub(super) flush: &'static str,
    /// A deliberate bug.
    pub(super) bug: Option<String>,
    /// Where its log goes.
    pub(super) log: PathBuf,
}

/// A broker that runs, or has ended by itself. Killed when dropped.
#[derive(Debug)]
pub(super) struct Broker {
    child: Child,
}

/// How a start ended.
#[derive(Debug)]
pub(super) enum Started {
    /// It serves; how long that took.
    Serves(Broker, Duration),
    /// It ended.
    Refused(ExitStatus),
    /// It does neither.
    Hangs,
}

impl Launch {
    /// Starts the broker and waits until it serves.
    pub(super) fn start(&self) -> io::Result<Started> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command
            .arg("--listen")
            .arg(self.address.to_string())
            .arg("--store")
            .arg(&self.store)
            .args(["--advertise", "127.0.0.1"]);
        command.arg("--set").arg(format!("flush={}", self.flush));
        for pair in SETTINGS {
            command.args(["--set", pair]);
        }
        match &self.bug {
            Some(bug) => command.env("BASALTMQ_BUG", bug),
            None => command.env_remove("BASALTMQ_BUG"),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let began = Instant::now();
        let mut broker = Broker { child: command.spawn()? };
        loop {
            if let Some(status) = broker.ended()? {
                return Ok(Started::Refused(status));
            }
            if TcpStream::connect_timeout(&self.address, Duration::from_secs(1)).is_ok() {
                return Ok(Started::Serves(broker, began.elapsed()));
            }
            if began.elapsed() > START {
                return Ok(Started::Hangs);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Broker {
    /// A broker that somebody else has started.
    pub(super) fn of(child: Child) -> Self {
        Self { child }
    }

    fn signal(&self, signal: Signal) -> io::Result<()> {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let id = id.ok_or_else(|| io::Error::other("the broker has no process id"))?;
        Ok(kill_process(id, signal)?)
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self, wait: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + wait;
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() > until {
                return Ok(ended);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it as `kill -9` does.
    pub(super) fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Asks it to end, and waits.
    pub(super) fn stop(mut self) -> io::Result<Option<ExitStatus>> {
        self.signal(Signal::TERM)?;
        self.wait(END)
    }

    /// Takes the processor from it. When this returns, none of its threads runs; some may still be
    /// inside of the kernel, and stop when they come out.
    pub(super) fn freeze(&self) -> io::Result<()> {
        self.signal(Signal::STOP)?;
        let until = Instant::now() + START;
        while !self.is_still()? {
            if Instant::now() > until {
                return Err(io::Error::other("the broker does not stop"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(())
    }

    /// Whether all threads are stopped, or blocked in the kernel.
    fn is_still(&self) -> io::Result<bool> {
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let stat = std::fs::read_to_string(thread?.path().join("stat"));
            // A thread that has just ended has no file any more. The state follows the name.
            let stat = stat.unwrap_or_else(|_| ") Z".to_owned());
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
            if !matches!(state, Some('T' | 't' | 'D' | 'Z' | 'X')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives the processor back.
    pub(super) fn thaw(&self) -> io::Result<()> {
        self.signal(Signal::CONT)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of a log file.
pub(super) fn tail(path: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(3_000)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("{}: {error}", path.display()))
}
