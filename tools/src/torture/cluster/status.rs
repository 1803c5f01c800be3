//! What a broker says of its part in replication.

use std::fmt;

use protocol::body::ha::HaStatus;

/// See the module.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Status {
    pub(super) is_master: bool,
    /// Whether it serves readers.
    serves: bool,
    epoch: i64,
    log_end: i64,
    /// Last change of the index.
    sequence: i64,
    /// Of a master: slaves in sync.
    in_sync: i32,
}

impl From<HaStatus> for Status {
    fn from(said: HaStatus) -> Self {
        let more = said.replication.unwrap_or_default();
        Self {
            is_master: said.master,
            serves: more.serves,
            epoch: more.epoch,
            log_end: said.master_commit_log_max_offset,
            sequence: more.sequence,
            in_sync: said.in_sync_slave_nums,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.is_master { "a master" } else { "a slave" };
        let Self { serves, epoch, log_end, sequence, in_sync, .. } = self;
        write!(f, "{role} (epoch {epoch}, log end {log_end}, sequence {sequence}")?;
        write!(f, ", slaves in sync {in_sync}, serves readers {serves})")
    }
}

impl Status {
    /// What keeps this master and that slave from being the same, if anything.
    pub(super) fn differs_from(&self, slave: &Self) -> Option<String> {
        let same = self.is_master
            && !slave.is_master
            && slave.serves
            && self.in_sync == 1
            && (self.epoch, self.log_end, self.sequence)
                == (slave.epoch, slave.log_end, slave.sequence);
        (!same).then(|| format!("the master says it is {self}, the slave says it is {slave}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_and_a_slave_are_the_same_at_equal_positions() {
        let master =
            Status { is_master: true, serves: true, epoch: 3, log_end: 9, sequence: 8, in_sync: 1 };
        let slave = Status { is_master: false, in_sync: 0, ..master.clone() };
        assert_eq!(master.differs_from(&slave), None);
        for other in [
            Status { log_end: 8, ..slave.clone() },
            Status { sequence: 7, ..slave.clone() },
            Status { epoch: 2, ..slave.clone() },
            Status { serves: false, ..slave.clone() },
            master.clone(),
        ] {
            let words = master.differs_from(&other).unwrap();
            assert!(words.contains(&other.to_string()), "{words}");
        }
    }
}
