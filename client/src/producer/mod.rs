//! Sending messages.

mod envelope;
mod faults;
mod receipt;
mod send;

use std::{
    sync::{Arc, atomic::AtomicUsize},
    time::Duration,
};

use protocol::names;

pub use self::receipt::{SendReceipt, SendStatus};
use self::{envelope::Envelope, faults::Faults, send::Choice};
use crate::{client::Client, core::Core, error::Error, message::Message, queue::Queue};

/// Sends messages of one group. Cheap to clone; clones share everything.
///
/// `send` takes `&self`: await many sends at once to have many in flight.
///
/// ```no_run
/// # async fn example(client: basaltmq::Client) -> Result<(), basaltmq::Error> {
/// use basaltmq::Message;
///
/// let producer = client.producer("shop").build().await?;
/// let receipt = producer.send(Message::new("orders", "created").key("4711")).await?;
/// println!("{} lies at offset {}", receipt.id(), receipt.queue_offset());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    group: String,
    settings: Settings,
    /// Whose turn it is among the queues of a topic.
    turn: AtomicUsize,
    faults: Faults,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    send_timeout: Duration,
    retries: u32,
    compress_above_bytes: usize,
    new_topic_queues: i32,
}

/// Settings of a [`Producer`] under construction; made by [`Client::producer`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until `build`"]
pub struct ProducerBuilder {
    client: Client,
    group: String,
    settings: Settings,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client, group: impl Into<String>) -> Self {
        Self {
            client,
            group: group.into(),
            settings: Settings {
                send_timeout: Duration::from_secs(3),
                retries: 2,
                compress_above_bytes: 4096,
                new_topic_queues: 4,
            },
        }
    }

    /// How long a send may take, its retries included. The default is 3 s.
    pub fn send_timeout(mut self, timeout: Duration) -> Self {
        self.settings.send_timeout = timeout;
        self
    }

    /// How often a failed send is tried again, on another broker if there is one. The default is
    /// 2. A send whose answer got lost may so be stored twice, with equal [`SendReceipt::id`].
    pub fn retries(mut self, retries: u32) -> Self {
        self.settings.retries = retries;
        self
    }

    /// Bodies longer than this are compressed with zlib, if that makes them smaller. The default
    /// is 4 KiB; `usize::MAX` never compresses. Batches are never compressed.
    pub fn compress_above_bytes(mut self, bytes: usize) -> Self {
        self.settings.compress_above_bytes = bytes;
        self
    }

    /// How many queues per broker a topic gets that the first send creates, on brokers that allow
    /// that. The default is 4.
    pub fn new_topic_queues(mut self, queues: i32) -> Self {
        self.settings.new_topic_queues = queues;
        self
    }

    /// Makes the producer.
    ///
    /// # Errors
    ///
    /// [`Error::Name`] for an impossible group name, [`Error::Setting`] for an impossible
    /// setting, [`Error::Closed`] after [`Client::close`].
    pub async fn build(self) -> Result<Producer, Error> {
        names::check_group(&self.group)?;
        let invalid = |setting, value: String| {
            Err(Error::Setting { setting, value, rule: "it must be greater than zero" })
        };
        if self.settings.send_timeout.is_zero() {
            return invalid("send_timeout", "0".to_owned());
        }
        if self.settings.new_topic_queues < 1 {
            return invalid("new_topic_queues", self.settings.new_topic_queues.to_string());
        }
        let core = Arc::clone(self.client.open_core()?);
        core.registry.add_producer(&self.group);
        core.registry.beat.notify_one();
        Ok(Producer {
            shared: Arc::new(Shared {
                turn: AtomicUsize::new(send::first_turn(&core)),
                core,
                group: self.group,
                settings: self.settings,
                faults: Faults::default(),
            }),
        })
    }
}

impl Producer {
    /// The producer group.
    pub fn group(&self) -> &str {
        &self.shared.group
    }

    /// Sends a message and waits until a broker has stored it.
    ///
    /// Queues take turns, and brokers that failed a moment ago are stepped over; a message with a
    /// sharding key goes to the key's queue.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the message is then stored or not.
    ///
    /// # Errors
    ///
    /// [`Error::Message`] and [`Error::Name`] before anything is sent; otherwise the failure of
    /// the last try, see [`Error::is_retryable`].
    pub async fn send(&self, message: Message) -> Result<SendReceipt, Error> {
        let envelope = self.shared.wrap(message).await?;
        let choice = envelope.sharding().map_or(Choice::Turns, |key| Choice::Key(key.to_owned()));
        self.shared.deliver(&envelope, &choice).await.map(SendReceipt::only)
    }

    /// Sends a message to the queue at the index that `select` returns, taken modulo the number
    /// of queues. The queues are the topic's writable ones, sorted.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the message is then stored or not.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`]. Retries go to the same queue, as another one would break the order
    /// that a selector is for.
    pub async fn send_selected(
        &self,
        message: Message,
        select: impl FnOnce(&[Queue]) -> usize,
    ) -> Result<SendReceipt, Error> {
        let envelope = self.shared.wrap(message).await?;
        let route = self.shared.core.route_for_sending(envelope.topic()).await?;
        let queues = route.writable();
        let index = select(queues).checked_rem(queues.len()).unwrap_or_default();
        let queue = queues
            .get(index)
            .cloned()
            .ok_or_else(|| Error::NotWritable { topic: envelope.topic().to_owned() })?;
        self.shared.deliver(&envelope, &Choice::Fixed(queue)).await.map(SendReceipt::only)
    }

    /// Sends messages of one topic in one request; they get consecutive offsets of one queue.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the batch is then stored as a whole or not at all.
    ///
    /// # Errors
    ///
    /// As [`Producer::send`]; also [`Error::Message`] when the messages differ in topic, sharding
    /// key or [`Message::wait_for_store`], or exceed 4 MiB together.
    pub async fn send_batch(
        &self,
        messages: impl IntoIterator<Item = Message>,
    ) -> Result<Vec<SendReceipt>, Error> {
        let envelope = self.shared.wrap_batch(&messages.into_iter().collect::<Vec<_>>())?;
        let choice = envelope.sharding().map_or(Choice::Turns, |key| Choice::Key(key.to_owned()));
        self.shared.deliver(&envelope, &choice).await
    }

    /// Sends a message without waiting for an answer: fast, and without any guarantee.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the message is then sent or not.
    ///
    /// # Errors
    ///
    /// When the message is not valid, no route is known or no connection can be made. Success
    /// does not mean that a broker has stored it.
    pub async fn send_oneway(&self, message: Message) -> Result<(), Error> {
        let envelope = self.shared.wrap(message).await?;
        self.shared.fire(&envelope).await
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.core.registry.remove_producer(&self.group);
    }
}
