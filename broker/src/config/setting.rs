//! The types that configuration values can have: how each is read from text and written back.

use std::{net::SocketAddr, path::PathBuf};

/// What a value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bounds {
    /// Anything of the type.
    Any,
    /// A number in this range, both ends included.
    Range(u64, u64),
    /// One of these words.
    Words(&'static [&'static str]),
}

impl Bounds {
    /// For people: `1 to 60`, `a | b`, or nothing.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Any => String::new(),
            Self::Range(low, high) => format!("{low} to {high}"),
            Self::Words(words) => words.join(" | "),
        }
    }
}

/// A value of the configuration.
pub(crate) trait Setting: Sized {
    /// Reads the value; the error says what would have been accepted.
    fn parse(text: &str, bounds: Bounds) -> Result<Self, String>;

    /// The value as RocketMQ's properties write it.
    fn text(&self) -> String;

    /// The value as TOML writes it.
    fn toml(&self) -> String {
        format!("{:?}", self.text())
    }
}

impl Setting for String {
    fn parse(text: &str, bounds: Bounds) -> Result<Self, String> {
        match bounds {
            Bounds::Words(words) if !words.contains(&text) => {
                Err(format!("expected one of {}", bounds.describe()))
            }
            _ => Ok(text.to_owned()),
        }
    }

    fn text(&self) -> String {
        self.clone()
    }
}

impl Setting for bool {
    fn parse(text: &str, _: Bounds) -> Result<Self, String> {
        text.parse().map_err(|_| "expected true or false".to_owned())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn toml(&self) -> String {
        self.text()
    }
}

impl Setting for u64 {
    fn parse(text: &str, bounds: Bounds) -> Result<Self, String> {
        let problem = || format!("expected a whole number, {}", bounds.describe());
        let value: Self = text.replace('_', "").parse().map_err(|_| problem())?;
        match bounds {
            Bounds::Range(low, high) if value < low || value > high => Err(problem()),
            _ => Ok(value),
        }
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn toml(&self) -> String {
        self.text()
    }
}

/// Numbers that are read as the widest one and then have to fit.
macro_rules! narrower_numbers {
    ($($number:ty),*) => {$(
        impl Setting for $number {
            fn parse(text: &str, bounds: Bounds) -> Result<Self, String> {
                let wide = u64::parse(text, bounds)?;
                Self::try_from(wide).map_err(|_| format!("expected at most {}", Self::MAX))
            }

            fn text(&self) -> String {
                self.to_string()
            }

            fn toml(&self) -> String {
                self.text()
            }
        }
    )*};
}

narrower_numbers!(u32, usize);

/// Hours of the day, as RocketMQ writes them: `04` or `04;16`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hours(pub Vec<u8>);

impl Setting for Hours {
    fn parse(text: &str, _: Bounds) -> Result<Self, String> {
        let hour = |part: &str| part.trim().parse().ok().filter(|hour| *hour < 24);
        let hours: Option<Vec<u8>> = text.split(';').map(hour).collect();
        hours
            .map(Self)
            .ok_or_else(|| "expected hours from 0 to 23, for example 04 or 04;16".to_owned())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

impl std::fmt::Display for Hours {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hours: Vec<String> = self.0.iter().map(|hour| format!("{hour:02}")).collect();
        f.write_str(&hours.join(";"))
    }
}

impl Setting for SocketAddr {
    fn parse(text: &str, _: Bounds) -> Result<Self, String> {
        text.parse().map_err(|_| "expected IP:PORT, for example 0.0.0.0:10911".to_owned())
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// Empty text is none.
impl Setting for Option<SocketAddr> {
    fn parse(text: &str, bounds: Bounds) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { SocketAddr::parse(text, bounds).map(Some) }
    }

    fn text(&self) -> String {
        self.map(|address| address.to_string()).unwrap_or_default()
    }
}

/// A host and a port; empty text is none.
impl Setting for Option<String> {
    fn parse(text: &str, _: Bounds) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        match port {
            Some(1..) => Ok(Some(text.to_owned())),
            _ => Err("expected HOST:PORT, for example 10.0.0.1:10912".to_owned()),
        }
    }

    fn text(&self) -> String {
        self.clone().unwrap_or_default()
    }
}

impl Setting for PathBuf {
    fn parse(text: &str, _: Bounds) -> Result<Self, String> {
        if text.is_empty() { Err("expected a directory".to_owned()) } else { Ok(text.into()) }
    }

    fn text(&self) -> String {
        self.display().to_string()
    }
}

/// Addresses; in one string they are separated by `;` as RocketMQ writes them, or by `,`.
impl Setting for Vec<String> {
    fn parse(text: &str, _: Bounds) -> Result<Self, String> {
        let addresses: Self = text
            .split([';', ','])
            .map(str::trim)
            .filter(|address| !address.is_empty())
            .map(str::to_owned)
            .collect();
        let port = |address: &str| address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
        match addresses.iter().find(|address| !matches!(port(address), Some(Ok(_)))) {
            Some(wrong) => Err(format!("{wrong:?} is not HOST:PORT")),
            None => Ok(addresses),
        }
    }

    fn text(&self) -> String {
        self.join(";")
    }

    fn toml(&self) -> String {
        format!("{self:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_their_bounds() {
        let bounds = Bounds::Range(10, 60);
        assert_eq!(u64::parse("10", bounds), Ok(10));
        assert_eq!(u64::parse("1_000", Bounds::Any), Ok(1_000));
        for wrong in ["9", "61", "-1", "ten", ""] {
            let error = u64::parse(wrong, bounds).unwrap_err();
            assert!(error.contains("10 to 60"), "{error}");
        }
        assert!(u32::parse("5000000000", Bounds::Any).is_err());
    }

    #[test]
    fn address_lists_come_in_both_separators() {
        let list = Vec::<String>::parse("a:1; b:2,c:3;", Bounds::Any).unwrap();
        assert_eq!(list, ["a:1", "b:2", "c:3"]);
        assert_eq!(list.text(), "a:1;b:2;c:3");
        assert!(Vec::<String>::parse("a", Bounds::Any).unwrap_err().contains("HOST:PORT"));
    }

    #[test]
    fn an_empty_address_is_none() {
        assert_eq!(Option::<SocketAddr>::parse("", Bounds::Any), Ok(None));
        assert!(Option::<SocketAddr>::parse("10912", Bounds::Any).is_err());
        assert_eq!(Option::<String>::parse("", Bounds::Any), Ok(None));
        let named = Option::<String>::parse("db-1:10912", Bounds::Any).unwrap();
        assert_eq!(named.text(), "db-1:10912");
        for wrong in ["db-1", "db-1:0", "db-1:x"] {
            let error = Option::<String>::parse(wrong, Bounds::Any).unwrap_err();
            assert!(error.contains("HOST:PORT"), "{error}");
        }
    }

    #[test]
    fn words_are_a_closed_set() {
        let bounds = Bounds::Words(&["async", "sync"]);
        assert_eq!(String::parse("sync", bounds), Ok("sync".to_owned()));
        assert!(String::parse("fast", bounds).unwrap_err().contains("async | sync"));
    }
}
