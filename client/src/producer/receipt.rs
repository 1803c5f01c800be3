//! What a broker says about a stored message.

use protocol::code::ResponseCode;

use crate::queue::Queue;

/// How safely a message is stored. All of them mean that it is stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SendStatus {
    /// As the broker is configured to store.
    Stored,
    /// The broker did not see it reach the disk in time.
    FlushDiskTimeout,
    /// No slave confirmed it in time.
    FlushSlaveTimeout,
    /// The broker has no slave to send it to.
    SlaveNotAvailable,
}

impl SendStatus {
    /// The status of a reply, if its code is one of the four that mean "stored".
    pub(super) fn of(code: ResponseCode) -> Option<Self> {
        match code {
            ResponseCode::SUCCESS => Some(Self::Stored),
            ResponseCode::FLUSH_DISK_TIMEOUT => Some(Self::FlushDiskTimeout),
            ResponseCode::FLUSH_SLAVE_TIMEOUT => Some(Self::FlushSlaveTimeout),
            ResponseCode::SLAVE_NOT_AVAILABLE => Some(Self::SlaveNotAvailable),
            _ => None,
        }
    }

    /// RocketMQ's name of the status, such as `SEND_OK`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "SEND_OK",
            Self::FlushDiskTimeout => "FLUSH_DISK_TIMEOUT",
            Self::FlushSlaveTimeout => "FLUSH_SLAVE_TIMEOUT",
            Self::SlaveNotAvailable => "SLAVE_NOT_AVAILABLE",
        }
    }
}

/// Where a message was stored.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SendReceipt {
    pub(super) status: SendStatus,
    pub(super) id: String,
    pub(super) offset_id: String,
    pub(super) queue: Queue,
    pub(super) queue_offset: i64,
}

impl SendReceipt {
    /// How safely it is stored.
    pub fn status(&self) -> SendStatus {
        self.status
    }

    /// The id that this producer gave the message; see [`crate::StoredMessage::id`].
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id that says where the message is stored; see [`crate::StoredMessage::offset_id`].
    pub fn offset_id(&self) -> &str {
        &self.offset_id
    }

    /// The queue it was stored in.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Its position in the queue, in messages from 0.
    pub fn queue_offset(&self) -> i64 {
        self.queue_offset
    }

    /// The receipt of a send of one message, which has exactly one.
    pub(super) fn only(receipts: Vec<Self>) -> Self {
        receipts.into_iter().next().expect("one message gives one receipt")
    }
}
