//! One connection to the broker under test, and the few questions that are asked over it.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use protocol::{
    body::ha::HaStatus,
    code::{RequestCode, ResponseCode},
    frame::{self, Encoding, Frame, Head},
    header::{Encode, NoFields},
    json, property,
    record::{self, body_crc},
    request::{
        ha::ChangeRole,
        offset::{Commit, Offset, Query, Queue},
        pull::{Pull, Pulled, flag},
        query::ByKey,
        topic::CreateTopic,
    },
};
use thiserror::Error;

use super::history::Id;

/// A broker that does not answer for so long will not. Longer than the longest freeze.
const SILENCE: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 256 * 1024;

/// Why a question has no answer.
#[derive(Debug, Error)]
pub(super) enum Unanswered {
    /// The connection is gone, or nothing came.
    #[error(transparent)]
    Gone(#[from] io::Error),
    /// The broker answered that it will not.
    #[error("the broker answered {code}: {remark}")]
    Refused {
        /// Its code.
        code: ResponseCode,
        /// Its words.
        remark: String,
    },
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: TcpStream,
    input: BytesMut,
    chunk: Vec<u8>,
    out: BytesMut,
    opaque: i32,
}

/// The answer to a pull.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) next: i64,
    /// Offset and id; what is wrong with a record whose bytes are not what was sent.
    pub(super) records: Vec<(i64, Result<Id, String>)>,
}

/// A queue by name.
pub(super) type At<'a> = (&'a str, i32);

impl Link {
    pub(super) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(SILENCE))?;
        Ok(Self {
            stream,
            input: BytesMut::with_capacity(READ_BYTES),
            chunk: vec![0; READ_BYTES],
            out: BytesMut::with_capacity(READ_BYTES),
            opaque: 0,
        })
    }

    /// Prepares a request; [`Link::send`] sends what is prepared. Returns its number.
    pub(super) fn prepare(&mut self, code: RequestCode, header: &impl Encode, body: &[u8]) -> i32 {
        self.opaque = self.opaque.wrapping_add(1);
        let head = Head::request(code.as_i32(), self.opaque, Encoding::Json, false);
        frame::write(&mut self.out, &head, header, body.len());
        self.out.extend_from_slice(body);
        self.opaque
    }

    pub(super) fn send(&mut self) -> io::Result<()> {
        let sent = self.stream.write_all(&self.out);
        self.out.clear();
        sent
    }

    /// The next reply, if one comes in time.
    pub(super) fn receive(&mut self, wait: Duration) -> io::Result<Option<Frame>> {
        let until = Instant::now() + wait;
        loop {
            if let Some(bytes) = frame::split(&mut self.input).map_err(io::Error::other)? {
                let frame = Frame::decode(bytes).map_err(io::Error::other)?;
                if frame.is_reply() {
                    return Ok(Some(frame));
                }
                continue;
            }
            let left = until.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(Duration::from_micros(50))))?;
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => {
                    self.input.extend_from_slice(self.chunk.get(..len).unwrap_or_default());
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if left.is_zero() => {
                        return Ok(None);
                    }
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::TimedOut
                    | io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Asks and waits. Nothing else may be under way.
    fn ask(&mut self, code: RequestCode, header: &impl Encode) -> Result<Frame, Unanswered> {
        let opaque = self.prepare(code, header, &[]);
        self.send()?;
        match self.receive(SILENCE)? {
            Some(reply) if reply.opaque == opaque => Ok(reply),
            Some(reply) => {
                let text = format!("reply {} to request {opaque}", reply.opaque);
                Err(io::Error::other(text).into())
            }
            None => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
        }
    }

    fn offset(&mut self, code: RequestCode, header: &impl Encode) -> Result<i64, Unanswered> {
        let reply = succeeded(self.ask(code, header)?)?;
        Ok(Offset::decode(&reply.fields).map_err(io::Error::other)?.offset)
    }

    /// The offset after the queue's last message.
    pub(super) fn max(&mut self, (topic, queue_id): At<'_>) -> Result<i64, Unanswered> {
        self.offset(RequestCode::GetMaxOffset, &Queue { topic, queue_id })
    }

    /// The queue's first offset.
    pub(super) fn min(&mut self, (topic, queue_id): At<'_>) -> Result<i64, Unanswered> {
        self.offset(RequestCode::GetMinOffset, &Queue { topic, queue_id })
    }

    /// A group's offset; 0 without one.
    pub(super) fn committed(&mut self, group: &str, at: At<'_>) -> Result<i64, Unanswered> {
        let (topic, queue_id) = at;
        let header =
            Query { consumer_group: group, topic, queue_id, set_zero_if_not_found: Some(false) };
        match self.offset(RequestCode::QueryConsumerOffset, &header) {
            Err(Unanswered::Refused { code: ResponseCode::QUERY_NOT_FOUND, .. }) => Ok(0),
            other => other,
        }
    }

    pub(super) fn commit(&mut self, group: &str, at: At<'_>, next: i64) -> Result<(), Unanswered> {
        let (topic, queue_id) = at;
        let header = Commit { consumer_group: group, topic, queue_id, commit_offset: next };
        succeeded(self.ask(RequestCode::UpdateConsumerOffset, &header)?).map(drop)
    }

    pub(super) fn create_topic(&mut self, topic: &str, queues: i32) -> Result<(), Unanswered> {
        let header = CreateTopic {
            topic,
            default_topic: Some("TBW102"),
            read_queues: queues,
            write_queues: queues,
            perm: 6,
            filter_type: Some("SINGLE_TAG"),
            sys_flag: 0,
            order: false,
            attributes: None,
        };
        succeeded(self.ask(RequestCode::UpdateAndCreateTopic, &header)?).map(drop)
    }

    /// What the broker says of its part in replication.
    pub(super) fn replication(&mut self) -> Result<HaStatus, Unanswered> {
        let reply = succeeded(self.ask(RequestCode::GetBrokerHaStatus, &NoFields)?)?;
        Ok(json::decode(&reply.body).map_err(io::Error::other)?)
    }

    /// Makes a slave the master, whatever its old master does.
    pub(super) fn promote(&mut self) -> Result<(), Unanswered> {
        let header = ChangeRole { force: true };
        succeeded(self.ask(RequestCode::PromoteBroker, &header)?).map(drop)
    }

    /// Whether the message with this unique id can be found by it.
    pub(super) fn finds(&mut self, topic: &str, id: Id) -> Result<bool, Unanswered> {
        let key = id.to_string();
        let header = ByKey {
            topic,
            key: &key,
            max_messages: 32,
            begin_timestamp: 0,
            end_timestamp: i64::MAX,
            unique_key: true,
        };
        let reply = self.ask(RequestCode::QueryMessage, &header)?;
        if reply.response_code() == ResponseCode::QUERY_NOT_FOUND {
            return Ok(false);
        }
        let reply = succeeded(reply)?;
        Ok(records(&reply.body, None).iter().any(|(_, found)| found.as_ref() == Ok(&id)))
    }

    /// Pulls at most `max` messages from `from` on; waits up to `hold` for the first.
    pub(super) fn pull(
        &mut self,
        group: &str,
        at: At<'_>,
        (from, max): (i64, i32),
        hold: Duration,
    ) -> Result<Page, Unanswered> {
        let (topic, queue_id) = at;
        let held = if hold.is_zero() { 0 } else { flag::SUSPEND };
        let header = Pull {
            consumer_group: group,
            topic,
            queue_id,
            queue_offset: from,
            max_messages: max,
            sys_flag: flag::SUBSCRIPTION | held,
            commit_offset: 0,
            suspend_timeout_ms: i64::try_from(hold.as_millis()).unwrap_or(0),
            subscription: Some("*"),
            subscription_version: 0,
            expression_type: Some("TAG"),
            max_bytes: None,
        };
        let reply = self.ask(RequestCode::PullMessage, &header)?;
        match reply.response_code() {
            ResponseCode::SUCCESS
            | ResponseCode::PULL_NOT_FOUND
            | ResponseCode::PULL_RETRY_IMMEDIATELY
            | ResponseCode::PULL_OFFSET_MOVED => {}
            _ => return Err(refused(&reply)),
        }
        let pulled = Pulled::decode(&reply.fields).map_err(io::Error::other)?;
        let records = match reply.response_code() {
            ResponseCode::SUCCESS => records(&reply.body, Some(at)),
            _ => Vec::new(),
        };
        Ok(Page { next: pulled.next_offset, records })
    }
}

fn succeeded(reply: Frame) -> Result<Frame, Unanswered> {
    if reply.response_code() == ResponseCode::SUCCESS { Ok(reply) } else { Err(refused(&reply)) }
}

fn refused(reply: &Frame) -> Unanswered {
    let remark = reply.remark.clone().unwrap_or_default();
    Unanswered::Refused { code: reply.response_code(), remark }
}

/// The records of a reply, each with its id if it is what its producer sent.
fn records(body: &Bytes, at: Option<At<'_>>) -> Vec<(i64, Result<Id, String>)> {
    let one = |parsed: Result<record::RecordView<'_>, record::RecordError>| {
        let record = match parsed {
            Ok(record) => record,
            Err(error) => return (-1, Err(format!("no record: {error}"))),
        };
        let offset = record.queue_offset;
        if at.is_some_and(|at| at != (record.topic, record.queue_id)) {
            let (topic, queue_id) = (record.topic, record.queue_id);
            return (offset, Err(format!("a record of topic {topic}, queue {queue_id}")));
        }
        let id = property::find(record.properties, property::UNIQ_KEY).and_then(Id::parse);
        match id {
            Some(id) if id.crc == body_crc(record.body) => (offset, Ok(id)),
            Some(id) => (offset, Err(format!("the body of {id} is not what was sent"))),
            None => (offset, Err("a message that nobody sent".to_owned())),
        }
    };
    record::iter(body).map(one).collect()
}
