//! Where a slave's master is, as the name servers answer its registrations.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Where the master is, as far as this slave knows.
#[derive(Debug, Default)]
pub(crate) struct MasterPlace {
    known: Mutex<Option<Master>>,
    /// Somebody needs to know it now.
    wanted: Notify,
}

/// The master of this broker's name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Master {
    /// Host and port for clients.
    pub(crate) address: String,
    /// Host and port for slaves.
    pub(crate) ha_address: String,
}

impl MasterPlace {
    /// The master, if a name server knows one.
    pub(crate) fn known(&self) -> Option<Master> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As [`MasterPlace::known`], and asks the name servers again soon: for whom cannot reach it.
    pub(crate) fn wanted(&self) -> Option<Master> {
        self.wanted.notify_one();
        self.known()
    }

    /// Resolves when somebody needs to know the master now.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    pub(crate) async fn is_wanted(&self) {
        self.wanted.notified().await;
    }

    /// Notes what a name server says.
    pub(crate) fn learn(&self, master: Master) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_ref() != Some(&master) {
            let Master { address, ha_address } = &master;
            tracing::info!(address, ha_address, "the name servers know the master");
            *known = Some(master);
        }
    }
}
