//! Topic and group names: which are legal, which are RocketMQ's own, and how the retry and
//! dead-letter topics of a group are called.

use thiserror::Error;

use crate::limits;

/// Prefix of a group's retry topic.
pub const RETRY_PREFIX: &str = "%RETRY%";
/// Prefix of a group's dead-letter topic.
pub const DLQ_PREFIX: &str = "%DLQ%";
/// Prefix of broker-internal topics.
pub const SYSTEM_TOPIC_PREFIX: &str = "rmq_sys_";
/// Prefix of broker-internal consumer groups.
pub const SYSTEM_GROUP_PREFIX: &str = "CID_RMQ_SYS_";
/// Suffix of a cluster's reply topic.
pub const REPLY_SUFFIX: &str = "_REPLY_TOPIC";

/// The topic whose configuration a topic inherits when a send creates it.
pub const AUTO_CREATE_TOPIC: &str = "TBW102";
/// Where messages with a delay level wait.
pub const SCHEDULE_TOPIC: &str = "SCHEDULE_TOPIC_XXXX";
/// Created at start for load tests.
pub const BENCHMARK_TOPIC: &str = "BenchmarkTest";
/// Where half messages of transactions wait.
pub const HALF_TOPIC: &str = "RMQ_SYS_TRANS_HALF_TOPIC";
/// Which half messages are settled.
pub const HALF_OP_TOPIC: &str = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
/// Where half messages end after too many checks.
pub const HALF_DISCARD_TOPIC: &str = "TRANS_CHECK_MAX_TIME_TOPIC";
/// Default destination of message traces.
pub const TRACE_TOPIC: &str = "RMQ_SYS_TRACE_TOPIC";
/// Created at start for a broker's test of itself.
pub const SELF_TEST_TOPIC: &str = "SELF_TEST_TOPIC";
/// Where old brokers announce corrected offsets.
pub const OFFSET_MOVED_TOPIC: &str = "OFFSET_MOVED_EVENT";

/// # Source: `TopicValidator.SYSTEM_TOPIC_SET`
const SYSTEM_TOPICS: [&str; 10] = [
    AUTO_CREATE_TOPIC,
    SCHEDULE_TOPIC,
    BENCHMARK_TOPIC,
    HALF_TOPIC,
    TRACE_TOPIC,
    HALF_OP_TOPIC,
    HALF_DISCARD_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_TOPIC,
    "CHECKPOINT_TOPIC",
];

/// # Source: `TopicValidator.NOT_ALLOWED_SEND_TOPIC_SET`
const SEND_FORBIDDEN: [&str; 6] = [
    SCHEDULE_TOPIC,
    HALF_TOPIC,
    HALF_OP_TOPIC,
    HALF_DISCARD_TOPIC,
    SELF_TEST_TOPIC,
    OFFSET_MOVED_TOPIC,
];

/// # Source: `MixAll.PREDEFINE_GROUP_SET`
const SYSTEM_GROUPS: [&str; 10] = [
    "DEFAULT_CONSUMER",
    "DEFAULT_PRODUCER",
    "TOOLS_CONSUMER",
    "SCHEDULE_CONSUMER",
    "FILTERSRV_CONSUMER",
    "__MONITOR_CONSUMER",
    "CLIENT_INNER_PRODUCER",
    "SELF_TEST_P_GROUP",
    "SELF_TEST_C_GROUP",
    "CID_ONS-HTTP-PROXY",
];

/// Why a name was refused. Answer the peer with the sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// Empty, or only white space.
    #[error("the {kind} name is empty; give it 1 to {max} characters")]
    Empty {
        /// `topic` or `group`.
        kind: &'static str,
        /// Longest legal name in bytes.
        max: usize,
    },
    /// Too long.
    #[error("the {kind} name has {length} bytes, the limit is {max}; choose a shorter one")]
    TooLong {
        /// `topic` or `group`.
        kind: &'static str,
        /// Length of the name in bytes.
        length: usize,
        /// Longest legal name in bytes.
        max: usize,
    },
    /// A character outside of the allowed set.
    #[error(
        "the {kind} name {name:?} contains {character:?} at byte {at}; \
         use only letters, digits and % | _ -"
    )]
    Character {
        /// `topic` or `group`.
        kind: &'static str,
        /// The name, whole; it is within the length limit.
        name: String,
        /// The first character that is not allowed.
        character: char,
        /// Its position in bytes.
        at: usize,
    },
}

/// Checks a topic name: 1 to 127 characters of `% | a-z A-Z 0-9 _ -`, 255 for retry and
/// dead-letter topics.
///
/// A legal name is also a safe file or key name: it holds neither `/` nor `.` nor a control
/// character.
///
/// # Errors
/// [`NameError`], to be answered with "illegal message" or "invalid parameter".
///
/// # Source: `TopicValidator.validateTopic`
pub fn check_topic(topic: &str) -> Result<(), NameError> {
    let internal = is_retry_topic(topic) || is_dlq_topic(topic);
    let max = if internal { limits::TOPIC_INTERNAL_MAX_BYTES } else { limits::TOPIC_MAX_BYTES };
    check("topic", topic, max)
}

/// Checks a producer or consumer group name: 1 to 120 characters of `% | a-z A-Z 0-9 _ -`.
///
/// # Errors
/// [`NameError`], to be answered with "illegal message" or "invalid parameter".
///
/// # Source: `TopicValidator.validateGroup`
pub fn check_group(group: &str) -> Result<(), NameError> {
    check("group", group, limits::GROUP_MAX_BYTES)
}

fn check(kind: &'static str, name: &str, max: usize) -> Result<(), NameError> {
    if name.trim().is_empty() {
        return Err(NameError::Empty { kind, max });
    }
    if name.len() > max {
        return Err(NameError::TooLong { kind, length: name.len(), max });
    }
    match name.char_indices().find(|&(_, c)| !is_name_character(c)) {
        None => Ok(()),
        Some((at, character)) => {
            Err(NameError::Character { kind, name: name.to_owned(), character, at })
        }
    }
}

fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '%' | '|' | '_' | '-')
}

/// The topic to which messages of `group` return for another attempt.
#[must_use]
pub fn retry_topic(group: &str) -> String {
    format!("{RETRY_PREFIX}{group}")
}

/// The topic that collects messages which `group` failed to consume.
#[must_use]
pub fn dlq_topic(group: &str) -> String {
    format!("{DLQ_PREFIX}{group}")
}

/// The topic that stores the replies of request-reply in `cluster`.
#[must_use]
pub fn reply_topic(cluster: &str) -> String {
    format!("{cluster}{REPLY_SUFFIX}")
}

/// Whether `topic` is the retry topic of some group.
#[must_use]
pub fn is_retry_topic(topic: &str) -> bool {
    topic.starts_with(RETRY_PREFIX)
}

/// Whether `topic` is the dead-letter topic of some group.
#[must_use]
pub fn is_dlq_topic(topic: &str) -> bool {
    topic.starts_with(DLQ_PREFIX)
}

/// Whether `topic` belongs to RocketMQ itself: users may neither create nor delete it.
#[must_use]
pub fn is_system_topic(topic: &str) -> bool {
    SYSTEM_TOPICS.contains(&topic) || topic.starts_with(SYSTEM_TOPIC_PREFIX)
}

/// The system topics that have fixed names, in RocketMQ's order.
#[must_use]
pub fn system_topics() -> &'static [&'static str] {
    &SYSTEM_TOPICS
}

/// Whether clients may not send to `topic` although it exists.
#[must_use]
pub fn is_send_forbidden(topic: &str) -> bool {
    SEND_FORBIDDEN.contains(&topic)
}

/// Whether `group` belongs to RocketMQ itself.
#[must_use]
pub fn is_system_group(group: &str) -> bool {
    SYSTEM_GROUPS.contains(&group) || group.starts_with(SYSTEM_GROUP_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_every_legal_character() {
        check_topic("%RETRY%a|B_9-").unwrap();
        check_group("GID-1_x|%").unwrap();
    }

    #[test]
    fn length_limits_are_those_of_rocketmq() {
        let name = |n: usize| "t".repeat(n);
        check_topic(&name(127)).unwrap();
        assert_eq!(
            check_topic(&name(128)),
            Err(NameError::TooLong { kind: "topic", length: 128, max: 127 })
        );
        check_topic(&retry_topic(&name(248))).unwrap();
        check_topic(&dlq_topic(&name(251))).unwrap_err();
        check_group(&name(120)).unwrap();
        check_group(&name(121)).unwrap_err();
    }

    #[test]
    fn refuses_paths_blanks_and_foreign_letters() {
        for bad in ["../../x", "a/b", "a.b", "a b", "tópico", "a\u{1}b", "a\0"] {
            assert!(
                matches!(check_topic(bad), Err(NameError::Character { .. })),
                "{bad:?} was accepted"
            );
        }
        assert!(matches!(check_topic(""), Err(NameError::Empty { .. })));
        assert!(matches!(check_group("  "), Err(NameError::Empty { .. })));
    }

    #[test]
    fn error_names_the_character_and_its_place() {
        assert_eq!(
            check_topic("../../x").unwrap_err().to_string(),
            "the topic name \"../../x\" contains '.' at byte 0; \
             use only letters, digits and % | _ -"
        );
    }

    #[test]
    fn system_names_are_recognised() {
        assert!(is_system_topic("TBW102"));
        assert!(is_system_topic("rmq_sys_wheel_timer"));
        assert!(!is_system_topic("TopicTest"));
        assert!(is_send_forbidden(SCHEDULE_TOPIC));
        assert!(!is_send_forbidden(AUTO_CREATE_TOPIC));
        assert!(is_system_group("CID_RMQ_SYS_TRANS"));
        assert!(!is_system_group("CG"));
    }
}
