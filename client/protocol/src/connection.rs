//! One socket, both directions: requests in, replies out, and requests out, replies in.
//!
//! One task per socket reads everything that is there, hands each frame to the [`Service`] and
//! then writes everything that was answered in one vectored write. Other tasks (a held pull, a
//! rebalance notification) only append to the outbox and wake that task.
//!
//! What one peer can make this process hold is bounded: with much unsent, its requests are not
//! served and [`Connection::room`] does not let answers be made; with too many handlers running,
//! none are started; and a peer that takes nothing of what waits for it is left.

mod driver;
mod outbox;
mod room;

use std::{
    collections::HashMap,
    future::Future,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
pub(crate) use driver::drive;
use outbox::Outbox;
pub use room::{Holding, Room};
use thiserror::Error;
use tokio::{
    net::TcpStream,
    sync::{Notify, Semaphore, oneshot, watch},
};

use crate::{
    code::{RequestCode, ResponseCode},
    frame::{Encoding, Frame, Head, Ticket},
    header::{Encode, FieldError, NoFields},
    limits,
};

/// What a process does with the requests that reach it over its connections.
pub trait Service: Send + Sync + 'static {
    /// What is gathered while the frames of one read are handled, to be done at once at its end.
    type Turn: Default + Send + 'static;

    /// Handles one request. It must not block: what has to wait goes through
    /// [`Connection::spawn`]. A panic answers this request with an error and harms no other.
    fn request(&self, connection: &Arc<Connection>, frame: Frame, turn: &mut Self::Turn);

    /// Called after the last frame of one read.
    fn turn_end(&self, _connection: &Arc<Connection>, _turn: &mut Self::Turn) {}

    /// Called once, after the connection has ended.
    fn closed(&self, _connection: &Arc<Connection>) {}
}

/// A peer that serves nothing: every request is answered as unknown.
impl Service for () {
    type Turn = ();

    fn request(&self, connection: &Arc<Connection>, frame: Frame, (): &mut ()) {
        connection.unsupported(frame.ticket());
    }
}

/// Bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Closed after this long without a byte in or out.
    pub idle: Duration,
    /// With this many bytes unsent, the peer's requests wait until it has taken some of them.
    pub outbox_pause_bytes: usize,
    /// Closed when more bytes than this wait for a peer that does not read.
    pub outbox_max_bytes: usize,
    /// Closed when the peer takes less than 64 KiB of what waits for it in this time.
    pub stall: Duration,
    /// How requests to the peer are written. Replies use the encoding of their request.
    pub encoding: Encoding,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(120),
            outbox_pause_bytes: 4 * 1024 * 1024,
            outbox_max_bytes: 64 * 1024 * 1024,
            stall: Duration::from_secs(15),
            encoding: Encoding::Json,
        }
    }
}

/// The body of a reply or request.
#[derive(Debug, Default)]
pub enum Body {
    /// Nothing.
    #[default]
    Empty,
    /// One piece.
    Bytes(Bytes),
    /// Several pieces, sent from where they are.
    Slices(Vec<Bytes>),
}

/// Why a request to a peer has no reply.
#[derive(Clone, Debug, Error)]
pub enum CallError {
    /// No connection could be made.
    #[error("cannot connect to {address}: {reason}")]
    Connect {
        /// Whom.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The connection ended before the reply.
    #[error("the connection to {address} ended before it answered")]
    Closed {
        /// Whom.
        address: String,
    },
    /// No reply in time.
    #[error("{address} did not answer within {timeout_ms} ms")]
    Timeout {
        /// Whom.
        address: String,
        /// How long was waited, in milliseconds.
        timeout_ms: u128,
    },
    /// The frame would exceed [`limits::FRAME_MAX_BYTES`].
    #[error("a request of {size} bytes exceeds the frame limit of {max} bytes", max = limits::FRAME_MAX_BYTES)]
    TooLarge {
        /// Size of its body in bytes.
        size: usize,
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Open,
    /// Nothing more is read; what is being handled is still answered.
    Draining,
    Closed,
}

/// A live socket. Share it by `Arc`; it ends when the peer leaves, on [`Connection::close`], or
/// when the server drains.
#[derive(Debug)]
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    config: Bounds,
    outbox: Mutex<Outbox>,
    /// Bytes in the outbox, to look at without its lock.
    backlog: AtomicUsize,
    /// Set, with the outbox locked, when nothing more will be written.
    ended: AtomicBool,
    wake: Notify,
    /// Set while the connection's own task runs handlers: it looks at the outbox right after.
    in_turn: AtomicBool,
    state: watch::Sender<State>,
    calls: Mutex<HashMap<i32, oneshot::Sender<Frame>>>,
    next_opaque: AtomicI32,
    /// Handlers that run in tasks of their own.
    working: AtomicUsize,
    /// Those among them that hold a request back.
    holding: AtomicUsize,
    /// Those that make an answer now.
    answering: Semaphore,
    /// The peer has taken something while somebody waited for room.
    taken: Notify,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Connection {
    pub(crate) fn new(stream: &TcpStream, config: Bounds) -> io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer: stream.peer_addr()?,
            local: stream.local_addr()?,
            config,
            outbox: Mutex::default(),
            backlog: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
            wake: Notify::new(),
            in_turn: AtomicBool::new(false),
            state: watch::Sender::new(State::Open),
            calls: Mutex::default(),
            next_opaque: AtomicI32::new(1),
            working: AtomicUsize::new(0),
            holding: AtomicUsize::new(0),
            answering: Semaphore::new(room::ANSWERING_MAX),
            taken: Notify::new(),
        }))
    }

    /// Unique in this process.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side's address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Answers a request. Does nothing when the request was one-way or the connection has ended.
    #[expect(clippy::too_many_arguments, reason = "the parts of a reply, different at every call")]
    pub fn reply(
        &self,
        ticket: Ticket,
        code: ResponseCode,
        remark: Option<&str>,
        header: &(impl Encode + ?Sized),
        body: Body,
    ) {
        if !ticket.oneway {
            self.send(&Head::reply(ticket, code, remark), header, body);
        }
    }

    /// Answers a request with an error and no header.
    pub fn reject(&self, ticket: Ticket, code: ResponseCode, remark: &str) {
        self.reply(ticket, code, Some(remark), &NoFields, Body::Empty);
    }

    /// Answers a request whose code is unknown here, as RocketMQ does.
    pub fn unsupported(&self, ticket: Ticket) {
        tracing::warn!(peer = %self.peer, code = ticket.code, "request code is not supported");
        let remark = format!(" request type {} not supported", ticket.code);
        self.reject(ticket, ResponseCode::REQUEST_CODE_NOT_SUPPORTED, &remark);
    }

    /// Answers a request whose header lacks something.
    pub fn bad_header(&self, ticket: Ticket, error: &FieldError) {
        tracing::debug!(peer = %self.peer, code = ticket.code, %error, "request refused");
        self.reject(ticket, ResponseCode::SYSTEM_ERROR, &error.to_string());
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a late reply is then ignored.
    ///
    /// # Errors
    ///
    /// When the connection ends or `timeout` passes first. An error reply is not an error here.
    pub async fn request(
        &self,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
        body: Bytes,
        timeout: Duration,
    ) -> Result<Frame, CallError> {
        self.check_size(&body)?;
        let opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.calls).insert(opaque, sender);
        let _forget = Forget { connection: self, opaque };
        if self.is_closed() {
            return Err(self.closed_error());
        }
        let head = Head::request(code.as_i32(), opaque, self.config.encoding, false);
        self.send(&head, header, Body::Bytes(body));
        match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(frame)) => Ok(frame),
            Ok(Err(_)) => Err(self.closed_error()),
            Err(_) => Err(CallError::Timeout {
                address: self.peer.to_string(),
                timeout_ms: timeout.as_millis(),
            }),
        }
    }

    /// Sends a request that wants no reply.
    ///
    /// # Errors
    ///
    /// When the connection has ended. Success does not mean that the peer received it.
    pub fn oneway(
        &self,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
        body: Bytes,
    ) -> Result<(), CallError> {
        self.check_size(&body)?;
        if self.is_closed() {
            return Err(self.closed_error());
        }
        let opaque = self.next_opaque.fetch_add(1, Ordering::Relaxed);
        let head = Head::request(code.as_i32(), opaque, self.config.encoding, true);
        self.send(&head, header, Body::Bytes(body));
        Ok(())
    }

    /// Runs a handler that has to wait. If it panics, the request is answered with an error.
    pub fn spawn(
        self: &Arc<Self>,
        ticket: Ticket,
        handler: impl Future<Output = ()> + Send + 'static,
    ) {
        let working = room::Working::new(Arc::clone(self), ticket);
        tokio::spawn(async move {
            handler.await;
            working.done();
        });
    }

    /// Resolves when the connection drains or has ended: a held request should be answered now.
    pub async fn closing(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.state.subscribe().wait_for(|state| *state != State::Open).await;
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        *self.state.borrow() == State::Closed
    }

    /// Ends the connection at once; `reason` is logged.
    pub fn close(&self, reason: &str) {
        let was = self.state.send_replace(State::Closed);
        self.end();
        if was != State::Closed {
            tracing::debug!(peer = %self.peer, reason, "connection closes");
        }
        self.wake.notify_one();
        self.taken.notify_one();
    }

    /// Reads nothing more, answers what is being handled, then ends.
    pub(crate) fn drain(&self) {
        self.state.send_if_modified(|state| {
            let open = *state == State::Open;
            if open {
                *state = State::Draining;
            }
            open
        });
        self.wake.notify_one();
    }

    /// Lets go of what nobody will read.
    fn end(&self) {
        let mut outbox = lock(&self.outbox);
        self.ended.store(true, Ordering::Relaxed);
        *outbox = Outbox::default();
    }

    fn check_size(&self, body: &Bytes) -> Result<(), CallError> {
        // The header is bounded by the names and properties that callers check; 1 MiB covers it.
        if body.len() > limits::FRAME_MAX_BYTES - (1 << 20) {
            return Err(CallError::TooLarge { size: body.len() });
        }
        Ok(())
    }

    fn closed_error(&self) -> CallError {
        CallError::Closed { address: self.peer.to_string() }
    }

    fn panicked(&self, ticket: Ticket) {
        tracing::error!(peer = %self.peer, code = ticket.code, "the handler of a request panicked");
        let remark = "the request failed by an internal error; see the log of this process";
        self.reject(ticket, ResponseCode::SYSTEM_ERROR, remark);
    }

    fn send(&self, head: &Head<'_>, header: &(impl Encode + ?Sized), body: Body) {
        let mut outbox = lock(&self.outbox);
        if self.ended.load(Ordering::Relaxed) {
            return;
        }
        outbox.push(head, header, body);
        self.backlog.store(outbox.bytes, Ordering::Release);
        let overflow = outbox.bytes > self.config.outbox_max_bytes;
        drop(outbox);
        if overflow {
            tracing::warn!(
                peer = %self.peer,
                limit_bytes = self.config.outbox_max_bytes,
                "the peer does not read its replies; connection closes"
            );
            self.close("the peer does not read");
        } else if !self.in_turn.load(Ordering::Acquire) {
            self.wake.notify_one();
        }
    }
}

/// Forgets a call whose caller is gone.
struct Forget<'a> {
    connection: &'a Connection,
    opaque: i32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.connection.calls).remove(&self.opaque);
    }
}

/// A panic while one of these locks is held leaves a valid value: every update is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
