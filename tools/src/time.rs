//! Times as people write and read them.

use std::{str::FromStr, time::Duration};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use protocol::clock::Clock;
use thiserror::Error;

/// A text that is no time.
#[derive(Debug, Error)]
#[error(
    "{text:?} is no time; write @UNIX_MS, 10m (ten minutes ago), 2026-11-23, 2026-11-23T10:00 or \
     2026-11-23T10:00:00Z"
)]
pub(crate) struct ParseError {
    text: String,
}

/// A point in time, in Unix milliseconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Moment(pub(crate) i64);

impl FromStr for Moment {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        parse(text, Clock::system().now_ms(), &TimeZone::system())
            .map(Self)
            .ok_or_else(|| ParseError { text: text.to_owned() })
    }
}

/// Times without a zone are those of `zone`; durations count back from `now_ms`.
fn parse(text: &str, now_ms: i64, zone: &TimeZone) -> Option<i64> {
    if let Some(ms) = text.strip_prefix('@') {
        return ms.parse().ok();
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time.as_millisecond());
    }
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return zone
            .to_ambiguous_zoned_datetime(time)
            .compatible()
            .ok()
            .map(|time| time.timestamp().as_millisecond());
    }
    let ago = text.trim_start_matches('-').parse::<SignedDuration>().ok()?;
    now_ms.checked_sub(i64::try_from(ago.as_millis()).ok()?)
}

/// A length of time such as `500ms`, `3s` or `1m30s`, longer than nothing.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time; write 500ms, 3s or 1m30s");
    let parsed: SignedDuration = text.parse().map_err(|_| wrong())?;
    let duration = Duration::try_from(parsed).map_err(|_| wrong())?;
    if duration.is_zero() { Err(wrong()) } else { Ok(duration) }
}

/// Date and time of this machine's zone with milliseconds; `-` for a time that is not known.
pub(crate) fn stamp(ms: i64) -> String {
    show(ms, "%Y-%m-%d %H:%M:%S%.3f")
}

/// As [`stamp`] without the date.
pub(crate) fn clock_time(ms: i64) -> String {
    show(ms, "%H:%M:%S%.3f")
}

fn show(ms: i64, format: &str) -> String {
    match Timestamp::from_millisecond(ms) {
        Ok(time) if ms > 0 => {
            time.to_zoned_datetime(TimeZone::system()).strftime(format).to_string()
        }
        _ => "-".to_owned(),
    }
}

/// A length of time in its two largest units.
pub(crate) fn length(ms: i64) -> String {
    let ms = ms.max(0);
    let seconds = ms / 1000;
    match seconds {
        ..10 => format!("{}.{} s", seconds, ms % 1000 / 100),
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_795_428_000_000;

    fn parsed(text: &str) -> Option<i64> {
        parse(text, NOW_MS, &TimeZone::fixed(jiff::tz::offset(2)))
    }

    #[test]
    fn times_are_absolute_or_counted_back_from_now() {
        assert_eq!(parsed("@1795428000001"), Some(1_795_428_000_001));
        assert_eq!(parsed("10m"), Some(NOW_MS - 600_000));
        assert_eq!(parsed("-2h30m"), Some(NOW_MS - 9_000_000));
        assert_eq!(parsed("2026-11-23T10:00:00Z"), Some(1_795_428_000_000));
        assert_eq!(parsed("2026-11-23T12:00"), Some(1_795_428_000_000));
        assert_eq!(parsed("2026-11-23"), Some(1_795_384_800_000));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "@", "@x", "yesterday", "10", "2026-13-01"] {
            assert_eq!(parsed(text), None, "{text:?}");
        }
        assert!("soon".parse::<Moment>().unwrap_err().to_string().contains("\"soon\""));
    }

    #[test]
    fn lengths_of_time_are_positive() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("0s").is_err() && duration("-3s").is_err() && duration("x").is_err());
    }

    #[test]
    fn lengths_of_time_have_two_units() {
        assert_eq!(length(4_120), "4.1 s");
        assert_eq!(length(75_000), "1 min 15 s");
        assert_eq!(length(90_000_000), "1 d 1 h");
        assert_eq!(length(-5), "0.0 s");
    }
}
