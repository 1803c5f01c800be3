//! The broker: request handlers, the registry of clients, held pulls, queue locks and the
//! registration with name servers.
//!
//! It opens no data file, which is `storage`'s, and knows no byte layout, which is `protocol`'s.
//! Three invariants hold:
//!
//! * a send or pull that memory can serve runs to completion where it was read, without a task, a
//!   channel or a lock across an await;
//! * every request is answered, refused with a code and a sentence, or was one-way; a panic ends
//!   one request, never the process;
//! * nothing that a message asks for is dropped in silence: what is not built yet is refused.
//!
//! The ways of a message: a send from `protocol::connection` to `request` (the one match),
//! `request::send` (with `request::stamp` for properties) and `storage`'s append; a pull to
//! `request`, `request::pull`, `hold` if it finds nothing, and `storage`'s read; a key query to
//! `request`, `request::query` and `storage`'s query.

mod broker;
mod budget;
mod clients;
mod config;
mod confirm;
mod filter;
mod groups;
mod ha;
mod hold;
mod locks;
mod master;
mod progress;
mod registrar;
mod request;
mod rivals;
mod role;
mod run;
mod start;
mod state;
mod stats;
mod tell;
mod topics;

pub use broker::Broker;
pub use config::{Config, Contradiction, Hours, Layers, LoadError, Loaded, Unmapped};
pub use run::{Ended, RunError, run};
pub use start::StartError;
