//! Which messages of a topic a subscription wants, decided on the tag hash of the queue entry.
//! Two tags may share a hash, so clients compare the tag itself again.

use std::sync::Arc;

use protocol::property;

/// The compiled form of a subscription's expression.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Filter {
    /// Every message.
    All,
    /// Messages whose tag has one of these hashes, in ascending order.
    Tags(Arc<[i64]>),
}

/// Whether an expression of this type is a list of tags, the only type that is served.
pub(crate) fn is_tag_type(expression_type: Option<&str>) -> bool {
    matches!(expression_type, None | Some("" | "TAG"))
}

impl Filter {
    /// Compiles `TagA || TagB`; nothing, an empty text and `*` want everything. `None` when there
    /// are only separators.
    pub(crate) fn parse(expression: Option<&str>) -> Option<Self> {
        match expression.map(str::trim) {
            None | Some("" | "*") => Some(Self::All),
            Some(expression) => {
                let tags = expression.split("||").map(str::trim).filter(|tag| !tag.is_empty());
                Self::of_hashes(tags.map(property::tag_hash))
            }
        }
    }

    /// Messages with one of these tag hashes; `None` when there are none.
    pub(crate) fn of_hashes(hashes: impl Iterator<Item = i64>) -> Option<Self> {
        let mut hashes: Vec<i64> = hashes.collect();
        hashes.sort_unstable();
        hashes.dedup();
        (!hashes.is_empty()).then(|| Self::Tags(hashes.into()))
    }

    /// Whether a message with this tag hash, 0 without a tag, is wanted.
    pub(crate) fn accepts(&self, tag_hash: i64) -> bool {
        match self {
            Self::All => true,
            Self::Tags(hashes) => hashes.binary_search(&tag_hash).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_wanted_without_an_expression() {
        for expression in [None, Some(""), Some("*"), Some(" * ")] {
            assert_eq!(Filter::parse(expression), Some(Filter::All));
        }
    }

    #[test]
    fn tags_match_by_java_hash() {
        let filter = Filter::parse(Some("TagA || TagB||")).unwrap();
        assert_eq!(filter, Filter::Tags([2_598_919, 2_598_920].into()));
        assert!(filter.accepts(2_598_919));
        assert!(!filter.accepts(2_598_921));
        assert!(!filter.accepts(0), "an untagged message");
    }

    #[test]
    fn separators_alone_are_no_expression() {
        assert_eq!(Filter::parse(Some("||")), None);
    }
}
