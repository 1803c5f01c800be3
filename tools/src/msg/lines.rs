//! Sending every line of standard input: a thread reads and makes batches, several of which are in
//! flight at a time.

use std::{
    cell::Cell,
    io::{self, BufRead, BufReader, Read},
    task::Poll,
    time::Instant,
};

use basaltmq::{Error, Producer, SendReceipt};
use futures_util::{StreamExt, stream};
use protocol::limits::BODY_MAX_BYTES;
use serde::Serialize;
use tokio::sync::mpsc;

use super::send::{Stored, Template};
use crate::{
    Context,
    error::Failure,
    io_failure,
    output::{Align, Format, Row, say},
};

/// Lines of one batch: enough that a request's price does not show, few enough to spread over
/// queues.
const BATCH_LINES: usize = 256;
/// Bytes of one batch; a longer line travels alone.
const BATCH_BYTES: usize = 256 * 1024;
/// Batches that wait for their answer at a time.
const IN_FLIGHT: usize = 16;
/// Bytes of a line that are looked at: its line feed, and one more than a message may have, so
/// that a longer line is refused as one.
const LINE_MAX_BYTES: u64 = BODY_MAX_BYTES as u64 + 2;

/// Lines that are sent together.
#[derive(Debug, Default, Eq, PartialEq)]
struct Batch {
    /// Number of the first line, from 1.
    first: u64,
    /// Number of the last line; empty ones between them count.
    last: u64,
    bodies: Vec<Vec<u8>>,
    bytes: usize,
}

/// What became of a batch.
struct Answer {
    first: u64,
    last: u64,
    bytes: usize,
    outcome: Result<Vec<SendReceipt>, Error>,
}

pub(super) async fn run(
    template: &Template,
    producer: &Producer,
    context: &mut Context,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (sender, mut receiver) = mpsc::channel(IN_FLIGHT);
    // A thread of its own: a read of standard input cannot be cancelled, and must not keep the
    // process from ending when sending fails.
    let input = BufReader::with_capacity(1 << 16, io::stdin());
    let reader = std::thread::spawn(move || read(input, &sender));
    let mut sent = Summary { topic: template.topic.clone(), ..Summary::default() };
    let mut failed = None;
    // After a failure nothing more is sent, and what is in flight is waited for.
    let stop = Cell::new(false);
    let batches = stream::poll_fn(|task| match stop.get() {
        true => Poll::Ready(None),
        false => receiver.poll_recv(task),
    });
    let answers = batches.map(|batch| send(batch, template, producer)).buffered(IN_FLIGHT);
    let mut answers = std::pin::pin!(answers);
    while let Some(Answer { first, last, bytes, outcome }) = answers.next().await {
        match outcome {
            Ok(receipts) => {
                sent.add(receipts.len(), bytes);
                if context.output.format() == Format::Json {
                    let rows: Vec<_> = receipts.iter().map(Stored::new).collect();
                    context.output.rows(&rows)?;
                }
            }
            Err(source) => {
                stop.set(true);
                failed.get_or_insert((first, last, source));
            }
        }
    }
    if let Some((first, last, source)) = failed {
        return Err(Failure::Lines { sent: sent.messages, first, last, source });
    }
    // It has dropped its end of the channel, so it is done.
    let read = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    sent.skipped = read.map_err(io_failure("read standard input"))?;
    sent.seconds = started.elapsed().as_secs_f64();
    sent.show(context)
}

async fn send(batch: Batch, template: &Template, producer: &Producer) -> Answer {
    let Batch { first, last, mut bodies, bytes } = batch;
    let outcome = match bodies.pop() {
        // A single message may be compressed, which a batch may not.
        Some(only) if bodies.is_empty() => {
            producer.send(template.message(only)).await.map(|receipt| vec![receipt])
        }
        Some(tail) => {
            bodies.push(tail);
            producer.send_batch(bodies.into_iter().map(|body| template.message(body))).await
        }
        None => Ok(Vec::new()),
    };
    Answer { first, last, bytes, outcome }
}

/// Reads lines to the end and hands them over in batches; returns how many were empty. A batch is
/// handed over when it is full, or when nothing more has arrived: a slow input is sent line by
/// line.
fn read(mut input: BufReader<impl Read>, batches: &mpsc::Sender<Batch>) -> io::Result<u64> {
    let mut batch = Batch::default();
    let (mut number, mut skipped) = (0, 0);
    loop {
        let mut line = Vec::new();
        let length = input.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line)?;
        let end = length == 0;
        if !end {
            number += 1;
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if line.is_empty() {
                skipped += 1;
            } else {
                if batch.bodies.is_empty() {
                    batch.first = number;
                }
                batch.last = number;
                batch.bytes += line.len();
                batch.bodies.push(line);
            }
        }
        let full = batch.bodies.len() >= BATCH_LINES || batch.bytes >= BATCH_BYTES;
        let due = end || full || !input.buffer().contains(&b'\n');
        // A closed channel means that sending has failed.
        if due
            && !batch.bodies.is_empty()
            && batches.blocking_send(std::mem::take(&mut batch)).is_err()
        {
            return Ok(skipped);
        }
        if end {
            return Ok(skipped);
        }
    }
}

/// What was sent.
#[derive(Default, Serialize)]
struct Summary {
    topic: String,
    messages: u64,
    bytes: u64,
    skipped: u64,
    seconds: f64,
}

impl Summary {
    fn add(&mut self, messages: usize, bytes: usize) {
        self.messages += u64::try_from(messages).unwrap_or_default();
        self.bytes += u64::try_from(bytes).unwrap_or_default();
    }

    /// As JSON every message had its line already.
    fn show(&self, context: &mut Context) -> Result<(), Failure> {
        if context.output.format() == Format::Table {
            context.output.rows(std::slice::from_ref(self))?;
        }
        if self.skipped > 0 {
            say(&format!(
                "{} empty lines were skipped: RocketMQ has no messages without a body",
                self.skipped
            ));
        }
        Ok(())
    }
}

impl Row for Summary {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("TOPIC", Align::Left),
        ("MESSAGES", Align::Right),
        ("BYTES", Align::Right),
        ("SKIPPED", Align::Right),
        ("SECONDS", Align::Right),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.messages.to_string(),
            self.bytes.to_string(),
            self.skipped.to_string(),
            format!("{:.3}", self.seconds),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(input: &[u8], buffer: usize) -> (Vec<Batch>, u64) {
        let (sender, mut receiver) = mpsc::channel(1024);
        let skipped = read(BufReader::with_capacity(buffer, input), &sender).unwrap();
        let mut batches = Vec::new();
        while let Ok(batch) = receiver.try_recv() {
            batches.push(batch);
        }
        (batches, skipped)
    }

    fn bodies(batches: &[Batch]) -> Vec<&[u8]> {
        batches.iter().flat_map(|batch| &batch.bodies).map(Vec::as_slice).collect()
    }

    #[test]
    fn lines_keep_every_byte_but_the_line_feed() {
        let input = b"a\r\n\n \xff\x00\n\nlast";
        for buffer in [1, 2, 7, 1024] {
            let (batches, skipped) = batches(input, buffer);
            assert_eq!(bodies(&batches), [&b"a\r"[..], b" \xff\x00", b"last"], "buffer {buffer}");
            assert_eq!(skipped, 2);
        }
    }

    #[test]
    fn what_has_arrived_together_is_one_batch() {
        let (batches, _) = batches(b"\na\n\nb\n", 1024);
        assert_eq!(batches.len(), 1);
        assert_eq!((batches[0].first, batches[0].last), (2, 4));
    }

    #[test]
    fn batches_are_bounded() {
        let (few, _) = batches(&b"x\n".repeat(BATCH_LINES + 1), 4096);
        assert_eq!(few[0].bodies.len(), BATCH_LINES);
        let long = [b'x'; BATCH_BYTES];
        let (long, _) = batches(&[&long[..], b"\n", &long, b"\n"].concat(), 2 * BATCH_BYTES + 2);
        assert_eq!(long.len(), 2);
    }

    #[test]
    fn a_line_longer_than_a_message_is_not_read_to_its_end() {
        let (batches, _) = batches(&vec![b'x'; BODY_MAX_BYTES + 1000], 1 << 20);
        assert_eq!(batches[0].bytes, BODY_MAX_BYTES + 2);
    }
}
