//! The name server's configuration: its keys, their RocketMQ names, and what of a RocketMQ
//! `namesrv.conf` has no effect here.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    layers::{self, Error, Key, Layers},
    properties,
};

/// Everything that can be configured. `mqnamesrv --print-config` shows it with comments.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches, as RocketMQ names them")]
pub struct Config {
    /// Address to listen on. Source: RocketMQ's `bindAddress`.
    pub bind_address: IpAddr,
    /// Port to listen on; 0 takes any free port. Source: RocketMQ's `listenPort`.
    pub listen_port: u16,
    /// Connections beyond this number are closed at once.
    pub max_connections: usize,
    /// File of the key-value configuration, in RocketMQ's format. Source: `kvConfigPath`.
    pub kv_config_path: PathBuf,
    /// Milliseconds between two searches for silent brokers. Source: `scanNotActiveBrokerInterval`.
    pub scan_not_active_broker_interval_ms: u64,
    /// Add a topic's order configuration to its route. Source: `orderMessageEnable`.
    pub order_message_enable: bool,
    /// Send the order configuration to brokers that register. Source:
    /// `returnOrderTopicConfigToBroker`.
    pub return_order_topic_config_to_broker: bool,
    /// In routes, show the lowest slave of a group without master as a master that can only be
    /// read from. Source: `supportActingMaster`.
    pub support_acting_master: bool,
    /// Tell the members of a broker group when its lowest id changes. Source:
    /// `notifyMinBrokerIdChanged`.
    pub notify_min_broker_id_changed: bool,
    /// A registration removes topics that it does not hold. Source:
    /// `deleteTopicWithBrokerRegistration`.
    pub delete_topic_with_broker_registration: bool,
    /// Answer requests for lists of topics by cluster and kind. Source: `enableTopicList`.
    pub enable_topic_list: bool,
    /// Answer requests for the list of all topics. Source: `enableAllTopicList`.
    pub enable_all_topic_list: bool,
    /// After the start, answer no route until brokers had the time to register. Source:
    /// `needWaitForService`.
    pub need_wait_for_service: bool,
    /// That time, in seconds. Source: `waitSecondsForService`.
    pub wait_seconds_for_service: u32,
    /// What to log: `error`, `warn`, `info`, `debug` or a `tracing` filter.
    pub log: String,
}

impl Default for Config {
    fn default() -> Self {
        let home = std::env::home_dir().unwrap_or_default();
        Self {
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            listen_port: 9876,
            max_connections: 65_536,
            kv_config_path: home.join("namesrv").join("kvConfig.json"),
            scan_not_active_broker_interval_ms: 5_000,
            order_message_enable: false,
            return_order_topic_config_to_broker: true,
            support_acting_master: false,
            notify_min_broker_id_changed: false,
            delete_topic_with_broker_registration: false,
            enable_topic_list: true,
            enable_all_topic_list: true,
            need_wait_for_service: false,
            wait_seconds_for_service: 45,
            log: "info".to_owned(),
        }
    }
}

impl Config {
    /// The socket address to listen on.
    pub fn listen(&self) -> SocketAddr {
        SocketAddr::new(self.bind_address, self.listen_port)
    }

    /// Defaults, then `file`, then environment variables `BASALTMQ_NAMESRV_<KEY>`, then
    /// `listen`. A file named `.conf` or `.properties` is RocketMQ's, any other is TOML. Returns
    /// also what should be logged as warnings once logging works.
    ///
    /// # Errors
    /// See [`Error`]: each names the file and line, the variable or the flag to correct.
    pub fn load(file: Option<&Path>, listen: Option<&str>) -> Result<(Self, Vec<String>), Error> {
        let mut layers = Layers::new(&Self::default(), KEYS);
        let mut warnings = Vec::new();
        if let Some(path) = file {
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("conf" | "properties")) {
                warnings = layers.java_file(path, WITHOUT_EFFECT)?;
            } else {
                layers.toml_file(path)?;
            }
        }
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name != FILE_VARIABLE && name != LISTEN_VARIABLE);
        layers.environment(PREFIX, variables)?;
        if let Some(listen) = listen {
            // `9876`, `127.0.0.1:9876` or `[::1]:9876`.
            let (address, port) = listen.rsplit_once(':').unwrap_or(("", listen));
            if !address.is_empty() {
                let address = address.trim_start_matches('[').trim_end_matches(']');
                layers.text("bind_address", address, "--listen".to_owned())?;
            }
            layers.text("listen_port", port, "--listen".to_owned())?;
        }
        Ok((layers.finish()?, warnings))
    }

    /// This configuration as TOML with comments; [`Config::load`] reads it back.
    pub fn print(&self) -> String {
        layers::print(self, KEYS)
    }

    /// This configuration as RocketMQ's `key=value` lines, with RocketMQ's names.
    pub(crate) fn java_lines(&self) -> String {
        let values = toml::Table::try_from(self).unwrap_or_default();
        let line = |key: &Key| {
            let value = values.get(key.name)?;
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some(format!("{}={text}\n", key.java?))
        };
        KEYS.iter().filter_map(line).collect()
    }

    /// Applies `key=value` lines sent by an administrator: all of them or, on error, none.
    pub(crate) fn changed(&self, lines: &str) -> Result<Self, ChangeError> {
        let mut layers = Layers::new(self, KEYS);
        for entry in properties::parse(lines) {
            let key = KEYS.iter().find(|key| key.java == Some(entry.key.as_str()));
            match key {
                Some(key) if key.live => {
                    layers.text(key.name, &entry.value, "request".to_owned())?;
                }
                _ => return Err(ChangeError::NotAllowed { key: entry.key }),
            }
        }
        Ok(layers.finish()?)
    }
}

/// Why a change at run time was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// Not in the allow-list. Paths, addresses and everything unknown are not.
    #[error("`{key}` can not be changed by a request; change the configuration file and restart")]
    NotAllowed { key: String },
    #[error(transparent)]
    Value(#[from] Error),
}

/// Start of every environment variable that is a key.
const PREFIX: &str = "BASALTMQ_NAMESRV_";
/// Names the configuration file, like `-c`.
pub const FILE_VARIABLE: &str = "BASALTMQ_NAMESRV_CONFIG";
/// Address or port, like `-p`.
pub const LISTEN_VARIABLE: &str = "BASALTMQ_NAMESRV_LISTEN";

const fn key(
    name: &'static str,
    java: &'static str,
    bounds: Option<(i64, i64)>,
    about: &'static str,
) -> Key {
    Key { name, java: Some(java), bounds, about, live: false }
}

/// An on/off key that may be changed while the name server runs.
const fn switch(name: &'static str, java: &'static str, about: &'static str) -> Key {
    Key { name, java: Some(java), bounds: None, about, live: true }
}

const KEYS: &[Key] = &[
    key("bind_address", "bindAddress", None, "Address to listen on."),
    key("listen_port", "listenPort", Some((0, 65_535)), "Port to listen on; 0 takes a free one."),
    Key {
        name: "max_connections",
        java: None,
        bounds: Some((1, 1_000_000)),
        about: "Connections beyond this number are closed at once.",
        live: false,
    },
    key("kv_config_path", "kvConfigPath", None, "File of the key-value configuration."),
    key(
        "scan_not_active_broker_interval_ms",
        "scanNotActiveBrokerInterval",
        Some((10, 600_000)),
        "Milliseconds between two searches for silent brokers.",
    ),
    switch("order_message_enable", "orderMessageEnable", "Order configuration in routes."),
    switch(
        "return_order_topic_config_to_broker",
        "returnOrderTopicConfigToBroker",
        "Order configuration for brokers that register.",
    ),
    switch(
        "support_acting_master",
        "supportActingMaster",
        "The lowest slave of a group without master can be read from as if it were the master.",
    ),
    switch(
        "notify_min_broker_id_changed",
        "notifyMinBrokerIdChanged",
        "Tell a broker group when its lowest id changes.",
    ),
    switch(
        "delete_topic_with_broker_registration",
        "deleteTopicWithBrokerRegistration",
        "A registration removes topics that it does not hold.",
    ),
    switch("enable_topic_list", "enableTopicList", "Answer lists of topics by cluster or kind."),
    switch("enable_all_topic_list", "enableAllTopicList", "Answer the list of all topics."),
    switch(
        "need_wait_for_service",
        "needWaitForService",
        "After the start, answer no route for wait_seconds_for_service.",
    ),
    Key {
        name: "wait_seconds_for_service",
        java: Some("waitSecondsForService"),
        bounds: Some((0, 3_600)),
        about: "Seconds that brokers have for registering first.",
        live: true,
    },
    Key {
        name: "log",
        java: None,
        bounds: None,
        about: "What to log: error, warn, info, debug or a tracing filter.",
        live: false,
    },
];

const POOLS: &str = "requests are not handed to thread pools";
const NETTY: &str = "it tunes a Java network library";
const LIMITED: &str = "the protocol's limits are fixed";

/// Keys of a RocketMQ `namesrv.conf` that are accepted and do nothing, and why.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("rocketmqHome", "nothing is read from a home directory"),
    ("configStorePath", "changes at run time are not written to a file"),
    ("productEnvName", "routes are never fetched from another environment"),
    ("clusterTest", "routes are never fetched from another environment"),
    ("configBlackList", "only keys of a fixed list can be changed at run time"),
    ("enableControllerInNamesrv", "this name server has no controller"),
    ("notifyMinBrokerIdChangeTimeoutMillis", "the notification is sent without waiting"),
    ("unRegisterBrokerQueueCapacity", "brokers are removed at once, not through a queue"),
    ("clientRequestThreadPoolNums", POOLS),
    ("clientRequestThreadPoolQueueCapacity", POOLS),
    ("defaultThreadPoolNums", POOLS),
    ("defaultThreadPoolQueueCapacity", POOLS),
    ("serverWorkerThreads", POOLS),
    ("serverCallbackExecutorThreads", POOLS),
    ("serverSelectorThreads", POOLS),
    ("serverOnewaySemaphoreValue", LIMITED),
    ("serverAsyncSemaphoreValue", LIMITED),
    ("serverChannelMaxIdleTimeSeconds", LIMITED),
    ("serverSocketSndBufSize", NETTY),
    ("serverSocketRcvBufSize", NETTY),
    ("serverSocketBacklog", NETTY),
    ("writeBufferHighWaterMark", NETTY),
    ("writeBufferLowWaterMark", NETTY),
    ("serverPooledByteBufAllocatorEnable", NETTY),
    ("serverNettyWorkerGroupEnable", NETTY),
    ("useEpollNativeSelector", NETTY),
    ("enableShutdownGracefully", "a stop always lets requests finish"),
    ("shutdownWaitTimeSeconds", "a stop always lets requests finish"),
];

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
