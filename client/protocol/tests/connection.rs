//! Two processes' worth of connection: requests, pushes, panics, damage, slow peers and graceful
//! ends over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    channel::{Channels, DialOptions},
    code::{RequestCode, ResponseCode},
    connection::{Body, CallError, Connection},
    frame::Frame,
    header::NoFields,
    server::{ServeOptions, Server, Service},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, oneshot},
    task::JoinHandle,
};

const WAIT: Duration = Duration::from_secs(10);

/// Echoes bodies; other codes misbehave on purpose.
#[derive(Default)]
struct Echo {
    turns: AtomicUsize,
    closed: AtomicUsize,
    release: Arc<Notify>,
}

impl Service for Echo {
    type Turn = usize;

    fn request(&self, connection: &Arc<Connection>, frame: Frame, turn: &mut usize) {
        *turn += 1;
        let ticket = frame.ticket();
        match RequestCode::from_i32(frame.code) {
            Some(RequestCode::SendMessage) => {
                let body = Body::Slices(vec![frame.body.clone(), frame.body]);
                connection.reply(ticket, ResponseCode::SUCCESS, None, &[("a", "b")], body);
            }
            Some(RequestCode::PullMessage) => {
                let (to, release) = (Arc::clone(connection), Arc::clone(&self.release));
                connection.spawn(ticket, async move {
                    release.notified().await;
                    to.reply(ticket, ResponseCode::SUCCESS, None, &NoFields, Body::Empty);
                });
            }
            Some(RequestCode::SearchOffsetByTimestamp) => {
                let (to, body) = (Arc::clone(connection), frame.body);
                connection.spawn(ticket, async move {
                    let _room = to.room().await;
                    to.reply(ticket, ResponseCode::SUCCESS, None, &NoFields, Body::Bytes(body));
                });
            }
            Some(RequestCode::QueryMessage) => panic!("injected"),
            Some(RequestCode::ViewMessageById) => {
                connection.spawn(ticket, async { panic!("injected") })
            }
            Some(RequestCode::HeartBeat) => {
                connection
                    .oneway(RequestCode::NotifyConsumerIdsChanged, &NoFields, frame.body)
                    .unwrap();
            }
            _ => connection.unsupported(ticket),
        }
    }

    fn turn_end(&self, _: &Arc<Connection>, turn: &mut usize) {
        self.turns.fetch_add(std::mem::take(turn), Ordering::Relaxed);
    }

    fn closed(&self, _: &Arc<Connection>) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

struct Running {
    address: SocketAddr,
    echo: Arc<Echo>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

async fn start() -> Running {
    let server = Server::bind("127.0.0.1:0", ServeOptions::default()).await.unwrap();
    let address = server.local_addr();
    let echo = Arc::new(Echo::default());
    let (stop, stopped) = oneshot::channel();
    let service = Arc::clone(&echo);
    let task = tokio::spawn(server.run(service, async {
        let _ = stopped.await;
    }));
    Running { address, echo, stop, task }
}

async fn call(connection: &Connection, code: RequestCode, body: &'static [u8]) -> Frame {
    connection.request(code, &NoFields, Bytes::from_static(body), WAIT).await.unwrap()
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_few_turns() {
    let running = start().await;
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let connection = channels.get(&running.address.to_string()).await.unwrap();
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let connection = Arc::clone(&connection);
        set.spawn(async move { call(&connection, RequestCode::SendMessage, b"hello").await });
    }
    while let Some(frame) = set.join_next().await {
        let frame = frame.unwrap();
        assert_eq!(&frame.body[..], b"hellohello");
        assert_eq!(frame.fields.get("a"), Some("b"));
    }
    assert_eq!(running.echo.turns.load(Ordering::Relaxed), 100);
}

#[tokio::test]
async fn large_bodies_arrive_whole() {
    let running = start().await;
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let body = Bytes::from(vec![7_u8; 4 << 20]);
    let address = running.address.to_string();
    let frame =
        channels.request(&address, RequestCode::SendMessage, &NoFields, body, WAIT).await.unwrap();
    assert_eq!(frame.body.len(), 8 << 20);
    assert!(frame.body.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn a_panic_fails_its_request_only() {
    let running = start().await;
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let connection = channels.get(&running.address.to_string()).await.unwrap();
    for code in [RequestCode::QueryMessage, RequestCode::ViewMessageById] {
        let frame = call(&connection, code, b"").await;
        assert_eq!(frame.response_code(), ResponseCode::SYSTEM_ERROR);
        assert!(frame.remark.unwrap().contains("internal error"));
        let frame = call(&connection, RequestCode::SendMessage, b"x").await;
        assert_eq!(frame.response_code(), ResponseCode::SUCCESS);
    }
}

#[tokio::test]
async fn unknown_codes_are_answered_and_the_connection_goes_on() {
    let running = start().await;
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let connection = channels.get(&running.address.to_string()).await.unwrap();
    let frame = call(&connection, RequestCode::GetBrokerConfig, b"").await;
    assert_eq!(frame.response_code(), ResponseCode::REQUEST_CODE_NOT_SUPPORTED);
    assert_eq!(frame.remark.as_deref(), Some(" request type 26 not supported"));
    assert_eq!(&call(&connection, RequestCode::SendMessage, b"x").await.body[..], b"xx");
}

/// Remembers what the server pushed.
#[derive(Default)]
struct Pushed(Mutex<Vec<(i32, Bytes)>>, Notify);

impl Service for Pushed {
    type Turn = ();

    fn request(&self, _: &Arc<Connection>, frame: Frame, (): &mut ()) {
        assert!(frame.is_oneway());
        self.0.lock().unwrap().push((frame.code, frame.body));
        self.1.notify_one();
    }
}

#[tokio::test]
async fn requests_from_the_server_reach_the_client() {
    let running = start().await;
    let pushed = Arc::new(Pushed::default());
    let channels = Channels::new(Arc::clone(&pushed), DialOptions::default());
    let connection = channels.get(&running.address.to_string()).await.unwrap();
    connection.oneway(RequestCode::HeartBeat, &NoFields, Bytes::from_static(b"group")).unwrap();
    tokio::time::timeout(WAIT, pushed.1.notified()).await.unwrap();
    assert_eq!(*pushed.0.lock().unwrap(), [(40, Bytes::from_static(b"group"))]);
}

#[tokio::test]
async fn hostile_bytes_end_their_connection_and_no_other() {
    let running = start().await;
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let good = channels.get(&running.address.to_string()).await.unwrap();
    let hostile: [&[u8]; 4] = [
        &[0x40, 0, 0, 0, 0, 0, 0, 0],
        &[0, 0, 0, 8, 0, 0, 0, 4, b'{', b'n', b'o', b'!'],
        &[0, 0, 0, 1],
        b"GET / HTTP/1.1\r\n\r\n",
    ];
    for bytes in hostile {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        // The peer sees the end of the stream, or a reset where bytes were left unread.
        let _ = tokio::time::timeout(WAIT, stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "no reply to {bytes:?}");
    }
    assert_eq!(&call(&good, RequestCode::SendMessage, b"x").await.body[..], b"xx");
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_off() {
    let mut config = ServeOptions::default();
    config.connection.outbox_max_bytes = 12 << 20;
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let address = server.local_addr();
    let echo = Arc::new(Echo::default());
    tokio::spawn(server.run(Arc::clone(&echo), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = bytes::BytesMut::new();
    let head = protocol::frame::Head::request(10, 1, protocol::frame::Encoding::Json, false);
    protocol::frame::write(&mut request, &head, &NoFields, 3 << 20);
    request.resize(request.len() + (3 << 20), 1);
    let flood = async {
        while stream.write_all(&request).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    // Either it is cut off, or it is no longer read: both bound what the server holds.
    let cut_off = tokio::time::timeout(Duration::from_secs(3), flood).await.is_ok();
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let other = channels.get(&address.to_string()).await.unwrap();
    assert_eq!(&call(&other, RequestCode::SendMessage, b"x").await.body[..], b"xx");
    assert!(cut_off || echo.turns.load(Ordering::Relaxed) < 16, "the flood was served on and on");
}

/// A server whose connections have these bounds.
async fn bounded(adjust: impl FnOnce(&mut ServeOptions)) -> (Arc<Echo>, SocketAddr) {
    let mut config = ServeOptions::default();
    adjust(&mut config);
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let (echo, address) = (Arc::new(Echo::default()), server.local_addr());
    tokio::spawn(server.run(Arc::clone(&echo), std::future::pending()));
    (echo, address)
}

/// `count` requests in a row, as one piece of bytes.
fn requests(code: RequestCode, count: i32, body: usize) -> bytes::BytesMut {
    let mut bytes = bytes::BytesMut::new();
    for opaque in 1..=count {
        let encoding = protocol::frame::Encoding::Json;
        let head = protocol::frame::Head::request(code.as_i32(), opaque, encoding, false);
        protocol::frame::write(&mut bytes, &head, &NoFields, body);
        bytes.resize(bytes.len() + body, b'x');
    }
    bytes
}

/// Reads whole frames.
async fn replies(stream: &mut TcpStream, count: usize) -> Vec<Frame> {
    let (mut frames, mut buffer) = (Vec::new(), bytes::BytesMut::new());
    while frames.len() < count {
        match protocol::frame::split(&mut buffer).unwrap() {
            Some(bytes) => frames.push(Frame::decode(bytes).unwrap()),
            None => {
                let read = tokio::time::timeout(WAIT, stream.read_buf(&mut buffer)).await;
                assert!(read.unwrap().unwrap() > 0, "the server left after {}", frames.len());
            }
        }
    }
    frames
}

#[tokio::test]
async fn requests_wait_until_their_peer_takes_the_answers() {
    let (echo, address) = bounded(|config| {
        config.connection.outbox_pause_bytes = 1 << 20;
        // Whatever is made beyond that would end the connection.
        config.connection.outbox_max_bytes = 3 << 20;
    })
    .await;
    for code in [RequestCode::SendMessage, RequestCode::SearchOffsetByTimestamp] {
        let before = echo.turns.load(Ordering::Relaxed);
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        // 60 MB of answers: more than any socket buffer.
        let flood = requests(code, 100, 300_000);
        let writer = tokio::spawn(async move {
            writing.write_all(&flood).await.unwrap();
            writing
        });
        let channels = Channels::new(Arc::new(()), DialOptions::default());
        let other = channels.get(&address.to_string()).await.unwrap();
        for _ in 0..100 {
            assert_eq!(&call(&other, RequestCode::SendMessage, b"x").await.body[..], b"xx");
        }
        let mut all = Vec::new();
        if code == RequestCode::SendMessage {
            let served = echo.turns.load(Ordering::Relaxed) - before - 100;
            assert!(served < 90, "{served} requests were served");
        }
        let mut buffer = bytes::BytesMut::new();
        while all.len() < 100 {
            match protocol::frame::split(&mut buffer).unwrap() {
                Some(bytes) => all.push(Frame::decode(bytes).unwrap().opaque),
                None => assert!(reading.read_buf(&mut buffer).await.unwrap() > 0, "{code:?}"),
            }
        }
        all.sort_unstable();
        assert_eq!(all, (1..=100).collect::<Vec<_>>());
        drop(writer.await.unwrap());
    }
}

/// Clients commit their offsets one-way in the moment they leave. On a runtime of one thread nothing
/// is served between two lines without an `await`.
#[tokio::test]
async fn what_a_peer_sent_before_it_left_is_served() {
    for (way, unread, held) in [
        ("it ends its side in order", false, 0),
        ("it leaves an answer unread, which resets the connection", true, 0),
        ("the server notices when it writes another answer", true, 1),
    ] {
        let running = start().await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        let mut before = requests(RequestCode::PullMessage, held, 0);
        before.unsplit(requests(RequestCode::SendMessage, 1, 1));
        stream.write_all(&before).await.unwrap();
        stream.readable().await.unwrap();
        if !unread {
            replies(&mut stream, 1).await;
        }
        let parting = requests(RequestCode::UpdateConsumerOffset, 8, 0);
        assert_eq!(stream.try_write(&parting).unwrap(), parting.len());
        drop(stream);
        running.echo.release.notify_waiters();
        until(|| running.echo.closed.load(Ordering::Relaxed) == 1).await;
        let sent = usize::try_from(held + 1 + 8).unwrap();
        assert_eq!(running.echo.turns.load(Ordering::Relaxed), sent, "{way}");
    }
}

/// Waits until something is so.
async fn until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < WAIT, "it did not come to pass");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_peer_that_takes_nothing_for_a_while_is_left_and_a_slow_one_is_not() {
    let (echo, address) = bounded(|config| {
        config.connection.stall = Duration::from_millis(500);
    })
    .await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        stream.write_all(&requests(RequestCode::SendMessage, 1, 7_000_000)).await.unwrap();
    }
    let started = Instant::now();
    let mut taken = vec![0; 200_000];
    let mut rest = 14_000_000_usize;
    while echo.closed.load(Ordering::Relaxed) == 0 {
        assert!(started.elapsed() < WAIT, "nobody was left");
        tokio::time::sleep(Duration::from_millis(20)).await;
        rest -= slow.read(&mut taken).await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(500));
    while rest > 0 {
        rest = rest.saturating_sub(slow.read(&mut taken).await.unwrap());
    }
    drop(slow);
    let mut left = Vec::new();
    let _end_or_reset = tokio::time::timeout(WAIT, silent.read_to_end(&mut left)).await.unwrap();
    assert!(left.len() < 14_000_000, "it was left in the middle");
}

#[tokio::test]
async fn handlers_of_one_peer_are_bounded() {
    let (echo, address) = bounded(|_| {}).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(&requests(RequestCode::PullMessage, 3_000, 0)).await.unwrap();
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let other = channels.get(&address.to_string()).await.unwrap();
    let most = async {
        let mut before = usize::MAX;
        loop {
            call(&other, RequestCode::SendMessage, b"x").await;
            let started = Arc::strong_count(&echo.release);
            if started == before && started > 1 {
                return started - 1;
            }
            before = started;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    assert_eq!(tokio::time::timeout(WAIT, most).await.unwrap(), 1_024);
    let release = async {
        loop {
            echo.release.notify_waiters();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        all = replies(&mut stream, 3_000) => assert_eq!(all.len(), 3_000),
        () = release => {}
    }
}

#[tokio::test]
async fn a_graceful_end_answers_what_is_being_handled() {
    let running = start().await;
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let connection = channels.get(&running.address.to_string()).await.unwrap();
    let held = {
        let connection = Arc::clone(&connection);
        tokio::spawn(async move { call(&connection, RequestCode::PullMessage, b"").await })
    };
    // The echo behind it proves that the held request has arrived.
    call(&connection, RequestCode::SendMessage, b"x").await;
    running.stop.send(()).unwrap();
    running.echo.release.notify_one();
    assert_eq!(held.await.unwrap().response_code(), ResponseCode::SUCCESS);
    tokio::time::timeout(WAIT, running.task).await.unwrap().unwrap();
    assert_eq!(running.echo.closed.load(Ordering::Relaxed), 1);
    let error = connection
        .request(RequestCode::SendMessage, &NoFields, Bytes::new(), WAIT)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Closed { .. }), "{error}");
}

#[tokio::test]
async fn calls_say_why_they_have_no_reply() {
    let running = start().await;
    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let address = running.address.to_string();
    let short = Duration::from_millis(20);
    let started = Instant::now();
    let error = channels
        .request(&address, RequestCode::PullMessage, &NoFields, Bytes::new(), short)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Timeout { timeout_ms: 20, .. }), "{error}");
    assert!(started.elapsed() < WAIT);
    let error = channels
        .request("127.0.0.1:1", RequestCode::PullMessage, &NoFields, Bytes::new(), WAIT)
        .await
        .unwrap_err();
    assert!(matches!(error, CallError::Connect { .. }), "{error}");
    let error = Server::bind(&address, ServeOptions::default()).await.unwrap_err();
    assert!(error.to_string().contains("another process uses this port"), "{error}");
}

#[tokio::test]
async fn idle_connections_end() {
    let mut config = ServeOptions::default();
    config.connection.idle = Duration::from_millis(80);
    let server = Server::bind("127.0.0.1:0", config).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.run(Arc::new(Echo::default()), std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(WAIT, stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!(read, 0);
}
