//! The name server: brokers register with it, clients ask it which broker serves a topic.
//!
//! Name servers know nothing of each other. A broker registers with each of them and each answers
//! alone, so any of them may fail. What they hold is in memory and comes back with the brokers'
//! next registration, within 30 s; only the key-value configuration is in a file.
//!
//! | module | holds |
//! |---|---|
//! | `route_table` | the registry and its rules, without any I/O |
//! | `request` | one file per family of requests, and the one `match` over their codes |
//! | `expire` | the search for silent brokers, and what follows when one is gone |
//! | `kv` | the key-value configuration and its file |
//! | `config`, `layers`, `properties` | configuration from file, environment and flags |
//!
//! Not here: messages, offsets, groups (the broker's), and the election of masters.

mod config;
mod expire;
mod kv;
mod layers;
mod properties;
mod request;
mod route_table;
mod server;

pub use config::{Config, FILE_VARIABLE, LISTEN_VARIABLE};
pub use kv::Error as KvError;
pub use layers::Error as ConfigError;
pub use server::{NameServer, StartError};
