//! Routes as they are sent, kept until something in them changes. Reading one takes a shared lock
//! for a lookup; it never waits for a registration.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use bytes::Bytes;

/// Bytes of all kept routes together. A topic on 16 brokers needs about 3.5 kB; with more than
/// this, all are dropped and those that are asked for come back.
const MAX_BYTES: usize = 512 * 1024 * 1024;

#[derive(Default)]
pub(super) struct Ready {
    routes: RwLock<Routes>,
}

#[derive(Default)]
struct Routes {
    by_topic: HashMap<Arc<str>, Bytes>,
    bytes: usize,
}

impl Ready {
    pub(super) fn get(&self, topic: &str) -> Option<Bytes> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.by_topic.get(topic).cloned()
    }

    /// Keeps a route. Call it while the state that the route was made of is locked: otherwise a
    /// change could be followed by the older route.
    pub(super) fn keep(&self, topic: Arc<str>, route: Bytes) {
        self.keep_below(MAX_BYTES, topic, route);
    }

    fn keep_below(&self, max_bytes: usize, topic: Arc<str>, route: Bytes) {
        let mut routes = self.write();
        if routes.bytes + route.len() > max_bytes {
            *routes = Routes::default();
        }
        routes.bytes += route.len();
        if let Some(old) = routes.by_topic.insert(topic, route) {
            routes.bytes -= old.len();
        }
    }

    /// Drops a route that changed. One short lock for each, so that readers come in between.
    pub(super) fn forget(&self, topic: &str) {
        let mut routes = self.write();
        if let Some(old) = routes.by_topic.remove(topic) {
            routes.bytes -= old.len();
        }
    }

    pub(super) fn forget_all(&self) {
        *self.write() = Routes::default();
    }

    fn write(&self) -> RwLockWriteGuard<'_, Routes> {
        self.routes.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_counted() {
        let ready = Ready::default();
        let keep = |topic: &str, len: usize| {
            ready.keep_below(10, Arc::from(topic), Bytes::from(vec![0; len]));
        };
        keep("a", 4);
        keep("a", 6);
        keep("b", 4);
        assert!(ready.get("a").is_some() && ready.get("b").is_some());
        keep("c", 1);
        assert!(ready.get("a").is_none() && ready.get("c").is_some());
        ready.forget("c");
        ready.forget("c");
        assert_eq!(ready.write().bytes, 0);
    }
}
