//! The load of `bench send`: messages of one size, to the queues of a broker in turn.

use std::{
    fmt::Write as _,
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use clap::Args;
use protocol::{
    batch,
    clock::Clock,
    code::{RequestCode, ResponseCode},
    frame::{self, Encoding, Frame, Head},
    message_id::UniqueIds,
    names::AUTO_CREATE_TOPIC,
    property,
    request::send::Send,
};

use super::{
    Course, Load, connect,
    engine::{Ask, DRAIN, Workload, Worth},
    finish, measure,
    report::Report,
    target::{Target, refusal},
};
use crate::{Context, error::Failure};

/// The producer group of the generator.
pub(super) const GROUP: &str = "mqtool-bench";
/// Largest body.
const BODY_MAX_BYTES: u32 = 4 << 20;
/// Most bytes of bodies in a request; the rest of the largest frame is for headers and properties.
const REQUEST_MAX_BYTES: u64 = 15 << 20;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: Load,
    /// Bytes of a body, such as 100, 64KiB or 4MiB
    #[arg(short, long, value_name = "BYTES", default_value = "1KiB", value_parser = size)]
    size: u32,
    /// Messages of a request
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Ask for an answer to the last of each `--in-flight` messages alone; the rest go one way
    #[arg(long)]
    oneway: bool,
    /// Queues on each broker, if the topic has to be created or --broker is given
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=4096))]
    queues: i32,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { load, size, batch, oneway, queues } = arguments;
    let bytes = u64::from(*size) * u64::from(*batch);
    if bytes > REQUEST_MAX_BYTES {
        return Err(Failure::BenchTooLarge { bytes, max: REQUEST_MAX_BYTES });
    }
    let targets = match &load.server.broker {
        Some(address) => vec![Target::direct(address, *queues)],
        None => Target::writable(&load.topic, *queues, context)?,
    };
    let ids = Arc::new(UniqueIds::new(Ipv4Addr::LOCALHOST.into(), Clock::system()));
    let works = (0..).zip(targets.iter().cycle().take(usize::from(load.connections)));
    let works = works.map(|(turn, target)| {
        let encoding = load.server.header.encoding();
        let sends = Sends::new(&load.topic, target, encoding, Arc::clone(&ids));
        // So that not all connections send to the same queue at the same time.
        let work = Sends { queue: turn % target.write_queues, batch: *batch, ..sends.body(*size) };
        (target, work)
    });
    let jobs = connect(works, context.timeout())?;
    let ends = || ends(&targets, &load.topic, context.timeout());
    let before = if *oneway { ends()? } else { 0 };
    let course = Course { oneway: *oneway, ..Course::of(load, *batch) };
    let measured = measure(jobs, &course, &load.server)?;
    let mut report = Report::new(load.shape("send", *batch, Some(*size)), &measured);
    if *oneway {
        let sent = measured.total.issued * u64::from(*batch);
        report.not_stored = Some(settle(before + sent, ends)?);
    }
    finish(&report, &measured.total, context)
}

/// The ends of all queues, added up.
fn ends(targets: &[Target], topic: &str, timeout: Duration) -> Result<u64, Failure> {
    let mut sum = 0;
    for target in targets {
        match target.bounds(topic, timeout) {
            Ok(queues) => sum += queues.iter().map(|queue| queue.max.unsigned_abs()).sum::<u64>(),
            // The first message may create the topic.
            Err(Failure::Client(basaltmq::Error::TopicNotFound { .. })) => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(sum)
}

/// How many messages are missing when a broker has had its time to store what went one way.
fn settle(expected: u64, ends: impl Fn() -> Result<u64, Failure>) -> Result<u64, Failure> {
    let deadline = Instant::now() + DRAIN;
    loop {
        let missing = expected.saturating_sub(ends()?);
        if missing == 0 || Instant::now() > deadline {
            return Ok(missing);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads a number of bytes such as `100`, `64KiB` or `4MiB`.
pub(super) fn size(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|character: char| !character.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => Some(1_u32),
        "KiB" => Some(1 << 10),
        "MiB" => Some(1 << 20),
        _ => None,
    };
    let bytes = unit.zip(digits.parse::<u32>().ok()).and_then(|(unit, n)| n.checked_mul(unit));
    bytes.filter(|bytes| (1..=BODY_MAX_BYTES).contains(bytes)).ok_or_else(|| {
        format!("{text:?} is no size of a body; write 1 to 4MiB, such as 100, 64KiB or 4MiB")
    })
}

/// Sends of one connection.
pub(super) struct Sends {
    topic: String,
    broker: Option<String>,
    encoding: Encoding,
    queues: i32,
    queue: i32,
    batch: u32,
    pub(super) body: Vec<u8>,
    ids: Arc<UniqueIds>,
    clock: Clock,
    properties: String,
    messages: BytesMut,
}

impl Sends {
    /// Sends of single messages without content.
    pub(super) fn new(
        topic: &str,
        target: &Target,
        encoding: Encoding,
        ids: Arc<UniqueIds>,
    ) -> Self {
        Self {
            topic: topic.to_owned(),
            broker: target.name.clone(),
            encoding,
            queues: target.write_queues,
            queue: 0,
            batch: 1,
            body: Vec::new(),
            ids,
            clock: Clock::system(),
            properties: String::new(),
            messages: BytesMut::new(),
        }
    }

    /// The same with bodies of this size.
    pub(super) fn body(self, bytes: u32) -> Self {
        Self { body: vec![b'x'; usize::try_from(bytes).unwrap_or(usize::MAX)], ..self }
    }

    /// What every client of RocketMQ sends with a message.
    fn write_properties(&mut self) {
        self.properties.clear();
        self.properties.push_str(property::UNIQ_KEY);
        self.properties.push(property::NAME_END);
        // Writing to a string cannot fail.
        let _ = write!(self.properties, "{}", self.ids.make());
        self.properties.push(property::PAIR_END);
        property::push(&mut self.properties, property::WAIT, "true");
    }

    fn write_batch(&mut self) {
        self.messages.clear();
        for _ in 0..self.batch {
            self.write_properties();
            let message =
                batch::Message { flag: 0, body: &self.body, properties: &self.properties };
            message.encode(&mut self.messages).expect("the size is bounded by the command line");
        }
        self.properties.clear();
        property::push(&mut self.properties, property::WAIT, "true");
    }
}

impl Workload for Sends {
    fn request(&mut self, ask: Ask, out: &mut BytesMut) {
        let batched = self.batch > 1;
        if batched {
            self.write_batch();
        } else {
            self.write_properties();
        }
        let queue_id = self.queue;
        self.queue = (self.queue + 1) % self.queues;
        let code = if batched { RequestCode::SendBatchMessage } else { RequestCode::SendMessageV2 };
        let header = Send {
            producer_group: GROUP,
            topic: &self.topic,
            default_topic: Some(AUTO_CREATE_TOPIC),
            default_topic_queues: self.queues,
            queue_id,
            sys_flag: 0,
            born_timestamp: self.clock.now_ms(),
            flag: 0,
            properties: Some(&self.properties),
            reconsume_times: 0,
            unit_mode: false,
            max_reconsume_times: None,
            batch: batched,
            broker_name: self.broker.as_deref(),
        };
        let body: &[u8] = if batched { &self.messages } else { &self.body };
        let head = Head::request(code.as_i32(), ask.slot, self.encoding, ask.oneway);
        frame::write(out, &head, &header, body.len());
        out.extend_from_slice(body);
    }

    fn answer(&mut self, _: i32, frame: &Frame) -> Result<Worth, String> {
        match frame.response_code() {
            // Four codes mean that the message is stored.
            ResponseCode::SUCCESS
            | ResponseCode::FLUSH_DISK_TIMEOUT
            | ResponseCode::FLUSH_SLAVE_TIMEOUT
            | ResponseCode::SLAVE_NOT_AVAILABLE => {
                let bytes = u64::try_from(self.body.len()).unwrap_or_default();
                Ok(Worth { messages: self.batch.into(), bytes: bytes * u64::from(self.batch) })
            }
            _ => Err(refusal(frame)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [("100", 100), ("1B", 1), ("64KiB", 65_536), ("4MiB", 4_194_304)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "0", "4097KiB", "4 MiB", "-1", "1GB", "KiB", "99999999999MiB"] {
            assert!(size(text).unwrap_err().contains("64KiB"), "{text}");
        }
    }
}
