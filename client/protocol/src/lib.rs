//! What two BasaltMQ processes, or a RocketMQ client and a BasaltMQ process, must agree on: frames,
//! headers, bodies, the stored record, identifiers and limits, and the connection and server loop
//! that every process runs.
//!
//! This crate knows nothing of brokers, stores or clients. Two invariants hold everywhere: a length
//! is checked before memory is allocated for it, and bytes from a peer never panic.
//!
//! Byte layouts: [`wire`].

pub mod batch;
pub mod body;
pub mod channel;
pub mod clock;
pub mod code;
pub mod compression;
pub mod connection;
mod cursor;
pub mod frame;
pub mod header;
pub mod json;
pub mod limits;
pub mod message_id;
pub mod names;
pub mod property;
pub mod record;
pub mod request;
pub mod server;
pub mod sys_flag;

#[doc = include_str!("../WIRE.md")]
pub mod wire {}
