//! The store from outside: each module is one kind of behaviour.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod append;
mod common;
mod crash;
mod damage;
mod keys;
mod model;
mod read;
mod rebuild;
mod replica;
mod retention;
mod scale;
mod state;
