//! The load of `bench send`: messages of one size, to the queues of a broker in turn.

use std::{fmt::Write as _, net::Ipv4Addr, sync::Arc};

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
    Load, connect,
    engine::{Workload, Worth},
    finish, measure,
    report::Report,
    target::{Target, refusal},
};
use crate::{Context, error::Failure};

/// The producer group of the generator.
const GROUP: &str = "mqtool-bench";

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: Load,
    /// Bytes of a body
    #[arg(short, long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    size: u32,
    /// Messages of a request
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    batch: u32,
    /// Queues on each broker, if the topic has to be created or --broker is given
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=4096))]
    queues: i32,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { load, size, batch, queues } = arguments;
    let targets = match &load.broker {
        Some(address) => vec![Target::direct(address, *queues)],
        None => Target::writable(&load.topic, *queues, context)?,
    };
    let clock = Clock::system();
    let ids = Arc::new(UniqueIds::new(Ipv4Addr::LOCALHOST.into(), clock.clone()));
    let works = (0..).zip(targets.iter().cycle().take(usize::from(load.connections)));
    let works = works.map(|(turn, target)| {
        let work = Sends {
            topic: load.topic.clone(),
            broker: target.name.clone(),
            encoding: load.header.encoding(),
            queues: target.write_queues,
            // So that not all connections send to the same queue at the same time.
            queue: turn,
            batch: *batch,
            body: vec![b'x'; usize::try_from(*size).unwrap_or(usize::MAX)],
            ids: Arc::clone(&ids),
            clock: clock.clone(),
            properties: String::new(),
            messages: BytesMut::new(),
        };
        (target, work)
    });
    let jobs = connect(works, context.timeout())?;
    let measured = measure(jobs, load, *batch)?;
    let report = Report::new("send", load, (*batch, Some(*size)), &measured);
    finish(&report, &measured.total, context)
}

/// Sends of one connection.
struct Sends {
    topic: String,
    broker: Option<String>,
    encoding: Encoding,
    queues: i32,
    queue: i32,
    batch: u32,
    body: Vec<u8>,
    ids: Arc<UniqueIds>,
    clock: Clock,
    properties: String,
    messages: BytesMut,
}

impl Sends {
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
    fn request(&mut self, slot: i32, out: &mut BytesMut) {
        let batched = self.batch > 1;
        if batched {
            self.write_batch();
        } else {
            self.write_properties();
        }
        self.queue = (self.queue + 1) % self.queues;
        let code = if batched { RequestCode::SendBatchMessage } else { RequestCode::SendMessageV2 };
        let header = Send {
            producer_group: GROUP,
            topic: &self.topic,
            default_topic: Some(AUTO_CREATE_TOPIC),
            default_topic_queues: self.queues,
            queue_id: self.queue,
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
        let head = Head::request(code.as_i32(), slot, self.encoding, false);
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
