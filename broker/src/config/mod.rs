//! The broker's configuration: every key once, with its default, unit, bounds and RocketMQ name.
//!
//! Layers, later ones win: defaults, file (TOML or RocketMQ's `broker.conf`), environment
//! (`BASALTMQ_BROKER_<KEY>`), command line. Reading them is in `load`, RocketMQ's keys in `java`.

mod check;
mod java;
mod load;
mod setting;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
};

pub use check::Contradiction;
pub use java::Unmapped;
pub use load::{Layers, LoadError, Loaded};
pub use setting::Hours;
use setting::{Bounds, Setting};

/// One key of the configuration.
pub(crate) struct Key {
    /// Its name in TOML; upper case in the environment.
    pub(crate) name: &'static str,
    /// What it means.
    pub(crate) doc: &'static str,
    /// What it is counted in; empty if nothing.
    pub(crate) unit: &'static str,
    /// What it may be.
    pub(crate) bounds: Bounds,
    /// The key of RocketMQ's `broker.conf` that means the same; empty if there is none.
    pub(crate) rocketmq: &'static str,
    set: fn(&mut Config, &str) -> Result<(), String>,
    text: fn(&Config) -> String,
    toml: fn(&Config) -> String,
}

macro_rules! keys {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident: $ty:ty = $default:expr, $unit:literal, $bounds:expr, $rocketmq:literal;
    )*) => {
        /// What a broker is started with. Every field has a default that suits one machine.
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct Config { $($(#[doc = $doc])+ pub $field: $ty,)* }

        impl Default for Config {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        /// Every key, in the order in which `--print-config` shows them.
        pub(crate) static KEYS: &[Key] = &[$(Key {
            name: stringify!($field),
            doc: concat!($($doc),+),
            unit: $unit,
            bounds: $bounds,
            rocketmq: $rocketmq,
            set: |config, text| {
                config.$field = Setting::parse(text, $bounds)?;
                Ok(())
            },
            text: |config| config.$field.text(),
            toml: |config| config.$field.toml(),
        },)*];
    };
}

const MIB: u64 = 1024 * 1024;

keys! {
    /// Name of this broker, unique in the cluster; a topic of this name exists for tools.
    name: String = host_name(), "", Bounds::Any, "brokerName";
    /// Name of the cluster; a topic of this name exists for tools.
    cluster: String = "DefaultCluster".to_owned(), "", Bounds::Any, "brokerClusterName";
    /// Address to listen on; port 0 takes a free one.
    listen: SocketAddr = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 10_911), "", Bounds::Any, "";
    /// Host that clients are told to connect to; empty takes the address that reaches the network.
    advertise: String = String::new(), "", Bounds::Any, "brokerIP1";
    /// Whether to listen on the port two below too, where old clients send.
    vip_listen: bool = true, "", Bounds::Any, "";
    /// Name servers to register with, each alone.
    namesrv: Vec<String> = Vec::new(), "HOST:PORT", Bounds::Any, "namesrvAddr";
    /// How often the broker registers when nothing changes.
    register_interval_ms: u64 = 30_000, "ms", Bounds::Range(1_000, 60_000), "registerNameServerPeriod";
    /// How long a name server may take to answer a registration.
    register_timeout_ms: u64 = 3_000, "ms", Bounds::Range(100, 60_000), "registerBrokerTimeoutMills";
    /// Directory of the message store.
    store: PathBuf = home().join("basaltmq/store"), "", Bounds::Any, "storePathRootDir";
    /// Size of one commit-log file, which no message can exceed.
    segment_size_bytes: u64 = 1024 * MIB, "bytes", Bounds::Range(256 * 1024, 4096 * MIB), "mappedFileSizeCommitLog";
    /// Whether a send is answered when the message is on disk (sync) or in the page cache (async).
    flush: String = "async".to_owned(), "", Bounds::Words(&["async", "sync"]), "";
    /// How often the commit log goes to disk with async flush.
    flush_interval_ms: u64 = 500, "ms", Bounds::Range(1, 60_000), "flushIntervalCommitLog";
    /// How long a send waits for the disk with sync flush before it is answered with code 10.
    flush_timeout_ms: u64 = 5_000, "ms", Bounds::Range(1, 60_000), "syncFlushTimeout";
    /// Longest time between two index checkpoints; recovery replays the log since the last one.
    checkpoint_interval_ms: u64 = 30_000, "ms", Bounds::Range(100, 600_000), "";
    /// Most log between two index checkpoints.
    checkpoint_log_bytes: u64 = 512 * MIB, "bytes", Bounds::Range(MIB, 16_384 * MIB), "";
    /// Messages older than this are deleted, a whole commit-log file at a time.
    retention_hours: u64 = 72, "hours", Bounds::Range(1, 1_000_000), "fileReservedTime";
    /// Hours of the local day in which they are deleted, several separated by semicolons.
    delete_hours: Hours = Hours(vec![4]), "0 to 23", Bounds::Any, "deleteWhen";
    /// They are deleted at any hour while more than this share of the disk is used.
    disk_clean_percent: u64 = 75, "percent", Bounds::Range(10, 100), "diskMaxUsedSpaceRatio";
    /// Younger messages are deleted too while more than this share of the disk is used.
    disk_force_clean_percent: u64 = 85, "percent", Bounds::Range(10, 100), "diskSpaceCleanForciblyRatio";
    /// Messages are refused while this share of the disk is used, or hardly anything is free.
    disk_refuse_percent: u64 = 90, "percent", Bounds::Range(10, 100), "diskSpaceWarningLevelRatio";
    /// Whether disk_force_clean_percent counts; false keeps every message for its time.
    delete_unexpired: bool = true, "", Bounds::Any, "cleanFileForciblyEnable";
    /// Memory for blocks of the index that were read from disk.
    block_cache_bytes: usize = 64 * 1024 * 1024, "bytes", Bounds::Range(MIB, 65_536 * MIB), "";
    /// Messages so far behind the end of the log are taken to be in memory; older ones are read by
    /// threads that may wait for the disk.
    hot_log_bytes: u64 = 1024 * MIB, "bytes", Bounds::Range(0, 1_048_576 * MIB), "";
    /// Largest message body, or batch of them, as it arrives.
    message_max_bytes: usize = protocol::limits::BODY_MAX_BYTES, "bytes", Bounds::Range(1, 15 * MIB), "maxMessageSize";
    /// Number of this broker among those of its name: 0 for a master, 1 or more for a slave.
    broker_id: u64 = 0, "", Bounds::Range(0, 1_000_000), "brokerId";
    /// Whether this broker takes messages, and waits for its slaves (sync_master) or not
    /// (async_master), or has a copy of a master's (slave).
    role: String = "async_master".to_owned(), "", Bounds::Words(&["async_master", "sync_master", "slave"]), "";
    /// Address on which a master waits for its slaves, IP:PORT; empty takes that of listen with the
    /// next port.
    ha_listen: Option<SocketAddr> = None, "IP:PORT", Bounds::Any, "";
    /// Where a slave finds its master, HOST:PORT; empty asks the name servers.
    ha_master: Option<String> = None, "HOST:PORT", Bounds::Any, "haMasterAddress";
    /// Copies of a message that a send waits for, the master's own among them; sync_master means 2
    /// at least.
    in_sync_replicas: u64 = 1, "copies", Bounds::Range(1, 16), "inSyncReplicas";
    /// What counts as a slave's copy: received by its process, or durable on its disk.
    replica_ack: String = "received".to_owned(), "", Bounds::Words(&["received", "durable"]), "";
    /// How long a send waits for the slaves before it is answered with code 12.
    slave_timeout_ms: u64 = 3_000, "ms", Bounds::Range(1, 60_000), "slaveTimeout";
    /// Whether a slave serves pulls, and a master sends those to it that are far behind.
    slave_read: bool = true, "", Bounds::Any, "slaveReadEnable";
    /// What the broker allows at all: 2 write, 4 read, 6 both, 0 nothing.
    permission: u32 = 6, "", Bounds::Range(0, 6), "brokerPermission";
    /// Whether a send may create its topic.
    auto_create_topic: bool = true, "", Bounds::Any, "autoCreateTopicEnable";
    /// Most queues of a topic that a send creates.
    auto_topic_queues: u32 = 8, "queues", Bounds::Range(1, 1024), "defaultTopicQueueNums";
    /// Whether a heartbeat or pull may create its group.
    auto_create_group: bool = true, "", Bounds::Any, "autoCreateSubscriptionGroup";
    /// Whether clients may read and write the topic named after the cluster.
    cluster_topic: bool = true, "", Bounds::Any, "clusterTopicEnable";
    /// Whether clients may read and write the topic named after the broker.
    broker_topic: bool = true, "", Bounds::Any, "brokerTopicEnable";
    /// Whether the topic for message traces is created at start.
    trace_topic: bool = false, "", Bounds::Any, "traceTopicEnable";
    /// Region that messages and answers to sends are stamped with.
    region: String = "DefaultRegion".to_owned(), "", Bounds::Any, "regionId";
    /// Whether clients are told to trace messages.
    trace_on: bool = true, "", Bounds::Any, "traceOn";
    /// Whether a pull that finds nothing waits as long as the client allows.
    long_poll: bool = true, "", Bounds::Any, "longPollingEnable";
    /// How long a pull that finds nothing waits otherwise.
    short_poll_ms: u64 = 1_000, "ms", Bounds::Range(1, 30_000), "shortPollingTimeMills";
    /// Most pulls that wait at a time.
    held_pulls_max: usize = 100_000, "pulls", Bounds::Range(1, 10_000_000), "";
    /// Most messages in one answer to a pull.
    pull_max_messages: usize = 32, "messages", Bounds::Range(1, 1024), "maxTransferCountOnMessageInMemory";
    /// Most bytes in one answer to a pull, unless its first message alone is larger.
    pull_max_bytes: usize = 256 * 1024, "bytes", Bounds::Range(1024, 8 * MIB), "maxTransferBytesOnMessageInMemory";
    /// Most messages in one answer to a query by key.
    query_max_messages: usize = 64, "messages", Bounds::Range(1, 1024), "maxMsgsNumBatch";
    /// Most messages in one answer to a query by unique id.
    query_unique_max_messages: usize = 32, "messages", Bounds::Range(1, 1024), "defaultQueryMaxNum";
    /// How long a client may be silent before its groups forget it.
    client_expiry_ms: u64 = 120_000, "ms", Bounds::Range(1_000, 3_600_000), "channelExpiredTimeout";
    /// How long a group's subscriptions are kept without a member.
    subscription_expiry_ms: u64 = 600_000, "ms", Bounds::Range(1_000, 86_400_000), "subscriptionExpiredTimeout";
    /// Whether consumers are told at once when their group changes.
    notify_consumer_changes: bool = true, "", Bounds::Any, "notifyConsumerIdsChangedEnable";
    /// How long a queue lock for ordered consumption lasts unless it is renewed.
    lock_lease_ms: u64 = 60_000, "ms", Bounds::Range(1_000, 3_600_000), "rocketmq.broker.rebalance.lockMaxLiveTime";
    /// Most connections at a time.
    connections_max: usize = 10_000, "connections", Bounds::Range(1, 1_000_000), "";
    /// How long a connection may be silent before it is closed.
    connection_idle_ms: u64 = 120_000, "ms", Bounds::Range(1_000, 86_400_000), "";
    /// What is logged: error, warn, info, debug, or a filter as `tracing` reads it.
    log: String = "info".to_owned(), "", Bounds::Any, "";
}

impl Key {
    /// The key with this name.
    fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Its value in `config`, as RocketMQ's properties write it.
    pub(crate) fn text(&self, config: &Config) -> String {
        (self.text)(config)
    }
}

impl Config {
    /// The effective configuration as TOML that [`Layers`] reads again, every key explained.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        for key in KEYS {
            let mut notes = Vec::new();
            if !key.unit.is_empty() {
                notes.push(format!("unit: {}", key.unit));
            }
            if !key.bounds.describe().is_empty() {
                notes.push(key.bounds.describe());
            }
            if !key.rocketmq.is_empty() {
                notes.push(format!("RocketMQ: {}", key.rocketmq));
            }
            let notes =
                if notes.is_empty() { String::new() } else { format!(" ({})", notes.join("; ")) };
            let value = (key.toml)(self);
            out.push_str(&format!("#{}{notes}\n{} = {value}\n\n", key.doc, key.name));
        }
        out
    }

    /// The host that clients are told, see [`Config::advertise`].
    pub(crate) fn advertised_host(&self) -> String {
        if !self.advertise.is_empty() {
            self.advertise.clone()
        } else if self.listen.ip().is_unspecified() {
            outward_address().to_string()
        } else {
            self.listen.ip().to_string()
        }
    }
}

/// The local address that packets to other machines carry: no packet is sent to find out.
fn outward_address() -> IpAddr {
    let probe = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // A documentation address: any route but loopback will do.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    probe().map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// The machine's name in the characters that topics allow: a topic carries the broker's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        return "broker".to_owned();
    }
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

fn home() -> PathBuf {
    std::env::var_os("HOME").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_at_most_sixty_keys_and_each_explains_itself() {
        assert!(KEYS.len() <= 60, "{} keys", KEYS.len());
        for key in KEYS {
            assert!(key.doc.trim().ends_with('.'), "{} is not explained", key.name);
            let has_unit = ["_ms", "_bytes"].iter().any(|unit| key.name.ends_with(unit));
            assert!(!has_unit || !key.unit.is_empty(), "{} has no unit", key.name);
        }
    }

    #[test]
    fn defaults_pass_their_own_checks() {
        let mut config = Config::default();
        for key in KEYS {
            let text = key.text(&config);
            (key.set)(&mut config, &text)
                .unwrap_or_else(|problem| panic!("{}: {problem}", key.name));
        }
        assert_eq!(config, Config::default());
    }

    #[test]
    fn the_advertised_host_is_never_unspecified() {
        let config = Config::default();
        let host: IpAddr = config.advertised_host().parse().unwrap();
        assert!(!host.is_unspecified());
        let config = Config { listen: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        assert_eq!(config.advertised_host(), "127.0.0.1");
        let config = Config { advertise: "10.1.2.3".to_owned(), ..Config::default() };
        assert_eq!(config.advertised_host(), "10.1.2.3");
    }
}
