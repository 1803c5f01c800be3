//! The broker's state as tools read it (code 28): a table of texts whose names and formats are
//! RocketMQ's.

use std::collections::BTreeMap;

use protocol::{body::kv::KvTable, frame::Frame, json, record::RecordView};

use super::{
    ha::lag_ms,
    reply::{Answer, Handled},
};
use crate::{ha::HaStatus, state::State, stats::Totals};

/// Code 28.
pub(super) fn info(state: &State, _: &Frame) -> Handled {
    let mut table = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        table.insert(name.to_owned(), value);
    };
    identity(state, &mut put);
    counters(state, &mut put);
    log(state, &mut put);
    queues(state, &mut put);
    replication(state, &mut put);
    Ok(Answer::bytes(json::encode(&KvTable { table })))
}

fn identity(state: &State, put: &mut impl FnMut(&str, String)) {
    let now_ms = state.clock.now_ms();
    put("brokerVersionDesc", "V5_3_3".to_owned());
    put("brokerVersion", protocol::frame::VERSION.to_string());
    put("basaltmqVersion", env!("CARGO_PKG_VERSION").to_owned());
    put("brokerActive", "true".to_owned());
    put("bootTimestamp", state.started_ms.to_string());
    put("startAcceptSendRequestTimeStamp", "0".to_owned());
    let seconds = (now_ms - state.started_ms).max(0) / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    let runtime =
        format!("[ {days} days, {hours} hours, {minutes} minutes, {} seconds ]", seconds % 60);
    put("runtime", runtime);
}

fn counters(state: &State, put: &mut impl FnMut(&str, String)) {
    let now_ms = state.clock.now_ms();
    let totals = state.stats.totals();
    let mornings = state.stats.mornings();
    put("putMessageTimesTotal", totals.put_messages.to_string());
    put("putMessageFailedTimes", totals.put_failed.to_string());
    put("putMessageSizeTotal", totals.put_bytes.to_string());
    let average = totals.put_bytes as f64 / totals.put_messages.max(1) as f64;
    put("putMessageAverageSize", format!("{average:.3}"));
    put("msgPutTotalYesterdayMorning", mornings.put_yesterday.to_string());
    put("msgPutTotalTodayMorning", mornings.put_today.to_string());
    put("msgPutTotalTodayNow", totals.put_messages.to_string());
    put("msgGetTotalYesterdayMorning", mornings.get_yesterday.to_string());
    put("msgGetTotalTodayMorning", mornings.get_today.to_string());
    put("msgGetTotalTodayNow", totals.get_messages.to_string());
    let mut rate = |name: &str, of: fn(&Totals) -> u64| put(name, state.stats.rates(now_ms, of));
    rate("putTps", |totals| totals.put_messages);
    rate("getFoundTps", |totals| totals.get_found);
    rate("getMissTps", |totals| totals.get_miss);
    rate("getTotalTps", |totals| totals.get_found + totals.get_miss);
    rate("getTransferredTps", |totals| totals.get_messages);
    // Tools of version 4 misspell it and fail without it.
    rate("getTransferedTps", |totals| totals.get_messages);
}

fn log(state: &State, put: &mut impl FnMut(&str, String)) {
    let store = &state.store;
    let min = store.min_log_offset();
    put("commitLogMinOffset", min.0.to_string());
    put("commitLogMaxOffset", store.max_log_offset().0.to_string());
    let unflushed = store.appended().0.saturating_sub(store.flushed().0);
    put("remainHowManyDataToFlush", human(unflushed));
    put("remainHowManyDataToCommit", human(0));
    let oldest = store.record_at(min).ok().flatten();
    let oldest_ms = oldest
        .as_deref()
        .and_then(|record| RecordView::parse(record).ok())
        .map_or(-1, |record| record.store_timestamp);
    put("earliestMessageTimeStamp", oldest_ms.to_string());
    match store.usage() {
        Ok(usage) => {
            let ratio = format!("{:.3}", usage.disk_ratio());
            put("commitLogDiskRatio", ratio.clone());
            put(&format!("commitLogDiskRatio_{}", state.config.store.display()), ratio.clone());
            put("consumeQueueDiskRatio", ratio);
            let (total, free) = (human(usage.disk_total_bytes), human(usage.disk_free_bytes));
            put("commitLogDirCapacity", format!("Total : {total}, Free : {free}."));
        }
        Err(error) => tracing::warn!(%error, "the disk's usage cannot be read"),
    }
}

/// What RocketMQ does not say here: the role, and how far slaves are.
fn replication(state: &State, put: &mut impl FnMut(&str, String)) {
    let seconds = |ms: i64| format!("{:.3}", ms as f64 / 1_000.0);
    put("role", state.part.standing.name(state.copies).to_owned());
    put("brokerId", state.part.standing.broker_id().to_string());
    match state.part.ha.status() {
        HaStatus::Master { epoch, slaves, .. } => {
            put("epoch", epoch.to_string());
            put("slavesConnected", slaves.len().to_string());
            put("slavesInSync", slaves.iter().filter(|slave| slave.in_sync).count().to_string());
            for slave in &slaves {
                put(&format!("slaveLagBytes_{}", slave.broker_id), slave.lag_bytes.to_string());
                put(&format!("slaveLagSeconds_{}", slave.broker_id), seconds(lag_ms(slave)));
            }
        }
        HaStatus::Slave(master) => {
            put("epoch", master.epoch.to_string());
            put("masterStreaming", master.streaming.to_string());
            put("masterLagBytes", master.lag_bytes.to_string());
            if let Some(address) = master.address {
                put("masterHaAddress", address);
            }
            if let Some(error) = master.last_error {
                put("masterLastError", error);
            }
        }
    }
}

/// What RocketMQ says of its thread pools and buffers. Requests do not queue here, entries of
/// queues are made with the append, and nothing is buffered outside of the log.
fn queues(state: &State, put: &mut impl FnMut(&str, String)) {
    for pool in ["send", "pull", "litePull", "query", "ack"] {
        put(&format!("{pool}ThreadPoolQueueSize"), "0".to_owned());
        put(&format!("{pool}ThreadPoolQueueCapacity"), "0".to_owned());
        put(&format!("{pool}ThreadPoolQueueHeadWaitTimeMills"), "0".to_owned());
    }
    for zero in [
        "EndTransactionQueueSize",
        "EndTransactionThreadPoolQueueCapacity",
        "pageCacheLockTimeMills",
        "dispatchBehindBytes",
        "dispatchMaxBuffer",
        "timerReadBehind",
        "timerOffsetBehind",
        "timerCongestNum",
    ] {
        put(zero, "0".to_owned());
    }
    put("timerEnqueueTps", "0.0".to_owned());
    put("timerDequeueTps", "0.0".to_owned());
    put("remainTransientStoreBufferNumbs", i32::MAX.to_string());
    put("heldPulls", state.places.taken().to_string());
}

/// Bytes as RocketMQ's tools print them: `512 B`, `1.5 KiB`.
fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next().copied().unwrap_or_default();
    for larger in units {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn sizes_read_as_rocketmq_prints_them() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(1 << 30), "1.0 GiB");
        assert_eq!(human(u64::MAX), "16.0 EiB");
    }
}
