//! A broker of the cluster with what is under it, and the name server.

use std::{
    fs::{File, OpenOptions},
    io,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Plan, Side,
    net::{Host, Net},
    status::Status,
};
use crate::torture::{
    broker::{self, Broker, SETTINGS},
    ground::{Trouble, io_trouble, red},
    medium::Medium,
    wire::{Link, Unanswered},
};

/// A start that takes longer has failed.
const START: Duration = Duration::from_secs(60);
/// How long a promotion may take.
const PROMOTE: Duration = Duration::from_secs(60);

/// How a slave is made the master.
#[derive(Clone, Copy, Debug)]
pub(super) enum Way {
    /// By `mqtool broker promote`, which lets a master that answers become a slave first.
    Tool,
    /// The same with `--force`, where that master cannot do it in order.
    ForcedTool,
    /// By somebody who sees only the slave.
    Wire,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) side: Side,
    pub(super) medium: Medium,
    pub(super) broker: Option<Broker>,
    log: PathBuf,
}

impl Node {
    /// One with an empty store; its broker does not run.
    pub(super) fn make(side: Side, plan: &Plan, history: &Path) -> io::Result<Self> {
        let medium = Medium::make_one_of(plan.fs, side.name())?;
        Ok(Self {
            side,
            medium,
            broker: None,
            log: history.join(format!("broker-{}.txt", side.name())),
        })
    }

    fn host(&self) -> Host {
        Host::Broker(self.side)
    }

    /// Connects to the broker.
    pub(super) fn link(&self) -> io::Result<Link> {
        Link::connect(self.host().address())
    }

    /// What the broker says of its part in replication.
    pub(super) fn status(&self) -> Result<Status, Unanswered> {
        Ok(self.link()?.replication()?.into())
    }

    /// Starts the broker and waits until it can be connected to. Its configuration is always that of
    /// the first day: who is the master it has to find out by itself.
    pub(super) fn start(&mut self, net: &Net, plan: &Plan) -> Result<(), Trouble> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let mut command = self.command(plan);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(io_trouble("open the log of a broker"))?);
        let child = net.on(self.host(), move || command.spawn());
        let child = child.map_err(io_trouble("start a broker"))?;
        self.broker = Some(Broker::of(child));
        let until = Instant::now() + START;
        while TcpStream::connect_timeout(&self.host().address(), Duration::from_secs(1)).is_err() {
            self.alive()?;
            if Instant::now() > until {
                return Err(red(10, format!("broker {} started and does not serve", self.name())));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn command(&self, plan: &Plan) -> Command {
        let (role, id) = match self.side {
            Side::A => ("sync_master", 0),
            Side::B => ("slave", 1),
        };
        let mut command = Command::new(&plan.broker);
        command
            .arg("--namesrv")
            .arg(Host::NameServer.address().to_string())
            .arg("--listen")
            .arg(self.host().address().to_string())
            .arg("--advertise")
            .arg(self.host().ip().to_string())
            .arg("--store")
            .arg(self.medium.store());
        let set = [
            format!("role={role}"),
            format!("broker_id={id}"),
            "in_sync_replicas=2".to_owned(),
            format!("replica_ack={}", plan.ack()),
            format!("flush={}", plan.mode.name()),
            "register_interval_ms=1000".to_owned(),
        ];
        for pair in set.iter().map(String::as_str).chain(SETTINGS) {
            command.args(["--set", pair]);
        }
        command
    }

    pub(super) fn name(&self) -> &'static str {
        self.side.name()
    }

    /// The broker must not end by itself.
    pub(super) fn alive(&mut self) -> Result<(), Trouble> {
        let Some(broker) = &mut self.broker else { return Ok(()) };
        let Some(status) = broker.ended().map_err(io_trouble("look after a broker"))? else {
            return Ok(());
        };
        let tail = broker::tail(&self.log);
        Err(red(10, format!("broker {} ended by itself ({status}):\n{tail}", self.name())))
    }

    pub(super) fn kill(&mut self) -> Result<(), Trouble> {
        let Some(broker) = self.broker.take() else { return Ok(()) };
        broker.kill().map_err(io_trouble("kill a broker"))
    }

    /// An orderly end.
    pub(super) fn stop(&mut self) -> Result<(), Trouble> {
        let Some(broker) = self.broker.take() else { return Ok(()) };
        let name = self.name();
        match broker.stop().map_err(io_trouble("stop a broker"))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(red(10, format!("broker {name}, asked to stop, ended {status}"))),
            None => Err(red(10, format!("broker {name}, asked to stop, goes on"))),
        }
    }

    /// Cuts the power of this machine, and gives it back.
    pub(super) fn cut(&mut self) -> Result<(), Trouble> {
        // A machine without power answers nothing, but a process whose file system was shut down
        // does: ext4 lets an fsync that is under way succeed without the data.
        if let Some(broker) = &self.broker {
            broker.freeze().map_err(io_trouble("stop a broker"))?;
        }
        self.medium.cut().map_err(io_trouble("shut the file system down"))?;
        self.kill()?;
        self.medium.remount().map_err(io_trouble("mount the file system again"))
    }

    /// Makes this broker the master; how long that took until it says that it is.
    pub(super) fn promote(&mut self, way: Way) -> Result<Duration, Trouble> {
        let began = Instant::now();
        loop {
            let done = match way {
                Way::Tool => self.promote_by_tool(&["--yes"])?,
                Way::ForcedTool => self.promote_by_tool(&["--yes", "--force"])?,
                Way::Wire => self.promote_by_wire(),
            };
            if done.is_ok() && self.status().is_ok_and(|status| status.is_master) {
                return Ok(began.elapsed());
            }
            self.alive()?;
            if began.elapsed() > PROMOTE {
                let (name, seconds) = (self.name(), PROMOTE.as_secs());
                let what = format!("broker {name} is not promoted in {seconds} s: {done:?}");
                return Err(red(10, what));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The inner error is a refusal.
    fn promote_by_tool(&self, flags: &[&str]) -> Result<Result<(), String>, Trouble> {
        let address = self.host().address().to_string();
        let mut tool = this_program()?;
        tool.args(["--namesrv", &Host::NameServer.address().to_string(), "broker", "promote"]);
        tool.arg(address).args(flags).stdin(Stdio::null());
        let output = tool.output().map_err(io_trouble("run mqtool"))?;
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok(if output.status.success() { Ok(()) } else { Err(words) })
    }

    fn promote_by_wire(&self) -> Result<(), String> {
        let mut link = self.link().map_err(|error| error.to_string())?;
        // It may have become the master by an earlier request.
        if link.replication().is_ok_and(|status| status.master) {
            return Ok(());
        }
        link.promote().map_err(|error| error.to_string())
    }

    /// What the store of a broker that is down has: rows of each family and bytes of the log, each
    /// with a checksum.
    pub(super) fn digest(&self) -> Result<Vec<Part>, Trouble> {
        let text = self.inspect(&["--output", "json", "digest"])?;
        let parts: Result<Vec<_>, _> = text.lines().map(serde_json::from_str).collect();
        parts.map_err(io::Error::other).map_err(io_trouble("read a digest"))
    }

    /// What `mqtool store …` says of the store of a broker that is down.
    pub(super) fn inspect(&self, words: &[&str]) -> Result<String, Trouble> {
        let mut tool = this_program()?;
        let verb = words.last().copied().unwrap_or_default();
        let output =
            tool.arg("store").args(words).arg(self.medium.store()).stdin(Stdio::null()).output();
        let output = output.map_err(io_trouble("run mqtool"))?;
        let out = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() {
            return Ok(out);
        }
        let words = String::from_utf8_lossy(&output.stderr);
        Err(red(11, format!("store {verb} of broker {}: {}\n{out}", self.name(), words.trim())))
    }
}

/// A part of a store. At which change of the index it ends does not count: a master that stops may
/// write once more what is there already.
#[derive(Debug, Deserialize, Eq, PartialEq)]
pub(super) struct Part {
    part: String,
    count: u64,
    crc32: String,
}

fn this_program() -> Result<Command, Trouble> {
    std::env::current_exe().map(Command::new).map_err(io_trouble("find this program"))
}

/// The name server. Killed when dropped.
#[derive(Debug)]
pub(super) struct NameServer(Child);

impl NameServer {
    pub(super) fn start(net: &Net, plan: &Plan, history: &Path) -> Result<Self, Trouble> {
        let log = File::create(history.join("namesrv.txt"));
        let mut command = Command::new(&plan.name_server);
        command
            .arg("--listen")
            .arg(Host::NameServer.address().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(io_trouble("open the log of the name server"))?);
        let child = net.on(Host::NameServer, move || command.spawn());
        child.map(Self).map_err(io_trouble("start the name server"))
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
