//! The role that a store was given while it ran, which outlasts the configuration.

use std::{io, path::Path};

use prost::Message;

use super::{Role, sealed};

const NAME: &str = "replica";

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedRole {
    /// The role from the next open on.
    pub role: Role,
    /// The id under which the broker registers as a slave.
    pub broker_id: u64,
    /// The largest epoch that was heard of.
    pub seen_epoch: u64,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct Stored {
    #[prost(bool, tag = "1")]
    slave: bool,
    #[prost(uint64, tag = "2")]
    broker_id: u64,
    #[prost(uint64, tag = "3")]
    seen_epoch: u64,
}

/// The role that was saved for the store in this directory, if one was.
///
/// # Errors
/// The file cannot be read or is damaged.
pub fn saved_role(store: &Path) -> io::Result<Option<SavedRole>> {
    let stored: Option<Stored> = sealed::read(&store.join(NAME))?;
    Ok(stored.map(|Stored { slave, broker_id, seen_epoch }| SavedRole {
        role: if slave { Role::Slave } else { Role::Master },
        broker_id,
        seen_epoch,
    }))
}

/// Saves a role durably.
///
/// # Errors
/// Of the operating system; the old one stands.
pub fn save_role(store: &Path, saved: &SavedRole) -> io::Result<()> {
    let SavedRole { role, broker_id, seen_epoch } = *saved;
    crate::file::create_dir(store)?;
    sealed::write(&store.join(NAME), &Stored { slave: role == Role::Slave, broker_id, seen_epoch })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_is_saved_and_damage_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        assert_eq!(saved_role(&store).unwrap(), None);
        let saved = SavedRole { role: Role::Slave, broker_id: 2, seen_epoch: 9 };
        save_role(&store, &saved).unwrap();
        assert_eq!(saved_role(&store).unwrap(), Some(saved));
        let master = SavedRole { role: Role::Master, ..saved };
        save_role(&store, &master).unwrap();
        assert_eq!(saved_role(&store).unwrap(), Some(master));
        std::fs::write(store.join(NAME), b"xxxxxxxx").unwrap();
        assert!(saved_role(&store).unwrap_err().to_string().contains("damaged"));
    }
}
