//! Registration with name servers: all of them, at the start, before a new topic is answered, after
//! a name server's restart, and the end of it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    body::{DataVersion, register::RegisterBody},
    code::{RequestCode, ResponseCode},
    connection::{Body, Connection, Service},
    frame::{Encoding, Frame},
    header::NoFields,
    request::{
        register::{Broker as BrokerHeader, VersionChanged},
        topic::CreateTopic,
    },
    server::{ServeOptions, Server},
};
use tokio::task::JoinHandle;

use crate::common::{Client, TOPIC, config, message};

/// A name server that remembers what it is told.
#[derive(Default)]
struct Names {
    seen: Mutex<Vec<(RequestCode, Vec<String>)>>,
    headers: Mutex<Vec<String>>,
    versions: Mutex<Vec<DataVersion>>,
    refuse: AtomicBool,
    /// Says that it knows every version that it is asked for.
    up_to_date: AtomicBool,
    /// How long an answer takes, milliseconds.
    delay_ms: AtomicU64,
}

impl Service for Names {
    type Turn = ();

    fn request(&self, connection: &Arc<Connection>, frame: Frame, (): &mut ()) {
        if frame.code == RequestCode::GetBrokerMemberGroup.as_i32() {
            return connection.unsupported(frame.ticket()); // as one of version 4
        }
        let header = BrokerHeader::decode(&frame.fields).unwrap();
        assert_eq!(
            (header.broker_name, header.cluster_name, header.broker_id),
            ("broker-a", "DefaultCluster", 0)
        );
        self.headers.lock().unwrap().push(header.broker_addr.to_owned());
        let body = RegisterBody::decode(&frame.body, frame.version).unwrap();
        let wrapper = body.topic_config_serialize_wrapper;
        let topics = wrapper.topic_config_table.into_keys().collect();
        let code = RequestCode::from_i32(frame.code).unwrap();
        self.seen.lock().unwrap().push((code, topics));
        if code == RequestCode::RegisterBroker {
            self.versions.lock().unwrap().push(wrapper.data_version);
        }
        if code == RequestCode::QueryDataVersion && self.up_to_date.load(Relaxed) {
            let same = VersionChanged { changed: false };
            connection.reply(frame.ticket(), ResponseCode::SUCCESS, None, &same, Body::Empty);
        } else if self.refuse.swap(false, Relaxed) {
            connection.reject(frame.ticket(), ResponseCode::SYSTEM_ERROR, "who are you?");
        } else {
            let (delay, ticket) = (self.delay_ms.load(Relaxed), frame.ticket());
            let answering = Arc::clone(connection);
            connection.spawn(ticket, async move {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                answering.reply(ticket, ResponseCode::SUCCESS, None, &NoFields, Body::Empty);
            });
        }
    }
}

impl Names {
    fn registered(&self) -> Vec<Vec<String>> {
        let seen = self.seen.lock().unwrap();
        let all = seen.iter().filter(|(code, _)| *code == RequestCode::RegisterBroker);
        all.map(|(_, topics)| topics.clone()).collect()
    }

    fn asked(&self) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|(code, _)| *code == RequestCode::QueryDataVersion).count()
    }

    fn knows(&self, topic: &str) -> bool {
        self.registered().iter().flatten().any(|name| name == topic)
    }
}

async fn name_server() -> (Arc<Names>, String, JoinHandle<()>) {
    let names = Arc::new(Names::default());
    let server = Server::bind("127.0.0.1:0", ServeOptions::default()).await.unwrap();
    let address = server.local_addr().to_string();
    let task = tokio::spawn(server.run(Arc::clone(&names), std::future::pending()));
    (names, address, task)
}

#[tokio::test]
async fn every_name_server_knows_the_broker_and_its_topics_in_time() {
    let (first, first_address, _) = name_server().await;
    let (second, second_address, _) = name_server().await;
    // Nobody listens here: it must not hold up the others.
    let dead = "127.0.0.1:1".to_owned();
    let node = crate::common::node_with(|config| {
        config.namesrv = vec![first_address, dead, second_address];
    })
    .await;
    for names in [&first, &second] {
        assert_eq!(names.registered().len(), 1, "registered before the start returned");
        assert!(names.knows("TBW102") && names.knows("DefaultCluster") && names.knows("broker-a"));
        assert_eq!(*names.headers.lock().unwrap(), [node.address()]);
    }
    let client = node.client().await;
    assert_eq!(client.send(&message(TOPIC, 0), "x").await.code, 0);
    let create = CreateTopic {
        topic: "Created",
        default_topic: None,
        read_queues: 1,
        write_queues: 1,
        perm: 6,
        filter_type: None,
        sys_flag: 0,
        order: false,
        attributes: None,
    };
    client.ok(RequestCode::UpdateAndCreateTopic, &create, Bytes::new()).await;
    for names in [&first, &second] {
        assert_eq!(
            names.registered()[1..],
            [vec![TOPIC.to_owned()], vec!["Created".to_owned()]],
            "only what is new"
        );
    }
    node.broker.shutdown().await;
    for names in [&first, &second] {
        assert_eq!(names.seen.lock().unwrap().last().unwrap().0, RequestCode::UnregisterBroker);
    }
}

#[tokio::test]
async fn a_name_server_that_lost_its_table_gets_everything() {
    let (names, address, _) = name_server().await;
    let node = crate::common::node_with(|config| config.namesrv = vec![address]).await;
    let client = node.client().await;
    names.refuse.store(true, Relaxed);
    assert_eq!(client.send(&message(TOPIC, 0), "x").await.code, 0);
    let rounds = names.registered();
    assert_eq!(rounds[1], [TOPIC], "refused");
    assert!(
        rounds[2].len() > 5 && rounds[2].contains(&TOPIC.to_owned()),
        "then everything: {rounds:?}"
    );
    node.broker.shutdown().await;
}

#[tokio::test]
async fn registration_is_repeated() {
    let (names, address, _) = name_server().await;
    let node = crate::common::node_with(|config| {
        config.namesrv = vec![address];
        config.register_interval_ms = 50;
    })
    .await;
    let deadline = Instant::now() + crate::common::PATIENCE;
    while names.registered().len() < 4 {
        assert!(Instant::now() < deadline, "{:?}", names.registered());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_name_server_that_knows_the_version_is_only_asked() {
    let (names, address, _) = name_server().await;
    names.up_to_date.store(true, Relaxed);
    let node = crate::common::node_with(|config| {
        config.namesrv = vec![address];
        config.register_interval_ms = 20;
    })
    .await;
    let client = node.client().await;
    assert_eq!(client.send(&message(TOPIC, 0), "x").await.code, 0);
    let (deadline, before) = (Instant::now() + crate::common::PATIENCE, names.asked());
    while names.asked() < before + 4 {
        assert!(Instant::now() < deadline, "{} questions", names.asked());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(names.registered().len(), 2, "at the start, and the topic: {:?}", names.seen);
    names.up_to_date.store(false, Relaxed);
    while names.registered().len() < 3 {
        assert!(Instant::now() < deadline, "nothing more is registered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(names.registered()[2].len() > 5, "everything");
    node.broker.shutdown().await;
}

#[tokio::test]
async fn very_many_topics_are_registered_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let broker = broker::Broker::start(config(&dir)).await.unwrap();
    let client = Client::connect(&broker.local_addr().to_string(), Encoding::Json).await;
    let mut creating = tokio::task::JoinSet::new();
    for n in 0..2_500 {
        let connection = Arc::clone(&client.connection);
        creating.spawn(async move {
            let topic = format!("Topic-{n}");
            let header = message(&topic, 0);
            let body = Bytes::from_static(b"x");
            let code = RequestCode::SendMessageV2;
            connection.request(code, &header, body, crate::common::PATIENCE).await.unwrap().code
        });
    }
    while let Some(code) = creating.join_next().await {
        assert_eq!(code.unwrap(), 0);
    }
    broker.shutdown().await;
    let (names, address, _) = name_server().await;
    let mut config = config(&dir);
    config.namesrv = vec![address];
    let broker = broker::Broker::start(config).await.unwrap();
    let sizes: Vec<_> = names.registered().iter().map(Vec::len).collect();
    assert_eq!((sizes.len(), sizes[0]), (2, 2_000), "{sizes:?}");
    assert!((0..2_500).all(|n| names.knows(&format!("Topic-{n}"))));
    let versions = names.versions.lock().unwrap().clone();
    assert!(versions[0] != versions[1], "name servers pass over a version that they know");
    broker.shutdown().await;
}

#[tokio::test]
async fn topics_created_at_once_share_registrations() {
    let (names, address, _) = name_server().await;
    let node = crate::common::node_with(|config| config.namesrv = vec![address]).await;
    // While one round is under way the next one gathers.
    names.delay_ms.store(50, Relaxed);
    let client = node.client().await;
    let mut sends = tokio::task::JoinSet::new();
    for n in 0..50 {
        let connection = Arc::clone(&client.connection);
        sends.spawn(async move {
            let topic = format!("Topic-{n}");
            let header = message(&topic, 0);
            let body = Bytes::from_static(b"x");
            connection
                .request(RequestCode::SendMessageV2, &header, body, crate::common::PATIENCE)
                .await
                .unwrap()
        });
    }
    while let Some(sent) = sends.join_next().await {
        assert_eq!(sent.unwrap().code, 0);
    }
    for n in 0..50 {
        assert!(names.knows(&format!("Topic-{n}")));
    }
    assert!(names.registered().len() < 25, "{} registrations", names.registered().len());
    node.broker.shutdown().await;
}

#[tokio::test]
async fn a_broker_starts_and_serves_without_its_name_servers() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir);
    config.namesrv = vec!["127.0.0.1:1".to_owned()];
    let started = Instant::now();
    let broker = broker::Broker::start(config).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    broker.shutdown().await;
}
