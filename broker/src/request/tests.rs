//! A handler that panics harms its own request only.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    channel::{Channels, DialOptions},
    code::RequestCode,
    connection::{Connection, Service},
    frame::Frame,
    header::NoFields,
    request::send::Send,
    server::{ServeOptions, Server},
};

use super::{Requests, send::Turn};
use crate::{Broker, Config};

/// The real service, with a request that panics and one that panics in a task of its own.
struct Bomb(Requests);

impl Service for Bomb {
    type Turn = Turn;

    fn request(&self, connection: &Arc<Connection>, frame: Frame, turn: &mut Turn) {
        match RequestCode::from_i32(frame.code) {
            Some(RequestCode::GetKvConfig) => panic!("injected"),
            Some(RequestCode::PutKvConfig) => {
                connection.spawn(frame.ticket(), async { panic!("injected") });
            }
            _ => self.0.request(connection, frame, turn),
        }
    }

    fn turn_end(&self, connection: &Arc<Connection>, turn: &mut Turn) {
        self.0.turn_end(connection, turn);
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.0.closed(connection);
    }
}

fn message() -> Send<'static> {
    Send {
        producer_group: "PG",
        topic: "T",
        default_topic: Some("TBW102"),
        default_topic_queues: 4,
        queue_id: 0,
        sys_flag: 0,
        born_timestamp: 0,
        flag: 0,
        properties: None,
        reconsume_times: 0,
        unit_mode: false,
        max_reconsume_times: None,
        batch: false,
        broker_name: None,
    }
}

#[tokio::test]
async fn a_panic_is_answered_with_code_1_and_harms_no_other_request() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        store: dir.path().join("store"),
        segment_size_bytes: 8 << 20,
        ..Config::default()
    };
    let broker = Broker::start(config).await.unwrap();
    let server = Server::bind("127.0.0.1:0", ServeOptions::default()).await.unwrap();
    let address = server.local_addr().to_string();
    let bomb = Arc::new(Bomb(Requests(broker.state())));
    let serving = tokio::spawn(server.run(bomb, std::future::pending()));

    let channels = Channels::new(Arc::new(()), DialOptions::default());
    let connection = channels.get(&address).await.unwrap();
    let call = |code, body: &'static str| {
        let connection = Arc::clone(&connection);
        async move {
            let (body, patience) = (Bytes::from(body), Duration::from_secs(10));
            let reply = match code {
                RequestCode::SendMessageV2 => {
                    connection.request(code, &message(), body, patience).await
                }
                _ => connection.request(code, &NoFields, body, patience).await,
            };
            reply.unwrap().code
        }
    };
    assert_eq!(call(RequestCode::SendMessageV2, "first").await, 0);
    // All of these travel together, so that they are served in one turn.
    let codes = tokio::join!(
        call(RequestCode::SendMessageV2, "before"),
        call(RequestCode::GetKvConfig, ""),
        call(RequestCode::SendMessageV2, "between"),
        call(RequestCode::PutKvConfig, ""),
        call(RequestCode::SendMessageV2, "after"),
    );
    assert_eq!(codes, (0, 1, 0, 1, 0));
    assert_eq!(call(RequestCode::SendMessageV2, "last").await, 0);
    let queue = broker.state().store.topic("T").unwrap().queue(0).unwrap();
    assert_eq!(queue.max().unwrap().0, 5);

    channels.close_all().await;
    serving.abort();
    broker.shutdown().await;
}
