//! The bits of a message's system flag (`sysFlag`), as stored in the record and sent in headers.
//!
//! # Source: `MessageSysFlag`

/// The body is compressed.
pub const COMPRESSED: i32 = 0x1;
/// The message has several tags; kept for old clients, nothing depends on it.
pub const MULTI_TAGS: i32 = 0x2;
/// Mask of the transaction state.
pub const TRANSACTION_MASK: i32 = 0xC;
/// Transaction state: half message.
pub const TRANSACTION_PREPARED: i32 = 0x4;
/// Transaction state: committed.
pub const TRANSACTION_COMMIT: i32 = 0x8;
/// Transaction state: rolled back.
pub const TRANSACTION_ROLLBACK: i32 = 0xC;
/// The born host is an IPv6 address.
pub const BORN_HOST_V6: i32 = 0x10;
/// The store host is an IPv6 address.
pub const STORE_HOST_V6: i32 = 0x20;
/// The dispatcher must split the record.
pub const NEED_UNWRAP: i32 = 0x40;
/// The record holds a whole batch.
pub const INNER_BATCH: i32 = 0x80;
/// Mask of the compression type; see [`crate::compression`].
pub const COMPRESSION_MASK: i32 = 0x700;
/// Compression type: LZ4 frame.
pub const COMPRESSION_LZ4: i32 = 0x100;
/// Compression type: Zstandard frame.
pub const COMPRESSION_ZSTD: i32 = 0x200;
/// Compression type: zlib stream. Old clients leave the type 0, which means zlib too.
pub const COMPRESSION_ZLIB: i32 = 0x300;

/// The transaction state of `sys_flag`: 0, [`TRANSACTION_PREPARED`], [`TRANSACTION_COMMIT`] or
/// [`TRANSACTION_ROLLBACK`].
#[must_use]
pub const fn transaction(sys_flag: i32) -> i32 {
    sys_flag & TRANSACTION_MASK
}
