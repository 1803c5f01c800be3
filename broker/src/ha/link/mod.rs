//! Sockets of replication. A master's sessions are tasks beside those of its clients: between what a
//! producer sends and its answer, no other thread has to wake up. A slave blocks, in its own threads.

mod hub;
mod master;
mod send;
mod slave;
mod wire;

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::frame::{self, Frame, FrameError};

pub(crate) use master::MasterLink;
pub(crate) use slave::SlaveLink;

/// The greeting must be over after this.
pub(super) const GREETING_MAX: Duration = Duration::from_secs(5);
/// Whoever waits looks at the time at least this often.
pub(super) const TICK: Duration = Duration::from_millis(500);
/// A peer that takes nothing for so long is gone.
const WRITE_MAX: Duration = Duration::from_secs(20);
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The peer has closed it.
    #[error("the peer has closed the connection")]
    Closed,
    /// The greeting did not come.
    #[error("no greeting within {} s", GREETING_MAX.as_secs())]
    Late,
    /// It does not read.
    #[error("the peer takes nothing for {} s", WRITE_MAX.as_secs())]
    Stalled,
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The operating system's reason.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Milliseconds since replication began; goes on when the wall clock jumps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now_ms(self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// A master's frames as its slave reads them, one by one.
pub(super) struct Frames {
    stream: TcpStream,
    buffer: BytesMut,
    chunk: Vec<u8>,
    max: usize,
}

impl Frames {
    /// Of a master that is not known yet.
    pub(super) fn new(stream: TcpStream) -> Result<Self, LinkError> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_MAX))?;
        let max = frame::GREETING_MAX_BYTES;
        Ok(Self { stream, buffer: BytesMut::new(), chunk: vec![0; READ_BYTES], max })
    }

    /// The first frame.
    pub(super) fn greeting(&mut self) -> Result<Frame, LinkError> {
        let deadline = Instant::now() + GREETING_MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LinkError::Late);
            }
            self.stream.set_read_timeout(Some(left))?;
            if let Some(frame) = self.next()? {
                return Ok(frame);
            }
        }
    }

    /// The master is known: larger frames, and a look at the time now and then.
    pub(super) fn welcomed(&mut self) -> Result<(), LinkError> {
        self.max = frame::MESSAGE_MAX_BYTES;
        Ok(self.stream.set_read_timeout(Some(TICK))?)
    }

    /// A frame that is here already.
    pub(super) fn buffered(&mut self) -> Result<Option<Frame>, LinkError> {
        Ok(frame::take(&mut self.buffer, self.max)?)
    }

    /// The next frame; `None` when none was complete in time.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, LinkError> {
        if let Some(frame) = self.buffered()? {
            return Ok(Some(frame));
        }
        match self.stream.read(&mut self.chunk) {
            Ok(0) => Err(LinkError::Closed),
            Ok(len) => {
                self.buffer.extend_from_slice(self.chunk.get(..len).unwrap_or_default());
                self.buffered()
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(None),
                _ => Err(error.into()),
            },
        }
    }
}

/// Writes frames.
pub(super) fn send(stream: &mut TcpStream, frames: &[Frame]) -> Result<(), LinkError> {
    if frames.is_empty() {
        return Ok(());
    }
    Ok(stream.write_all(&encoded(frames))?)
}

/// Frames as they travel.
fn encoded(frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode_into(&mut bytes));
    bytes
}

#[cfg(test)]
mod tests;
