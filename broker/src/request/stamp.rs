//! The properties of an ordinary send: what the broker must know of them, and what it adds,
//! without encoding the client's text again.

use std::borrow::Cow;

use protocol::{code::ResponseCode, property};

use super::reply::Refusal;

/// Names that only the broker sets: a client that sends them, such as one that passes on a message
/// it received, does not get them stored.
const BROKER_OWNED: [&str; 5] = [
    property::MSG_REGION,
    property::TRACE_ON,
    property::CLUSTER,
    property::POP_CK,
    property::CRC32,
];

/// What one look at the client's properties tells.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Scan<'a> {
    /// The id that the client gave the message.
    pub(crate) unique_id: Option<&'a str>,
    /// Whether the producer wants to wait for the disk.
    pub(crate) wait: bool,
    /// Delay level above 0.
    pub(crate) delayed: bool,
    /// Whether the text holds a name that must go.
    foreign: bool,
}

/// Reads the properties that decide something.
///
/// # Errors
///
/// When the message needs a feature that is not built: it must not be stored as an ordinary one.
pub(crate) fn scan(properties: &str) -> Result<Scan<'_>, Refusal> {
    let mut scan = Scan { unique_id: None, wait: true, delayed: false, foreign: false };
    for (name, value) in property::iter(properties) {
        match name {
            property::UNIQ_KEY => scan.unique_id = Some(value),
            property::WAIT => scan.wait = !value.eq_ignore_ascii_case("false"),
            property::DELAY => {
                scan.delayed = value.parse().is_ok_and(|level: i32| level > 0);
            }
            property::TIMER_DELAY_SEC | property::TIMER_DELAY_MS | property::TIMER_DELIVER_MS => {
                // RocketMQ answers so when its timer is switched off.
                let code = ResponseCode::SYSTEM_ERROR;
                return Err(Refusal::NotBuilt { what: "timer messages", code });
            }
            property::HALF_MESSAGE if value.eq_ignore_ascii_case("true") => {
                return Err(transactional());
            }
            _ => scan.foreign |= BROKER_OWNED.contains(&name),
        }
    }
    Ok(scan)
}

/// The refusal of a transactional message: RocketMQ's answer with `rejectTransactionMessage`.
pub(crate) fn transactional() -> Refusal {
    Refusal::NotBuilt { what: "transactional messages", code: ResponseCode::NO_PERMISSION }
}

/// The refusal of a message with a delay level.
pub(crate) fn delayed() -> Refusal {
    Refusal::NotBuilt { what: "messages with a delay level", code: ResponseCode::MESSAGE_ILLEGAL }
}

impl Scan<'_> {
    /// The client's text without what must not be stored: borrowed, unless something has to go.
    pub(crate) fn kept<'a>(&self, properties: &'a str) -> Cow<'a, str> {
        match (self.foreign, self.delayed) {
            (false, false) => Cow::Borrowed(properties),
            (_, delayed) => {
                let [region, trace, cluster, handle, seal] = BROKER_OWNED;
                // A delay survives to here on a retry only, which is due at once, see `retry`.
                let delay = if delayed { property::DELAY } else { handle };
                property::without(properties, &[region, trace, cluster, handle, seal, delay])
            }
        }
    }
}

/// What closes the client's text if it left its last pair open.
pub(crate) fn separator(properties: &str) -> &'static str {
    if properties.is_empty() || properties.ends_with(property::PAIR_END) { "" } else { "\u{2}" }
}

/// The pairs that every stored message carries.
pub(crate) fn stamps(region: &str, trace_on: bool, cluster: &str) -> String {
    let mut stamps = String::new();
    property::push(&mut stamps, property::MSG_REGION, region);
    property::push(&mut stamps, property::TRACE_ON, if trace_on { "true" } else { "false" });
    property::push(&mut stamps, property::CLUSTER, cluster);
    stamps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pairs: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (name, value) in pairs {
            property::push(&mut text, name, value);
        }
        text
    }

    #[test]
    fn ordinary_properties_are_kept_as_they_are() {
        let properties =
            text(&[("KEYS", "k"), ("UNIQ_KEY", "ID"), ("WAIT", "false"), ("DELAY", "0")]);
        let scan = scan(&properties).unwrap();
        assert_eq!(scan.unique_id, Some("ID"));
        assert!(!scan.wait);
        assert!(!scan.delayed);
        assert!(matches!(scan.kept(&properties), Cow::Borrowed(kept) if kept == properties));
    }

    #[test]
    fn what_the_broker_sets_is_not_taken_from_clients() {
        let properties =
            text(&[("a", "1"), ("CLUSTER", "x"), ("POP_CK", "y"), ("DELAY", "3"), ("b", "2")]);
        let scan = scan(&properties).unwrap();
        assert!(scan.delayed);
        assert_eq!(scan.kept(&properties), text(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn messages_that_need_what_is_missing_are_refused() {
        for (name, code) in [("TIMER_DELAY_SEC", 1), ("TIMER_DELIVER_MS", 1), ("TIMER_DELAY_MS", 1)]
        {
            assert_eq!(scan(&text(&[(name, "5")])).unwrap_err().code().0, code);
        }
        assert_eq!(scan(&text(&[("TRAN_MSG", "true")])).unwrap_err().code().0, 16);
        assert!(scan(&text(&[("TRAN_MSG", "false")])).is_ok());
    }

    #[test]
    fn an_open_last_pair_is_closed() {
        assert_eq!(separator("a\u{1}1"), "\u{2}");
        assert_eq!(separator("a\u{1}1\u{2}"), "");
        assert_eq!(separator(""), "");
    }
}
