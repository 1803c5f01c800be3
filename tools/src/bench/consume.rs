//! The load of `bench consume`: pulls that go round and round a topic's queues.

use bytes::BytesMut;
use clap::Args;
use protocol::{
    code::{RequestCode, ResponseCode},
    frame::{self, Encoding, Frame, Head},
    record,
    request::pull::Pulled,
};

use super::{
    Course, Load, connect,
    engine::{Ask, Workload, Worth},
    finish, measure,
    report::Report,
    target::{Bounds, Target, pull, refusal},
};
use crate::{Context, error::Failure};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    load: Load,
    /// Messages that a pull asks for; brokers give 32 or fewer unless configured otherwise
    #[arg(short, long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    batch: u32,
    /// Queues of the topic, when --broker is given
    #[arg(long, value_name = "N", default_value_t = 4, requires = "broker", value_parser = clap::value_parser!(i32).range(1..=4096))]
    queues: i32,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { load, batch, queues } = arguments;
    let targets = match &load.server.broker {
        Some(address) => vec![Target::direct(address, *queues)],
        None => Target::routed(&load.topic, context)?,
    };
    let mut filled: Vec<(Target, Vec<Bounds>)> = Vec::new();
    for target in targets {
        let mut parts = target.bounds(&load.topic, context.timeout())?;
        parts.retain(|part| part.max > part.min);
        if !parts.is_empty() {
            filled.push((target, parts));
        }
    }
    if filled.is_empty() {
        return Err(Failure::Empty { topic: load.topic.clone() });
    }
    let in_flight = usize::from(load.in_flight);
    let works = (0..).zip(filled.iter().cycle().take(usize::from(load.connections)));
    let works = works.map(|(turn, (target, parts))| {
        let cursors = cursors(parts, in_flight, turn);
        let work = Pulls {
            topic: load.topic.clone(),
            encoding: load.server.header.encoding(),
            batch: i32::try_from(*batch).unwrap_or(i32::MAX),
            cursors,
        };
        (target, work)
    });
    let jobs = connect(works, context.timeout())?;
    let measured = measure(jobs, &Course::of(load, *batch), &load.server)?;
    let report = Report::new(load.shape("consume", *batch, None), &measured);
    finish(&report, &measured.total, context)
}

/// Where one of the requests in flight reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Cursor {
    part: Bounds,
    next: i64,
}

/// A cursor for each slot: queues in turn, and several cursors of a queue spread over it.
fn cursors(parts: &[Bounds], slots: usize, first: usize) -> Vec<Cursor> {
    let rounds = i64::try_from(slots.div_ceil(parts.len().max(1))).unwrap_or(i64::MAX);
    let turns = parts.iter().cycle().skip(first).take(slots);
    (0_i64..)
        .zip(turns)
        .map(|(slot, part)| {
            let round = slot / i64::try_from(parts.len()).unwrap_or(i64::MAX);
            let next = part.min + (part.max - part.min) / rounds * round;
            Cursor { part: *part, next }
        })
        .collect()
}

/// Pulls of one connection.
struct Pulls {
    topic: String,
    encoding: Encoding,
    batch: i32,
    cursors: Vec<Cursor>,
}

impl Pulls {
    fn cursor(&mut self, slot: i32) -> &mut Cursor {
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        self.cursors.get_mut(index).expect("there is a cursor for every slot")
    }
}

impl Workload for Pulls {
    fn request(&mut self, ask: Ask, out: &mut BytesMut) {
        let cursor = *self.cursor(ask.slot);
        let header = pull(&self.topic, (cursor.part.queue, cursor.next), self.batch);
        let head = Head::request(RequestCode::PullMessage.as_i32(), ask.slot, self.encoding, false);
        frame::write(out, &head, &header, 0);
    }

    fn answer(&mut self, slot: i32, frame: &Frame) -> Result<Worth, String> {
        let cursor = self.cursor(slot);
        match frame.response_code() {
            ResponseCode::SUCCESS => {
                let pulled = Pulled::decode(&frame.fields).map_err(|error| error.to_string())?;
                let end = pulled.next_offset >= cursor.part.max;
                cursor.next = if end { cursor.part.min } else { pulled.next_offset };
                Ok(Worth { messages: count(&frame.body), bytes: length(&frame.body) })
            }
            // The queue's start was deleted meanwhile; it goes on where there is something.
            ResponseCode::PULL_NOT_FOUND
            | ResponseCode::PULL_RETRY_IMMEDIATELY
            | ResponseCode::PULL_OFFSET_MOVED => {
                let pulled = Pulled::decode(&frame.fields).map_err(|error| error.to_string())?;
                cursor.part.min = pulled.min_offset;
                cursor.next = pulled.min_offset;
                Ok(Worth::default())
            }
            _ => Err(refusal(frame)),
        }
    }
}

/// The number of records, by their lengths alone: the generator must not cost more than it has to.
fn count(mut records: &[u8]) -> u64 {
    let mut count = 0;
    while let Some(head) = record::frame_len(records) {
        count += 1;
        let size = usize::try_from(head.size()).unwrap_or(usize::MAX);
        records = records.get(size..).unwrap_or_default();
    }
    count
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_cover_every_queue_from_different_places() {
        let parts = [Bounds { queue: 0, min: 0, max: 100 }, Bounds { queue: 3, min: 10, max: 20 }];
        let places: Vec<_> =
            cursors(&parts, 4, 1).iter().map(|cursor| (cursor.part.queue, cursor.next)).collect();
        assert_eq!(places, [(3, 10), (0, 0), (3, 15), (0, 50)]);
        assert_eq!(cursors(&parts[..1], 1, 7), [Cursor { part: parts[0], next: 0 }]);
    }
}
