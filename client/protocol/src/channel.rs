//! Connections that this process makes: one per address, made when first needed, replaced when
//! dead.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::{
    code::RequestCode,
    connection::{Bounds, CallError, Connection, Service, drive},
    frame::{Encoding, Frame},
    header::Encode,
};

/// Bounds of the connections made.
#[derive(Clone, Copy, Debug)]
pub struct DialOptions {
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Bounds of each connection.
    pub connection: Bounds,
}

impl Default for DialOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            connection: Bounds {
                encoding: Encoding::Binary,
                // Both sides waiting for the other to read would wait for good. What comes back
                // here is what was asked for.
                outbox_pause_bytes: usize::MAX,
                ..Default::default()
            },
        }
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Arc<Connection>>>>;

/// Live connections by address. `S` serves the requests that peers send back over them.
#[derive(Debug)]
pub struct Channels<S> {
    service: Arc<S>,
    config: DialOptions,
    slots: Mutex<HashMap<String, Slot>>,
}

impl<S: Service> Channels<S> {
    /// No connections yet.
    pub fn new(service: Arc<S>, config: DialOptions) -> Self {
        Self { service, config, slots: Mutex::default() }
    }

    /// The live connection to `address` (`host:port`), made if there is none.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    ///
    /// # Errors
    ///
    /// When no connection can be made within the configured time.
    pub async fn get(&self, address: &str) -> Result<Arc<Connection>, CallError> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            match slots.get(address) {
                Some(slot) => Arc::clone(slot),
                None => Arc::clone(slots.entry(address.to_owned()).or_default()),
            }
        };
        let mut live = slot.lock().await;
        if let Some(connection) = live.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(Arc::clone(connection));
        }
        let connection = self.connect(address).await?;
        *live = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Sends a request to `address` and waits for its reply.
    ///
    /// # Cancel safety
    ///
    /// May be dropped; a late reply is then ignored.
    ///
    /// # Errors
    ///
    /// When no connection can be made, it ends, or `timeout` passes first.
    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of a request, different at every call"
    )]
    pub async fn request(
        &self,
        address: &str,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
        body: Bytes,
        timeout: Duration,
    ) -> Result<Frame, CallError> {
        self.get(address).await?.request(code, header, body, timeout).await
    }

    /// Sends a request that wants no reply.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    ///
    /// # Errors
    ///
    /// When no connection can be made or it has ended.
    pub async fn oneway(
        &self,
        address: &str,
        code: RequestCode,
        header: &(impl Encode + ?Sized),
        body: Bytes,
    ) -> Result<(), CallError> {
        self.get(address).await?.oneway(code, header, body)
    }

    /// Ends every connection.
    pub async fn close_all(&self) {
        let slots: Vec<Slot> = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.drain().map(|(_, slot)| slot).collect()
        };
        for slot in slots {
            if let Some(connection) = slot.lock().await.take() {
                // What was handed over, a last one-way request among it, is still written.
                connection.drain();
            }
        }
    }

    async fn connect(&self, address: &str) -> Result<Arc<Connection>, CallError> {
        let fail = |reason: String| CallError::Connect { address: address.to_owned(), reason };
        let timeout = self.config.connect_timeout;
        let stream = tokio::time::timeout(timeout, TcpStream::connect(address))
            .await
            .map_err(|_| fail(format!("no answer within {} ms", timeout.as_millis())))?
            .map_err(|error| fail(error.to_string()))?;
        stream.set_nodelay(true).map_err(|error| fail(error.to_string()))?;
        let connection = Connection::new(&stream, self.config.connection)
            .map_err(|error| fail(error.to_string()))?;
        tokio::spawn(drive(Arc::clone(&connection), stream, Arc::clone(&self.service)));
        Ok(connection)
    }
}
