//! Which role a broker has, and which of two masters of one name goes on. Pure: decided here, done
//! in `broker` and `rivals`.

use std::collections::{BTreeMap, BTreeSet};

use storage::replica::{Epoch, Identity, Role, SavedRole};

use crate::config::Config;

/// The role of a broker while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it leads or follows.
    pub(crate) role: Role,
    /// Its number as a slave, also while it is the master; 0 if it has none yet.
    pub(crate) slave_id: u64,
    /// The largest epoch that it heard of.
    pub(crate) seen_epoch: u64,
}

impl Standing {
    /// What was saved, else what is configured.
    pub(crate) fn of(config: &Config, saved: Option<SavedRole>) -> Self {
        let configured = if config.role == "slave" { Role::Slave } else { Role::Master };
        match saved {
            Some(SavedRole { role, broker_id, seen_epoch }) => {
                Self { role, slave_id: broker_id, seen_epoch }
            }
            None => Self { role: configured, slave_id: config.broker_id, seen_epoch: 0 },
        }
    }

    /// The number that it registers with.
    pub(crate) fn broker_id(&self) -> u64 {
        if self.is_master() { 0 } else { self.slave_id }
    }

    pub(crate) fn is_master(&self) -> bool {
        self.role == Role::Master
    }

    /// As it is kept beside the store.
    pub(crate) fn saved(&self) -> SavedRole {
        let Self { role, slave_id, seen_epoch } = *self;
        SavedRole { role, broker_id: slave_id, seen_epoch }
    }

    /// RocketMQ's word for it.
    pub(crate) fn name(&self, copies: usize) -> &'static str {
        match self.role {
            Role::Slave => "SLAVE",
            Role::Master if copies > 1 => "SYNC_MASTER",
            Role::Master => "ASYNC_MASTER",
        }
    }
}

/// By what a master claims to be the one of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Which store; 0 for one with nothing in it.
    pub(crate) store_id: u64,
    /// Number of the last epoch.
    pub(crate) epoch: u64,
    /// Who began it.
    pub(crate) leader: u64,
    /// Since when it serves as master, Unix ms.
    pub(crate) since_ms: i64,
}

impl Claim {
    /// What a store makes of it.
    pub(crate) fn of(identity: &Identity, since_ms: i64) -> Self {
        let last = identity.epochs.last();
        let Epoch { number, leader, .. } = last.copied().unwrap_or_default();
        Self { store_id: identity.store_id, epoch: number, leader, since_ms }
    }
}

/// What a master does about another one of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on; the other one gives up.
    Keep,
    /// It becomes a slave: the other one goes on where this one's log ended.
    Outdated,
    /// It becomes a slave, although both claim the same.
    Later,
    /// The other one has another store: nobody can follow anybody.
    Foreign,
}

/// Decides between this master and another one, so that the other one decides the opposite.
pub(crate) fn contest(ours: &Claim, theirs: &Claim) -> Verdict {
    // A store with nothing in it can follow every other one.
    if ours.store_id == 0 {
        return Verdict::Outdated;
    }
    if theirs.store_id == 0 {
        return Verdict::Keep;
    }
    if ours.store_id != theirs.store_id {
        return Verdict::Foreign;
    }
    match ours.epoch.cmp(&theirs.epoch) {
        std::cmp::Ordering::Less => Verdict::Outdated,
        std::cmp::Ordering::Greater => Verdict::Keep,
        std::cmp::Ordering::Equal => {
            let first = (ours.since_ms, ours.leader) < (theirs.since_ms, theirs.leader);
            if first { Verdict::Keep } else { Verdict::Later }
        }
    }
}

/// The addresses that are registered under each number of one broker name.
pub(crate) type Members = BTreeMap<u64, BTreeSet<String>>;

/// The number of a master that becomes a slave: its own from before, else the one that the new
/// master had, else the smallest that nobody has.
pub(crate) fn free_id(members: &Members, own_address: &str, wishes: [u64; 3]) -> u64 {
    let is_free = |id: &u64| {
        let taken = members.get(id);
        taken.is_none_or(|addresses| addresses.iter().all(|address| address == own_address))
    };
    let wished = wishes.into_iter().filter(|id| *id > 0).find(is_free);
    wished.or_else(|| (1..).find(is_free)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(store_id: u64, epoch: u64, leader: u64, since_ms: i64) -> Claim {
        Claim { store_id, epoch, leader, since_ms }
    }

    #[test]
    fn what_was_saved_wins_over_what_is_configured() {
        let config = Config { role: "slave".to_owned(), broker_id: 2, ..Config::default() };
        let standing = Standing::of(&config, None);
        assert_eq!((standing.role, standing.broker_id()), (Role::Slave, 2));
        let saved = SavedRole { role: Role::Master, broker_id: 2, seen_epoch: 7 };
        let standing = Standing::of(&config, Some(saved));
        assert_eq!((standing.role, standing.broker_id()), (Role::Master, 0));
        assert_eq!(standing.saved(), saved, "it keeps its number for later");
        assert_eq!(standing.name(1), "ASYNC_MASTER");
        assert_eq!(standing.name(2), "SYNC_MASTER");
    }

    #[test]
    fn of_two_masters_exactly_one_goes_on() {
        let claims = [
            claim(0, 0, 0, 1),
            claim(7, 1, 10, 50),
            claim(7, 2, 11, 40),
            claim(7, 2, 12, 60),
            claim(7, 2, 13, 60),
        ];
        for (at, ours) in claims.iter().enumerate() {
            for theirs in claims.iter().skip(at + 1) {
                let verdicts = [contest(ours, theirs), contest(theirs, ours)];
                let kept = verdicts.iter().filter(|verdict| **verdict == Verdict::Keep).count();
                assert_eq!(kept, 1, "{ours:?} {theirs:?}: {verdicts:?}");
            }
        }
        assert_eq!(contest(&claims[1], &claims[2]), Verdict::Outdated);
        assert_eq!(contest(&claims[3], &claims[2]), Verdict::Later, "it came later");
        assert_eq!(contest(&claims[1], &claim(8, 9, 1, 1)), Verdict::Foreign);
        assert_eq!(contest(&claim(0, 0, 0, 9), &claims[1]), Verdict::Outdated);
    }

    #[test]
    fn a_former_master_gets_a_number_that_nobody_has() {
        let address = |name: &str| BTreeSet::from([name.to_owned()]);
        let members: Members = [(0, address("new")), (1, address("other"))].into();
        assert_eq!(free_id(&Members::new(), "me", [0, 0, 0]), 1);
        assert_eq!(free_id(&Members::new(), "me", [0, 0, 3]), 3);
        assert_eq!(free_id(&Members::new(), "me", [2, 0, 3]), 2);
        assert_eq!(free_id(&members, "me", [1, 0, 1]), 2, "1 is taken");
        assert_eq!(free_id(&members, "other", [1, 0, 0]), 1, "by itself");
    }
}
