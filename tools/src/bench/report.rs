//! What a bench has measured, in figures.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeMap as _};

use super::{Usage, check::Faults, engine::Tally};
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

/// What was done.
#[derive(Debug, Serialize)]
pub(super) struct Shape {
    pub(super) bench: &'static str,
    pub(super) topic: String,
    pub(super) connections: u16,
    pub(super) in_flight: u16,
    pub(super) batch: u32,
    pub(super) body_bytes: Option<u32>,
    pub(super) header: &'static str,
    pub(super) write_each: bool,
    pub(super) rate: Option<u32>,
    pub(super) seconds: f64,
}

/// The figures. Latencies are those of requests from due to answered, or of deliveries from due to
/// received.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    shape: Shape,
    messages: u64,
    messages_per_second: f64,
    mib_per_second: f64,
    requests: u64,
    refused: u64,
    missed: u64,
    lost: u64,
    /// Messages that went one way and are not in the queues.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) not_stored: Option<u64>,
    #[serde(flatten)]
    latency: Latencies,
    /// From written to received.
    #[serde(flatten)]
    pub(super) written: Option<Latencies>,
    #[serde(flatten)]
    deliveries: Option<Deliveries>,
    generator_cpu_us_per_message: Option<f64>,
    server_cpu_us_per_message: Option<f64>,
    server_anonymous_memory_bytes: Option<u64>,
}

/// Whether every consumer got what it should.
#[derive(Clone, Copy, Debug, Serialize)]
struct Deliveries {
    queues: i32,
    deliveries_lost: u64,
    deliveries_twice: u64,
    deliveries_disordered: u64,
}

/// A distribution in microseconds, serialized as fields of its report with this prefix.
#[derive(Debug)]
pub(super) struct Latencies {
    prefix: &'static str,
    samples: u64,
    us: [(&'static str, f64); 8],
}

impl Latencies {
    pub(super) fn new(prefix: &'static str, latency: &Histogram<u64>) -> Self {
        let us = |ns: u64| round(float(ns) / 1000.0);
        let quantile = |quantile| us(latency.value_at_quantile(quantile));
        Self {
            prefix,
            samples: latency.len(),
            us: [
                ("min", us(latency.min())),
                ("mean", round(latency.mean() / 1000.0)),
                ("p50", quantile(0.5)),
                ("p90", quantile(0.9)),
                ("p99", quantile(0.99)),
                ("p999", quantile(0.999)),
                ("p9999", quantile(0.9999)),
                ("max", us(latency.max())),
            ],
        }
    }

    /// As a line for people.
    fn words(&self) -> String {
        let [min, mean, p50, p90, p99, p999, p9999, max] = self.us.map(|(_, us)| us);
        format!(
            "p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, p99.99 {p9999:.1}, max {max:.1} us; \
             mean {mean:.1}, least {min:.1} us; {} samples",
            self.samples
        )
    }
}

impl Serialize for Latencies {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry(&format!("{}_samples", self.prefix), &self.samples)?;
        for (name, us) in self.us {
            fields.serialize_entry(&format!("{}_{name}_us", self.prefix), &us)?;
        }
        fields.end()
    }
}

impl Report {
    pub(super) fn new(mut shape: Shape, measured: &Measured) -> Self {
        let total = &measured.total;
        let messages = float(total.worth.messages);
        let seconds = shape.seconds;
        shape.seconds = round(seconds);
        let per_message = |time: Duration| {
            (total.worth.messages > 0).then(|| round(time.as_secs_f64() * 1e6 / messages))
        };
        Self {
            shape,
            messages: total.worth.messages,
            messages_per_second: round(messages / seconds),
            mib_per_second: round(float(total.worth.bytes) / seconds / 1_048_576.0),
            requests: total.requests,
            refused: total.refused,
            missed: total.missed,
            lost: total.lost,
            not_stored: None,
            latency: Latencies::new("latency", &total.latency),
            written: None,
            deliveries: None,
            generator_cpu_us_per_message: per_message(measured.generator_cpu),
            server_cpu_us_per_message: measured.server_cpu.and_then(per_message),
            server_anonymous_memory_bytes: measured.server_memory_bytes,
        }
    }

    /// Adds what was wrong with deliveries.
    pub(super) fn deliveries(&mut self, queues: i32, faults: Faults) {
        self.deliveries = Some(Deliveries {
            queues,
            deliveries_lost: faults.lost,
            deliveries_twice: faults.twice,
            deliveries_disordered: faults.disordered,
        });
    }

    /// Prints the figures.
    pub(super) fn show(&self, context: &mut Context) -> Result<(), Failure> {
        let shape = &self.shape;
        let loop_kind = match shape.rate {
            Some(rate) => format!("open loop, {rate} messages/s due"),
            None => "closed loop".to_owned(),
        };
        let way = if self.not_stored.is_some() { ", one way" } else { "" };
        let body =
            shape.body_bytes.map_or_else(String::new, |bytes| format!(", {bytes} byte bodies"));
        let cpu = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} us a message"))
        };
        let memory = self.server_anonymous_memory_bytes.map_or_else(
            || "-".to_owned(),
            |bytes| format!("{:.1} MiB anonymous", float(bytes) / 1_048_576.0),
        );
        let mut pairs = vec![
            ("bench", format!("{}, {loop_kind}{way}", shape.bench)),
            (
                "load",
                format!(
                    "{} connections x {} in flight, {} messages a request{body}, {} headers",
                    shape.connections, shape.in_flight, shape.batch, shape.header
                ),
            ),
            ("messages", format!("{} in {:.1} s", self.messages, shape.seconds)),
            ("rate", format!("{:.0} messages/s", self.messages_per_second)),
            ("bytes", format!("{:.1} MiB/s", self.mib_per_second)),
            ("latency", self.latency.words()),
        ];
        pairs.extend(self.written.as_ref().map(|written| ("from written", written.words())));
        pairs.push((
            "not counted",
            format!(
                "{} requests refused, {} due but not sent, {} not answered",
                self.refused, self.missed, self.lost
            ),
        ));
        pairs.extend(self.deliveries.map(|found| {
            let text = format!(
                "{} lost, {} twice, {} out of order",
                found.deliveries_lost, found.deliveries_twice, found.deliveries_disordered
            );
            ("deliveries", text)
        }));
        pairs.extend(self.not_stored.map(|count| ("not stored", count.to_string())));
        pairs.push(("generator CPU", cpu(self.generator_cpu_us_per_message)));
        pairs.push(("server CPU", cpu(self.server_cpu_us_per_message)));
        pairs.push(("server memory", memory));
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
