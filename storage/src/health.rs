//! Whether the store still accepts writes: the first failure is kept for good.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use crate::Poison;

/// Set once, never reset: what follows a failed write cannot be trusted.
#[derive(Debug, Default)]
pub(crate) struct Health {
    poison: OnceLock<Poison>,
    closed: AtomicBool,
}

impl Health {
    /// Records a failure; `true` if it is the first.
    pub(crate) fn fail(&self, reason: &str) -> bool {
        let first = self.poison.set(Poison { reason: Arc::from(reason) }).is_ok();
        if first {
            tracing::error!(reason, "the store has failed; nothing is acknowledged any more");
        }
        first
    }

    /// # Errors
    /// The first failure.
    pub(crate) fn check(&self) -> Result<(), Poison> {
        self.poison.get().map_or(Ok(()), |poison| Err(poison.clone()))
    }

    /// Stops new writes because the store closes; `true` the first time.
    pub(crate) fn close(&self) -> bool {
        !self.closed.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_failure_wins() {
        let health = Health::default();
        health.check().unwrap();
        assert!(health.fail("disk"));
        assert!(!health.fail("later"));
        assert_eq!(&*health.check().unwrap_err().reason, "disk");
    }
}
