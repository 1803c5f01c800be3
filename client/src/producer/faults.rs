//! Brokers that did not answer a moment ago, so that other sends need not find out again.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::registry::lock;

/// How long a broker is stepped over after it did not answer. A name server removes the route of
/// a broker whose connection ended within a second; a broker that hangs is tried again after this.
const AVOIDED_FOR: Duration = Duration::from_secs(3);

/// Recent failures by broker name.
#[derive(Debug, Default)]
pub(super) struct Faults {
    since: Mutex<HashMap<String, Instant>>,
}

impl Faults {
    pub(super) fn failed(&self, broker: &str) {
        lock(&self.since).insert(broker.to_owned(), Instant::now());
    }

    pub(super) fn answered(&self, broker: &str) {
        let mut since = lock(&self.since);
        // Almost always empty; a lookup would hash the name for nothing.
        if !since.is_empty() {
            since.remove(broker);
        }
    }

    pub(super) fn is_avoided(&self, broker: &str) -> bool {
        let since = lock(&self.since);
        !since.is_empty() && since.get(broker).is_some_and(|failed| failed.elapsed() < AVOIDED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failed_broker_is_avoided_for_a_while() {
        let faults = Faults::default();
        faults.failed("a");
        assert!(faults.is_avoided("a") && !faults.is_avoided("b"));
        tokio::time::advance(AVOIDED_FOR).await;
        assert!(!faults.is_avoided("a"));
    }

    #[tokio::test]
    async fn an_answer_ends_the_avoidance() {
        let faults = Faults::default();
        faults.failed("a");
        faults.answered("a");
        assert!(!faults.is_avoided("a"));
    }
}
