//! A name server on a real socket, spoken to in raw frames as foreign clients and brokers make
//! them. One module per behaviour.

#![cfg(test)]

mod admin;
mod failover;
mod hostile;
mod kv;
mod lenient;
mod liveness;
mod peer;
mod process;
mod registration;
