//! Deliberate bugs, to prove that the tests which look for such bugs can find them.
//!
//! They exist only in builds with debug assertions; the variable `BASALTMQ_BUG` switches one on. In
//! other builds [`on`] is a constant, and nothing of them is left.

/// A mistake that a store of this kind could make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// With sync flush, answers before the disk has the message.
    AckBeforeSync,
    /// Syncs again after a failed sync, and believes the second answer.
    RetryFailedSync,
    /// Leaves consumer offsets behind the end of a queue whose log was cut.
    NoClamp,
    /// Leaves entries of the index that point behind the end of the log.
    NoIndexCut,
    /// Leaves what lies behind the end of the log that recovery has found.
    NoZeroing,
    /// Takes what recovery has read for durable, without writing and syncing it again.
    NoRedirty,
    /// Takes a record for valid without looking at its checksum.
    SkipChecksum,
    /// With sync flush, shows messages to consumers before the disk has them.
    EarlyVisible,
    /// Answers the creation of a topic before the disk has it.
    UnsyncedTopic,
}

/// Whether the store makes this mistake.
#[cfg(not(debug_assertions))]
pub(crate) const fn on(_: Bug) -> bool {
    false
}

/// Whether the store makes this mistake.
#[cfg(debug_assertions)]
pub(crate) fn on(bug: Bug) -> bool {
    use std::sync::OnceLock;

    static CHOSEN: OnceLock<Option<Bug>> = OnceLock::new();
    *CHOSEN.get_or_init(choose) == Some(bug)
}

#[cfg(debug_assertions)]
const NAMES: [(&str, Bug); 9] = [
    ("ack-before-sync", Bug::AckBeforeSync),
    ("retry-failed-sync", Bug::RetryFailedSync),
    ("no-clamp", Bug::NoClamp),
    ("no-index-cut", Bug::NoIndexCut),
    ("no-zeroing", Bug::NoZeroing),
    ("no-redirty", Bug::NoRedirty),
    ("skip-checksum", Bug::SkipChecksum),
    ("early-visible", Bug::EarlyVisible),
    ("unsynced-topic", Bug::UnsyncedTopic),
];

/// What the environment asks for. A name that means nothing must not look like a store without
/// bugs, so it ends the process.
#[cfg(debug_assertions)]
fn choose() -> Option<Bug> {
    let name = std::env::var("BASALTMQ_BUG").ok().filter(|name| !name.is_empty())?;
    let Some((_, bug)) = NAMES.iter().find(|(known, _)| *known == name) else {
        let known: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
        panic!("BASALTMQ_BUG={name} is unknown; there are {}", known.join(", "));
    };
    tracing::warn!(name, "a deliberate bug is on: this store does not keep its promises");
    Some(*bug)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bug_is_on_unless_it_is_asked_for() {
        for (name, bug) in NAMES {
            assert!(!on(bug), "{name}");
        }
    }
}
