//! The hot loops without anything around them, for `tools/gate.sh` to count their instructions.
//!
//! ```text
//! instructions            # prints the names of the loops
//! instructions NAME       # runs one and prints how many messages it worked on
//! ```
//!
//! What happens inside of `measured` counts, on its thread; the store's other threads do not. So
//! the work must not depend on time or on chance, and memory has grown before it begins.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a program whose output is a number")]

use std::{env, hint::black_box, process::ExitCode};

use benches::{Scratch, properties, push, send_frame, sent};
use bytes::BytesMut;
use protocol::{
    code::ResponseCode,
    frame::{self, Encoding, Frame, Head},
    request::send::Send,
};
use storage::{AppendBatch, Mode, QueueOffset, ReadLimits};

/// How often a loop goes round while it is measured.
const ROUNDS: u32 = 200;
/// How often before that.
const WARM_UP_ROUNDS: u32 = 20;
const QUEUES: u32 = 4;

type Loop = fn() -> u32;

const LOOPS: [(&str, Loop); 8] = [
    ("parse_send_json", || parse_send(Encoding::Json)),
    ("parse_send_binary", || parse_send(Encoding::Binary)),
    ("write_sent_json", || write_sent(Encoding::Json)),
    ("write_sent_binary", || write_sent(Encoding::Binary)),
    ("append_16_of_1_kib", || append(16, 1024)),
    ("append_32_of_1_kib", || append(32, 1024)),
    // Without bodies to copy and to sum up, what is left is the index: queues, keys and tags.
    ("dispatch_32", || append(32, 1)),
    ("pull_32", pull_32),
];

fn main() -> ExitCode {
    let name = env::args().nth(1);
    match LOOPS.iter().find(|(known, _)| name.as_deref() == Some(known)) {
        Some((_, run)) => println!("{}", run()),
        None => {
            for (name, _) in LOOPS {
                println!("{name}");
            }
        }
    }
    if name.is_none_or(|name| LOOPS.iter().any(|(known, _)| name == *known)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What is counted. Valgrind finds it by its name.
#[inline(never)]
fn measured(round: &mut impl FnMut(u32)) {
    for number in 0..ROUNDS {
        round(number);
    }
}

/// Measures rounds of `messages` messages each and returns how many that were.
fn run(messages: u32, mut round: impl FnMut(u32)) -> u32 {
    for number in 0..WARM_UP_ROUNDS {
        round(number);
    }
    measured(&mut round);
    ROUNDS * messages
}

/// A frame as it comes from a connection's buffer, to the header of a send.
fn parse_send(encoding: Encoding) -> u32 {
    let bytes = send_frame(encoding);
    let mut input = BytesMut::with_capacity(bytes.len() * 300);
    for _ in 0..ROUNDS + WARM_UP_ROUNDS {
        input.extend_from_slice(&bytes);
    }
    run(1, |_| {
        let bytes = frame::split(&mut input).unwrap().unwrap();
        let frame = Frame::decode(bytes).unwrap();
        let send = Send::decode(&frame.fields).unwrap();
        black_box((send.queue_id, send.topic.len(), send.properties.map(str::len)));
    })
}

/// The answer to a send.
fn write_sent(encoding: Encoding) -> u32 {
    let mut input = BytesMut::from(&*send_frame(encoding));
    let ticket = Frame::decode(frame::split(&mut input).unwrap().unwrap()).unwrap().ticket();
    let sent = sent();
    let mut out = BytesMut::with_capacity(1024);
    run(1, |_| {
        out.clear();
        let head = Head::reply(ticket, ResponseCode::SUCCESS, None);
        frame::write(&mut out, &head, black_box(&sent), 0);
    })
}

/// Messages of one turn, from their parts to the log and the index in memory.
fn append(messages: u32, body_bytes: usize) -> u32 {
    let scratch = Scratch::new();
    let topic = scratch.topic("TopicTest", QUEUES);
    let properties: Vec<String> = (0..messages.into()).map(properties).collect();
    let body = vec![b'x'; body_bytes];
    let mut batch = AppendBatch::default();
    run(messages, |_| {
        batch.clear();
        for (number, properties) in (0..).zip(&properties) {
            push(&mut batch, &topic, number % QUEUES, properties, &body);
        }
        scratch.store.append(&mut batch).unwrap();
    })
}

/// Reading 32 messages that lie side by side. Their entries are in memory: RocksDB, which every
/// machine's own C++ compiler builds, is not asked.
fn pull_32() -> u32 {
    let scratch = Scratch::new();
    let topic = scratch.topic("TopicTest", 1);
    scratch.fill(&topic, 1, 1_000, &[b'x'; 1024]);
    let queue = topic.queue(0).unwrap();
    let limits = ReadLimits { max_messages: 32, max_bytes: 256 << 10 };
    run(32, |_| {
        let read = queue.read(QueueOffset(500), limits, Mode::MayBlock, &|_| true).unwrap();
        assert_eq!(read.messages, 32);
        black_box(read);
    })
}
