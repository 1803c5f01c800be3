//! The store from outside: each module is one kind of behaviour.

mod append;
mod common;
mod crash;
mod damage;
mod keys;
mod model;
mod read;
mod state;
