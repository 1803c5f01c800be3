//! `mqtool bench`: measures a broker from outside, ours or any that is compatible with RocketMQ.
//!
//! The generator speaks the protocol over sockets of its own, one thread each, so that it costs
//! the same whatever broker it measures. `target` finds the broker, `engine` drives a connection,
//! `send`, `consume`, `deliver` and `topics` say with what, `report` adds up.

mod check;
mod consume;
mod deliver;
mod engine;
mod process;
mod receive;
mod report;
mod send;
mod target;
mod topics;

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
    report::{Measured, Report, Shape},
    target::Target,
};
use crate::{Context, error::Failure, time::duration};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Send messages as fast as answers allow, or at a fixed rate
    Send(send::Arguments),
    /// Pull the messages of a topic again and again, outside of any group
    Consume(consume::Arguments),
    /// Send at a fixed rate to consumers that wait, and time the way of each message
    Deliver(deliver::Arguments),
    /// Create topics
    Topics(topics::Arguments),
}

/// Whom to load, and how to speak to it.
#[derive(Args)]
pub(crate) struct Server {
    /// Load this broker; no name server is asked, no topic is created beforehand
    #[arg(long, value_name = "HOST:PORT")]
    broker: Option<String>,
    /// How headers are written; RocketMQ's Java clients write JSON
    #[arg(long, value_enum, default_value_t = Header::Json)]
    header: Header,
    /// Also report the CPU time and the memory of this process on this machine: the broker's
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
}

/// When to measure.
#[derive(Args)]
pub(crate) struct Window {
    /// Time before the measurement begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    warm_up: Duration,
    /// Time that is measured
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    duration: Duration,
}

/// What sends and pulls have in common.
#[derive(Args)]
pub(crate) struct Load {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    window: Window,
    /// The topic; `send` creates it if it does not exist, nobody deletes it
    #[arg(short, long, default_value = "mqtool-bench")]
    topic: String,
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
    /// Write every request by itself, as RocketMQ's Java clients do, not all that are due at once
    #[arg(long)]
    write_each: bool,
}

impl Load {
    fn shape(&self, bench: &'static str, batch: u32, body_bytes: Option<u32>) -> Shape {
        Shape {
            bench,
            topic: self.topic.clone(),
            connections: self.connections,
            in_flight: self.in_flight,
            batch,
            body_bytes,
            header: self.server.header.name(),
            write_each: self.write_each,
            rate: self.rate,
            seconds: self.window.duration.as_secs_f64(),
        }
    }
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
        Verb::Deliver(arguments) => deliver::run(&arguments, context),
        Verb::Topics(arguments) => topics::run(&arguments, context),
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

/// How all connections together are used, and when.
#[derive(Clone, Copy)]
struct Course {
    in_flight: u16,
    /// Time between requests of an open loop.
    interval: Option<Duration>,
    write_each: bool,
    oneway: bool,
    start: Instant,
    /// Begin and end of what is measured.
    from: Instant,
    end: Instant,
}

impl Course {
    /// `batch` is the number of messages that a request is meant to carry.
    fn of(load: &Load, batch: u32) -> Self {
        let interval = load.rate.map(|rate| Duration::from_secs(1) * batch / rate);
        let write_each = load.write_each;
        Self { write_each, ..Self::new(load.in_flight, interval, &load.window) }
    }

    /// A course that starts now.
    fn new(in_flight: u16, interval: Option<Duration>, window: &Window) -> Self {
        let start = Instant::now();
        let from = start + window.warm_up;
        let end = from + window.duration;
        Self { in_flight, interval, write_each: false, oneway: false, start, from, end }
    }

    /// The plan of one of the connections, which take turns, so that together they keep the rate.
    fn plan(&self, turn: u32, connections: u32) -> Plan {
        let pace = |interval| Pace::new(self.start + interval * turn, interval * connections);
        Plan {
            in_flight: usize::from(self.in_flight),
            pace: self.interval.map(pace),
            write_each: self.write_each,
            oneway: self.oneway,
            requests_max: u64::MAX,
            from: self.from,
            end: self.end,
        }
    }
}

/// Runs all connections at once and measures.
fn measure<W: Workload + 'static>(
    jobs: Vec<Job<W>>,
    course: &Course,
    server: &Server,
) -> Result<Measured, Failure> {
    let connections = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
    let (sender, tallies) = mpsc::channel();
    for (turn, job) in (0..).zip(jobs) {
        let plan = course.plan(turn, connections);
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
    collect(&tallies, course.from, &mut total)?;
    let before = Usage::now(server.server_pid)?;
    collect(&tallies, course.end, &mut total)?;
    let after = Usage::now(server.server_pid)?;
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
