//! `mqtool bench`: measures a broker from outside, ours or any that is compatible with RocketMQ.
//!
//! The generator speaks the protocol over sockets of its own, one thread each, so that it costs
//! the same whatever broker it measures. `target` finds the broker, `engine` drives a connection,
//! `send` and `consume` say with what, `report` adds up.

mod consume;
mod engine;
mod process;
mod report;
mod send;
mod target;

use std::{
    net::TcpStream,
    sync::mpsc,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand, ValueEnum};
use protocol::frame::Encoding;

use self::{
    engine::{Pace, Plan, Tally, Workload},
    process::{CpuTime, anonymous_memory},
    report::{Measured, Report},
    target::Target,
};
use crate::{Context, error::Failure, time::duration};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Send messages as fast as answers allow, or at a fixed rate
    Send(send::Arguments),
    /// Pull the messages of a topic again and again, outside of any group
    Consume(consume::Arguments),
}

/// What both kinds of load have in common.
#[derive(Args)]
pub(crate) struct Load {
    /// The topic; `send` creates it if it does not exist, nobody deletes it
    #[arg(short, long, default_value = "mqtool-bench")]
    topic: String,
    /// Load this broker; no name server is asked, no topic is created
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// Connections, a thread each
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// Requests of a connection that may wait for their answer
    #[arg(short = 'w', long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=16_384))]
    in_flight: u16,
    /// Messages per second, all connections together: an open loop
    ///
    /// Requests leave by the clock, and latency counts from the time a request was due, so a
    /// server that stalls cannot hide it. Without a rate every answer makes room for the next
    /// request: a closed loop.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Time before the measurement begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    /// Time that is measured
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    duration: Duration,
    /// How headers are written; RocketMQ's Java clients write JSON
    #[arg(long, value_enum, default_value_t = Header::Json)]
    header: Header,
    /// Write every request by itself, as RocketMQ's Java clients do, not all that are due at once
    #[arg(long)]
    write_each: bool,
    /// Also report the CPU time and the memory of this process on this machine: the broker's
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
}

/// How headers are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Header {
    /// Text
    Json,
    /// RocketMQ's compact form
    Binary,
}

impl Header {
    fn encoding(self) -> Encoding {
        match self {
            Self::Json => Encoding::Json,
            Self::Binary => Encoding::Binary,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
        }
    }
}

pub(crate) fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Send(arguments) => send::run(&arguments, context),
        Verb::Consume(arguments) => consume::run(&arguments, context),
    }
}

/// Connects once for each workload to its broker.
fn connect<'a, W: Workload>(
    works: impl Iterator<Item = (&'a Target, W)>,
    timeout: Duration,
) -> Result<Vec<Job<W>>, Failure> {
    works
        .map(|(target, work)| {
            let stream = target.connect(timeout)?;
            Ok(Job { address: target.address.clone(), stream, work })
        })
        .collect()
}

/// One connection and what it is used for.
struct Job<W> {
    address: String,
    stream: TcpStream,
    work: W,
}

/// Runs all connections at once and measures. `batch` is the number of messages that a request is
/// meant to carry.
fn measure<W: Workload + 'static>(
    jobs: Vec<Job<W>>,
    load: &Load,
    batch: u32,
) -> Result<Measured, Failure> {
    let connections = u32::from(load.connections);
    // Connections take turns, so that together they keep the rate.
    let between = load.rate.map(|rate| Duration::from_secs(1) * batch / rate);
    let start = Instant::now();
    let from = start + load.warm_up;
    let end = from + load.duration;
    let (sender, tallies) = mpsc::channel();
    for (turn, job) in (0..).zip(jobs) {
        let plan = Plan {
            in_flight: usize::from(load.in_flight),
            pace: between.map(|between| Pace::new(start + between * turn, between * connections)),
            write_each: load.write_each,
            from,
            end,
        };
        let sender = sender.clone();
        std::thread::spawn(move || {
            let Job { address, stream, mut work } = job;
            let outcome = engine::run(stream, plan, &mut work)
                .map_err(|reason| Failure::Bench { address, reason: reason.to_string() });
            // Nobody waits any more when another connection has failed.
            let _ = sender.send(outcome);
        });
    }
    drop(sender);
    let mut total = Tally::default();
    collect(&tallies, from, &mut total)?;
    let before = Usage::now(load.server_pid)?;
    collect(&tallies, end, &mut total)?;
    let after = Usage::now(load.server_pid)?;
    for tally in tallies {
        total.add(tally?);
    }
    Ok(Measured::new(before, after, total))
}

/// Waits until `deadline`, or until a connection fails.
fn collect(
    tallies: &mpsc::Receiver<Result<Tally, Failure>>,
    deadline: Instant,
    total: &mut Tally,
) -> Result<(), Failure> {
    loop {
        match tallies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(tally) => total.add(tally?),
            Err(_) => return Ok(()),
        }
    }
}

/// What the generator and the server have used.
#[derive(Clone, Copy)]
struct Usage {
    own: CpuTime,
    server: Option<CpuTime>,
    server_memory_bytes: Option<u64>,
}

impl Usage {
    fn now(server: Option<u32>) -> Result<Self, Failure> {
        let cpu = |pid: u32| CpuTime::of(pid).map_err(|source| Failure::NoProcess { pid, source });
        let memory =
            |pid: u32| anonymous_memory(pid).map_err(|source| Failure::NoProcess { pid, source });
        Ok(Self {
            own: cpu(std::process::id())?,
            server: server.map(cpu).transpose()?,
            server_memory_bytes: server.map(memory).transpose()?,
        })
    }
}

/// Prints what was measured; refusals make the command fail.
fn finish(report: &Report, total: &Tally, context: &mut Context) -> Result<(), Failure> {
    report.show(context)?;
    match &total.first_refusal {
        Some(reason) => Err(Failure::BenchRefused { count: total.refused, reason: reason.clone() }),
        None => Ok(()),
    }
}
