//! Which queues of a topic belong to which member of a group. Pure: every member computes the
//! same division from the same sorted lists, Java members included.

use crate::queue::{Queue, java_order};

/// Sorts and removes duplicates, so that two members that learned of the same members in a
/// different order divide alike.
pub(crate) fn normalise(queues: &mut Vec<Queue>, members: &mut Vec<String>) {
    queues.sort();
    queues.dedup();
    members.sort_by(|left, right| java_order(left, right));
    members.dedup();
}

/// The share of `me`: consecutive queues, as even as possible, the first members taking one more.
/// `None` when `me` is not among the members, which says nothing about our share.
///
/// Both lists must have gone through [`normalise`].
///
/// # Source: `AllocateMessageQueueAveragely.allocate`
pub(crate) fn share<'a>(queues: &'a [Queue], members: &[String], me: &str) -> Option<&'a [Queue]> {
    let index = members.iter().position(|member| member == me)?;
    let (each, extra) = (queues.len() / members.len(), queues.len() % members.len());
    let start = index * each + index.min(extra);
    let length = each + usize::from(index < extra);
    queues.get(start..start + length)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queues(count: usize) -> Vec<Queue> {
        (0..count).map(|id| Queue::new("orders", "broker-a", i32::try_from(id).unwrap())).collect()
    }

    fn members(count: usize) -> Vec<String> {
        let mut members: Vec<_> = (0..count).map(|id| format!("10.0.0.{id}@1")).collect();
        normalise(&mut Vec::new(), &mut members);
        members
    }

    fn lengths(queue_count: usize, member_count: usize) -> Vec<usize> {
        let (queues, members) = (queues(queue_count), members(member_count));
        members.iter().map(|me| share(&queues, &members, me).unwrap().len()).collect()
    }

    /// The Java code, word for word in arithmetic: an average size, then a start index.
    fn java_range(queue_count: usize, member_count: usize, index: usize) -> (usize, usize) {
        let modulo = queue_count % member_count;
        let average = if queue_count <= member_count {
            1
        } else if modulo > 0 && index < modulo {
            queue_count / member_count + 1
        } else {
            queue_count / member_count
        };
        let start =
            if modulo > 0 && index < modulo { index * average } else { index * average + modulo };
        (start, average.min(queue_count.saturating_sub(start)))
    }

    #[test]
    fn the_first_members_take_what_is_left_over() {
        assert_eq!(lengths(8, 3), [3, 3, 2]);
        assert_eq!(lengths(4, 2), [2, 2]);
        assert_eq!(lengths(2, 4), [1, 1, 0, 0]);
        assert_eq!(lengths(0, 2), [0, 0]);
    }

    #[test]
    fn a_stranger_has_no_share() {
        assert_eq!(share(&queues(4), &members(2), "10.9.9.9@1"), None);
        assert_eq!(share(&queues(4), &[], "10.9.9.9@1"), None);
    }

    proptest! {
        #[test]
        fn shares_are_those_that_java_computes(queue_count in 0_usize..64, member_count in 1_usize..20) {
            let (queues, members) = (queues(queue_count), members(member_count));
            for (index, me) in members.iter().enumerate() {
                let mine = share(&queues, &members, me).unwrap();
                let (start, length) = java_range(queue_count, member_count, index);
                let expected = queues.get(start..start + length).unwrap_or_default();
                prop_assert_eq!(mine, expected);
            }
        }

        #[test]
        fn every_queue_has_exactly_one_owner(queue_count in 0_usize..64, member_count in 1_usize..20) {
            let (queues, members) = (queues(queue_count), members(member_count));
            let owned: Vec<_> = members
                .iter()
                .flat_map(|me| share(&queues, &members, me).unwrap().iter().cloned())
                .collect();
            prop_assert_eq!(owned, queues);
        }

        #[test]
        fn the_order_of_learning_does_not_matter(seed in any::<u64>(), count in 1_usize..20) {
            let (mut left_queues, mut left) = (queues(count), members(count));
            let (mut right_queues, mut right) = (left_queues.clone(), left.clone());
            let turn = usize::try_from(seed % 20).unwrap() % count;
            right.rotate_left(turn);
            right_queues.reverse();
            normalise(&mut left_queues, &mut left);
            normalise(&mut right_queues, &mut right);
            prop_assert_eq!((left_queues, left), (right_queues, right));
        }
    }
}
