//! The wire: four bytes of length, four of CRC-32, and a message. Both numbers are big-endian and
//! speak of the message's bytes.

use bytes::{Buf as _, Bytes, BytesMut};
use prost::{Message, Oneof};

use super::replica::{Epoch, PendingOffset, SnapshotFile, StateDigest};

/// The only version there is. Another one is refused.
pub(crate) const VERSION: u32 = 1;
/// Largest message.
pub(crate) const MESSAGE_MAX_BYTES: usize = 2 << 20;
/// Largest message of a peer that has not been welcomed.
pub(crate) const GREETING_MAX_BYTES: usize = 256 << 10;
/// Largest part of a log, a batch or a file in one message.
pub(crate) const PART_MAX_BYTES: usize = 1 << 20;

const HEADER_BYTES: usize = 8;

/// Why received bytes are no frame. The connection is of no use any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    /// The length is out of bounds.
    #[error("a frame of {bytes} bytes, at most {max} are allowed; is the peer a broker's HA port?")]
    Length {
        /// What the header says.
        bytes: u32,
        /// What would be accepted.
        max: usize,
    },
    /// The checksum differs.
    #[error("a frame's checksum is {found:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// What the header says.
        found: u32,
        /// What the bytes have.
        computed: u32,
    },
    /// The bytes are no message.
    #[error("a frame cannot be decoded: {0}")]
    Malformed(String),
}

/// One message with its place in the session. Epoch and number are 0 until a slave is welcomed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Frame {
    /// The master's epoch.
    #[prost(uint64, tag = "1")]
    pub(crate) epoch: u64,
    /// Counts from 1 in each direction.
    #[prost(uint64, tag = "2")]
    pub(crate) number: u64,
    /// What is said.
    #[prost(oneof = "Body", tags = "3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16")]
    pub(crate) body: Option<Body>,
}

/// What a frame says.
#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Body {
    /// A slave's first frame.
    #[prost(message, tag = "3")]
    Hello(Hello),
    /// The master's answer.
    #[prost(message, tag = "4")]
    Welcome(Welcome),
    /// The other answer.
    #[prost(message, tag = "5")]
    Refuse(Refuse),
    /// Bytes of the log.
    #[prost(message, tag = "6")]
    Log(LogBytes),
    /// Changes of the index.
    #[prost(message, tag = "7")]
    Delta(WalDelta),
    /// The master shows the log up to here.
    #[prost(uint64, tag = "8")]
    Confirm(u64),
    /// The master's rows at the sequence number that the stream has reached.
    #[prost(message, tag = "9")]
    State(StateAt),
    /// The master's log in a range that was sent.
    #[prost(message, tag = "10")]
    LogDigest(LogDigest),
    /// A snapshot follows.
    #[prost(message, tag = "11")]
    SnapshotBegin(SnapshotBegin),
    /// Bytes of one of its files.
    #[prost(message, tag = "12")]
    SnapshotBytes(SnapshotBytes),
    /// That was all of it.
    #[prost(message, tag = "13")]
    SnapshotEnd(Nothing),
    /// The master is alive, and its log ends here; every second.
    #[prost(uint64, tag = "14")]
    Heartbeat(u64),
    /// What a slave has; every second at least.
    #[prost(message, tag = "15")]
    Ack(Ack),
    /// Consumer offsets that were committed on a slave.
    #[prost(message, tag = "16")]
    Offsets(Offsets),
}

/// No contents.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Nothing {}

/// Who a slave is and what it has.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Hello {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(string, tag = "2")]
    pub(crate) cluster: String,
    #[prost(string, tag = "3")]
    pub(crate) broker_name: String,
    #[prost(uint64, tag = "4")]
    pub(crate) broker_id: u64,
    /// 0 if it never had a master.
    #[prost(uint64, tag = "5")]
    pub(crate) store_id: u64,
    /// Newest epoch it has heard of.
    #[prost(uint64, tag = "6")]
    pub(crate) seen_epoch: u64,
    #[prost(message, repeated, tag = "7")]
    pub(crate) epochs: Vec<Epoch>,
    #[prost(uint64, tag = "8")]
    pub(crate) log_min: u64,
    /// Where the next bytes of the log must begin.
    #[prost(uint64, tag = "9")]
    pub(crate) received: u64,
    #[prost(uint64, tag = "10")]
    pub(crate) sequence: u64,
    /// End of the log that its index speaks of; told for people who read a dump.
    #[prost(uint64, tag = "11")]
    pub(crate) index_end: u64,
    #[prost(message, repeated, tag = "12")]
    pub(crate) families: Vec<FamilyId>,
    /// The last bytes of its log: from here to `tail_to`.
    #[prost(uint64, tag = "13")]
    pub(crate) tail_from: u64,
    #[prost(uint64, tag = "14")]
    pub(crate) tail_to: u64,
    #[prost(uint32, tag = "15")]
    pub(crate) tail_crc: u32,
    /// The snapshot that it has a part of, 0 without.
    #[prost(uint64, tag = "16")]
    pub(crate) snapshot_id: u64,
    #[prost(message, repeated, tag = "17")]
    pub(crate) have: Vec<FileBytes>,
    /// It has found that its data are not the master's.
    #[prost(bool, tag = "18")]
    pub(crate) diverged: bool,
}

/// A file of a snapshot, and its length.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FileBytes {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint64, tag = "2")]
    pub(crate) bytes: u64,
}

impl From<&SnapshotFile> for FileBytes {
    fn from(file: &SnapshotFile) -> Self {
        Self { name: file.name.clone(), bytes: file.bytes }
    }
}

impl From<&FileBytes> for SnapshotFile {
    fn from(file: &FileBytes) -> Self {
        Self { name: file.name.clone(), bytes: file.bytes }
    }
}

/// The rows that the log cannot tell, at a sequence number.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct StateAt {
    #[prost(uint64, tag = "1")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) rows: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) crc: u32,
}

impl From<StateDigest> for StateAt {
    fn from(digest: StateDigest) -> Self {
        let StateDigest { sequence, rows, crc } = digest;
        Self { sequence, rows, crc }
    }
}

/// A column family and its id in batches.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FamilyId {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(uint32, tag = "2")]
    pub(crate) id: u32,
}

/// Who the master is and what the slave must do. The frame has its epoch.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Welcome {
    #[prost(uint32, tag = "1")]
    pub(crate) version: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) store_id: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) leader: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) master_id: u64,
    /// Epochs that the slave does not know. Their bytes follow only when it has their rows.
    #[prost(message, repeated, tag = "5")]
    pub(crate) newer_epochs: Vec<Epoch>,
    /// What becomes of the slave's log.
    #[prost(oneof = "LogPlan", tags = "6, 7, 8")]
    pub(crate) log: Option<LogPlan>,
    /// Sequence number after which the stream begins.
    #[prost(uint64, tag = "9")]
    pub(crate) sequence: u64,
    /// A snapshot follows instead of the stream.
    #[prost(bool, tag = "10")]
    pub(crate) snapshot: bool,
    /// Acknowledgements of what is durable are waited for.
    #[prost(bool, tag = "11")]
    pub(crate) durable: bool,
}

/// What becomes of a slave's log.
#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
pub(crate) enum LogPlan {
    /// It goes on from here.
    #[prost(uint64, tag = "6")]
    Keep(u64),
    /// It is cut here, with the store closed.
    #[prost(uint64, tag = "7")]
    Cut(u64),
    /// It begins anew here, with the store closed.
    #[prost(uint64, tag = "8")]
    Restart(u64),
}

/// Why a slave is not taken.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Refuse {
    /// [`super::plan::Code`].
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
    /// The same in words.
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct LogBytes {
    #[prost(uint64, tag = "1")]
    pub(crate) offset: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) segment_base: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) segment_bytes: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) bytes: Bytes,
}

/// A batch, or a part of a large one.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WalDelta {
    #[prost(uint64, tag = "1")]
    pub(crate) first_sequence: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) last_sequence: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) needs: u64,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) batch: Bytes,
    /// Bytes of the batch that follow in the next frames.
    #[prost(uint64, tag = "5")]
    pub(crate) rest_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct LogDigest {
    #[prost(uint64, tag = "1")]
    pub(crate) from: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) to: u64,
    #[prost(uint32, tag = "3")]
    pub(crate) crc: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotBegin {
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    #[prost(uint64, tag = "2")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) needs: u64,
    #[prost(message, repeated, tag = "4")]
    pub(crate) files: Vec<FileBytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct SnapshotBytes {
    #[prost(string, tag = "1")]
    pub(crate) file: String,
    #[prost(uint64, tag = "2")]
    pub(crate) offset: u64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) bytes: Bytes,
}

/// How much a slave has.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Ack {
    /// End of the bytes that it has taken, the beginning of a record among them.
    #[prost(uint64, tag = "1")]
    pub(crate) taken: u64,
    /// End of its complete records.
    #[prost(uint64, tag = "2")]
    pub(crate) received: u64,
    /// End of what its disk has.
    #[prost(uint64, tag = "3")]
    pub(crate) durable: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) sequence: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) durable_sequence: u64,
    /// Newest epoch whose row its disk has.
    #[prost(uint64, tag = "6")]
    pub(crate) epoch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Offsets {
    #[prost(message, repeated, tag = "1")]
    pub(crate) pending: Vec<PendingOffset>,
}

impl Frame {
    /// A frame of the greeting.
    pub(crate) fn greeting(body: Body) -> Self {
        Self { epoch: 0, number: 0, body: Some(body) }
    }

    /// Appends the frame's bytes.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        self.encode_raw(out);
        let Some((header, message)) =
            out.get_mut(start..).and_then(|frame| frame.split_first_chunk_mut::<HEADER_BYTES>())
        else {
            return;
        };
        // Parts are at most half of what is allowed; a longer one fails at the receiver.
        let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let numbers = (u64::from(len) << 32) | u64::from(crc32fast::hash(message));
        *header = numbers.to_be_bytes();
    }
}

/// Takes the next frame out of what was received; `None` if it is not complete yet.
///
/// # Errors
/// The bytes are no frame: nothing that follows is one either.
pub(crate) fn take(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, FrameError> {
    let Some(&[a, b, c, d, e, f, g, h]) = buffer.first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let (bytes, found) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let len = bytes as usize;
    if len == 0 || len > max {
        return Err(FrameError::Length { bytes, max });
    }
    if buffer.len() < HEADER_BYTES + len {
        buffer.reserve(HEADER_BYTES + len - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let message = buffer.split_to(len).freeze();
    let computed = crc32fast::hash(&message);
    if computed != found {
        return Err(FrameError::Checksum { found, computed });
    }
    let frame = Frame::decode(message).map_err(|error| FrameError::Malformed(error.to_string()))?;
    if frame.body.is_none() {
        return Err(FrameError::Malformed("it says nothing this version knows".to_owned()));
    }
    Ok(Some(frame))
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
