//! The settings of a consumer.

use std::{path::PathBuf, sync::Arc, time::Duration};

use protocol::names;
use tokio::sync::{mpsc, oneshot};

use super::{
    Consumer, Position,
    drive::drive,
    group::{Group, Settings},
    offsets::{Local, Offsets},
    subscription::{ALL, Subscription},
    window::Limits,
};
use crate::{client::Client, error::Error, registry::Member};

/// Batches that wait between the queues' tasks and the application. What waits is bounded by the
/// queues' limits; this bounds how unevenly queues may take turns.
const READY_BATCHES: usize = 16;

/// Settings of a [`Consumer`] under construction; made by [`Client::consumer`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until `start`"]
pub struct ConsumerBuilder {
    client: Client,
    group: String,
    topics: Vec<(String, String)>,
    broadcasting: bool,
    offset_file: Option<PathBuf>,
    position: Position,
    settings: Settings,
}

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, group: impl Into<String>) -> Self {
        Self {
            client,
            group: group.into(),
            topics: Vec::new(),
            broadcasting: false,
            offset_file: None,
            position: Position::default(),
            settings: Settings {
                limits: Limits { messages: 1000, bytes: 100 << 20, span: 2000 },
                pull_batch: 32,
                pull_hold: Duration::from_secs(15),
                max_attempts: None,
                redelivery_delay: Duration::from_secs(1),
                commit_interval: Duration::from_secs(5),
                rebalance_interval: Duration::from_secs(20),
            },
        }
    }

    /// Adds a topic. All members of a group must want the same topics and tags: brokers keep one
    /// subscription per group.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push((topic.into(), ALL.to_owned()));
        self
    }

    /// Restricts the topic added last to messages with one of these tags, separated by `||`;
    /// `*` is every message.
    pub fn tags(mut self, expression: impl Into<String>) -> Self {
        if let Some((_, tags)) = self.topics.last_mut() {
            *tags = expression.into();
        }
        self
    }

    /// Every member gets every message. Offsets are then this client's own: without
    /// [`ConsumerBuilder::offset_file`] each start is at [`ConsumerBuilder::start_at`].
    pub fn broadcasting(mut self) -> Self {
        self.broadcasting = true;
        self
    }

    /// Keeps the offsets of a broadcasting consumer in this file. One consumer, one file.
    pub fn offset_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.offset_file = Some(path.into());
        self
    }

    /// Where to start in queues of which the group has no offset. The default is the end.
    pub fn start_at(mut self, position: Position) -> Self {
        self.position = position;
        self
    }

    /// How many messages of one queue may wait for acknowledgement. The default is 1000.
    pub fn max_unacknowledged(mut self, messages: usize) -> Self {
        self.settings.limits.messages = messages;
        self
    }

    /// How many bytes of one queue may wait for acknowledgement. The default is 100 MiB.
    pub fn max_unacknowledged_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.bytes = bytes;
        self
    }

    /// How many messages one pull asks for, 1 to 1024; brokers answer with 32 or fewer unless
    /// they are configured otherwise. The default is 32.
    pub fn pull_batch(mut self, messages: i32) -> Self {
        self.settings.pull_batch = messages;
        self
    }

    /// After how many failures a message goes to the dead-letter topic of the group. The default
    /// is what the broker has for the group, 16 unless changed.
    pub fn max_attempts(mut self, attempts: i32) -> Self {
        self.settings.max_attempts = Some(attempts);
        self
    }

    /// How long a dropped [`super::Delivery`] waits before it is handed out again. The default is
    /// 1 s.
    pub fn redelivery_delay(mut self, delay: Duration) -> Self {
        self.settings.redelivery_delay = delay;
        self
    }

    /// How often offsets are committed. The default is 5 s; pulls and closing commit too.
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.settings.commit_interval = interval;
        self
    }

    /// How often the division of queues is looked at even though no broker announced a change.
    /// The default is 20 s.
    pub fn rebalance_interval(mut self, interval: Duration) -> Self {
        self.settings.rebalance_interval = interval;
        self
    }

    /// Joins the group. When this returns, the consumer has taken its share of every topic that
    /// exists. A topic that does not exist yet is waited for.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the group is left again.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] and [`Error::Setting`] for what can never work, [`Error::GroupInUse`] when
    /// this client consumes for the group already, [`Error::NameServerUnreachable`] when no route
    /// can be asked for, [`Error::OffsetFile`] when the file is damaged.
    pub async fn start(self) -> Result<Consumer, Error> {
        self.check()?;
        let core = Arc::clone(self.client.open_core()?);
        let version = core.now_ms();
        let mut subscriptions: Vec<_> = self
            .topics
            .iter()
            .map(|(topic, expression)| Subscription::new(topic, expression, version))
            .collect();
        if !self.broadcasting {
            // Messages that failed come back through this topic.
            subscriptions.push(Subscription::new(&names::retry_topic(&self.group), ALL, version));
        }
        let offsets = if self.broadcasting {
            Offsets::Local(Local::open(self.offset_file)?)
        } else {
            Offsets::Broker
        };
        let member =
            Arc::new(Member::new(self.group, self.broadcasting, self.position, subscriptions));
        core.registry.add_consumer(&member)?;
        let group = Arc::new(Group::new(core, member, self.settings, offsets));
        let (sender, ready) = mpsc::channel(READY_BATCHES);
        let (joined, wait_joined) = oneshot::channel();
        tokio::spawn(drive(Arc::clone(&group), sender, joined));
        let consumer = Consumer::new(group, ready);
        wait_joined.await.unwrap_or(Err(Error::Closed))?;
        Ok(consumer)
    }

    fn check(&self) -> Result<(), Error> {
        names::check_group(&self.group)?;
        for (topic, _) in &self.topics {
            names::check_topic(topic)?;
        }
        let settings = &self.settings;
        let wrong = [
            ("topic", self.topics.is_empty(), "none", "a consumer needs at least one"),
            (
                "offset_file",
                self.offset_file.is_some() && !self.broadcasting,
                "given",
                "only broadcasting consumers keep their own offsets",
            ),
            (
                "max_unacknowledged",
                settings.limits.messages == 0 || settings.limits.bytes == 0,
                "0",
                "it must be greater than zero",
            ),
            (
                "pull_batch",
                !(1..=1024).contains(&settings.pull_batch),
                "out of bounds",
                "it must be 1 to 1024",
            ),
            (
                "commit_interval or rebalance_interval",
                settings.commit_interval.is_zero() || settings.rebalance_interval.is_zero(),
                "0",
                "it must be longer than zero",
            ),
        ];
        match wrong.into_iter().find(|(_, wrong, _, _)| *wrong) {
            Some((setting, _, value, rule)) => {
                Err(Error::Setting { setting, value: value.to_owned(), rule })
            }
            None => Ok(()),
        }
    }
}
