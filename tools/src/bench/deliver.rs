//! The load of `bench deliver`: one producer at a fixed rate, and consumers that wait at the ends of
//! its queues. Both are in this process, so one clock times the whole way of a message.

use std::{
    collections::VecDeque,
    net::Ipv4Addr,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use clap::Args;
use protocol::{clock::Clock, frame::Frame, message_id::UniqueIds};

use super::{
    Course, Job, Server, Window,
    check::{Check, Faults, Ledger, Stamp, since},
    engine::{Ask, Workload, Worth},
    finish, measure,
    receive::{Consumer, Received, Receiver},
    report::{Latencies, Report, Shape},
    send::{Sends, size},
    target::Target,
};
use crate::{Context, error::Failure, output::say};

/// Sends that may wait for their answer: enough to keep the rate over a stall.
const IN_FLIGHT: u16 = 1024;

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    server: Server,
    #[command(flatten)]
    window: Window,
    /// The topic, which is created if it does not exist; nobody deletes it
    #[arg(short, long, default_value = "mqtool-bench-deliver")]
    topic: String,
    /// Connections that wait for messages
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    consumers: u16,
    /// Queues, at most one for each consumer; consumers that share one all get its messages
    ///
    /// Without it each consumer has a queue of its own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    queues: Option<u16>,
    /// Messages per second
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Bytes of a body, 40 or more
    #[arg(short, long, value_name = "BYTES", default_value = "1KiB", value_parser = stamped_size)]
    size: u32,
}

fn stamped_size(text: &str) -> Result<u32, String> {
    let bytes = size(text)?;
    let fits = usize::try_from(bytes).is_ok_and(|bytes| bytes >= Stamp::BYTES);
    if fits { Ok(bytes) } else { Err(format!("a body needs {} bytes for its stamp", Stamp::BYTES)) }
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { server, window, topic, consumers, queues, rate, size } = arguments;
    let wanted = i32::from(queues.unwrap_or(*consumers).min(*consumers));
    let target = match &server.broker {
        Some(address) => Target::direct(address, wanted),
        None => Target::writable(topic, wanted, context)?.swap_remove(0),
    };
    let usable = target.read_queues.min(target.write_queues).min(wanted);
    if usable < wanted {
        say(&format!("topic {topic} has {usable} queues, which consumers share"));
    }
    let target = Target { write_queues: usable, read_queues: usable, ..target };
    let waiting = wait_at_the_ends(&target, arguments, context.timeout())?;
    let stream = target.connect(context.timeout())?;

    let clock = Clock::system();
    let run = clock.now_ms().unsigned_abs() << 20 | u64::from(std::process::id());
    let course = Course::new(IN_FLIGHT, Some(Duration::from_secs(1) / *rate), window);
    let books = Arc::new(Mutex::new(Ledger::default()));
    let sent = Arc::new(OnceLock::new());
    let receiver = Receiver::new(topic, server.header.encoding(), run, course);
    let receiving = {
        let sent = Arc::clone(&sent);
        std::thread::spawn(move || receiver.run(waiting, &sent))
    };
    let ids = Arc::new(UniqueIds::new(Ipv4Addr::LOCALHOST.into(), clock));
    let work = Stamps {
        sends: Sends::new(topic, &target, server.header.encoding(), ids).body(*size),
        run,
        start: course.start,
        number: 0,
        slots: vec![0; usize::from(IN_FLIGHT)],
        answered: VecDeque::with_capacity(usize::from(IN_FLIGHT)),
        answered_all_below: 0,
        books: Arc::clone(&books),
    };
    let job = Job { address: target.address.clone(), stream, work };
    let mut measured = measure(vec![job], &course, server)?;
    let ledger = std::mem::take(&mut *books.lock().unwrap_or_else(PoisonError::into_inner));
    sent.get_or_init(|| ledger);
    let Received { latency, written, worth, faults } = receiving
        .join()
        .expect("the receiver does not panic")
        .map_err(|reason| Failure::Bench { address: target.address, reason: reason.to_string() })?;
    measured.total.latency = latency;
    measured.total.worth = worth;
    let shape = Shape {
        bench: "deliver",
        topic: topic.clone(),
        connections: *consumers,
        in_flight: 1,
        batch: 1,
        body_bytes: Some(*size),
        header: server.header.name(),
        write_each: false,
        rate: Some(*rate),
        seconds: window.duration.as_secs_f64(),
    };
    let mut report = Report::new(shape, &measured);
    report.written = Some(Latencies::new("written_latency", &written));
    report.deliveries(usable, faults);
    finish(&report, &measured.total, context)?;
    let Faults { lost, twice, disordered } = faults;
    if faults == Faults::default() {
        return Ok(());
    }
    Err(Failure::BenchDelivery { lost, twice, disordered })
}

/// Connects consumers, queues in turn. Each will begin where its queue ends now.
fn wait_at_the_ends(
    target: &Target,
    arguments: &Arguments,
    timeout: Duration,
) -> Result<Vec<Consumer>, Failure> {
    let bounds = target.bounds(&arguments.topic, timeout)?;
    let queues = u64::from(target.write_queues.unsigned_abs());
    let turns = (0..queues).zip(&bounds).cycle().take(usize::from(arguments.consumers));
    turns
        .map(|(first, bounds)| {
            let stream = target.connect(timeout)?;
            Ok(Consumer::new(stream, bounds.queue, bounds.max, Check::new(first, queues)))
        })
        .collect()
}

/// Sends whose bodies say when they were due.
struct Stamps {
    sends: Sends,
    run: u64,
    start: Instant,
    /// Of the next message.
    number: u64,
    /// The number of each slot's message.
    slots: Vec<u64>,
    /// Whether the messages from `answered_all_below` on are answered.
    answered: VecDeque<bool>,
    answered_all_below: u64,
    books: Arc<Mutex<Ledger>>,
}

impl Workload for Stamps {
    fn request(&mut self, ask: Ask, out: &mut BytesMut) {
        let stamp = Stamp {
            run: self.run,
            number: self.number,
            answered: self.answered_all_below,
            due: since(self.start, ask.due),
            written: self.start.elapsed(),
        };
        stamp.write(&mut self.sends.body);
        let slot = usize::try_from(ask.slot).unwrap_or(usize::MAX);
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = self.number;
        }
        self.number += 1;
        self.answered.push_back(false);
        self.books.lock().unwrap_or_else(PoisonError::into_inner).sent = self.number;
        self.sends.request(ask, out);
    }

    fn answer(&mut self, slot: i32, frame: &Frame) -> Result<Worth, String> {
        let worth = self.sends.answer(slot, frame);
        let slot = usize::try_from(slot).unwrap_or(usize::MAX);
        let number = self.slots.get(slot).copied().unwrap_or_default();
        let ahead = usize::try_from(number - self.answered_all_below).unwrap_or(usize::MAX);
        if let Some(answered) = self.answered.get_mut(ahead) {
            *answered = true;
        }
        while self.answered.front() == Some(&true) {
            self.answered.pop_front();
            self.answered_all_below += 1;
        }
        if worth.is_ok() {
            let mut books = self.books.lock().unwrap_or_else(PoisonError::into_inner);
            books.confirmed.insert(number);
        }
        worth
    }
}
