//! Every cap of the protocol in one place: what a peer may send us, and what we may send a peer.
//!
//! Lengths are bytes of UTF-8 unless the name says otherwise. The values are RocketMQ's where
//! RocketMQ has one; the rest bound memory that a peer could otherwise make us allocate.

/// Largest frame, its four bytes of length included.
///
/// # Source: `com.rocketmq.remoting.frameMaxLength` = 16777216
pub const FRAME_MAX_BYTES: usize = 16 * 1024 * 1024;

/// Largest frame header. The format allows 24 bits; the longest header a client makes is the id
/// list of a batch or a `topicList` of thousands of names.
pub const HEADER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Most header fields (`extFields`) of one frame; real requests carry fewer than 40.
pub const HEADER_FIELDS_MAX: usize = 1024;

/// Largest message body as it travels, that is, after compression.
///
/// # Source: `maxMessageSize` = 4194304
pub const BODY_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Largest message body after decompression; a longer one is taken for a decompression bomb.
pub const BODY_INFLATED_MAX_BYTES: usize = 32 * 1024 * 1024;

/// Largest encoded property string of one message; the record stores its length in 16 signed bits.
pub const PROPERTIES_MAX_BYTES: usize = 32_767;

/// Longest topic name that a user may choose.
pub const TOPIC_MAX_BYTES: usize = 127;

/// Longest topic name with a `%RETRY%` or `%DLQ%` prefix.
pub const TOPIC_INTERNAL_MAX_BYTES: usize = 255;

/// Longest group name.
pub const GROUP_MAX_BYTES: usize = 120;

/// Longest client id that we keep: `ip@instance@unit`.
pub const CLIENT_ID_MAX_BYTES: usize = 255;

/// Largest stored record. It must travel in a pull response, so it can never exceed a frame.
pub const RECORD_MAX_BYTES: usize = FRAME_MAX_BYTES;

/// Most messages of one client-side batch. The reply lists an id of 32 characters for each, and
/// that list has to fit into a header.
pub const BATCH_MAX_MESSAGES: usize = 65_536;

/// Most messages that one pull may ask for, whatever the client says.
pub const PULL_MAX_MESSAGES: usize = 1024;

/// Deepest nesting of a JSON body; the deepest known body has 7 levels.
pub const JSON_DEPTH_MAX: usize = 64;

/// Largest JSON body, decompressed if it was compressed: a broker with 100,000 topics registers
/// with about 20 MB.
pub const JSON_MAX_BYTES: usize = 64 * 1024 * 1024;
