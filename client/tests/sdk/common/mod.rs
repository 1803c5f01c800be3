//! A name server and brokers inside the test's process, on free ports, with scratch stores.

pub(crate) mod fake;

use std::{future::Future, net::SocketAddr, time::Duration};

use basaltmq::{Client, ClientBuilder, Consumer, Delivery, Error};
use broker::Broker;
use namesrv::NameServer;
use tempfile::TempDir;

/// No test waits longer than this for what must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Cluster {
    name_server: Option<NameServer>,
    brokers: Vec<Option<Broker>>,
    address: SocketAddr,
    scratch: TempDir,
}

impl Cluster {
    /// A name server and brokers named `broker-0`, `broker-1`, …
    pub(crate) async fn start(brokers: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let config = namesrv::Config {
            bind_address: [127, 0, 0, 1].into(),
            listen_port: 0,
            kv_config_path: scratch.path().join("kv.json"),
            ..namesrv::Config::default()
        };
        let name_server = NameServer::start(config).await.unwrap();
        let address = name_server.local_addr();
        let mut cluster =
            Self { name_server: Some(name_server), brokers: Vec::new(), address, scratch };
        for index in 0..brokers {
            cluster.brokers.push(None);
            cluster.start_broker(index, 0).await;
        }
        cluster
    }

    async fn start_broker(&mut self, index: usize, port: u16) {
        let config = broker::Config {
            name: format!("broker-{index}"),
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            vip_listen: false,
            namesrv: vec![self.address.to_string()],
            store: self.scratch.path().join(format!("store-{index}")),
            segment_size_bytes: 32 << 20,
            disk_force_clean_percent: 100,
            disk_refuse_percent: 100,
            ..broker::Config::default()
        };
        self.brokers[index] = Some(Broker::start(config).await.unwrap());
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn builder(&self) -> ClientBuilder {
        Client::builder(self.address())
    }

    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }

    pub(crate) fn broker_address(&self, index: usize) -> SocketAddr {
        self.brokers[index].as_ref().unwrap().local_addr()
    }

    pub(crate) async fn stop_broker(&mut self, index: usize) {
        self.brokers[index].take().unwrap().shutdown().await;
    }

    /// Stops a broker and starts it again on the same store and port.
    pub(crate) async fn restart_broker(&mut self, index: usize) {
        let port = self.broker_address(index).port();
        self.stop_broker(index).await;
        self.start_broker(index, port).await;
    }

    pub(crate) async fn stop(mut self) {
        for broker in self.brokers.iter_mut().filter_map(Option::take) {
            broker.shutdown().await;
        }
        self.name_server.take().unwrap().shutdown().await;
    }
}

/// The outcome of something that must happen soon.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not happen within {PATIENCE:?}"))
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// The next `count` deliveries, not acknowledged.
pub(crate) async fn take(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    soon(&format!("the delivery of {count} messages"), async {
        let mut deliveries = Vec::new();
        while deliveries.len() < count {
            deliveries.push(consumer.next().await.expect("the consumer runs"));
        }
        deliveries
    })
    .await
}

/// The bodies of the next `count` messages, sorted and acknowledged.
pub(crate) async fn take_bodies(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut bodies: Vec<String> = take(consumer, count)
        .await
        .into_iter()
        .map(|delivery| {
            let body = String::from_utf8(delivery.body().to_vec()).unwrap();
            delivery.ack();
            body
        })
        .collect();
    bodies.sort();
    bodies
}

/// `count` bodies as [`take_bodies`] returns them.
pub(crate) fn bodies(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("{index:05}")).collect()
}

/// Creates a topic with so many queues per broker and waits until clients can see it.
pub(crate) async fn create_topic(client: &Client, topic: &str, queues: i32) {
    client.admin().create_topic(&basaltmq::TopicSpec::new(topic).queues(queues)).await.unwrap();
    until("the topic's route", async || match client.queues(topic).await {
        Ok(queues) => !queues.is_empty(),
        Err(Error::TopicNotFound { .. }) => false,
        Err(error) => panic!("{error}"),
    })
    .await;
}

/// Sends these bodies, one message each.
pub(crate) async fn send_all(client: &Client, topic: &str, bodies: &[String]) {
    let producer = client.producer("test-producer").build().await.unwrap();
    for body in bodies {
        producer.send(basaltmq::Message::new(topic, body.clone())).await.unwrap();
    }
}
