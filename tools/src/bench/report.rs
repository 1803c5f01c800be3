//! What a bench has measured, in figures.

use std::time::Duration;

use serde::Serialize;

use super::{Load, Usage, engine::Tally};
use crate::{Context, error::Failure};

/// What was measured.
pub(super) struct Measured {
    pub(super) total: Tally,
    pub(super) generator_cpu: Duration,
    pub(super) server_cpu: Option<Duration>,
    pub(super) server_memory_bytes: Option<u64>,
}

impl Measured {
    /// What happened between two looks at the processes.
    pub(super) fn new(before: Usage, after: Usage, total: Tally) -> Self {
        let server = after.server.zip(before.server);
        Self {
            total,
            generator_cpu: after.own.since(before.own),
            server_cpu: server.map(|(after, before)| after.since(before)),
            server_memory_bytes: after.server_memory_bytes,
        }
    }
}

/// The figures. Latencies are those of requests, in microseconds, from due to answered.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    bench: &'static str,
    topic: String,
    connections: u16,
    in_flight: u16,
    batch: u32,
    body_bytes: Option<u32>,
    header: &'static str,
    write_each: bool,
    rate: Option<u32>,
    seconds: f64,
    messages: u64,
    messages_per_second: f64,
    mib_per_second: f64,
    requests: u64,
    refused: u64,
    missed: u64,
    lost: u64,
    latency_samples: u64,
    latency_min_us: f64,
    latency_mean_us: f64,
    latency_p50_us: f64,
    latency_p90_us: f64,
    latency_p99_us: f64,
    latency_p999_us: f64,
    latency_p9999_us: f64,
    latency_max_us: f64,
    generator_cpu_us_per_message: Option<f64>,
    server_cpu_us_per_message: Option<f64>,
    server_anonymous_memory_bytes: Option<u64>,
}

impl Report {
    /// `bench` names the kind, `body_bytes` is the size of what was sent.
    pub(super) fn new(
        bench: &'static str,
        load: &Load,
        (batch, body_bytes): (u32, Option<u32>),
        measured: &Measured,
    ) -> Self {
        let total = &measured.total;
        let seconds = load.duration.as_secs_f64();
        let messages = float(total.worth.messages);
        let us = |ns: u64| round(float(ns) / 1000.0);
        let quantile = |quantile| us(total.latency.value_at_quantile(quantile));
        let per_message = |time: Duration| {
            (total.worth.messages > 0).then(|| round(time.as_secs_f64() * 1e6 / messages))
        };
        Self {
            bench,
            topic: load.topic.clone(),
            connections: load.connections,
            in_flight: load.in_flight,
            batch,
            body_bytes,
            header: load.header.name(),
            write_each: load.write_each,
            rate: load.rate,
            seconds: round(seconds),
            messages: total.worth.messages,
            messages_per_second: round(messages / seconds),
            mib_per_second: round(float(total.worth.bytes) / seconds / 1_048_576.0),
            requests: total.requests,
            refused: total.refused,
            missed: total.missed,
            lost: total.lost,
            latency_samples: total.latency.len(),
            latency_min_us: us(total.latency.min()),
            latency_mean_us: round(total.latency.mean() / 1000.0),
            latency_p50_us: quantile(0.5),
            latency_p90_us: quantile(0.9),
            latency_p99_us: quantile(0.99),
            latency_p999_us: quantile(0.999),
            latency_p9999_us: quantile(0.9999),
            latency_max_us: us(total.latency.max()),
            generator_cpu_us_per_message: per_message(measured.generator_cpu),
            server_cpu_us_per_message: measured.server_cpu.and_then(per_message),
            server_anonymous_memory_bytes: measured.server_memory_bytes,
        }
    }

    /// Prints the figures.
    pub(super) fn show(&self, context: &mut Context) -> Result<(), Failure> {
        let loop_kind = match self.rate {
            Some(rate) => format!("open loop, {rate} messages/s due"),
            None => "closed loop".to_owned(),
        };
        let body =
            self.body_bytes.map_or_else(String::new, |bytes| format!(", {bytes} byte bodies"));
        let optional =
            |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.2} us"));
        let pairs = [
            ("bench", format!("{}, {loop_kind}", self.bench)),
            (
                "load",
                format!(
                    "{} connections x {} in flight, {} messages a request{body}, {} headers",
                    self.connections, self.in_flight, self.batch, self.header
                ),
            ),
            ("messages", format!("{} in {:.1} s", self.messages, self.seconds)),
            ("rate", format!("{:.0} messages/s", self.messages_per_second)),
            ("bytes", format!("{:.1} MiB/s", self.mib_per_second)),
            (
                "latency",
                format!(
                    "{:.1} us mean, {:.1} us least, {} samples",
                    self.latency_mean_us, self.latency_min_us, self.latency_samples
                ),
            ),
            ("  p50", format!("{:.1} us", self.latency_p50_us)),
            ("  p90", format!("{:.1} us", self.latency_p90_us)),
            ("  p99", format!("{:.1} us", self.latency_p99_us)),
            ("  p99.9", format!("{:.1} us", self.latency_p999_us)),
            ("  p99.99", format!("{:.1} us", self.latency_p9999_us)),
            ("  max", format!("{:.1} us", self.latency_max_us)),
            (
                "not counted",
                format!(
                    "{} requests refused, {} due but not sent, {} not answered",
                    self.refused, self.missed, self.lost
                ),
            ),
            ("generator CPU", format!("{} a message", optional(self.generator_cpu_us_per_message))),
            ("server CPU", format!("{} a message", optional(self.server_cpu_us_per_message))),
            (
                "server memory",
                self.server_anonymous_memory_bytes.map_or_else(
                    || "-".to_owned(),
                    |bytes| format!("{:.1} MiB anonymous", float(bytes) / 1_048_576.0),
                ),
            ),
        ];
        Ok(context.output.object(&pairs, self)?)
    }
}

/// Counts stay far below 2^53, so nothing is lost.
#[expect(clippy::cast_precision_loss, reason = "figures for people have three digits")]
fn float(count: u64) -> f64 {
    count as f64
}

/// To three digits after the point: more would pretend a precision that no run has.
fn round(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
