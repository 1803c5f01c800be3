//! The groups that a client's producers and consumers are members of: what heartbeats tell
//! brokers, and whom the brokers' notifications are for.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{Notify, watch};

use crate::{
    consumer::{position::Position, subscription::Subscription},
    error::Error,
    queue::Queue,
};

/// The groups of one client.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    producers: Mutex<BTreeMap<String, usize>>,
    consumers: Mutex<BTreeMap<String, Arc<Member>>>,
    /// Brokers should hear from this client now.
    pub(crate) beat: Notify,
}

/// This client's membership of one consumer group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) group: String,
    pub(crate) broadcasting: bool,
    pub(crate) position: Position,
    pub(crate) subscriptions: Vec<Subscription>,
    /// The division of queues should be looked at now.
    pub(crate) nudge: Notify,
    /// Offsets that an operator set, to be taken over.
    resets: Mutex<Vec<(Queue, i64)>>,
    phase: watch::Sender<Phase>,
}

/// The life of a consumer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Phase {
    Running,
    /// Hands out nothing more; waits for what was handed out, commits and leaves the group.
    Stopping,
    Stopped,
}

impl Registry {
    pub(crate) fn add_producer(&self, group: &str) {
        *lock(&self.producers).entry(group.to_owned()).or_default() += 1;
    }

    pub(crate) fn remove_producer(&self, group: &str) {
        let mut producers = lock(&self.producers);
        if let Some(count) = producers.get_mut(group) {
            *count -= 1;
            if *count == 0 {
                producers.remove(group);
            }
        }
    }

    pub(crate) fn producers(&self) -> Vec<String> {
        lock(&self.producers).keys().cloned().collect()
    }

    /// A group can have one member per client: brokers know members by their client id.
    pub(crate) fn add_consumer(&self, member: &Arc<Member>) -> Result<(), Error> {
        let mut consumers = lock(&self.consumers);
        if consumers.contains_key(&member.group) {
            return Err(Error::GroupInUse { group: member.group.clone() });
        }
        consumers.insert(member.group.clone(), Arc::clone(member));
        Ok(())
    }

    pub(crate) fn remove_consumer(&self, group: &str) {
        lock(&self.consumers).remove(group);
    }

    pub(crate) fn consumers(&self) -> Vec<Arc<Member>> {
        lock(&self.consumers).values().cloned().collect()
    }

    pub(crate) fn consumer(&self, group: &str) -> Option<Arc<Member>> {
        lock(&self.consumers).get(group).cloned()
    }

    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.producers).is_empty() && lock(&self.consumers).is_empty()
    }

    /// Makes every consumer look at its queues: a route changed.
    pub(crate) fn nudge_all(&self) {
        for member in lock(&self.consumers).values() {
            member.nudge.notify_one();
        }
    }
}

impl Member {
    pub(crate) fn new(
        group: String,
        broadcasting: bool,
        position: Position,
        subscriptions: Vec<Subscription>,
    ) -> Self {
        Self {
            group,
            broadcasting,
            position,
            subscriptions,
            nudge: Notify::new(),
            resets: Mutex::default(),
            phase: watch::Sender::new(Phase::Running),
        }
    }

    pub(crate) fn subscription(&self, topic: &str) -> Option<&Subscription> {
        self.subscriptions.iter().find(|subscription| **subscription.topic() == *topic)
    }

    pub(crate) fn reset(&self, offsets: impl IntoIterator<Item = (Queue, i64)>) {
        lock(&self.resets).extend(offsets);
        self.nudge.notify_one();
    }

    pub(crate) fn take_resets(&self) -> Vec<(Queue, i64)> {
        std::mem::take(&mut *lock(&self.resets))
    }

    pub(crate) fn is_running(&self) -> bool {
        *self.phase.borrow() == Phase::Running
    }

    /// Asks the consumer to stop; does not wait.
    pub(crate) fn stop(&self) {
        self.phase.send_if_modified(|phase| {
            let running = *phase == Phase::Running;
            if running {
                *phase = Phase::Stopping;
            }
            running
        });
    }

    pub(crate) fn stopped(&self) {
        self.phase.send_replace(Phase::Stopped);
    }

    /// Resolves when [`Member::stop`] has been called.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn stopping(&self) {
        self.wait(|phase| phase != Phase::Running).await;
    }

    /// Resolves when the consumer has committed its offsets and left its group.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn wait_stopped(&self) {
        self.wait(|phase| phase == Phase::Stopped).await;
    }

    async fn wait(&self, reached: impl Fn(Phase) -> bool) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.phase.subscribe().wait_for(|phase| reached(*phase)).await;
    }
}

/// A panic while one of the crate's locks is held leaves a valid value: every update is one call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(group: &str) -> Arc<Member> {
        Arc::new(Member::new(group.into(), false, Position::Last, Vec::new()))
    }

    #[test]
    fn a_group_has_one_member_per_client() {
        let registry = Registry::default();
        registry.add_consumer(&member("g")).unwrap();
        assert!(matches!(registry.add_consumer(&member("g")), Err(Error::GroupInUse { .. })));
        registry.remove_consumer("g");
        registry.add_consumer(&member("g")).unwrap();
    }

    #[test]
    fn a_producer_group_lasts_as_long_as_its_last_producer() {
        let registry = Registry::default();
        registry.add_producer("g");
        registry.add_producer("g");
        registry.remove_producer("g");
        assert_eq!(registry.producers(), ["g"]);
        registry.remove_producer("g");
        assert!(registry.is_empty());
    }
}
