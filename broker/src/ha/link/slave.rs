//! The slave's sockets: it connects to its master, does what it says, and acknowledges.

use std::{
    hash::{BuildHasher as _, RandomState},
    io,
    net::{Shutdown, TcpStream, ToSocketAddrs as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle, Thread},
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Clock, Frames, LinkError, hub::lock, send};
use crate::ha::{
    Ended, MasterStatus,
    acker::Acker,
    frame::{Body, Frame, Hello},
    replica::{Slave, StoreError},
    sink::{self, FollowEnd, Follower, Staged, Who},
};

/// How long a connection may take to come about.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// First and longest pause between attempts.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

type Address = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// Why a session is over or did not begin.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error("nobody knows where the master is")]
    NoMaster,
    #[error("cannot connect to the master {address}: {source}")]
    Connect { address: String, source: io::Error },
    #[error(transparent)]
    Follow(#[from] FollowEnd),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("this broker stops")]
    Stopped,
}

impl From<StoreError> for Over {
    fn from(error: StoreError) -> Self {
        Self::Follow(error.into())
    }
}

/// What the threads share.
struct Shared<S> {
    store: S,
    who: Who,
    address: Address,
    clock: Clock,
    stop: AtomicBool,
    ended: watch::Sender<Option<Ended>>,
    stream: Mutex<Option<TcpStream>>,
    status: Mutex<MasterStatus>,
    heard_ms: AtomicU64,
    master_end: AtomicU64,
}

/// A slave's running replication.
pub(crate) struct SlaveLink<S> {
    shared: Arc<Shared<S>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl<S: Slave + Send + Sync + 'static> SlaveLink<S> {
    /// Begins to look for the master.
    pub(crate) fn start(
        store: S,
        who: Who,
        address: Address,
        ended: watch::Sender<Option<Ended>>,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            store,
            who,
            address,
            clock: Clock::start(),
            stop: AtomicBool::new(false),
            ended,
            stream: Mutex::new(None),
            status: Mutex::default(),
            heard_ms: AtomicU64::new(u64::MAX),
            master_end: AtomicU64::new(0),
        });
        let of_thread = Arc::clone(&shared);
        let thread =
            thread::Builder::new().name("ha-follow".to_owned()).spawn(move || run(&of_thread))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Ends everything; the second call does nothing.
    pub(crate) fn stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(stream) = lock(&self.shared.stream).as_ref() {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
        if let Some(thread) = lock(&self.thread).take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that follows the master has panicked");
            }
        }
    }

    pub(crate) fn status(&self) -> MasterStatus {
        let Shared { status, clock, heard_ms, master_end, store, .. } = &*self.shared;
        let heard_ms = heard_ms.load(Ordering::Relaxed);
        let since = clock.now_ms().saturating_sub(heard_ms);
        let appended = store.position().appended;
        MasterStatus {
            lag_bytes: master_end.load(Ordering::Relaxed).saturating_sub(appended),
            since_heard: (heard_ms != u64::MAX).then(|| Duration::from_millis(since)),
            ..lock(status).clone()
        }
    }
}

impl<S> Shared<S> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What outlives a session.
struct Memory<S: Slave> {
    staged: Option<Staged<S>>,
    diverged: bool,
    pause: Duration,
    random: RandomState,
}

fn run<S: Slave + Sync>(shared: &Shared<S>) {
    let mut memory =
        Memory { staged: None, diverged: false, pause: PAUSE_MIN, random: RandomState::new() };
    while !shared.stopped() {
        let over = match session(shared, &mut memory) {
            Err(over) => over,
            Ok(()) => Over::Link(LinkError::Closed),
        };
        lock(&shared.stream).take();
        if shared.stopped() {
            return;
        }
        note(shared, &over);
        if must_reopen(shared, &over) {
            shared.ended.send_replace(Some(Ended::Reopen));
            return;
        }
        memory.diverged |= matches!(over, Over::Follow(FollowEnd::Diverged(_)));
        // Half of it is random, so that slaves do not return all at once.
        let [random, ..] = memory.random.hash_one(shared.clock.now_ms()).to_be_bytes();
        thread::park_timeout(memory.pause.mul_f64(0.5 + f64::from(random) / 512.0));
        memory.pause = (memory.pause * 2).min(PAUSE_MAX);
    }
}

/// Whether only a new start of the store helps.
fn must_reopen<S: Slave>(shared: &Shared<S>, over: &Over) -> bool {
    match over {
        Over::Follow(FollowEnd::Reopen(_)) => true,
        // Bytes that do not fit to the beginning of a record that is kept in memory.
        Over::Follow(FollowEnd::Store(StoreError::Refused(_))) => {
            shared.store.received().is_ok_and(|end| end != shared.store.position().appended)
        }
        _ => false,
    }
}

/// Keeps the reason, and logs it when it is another one than before.
fn note<S>(shared: &Shared<S>, over: &Over) {
    let text = over.to_string();
    let mut status = lock(&shared.status);
    status.streaming = false;
    if status.last_error.as_ref() == Some(&text) {
        return;
    }
    let master = status.address.as_deref().unwrap_or("unknown");
    match over {
        Over::Follow(FollowEnd::Diverged(_)) => {
            tracing::error!(master, reason = %text, "the master is not followed");
        }
        _ => tracing::warn!(master, reason = %text, "the master is not followed"),
    }
    status.last_error = Some(text);
}

fn session<S: Slave + Sync>(shared: &Shared<S>, memory: &mut Memory<S>) -> Result<(), Over> {
    let address = (shared.address)();
    lock(&shared.status).address.clone_from(&address);
    let mut stream = connect(address.ok_or(Over::NoMaster)?)?;
    let clone = |stream: &TcpStream| stream.try_clone().map_err(LinkError::from);
    *lock(&shared.stream) = Some(clone(&stream)?);
    if shared.stopped() {
        return Err(Over::Stopped);
    }
    let mut frames = Frames::new(clone(&stream)?)?;
    let hello = sink::hello(&shared.store, &shared.who, memory.staged.as_ref(), memory.diverged)?;
    send(&mut stream, &[Frame::greeting(Body::Hello(hello.clone()))])?;
    let answer = frames.greeting()?;
    let mut follower = welcomed(shared, &hello, answer)?;
    frames.welcomed()?;
    let began = Instant::now();
    let outcome = follow(shared, &mut follower, &mut frames, stream);
    if began.elapsed() >= PAUSE_MAX {
        memory.pause = PAUSE_MIN;
    }
    if let Some(staged) = follower.into_staged() {
        memory.staged = Some(staged);
    }
    outcome
}

fn connect(address: String) -> Result<TcpStream, Over> {
    let attempt = || {
        let mut last = io::Error::other("the name has no address");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_MAX) {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    attempt().map_err(|source| Over::Connect { address, source })
}

fn welcomed<S: Slave>(
    shared: &Shared<S>,
    hello: &Hello,
    answer: Frame,
) -> Result<Follower<S>, Over> {
    let epoch = answer.epoch;
    let follower = Follower::welcomed(&shared.store, hello, answer, shared.clock.now_ms())?;
    let mut status = lock(&shared.status);
    status.epoch = epoch;
    status.streaming = follower.streams();
    status.last_error = None;
    tracing::info!(
        master = status.address,
        epoch,
        received = hello.received,
        sequence = hello.sequence,
        streaming = status.streaming,
        "the master takes this slave"
    );
    Ok(follower)
}

/// What is said to the master, by whoever has something to say.
struct Speaker {
    acker: Acker,
    stream: TcpStream,
}

/// Applies in this thread and acknowledges what it has applied; another one makes the index durable,
/// which must hold nothing up, and says so.
fn follow<S: Slave + Sync>(
    shared: &Shared<S>,
    follower: &mut Follower<S>,
    frames: &mut Frames,
    stream: TcpStream,
) -> Result<(), Over> {
    let acker = Acker::new(follower, shared.clock.now_ms());
    let acking = stream.try_clone().map_err(LinkError::from)?;
    let speaker = Mutex::new(Speaker { acker, stream: acking });
    let known_epoch = AtomicU64::new(follower.known_epoch());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (speaker, known_epoch, over) = (&speaker, &known_epoch, &over);
        let acker = thread::Builder::new()
            .name("ha-ack".to_owned())
            .spawn_scoped(scope, move || {
                let outcome = acknowledge(shared, speaker, (known_epoch, over));
                let _ = lock(speaker).stream.shutdown(Shutdown::Both);
                outcome
            })
            .map_err(LinkError::from)?;
        let outcome = apply(shared, follower, frames, (speaker, known_epoch, acker.thread()));
        over.store(true, Ordering::Release);
        let _ = stream.shutdown(Shutdown::Both);
        acker.thread().unpark();
        match (outcome, acker.join().unwrap_or(Ok(()))) {
            (Err(Over::Link(LinkError::Closed)), Err(acking)) => Err(acking),
            (outcome, _) => outcome,
        }
    })
}

fn apply<S: Slave>(
    shared: &Shared<S>,
    follower: &mut Follower<S>,
    frames: &mut Frames,
    (speaker, known_epoch, acker): (&Mutex<Speaker>, &AtomicU64, &Thread),
) -> Result<(), Over> {
    while !shared.stopped() {
        let mut next = frames.next()?;
        let now_ms = shared.clock.now_ms();
        match next {
            Some(_) => shared.heard_ms.store(now_ms, Ordering::Relaxed),
            None => follower.tick(now_ms)?,
        }
        while let Some(frame) = next {
            follower.receive(&shared.store, frame, now_ms)?;
            next = frames.buffered()?;
        }
        shared.master_end.store(follower.master_end(), Ordering::Relaxed);
        known_epoch.store(follower.known_epoch(), Ordering::Release);
        match speaker.try_lock() {
            Ok(mut speaker) => {
                let Speaker { acker, stream } = &mut *speaker;
                send(stream, &acker.ack(&shared.store, follower.known_epoch(), now_ms)?)?;
            }
            // It syncs the index, and looks again afterwards.
            Err(_) => acker.unpark(),
        }
    }
    Err(Over::Stopped)
}

fn acknowledge<S: Slave>(
    shared: &Shared<S>,
    speaker: &Mutex<Speaker>,
    (known_epoch, over): (&AtomicU64, &AtomicBool),
) -> Result<(), Over> {
    // Where the master waits for no disk, what was applied is all that it must hear at once.
    let durable = lock(speaker).acker.durable();
    let _watch = durable.then(|| {
        let thread = thread::current();
        shared.store.watch(Arc::new(move || thread.unpark()))
    });
    while !shared.stopped() && !over.load(Ordering::Acquire) {
        let known_epoch = known_epoch.load(Ordering::Acquire);
        let mut speaker = lock(speaker);
        let Speaker { acker, stream } = &mut *speaker;
        let frames = acker.poll(&shared.store, known_epoch, shared.clock.now_ms())?;
        send(stream, &frames)?;
        let pause = acker.pause();
        drop(speaker);
        if frames.is_empty() {
            thread::park_timeout(pause);
        }
    }
    Ok(())
}
