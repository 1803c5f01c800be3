//! Consuming with a handler instead of a loop.

use std::{
    fmt::Display,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use tokio::{sync::Mutex, task::JoinSet};

use super::{Consumer, Delivery};
use crate::stored::StoredMessage;

impl Consumer {
    /// Calls `handler` for every message, up to `concurrency` at a time (at least one), until the
    /// consumer is closed through its [`super::Closer`] or with its client. Then it waits for the
    /// handlers that are running, commits and leaves the group.
    ///
    /// `Ok` acknowledges a message. `Err`, or a panic, returns it to the broker as
    /// [`Delivery::retry`] does. Messages of one queue are handled in order only with a
    /// concurrency of 1.
    ///
    /// ```no_run
    /// # async fn example(client: basaltmq::Client) -> Result<(), basaltmq::Error> {
    /// let orders = client.consumer("mail").topic("orders").start().await?;
    /// orders
    ///     .run(|message| async move {
    ///         println!("{:?}", message.body());
    ///         Ok::<(), std::io::Error>(())
    ///     }, 16)
    ///     .await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// May be dropped: handlers are aborted, their messages delivered again.
    pub async fn run<H, F, E>(self, handler: H, concurrency: usize)
    where
        H: Fn(StoredMessage) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), E>> + Send,
        E: Display,
    {
        let closer = self.closer();
        let group: Arc<str> = self.group().into();
        let (handler, consumer) = (Arc::new(handler), Arc::new(Mutex::new(self)));
        let mut workers = JoinSet::new();
        for _ in 0..concurrency.max(1) {
            let (handler, consumer) = (Arc::clone(&handler), Arc::clone(&consumer));
            let group = Arc::clone(&group);
            workers.spawn(async move {
                loop {
                    // One worker waits in the stream, the others for their turn.
                    let next = consumer.lock().await.next().await;
                    let Some(delivery) = next else { return };
                    handle(&group, &*handler, delivery).await;
                }
            });
        }
        while workers.join_next().await.is_some() {}
        closer.close().await;
    }
}

async fn handle<H, F, E>(group: &str, handler: &H, delivery: Delivery)
where
    H: Fn(StoredMessage) -> F,
    F: Future<Output = Result<(), E>>,
    E: Display,
{
    let message = delivery.message().clone();
    let mut work = pin!(async { handler(message).await });
    let outcome = poll_fn(|context| {
        // The handler is not polled again after a panic, so no broken state is seen.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(()))) => Poll::Ready(Ok(())),
            Ok(Poll::Ready(Err(error))) => Poll::Ready(Err(error.to_string())),
            Err(_) => Poll::Ready(Err("the handler panicked".to_owned())),
        }
    })
    .await;
    match outcome {
        Ok(()) => delivery.ack(),
        Err(reason) => {
            let id = delivery.id();
            tracing::warn!(group, id, reason, "a message could not be handled");
            if let Err(error) = delivery.retry().await {
                tracing::warn!(group, id, %error, "a message stays with this consumer for a retry");
            }
        }
    }
}
