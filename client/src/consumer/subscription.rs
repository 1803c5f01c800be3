//! What a group wants of a topic.

use std::sync::Arc;

use protocol::property;

/// The expression that accepts every message.
pub(crate) const ALL: &str = "*";

/// A topic and the tags that are wanted of it.
#[derive(Clone, Debug)]
pub(crate) struct Subscription {
    topic: Arc<str>,
    expression: String,
    tags: Vec<String>,
    version_ms: i64,
}

impl Subscription {
    /// `expression` is `*` or tags separated by `||`. Brokers keep the subscription with the
    /// largest `version_ms` of a group.
    ///
    /// # Source: `FilterAPI.buildSubscriptionData`
    pub(crate) fn new(topic: &str, expression: &str, version_ms: i64) -> Self {
        let tags: Vec<String> = expression
            .split("||")
            .map(str::trim)
            .filter(|tag| !tag.is_empty() && *tag != ALL)
            .map(str::to_owned)
            .collect();
        let all = tags.is_empty();
        Self {
            topic: topic.into(),
            expression: if all { ALL.to_owned() } else { expression.trim().to_owned() },
            tags,
            version_ms,
        }
    }

    pub(crate) fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// As it is sent to brokers.
    pub(crate) fn expression(&self) -> &str {
        &self.expression
    }

    pub(crate) fn tags(&self) -> &[String] {
        &self.tags
    }

    /// The hashes by which brokers filter.
    pub(crate) fn hashes(&self) -> Vec<i32> {
        self.tags
            .iter()
            .map(|tag| {
                i32::try_from(property::tag_hash(tag)).expect("a tag hash is a sign-extended i32")
            })
            .collect()
    }

    pub(crate) fn version_ms(&self) -> i64 {
        self.version_ms
    }

    /// Whether a message with this tag is wanted. Brokers compare hashes, and two tags may share
    /// one.
    pub(crate) fn accepts(&self, tag: Option<&str>) -> bool {
        self.tags.is_empty() || tag.is_some_and(|tag| self.tags.iter().any(|own| own == tag))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_split_and_trimmed() {
        let subscription = Subscription::new("orders", " TagA||  TagB || ", 1);
        assert_eq!(subscription.tags(), ["TagA", "TagB"]);
        assert_eq!(subscription.hashes(), [2_598_919, 2_598_920]);
        assert!(subscription.accepts(Some("TagB")));
        assert!(!subscription.accepts(Some("TagC")));
        assert!(!subscription.accepts(None));
    }

    #[test]
    fn nothing_and_a_star_mean_everything() {
        for expression in ["*", "", "  ", "||"] {
            let subscription = Subscription::new("orders", expression, 1);
            assert_eq!(subscription.expression(), "*");
            assert!(subscription.accepts(None) && subscription.accepts(Some("TagA")));
        }
    }

    #[test]
    fn tags_that_share_a_hash_are_told_apart() {
        // "Aa" and "BB" have the same Java hash.
        let subscription = Subscription::new("orders", "Aa", 1);
        assert_eq!(property::tag_hash("Aa"), property::tag_hash("BB"));
        assert!(!subscription.accepts(Some("BB")));
    }
}
