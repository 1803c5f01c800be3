//! Consuming messages as a member of a group.

mod assigned;
mod builder;
mod delivery;
mod drive;
mod fill;
mod group;
mod offsets;
mod parked;
pub(crate) mod position;
mod rebalance;
mod run;
pub(crate) mod subscription;
mod window;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::sync::mpsc;

use self::group::{Batch, Group};
pub use self::{builder::ConsumerBuilder, delivery::Delivery, position::Position};
use crate::{
    queue::Queue,
    registry::{Member, lock},
};

/// A member of a consumer group: a stream of [`Delivery`].
///
/// Queues of the group's topics are divided among its members, again and again as members come
/// and go. The stream ends when the consumer or its client is closed.
///
/// ```no_run
/// # async fn example(client: basaltmq::Client) -> Result<(), basaltmq::Error> {
/// let mut orders = client.consumer("mail").topic("orders").tags("created || paid").start().await?;
/// while let Some(delivery) = orders.next().await {
///     println!("{:?}", delivery.body());
///     delivery.ack();
/// }
/// # Ok(())
/// # }
/// ```
///
/// Dropping a consumer stops it in the background: offsets are committed and the group is left as
/// with [`Consumer::close`], but nobody waits for that.
#[derive(Debug)]
#[must_use = "a consumer that is dropped stops"]
pub struct Consumer {
    group: Arc<Group>,
    ready: mpsc::Receiver<Batch>,
    current: Option<Batch>,
}

/// Stops a [`Consumer`] from elsewhere; made by [`Consumer::closer`].
#[derive(Clone, Debug)]
pub struct Closer {
    member: Arc<Member>,
}

impl Consumer {
    fn new(group: Arc<Group>, ready: mpsc::Receiver<Batch>) -> Self {
        Self { group, ready, current: None }
    }

    /// The consumer group.
    pub fn group(&self) -> &str {
        self.group.name()
    }

    /// The next message; `None` once the consumer is closed.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; no message is lost.
    pub async fn next(&mut self) -> Option<Delivery> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The queues that this consumer owns now, sorted.
    pub fn queues(&self) -> Vec<Queue> {
        lock(&self.group.assigned).keys().cloned().collect()
    }

    /// How many messages were received and are not acknowledged yet, handed out or not.
    pub fn unacknowledged(&self) -> usize {
        self.group.owned().iter().map(|assigned| assigned.waiting()).sum()
    }

    /// A handle that stops this consumer while it is in use elsewhere.
    pub fn closer(&self) -> Closer {
        Closer { member: Arc::clone(&self.group.member) }
    }

    /// Stops receiving, waits for deliveries that are still held (see
    /// [`crate::ClientBuilder::close_grace`]), commits offsets and leaves the group, so that other
    /// members take over at once.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the consumer stops in the background.
    pub async fn close(self) {
        let closer = self.closer();
        drop(self);
        closer.close().await;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        loop {
            if !self.group.member.is_running() {
                return Poll::Ready(None);
            }
            if let Some(delivery) = self.current.as_mut().and_then(|batch| batch.next(&self.group))
            {
                return Poll::Ready(Some(delivery));
            }
            match self.ready.poll_recv(context) {
                Poll::Ready(Some(batch)) => self.current = Some(batch),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    self.current = None;
                    return Poll::Pending;
                }
            }
        }
    }
}

impl Stream for Consumer {
    type Item = Delivery;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        self.poll(context)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.group.member.stop();
    }
}

impl Closer {
    /// As [`Consumer::close`]; the consumer's stream ends.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; the consumer stops in the background.
    pub async fn close(&self) {
        self.member.stop();
        self.member.wait_stopped().await;
    }
}
