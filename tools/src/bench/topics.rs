//! The load of `bench topics`: topics are created as RocketMQ's admin tool creates them.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use clap::Args;
use protocol::{
    clock::Clock,
    code::{RequestCode, ResponseCode},
    frame::{self, Encoding, Frame, Head},
    names::AUTO_CREATE_TOPIC,
    request::topic::CreateTopic,
};

use super::{
    Server, Usage,
    engine::{self, Ask, Plan, Workload, Worth},
    finish,
    report::{Measured, Report, Shape},
    target::Target,
};
use crate::{Context, error::Failure};

/// Nothing takes so long: what ends the run is its last topic.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// May be read and written.
const READ_AND_WRITE: i32 = 6;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: Server,
    /// Topics to create; nobody deletes them
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
    /// Requests that may wait for their answer
    #[arg(short = 'w', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16_384))]
    in_flight: u16,
    /// Queues of each
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=4096))]
    queues: i32,
    /// Begin of their names, which a number follows; another for each run by default
    #[arg(long, value_name = "NAME")]
    prefix: Option<String>,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { server, count, in_flight, queues, prefix } = arguments;
    let target = match &server.broker {
        Some(address) => Target::direct(address, *queues),
        None => Target::any_master(context)?,
    };
    let prefix =
        prefix.clone().unwrap_or_else(|| format!("mqtool-bench-{:x}", Clock::system().now_ms()));
    let mut work = Topics {
        prefix,
        encoding: server.header.encoding(),
        queues: *queues,
        number: 0,
        name: String::new(),
    };
    let stream = target.connect(context.timeout())?;
    let before = Usage::now(server.server_pid)?;
    let start = Instant::now();
    let plan = Plan {
        in_flight: usize::from(*in_flight),
        pace: None,
        write_each: false,
        oneway: false,
        requests_max: (*count).into(),
        from: start,
        end: start + LONGEST,
    };
    let total = engine::run(stream, plan, &mut work)
        .map_err(|reason| Failure::Bench { address: target.address, reason: reason.to_string() })?;
    let seconds = start.elapsed().as_secs_f64();
    let measured = Measured::new(before, Usage::now(server.server_pid)?, total);
    let shape = Shape {
        bench: "topics",
        topic: work.prefix,
        connections: 1,
        in_flight: *in_flight,
        batch: 1,
        body_bytes: None,
        header: server.header.name(),
        write_each: false,
        rate: None,
        seconds,
    };
    finish(&Report::new(shape, &measured), &measured.total, context)
}

/// Creations of topics whose names count.
struct Topics {
    prefix: String,
    encoding: Encoding,
    queues: i32,
    number: u32,
    name: String,
}

impl Workload for Topics {
    fn request(&mut self, ask: Ask, out: &mut BytesMut) {
        self.name.clear();
        // Writing to a string cannot fail.
        let _ = write!(self.name, "{}-{}", self.prefix, self.number);
        self.number += 1;
        let header = CreateTopic {
            topic: &self.name,
            default_topic: Some(AUTO_CREATE_TOPIC),
            read_queues: self.queues,
            write_queues: self.queues,
            perm: READ_AND_WRITE,
            filter_type: Some("SINGLE_TAG"),
            sys_flag: 0,
            order: false,
            attributes: None,
        };
        let code = RequestCode::UpdateAndCreateTopic.as_i32();
        frame::write(out, &Head::request(code, ask.slot, self.encoding, false), &header, 0);
    }

    fn answer(&mut self, _: i32, frame: &Frame) -> Result<Worth, String> {
        match frame.response_code() {
            ResponseCode::SUCCESS => Ok(Worth { messages: 1, bytes: 0 }),
            _ => Err(super::target::refusal(frame)),
        }
    }
}
