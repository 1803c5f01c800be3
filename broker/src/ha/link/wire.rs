//! Frames of a slave's connection, on the master's runtime.

use bytes::{Buf as _, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    time::timeout,
};

use super::{GREETING_MAX, LinkError, WRITE_MAX, encoded};
use crate::ha::frame::{self, Frame};

/// Bytes of room for what comes.
const READ_BYTES: usize = 16 << 10;

/// What a slave says.
pub(super) struct Incoming {
    stream: OwnedReadHalf,
    buffer: BytesMut,
    max: usize,
}

impl Incoming {
    /// Of a peer that is not known yet.
    pub(super) fn new(stream: OwnedReadHalf) -> Self {
        Self { stream, buffer: BytesMut::new(), max: frame::GREETING_MAX_BYTES }
    }

    /// The first frame.
    ///
    /// # Errors
    /// [`LinkError`].
    pub(super) async fn greeting(&mut self) -> Result<Frame, LinkError> {
        timeout(GREETING_MAX, self.next()).await.map_err(|_| LinkError::Late)?
    }

    /// The peer is known: larger frames.
    pub(super) fn welcomed(&mut self) {
        self.max = frame::MESSAGE_MAX_BYTES;
    }

    /// The next frame.
    ///
    /// # Errors
    /// [`LinkError`].
    ///
    /// # Cancel safety
    /// May be dropped; nothing is lost.
    pub(super) async fn next(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = frame::take(&mut self.buffer, self.max)? {
                return Ok(frame);
            }
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(LinkError::Closed);
            }
        }
    }
}

/// Writes frames.
///
/// # Errors
/// [`LinkError`]: the peer takes nothing, or is gone.
pub(super) async fn send(stream: &mut OwnedWriteHalf, frames: &[Frame]) -> Result<(), LinkError> {
    let bytes = encoded(frames);
    let mut rest = bytes.as_slice();
    while rest.has_remaining() {
        let written = timeout(WRITE_MAX, stream.write_buf(&mut rest)).await;
        written.map_err(|_| LinkError::Stalled)??;
    }
    Ok(())
}
