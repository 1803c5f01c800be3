//! What the log says at the start: what was found, what may be lost, and when messages go.

use storage::Recovery;

use crate::{config::Config, role::Standing};

/// What an operator must know of the settings: what may be lost, and when messages are deleted.
pub(crate) fn about_promises(config: &Config, standing: Standing) {
    if config.flush == "sync" {
        tracing::info!("flush is sync: a message is on the disk before its send is answered");
    } else {
        let lost_ms = config.flush_interval_ms;
        tracing::info!(
            "flush is async: a power cut may lose the last {lost_ms} ms of messages; a crash of \
             this process loses none"
        );
    }
    if !standing.is_master() {
        tracing::info!(
            broker_id = standing.broker_id(),
            "role is slave: it takes no messages, has a copy of the master's, and becomes the master \
             only when somebody says `mqtool broker promote`"
        );
        return;
    }
    tracing::info!("{}", promise(config));
    tracing::info!(
        hours = config.retention_hours,
        at = %config.delete_hours,
        disk_clean_percent = config.disk_clean_percent,
        disk_force_clean_percent = config.disk_force_clean_percent,
        disk_refuse_percent = config.disk_refuse_percent,
        delete_unexpired = config.delete_unexpired,
        "messages are deleted after their hours, or sooner when the disk fills up"
    );
}

/// What a send that was answered with success means for the slaves.
fn promise(config: &Config) -> String {
    let slaves = config.copies() - 1;
    if slaves == 0 {
        return "role is async_master: a send does not wait for slaves; if this machine is lost, what a \
                slave has not received yet is lost with it"
            .to_owned();
    }
    let what = if config.replica_ack == "durable" {
        "on the disk of"
    } else {
        "in the memory or on the disk of"
    };
    let slaves = if slaves == 1 { "a slave".to_owned() } else { format!("{slaves} slaves") };
    format!(
        "role is sync_master: a message is {what} {slaves} before its send is answered with success \
         and before anybody reads it; otherwise the answer is 11 or 12"
    )
}

/// What opening the store found and did.
pub(crate) fn about_recovery(recovery: &Recovery) {
    tracing::info!(
        end = recovery.end.0,
        replayed_records = recovery.replayed_records,
        removed_entries = recovery.removed_entries,
        unsynced_bytes = recovery.unsynced_bytes,
        synced_ms = recovery.synced_in.as_millis(),
        "store opened"
    );
    if let Some(cut) = &recovery.cut {
        tracing::warn!(at = cut.at.0, reason = cut.reason, "the log's torn end was cut off");
    }
    for damage in &recovery.damaged {
        tracing::error!(
            from = damage.from.0,
            to = damage.to.0,
            "the messages in this range of the log are damaged and cannot be read"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promise_says_how_many_slaves_and_what_they_do() {
        assert!(promise(&Config::default()).contains("does not wait for slaves"));
        let sync = Config { role: "sync_master".to_owned(), ..Config::default() };
        assert!(promise(&sync).contains("in the memory or on the disk of a slave before"));
        let durable = Config { in_sync_replicas: 3, replica_ack: "durable".to_owned(), ..sync };
        assert!(promise(&durable).contains("on the disk of 2 slaves before"));
    }
}
