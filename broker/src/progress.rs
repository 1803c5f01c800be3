//! What the broker remembers of each group's reading besides the committed offsets: where it
//! pulled last and how fast. In memory only; it informs operators and decides nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use storage::{QueueOffset, TopicId};

use crate::stats::per_second;

/// Samples kept of each group, one every 10 s: a rate is that of the last minute.
const SAMPLES: usize = 7;

/// The reading of all groups.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    groups: RwLock<HashMap<Box<str>, Arc<Group>>>,
}

#[derive(Debug, Default)]
struct Group {
    delivered: AtomicU64,
    pulled_to: RwLock<HashMap<(TopicId, u32), AtomicU64>>,
    samples: Mutex<VecDeque<(i64, u64)>>,
}

impl Progress {
    /// Notes a pull of `group` that was answered with `messages` and will go on at `next`.
    pub(crate) fn pulled(
        &self,
        group: &str,
        queue: (TopicId, u32),
        next: QueueOffset,
        messages: usize,
    ) {
        let group = self.group(group).unwrap_or_else(|| {
            let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(groups.entry(group.into()).or_default())
        });
        group.delivered.fetch_add(u64::try_from(messages).unwrap_or(u64::MAX), Relaxed);
        let known = group.pulled_to.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.get(&queue) {
            place.store(next.0, Relaxed);
            return;
        }
        drop(known);
        let mut places = group.pulled_to.write().unwrap_or_else(PoisonError::into_inner);
        places.entry(queue).or_default().store(next.0, Relaxed);
    }

    /// Where `group` pulls next, if it pulled since the broker started.
    pub(crate) fn pulled_to(&self, group: &str, queue: (TopicId, u32)) -> Option<QueueOffset> {
        let group = self.group(group)?;
        let places = group.pulled_to.read().unwrap_or_else(PoisonError::into_inner);
        places.get(&queue).map(|place| QueueOffset(place.load(Relaxed)))
    }

    /// Messages per second that `group` received in the last minute.
    pub(crate) fn rate(&self, group: &str, now_ms: i64) -> f64 {
        let Some(group) = self.group(group) else { return 0.0 };
        let samples = group.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.front().map_or(0.0, |(then_ms, then)| {
            per_second(group.delivered.load(Relaxed).saturating_sub(*then), now_ms - then_ms)
        })
    }

    /// Notes the counters; to be called every 10 s.
    pub(crate) fn sample(&self, now_ms: i64) {
        for group in self.groups.read().unwrap_or_else(PoisonError::into_inner).values() {
            let mut samples = group.samples.lock().unwrap_or_else(PoisonError::into_inner);
            samples.push_back((now_ms, group.delivered.load(Relaxed)));
            if samples.len() > SAMPLES {
                samples.pop_front();
            }
        }
    }

    /// Forgets a group that was deleted.
    pub(crate) fn forget_group(&self, group: &str) {
        self.groups.write().unwrap_or_else(PoisonError::into_inner).remove(group);
    }

    /// Forgets a topic that was deleted.
    pub(crate) fn forget_topic(&self, topic: TopicId) {
        for group in self.groups.read().unwrap_or_else(PoisonError::into_inner).values() {
            let mut places = group.pulled_to.write().unwrap_or_else(PoisonError::into_inner);
            places.retain(|(id, _), _| *id != topic);
        }
    }

    fn group(&self, group: &str) -> Option<Arc<Group>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner).get(group).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_where_a_group_pulled_last() {
        let progress = Progress::default();
        let queue = (TopicId(1), 2);
        assert_eq!(progress.pulled_to("g", queue), None);
        progress.pulled("g", queue, QueueOffset(5), 5);
        progress.pulled("g", queue, QueueOffset(9), 4);
        assert_eq!(progress.pulled_to("g", queue), Some(QueueOffset(9)));
        assert_eq!(progress.pulled_to("h", queue), None);
        progress.forget_topic(TopicId(1));
        assert_eq!(progress.pulled_to("g", queue), None);
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let progress = Progress::default();
        progress.pulled("g", (TopicId(1), 0), QueueOffset(0), 1_000_000);
        for tick in 0..10 {
            progress.sample(tick * 10_000);
            progress.pulled("g", (TopicId(1), 0), QueueOffset(0), 100);
        }
        let rate = progress.rate("g", 100_000);
        assert!((rate - 10.0).abs() < 0.01, "{rate}");
    }
}
