//! A producer: one connection, many sends under way, each noted before it leaves and after its
//! answer has come.

use std::{
    collections::HashMap, io, path::Path, sync::Arc, sync::atomic::Ordering, time::Duration,
};

use bytes::BytesMut;
use protocol::{
    batch,
    code::{RequestCode, ResponseCode},
    frame::Frame,
    property,
    request::send::{Send, Sent},
};

use super::{
    board::{Board, Phase, Place, Role, Turn},
    history::{Id, Log},
    seed::Seed,
    wire::Link,
};

/// Sends that may be under way.
const WINDOW: usize = 32;
/// Messages at the start of each turn. Then the board has a pace: the volume of a campaign must not
/// depend on how fast the broker is.
const BURST: u64 = 300;
/// How long answers are waited for once nothing more is sent.
const LAST_ANSWERS: Duration = Duration::from_secs(12);
/// The refusal that says nothing about whether a message is stored.
const STOPPED: &str = "the store has stopped";

/// See the module.
pub(super) struct Producer {
    board: Arc<Board>,
    log: Log,
    seed: Seed,
    number: u8,
    sequence: u32,
    body: Vec<u8>,
    properties: String,
    messages: BytesMut,
}

/// A send without an answer.
struct Waiting {
    place: Arc<Place>,
    ids: Vec<Id>,
}

impl Producer {
    pub(super) fn new(
        board: &Arc<Board>,
        history: &Path,
        number: u8,
        seed: Seed,
    ) -> io::Result<Self> {
        Ok(Self {
            board: Arc::clone(board),
            log: Log::create(&history.join(format!("producer-{number}.log")))?,
            seed,
            number,
            sequence: 0,
            body: Vec::new(),
            properties: String::new(),
            messages: BytesMut::new(),
        })
    }

    /// Sends whenever it may, until all is over.
    pub(super) fn run(mut self) {
        let mut last = 0;
        while let Some(turn) = self.board.enter(Role::Producer, last) {
            last = turn.number;
            let done = self.load(turn);
            self.board.leave(Role::Producer, turn);
            if let Err(error) = done {
                self.board.report(format!("producer {} cannot go on: {error}", self.number));
                return;
            }
        }
    }

    /// An error is one of the history; connections may break.
    fn load(&mut self, turn: Turn) -> io::Result<()> {
        let places = self.board.places();
        let mut waiting = HashMap::new();
        let mut broken = "the connection broke".to_owned();
        while self.board.goes_on(turn) {
            if let Ok(mut link) = Link::connect(self.board.address()) {
                if let Err(error) = self.use_link(&mut link, (turn, &places), &mut waiting)? {
                    broken = error.to_string();
                }
                self.give_up(&mut waiting, &broken)?;
            } else {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Sends until the turn is over or the connection breaks: then the inner error.
    fn use_link(
        &mut self,
        link: &mut Link,
        (turn, places): (Turn, &[Arc<Place>]),
        waiting: &mut HashMap<i32, Waiting>,
    ) -> io::Result<io::Result<()>> {
        let began_us = self.board.time.now_us();
        let mut sent: u64 = 0;
        while self.board.goes_on(turn) {
            let allowed = BURST + (self.board.time.now_us() - began_us) / 1_000 * self.board.per_ms;
            let mut prepared = false;
            while waiting.len() < WINDOW && sent < allowed {
                sent += self.prepare(link, (turn, places), waiting);
                prepared = true;
            }
            if prepared {
                // Before the call.
                self.log.flush()?;
                if let Err(error) = link.send() {
                    return Ok(Err(error));
                }
            }
            if let Err(error) = self.answers(link, waiting, Duration::from_millis(1))? {
                return Ok(Err(error));
            }
        }
        let until = self.board.time.now_us() + u64::try_from(LAST_ANSWERS.as_micros()).unwrap_or(0);
        while !waiting.is_empty()
            && self.board.turn().phase != Phase::Down
            && self.board.time.now_us() < until
        {
            if let Err(error) = self.answers(link, waiting, Duration::from_millis(20))? {
                return Ok(Err(error));
            }
        }
        // What the kernel has received already was answered.
        self.answers(link, waiting, Duration::ZERO)
    }

    /// Prepares one send; returns the number of its messages.
    fn prepare(
        &mut self,
        link: &mut Link,
        (turn, places): (Turn, &[Arc<Place>]),
        waiting: &mut HashMap<i32, Waiting>,
    ) -> u64 {
        let Some(place) = self.seed.pick(places).map(Arc::clone) else { return 0 };
        let batched = !self.board.uniform && self.seed.percent(10);
        let count = if batched { self.seed.between(2, 12) } else { 1 };
        let now_us = self.board.time.now_us();
        let mut ids = Vec::new();
        self.messages.clear();
        for _ in 0..count {
            self.make_body();
            let id = Id::new(self.number, self.sequence, &self.body);
            self.sequence += 1;
            let (epoch, topic, queue) = (turn.epoch, &place.topic, place.queue);
            self.log.line(format_args!("I {now_us} {epoch} {id} {topic} {queue}"));
            self.properties.clear();
            property::push(&mut self.properties, property::UNIQ_KEY, &id.to_string());
            property::push(&mut self.properties, property::WAIT, "true");
            ids.push(id);
            if batched {
                let message =
                    batch::Message { flag: 0, body: &self.body, properties: &self.properties };
                message.encode(&mut self.messages).expect("bodies and properties are small");
            }
        }
        if batched {
            self.properties.clear();
            property::push(&mut self.properties, property::WAIT, "true");
        }
        let code = if batched { RequestCode::SendBatchMessage } else { RequestCode::SendMessageV2 };
        let header = send_header(&place, &self.properties, batched);
        let body = if batched { &*self.messages } else { &*self.body };
        let opaque = link.prepare(code, &header, body);
        waiting.insert(opaque, Waiting { place, ids });
        count
    }

    /// Mostly small bodies, now and then one that covers many pages: a power cut may lose one in
    /// its middle.
    fn make_body(&mut self) {
        let len = match self.seed.below(100) {
            _ if self.board.uniform => 150,
            0..60 => self.seed.between(1, 300),
            60..90 => self.seed.between(300, 2_000),
            90..99 => self.seed.between(2_000, 12_000),
            _ => self.seed.between(16_000, 64_000),
        };
        self.body.clear();
        while u64::try_from(self.body.len()).unwrap_or(u64::MAX) < len {
            self.body.extend_from_slice(&self.seed.next().to_be_bytes());
        }
        self.body.truncate(usize::try_from(len).unwrap_or(1));
    }

    /// Notes the answers that have come, waiting for the first.
    fn answers(
        &mut self,
        link: &mut Link,
        waiting: &mut HashMap<i32, Waiting>,
        wait: Duration,
    ) -> io::Result<io::Result<()>> {
        let mut wait = wait;
        loop {
            match link.receive(wait) {
                Ok(Some(reply)) => {
                    if let Some(send) = waiting.remove(&reply.opaque) {
                        self.note(&send, &reply);
                    }
                    wait = Duration::ZERO;
                }
                Ok(None) => {
                    self.log.flush()?;
                    return Ok(Ok(()));
                }
                Err(error) => {
                    self.log.flush()?;
                    return Ok(Err(error));
                }
            }
        }
    }

    fn note(&mut self, send: &Waiting, reply: &Frame) {
        let now_us = self.board.time.now_us();
        let code = reply.response_code();
        let remark = reply.remark.as_deref().unwrap_or_default();
        match code {
            ResponseCode::SUCCESS => match Sent::decode(&reply.fields) {
                Ok(sent) => return self.acked(send, &sent, now_us),
                Err(error) => self.board.report(format!("an answer to a send: {error}")),
            },
            ResponseCode::SYSTEM_BUSY
            | ResponseCode::MESSAGE_ILLEGAL
            | ResponseCode::NO_PERMISSION
            | ResponseCode::TOPIC_NOT_EXIST
            | ResponseCode::INVALID_PARAMETER => return self.refused(send, code, now_us),
            ResponseCode::SERVICE_NOT_AVAILABLE if !remark.starts_with(STOPPED) => {
                return self.refused(send, code, now_us);
            }
            _ => {}
        }
        for id in &send.ids {
            self.log.line(format_args!("U {now_us} {id} code-{}", code.0));
        }
    }

    fn acked(&mut self, send: &Waiting, sent: &Sent, now_us: u64) {
        if sent.queue_id != send.place.queue {
            self.board.report(format!("a send to queue {} went to another", send.place.queue));
        }
        let mut known = send.place.known();
        for (offset, id) in (sent.queue_offset..).zip(&send.ids) {
            self.log.line(format_args!("O {now_us} {id} {offset}"));
            if let Err(red) = known.ack(offset, *id, now_us) {
                let at = (&send.place.topic, send.place.queue);
                self.board.report(format!("rule {}: {at:?}: {}", red.rule, red.what));
            }
        }
        let count = u64::try_from(send.ids.len()).unwrap_or(0);
        self.board.acked.fetch_add(count, Ordering::Relaxed);
    }

    fn refused(&mut self, send: &Waiting, code: ResponseCode, now_us: u64) {
        for id in &send.ids {
            self.log.line(format_args!("N {now_us} {id} code-{}", code.0));
        }
        let count = u64::try_from(send.ids.len()).unwrap_or(0);
        self.board.refused.fetch_add(count, Ordering::Relaxed);
        // A producer that is refused waits before it tries again.
        std::thread::sleep(Duration::from_millis(1));
    }

    /// Nobody will ever know what became of these.
    fn give_up(&mut self, waiting: &mut HashMap<i32, Waiting>, reason: &str) -> io::Result<()> {
        let now_us = self.board.time.now_us();
        for (_, send) in waiting.drain() {
            for id in &send.ids {
                self.log.line(format_args!("U {now_us} {id} {}", reason.replace(' ', "-")));
            }
        }
        self.log.flush()
    }
}

fn send_header<'a>(place: &'a Place, properties: &'a str, batch: bool) -> Send<'a> {
    Send {
        producer_group: "torture-producer",
        topic: &place.topic,
        default_topic: Some("TBW102"),
        default_topic_queues: 1,
        queue_id: place.queue,
        sys_flag: 0,
        born_timestamp: 0,
        flag: 0,
        properties: Some(properties),
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch,
        broker_name: None,
    }
}
