//! How a client connects: its settings, and the list of name servers.

use std::{sync::Arc, time::Duration};

use protocol::clock::Clock;

use crate::{client::Client, error::Error};

/// Port of a name server when an address names none.
const NAME_SERVER_PORT: u16 = 9876;

/// Settings of a [`Client`] under construction; made by [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens until `connect`"]
pub struct ClientBuilder {
    pub(crate) addresses: String,
    pub(crate) instance_name: Option<String>,
    pub(crate) settings: Settings,
}

/// What [`ClientBuilder`] decides.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) request_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) route_refresh_interval: Duration,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) close_grace: Duration,
    pub(crate) clock: Clock,
}

impl ClientBuilder {
    pub(crate) fn new(addresses: impl Into<String>) -> Self {
        Self {
            addresses: addresses.into(),
            instance_name: None,
            settings: Settings {
                request_timeout: Duration::from_secs(3),
                connect_timeout: Duration::from_secs(3),
                route_refresh_interval: Duration::from_secs(30),
                heartbeat_interval: Duration::from_secs(30),
                close_grace: Duration::from_secs(5),
                clock: Clock::system(),
            },
        }
    }

    /// The part of the client id after the `@`. Members of a group must have different client
    /// ids, so a name given here must be unique on this machine. The default is unique.
    pub fn instance_name(mut self, name: impl Into<String>) -> Self {
        self.instance_name = Some(name.into());
        self
    }

    /// How long a request may take. The default is 3 s.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// How long a connection may take to establish. The default is 3 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How often the routes of topics in use are read again. The default is 30 s; they are also
    /// read when a request fails.
    pub fn route_refresh_interval(mut self, interval: Duration) -> Self {
        self.settings.route_refresh_interval = interval;
        self
    }

    /// How often brokers hear from this client. The default is 30 s; brokers forget a client
    /// after 120 s.
    pub fn heartbeat_interval(mut self, interval: Duration) -> Self {
        self.settings.heartbeat_interval = interval;
        self
    }

    /// How long closing waits for deliveries that are still being worked on. The default is 5 s.
    pub fn close_grace(mut self, grace: Duration) -> Self {
        self.settings.close_grace = grace;
        self
    }

    /// The clock that born timestamps come from. The default is the system's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Connects to a name server.
    ///
    /// # Errors
    ///
    /// [`Error::Address`] or [`Error::Setting`] for what can never work,
    /// [`Error::NameServerUnreachable`] when no name server of the list accepts a connection.
    pub async fn connect(self) -> Result<Client, Error> {
        Client::open(self).await
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let settings = &self.settings;
        let durations = [
            ("request_timeout", settings.request_timeout),
            ("connect_timeout", settings.connect_timeout),
            ("route_refresh_interval", settings.route_refresh_interval),
            ("heartbeat_interval", settings.heartbeat_interval),
        ];
        if let Some((setting, value)) = durations.iter().find(|(_, value)| value.is_zero()) {
            return Err(Error::Setting {
                setting,
                value: format!("{value:?}"),
                rule: "it must be longer than zero",
            });
        }
        match &self.instance_name {
            Some(name) if name.is_empty() || name.contains(['@', ' ']) => Err(Error::Setting {
                setting: "instance_name",
                value: format!("{name:?}"),
                rule: "it must have a character and neither '@' nor a space",
            }),
            _ => Ok(()),
        }
    }
}

/// Splits a list of name servers at `;` and `,`, and adds the usual port where none is given.
pub(crate) fn parse_addresses(list: &str) -> Result<Vec<Arc<str>>, Error> {
    let addresses: Vec<Arc<str>> = list
        .split([';', ','])
        .map(str::trim)
        .filter(|address| !address.is_empty())
        .map(with_port)
        .collect::<Result<_, _>>()?;
    if addresses.is_empty() {
        return Err(Error::Address { address: list.to_owned() });
    }
    Ok(addresses)
}

fn with_port(address: &str) -> Result<Arc<str>, Error> {
    let malformed = || Error::Address { address: address.to_owned() };
    if address.contains(char::is_whitespace) || address.contains('/') {
        return Err(malformed());
    }
    // What follows the last colon is a port, unless it belongs to a bare IPv6 address.
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    if host.is_empty() || port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return Err(malformed());
    }
    Ok(match port {
        Some(_) => address.into(),
        None if host.contains(':') && !host.starts_with('[') => {
            format!("[{host}]:{NAME_SERVER_PORT}").into()
        }
        None => format!("{host}:{NAME_SERVER_PORT}").into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(list: &str) -> Vec<String> {
        parse_addresses(list).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn name_servers_are_separated_by_semicolon_or_comma() {
        assert_eq!(parsed("10.0.0.1:9876;10.0.0.2:9877"), ["10.0.0.1:9876", "10.0.0.2:9877"]);
        assert_eq!(parsed("10.0.0.1:9876, ns-b:9876 ;"), ["10.0.0.1:9876", "ns-b:9876"]);
    }

    #[test]
    fn the_usual_port_is_added() {
        assert_eq!(parsed("localhost"), ["localhost:9876"]);
        assert_eq!(parsed("::1"), ["[::1]:9876"]);
        assert_eq!(parsed("[::1];[::1]:1"), ["[::1]:9876", "[::1]:1"]);
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for list in ["", " ; ", "host:port", "http://host:9876", ":9876", "a b:1"] {
            assert!(matches!(parse_addresses(list), Err(Error::Address { .. })), "{list:?}");
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        assert!(ClientBuilder::new("a").check().is_ok());
        assert!(ClientBuilder::new("a").request_timeout(Duration::ZERO).check().is_err());
        assert!(ClientBuilder::new("a").instance_name("a@b").check().is_err());
    }
}
