//! A master's port, as strangers and slaves see it. How a slave follows is in `tests/wire`.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::clock::Clock;
use storage::Store;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::{Frames, send};
use crate::ha::{
    AckKind, Ended, Ha, HaStatus, Settings, SlaveState,
    frame::{self, Body, Frame, Hello, Refuse, Welcome},
    plan::Code,
};

struct Rig {
    ha: Ha,
    runtime: Runtime,
    store: Arc<Store>,
    _dir: TempDir,
}

impl Rig {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = storage::Config::new(dir.path());
        config.segment_size_bytes = 1 << 20;
        let store = Store::open(config, Clock::system()).unwrap();
        let settings = Settings {
            cluster: "c".to_owned(),
            broker_name: "b".to_owned(),
            broker_id: 0,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            in_sync_replicas: 2,
            ack: AckKind::Received,
            store_path: dir.path().to_owned(),
            master: Box::new(|| None),
        };
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let ha = {
            let _runtime = runtime.enter();
            Ha::start_master(Arc::clone(&store), settings).unwrap()
        };
        Self { ha, runtime, store, _dir: dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.ha.local_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// A slave that has nothing.
    fn hello(&self) -> Hello {
        Hello {
            version: frame::VERSION,
            cluster: "c".to_owned(),
            broker_name: "b".to_owned(),
            broker_id: 1,
            ..Hello::default()
        }
    }

    fn greet(&self, hello: Hello) -> (Frame, Frames) {
        let mut stream = self.connect();
        send(&mut stream, &[Frame::greeting(Body::Hello(hello))]).unwrap();
        let mut frames = Frames::new(stream).unwrap();
        (frames.greeting().unwrap(), frames)
    }

    fn refusal(&self, hello: Hello) -> Refuse {
        match self.greet(hello).0.body {
            Some(Body::Refuse(refuse)) => refuse,
            other => panic!("{other:?}"),
        }
    }

    fn slaves(&self) -> Vec<(u64, SlaveState)> {
        match self.ha.status() {
            HaStatus::Master { slaves, .. } => {
                slaves.iter().map(|slave| (slave.broker_id, slave.state)).collect()
            }
            HaStatus::Slave(_) => panic!("a master is none"),
        }
    }
}

/// Reads until the other side has closed.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset is an end too; a timeout is none.
    !matches!(stream.read_to_end(&mut rest), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn bytes_that_are_no_frame_end_the_connection() {
    let rig = Rig::start();
    let heartbeat = {
        let mut bytes = Vec::new();
        Frame::greeting(Body::Heartbeat(1)).encode_into(&mut bytes);
        bytes
    };
    let too_long = [0xFF; 16].to_vec();
    for bytes in [b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n".to_vec(), too_long, heartbeat] {
        let mut stream = rig.connect();
        stream.write_all(&bytes).unwrap();
        assert!(is_closed(&mut stream), "{bytes:?} is listened to");
    }
    assert!(rig.slaves().is_empty());
}

#[test]
fn strangers_are_told_why_they_are_refused() {
    let rig = Rig::start();
    let refused = rig.refusal(Hello { cluster: "other".to_owned(), ..rig.hello() });
    assert_eq!(refused.code, Code::Name as u32);
    assert!(refused.reason.contains("other"), "{}", refused.reason);
    let refused = rig.refusal(Hello { store_id: 77, ..rig.hello() });
    assert_eq!(refused.code, Code::Store as u32);
    // What a stranger has seen means nothing.
    let stranger = Hello { store_id: 77, seen_epoch: 99, ..rig.hello() };
    assert_eq!(rig.refusal(stranger).code, Code::Store as u32);
    assert_eq!(*rig.ha.ended().borrow(), None);
    assert!(rig.slaves().is_empty());
}

#[test]
fn a_slave_that_has_seen_a_newer_master_ends_the_old_one() {
    let rig = Rig::start();
    let store_id = rig.store.identity().unwrap().store_id;
    let refused = rig.refusal(Hello { store_id, seen_epoch: 99, ..rig.hello() });
    assert_eq!(refused.code, Code::NewerEpoch as u32);
    // It is said after the refusal has been sent.
    let mut ended = rig.ha.ended();
    let ended = rig.runtime.block_on(ended.wait_for(Option::is_some)).unwrap().clone();
    assert_eq!(ended, Some(Ended::Demoted { seen_epoch: 99 }));
}

#[test]
fn the_newest_session_of_a_slave_is_the_one() {
    let rig = Rig::start();
    let (first, mut first_frames) = rig.greet(rig.hello());
    assert!(matches!(first.body, Some(Body::Welcome(Welcome { snapshot: true, .. }))), "{first:?}");
    assert_eq!(rig.slaves(), [(1, SlaveState::Preparing)]);
    assert_eq!(rig.ha.connected_in_sync(), 0);
    let (second, _second_frames) = rig.greet(rig.hello());
    assert_eq!(second.epoch, first.epoch);
    assert!(is_closed(&mut first_frames.stream), "two sessions of one slave");
    assert_eq!(rig.slaves().len(), 1);
    let (_third, _third_frames) = rig.greet(Hello { broker_id: 2, ..rig.hello() });
    assert_eq!(rig.slaves().len(), 2);
}

#[test]
fn a_snapshot_goes_on_when_its_slave_returns() {
    let rig = Rig::start();
    // One session, from its beginning to its end.
    let begun = |hello: Hello| {
        let (welcome, mut frames) = rig.greet(hello);
        assert!(matches!(welcome.body, Some(Body::Welcome(Welcome { snapshot: true, .. }))));
        frames.welcomed().unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        let begin = loop {
            match frames.next().unwrap().and_then(|frame| frame.body) {
                None => assert!(Instant::now() < deadline, "no snapshot begins"),
                Some(Body::SnapshotBegin(begin)) => break begin,
                other => panic!("{other:?}"),
            }
        };
        drop(frames);
        while !rig.slaves().is_empty() {
            assert!(Instant::now() < deadline, "the session does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        begin.id
    };
    let first = begun(rig.hello());
    assert_eq!(begun(Hello { snapshot_id: first, ..rig.hello() }), first);
    assert_ne!(
        begun(Hello { snapshot_id: first + 1_000, ..rig.hello() }),
        first,
        "not what it has"
    );
}

#[test]
fn stopping_ends_all_sessions_and_frees_the_port() {
    let rig = Rig::start();
    let (_, mut frames) = rig.greet(rig.hello());
    let mut silent = rig.connect();
    rig.ha.stop();
    rig.ha.stop();
    assert!(is_closed(&mut frames.stream) && is_closed(&mut silent));
    assert!(TcpStream::connect(rig.ha.local_addr().unwrap()).is_err());
    assert!(rig.slaves().is_empty());
}

#[test]
fn a_change_without_slaves_is_not_replicated() {
    let rig = Rig::start();
    let waited = rig.runtime.block_on(rig.ha.wait_sequence(1, Duration::from_millis(1)));
    let error = waited.unwrap_err();
    assert_eq!(error.to_string(), "change 1 is not on 1 slaves within 1 ms");
}
