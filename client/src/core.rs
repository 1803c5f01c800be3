//! What all handles of one client share: connections, name servers, routes, groups.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    channel::Channels,
    code::{RequestCode, ResponseCode},
    connection::CallError,
    frame::Frame,
    header::{Encode, FieldError},
    message_id::UniqueIds,
};
use tokio::task::AbortHandle;

use crate::{
    callbacks::Callbacks,
    error::{Error, request_name},
    options::Settings,
    registry::Registry,
    route::Routes,
};

/// The shared part of a client.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    /// `ip@instance`, by which brokers know this client.
    pub(crate) id: Arc<str>,
    /// Makes the ids of messages.
    pub(crate) ids: UniqueIds,
    pub(crate) channels: Arc<Channels<Callbacks>>,
    pub(crate) name_servers: NameServers,
    pub(crate) routes: Routes,
    pub(crate) registry: Arc<Registry>,
    /// Set last of all by [`crate::Client::close`].
    pub(crate) closed: AtomicBool,
    /// Ended with the last handle, if [`crate::Client::close`] was not called before.
    pub(crate) tasks: Mutex<Vec<AbortHandle>>,
}

/// The name servers, and the one that answered last.
#[derive(Debug)]
pub(crate) struct NameServers {
    pub(crate) addresses: Vec<Arc<str>>,
    current: AtomicUsize,
}

impl NameServers {
    pub(crate) fn new(addresses: Vec<Arc<str>>) -> Self {
        Self { addresses, current: AtomicUsize::new(0) }
    }

    /// All of them, the one that answered last first.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &Arc<str>)> {
        let start = self.current.load(Ordering::Relaxed);
        let count = self.addresses.len();
        self.addresses.iter().enumerate().cycle().skip(start).take(count)
    }

    fn unreachable(&self, reason: String) -> Error {
        let addresses: Vec<&str> = self.addresses.iter().map(AsRef::as_ref).collect();
        Error::NameServerUnreachable { addresses: addresses.join(";"), reason }
    }
}

impl Core {
    /// Sends a request to a broker and returns its reply, whatever its code.
    pub(crate) async fn request(
        &self,
        address: &str,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
        body: Bytes,
    ) -> Result<Frame, Error> {
        self.check_open()?;
        let timeout = self.settings.request_timeout;
        match self.channels.request(address, code, header, body.clone(), timeout).await {
            // The broker restarted since the last request; asking again is harmless for all that
            // goes this way, and a new connection is made.
            Err(CallError::Closed { .. }) => {
                self.channels.request(address, code, header, body, timeout).await
            }
            outcome => outcome,
        }
        .map_err(|error| unreachable_broker(address, code, &error))
    }

    /// Sends a request to a broker and returns its reply if that is a success.
    pub(crate) async fn call(
        &self,
        address: &str,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
        body: Bytes,
    ) -> Result<Frame, Error> {
        success(self.request(address, code, header, body).await?, address, code)
    }

    /// Sends a request once, with a timeout of its own.
    pub(crate) async fn request_within(
        &self,
        timeout: Duration,
        address: &str,
        code: RequestCode,
        (header, body): (&(impl Encode + ?Sized), Bytes),
    ) -> Result<Frame, Error> {
        self.check_open()?;
        // Making the connection counts, so that a caller's budget holds.
        let whole = self.channels.request(address, code, header, body, timeout);
        match tokio::time::timeout(timeout, whole).await {
            Ok(outcome) => outcome,
            Err(_) => Err(CallError::Timeout {
                address: address.to_owned(),
                timeout_ms: timeout.as_millis(),
            }),
        }
        .map_err(|error| unreachable_broker(address, code, &error))
    }

    /// Sends a request to the first name server that answers, and returns its reply, whatever its
    /// code.
    pub(crate) async fn ask_name_server(
        &self,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
    ) -> Result<(Arc<str>, Frame), Error> {
        self.check_open()?;
        let timeout = self.settings.request_timeout;
        let mut reason = String::new();
        for (index, address) in self.name_servers.in_turn() {
            match self.channels.request(address, code, header, Bytes::new(), timeout).await {
                Ok(frame) => {
                    self.name_servers.current.store(index, Ordering::Relaxed);
                    return Ok((Arc::clone(address), frame));
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "a name server does not answer");
                    reason = error.to_string();
                }
            }
        }
        Err(self.name_servers.unreachable(reason))
    }

    /// Sends a request to a name server and returns its reply if that is a success.
    pub(crate) async fn call_name_server(
        &self,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
    ) -> Result<(Arc<str>, Frame), Error> {
        let (address, frame) = self.ask_name_server(code, header).await?;
        let frame = success(frame, &address, code)?;
        Ok((address, frame))
    }

    /// The address of this machine as name servers see it.
    pub(crate) async fn local_ip(
        channels: &Channels<Callbacks>,
        name_servers: &NameServers,
    ) -> Result<IpAddr, Error> {
        let mut reason = String::new();
        for (index, address) in name_servers.in_turn() {
            match channels.get(address).await {
                Ok(connection) => {
                    name_servers.current.store(index, Ordering::Relaxed);
                    return Ok(connection.local().ip());
                }
                Err(error) => reason = error.to_string(),
            }
        }
        Err(name_servers.unreachable(reason))
    }

    /// Sends a request that wants no reply.
    pub(crate) async fn oneway(
        &self,
        address: &str,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
        body: Bytes,
    ) -> Result<(), Error> {
        self.check_open()?;
        self.channels
            .oneway(address, code, header, body)
            .await
            .map_err(|error| unreachable_broker(address, code, &error))
    }

    /// A connection that is made after the close would never be ended.
    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.settings.clock.now_ms()
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        for task in self.tasks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
        // Without a runtime there are no connections left to end.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let channels = Arc::clone(&self.channels);
            runtime.spawn(async move { channels.close_all().await });
        }
    }
}

/// The reply if it is a success.
pub(crate) fn success(frame: Frame, address: &str, code: RequestCode) -> Result<Frame, Error> {
    if frame.response_code() == ResponseCode::SUCCESS {
        Ok(frame)
    } else {
        Err(refused(&frame, address, code))
    }
}

/// The error that a reply with another code is.
pub(crate) fn refused(frame: &Frame, address: &str, code: RequestCode) -> Error {
    Error::Refused {
        address: address.to_owned(),
        request: request_name(code),
        code: frame.response_code(),
        remark: frame.remark.clone().unwrap_or_else(|| "without a reason".to_owned()),
    }
}

/// The error that a reply is whose header or body cannot be read.
pub(crate) fn unreadable(
    address: &str,
    code: RequestCode,
) -> impl Fn(&dyn std::fmt::Display) -> Error {
    let (address, request) = (address.to_owned(), request_name(code));
    move |reason| Error::Unreadable {
        address: address.clone(),
        request,
        reason: reason.to_string(),
    }
}

/// Reads a reply's header.
pub(crate) fn header<T>(
    decoded: Result<T, FieldError>,
    address: &str,
    code: RequestCode,
) -> Result<T, Error> {
    decoded.map_err(|error| unreadable(address, code)(&error))
}

fn unreachable_broker(address: &str, code: RequestCode, error: &CallError) -> Error {
    Error::BrokerUnreachable {
        address: address.to_owned(),
        request: request_name(code),
        reason: error.to_string(),
    }
}
