//! The receiving side of `bench deliver`: one thread that keeps a held pull on each of its
//! connections and books what comes. A thread for each would cost a thousand consumers more than
//! the broker.

use std::{
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::OwnedFd,
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use hdrhistogram::Histogram;
use protocol::{
    code::{RequestCode, ResponseCode},
    frame::{self, Encoding, Frame, Head},
    record as stored,
    request::pull::{Pull, Pulled, flag},
};
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
};

use super::{
    Course,
    check::{Check, Faults, Ledger, Stamp, since},
    engine::{Broken, DRAIN, READ_BYTES, SILENCE, Worth, latencies, record},
    target::{pull, refusal},
};

/// How long the broker may hold a pull.
const HOLD: Duration = Duration::from_secs(20);
/// Messages that a pull asks for.
const PULL_MESSAGES: i32 = 32;
/// Sockets that one wait tells of.
const EVENTS: usize = 256;
/// How often the end and silent connections are looked for.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// A connection that waits for messages of a queue.
pub(super) struct Consumer {
    pub(super) stream: TcpStream,
    pub(super) queue: i32,
    /// Where it reads next.
    pub(super) next: i64,
    pub(super) check: Check,
    input: BytesMut,
    asked: Instant,
}

impl Consumer {
    pub(super) fn new(stream: TcpStream, queue: i32, next: i64, check: Check) -> Self {
        Self { stream, queue, next, check, input: BytesMut::new(), asked: Instant::now() }
    }
}

/// What consumers received.
pub(super) struct Received {
    /// From due to received, of what was due while measuring.
    pub(super) latency: Histogram<u64>,
    /// From written to received.
    pub(super) written: Histogram<u64>,
    /// Received while measuring.
    pub(super) worth: Worth,
    pub(super) faults: Faults,
}

/// What all consumers share.
pub(super) struct Receiver {
    topic: String,
    encoding: Encoding,
    run: u64,
    course: Course,
    out: BytesMut,
    latency: Histogram<u64>,
    written: Histogram<u64>,
    worth: Worth,
}

impl Receiver {
    pub(super) fn new(topic: &str, encoding: Encoding, run: u64, course: Course) -> Self {
        Self {
            topic: topic.to_owned(),
            encoding,
            run,
            course,
            out: BytesMut::new(),
            latency: latencies(),
            written: latencies(),
            worth: Worth::default(),
        }
    }

    /// Receives until `ledger` says what there was to receive, and that has come or had its time.
    pub(super) fn run(
        mut self,
        mut consumers: Vec<Consumer>,
        ledger: &OnceLock<Ledger>,
    ) -> Result<Received, Broken> {
        let epoll = watch(&consumers)?;
        for consumer in &mut consumers {
            self.pull(consumer)?;
        }
        let mut read = vec![0; READ_BYTES];
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&epoll, spare_capacity(&mut events), Some(&TICK)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
            for event in &events {
                let index = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                if let Some(consumer) = consumers.get_mut(index) {
                    self.read(consumer, &mut read)?;
                }
            }
            if events.len() < EVENTS
                && let Some(ledger) = ledger.get()
            {
                let faults = sum(&consumers, ledger);
                if faults.lost == 0 || Instant::now() > self.course.end + DRAIN {
                    let Self { latency, written, worth, .. } = self;
                    return Ok(Received { latency, written, worth, faults });
                }
            }
            if events.is_empty() {
                answered(&consumers)?;
            }
        }
    }

    fn pull(&mut self, consumer: &mut Consumer) -> Result<(), Broken> {
        let at_once = pull(&self.topic, (consumer.queue, consumer.next), PULL_MESSAGES);
        let header = Pull {
            sys_flag: at_once.sys_flag | flag::SUSPEND,
            suspend_timeout_ms: i64::try_from(HOLD.as_millis()).unwrap_or(i64::MAX),
            ..at_once
        };
        self.out.clear();
        let head = Head::request(RequestCode::PullMessage.as_i32(), 0, self.encoding, false);
        frame::write(&mut self.out, &head, &header, 0);
        // One pull at a time always fits into the socket's buffer.
        consumer.stream.write_all(&self.out)?;
        consumer.asked = Instant::now();
        Ok(())
    }

    /// Reads once from a socket that has something: such a read does not wait.
    fn read(&mut self, consumer: &mut Consumer, read: &mut [u8]) -> Result<(), Broken> {
        let length = match consumer.stream.read(read) {
            Ok(0) => return Err(Broken::Closed),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        consumer.input.extend_from_slice(read.get(..length).unwrap_or_default());
        let now = Instant::now();
        while let Some(bytes) = frame::split(&mut consumer.input)? {
            let frame = Frame::decode(bytes)?;
            if frame.is_reply() {
                self.received(consumer, &frame, now)?;
                self.pull(consumer)?;
            }
        }
        Ok(())
    }

    fn received(
        &mut self,
        consumer: &mut Consumer,
        frame: &Frame,
        now: Instant,
    ) -> Result<(), Broken> {
        match frame.response_code() {
            ResponseCode::SUCCESS => {
                for message in stored::iter(&frame.body) {
                    self.message(consumer, &message?, now);
                }
            }
            // Held in vain, or moved to where the queue is; what that skips will be missing.
            ResponseCode::PULL_NOT_FOUND
            | ResponseCode::PULL_RETRY_IMMEDIATELY
            | ResponseCode::PULL_OFFSET_MOVED => {}
            _ => return Err(Broken::Refused(refusal(frame))),
        }
        consumer.next = Pulled::decode(&frame.fields)?.next_offset;
        Ok(())
    }

    fn message(&mut self, consumer: &mut Consumer, message: &stored::RecordView<'_>, now: Instant) {
        let at_its_offset = message.queue_offset == consumer.next;
        consumer.next = message.queue_offset + 1;
        let Some(stamp) = Stamp::read(message.body).filter(|stamp| stamp.run == self.run) else {
            return;
        };
        consumer.check.receive(&stamp, at_its_offset);
        let Course { start, from, end, .. } = self.course;
        let time = since(start, now);
        if stamp.due >= since(start, from) {
            record(&mut self.latency, time.saturating_sub(stamp.due));
            record(&mut self.written, time.saturating_sub(stamp.written));
        }
        if (from..end).contains(&now) {
            self.worth.messages += 1;
            self.worth.bytes += u64::try_from(message.body.len()).unwrap_or_default();
        }
    }
}

/// Watches all connections; an event carries the consumer's place.
fn watch(consumers: &[Consumer]) -> Result<OwnedFd, Broken> {
    let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(io::Error::from)?;
    for (index, consumer) in (0..).zip(consumers) {
        consumer.stream.set_nodelay(true)?;
        epoll::add(&epoll, &consumer.stream, EventData::new_u64(index), EventFlags::IN)
            .map_err(io::Error::from)?;
    }
    Ok(epoll)
}

/// Checks that no pull waits for longer than the broker may hold it.
fn answered(consumers: &[Consumer]) -> Result<(), Broken> {
    let patience = HOLD + SILENCE;
    let waiting = consumers.iter().filter(|consumer| consumer.asked.elapsed() > patience).count();
    if waiting == 0 {
        return Ok(());
    }
    Err(Broken::Silent { seconds: patience.as_secs(), waiting })
}

fn sum(consumers: &[Consumer], ledger: &Ledger) -> Faults {
    consumers.iter().map(|consumer| consumer.check.faults(ledger)).fold(
        Faults::default(),
        |sum, faults| Faults {
            lost: sum.lost + faults.lost,
            twice: sum.twice + faults.twice,
            disordered: sum.disordered + faults.disordered,
        },
    )
}
