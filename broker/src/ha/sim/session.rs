//! Both ends of one connection, and the wire between them.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use bytes::BytesMut;

use super::store::{Copy, Model};
use crate::ha::{
    acker::Acker,
    acks::{Acks, Reach, SessionId},
    frame::{self, Body, Frame, Hello, Refuse},
    greet::{self, GreetError},
    plan::Refusal,
    replica::{Master as _, Snapshot as _},
    session::{Count, SessionEnd},
    sink::{self, FollowEnd, Follower, Staged, Who},
    source::{self, Feed, Said},
};

/// Bytes in one direction.
#[derive(Default)]
pub(super) struct Wire {
    pub(super) flying: Vec<u8>,
    pub(super) here: BytesMut,
    /// Nothing arrives any more.
    pub(super) cut: bool,
}

impl Wire {
    pub(super) fn send(&mut self, frames: &[Frame]) {
        if self.cut {
            return;
        }
        frames.iter().for_each(|frame| frame.encode_into(&mut self.flying));
    }

    /// So many bytes arrive.
    pub(super) fn deliver(&mut self, bytes: usize) {
        let bytes = bytes.min(self.flying.len());
        self.here.extend_from_slice(&self.flying[..bytes]);
        self.flying.drain(..bytes);
    }

    fn take(&mut self) -> Result<Option<Frame>, String> {
        frame::take(&mut self.here, frame::MESSAGE_MAX_BYTES).map_err(|error| error.to_string())
    }
}

/// A connection. Who closes it ends it for the other one when that looks.
pub(super) struct Conn {
    pub(super) slave: usize,
    pub(super) master: usize,
    pub(super) up: Wire,
    pub(super) down: Wire,
    pub(super) open: bool,
    /// Bytes of it were damaged: errors are to be expected.
    pub(super) damaged: bool,
}

pub(super) type Shared = Rc<RefCell<Conn>>;

pub(super) fn who(broker_id: u64) -> Who {
    Who { cluster: "c".to_owned(), broker_name: "b".to_owned(), broker_id }
}

/// What a master has besides its store.
pub(super) struct Hub {
    pub(super) acks: Acks,
    pub(super) sessions: Vec<MasterEnd>,
    pub(super) parked: HashMap<u64, Copy>,
    pub(super) lost: HashMap<u64, u64>,
    pub(super) durable: bool,
    /// A slave has seen a newer master.
    pub(super) demoted: Option<u64>,
}

pub(super) struct MasterEnd {
    pub(super) conn: Shared,
    broker_id: u64,
    began_ms: u64,
    greeted: Option<(SessionId, Feed<Model>, Count)>,
}

impl MasterEnd {
    pub(super) fn new(conn: Shared, broker_id: u64, began_ms: u64) -> Self {
        Self { conn, broker_id, began_ms, greeted: None }
    }

    /// Reads what is here. An error ends the session.
    pub(super) fn read(&mut self, store: &Model, hub: &mut Hub, now_ms: u64) -> Result<(), String> {
        loop {
            let frame = self.conn.borrow_mut().up.take()?;
            let Some(frame) = frame else { return Ok(()) };
            match &mut self.greeted {
                None => self.greet(store, hub, frame, now_ms)?,
                Some((session, _, count)) => {
                    let said = source::receive(count, frame).map_err(|error| error.to_string())?;
                    let Said::Ack(ack) = said else { continue };
                    let counted = hub.acks.ack(*session, ack, now_ms);
                    if let Some(reach) = counted.map_err(|error| error.to_string())? {
                        store.set_replicated(reach.log);
                    }
                }
            }
        }
    }

    fn greet(
        &mut self,
        store: &Model,
        hub: &mut Hub,
        frame: Frame,
        now_ms: u64,
    ) -> Result<(), String> {
        let Some(Body::Hello(hello)) = frame.body else { return Err("no hello".to_owned()) };
        let own = who(0);
        let lost = hub.lost.get(&self.broker_id).copied();
        let (identity, plan) = match greet::greet(store, &own, &hello, lost) {
            Ok(greeted) => greeted,
            Err(error) => {
                if let GreetError::Refused(Refusal::NewerEpoch { seen, .. }) = error {
                    hub.demoted = Some(seen);
                }
                let refuse = Refuse { code: 0, reason: error.to_string() };
                self.conn.borrow_mut().down.send(&[Frame::greeting(Body::Refuse(refuse))]);
                return Err(error.to_string());
            }
        };
        let address = "127.0.0.1:1".parse().unwrap();
        let session = hub.acks.begin(self.broker_id, address, now_ms).unwrap();
        let welcome = greet::welcome((&identity, &plan), (&own, &hello), hub.durable);
        let epoch = welcome.epoch;
        let feed = if plan.streams() {
            let from = Reach { log: hello.received, sequence: hello.sequence };
            hub.acks.stream(session, from).unwrap();
            hub.parked.remove(&self.broker_id);
            Feed::stream(epoch, &plan, from, now_ms)
        } else if plan.snapshot {
            let parked = hub.parked.remove(&self.broker_id);
            let parked = parked.filter(|parked| parked.id() == hello.snapshot_id);
            let snapshot = match parked {
                Some(parked) => (parked, hello.have.clone()),
                None => (store.snapshot().unwrap(), Vec::new()),
            };
            Feed::prepare(epoch, Some(snapshot), now_ms)
        } else {
            Feed::prepare(epoch, None, now_ms)
        };
        self.conn.borrow_mut().down.send(&[welcome]);
        self.greeted = Some((session, feed, Count::new(epoch)));
        Ok(())
    }

    /// Sends what is due.
    pub(super) fn write(
        &mut self,
        store: &Model,
        hub: &mut Hub,
        now_ms: u64,
    ) -> Result<(), String> {
        let Some((session, feed, _)) = &mut self.greeted else {
            return in_time(self.began_ms, now_ms);
        };
        let heard = hub.acks.last(*session).map_err(|error| error.to_string())?;
        let frames = feed.poll(store, heard, now_ms);
        if let Err(SessionEnd::Lost { sequence, .. }) = frames {
            hub.lost.insert(self.broker_id, sequence);
        }
        let frames = frames.map_err(|error| error.to_string())?;
        if let Some(sent) = feed.sent() {
            hub.acks.sent(*session, sent).map_err(|error| error.to_string())?;
        }
        self.conn.borrow_mut().down.send(&frames);
        Ok(())
    }

    pub(super) fn end(self, hub: &mut Hub) {
        self.conn.borrow_mut().open = false;
        if let Some((session, mut feed, _)) = self.greeted {
            hub.acks.end(session);
            if let Some(snapshot) = feed.take_snapshot() {
                hub.parked.insert(self.broker_id, snapshot);
            }
        }
    }
}

pub(super) struct SlaveEnd {
    pub(super) conn: Shared,
    hello: Hello,
    began_ms: u64,
    greeted: Option<(Follower<Model>, Acker)>,
}

/// The link's threads wait no longer for a greeting.
fn in_time(began_ms: u64, now_ms: u64) -> Result<(), String> {
    if now_ms > began_ms + 5_000 { Err("no greeting".to_owned()) } else { Ok(()) }
}

/// What a slave's process remembers between sessions.
#[derive(Default)]
pub(super) struct Memory {
    pub(super) staged: Option<Staged<Model>>,
    pub(super) diverged: bool,
}

/// What a step of the slave's end does with its frames besides taking them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trick {
    None,
    Twice,
    Swap,
}

impl SlaveEnd {
    pub(super) fn new(
        conn: Shared,
        (store, broker_id): (&Model, u64),
        memory: &Memory,
        began_ms: u64,
    ) -> Self {
        let hello =
            sink::hello(store, &who(broker_id), memory.staged.as_ref(), memory.diverged).unwrap();
        conn.borrow_mut().up.send(&[Frame::greeting(Body::Hello(hello.clone()))]);
        Self { conn, hello, began_ms, greeted: None }
    }

    pub(super) fn streams(&self) -> bool {
        self.greeted.as_ref().is_some_and(|(follower, _)| follower.streams())
    }

    /// Reads what is here. An error ends the session.
    pub(super) fn read(
        &mut self,
        store: &Model,
        now_ms: u64,
        trick: Trick,
    ) -> Result<(), SlaveOver> {
        loop {
            let frame = self.conn.borrow_mut().down.take().map_err(SlaveOver::Wire)?;
            let Some(frame) = frame else { break };
            let Some((follower, _)) = &mut self.greeted else {
                let follower = Follower::welcomed(store, &self.hello, frame, now_ms)?;
                let acker = Acker::new(&follower, now_ms);
                self.greeted = Some((follower, acker));
                continue;
            };
            match trick {
                Trick::None => follower.receive(store, frame, now_ms)?,
                Trick::Twice => {
                    follower.receive(store, frame.clone(), now_ms)?;
                    let again = follower.receive(store, frame, now_ms).unwrap_err();
                    return Err(again.into());
                }
                Trick::Swap => {
                    let next = self.conn.borrow_mut().down.take().map_err(SlaveOver::Wire)?;
                    let Some(next) = next else {
                        follower.receive(store, frame, now_ms)?;
                        break;
                    };
                    return Err(follower.receive(store, next, now_ms).unwrap_err().into());
                }
            }
        }
        match &self.greeted {
            Some((follower, _)) => Ok(follower.tick(now_ms)?),
            None => in_time(self.began_ms, now_ms).map_err(|_| SlaveOver::Late),
        }
    }

    /// Acknowledges what is due.
    pub(super) fn write(&mut self, store: &Model, now_ms: u64) {
        if let Some((follower, acker)) = &mut self.greeted {
            let frames = acker.poll(store, follower.known_epoch(), now_ms).unwrap();
            self.conn.borrow_mut().up.send(&frames);
        }
    }

    pub(super) fn end(self, memory: &mut Memory) {
        self.conn.borrow_mut().open = false;
        if let Some(staged) = self.greeted.and_then(|(follower, _)| follower.into_staged()) {
            memory.staged = Some(staged);
        }
    }
}

/// Why a slave's end is over.
#[derive(Debug)]
pub(super) enum SlaveOver {
    Wire(String),
    Late,
    Follow(FollowEnd),
}

impl From<FollowEnd> for SlaveOver {
    fn from(end: FollowEnd) -> Self {
        Self::Follow(end)
    }
}
