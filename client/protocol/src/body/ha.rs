//! Replication as operators see it (907). RocketMQ's object, with one of ours in it that its tools
//! pass over.

use serde::{Deserialize, Serialize};

/// The replication of one broker, reply to code 907.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HaStatus {
    /// Of a slave: its way to the master.
    pub ha_client_runtime_info: HaClient,
    /// Of a master: the slaves that are connected.
    pub ha_connection_info: Vec<HaConnection>,
    /// How many of them are in sync.
    pub in_sync_slave_nums: i32,
    /// Whether the broker is a master.
    pub master: bool,
    /// End of the log.
    pub master_commit_log_max_offset: i64,
    /// What RocketMQ does not say; absent from its brokers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<Replication>,
}

/// A slave's way to its master.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HaClient {
    /// Whether it is connected.
    pub activated: bool,
    /// When something arrived last, Unix ms.
    pub last_read_timestamp: i64,
    /// When something was sent last, Unix ms.
    pub last_write_timestamp: i64,
    /// Address of the master, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_addr: Option<String>,
    /// End of what the master has made durable, as far as it said.
    pub master_flush_offset: i64,
    /// End of the slave's log.
    pub max_offset: i64,
    /// Bytes per second that arrive.
    pub transferred_byte_in_second: i64,
}

/// A master's way to one slave.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct HaConnection {
    /// Address that the slave connected from.
    pub addr: String,
    /// Its broker id; -1 from RocketMQ's brokers.
    #[serde(default = "unknown")]
    pub broker_id: i64,
    /// Bytes that it is behind.
    pub diff: i64,
    /// Whether it counts as in sync.
    pub in_sync: bool,
    /// How long it has been behind, milliseconds; -1 from RocketMQ's brokers.
    #[serde(default = "unknown")]
    pub lag_ms: i64,
    /// End of what it has acknowledged.
    pub slave_ack_offset: i64,
    /// Where the next bytes are read.
    pub transfer_from_where: i64,
    /// Bytes per second that are sent.
    pub transferred_byte_in_second: i64,
}

/// What RocketMQ does not say.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Replication {
    /// Broker id that it registers with.
    pub broker_id: i64,
    /// Of a slave: how far its log ends behind the last that it knows of the master's, bytes.
    pub behind: i64,
    /// Number of the epoch.
    pub epoch: i64,
    /// Copies that a send waits for, the master's own among them.
    pub in_sync_replicas: i32,
    /// Who began the epoch, as 16 hexadecimal digits.
    pub leader: String,
    /// Where slaves connect to, if anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// Address of the master's clients, as far as a slave knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub master_client_addr: Option<String>,
    /// Last sequence of the index.
    pub sequence: i64,
    /// Whether it serves readers.
    pub serves: bool,
    /// Which store, as 16 hexadecimal digits.
    pub store_id: String,
}

fn unknown() -> i64 {
    -1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    /// As RocketMQ 5.3 prints it for a master without slaves.
    const JAVA: &str = r#"{"haClientRuntimeInfo":{"activated":false,"lastReadTimestamp":0,"lastWriteTimestamp":0,"masterFlushOffset":0,"maxOffset":0,"transferredByteInSecond":0},"haConnectionInfo":[],"inSyncSlaveNums":0,"master":true,"masterCommitLogMaxOffset":7}"#;

    #[test]
    fn rocketmqs_object_is_written_and_read() {
        let status =
            HaStatus { master: true, master_commit_log_max_offset: 7, ..HaStatus::default() };
        assert_eq!(json::encode(&status), JAVA);
        assert_eq!(json::decode::<HaStatus>(JAVA.as_bytes()).unwrap(), status);
    }

    #[test]
    fn what_rocketmq_leaves_out_is_unknown() {
        let text = r#"{"haConnectionInfo":[{"addr":"10.0.0.2:4711","diff":5,"inSync":true}]}"#;
        let status: HaStatus = json::decode(text.as_bytes()).unwrap();
        assert_eq!((status.ha_connection_info[0].broker_id, status.replication), (-1, None));
    }
}
