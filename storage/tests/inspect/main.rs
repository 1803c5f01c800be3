//! Stores that are down: what is said about them, and what repairing makes of them. Each kind of
//! damage is made by hand, must be reported as exactly that, and must be gone after a repair, with
//! every other message where it was.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "shared with the tests of open stores")]
#[path = "../store/common.rs"]
mod common;

mod flips;
mod log;
mod messages;
mod rows;
mod salvaged;
mod stopped;
