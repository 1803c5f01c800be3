//! What is done for each kind of request.

use protocol::{
    code::{RequestCode, ResponseCode},
    frame::Encoding,
};

use super::{
    log::{Host, Log, Message, Stored},
    reply::{Output, Reply, hex},
    scan::{self, Frame},
};

/// Most messages of a pull, as brokers have it.
const PULL_MAX: i64 = 32;
/// The flag of a request that wants no answer.
const ONE_WAY: i64 = 2;
/// The answer to what cannot be stored or read.
const ILLEGAL: ResponseCode = ResponseCode::MESSAGE_ILLEGAL;

/// One request, and where it came from.
pub(crate) struct Request<'a> {
    pub(crate) frame: &'a Frame<'a>,
    pub(crate) peer: Host,
    pub(crate) now_ms: i64,
}

impl Request<'_> {
    /// Does what is asked and adds the answer to `output`.
    pub(crate) fn answer(&self, log: &mut Log, output: &mut Output) {
        let (bytes, runs) = (output.bytes.len(), output.runs.len());
        let code = i32::try_from(self.frame.code).ok().and_then(RequestCode::from_i32);
        let done = match code {
            Some(RequestCode::SendMessage | RequestCode::SendMessageV2) => self.send(log, output),
            Some(RequestCode::SendBatchMessage) => self.send_batch(log, output),
            Some(RequestCode::PullMessage) => self.pull(log, output),
            _ => Err(ResponseCode::REQUEST_CODE_NOT_SUPPORTED),
        };
        if let Err(code) = done {
            output.bytes.truncate(bytes);
            self.reply(code, output).end(0);
        }
        if self.frame.flag & ONE_WAY != 0 {
            output.bytes.truncate(bytes);
            output.runs.truncate(runs);
        }
    }

    fn reply<'o>(&self, code: ResponseCode, output: &'o mut Output) -> Reply<'o> {
        Reply::new(&mut output.bytes, self.frame, u16::try_from(code.0).unwrap_or_default())
    }

    fn message<'m>(&'m self, flag: i64, body: &'m [u8], properties: &'m [u8]) -> Message<'m> {
        Message {
            topic: self.frame.topic,
            flag,
            sys_flag: self.frame.sys_flag,
            born_ms: self.frame.born_ms,
            born_host: self.peer,
            deliveries: self.frame.deliveries,
            store_ms: self.now_ms,
            body,
            properties,
        }
    }

    fn send(&self, log: &mut Log, output: &mut Output) -> Result<(), ResponseCode> {
        let Frame { encoding, user_flag, body, properties, .. } = *self.frame;
        let stored = if encoding == Encoding::Json && properties.contains(&b'\\') {
            let scratch = &mut output.scratch;
            scan::unescape(properties, scratch).ok_or(ILLEGAL)?;
            log.append(self.frame.queue, &self.message(user_flag, body, scratch))
        } else {
            log.append(self.frame.queue, &self.message(user_flag, body, properties))
        };
        self.sent(&[stored.ok_or(ILLEGAL)?], log, output);
        Ok(())
    }

    fn send_batch(&self, log: &mut Log, output: &mut Output) -> Result<(), ResponseCode> {
        let mut stored = Vec::new();
        let mut rest = self.frame.body;
        while !rest.is_empty() {
            let (Batched { flag, body, properties }, after) = batched(rest).ok_or(ILLEGAL)?;
            rest = after;
            let place = log.append(self.frame.queue, &self.message(flag, body, properties));
            stored.push(place.ok_or(ILLEGAL)?);
        }
        if stored.is_empty() {
            return Err(ILLEGAL);
        }
        self.sent(&stored, log, output);
        Ok(())
    }

    fn sent(&self, stored: &[Stored], log: &Log, output: &mut Output) {
        let mut reply = self.reply(ResponseCode::SUCCESS, output);
        reply.field("msgId", |out| {
            for (index, stored) in stored.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(log.id_start());
                hex(out, stored.log_offset);
            }
        });
        reply.number("queueId", self.frame.queue.unsigned_abs());
        reply.number("queueOffset", stored.first().map_or(0, |first| first.queue_offset));
        reply.end(0);
    }

    fn pull(&self, log: &Log, output: &mut Output) -> Result<(), ResponseCode> {
        let Frame { queue, queue_offset, max_messages, .. } = *self.frame;
        let (min, max) = log.bounds(queue);
        let from = u64::try_from(queue_offset).map_err(|_| ILLEGAL)?;
        let count = usize::try_from(max_messages.min(PULL_MAX)).map_err(|_| ILLEGAL)?;
        let first = output.runs.len();
        let (code, next, size) = if !(min..=max).contains(&from) {
            (ResponseCode::PULL_OFFSET_MOVED, min, 0)
        } else if from == max {
            (ResponseCode::PULL_NOT_FOUND, max, 0)
        } else {
            let (messages, size) = log.runs(queue, from, count, &mut output.runs);
            (ResponseCode::SUCCESS, from + messages, size)
        };
        let mut reply = self.reply(code, output);
        reply.number("suggestWhichBrokerId", 0);
        reply.number("nextBeginOffset", next);
        reply.number("minOffset", min);
        reply.number("maxOffset", max);
        reply.end(size);
        let here = output.bytes.len();
        for (before, _) in output.runs.iter_mut().skip(first) {
            *before = here;
        }
        Ok(())
    }
}

/// A message of a batch.
struct Batched<'a> {
    flag: i64,
    body: &'a [u8],
    properties: &'a [u8],
}

/// The first message of a batch, and what follows it.
fn batched(bytes: &[u8]) -> Option<(Batched<'_>, &[u8])> {
    // Size, magic and checksum mean nothing.
    let (flag, rest) = bytes.get(12..)?.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (body, rest) = rest.split_at_checked(length)?;
    let (length, rest) = rest.split_first_chunk()?;
    let (properties, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
    let flag = i32::from_be_bytes(*flag).into();
    Some((Batched { flag, body, properties }, rest))
}
