//! Where a group starts in a queue that it has no offset for.

/// Where a group starts in a queue of which it has committed nothing.
///
/// As with RocketMQ, a broker answers 0 for a queue whose first message is still in its recent
/// memory: a new group on a young topic starts at the beginning, whatever is asked for here.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Position {
    /// At the end: messages stored from now on. The default.
    #[default]
    Last,
    /// At the first message that the broker still has.
    First,
    /// At the first message stored at or after this time, in Unix milliseconds.
    Timestamp(i64),
}

impl Position {
    /// The name in heartbeats.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Last => "CONSUME_FROM_LAST_OFFSET",
            Self::First => "CONSUME_FROM_FIRST_OFFSET",
            Self::Timestamp(_) => "CONSUME_FROM_TIMESTAMP",
        }
    }
}
