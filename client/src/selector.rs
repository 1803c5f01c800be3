//! Which queue a message goes to. Pure.

use protocol::property;

use crate::queue::Queue;

/// The queue at `turn`, or the next one whose broker is not to be avoided; if all are, the queue
/// at `turn` after all: a broker that failed a moment ago is a better choice than none.
pub(crate) fn rotate(
    queues: &[Queue],
    turn: usize,
    avoid: impl Fn(&str) -> bool,
) -> Option<&Queue> {
    let start = turn.checked_rem(queues.len())?;
    let (before, after) = queues.split_at(start);
    after.iter().chain(before).find(|queue| !avoid(queue.broker())).or_else(|| queues.get(start))
}

/// The queue of a sharding key: the same one in every producer, Java producers included, while
/// the number of queues stays.
///
/// # Source: `SelectMessageQueueByHash.select`
pub(crate) fn by_key<'a>(queues: &'a [Queue], key: &str) -> Option<&'a Queue> {
    let count = i64::try_from(queues.len()).ok()?;
    let index = property::tag_hash(key).checked_rem(count)?.unsigned_abs();
    queues.get(usize::try_from(index).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queues() -> Vec<Queue> {
        ["a", "b"]
            .iter()
            .flat_map(|broker| (0..2).map(move |id| Queue::new("orders", *broker, id)))
            .collect()
    }

    fn name(queue: Option<&Queue>) -> String {
        queue.map(Queue::to_string).unwrap_or_default()
    }

    #[test]
    fn turns_visit_every_queue() {
        let queues = queues();
        let visited: Vec<_> = (3..7).map(|turn| name(rotate(&queues, turn, |_| false))).collect();
        assert_eq!(visited, ["orders/b/1", "orders/a/0", "orders/a/1", "orders/b/0"]);
        assert_eq!(rotate(&[], 3, |_| false), None);
    }

    #[test]
    fn a_failed_broker_is_stepped_over_while_there_is_another() {
        let queues = queues();
        assert_eq!(name(rotate(&queues, 0, |broker| broker == "a")), "orders/b/0");
        assert_eq!(name(rotate(&queues, 3, |broker| broker == "b")), "orders/a/0");
        assert_eq!(name(rotate(&queues, 1, |_| true)), "orders/a/1");
    }

    #[test]
    fn a_key_keeps_its_queue_whatever_the_sign_of_its_hash() {
        let queues = queues();
        // Java: "TagA".hashCode() = 2598919, "TagZZZZZZ".hashCode() = -367331910.
        assert_eq!(name(by_key(&queues, "TagA")), "orders/b/1");
        assert_eq!(name(by_key(&queues, "TagZZZZZZ")), "orders/b/0");
        assert_eq!(by_key(&[], "TagA"), None);
    }
}
