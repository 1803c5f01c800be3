//! The client against a name server and brokers in the same process, over real sockets: one file per
//! behaviour. One program, because each would link the brokers' store again.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod common;

mod admin;
mod batch;
mod broadcasting;
mod failover;
mod find;
mod flow_control;
mod notices;
mod oneway;
mod rebalance;
mod refusals;
mod resume;
mod run;
mod send_and_consume;
mod start;
mod tag_filter;
mod unreachable;
