//! A broker over real sockets: one file per behaviour, one program because each links RocksDB.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod admin;
mod cluster;
mod common;
mod ha;
mod kill;
mod limits;
mod listen;
mod membership;
mod memory;
mod offsets;
mod pull;
mod registration;
mod retry;
mod send;
mod space;
