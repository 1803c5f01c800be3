//! Whom a bench loads: the brokers that the route of its topic names, or one that the command line
//! names, and where their queues begin and end.

use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    time::{Duration, Instant},
};

use basaltmq::{Client, Error, TopicSpec};
use bytes::BytesMut;
use protocol::{
    code::{RequestCode, ResponseCode},
    frame::{self, Encoding, Frame, Head},
    request::pull::{Pull, Pulled, flag},
};

use super::engine::Broken;
use crate::{Context, block_on, error::Failure, output::say};

/// The group that RocketMQ's tools pull under; every broker knows it, and nothing is committed.
const GROUP: &str = "TOOLS_CONSUMER";
/// Bit of a permission: may be written.
const WRITE: i32 = 2;

/// A broker under load.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// Its name in the route; not known when nobody was asked.
    pub(super) name: Option<String>,
    pub(super) address: String,
    pub(super) read_queues: i32,
    pub(super) write_queues: i32,
}

impl Target {
    /// The broker at an address of the command line.
    pub(super) fn direct(address: &str, queues: i32) -> Self {
        let address = address.to_owned();
        Self { name: None, address, read_queues: queues, write_queues: queues }
    }

    /// The brokers of a topic.
    pub(super) fn routed(topic: &str, context: &Context) -> Result<Vec<Self>, Failure> {
        block_on(async {
            let client = context.client().await?;
            let targets = route(&client, topic).await?;
            client.close().await;
            Ok(targets)
        })
    }

    /// The brokers of a topic that can be written to. The topic is created if it does not exist.
    pub(super) fn writable(
        topic: &str,
        queues: i32,
        context: &Context,
    ) -> Result<Vec<Self>, Failure> {
        let mut targets = match Self::routed(topic, context) {
            Err(Failure::Client(Error::TopicNotFound { .. })) => create(topic, queues, context)?,
            found => found?,
        };
        targets.retain(|target| target.write_queues > 0);
        if targets.is_empty() {
            return Err(Error::NotWritable { topic: topic.to_owned() }.into());
        }
        Ok(targets)
    }

    /// The first master of any cluster.
    pub(super) fn any_master(context: &Context) -> Result<Self, Failure> {
        let brokers = block_on(async {
            let client = context.client().await?;
            let brokers = client.admin().brokers().await?;
            client.close().await;
            Ok(brokers)
        })?;
        let master = brokers.into_iter().find(|broker| broker.id == 0);
        let master = master.ok_or(Failure::BenchNoMaster)?;
        Ok(Self { name: Some(master.name), ..Self::direct(&master.address, 0) })
    }

    /// Connects to it.
    pub(super) fn connect(&self, timeout: Duration) -> Result<TcpStream, Failure> {
        let fail = |source| Failure::BenchConnect { address: self.address.clone(), source };
        let resolved = self
            .address
            .to_socket_addrs()
            .map_err(fail)?
            .next()
            .ok_or_else(|| fail(std::io::ErrorKind::AddrNotAvailable.into()))?;
        TcpStream::connect_timeout(&resolved, timeout).map_err(fail)
    }

    /// Where each of its queues that can be read begins and ends.
    pub(super) fn bounds(&self, topic: &str, timeout: Duration) -> Result<Vec<Bounds>, Failure> {
        let stream = self.connect(timeout)?;
        let fail = |broken: Broken| Failure::Bench {
            address: self.address.clone(),
            reason: broken.to_string(),
        };
        let set = stream.set_read_timeout(Some(timeout)).and_then(|()| stream.set_nodelay(true));
        set.map_err(|error| fail(error.into()))?;
        let mut probe = Probe { stream, input: BytesMut::new() };
        (0..self.read_queues)
            .map(|queue| {
                let frame = probe.pull(topic, queue).map_err(fail)?;
                let pulled = match frame.response_code() {
                    ResponseCode::SUCCESS
                    | ResponseCode::PULL_NOT_FOUND
                    | ResponseCode::PULL_RETRY_IMMEDIATELY
                    | ResponseCode::PULL_OFFSET_MOVED => {
                        Pulled::decode(&frame.fields).map_err(|error| error.to_string())
                    }
                    ResponseCode::TOPIC_NOT_EXIST => {
                        return Err(Error::TopicNotFound { topic: topic.to_owned() }.into());
                    }
                    _ => Err(refusal(&frame)),
                };
                let address = self.address.clone();
                let pulled = pulled.map_err(|reason| Failure::Bench { address, reason })?;
                Ok(Bounds { queue, min: pulled.min_offset, max: pulled.max_offset })
            })
            .collect()
    }
}

/// The offsets of a queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Bounds {
    pub(super) queue: i32,
    /// Of the first message.
    pub(super) min: i64,
    /// After the last message.
    pub(super) max: i64,
}

/// A pull of all tags from an offset of a queue, answered at once.
pub(super) fn pull(topic: &str, (queue, offset): (i32, i64), max_messages: i32) -> Pull<'_> {
    Pull {
        consumer_group: GROUP,
        topic,
        queue_id: queue,
        queue_offset: offset,
        max_messages,
        sys_flag: flag::SUBSCRIPTION,
        commit_offset: 0,
        suspend_timeout_ms: 0,
        subscription: Some("*"),
        subscription_version: 0,
        expression_type: Some("TAG"),
        max_bytes: None,
    }
}

/// A refusal in the server's words.
pub(super) fn refusal(frame: &Frame) -> String {
    let reason = frame.remark.as_deref().unwrap_or("without a reason");
    format!("{}, {reason}", frame.response_code())
}

async fn route(client: &Client, topic: &str) -> Result<Vec<Target>, Error> {
    let brokers = client.admin().topic(topic).await?.brokers;
    Ok(brokers
        .into_iter()
        .map(|broker| {
            let writable = broker.permission & WRITE != 0;
            Target {
                name: Some(broker.broker),
                address: broker.address,
                read_queues: broker.read_queues,
                write_queues: if writable { broker.write_queues } else { 0 },
            }
        })
        .collect())
}

/// Creates a topic. Brokers announce it to the name servers, which takes a moment.
fn create(topic: &str, queues: i32, context: &Context) -> Result<Vec<Target>, Failure> {
    block_on(async {
        let client = context.client().await?;
        client.admin().create_topic(&TopicSpec::new(topic).queues(queues)).await?;
        say(&format!("topic {topic} is created with {queues} queues on each broker"));
        let deadline = Instant::now() + context.timeout();
        let targets = loop {
            match route(&client, topic).await {
                Err(Error::TopicNotFound { .. }) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                outcome => break outcome?,
            }
        };
        client.close().await;
        Ok(targets)
    })
}

/// A connection that asks one thing at a time.
struct Probe {
    stream: TcpStream,
    input: BytesMut,
}

impl Probe {
    /// A pull from the start of a queue: whatever its code, the answer says where the queue begins
    /// and ends, so that a server which serves sends and pulls alone can be measured.
    fn pull(&mut self, topic: &str, queue: i32) -> Result<Frame, Broken> {
        let header = pull(topic, (queue, 0), 1);
        let mut out = BytesMut::new();
        let code = RequestCode::PullMessage.as_i32();
        frame::write(&mut out, &Head::request(code, queue, Encoding::Json, false), &header, 0);
        self.stream.write_all(&out)?;
        let mut read = [0; 16 * 1024];
        loop {
            if let Some(bytes) = frame::split(&mut self.input)? {
                let frame = Frame::decode(bytes)?;
                if frame.is_reply() && frame.opaque == queue {
                    return Ok(frame);
                }
                continue;
            }
            match self.stream.read(&mut read)? {
                0 => return Err(Broken::Closed),
                length => self.input.extend_from_slice(read.get(..length).unwrap_or_default()),
            }
        }
    }
}
