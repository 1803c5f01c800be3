//! The name of one queue, the unit of order and of assignment.

use std::{cmp::Ordering, fmt, sync::Arc};

/// One queue of a topic on one broker.
///
/// Cheap to clone. Its order is RocketMQ's order of message queues, which members of a group rely
/// on when they divide queues among themselves without talking to each other.
///
/// # Source: `MessageQueue.compareTo`
#[derive(Clone, Eq, Hash, PartialEq)]
pub struct Queue {
    topic: Arc<str>,
    broker: Arc<str>,
    id: i32,
}

impl Queue {
    /// The queue `id` of `topic` on the broker named `broker` (a name such as `broker-a`, not an
    /// address).
    pub fn new(topic: impl Into<Arc<str>>, broker: impl Into<Arc<str>>, id: i32) -> Self {
        Self { topic: topic.into(), broker: broker.into(), id }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The broker's name.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// The queue's number on its broker, from 0.
    pub fn id(&self) -> i32 {
        self.id
    }
}

impl Ord for Queue {
    fn cmp(&self, other: &Self) -> Ordering {
        java_order(&self.topic, &other.topic)
            .then_with(|| java_order(&self.broker, &other.broker))
            .then_with(|| self.id.cmp(&other.id))
    }
}

impl PartialOrd for Queue {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.topic, self.broker, self.id)
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Java compares strings by UTF-16 units; that differs from Rust's order for characters beyond
/// the basic plane, and all members of a group must sort alike.
pub(crate) fn java_order(left: &str, right: &str) -> Ordering {
    if left.is_ascii() && right.is_ascii() {
        left.cmp(right)
    } else {
        left.encode_utf16().cmp(right.encode_utf16())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_sort_by_topic_broker_and_number() {
        let mut queues = [
            Queue::new("b", "x", 0),
            Queue::new("a", "y", 0),
            Queue::new("a", "x", 10),
            Queue::new("a", "x", 2),
        ];
        queues.sort();
        let names = queues.map(|queue| queue.to_string());
        assert_eq!(names, ["a/x/2", "a/x/10", "a/y/0", "b/x/0"]);
    }

    #[test]
    fn names_beyond_the_basic_plane_sort_as_java_sorts_them() {
        let (emoji, private_use) = ("\u{1F600}", "\u{E000}");
        assert_eq!(emoji.cmp(private_use), Ordering::Greater);
        assert_eq!(java_order(emoji, private_use), Ordering::Less);
    }
}
