//! The master's sockets: it waits for slaves, greets them, and reads what they acknowledge. Sessions
//! are tasks of the runtime that serves clients.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream, tcp::OwnedWriteHalf},
    select,
    sync::{Notify, watch},
    task::JoinSet,
    time::{interval, sleep},
};

use super::{
    Clock, LinkError, TICK,
    hub::{AtWork, Hub, Over, Shared, lock},
    send,
    wire::{self, Incoming},
};
use crate::{
    ha::{
        AckKind, Ended, SlaveStatus,
        acks::{Acks, Reach, SESSIONS_MAX, SessionId},
        frame::{Body, Frame, Hello, Refuse},
        greet::{self, GreetError},
        plan::{Code, Plan, Refusal},
        replica::{Epoch, Identity, Master},
        session::{Count, SessionEnd},
        sink::Who,
        source::{self, Said},
    },
    state::blocking,
};

/// Connections that may be open at a time, those that were not welcomed among them.
const CONNECTIONS_MAX: usize = 2 * SESSIONS_MAX;
/// How often it is looked for snapshots that nobody needs any more.
const FORGET: Duration = Duration::from_secs(10);

/// A master's running replication.
pub(crate) struct MasterLink<S: Master> {
    hub: Arc<Hub<S>>,
    local: SocketAddr,
    stop: watch::Sender<bool>,
    /// Ends with the last who works for a session, without a word.
    done: Mutex<mpsc::Receiver<Infallible>>,
}

impl<S: Shared> MasterLink<S> {
    /// Listens. Sessions are tasks of the caller's runtime.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub(crate) fn start(
        store: S,
        name: Who,
        listen: SocketAddr,
        (needed, kind, epoch): (usize, AckKind, Epoch),
        ended: watch::Sender<Option<Ended>>,
    ) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let local = listener.local_addr()?;
        let hub = Arc::new(Hub {
            store,
            name,
            kind,
            acks: Mutex::new(Acks::new(needed, kind, epoch)),
            clock: Clock::start(),
            replicated: watch::Sender::new(0),
            ended,
            parked: Mutex::default(),
            lost: Mutex::default(),
        });
        let (stop, stopped) = watch::channel(false);
        let (at_work, done) = AtWork::new(&hub);
        tokio::spawn(accept(at_work, TcpListener::from_std(listener)?, stopped));
        Ok(Self { hub, local, stop, done: Mutex::new(done) })
    }

    /// Ends all sessions and waits for their ends. Blocking; the second call does nothing.
    pub(crate) fn stop(&self) {
        self.stop.send_replace(true);
        // Nothing is ever sent: what ends the waiting is the last sender's end.
        let _ = lock(&self.done).recv();
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

async fn accept<S: Shared>(hub: AtWork<S>, listener: TcpListener, mut stop: watch::Receiver<bool>) {
    let mut sessions = JoinSet::new();
    let mut forget = interval(FORGET);
    loop {
        select! {
            // Also when the link is gone without having said so.
            () = async { drop(stop.wait_for(|stop| *stop).await) } => break,
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if sessions.len() >= CONNECTIONS_MAX => {
                    tracing::warn!(%peer, open = sessions.len(), "too many connections of slaves");
                }
                Ok((stream, peer)) => {
                    sessions.spawn(serve(hub.clone(), stream, peer));
                }
                Err(error) => {
                    tracing::warn!(%error, "no slave can connect; next try soon");
                    sleep(TICK).await;
                }
            },
            Some(session) = sessions.join_next() => {
                if session.is_err() {
                    tracing::error!("a session of replication has panicked");
                }
            }
            _ = forget.tick() => {
                let hub = hub.clone();
                blocking(move || hub.forget_parked()).await;
            }
        }
    }
    sessions.shutdown().await;
}

/// One connection, from its greeting to its end.
async fn serve<S: Shared>(hub: AtWork<S>, stream: TcpStream, peer: SocketAddr) {
    match session(&hub, stream, peer).await {
        Over::Greet(GreetError::Refused(reason)) => {
            tracing::warn!(%peer, %reason, "a slave is refused");
        }
        reason => tracing::info!(%peer, %reason, "a slave's session is over"),
    }
}

async fn session<S: Shared>(hub: &AtWork<S>, stream: TcpStream, peer: SocketAddr) -> Over {
    let run = async {
        stream.set_nodelay(true).map_err(LinkError::from)?;
        let (reading, mut writing) = stream.into_split();
        let mut incoming = Incoming::new(reading);
        let Some(Body::Hello(hello)) = incoming.greeting().await?.body else {
            return Err(Over::NoHello);
        };
        let hello = Arc::new(hello);
        let decide = {
            let (hub, hello) = (hub.clone(), Arc::clone(&hello));
            let lost = lock(&hub.lost).get(&hello.broker_id).copied();
            move || greet::greet(&hub.store, &hub.name, &hello, lost)
        };
        let (identity, plan) = match blocking(decide).await {
            Ok(greeted) => greeted,
            Err(error) => return Err(refuse(hub, &mut writing, error.into()).await),
        };
        let begun = hub.acks().begin(hello.broker_id, peer, hub.clock.now_ms());
        let seat = match begun {
            Ok(session) => Seat { hub, session },
            Err(error) => return Err(refuse(hub, &mut writing, error.into()).await),
        };
        let streams = (&mut incoming, &mut writing);
        let outcome = admit(hub, streams, &hello, (&identity, plan, seat.session)).await;
        if let Err(Over::Session(SessionEnd::Lost { sequence, .. })) = &outcome {
            hub.note_lost(hello.broker_id, *sequence);
        }
        outcome
    };
    let Err(over) = run.await;
    over
}

/// A slave's place among those that count, until it is dropped.
struct Seat<'a, S: Master> {
    hub: &'a Hub<S>,
    session: SessionId,
}

impl<S: Master> Drop for Seat<'_, S> {
    fn drop(&mut self) {
        self.hub.acks().end(self.session);
    }
}

async fn refuse<S: Master>(hub: &Hub<S>, stream: &mut OwnedWriteHalf, over: Over) -> Over {
    let code = match &over {
        Over::Greet(GreetError::Refused(refusal)) => refusal.code(),
        _ => Code::Unavailable,
    };
    let refuse = Refuse { code: code as u32, reason: over.to_string() };
    if let Err(error) = wire::send(stream, &[Frame::greeting(Body::Refuse(refuse))]).await {
        tracing::debug!(%error, "a slave went before it could be refused");
    }
    if let Over::Greet(GreetError::Refused(Refusal::NewerEpoch { seen, .. })) = over {
        hub.ended.send_replace(Some(Ended::Demoted { seen_epoch: seen }));
    }
    over
}

/// Tells the slave what it must do, and serves it.
async fn admit<S: Shared>(
    hub: &AtWork<S>,
    (incoming, stream): (&mut Incoming, &mut OwnedWriteHalf),
    hello: &Arc<Hello>,
    (identity, plan, session): (&Identity, Plan, SessionId),
) -> Result<Infallible, Over> {
    let from = Reach { log: hello.received, sequence: hello.sequence };
    if plan.streams() {
        hub.acks().stream(session, from)?;
        let (hub, broker_id) = (hub.clone(), hello.broker_id);
        // What is dropped is files.
        blocking(move || drop(lock(&hub.parked).remove(&broker_id))).await;
    }
    let durable = hub.acks().needed() > 0 && hub.kind == AckKind::Durable;
    let welcome = greet::welcome((identity, &plan), (&hub.name, hello), durable);
    wire::send(stream, std::slice::from_ref(&welcome)).await?;
    tracing::info!(
        broker_id = hello.broker_id,
        received = hello.received,
        sequence = hello.sequence,
        log = ?plan.log,
        snapshot = plan.snapshot,
        why = plan.why,
        "a slave is taken"
    );
    incoming.welcomed();
    let news = Arc::new(Notify::new());
    // Who waits for an acknowledgement that was just read has its turn before more is sent.
    select! {
        biased;
        over = send::run(hub, stream, hello, (welcome.epoch, plan, session), &news) => Err(over),
        over = read(hub, incoming, (welcome.epoch, session), &news) => over,
    }
}

async fn read<S: Shared>(
    hub: &AtWork<S>,
    incoming: &mut Incoming,
    (epoch, session): (u64, SessionId),
    news: &Notify,
) -> Result<Infallible, Over> {
    let mut count = Count::new(epoch);
    loop {
        let frame = incoming.next().await?;
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
                news.notify_one();
            }
            Said::Offsets(pending) => {
                let hub = hub.clone();
                let merge =
                    move || pending.iter().try_for_each(|offset| hub.store.merge_offset(offset));
                blocking(merge).await?;
            }
        }
    }
}
