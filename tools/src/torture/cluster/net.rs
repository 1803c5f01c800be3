//! The network of a cluster: each process in a network namespace of its own, all of them on one
//! bridge in one more, where this program lives too. Nothing of it touches the machine's network.
//! Namespaces are named after the process, so that the next run can remove what a dead one has left.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Side;

const PREFIX: &str = "mqtool-torture-";
/// Where `ip netns` keeps namespaces.
const HOME: &str = "/run/netns";
/// RocketMQ's usual ports; every namespace has all of them.
const BROKER_PORT: u16 = 10911;
const NAME_SERVER_PORT: u16 = 9876;
/// The table of rules that makes a partition.
const TABLE: &str = "inet partition";

/// A host.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Host {
    /// Where this program and its clients are, and the bridge.
    Hub,
    NameServer,
    Broker(Side),
}

impl Host {
    const ALL: [Self; 4] =
        [Self::Hub, Self::NameServer, Self::Broker(Side::A), Self::Broker(Side::B)];

    fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::NameServer => "n",
            Self::Broker(side) => side.name(),
        }
    }

    pub(super) fn ip(self) -> Ipv4Addr {
        let last = match self {
            Self::Hub => 254,
            Self::NameServer => 9,
            Self::Broker(Side::A) => 1,
            Self::Broker(Side::B) => 2,
        };
        Ipv4Addr::new(10, 77, 0, last)
    }

    /// The address that clients connect to.
    pub(super) fn address(self) -> SocketAddr {
        let port = if self == Self::NameServer { NAME_SERVER_PORT } else { BROKER_PORT };
        (self.ip(), port).into()
    }

    fn namespace(self) -> String {
        format!("{PREFIX}{}-{}", std::process::id(), self.name())
    }
}

/// See the module. Taken apart when dropped.
#[derive(Debug)]
pub(super) struct Net(());

impl Net {
    /// Makes the network and moves the calling thread into it, and with it all threads and processes
    /// that it starts.
    pub(super) fn enter() -> io::Result<Self> {
        remove_stale()?;
        let net = Self(());
        for host in Host::ALL {
            run("ip", &["netns", "add", &host.namespace()], "")?;
            run("ip", &["-n", &host.namespace(), "link", "set", "lo", "up"], "")?;
        }
        let hub = Host::Hub.namespace();
        let in_hub = |words: &[&str]| run("ip", &[&["-n", &hub], words].concat(), "");
        in_hub(&["link", "add", "bridge", "type", "bridge"])?;
        in_hub(&["addr", "add", &format!("{}/24", Host::Hub.ip()), "dev", "bridge"])?;
        in_hub(&["link", "set", "bridge", "up"])?;
        for host in Host::ALL.into_iter().filter(|host| *host != Host::Hub) {
            let (port, space) = (format!("to-{}", host.name()), host.namespace());
            let peer = ["peer", "name", "eth0", "netns", &space];
            in_hub(&[&["link", "add", "name", &port, "type", "veth"][..], &peer].concat())?;
            in_hub(&["link", "set", "dev", &port, "master", "bridge", "up"])?;
            let in_host = |words: &[&str]| run("ip", &[&["-n", &space], words].concat(), "");
            in_host(&["addr", "add", &format!("{}/24", host.ip()), "dev", "eth0"])?;
            in_host(&["link", "set", "eth0", "up"])?;
        }
        enter(Host::Hub)?;
        Ok(net)
    }

    /// Lets `to` hear nothing that `from` says.
    pub(super) fn silence(&self, from: Host, to: Host) -> io::Result<()> {
        let rules = format!(
            "table {TABLE} {{\n chain input {{\n type filter hook input priority 0\n ip saddr {} drop\n }}\n}}\n",
            from.ip()
        );
        self.on(to, || run("nft", &["-f", "-"], &rules))
    }

    /// Ends all silence.
    pub(super) fn heal(&self) -> io::Result<()> {
        for side in [Side::A, Side::B] {
            // Adding it first makes deleting it succeed where there is none.
            let rules = format!("add table {TABLE}; delete table {TABLE};");
            self.on(Host::Broker(side), || run("nft", &["-f", "-"], &rules))?;
        }
        Ok(())
    }

    /// Does something on a host. Processes that it starts stay there.
    pub(super) fn on<T: Send>(
        &self,
        host: Host,
        work: impl FnOnce() -> io::Result<T> + Send,
    ) -> io::Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                enter(host)?;
                work()
            });
            there.join().unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
        })
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in Host::ALL {
            // The next run tries again.
            let _ = run("ip", &["netns", "del", &host.namespace()], "");
        }
    }
}

/// Moves the calling thread.
fn enter(host: Host) -> io::Result<()> {
    let space = File::open(Path::new(HOME).join(host.namespace()))?;
    Ok(move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// What is missing here, if anything.
pub(super) fn lacks() -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &str| std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables"), ("python3", "python3")] {
        if !found(program) {
            return Some(format!("{program} is not in PATH; install the package {package}"));
        }
    }
    if !rustix::process::geteuid().is_root() {
        return Some("network namespaces can only be made by root".to_owned());
    }
    None
}

/// Removes the namespaces of runs whose process is gone.
fn remove_stale() -> io::Result<()> {
    let Ok(entries) = fs::read_dir(HOME) else { return Ok(()) };
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
        let id = name.trim_start_matches(PREFIX).split('-').next().unwrap_or_default();
        let owner = fs::read_to_string(PathBuf::from("/proc").join(id).join("comm"));
        if !owner.is_ok_and(|owner| owner.trim() == "mqtool") {
            run("ip", &["netns", "del", name], "")?;
        }
    }
    Ok(())
}

fn run(program: &str, arguments: &[&str], input: &str) -> io::Result<()> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("{program}: {error}")))?;
    if let Some(mut pipe) = child.stdin.take() {
        pipe.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("{program} {} {input}: {}", arguments.join(" "), words.trim())))
}
