//! An async client for BasaltMQ and for Apache RocketMQ (remoting protocol, 4.x and 5.x).
//!
//! ```
//! # use std::error::Error;
//! use basaltmq::{Client, Message, Position};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn Error>> {
//! # let data = tempfile::tempdir()?;
//! # let name_server = namesrv::NameServer::start(namesrv::Config {
//! #     bind_address: [127, 0, 0, 1].into(),
//! #     listen_port: 0,
//! #     kv_config_path: data.path().join("kv.json"),
//! #     ..Default::default()
//! # })
//! # .await?;
//! # let address = name_server.local_addr().to_string();
//! # let broker = broker::Broker::start(broker::Config {
//! #     name: "broker-a".into(),
//! #     listen: ([127, 0, 0, 1], 0).into(),
//! #     vip_listen: false,
//! #     namesrv: vec![address.clone()],
//! #     store: data.path().join("store"),
//! #     segment_size_bytes: 32 << 20,
//! #     disk_force_clean_percent: 100,
//! #     disk_refuse_percent: 100,
//! #     ..Default::default()
//! # })
//! # .await?;
//! let client = Client::connect(address).await?;
//!
//! let producer = client.producer("shop").build().await?;
//! let order = Message::new("orders", r#"{"id":4711}"#).tag("created").key("4711");
//! let receipt = producer.send(order).await?;
//! println!("stored as {} at {}#{}", receipt.id(), receipt.queue(), receipt.queue_offset());
//!
//! let mut orders = client
//!     .consumer("mail")
//!     .topic("orders")
//!     .tags("created || paid")
//!     .start_at(Position::First)
//!     .start()
//!     .await?;
//! if let Some(delivery) = orders.next().await {
//!     assert_eq!(&delivery.body()[..], br#"{"id":4711}"#);
//!     delivery.ack();
//! }
//!
//! let found = client.find_by_key("orders", "4711", Default::default()).await?;
//! assert_eq!(found.messages[0].id(), receipt.id());
//! client.close().await;
//! # broker.shutdown().await;
//! # name_server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! | for | see |
//! |---|---|
//! | connecting | [`Client`], [`ClientBuilder`] |
//! | sending | [`Message`], [`Producer`], [`SendReceipt`] |
//! | consuming in a group | [`Consumer`], [`Delivery`], [`Consumer::run`] |
//! | reading without a group | [`Reader`] |
//! | finding one message | [`Client::find_by_key`], [`Client::message_by_id`], [`Client::message_at`] |
//! | topics, groups, brokers | [`Admin`] |
//!
//! Invariants: a message is acknowledged to a group only after every earlier message of its queue
//! is (at least once); nothing waits without a bound; dropping any future or handle leaves the
//! rest usable. This crate knows nothing of stores and servers.

mod admin;
mod callbacks;
mod client;
mod consumer;
mod core;
mod error;
mod heartbeat;
mod message;
mod options;
mod producer;
mod pull;
mod query;
mod queue;
mod reader;
mod registry;
mod route;
mod selector;
mod stored;

pub use protocol::{clock::Clock, code::ResponseCode, names::NameError, property::PairError};

pub use self::{
    admin::{
        Admin, BrokerInfo, GroupInfo, GroupLag, GroupMember, GroupSpec, MasterInfo, QueueBounds,
        QueueLag, ReplicationInfo, RoleChange, SlaveInfo, TopicInfo, TopicOnBroker, TopicSpec,
    },
    client::Client,
    consumer::{Closer, Consumer, ConsumerBuilder, Delivery, Position},
    error::{Error, Kind as ErrorKind},
    message::{Fault as MessageFault, Message},
    options::ClientBuilder,
    producer::{Producer, ProducerBuilder, SendReceipt, SendStatus},
    query::{BrokerAnswer, IndexProgress, KeyMatches, SearchWindow},
    queue::Queue,
    reader::{Page, Reader},
    stored::StoredMessage,
};
