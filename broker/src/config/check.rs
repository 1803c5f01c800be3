//! What no single key is wrong about, but several together are.

use thiserror::Error;

use super::Config;

/// Keys that contradict each other. The sentence says which, and what to change.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Contradiction {
    /// A slave needs a number of its own.
    #[error(
        "role = slave with broker_id = 0, which is the master's: set broker_id to 1 or more, another \
         one for each slave of {name}"
    )]
    SlaveZero {
        /// The broker's name.
        name: String,
    },
    /// A master has no number of its own.
    #[error(
        "role = {role} with broker_id = {broker_id}: a master has broker_id 0; set that, or role = slave"
    )]
    MasterNumber {
        /// The configured role.
        role: String,
        /// The configured number.
        broker_id: u64,
    },
    /// A slave that cannot find anybody.
    #[error(
        "role = slave without namesrv and without ha_master: name one of them, so that the master \
         can be found"
    )]
    NoMaster,
    /// A master that is told to wait and not to wait.
    #[error(
        "role = async_master with in_sync_replicas = {in_sync_replicas}: an async_master waits for no \
         slave; set role = sync_master, or in_sync_replicas = 1"
    )]
    AsyncWaits {
        /// The configured number of copies.
        in_sync_replicas: u64,
    },
}

impl Config {
    /// Looks for keys that contradict each other.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn check(&self) -> Result<(), Contradiction> {
        let Self { broker_id, in_sync_replicas, .. } = *self;
        match self.role.as_str() {
            "slave" if broker_id == 0 => Err(Contradiction::SlaveZero { name: self.name.clone() }),
            "slave" if self.namesrv.is_empty() && self.ha_master.is_none() => {
                Err(Contradiction::NoMaster)
            }
            "slave" => Ok(()),
            role if broker_id > 0 => {
                Err(Contradiction::MasterNumber { role: role.to_owned(), broker_id })
            }
            "async_master" if in_sync_replicas > 1 => {
                Err(Contradiction::AsyncWaits { in_sync_replicas })
            }
            _ => Ok(()),
        }
    }

    /// Copies that a send waits for when this broker is the master, its own among them.
    ///
    /// RocketMQ's `SYNC_MASTER` waits for nobody unless `inSyncReplicas` is raised too, which
    /// surprised many; here the role is enough.
    pub(crate) fn copies(&self) -> usize {
        let least = if self.role == "sync_master" { 2 } else { 1 };
        usize::try_from(self.in_sync_replicas).unwrap_or(usize::MAX).max(least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(role: &str, broker_id: u64) -> Config {
        Config { role: role.to_owned(), broker_id, ..Config::default() }
    }

    #[test]
    fn contradictions_name_what_to_change() {
        let with_names = |config| Config { namesrv: vec!["a:1".to_owned()], ..config };
        for (config, expected) in [
            (with_names(config("slave", 0)), "set broker_id to 1 or more"),
            (config("async_master", 1), "a master has broker_id 0"),
            (config("sync_master", 2), "a master has broker_id 0"),
            (config("slave", 1), "without namesrv and without ha_master"),
            (Config { in_sync_replicas: 2, ..config("async_master", 0) }, "set role = sync_master"),
        ] {
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for fine in [
            Config::default(),
            config("sync_master", 0),
            with_names(Config { in_sync_replicas: 3, ..config("slave", 3) }),
            Config { ha_master: Some("a:1".to_owned()), ..config("slave", 1) },
        ] {
            assert_eq!(fine.check(), Ok(()));
        }
    }

    #[test]
    fn a_sync_master_waits_for_a_slave_at_least() {
        assert_eq!(config("async_master", 0).copies(), 1);
        assert_eq!(config("sync_master", 0).copies(), 2);
        assert_eq!(Config { in_sync_replicas: 3, ..config("sync_master", 0) }.copies(), 3);
        assert_eq!(config("slave", 1).copies(), 1);
    }
}
