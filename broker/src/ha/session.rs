//! What both sides of a session share: how long a silence lasts, and that no frame is missing.

use super::{
    frame::{Body, Frame},
    replica::StoreError,
};

/// A silent side says that it is alive this often.
pub(crate) const HEARTBEAT_MS: u64 = 1_000;
/// A peer that was silent for so long is gone.
pub(crate) const SILENCE_MAX_MS: u64 = 20_000;

/// Why a session ends, as its master sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SessionEnd {
    /// The store does not give what the slave needs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What follows is not kept any more; the slave gets a snapshot when it returns.
    #[error("the changes after {sequence} are not kept any more")]
    Gone {
        /// Last change that was sent.
        sequence: u64,
    },
    /// A change speaks of log that its master lost in a power cut, and the next epoch begins before
    /// that: no log will ever be what it needs.
    #[error(
        "the change after {sequence} speaks of the log up to {needs}, which was lost from {log_start} \
         on; the slave gets a snapshot when it returns"
    )]
    Lost {
        /// Last change that was sent.
        sequence: u64,
        /// What the next one needs.
        needs: u64,
        /// Where the next epoch begins.
        log_start: u64,
    },
    /// The slave was not heard.
    #[error("the slave was silent for {silent_ms} ms")]
    Silent {
        /// For how long.
        silent_ms: u64,
    },
    /// A frame of another epoch.
    #[error("a frame of epoch {found} in a session of epoch {expected}")]
    Epoch {
        /// The session's.
        expected: u64,
        /// The frame's.
        found: u64,
    },
    /// A frame is missing, came twice or too early.
    #[error("frame {found} came in place of {expected}")]
    Number {
        /// Which one was due.
        expected: u64,
        /// Which one came.
        found: u64,
    },
    /// A frame that this side never gets, or not now.
    #[error("the slave says what it must not say now")]
    Unexpected,
}

/// Checks that frames are of one session and complete; one for each direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) epoch: u64,
    last: u64,
}

impl Count {
    /// At the beginning of a session.
    pub(crate) fn new(epoch: u64) -> Self {
        Self { epoch, last: 0 }
    }

    /// The next frame to send.
    pub(crate) fn next(&mut self, body: Body) -> Frame {
        self.last += 1;
        Frame { epoch: self.epoch, number: self.last, body: Some(body) }
    }

    /// Whether this is the next frame to receive.
    pub(crate) fn check(&mut self, frame: &Frame) -> Result<(), SessionEnd> {
        if frame.epoch != self.epoch {
            return Err(SessionEnd::Epoch { expected: self.epoch, found: frame.epoch });
        }
        let expected = self.last + 1;
        if frame.number != expected {
            return Err(SessionEnd::Number { expected, found: frame.number });
        }
        self.last = expected;
        Ok(())
    }
}
