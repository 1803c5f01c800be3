//! Deliveries that were not acknowledged and wait to be handed out again.

use std::{collections::VecDeque, sync::Mutex, time::Duration};

use tokio::{
    sync::{Notify, mpsc},
    time::{Instant, sleep_until},
};

use super::group::Batch;
use crate::registry::lock;

/// A waiting room of one consumer. All wait equally long, so they leave in the order they came.
/// It is bounded by the windows' limits: what is in here is in a window too.
#[derive(Debug)]
pub(super) struct Parked {
    delay: Duration,
    waiting: Mutex<VecDeque<(Instant, Batch)>>,
    arrived: Notify,
}

impl Parked {
    pub(super) fn new(delay: Duration) -> Self {
        Self { delay, waiting: Mutex::default(), arrived: Notify::new() }
    }

    pub(super) fn park(&self, batch: Batch) {
        lock(&self.waiting).push_back((Instant::now() + self.delay, batch));
        self.arrived.notify_one();
    }

    /// Hands everything out again when its time has come; never returns while somebody listens.
    pub(super) async fn release(&self, ready: mpsc::Sender<Batch>) {
        loop {
            let due = lock(&self.waiting).front().map(|(due, _)| *due);
            match due {
                None => self.arrived.notified().await,
                Some(due) => {
                    sleep_until(due).await;
                    let first = lock(&self.waiting).pop_front();
                    if let Some((_, batch)) = first
                        && ready.send(batch).await.is_err()
                    {
                        return;
                    }
                }
            }
        }
    }
}
