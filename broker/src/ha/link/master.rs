//! The master's sockets: it waits for slaves, greets them, and reads what they acknowledge.

use std::{
    collections::HashMap,
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    Clock, Frames, LinkError, TICK,
    hub::{Hub, Over, lock},
    send,
};
use crate::ha::{
    AckKind, Ended, SlaveStatus,
    acks::{AckError, Acks, Reach, SESSIONS_MAX, SessionId},
    frame::{Body, Frame, Hello, Refuse},
    greet::{self, GreetError},
    plan::{Code, Plan, Refusal},
    replica::{Epoch, Identity, Master},
    session::{Count, SessionEnd},
    sink::Who,
    source::{self, Said},
};

/// Connections that may be open at a time, those that were not welcomed among them.
const CONNECTIONS_MAX: usize = 2 * SESSIONS_MAX;
/// How often the listener is asked.
const ACCEPT: Duration = Duration::from_millis(50);

/// A master's running replication.
pub(crate) struct MasterLink<S: Master> {
    hub: Arc<Hub<S>>,
    local: SocketAddr,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl<S> MasterLink<S>
where
    S: Master + Send + Sync + 'static,
    S::Snapshot: Send,
{
    /// Listens.
    pub(crate) fn start(
        store: S,
        name: Who,
        listen: SocketAddr,
        (needed, kind, epoch): (usize, AckKind, Epoch),
        ended: watch::Sender<Option<Ended>>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        let hub = Arc::new(Hub {
            store,
            name,
            kind,
            acks: Mutex::new(Acks::new(needed, kind, epoch)),
            clock: Clock::start(),
            stop: AtomicBool::new(false),
            replicated: watch::Sender::new(0),
            ended,
            connections: Mutex::default(),
            parked: Mutex::default(),
            lost: Mutex::default(),
        });
        let shared = Arc::clone(&hub);
        let acceptor = thread::Builder::new()
            .name("ha-accept".to_owned())
            .spawn(move || accept(&shared, &listener))?;
        Ok(Self { hub, local, acceptor: Mutex::new(Some(acceptor)) })
    }

    /// Ends everything; the second call does nothing.
    pub(crate) fn stop(&self) {
        let acceptor = lock(&self.acceptor).take();
        self.hub.stop.store(true, Ordering::Release);
        for stream in lock(&self.hub.connections).values() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = acceptor {
            acceptor.thread().unpark();
            if acceptor.join().is_err() {
                tracing::error!("a thread of replication has panicked");
            }
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    pub(crate) fn slaves(&self) -> Vec<SlaveStatus> {
        let appended = self.hub.store.position().appended;
        self.hub.acks().status(appended, self.hub.clock.now_ms())
    }

    pub(crate) fn in_sync(&self) -> usize {
        let appended = self.hub.store.position().appended;
        self.hub.acks().in_sync(appended, self.hub.clock.now_ms())
    }

    pub(crate) fn have_all(&self) -> bool {
        let position = self.hub.store.position();
        let slaves = self.slaves();
        slaves
            .iter()
            .filter(|slave| slave.in_sync)
            .all(|slave| slave.received >= position.appended && slave.sequence >= position.sequence)
    }

    /// The change up to which enough slaves are, and how many that takes.
    pub(crate) fn replicated(&self) -> (watch::Receiver<u64>, usize) {
        (self.hub.replicated.subscribe(), self.hub.acks().needed())
    }
}

fn accept<S>(hub: &Arc<Hub<S>>, listener: &TcpListener)
where
    S: Master + Send + Sync + 'static,
    S::Snapshot: Send,
{
    let mut sessions: HashMap<u64, JoinHandle<()>> = HashMap::new();
    let mut number = 0;
    while !hub.stopped() {
        match listener.accept() {
            Ok((stream, peer)) => {
                number += 1;
                match begin(hub, number, (stream, peer), sessions.len()) {
                    Ok(session) => drop(sessions.insert(number, session)),
                    Err(error) => tracing::warn!(%peer, %error, "a slave is not taken"),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::park_timeout(ACCEPT),
            Err(error) => {
                tracing::warn!(%error, "no slave can connect; next try soon");
                thread::park_timeout(TICK);
            }
        }
        sessions.retain(|_, session| !session.is_finished());
        hub.forget_parked();
    }
    // Those that began while the stop came.
    lock(&hub.connections).values().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    for session in sessions.into_values() {
        if session.join().is_err() {
            tracing::error!("a session of replication has panicked");
        }
    }
}

fn begin<S>(
    hub: &Arc<Hub<S>>,
    number: u64,
    (stream, peer): (TcpStream, SocketAddr),
    open: usize,
) -> io::Result<JoinHandle<()>>
where
    S: Master + Send + Sync + 'static,
    S::Snapshot: Send,
{
    if open >= CONNECTIONS_MAX {
        return Err(io::Error::other(format!("{open} connections are open already")));
    }
    lock(&hub.connections).insert(number, stream.try_clone()?);
    let hub = Arc::clone(hub);
    thread::Builder::new().name("ha-session".to_owned()).spawn(move || {
        let over = serve(&hub, stream, peer);
        lock(&hub.connections).remove(&number);
        match over {
            Over::Stopped => {}
            Over::Greet(GreetError::Refused(reason)) => {
                tracing::warn!(%peer, %reason, "a slave is refused")
            }
            reason => tracing::info!(%peer, %reason, "a slave's session is over"),
        }
    })
}

/// One connection, from its greeting to its end.
fn serve<S>(hub: &Hub<S>, stream: TcpStream, peer: SocketAddr) -> Over
where
    S: Master + Sync,
    S::Snapshot: Send,
{
    let run = || -> Result<(), Over> {
        let mut frames = Frames::new(stream.try_clone().map_err(LinkError::from)?)?;
        let Some(Body::Hello(hello)) = frames.greeting()?.body else { return Err(Over::NoHello) };
        let mut stream = stream.try_clone().map_err(LinkError::from)?;
        let lost = lock(&hub.lost).get(&hello.broker_id).copied();
        let (identity, plan) = match greet::greet(&hub.store, &hub.name, &hello, lost) {
            Ok(greeted) => greeted,
            Err(error) => return Err(refuse(hub, &mut stream, error.into())),
        };
        let begun = hub.acks().begin(hello.broker_id, peer, hub.clock.now_ms());
        let session = match begun {
            Ok(session) => session,
            Err(error) => return Err(refuse(hub, &mut stream, error.into())),
        };
        let outcome = admit(hub, (&mut frames, &mut stream), &hello, (&identity, plan, session));
        hub.acks().end(session);
        if let Err(Over::Session(SessionEnd::Lost { sequence, .. })) = &outcome {
            hub.note_lost(hello.broker_id, *sequence);
        }
        outcome
    };
    let outcome = run();
    let _ = stream.shutdown(Shutdown::Both);
    match outcome {
        _ if hub.stopped() => Over::Stopped,
        Ok(()) => Over::Link(LinkError::Closed),
        Err(over) => over,
    }
}

fn refuse<S: Master>(hub: &Hub<S>, stream: &mut TcpStream, over: Over) -> Over {
    let code = match &over {
        Over::Greet(GreetError::Refused(refusal)) => refusal.code(),
        _ => Code::Unavailable,
    };
    let refuse = Refuse { code: code as u32, reason: over.to_string() };
    if let Err(error) = send(stream, &[Frame::greeting(Body::Refuse(refuse))]) {
        tracing::debug!(%error, "a slave went before it could be refused");
    }
    if let Over::Greet(GreetError::Refused(Refusal::NewerEpoch { seen, .. })) = over {
        hub.ended.send_replace(Some(Ended::Demoted { seen_epoch: seen }));
    }
    over
}

/// Tells the slave what it must do, and serves it.
fn admit<S>(
    hub: &Hub<S>,
    (frames, stream): (&mut Frames, &mut TcpStream),
    hello: &Hello,
    (identity, plan, session): (&Identity, Plan, SessionId),
) -> Result<(), Over>
where
    S: Master + Sync,
    S::Snapshot: Send,
{
    let from = Reach { log: hello.received, sequence: hello.sequence };
    if plan.streams() {
        hub.acks().stream(session, from)?;
        lock(&hub.parked).remove(&hello.broker_id);
    }
    let durable = hub.acks().needed() > 0 && hub.kind == AckKind::Durable;
    let welcome = greet::welcome((identity, &plan), (&hub.name, hello), durable);
    send(stream, std::slice::from_ref(&welcome))?;
    tracing::info!(
        broker_id = hello.broker_id,
        received = hello.received,
        sequence = hello.sequence,
        log = ?plan.log,
        snapshot = plan.snapshot,
        why = plan.why,
        "a slave is taken"
    );
    frames.welcomed()?;
    follow(hub, (frames, stream), hello, (welcome.epoch, plan, session))
}

/// Sends in a thread of its own, and reads here.
fn follow<S>(
    hub: &Hub<S>,
    (frames, stream): (&mut Frames, &mut TcpStream),
    hello: &Hello,
    (epoch, plan, session): (u64, Plan, SessionId),
) -> Result<(), Over>
where
    S: Master + Sync,
    S::Snapshot: Send,
{
    let mut sending = stream.try_clone().map_err(LinkError::from)?;
    thread::scope(|scope| {
        let sender = thread::Builder::new()
            .name("ha-send".to_owned())
            .spawn_scoped(scope, move || {
                let outcome = super::send::run(hub, &mut sending, hello, (epoch, &plan, session));
                let _ = sending.shutdown(Shutdown::Both);
                outcome
            })
            .map_err(LinkError::from)?;
        let read = read(hub, frames, (epoch, session), sender.thread());
        hub.acks().end(session);
        let _ = stream.shutdown(Shutdown::Both);
        sender.thread().unpark();
        let sent = sender.join().unwrap_or(Ok(()));
        // Who ended first has the reason; the other one sees a closed socket or no session.
        match (read, sent) {
            (Err(Over::Link(LinkError::Closed)), Err(sent))
                if !matches!(sent, Over::Ack(AckError::Replaced)) =>
            {
                Err(sent)
            }
            (Err(read), _) => Err(read),
            (Ok(()), sent) => sent,
        }
    })
}

fn read<S: Master>(
    hub: &Hub<S>,
    frames: &mut Frames,
    (epoch, session): (u64, SessionId),
    sender: &thread::Thread,
) -> Result<(), Over> {
    let mut count = Count::new(epoch);
    while !hub.stopped() {
        let Some(frame) = frames.next()? else {
            hub.acks().last(session)?;
            continue;
        };
        match source::receive(&mut count, frame)? {
            Said::Ack(ack) => {
                let counted = hub.acks().ack(session, ack, hub.clock.now_ms())?;
                if let Some(Reach { log, sequence }) = counted {
                    hub.store.set_replicated(log);
                    hub.replicated.send_if_modified(|at| {
                        let grows = sequence > *at;
                        *at = sequence.max(*at);
                        grows
                    });
                }
                sender.unpark();
            }
            Said::Offsets(pending) => {
                for offset in &pending {
                    hub.store.merge_offset(offset)?;
                }
            }
        }
    }
    Err(Over::Stopped)
}
