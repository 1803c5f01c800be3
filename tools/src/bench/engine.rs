//! One connection under load: a thread that writes what is due, waits for the socket or the clock,
//! and reads what has come. Nothing else stands between the socket and the figures.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    num::NonZeroU64,
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use hdrhistogram::Histogram;
use protocol::{
    frame::{self, Frame, Malformed},
    header::FieldError,
    record::RecordError,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

/// A server that answers nothing for so long will not.
pub(super) const SILENCE: Duration = Duration::from_secs(10);
/// How long answers to the last requests are waited for.
pub(super) const DRAIN: Duration = Duration::from_secs(5);
/// Bytes of one read.
pub(super) const READ_BYTES: usize = 256 * 1024;
/// Longest latency that is told apart, in nanoseconds.
const LATENCY_MAX_NS: u64 = 120_000_000_000;

/// What a connection asks, and what the answers are worth.
pub(super) trait Workload: Send {
    /// Appends the frame of a request.
    fn request(&mut self, ask: Ask, out: &mut BytesMut);

    /// Looks at the answer to the request of a slot. An error is a refusal, in the server's words.
    fn answer(&mut self, slot: i32, frame: &Frame) -> Result<Worth, String>;
}

/// A request to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    /// Its opaque, below [`Plan::in_flight`], and free until it is answered.
    pub(super) slot: i32,
    /// When it was due.
    pub(super) due: Instant,
    /// No answer is wanted.
    pub(super) oneway: bool,
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Worth {
    pub(super) messages: u64,
    pub(super) bytes: u64,
}

/// How a connection is used.
#[derive(Debug)]
pub(super) struct Plan {
    /// Requests that may wait for their answer.
    pub(super) in_flight: usize,
    /// When requests are due; without it, whenever one may be sent.
    pub(super) pace: Option<Pace>,
    /// One write for each request.
    pub(super) write_each: bool,
    /// Of `in_flight` requests only the last asks for an answer; then all of them count as answered.
    pub(super) oneway: bool,
    /// Requests after which the connection is done.
    pub(super) requests_max: u64,
    /// What is due from here on is measured.
    pub(super) from: Instant,
    /// Nothing is due any more.
    pub(super) end: Instant,
}

/// Points in time at which requests are due.
#[derive(Debug)]
pub(super) struct Pace {
    next: Instant,
    interval: Duration,
}

impl Pace {
    /// The first request is due at `first`, and then one after each interval.
    pub(super) fn new(first: Instant, interval: Duration) -> Self {
        // A rate beyond a request per nanosecond is as fast as possible.
        Self { next: first, interval: interval.max(Duration::from_nanos(1)) }
    }

    /// The next request's time, if that has come.
    fn take(&mut self, now: Instant) -> Option<Instant> {
        let due = self.next;
        (due <= now).then(|| {
            self.next += self.interval;
            due
        })
    }

    /// How many requests were due before `end` and never left.
    fn missed(&self, end: Instant) -> u64 {
        let late = end.saturating_duration_since(self.next).as_nanos();
        u64::try_from(late.div_ceil(self.interval.as_nanos())).unwrap_or(u64::MAX)
    }
}

/// No latencies yet.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_NS, 3).expect("the bounds are legal")
}

/// Adds the time that passed between two points, in nanoseconds.
pub(super) fn record(latency: &mut Histogram<u64>, passed: Duration) {
    latency.saturating_record(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX));
}

/// What happened on connections.
#[derive(Debug)]
pub(super) struct Tally {
    /// Nanoseconds from due to answered, of every request that was due while measuring.
    pub(super) latency: Histogram<u64>,
    /// Requests that left, whenever that was.
    pub(super) issued: u64,
    /// Answered while measuring.
    pub(super) requests: u64,
    /// What those were worth.
    pub(super) worth: Worth,
    /// Refused, whenever that was.
    pub(super) refused: u64,
    pub(super) first_refusal: Option<String>,
    /// Due while measuring and never sent, as too many waited for their answer.
    pub(super) missed: u64,
    /// Sent and never answered.
    pub(super) lost: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: latencies(),
            issued: 0,
            requests: 0,
            worth: Worth::default(),
            refused: 0,
            first_refusal: None,
            missed: 0,
            lost: 0,
        }
    }
}

impl Tally {
    /// Adds what happened on another connection.
    pub(super) fn add(&mut self, other: Self) {
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
        self.issued += other.issued;
        self.requests += other.requests;
        self.worth.messages += other.worth.messages;
        self.worth.bytes += other.worth.bytes;
        self.refused += other.refused;
        self.first_refusal = self.first_refusal.take().or(other.first_refusal);
        self.missed += other.missed;
        self.lost += other.lost;
    }
}

/// Why a connection cannot go on.
#[derive(Debug, Error)]
pub(super) enum Broken {
    #[error("the socket failed: {0}")]
    Socket(#[from] io::Error),
    #[error("the broker closed the connection; its log says why")]
    Closed,
    #[error("the broker sent something that is no frame: {0}")]
    Malformed(#[from] Malformed),
    #[error("no answer for {seconds} s to {waiting} requests")]
    Silent { seconds: u64, waiting: usize },
    #[error("the answer to a pull cannot be read: {0}")]
    Pull(#[from] FieldError),
    #[error("a pulled message cannot be read: {0}")]
    Record(#[from] RecordError),
    #[error("a pull was refused: {0}")]
    Refused(String),
}

/// Uses the connection as planned, to the end.
pub(super) fn run(
    stream: TcpStream,
    plan: Plan,
    work: &mut impl Workload,
) -> Result<Tally, Broken> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    // Linux may otherwise wake this thread 50 us late, which would count as the server's latency.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).map_err(io::Error::from)?;
    let mut connection = Connection {
        stream,
        slots: vec![None; plan.in_flight],
        free: (0..plan.in_flight).rev().collect(),
        out: BytesMut::with_capacity(READ_BYTES),
        read: vec![0; READ_BYTES],
        input: BytesMut::with_capacity(READ_BYTES),
        last_answer: Instant::now(),
        tally: Tally::default(),
        plan,
    };
    while !connection.is_done() {
        connection.issue(work)?;
        connection.write()?;
        connection.wait()?;
        connection.read(work)?;
    }
    Ok(connection.finish())
}

struct Connection {
    stream: TcpStream,
    plan: Plan,
    /// When the request of each slot was due.
    slots: Vec<Option<Instant>>,
    /// Slots without a request.
    free: Vec<usize>,
    out: BytesMut,
    read: Vec<u8>,
    input: BytesMut,
    last_answer: Instant,
    tally: Tally,
}

impl Connection {
    /// Requests that wait for their answer.
    fn waiting(&self) -> usize {
        let taken = self.slots.len() - self.free.len();
        // Those without an answer wait for that of the last slot.
        if self.plan.oneway && !self.free.is_empty() { 0 } else { taken }
    }

    fn is_done(&self) -> bool {
        let now = Instant::now();
        let issued_all = now >= self.plan.end || self.tally.issued >= self.plan.requests_max;
        let settled = self.waiting() == 0 && self.out.is_empty();
        issued_all && settled || now >= self.plan.end + DRAIN
    }

    /// Makes the requests that are due and have a slot.
    fn issue(&mut self, work: &mut impl Workload) -> Result<(), Broken> {
        loop {
            let now = Instant::now();
            let Some(&index) = self.free.last() else { return Ok(()) };
            if self.tally.issued >= self.plan.requests_max {
                return Ok(());
            }
            let due = match &mut self.plan.pace {
                Some(pace) => pace.take(now),
                None => Some(now),
            };
            let Some(due) = due.filter(|due| *due < self.plan.end) else { return Ok(()) };
            self.free.pop();
            self.tally.issued += 1;
            let oneway = self.plan.oneway && !self.free.is_empty();
            if let Some(slot) = self.slots.get_mut(index) {
                *slot = (!oneway).then_some(due);
            }
            if self.waiting() == 1 || self.plan.oneway {
                self.last_answer = now;
            }
            let slot = i32::try_from(index).unwrap_or(i32::MAX);
            work.request(Ask { slot, due, oneway }, &mut self.out);
            if self.plan.write_each || self.out.len() >= READ_BYTES {
                self.write()?;
            }
        }
    }

    /// Writes what the socket takes.
    fn write(&mut self) -> Result<(), Broken> {
        while !self.out.is_empty() {
            match self.stream.write(&self.out) {
                Ok(written) => self.out.advance(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Waits until the socket or the clock has something to do.
    fn wait(&mut self) -> Result<(), Broken> {
        let now = Instant::now();
        if self.waiting() > 0 && now.duration_since(self.last_answer) > SILENCE {
            return Err(Broken::Silent { seconds: SILENCE.as_secs(), waiting: self.waiting() });
        }
        let last = if now < self.plan.end { self.plan.end } else { self.plan.end + DRAIN };
        let due = self.plan.pace.as_ref().filter(|_| !self.free.is_empty()).map(|pace| pace.next);
        let until = due.map_or(last, |due| due.min(last));
        let timeout = until.saturating_duration_since(now).min(SILENCE);
        let timeout = Timespec::try_from(timeout).expect("a few seconds fit");
        let mut flags = PollFlags::IN;
        if !self.out.is_empty() {
            flags |= PollFlags::OUT;
        }
        let mut polled = [PollFd::new(&self.stream, flags)];
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(io::Error::from(error).into()),
        }
    }

    /// Reads what has come.
    fn read(&mut self, work: &mut impl Workload) -> Result<(), Broken> {
        loop {
            let length = match self.stream.read(&mut self.read) {
                Ok(0) => return Err(Broken::Closed),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.input.extend_from_slice(self.read.get(..length).unwrap_or_default());
            let now = Instant::now();
            while let Some(bytes) = frame::split(&mut self.input)? {
                let frame = Frame::decode(bytes)?;
                if frame.is_reply() {
                    self.answered(&frame, now, work);
                }
            }
            if length < self.read.len() {
                return Ok(());
            }
        }
    }

    fn answered(&mut self, frame: &Frame, now: Instant, work: &mut impl Workload) {
        let index = usize::try_from(frame.opaque).unwrap_or(usize::MAX);
        let Some(due) = self.slots.get_mut(index).and_then(Option::take) else { return };
        let requests = if self.plan.oneway { self.slots.len() } else { 1 };
        if self.plan.oneway {
            self.free.extend((0..requests).rev());
        } else {
            self.free.push(index);
        }
        self.last_answer = now;
        match work.answer(frame.opaque, frame) {
            Ok(worth) => {
                if due >= self.plan.from {
                    record(&mut self.tally.latency, now - due);
                }
                if (self.plan.from..self.plan.end).contains(&now) {
                    let requests = u64::try_from(requests).unwrap_or(u64::MAX);
                    self.tally.requests += requests;
                    self.tally.worth.messages += worth.messages * requests;
                    self.tally.worth.bytes += worth.bytes * requests;
                }
            }
            Err(reason) => {
                self.tally.refused += 1;
                self.tally.first_refusal.get_or_insert(reason);
            }
        }
    }

    fn finish(mut self) -> Tally {
        self.tally.lost = u64::try_from(self.waiting()).unwrap_or(u64::MAX);
        let pace = self.plan.pace.as_ref();
        self.tally.missed = pace.map_or(0, |pace| pace.missed(self.plan.end));
        self.tally
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
