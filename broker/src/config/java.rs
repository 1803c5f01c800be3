//! RocketMQ's `broker.conf`: which of its keys mean something here, and why the others do not.
//!
//! No key of such a file is fatal: an operator moves a broker by pointing it at the old file, and
//! one table of warnings says what has no effect.

use std::{net::SocketAddr, path::Path};

use super::{
    Config, KEYS,
    load::{LoadError, set, similar},
};

/// A key of a RocketMQ file without effect here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unmapped {
    /// The line, from 1.
    pub line: usize,
    /// The key as written.
    pub key: String,
    /// The value as written.
    pub value: String,
    /// Why it has no effect, or what has one instead.
    pub reason: String,
}

/// Keys whose only value here is the one given; that value needs no warning.
const FIXED: &[(&str, &str, &str)] = &[
    ("fetchNamesrvAddrByAddressServer", "false", "list the name servers"),
    ("fetchNameSrvAddrByDnsLookup", "false", "list the name servers"),
    ("brokerFastFailureEnable", "true", "requests do not queue here"),
    ("litePullMessageEnable", "true", "lite pull is always served"),
    ("rejectPullConsumerEnable", "false", "pull consumers are always served"),
    ("messageIndexEnable", "true", "keys are always indexed"),
    ("validateSystemTopicWhenUpdateTopic", "true", "system topics are always protected"),
    ("realTimeNotifyConsumerChange", "true", "consumers are told at once"),
    ("checkCRCOnRecover", "true", "records are always verified"),
    ("forceRegister", "true", "every registration is complete"),
    ("enableControllerMode", "false", "there is no controller as yet"),
    ("enablePropertyFilter", "false", "SQL filters are not served yet"),
    ("rejectTransactionMessage", "false", "transactional messages are refused as yet"),
    ("recallMessageEnable", "false", "timer messages are not served yet"),
    ("authenticationEnabled", "false", "access control is not served yet"),
    ("authorizationEnabled", "false", "access control is not served yet"),
    ("aclEnable", "false", "access control is not served yet"),
    ("metricsExporterType", "DISABLE", "metrics are not exported yet"),
    ("storeType", "default", "there is one store, made of a commit log and one RocksDB"),
    ("enableLmq", "false", "light queues are not served yet"),
    ("enableMultiDispatch", "false", "light queues are not served yet"),
    ("coldDataFlowControlEnable", "false", "cold reads have threads of their own"),
    ("messageStorePlugIn", "", "there are no store plug-ins"),
];

/// Keys without a counterpart, by reason.
const IGNORED: &[(&str, &[&str])] = &[
    (
        "requests run to completion where they are read: there are no thread pools or queues to size",
        &[
            "serverWorkerThreads",
            "serverSelectorThreads",
            "serverCallbackExecutorThreads",
            "sendMessageThreadPoolNums",
            "pullMessageThreadPoolNums",
            "litePullMessageThreadPoolNums",
            "ackMessageThreadPoolNums",
            "queryMessageThreadPoolNums",
            "adminBrokerThreadPoolNums",
            "clientManageThreadPoolNums",
            "consumerManageThreadPoolNums",
            "heartbeatThreadPoolNums",
            "endTransactionThreadPoolNums",
            "processReplyMessageThreadPoolNums",
            "sendThreadPoolQueueCapacity",
            "pullThreadPoolQueueCapacity",
            "litePullThreadPoolQueueCapacity",
            "ackThreadPoolQueueCapacity",
            "replyThreadPoolQueueCapacity",
            "queryThreadPoolQueueCapacity",
            "clientManagerThreadPoolQueueCapacity",
            "consumerManagerThreadPoolQueueCapacity",
            "heartbeatThreadPoolQueueCapacity",
            "endTransactionPoolQueueCapacity",
            "adminBrokerThreadPoolQueueCapacity",
            "waitTimeMillsInSendQueue",
            "waitTimeMillsInPullQueue",
            "waitTimeMillsInLitePullQueue",
            "waitTimeMillsInAdminBrokerQueue",
            "waitTimeMillsInHeartbeatQueue",
            "waitTimeMillsInTransactionQueue",
            "waitTimeMillsInAckQueue",
            "osPageCacheBusyTimeOutMills",
            "useReentrantLockWhenPutMessage",
            "putMessageTimeout",
            "recoverConcurrently",
            "transferMsgByHeap",
            "useEpollNativeSelector",
        ],
    ),
    (
        "the index lives in one RocksDB and sizes itself",
        &[
            "storePathCommitLog",
            "mappedFileSizeConsumeQueue",
            "flushIntervalConsumeQueue",
            "maxHashSlotNum",
            "maxIndexNum",
            "enableCalcFilterBitMap",
            "configManagerVersion",
            "flushConsumerOffsetInterval",
            "maxRecoveryCommitlogFiles",
        ],
    ),
    (
        "segments are allocated and populated ahead by the store itself",
        &[
            "flushCommitLogLeastPages",
            "flushCommitLogThoroughInterval",
            "transientStorePoolEnable",
            "transientStorePoolSize",
            "warmMapedFileEnable",
            "warmMapedFileSize",
        ],
    ),
    (
        "old messages are looked for every 10 s and at most 10 files deleted at a time; readers of a \
         deleted file finish",
        &[
            "deleteCommitLogFilesInterval",
            "deleteConsumeQueueFilesInterval",
            "deleteFileBatchMax",
            "cleanResourceInterval",
            "destroyMapedFileIntervalForcibly",
            "redeleteHangedFileInterval",
        ],
    ),
    (
        "compacted topics are not built yet: their messages are kept as those of others",
        &["enableCompaction", "compactionScheduleInternal"],
    ),
    (
        "a pull is limited by pull_max_messages and pull_max_bytes wherever the messages are read from",
        &[
            "maxTransferCountOnMessageInDisk",
            "maxTransferBytesOnMessageInDisk",
            "maxFilterMessageSize",
            "pullBatchMaxMessageCount",
            "accessMessageInMemoryMaxRatio",
        ],
    ),
    (
        "slaves connect to brokerIP1, with a protocol of this project that sizes itself; who is the \
         master changes by hand only",
        &[
            "brokerIP2",
            "haSendHeartbeatInterval",
            "haHousekeepingInterval",
            "haTransferBatchSize",
            "haMaxGapNotInSync",
            "totalReplicas",
            "minInSyncReplicas",
            "enableAutoInSyncReplicas",
            "allAckInSyncStateSet",
            "haMaxTimeSlaveNotCatchup",
            "haFlowControlEnable",
            "maxHaTransferByteInSecond",
            "controllerAddr",
            "controllerHeartBeatTimeoutMills",
            "syncBrokerMetadataPeriod",
            "checkSyncStateSetPeriod",
            "brokerElectionPriority",
            "enableSlaveActingMaster",
            "enableRemoteEscape",
            "lockInStrictMode",
            "brokerHeartbeatInterval",
            "brokerNotActiveTimeoutMillis",
        ],
    ),
    (
        "delayed messages, transactions, POP and request-reply are not built yet",
        &[
            "messageDelayLevel",
            "timerWheelEnable",
            "timerMaxDelaySec",
            "timerPrecisionMs",
            "timerRollWindowSlot",
            "transactionTimeOut",
            "transactionCheckMax",
            "transactionCheckInterval",
            "transactionOpMsgMaxSize",
            "transactionOpBatchInterval",
            "reviveQueueNum",
            "reviveInterval",
            "popPollingSize",
            "maxPopPollingSize",
            "popFromRetryProbability",
            "enableRetryTopicV2",
            "popConsumerKVServiceEnable",
            "popConsumerKVServiceInit",
            "enablePopMessageThreshold",
            "popInflightMessageThreshold",
            "serverLoadBalancerEnable",
            "defaultMessageRequestMode",
            "defaultPopShareQueueNum",
            "storeReplyMessageEnable",
            "enableMixedMessageType",
            "clearRetryTopicWhenDeleteTopic",
            "maxLmqConsumeQueueNum",
            "filterSupportRetry",
        ],
    ),
    (
        "access control is not built yet",
        &[
            "initAuthenticationUser",
            "innerClientAuthenticationCredentials",
            "migrateAuthFromV1Enabled",
            "userCacheMaxNum",
            "userCacheExpiredSecond",
            "userCacheRefreshSecond",
            "aclCacheMaxNum",
            "aclCacheExpiredSecond",
            "aclCacheRefreshSecond",
        ],
    ),
    (
        "names, limits and registration are fixed as RocketMQ's defaults have them",
        &[
            "msgTraceTopicName",
            "maxTopicLength",
            "compressedRegister",
            "enableSingleTopicRegister",
            "enableSplitRegistration",
            "splitRegistrationSize",
            "enableSplitMetadata",
            "splitMetadataSize",
            "useServerSideResetOffset",
            "configBlackList",
            "enableBroadcastOffsetStore",
            "broadcastOffsetExpireSecond",
            "broadcastOffsetExpireMaxSecond",
            "metricsPromExporterPort",
            "metricsPromExporterHost",
            "rocketmqHome",
        ],
    ),
    (
        "slow consumers are not cut off",
        &[
            "disableConsumeIfConsumerReadSlowly",
            "consumerFallbehindThreshold",
            "cgColdReadThreshold",
            "globalColdReadThreshold",
        ],
    ),
];

/// Sets what the file `text` says, and returns what of it has no effect.
///
/// # Errors
///
/// Never today; the type is that of the TOML reader.
pub(super) fn apply(
    config: &mut Config,
    path: &Path,
    text: &str,
) -> Result<Vec<Unmapped>, LoadError> {
    let mut unmapped = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        let (key, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
        let (key, value) = (key.trim(), value.trim());
        let place = format!("{}:{}", path.display(), index + 1);
        if let Err(reason) = assign(config, &place, key, value) {
            let (key, value) = (key.to_owned(), value.to_owned());
            unmapped.push(Unmapped { line: index + 1, key, value, reason });
        }
    }
    Ok(unmapped)
}

/// Applies one pair, or says why it has no effect.
fn assign(config: &mut Config, place: &str, key: &str, value: &str) -> Result<(), String> {
    let set = |config: &mut Config, name: &str, value: &str| {
        set(config, place, name, value).map_err(|error| match error {
            LoadError::Value { problem, .. } => problem,
            other => other.to_string(),
        })
    };
    match key {
        "bindAddress" => {
            let ip = value.parse().map_err(|_| "expected an IP address".to_owned())?;
            config.listen.set_ip(ip);
            if let Some(ha_listen) = &mut config.ha_listen {
                ha_listen.set_ip(ip);
            }
            return Ok(());
        }
        "haListenPort" => {
            let port: u16 = value.parse().map_err(|_| "expected a port".to_owned())?;
            // RocketMQ takes 0 for "the port after listenPort", as we take none.
            config.ha_listen = (port > 0).then(|| SocketAddr::new(config.listen.ip(), port));
            return Ok(());
        }
        "brokerRole" => return set(config, "role", &value.to_ascii_lowercase()),
        "listenPort" => {
            let port = value.parse().map_err(|_| "expected a port".to_owned())?;
            config.listen.set_port(port);
            return Ok(());
        }
        "flushDiskType" => {
            return set(config, "flush", if value == "SYNC_FLUSH" { "sync" } else { "async" });
        }
        "serverChannelMaxIdleTimeSeconds" => {
            return set(config, "connection_idle_ms", &format!("{value}000"));
        }
        _ => {}
    }
    if let Some(mapped) = KEYS.iter().find(|known| known.rocketmq == key) {
        return set(config, mapped.name, value);
    }
    if let Some((_, fixed, reason)) = FIXED.iter().find(|(name, ..)| *name == key) {
        return if value == *fixed { Ok(()) } else { Err((*reason).to_owned()) };
    }
    let ignored = IGNORED.iter().find(|(_, keys)| keys.contains(&key));
    Err(ignored.map_or_else(|| unknown(key), |(reason, _)| (*reason).to_owned()))
}

fn unknown(key: &str) -> String {
    let known = KEYS
        .iter()
        .map(|known| known.rocketmq)
        .chain(FIXED.iter().map(|(name, ..)| *name))
        .chain(IGNORED.iter().flat_map(|(_, keys)| keys.iter().copied()));
    similar(key, known).map_or_else(
        || "not a key that this broker knows".to_owned(),
        |name| format!("not a key that this broker knows; did you mean {name}?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Config, Vec<Unmapped>) {
        let mut config = Config::default();
        let unmapped = apply(&mut config, Path::new("broker.conf"), text).unwrap();
        (config, unmapped)
    }

    #[test]
    fn the_sample_file_of_rocketmq_is_understood() {
        let (config, unmapped) = read(
            "# sample\nbrokerClusterName = DefaultCluster\nbrokerName=broker-a\nbrokerId=0\n\
             deleteWhen=04\nfileReservedTime=48\nbrokerRole=ASYNC_MASTER\nflushDiskType=SYNC_FLUSH\n\
             listenPort = 20911\nbindAddress=127.0.0.1\nnamesrvAddr=a:9876;b:9876\n\
             autoCreateTopicEnable=false\nserverChannelMaxIdleTimeSeconds=60\n",
        );
        assert_eq!(config.name, "broker-a");
        assert_eq!(config.listen.to_string(), "127.0.0.1:20911");
        assert_eq!(config.namesrv, ["a:9876", "b:9876"]);
        assert_eq!(config.flush, "sync");
        assert!(!config.auto_create_topic);
        assert_eq!(config.connection_idle_ms, 60_000);
        assert_eq!(config.retention_hours, 48);
        assert_eq!(config.delete_hours.0, [4]);
        assert!(unmapped.is_empty(), "{unmapped:?}");
    }

    #[test]
    fn roles_are_read_as_rocketmq_writes_them() {
        let (config, unmapped) = read(
            "brokerRole=SLAVE\nbrokerId=1\nhaListenPort=30912\nhaMasterAddress=10.0.0.1:10912\n\
             inSyncReplicas=2\nslaveTimeout=500\nslaveReadEnable=false\nbindAddress=10.0.0.2\n\
             totalReplicas=2\n",
        );
        assert_eq!((config.role.as_str(), config.broker_id), ("slave", 1));
        assert_eq!(config.ha_listen.unwrap().to_string(), "10.0.0.2:30912");
        assert_eq!(config.ha_master.as_deref(), Some("10.0.0.1:10912"));
        assert_eq!((config.in_sync_replicas, config.slave_timeout_ms), (2, 500));
        assert!(!config.slave_read);
        assert_eq!(unmapped.len(), 1, "{unmapped:?}");
        assert_eq!(read("haListenPort=0\nbrokerRole=SYNC_MASTER\n").0.role, "sync_master");
        assert_eq!(read("brokerRole=LEADER\n").1.len(), 1);
    }

    #[test]
    fn retention_is_read_as_rocketmq_writes_it() {
        let (config, unmapped) = read(
            "deleteWhen=04;16\nfileReservedTime=1\ndiskMaxUsedSpaceRatio=60\n\
             diskSpaceCleanForciblyRatio=70\ndiskSpaceWarningLevelRatio=80\n\
             cleanFileForciblyEnable=false\ndeleteFileBatchMax=20\n",
        );
        assert_eq!(config.delete_hours.0, [4, 16]);
        assert_eq!((config.retention_hours, config.disk_clean_percent), (1, 60));
        assert_eq!((config.disk_force_clean_percent, config.disk_refuse_percent), (70, 80));
        assert!(!config.delete_unexpired);
        assert_eq!(unmapped.len(), 1);
        assert_eq!(unmapped[0].line, 7);
        let (config, unmapped) = read("deleteWhen=24\ndiskSpaceWarningLevelRatio=0.9\n");
        assert_eq!(config, Config::default());
        assert!(unmapped[0].reason.contains("from 0 to 23"), "{unmapped:?}");
        assert_eq!(unmapped.len(), 2);
    }

    #[test]
    fn nothing_in_such_a_file_is_fatal() {
        let (config, unmapped) = read(
            "brokerId=one\nlistenPort=high\nbrokerPermission=99\nautoCreateTopicEnabel=true\nnonsense\n",
        );
        assert_eq!(config, Config::default());
        assert_eq!(unmapped.len(), 5);
        assert!(unmapped[3].reason.contains("did you mean autoCreateTopicEnable?"), "{unmapped:?}");
    }

    #[test]
    fn no_key_stands_in_two_tables() {
        let mut all: Vec<&str> = KEYS
            .iter()
            .map(|key| key.rocketmq)
            .filter(|name| !name.is_empty())
            .chain(FIXED.iter().map(|(name, ..)| *name))
            .chain(IGNORED.iter().flat_map(|(_, keys)| keys.iter().copied()))
            .collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
