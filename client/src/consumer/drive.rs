//! The one task that decides for a consumer: joins its group, takes and gives up queues, commits,
//! and leaves.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    code::RequestCode,
    request::heartbeat::{ConsumerGroup, Unregister},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{
    assigned::Assigned,
    fill::fill,
    group::{Batch, Group},
    rebalance,
};
use crate::{core::unreadable, error::Error, queue::Queue, registry::lock, route::Route};

/// A topic without a route keeps its queues this long: its broker may only be restarting, and a
/// queue that is given up without its broker loses the offsets that are not committed.
const KEEP_WITHOUT_ROUTE: Duration = Duration::from_secs(120);
/// How soon a division that could not be completed is tried again: first, and at most.
const SOON: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(5));

/// Runs a consumer until its member is told to stop. `joined` hears when the first division is
/// done.
pub(super) async fn drive(
    group: Arc<Group>,
    ready: mpsc::Sender<Batch>,
    joined: oneshot::Sender<Result<(), Error>>,
) {
    let release = tokio::spawn({
        let (group, ready) = (Arc::clone(&group), ready.clone());
        async move { group.parked().release(ready).await }
    });
    match group.join().await {
        Ok(()) => {
            let settled = group.divide(&ready).await;
            // Nobody waits any more: the start was given up, and so is the consumer.
            if joined.send(Ok(())).is_err() {
                group.member.stop();
            }
            serve(&group, &ready, settled).await;
        }
        Err(error) => {
            group.member.stop();
            let _ = joined.send(Err(error));
        }
    }
    release.abort();
    drop(ready);
    group.leave().await;
    group.member.stopped();
}

async fn serve(group: &Arc<Group>, ready: &mpsc::Sender<Batch>, mut settled: bool) {
    let mut commit = interval(group.settings.commit_interval);
    commit.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut soon = SOON.0;
    loop {
        let wait = if settled { group.settings.rebalance_interval } else { soon };
        let due = sleep(wait);
        tokio::pin!(due);
        soon = if settled { SOON.0 } else { SOON.1.min(soon * 2) };
        loop {
            tokio::select! {
                () = group.member.stopping() => return,
                () = group.member.nudge.notified() => {
                    soon = SOON.0;
                    break;
                }
                () = &mut due => break,
                _ = commit.tick() => group.commit(&group.owned()).await,
            }
        }
        group.take_over_resets(ready).await;
        settled = group.divide(ready).await;
    }
}

impl Group {
    /// Makes this client known to the brokers as a member.
    async fn join(&self) -> Result<(), Error> {
        for subscription in &self.member.subscriptions {
            match self.core.route(subscription.topic()).await {
                // It may be created later, by a producer or by the heartbeat that follows.
                Ok(_) | Err(Error::TopicNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.core.heartbeat().await;
        Ok(())
    }

    /// Takes this consumer's share of every topic, and gives up what belongs to others now. False
    /// when something could not be found out and should be tried again soon.
    async fn divide(self: &Arc<Self>, ready: &mpsc::Sender<Batch>) -> bool {
        let mut settled = true;
        for subscription in &self.member.subscriptions {
            let topic = subscription.topic();
            match self.share_of(topic).await {
                Ok(share) => {
                    lock(&self.missing).remove(topic);
                    settled &= self.take(topic, share, ready).await;
                }
                Err(Error::TopicNotFound { .. }) => {
                    settled = false;
                    let since =
                        *lock(&self.missing).entry(Arc::clone(topic)).or_insert_with(Instant::now);
                    if since.elapsed() > KEEP_WITHOUT_ROUTE {
                        self.take(topic, Vec::new(), ready).await;
                    }
                }
                Err(error) => {
                    settled = false;
                    tracing::debug!(group = self.name(), %topic, %error, "division postponed");
                }
            }
        }
        settled
    }

    async fn share_of(&self, topic: &str) -> Result<Vec<Queue>, Error> {
        let route = self.core.route(topic).await?;
        let mut queues = route.readable().to_vec();
        if self.is_broadcasting() {
            return Ok(queues);
        }
        let (address, mut members) = self.members(topic, &route).await?;
        rebalance::normalise(&mut queues, &mut members);
        match rebalance::share(&queues, &members, &self.core.id) {
            Some(share) => Ok(share.to_vec()),
            None => {
                // The broker forgot us, most likely by a restart.
                self.core.heartbeat().await;
                let reason = format!("this client, {}, is not among {members:?}", self.core.id);
                Err(unreadable(&address, RequestCode::GetConsumerListByGroup)(&reason))
            }
        }
    }

    /// Every broker of a topic hears of every member, so any of them can be asked.
    async fn members(&self, topic: &str, route: &Route) -> Result<(Arc<str>, Vec<String>), Error> {
        const CODE: RequestCode = RequestCode::GetConsumerListByGroup;
        let header = ConsumerGroup { consumer_group: self.name() };
        let mut last =
            Error::BrokerNotFound { broker: "(any)".to_owned(), topic: topic.to_owned() };
        for address in route.addresses() {
            let outcome = self.core.call(address, CODE, &header, Bytes::new()).await;
            match outcome.and_then(|frame| crate::admin::consumer_ids(&frame, address)) {
                Ok(members) => return Ok((Arc::clone(address), members)),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn take(
        self: &Arc<Self>,
        topic: &str,
        share: Vec<Queue>,
        ready: &mpsc::Sender<Batch>,
    ) -> bool {
        let share: BTreeSet<Queue> = share.into_iter().collect();
        let lost: Vec<_> = self
            .owned()
            .into_iter()
            .filter(|own| own.queue().topic() == topic && !share.contains(own.queue()))
            .collect();
        self.give_up(&lost).await;
        let mut settled = true;
        for queue in share {
            if lock(&self.assigned).contains_key(&queue) {
                continue;
            }
            match self.start_of(&queue).await {
                Ok(offset) => self.own(queue, offset, ready),
                Err(error) => {
                    settled = false;
                    tracing::debug!(group = self.name(), %queue, %error, "taking over postponed");
                }
            }
        }
        settled
    }

    fn own(self: &Arc<Self>, queue: Queue, offset: i64, ready: &mpsc::Sender<Batch>) {
        tracing::debug!(group = self.name(), %queue, offset, "queue taken");
        let assigned = Arc::new(Assigned::new(queue.clone(), offset));
        self.start(&assigned, ready);
        lock(&self.assigned).insert(queue, assigned);
    }

    fn start(self: &Arc<Self>, assigned: &Arc<Assigned>, ready: &mpsc::Sender<Batch>) {
        let task = fill(Arc::clone(self), Arc::clone(assigned), ready.clone());
        assigned.pulled_by(tokio::spawn(task).abort_handle());
    }

    /// Stops these queues and commits how far they got.
    async fn give_up(&self, queues: &[Arc<Assigned>]) {
        for assigned in queues {
            tracing::debug!(group = self.name(), queue = %assigned.queue(), "queue given up");
            assigned.revoke();
        }
        self.commit(queues).await;
        let mut owned = lock(&self.assigned);
        for assigned in queues {
            owned.remove(assigned.queue());
        }
    }

    /// Goes on at the offsets that an operator set.
    async fn take_over_resets(self: &Arc<Self>, ready: &mpsc::Sender<Batch>) {
        for (queue, offset) in self.member.take_resets() {
            let Some(assigned) = lock(&self.assigned).get(&queue).cloned() else { continue };
            tracing::info!(group = self.name(), %queue, offset, "offset reset by an operator");
            assigned.reset(offset);
            // The pull that is held at the old offset would only be in the way.
            self.start(&assigned, ready);
            self.commit(&[assigned]).await;
        }
    }

    /// Waits for what the application holds, commits, and tells the brokers.
    async fn leave(&self) {
        let owned = self.owned();
        for assigned in &owned {
            assigned.revoke();
        }
        self.hands_empty(self.core.settings.close_grace).await;
        self.give_up(&owned).await;
        self.core.registry.remove_consumer(self.name());
        let header = Unregister {
            client_id: &self.core.id,
            producer_group: None,
            consumer_group: Some(self.name()),
        };
        self.core.tell_brokers(RequestCode::UnregisterClient, &header).await;
    }
}
