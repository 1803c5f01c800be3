//! Queue locks for ordered consumption: at most one client of a group consumes a queue.
//!
//! A lock is a lease, renewed by locking again, and lives in memory only: after a restart clients
//! lock again before they consume on, as they do every 20 s anyway.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// A queue by topic and number.
pub(crate) type QueueKey = (Box<str>, i32);

/// All locks of this broker.
#[derive(Debug)]
pub(crate) struct Locks {
    lease_ms: i64,
    groups: Mutex<HashMap<Box<str>, HashMap<QueueKey, Lock>>>,
}

#[derive(Debug)]
struct Lock {
    client_id: Box<str>,
    renewed_ms: i64,
}

impl Locks {
    /// No locks; each will last `lease_ms` milliseconds unless it is renewed.
    pub(crate) fn new(lease_ms: i64) -> Self {
        Self { lease_ms, groups: Mutex::default() }
    }

    /// Takes or renews the lock of a queue; `false` when another client of the group holds it.
    pub(crate) fn lock(&self, group: &str, queue: QueueKey, client_id: &str, now_ms: i64) -> bool {
        let mut groups = self.groups();
        let locks = groups.entry(group.into()).or_default();
        match locks.get_mut(&queue) {
            Some(lock)
                if *lock.client_id != *client_id && lock.renewed_ms + self.lease_ms > now_ms =>
            {
                false
            }
            Some(lock) => {
                if *lock.client_id != *client_id {
                    lock.client_id = client_id.into();
                }
                lock.renewed_ms = now_ms;
                true
            }
            None => {
                locks.insert(queue, Lock { client_id: client_id.into(), renewed_ms: now_ms });
                true
            }
        }
    }

    /// Gives up the lock of a queue, if this client holds it.
    pub(crate) fn unlock(&self, group: &str, queue: &QueueKey, client_id: &str) {
        let mut groups = self.groups();
        let Some(locks) = groups.get_mut(group) else { return };
        if locks.get(queue).is_some_and(|lock| *lock.client_id == *client_id) {
            locks.remove(queue);
        }
        if locks.is_empty() {
            groups.remove(group);
        }
    }

    /// Whether any queue of the group is locked: its retries may not overtake then.
    pub(crate) fn holds_any(&self, group: &str, now_ms: i64) -> bool {
        self.groups().get(group).is_some_and(|locks| {
            locks.values().any(|lock| lock.renewed_ms + self.lease_ms > now_ms)
        })
    }

    /// Forgets the locks that have run out.
    pub(crate) fn expire(&self, now_ms: i64) {
        self.groups().retain(|_, locks| {
            locks.retain(|_, lock| lock.renewed_ms + self.lease_ms > now_ms);
            !locks.is_empty()
        });
    }

    fn groups(&self) -> MutexGuard<'_, HashMap<Box<str>, HashMap<QueueKey, Lock>>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(id: i32) -> QueueKey {
        ("T".into(), id)
    }

    #[test]
    fn a_queue_has_one_owner_until_the_lease_ends() {
        let locks = Locks::new(60_000);
        assert!(locks.lock("g", queue(0), "a", 0));
        assert!(!locks.lock("g", queue(0), "b", 59_999));
        assert!(locks.lock("g", queue(1), "b", 0), "another queue");
        assert!(locks.lock("h", queue(0), "b", 0), "another group");
        assert!(locks.lock("g", queue(0), "a", 30_000), "renewed by its owner");
        assert!(!locks.lock("g", queue(0), "b", 60_001));
        assert!(locks.lock("g", queue(0), "b", 90_000));
        assert!(!locks.lock("g", queue(0), "a", 90_001));
    }

    #[test]
    fn only_the_owner_unlocks() {
        let locks = Locks::new(60_000);
        assert!(locks.lock("g", queue(0), "a", 0));
        locks.unlock("g", &queue(0), "b");
        assert!(locks.holds_any("g", 1));
        locks.unlock("g", &queue(0), "a");
        assert!(!locks.holds_any("g", 1));
        assert!(locks.lock("g", queue(0), "b", 2));
    }

    #[test]
    fn expired_locks_are_forgotten() {
        let locks = Locks::new(60_000);
        assert!(locks.lock("g", queue(0), "a", 0));
        assert!(!locks.holds_any("g", 60_000));
        locks.expire(60_000);
        assert!(locks.groups().is_empty());
    }
}
