//! Storage of one broker: the commit log, its index, and the state of topics, groups and
//! consumer offsets.
//!
//! [`Store`] is the door. A record is encoded into an [`AppendBatch`], appended to the mapped log,
//! and noted in the tail of its [`Queue`] and in the newest slice of the key index; one thread writes
//! full blocks and buckets, and all changes of state, to the one RocksDB. Nothing here knows a
//! socket or a request.
//!
//! Invariants, each with the module that holds it:
//!
//! * Bytes of the log never change once they are published (`commit_log::segment`).
//! * `min ≤ confirmed ≤ appended`, `flushed ≤ appended`, and all of them only grow. Nothing beyond
//!   `confirmed` is shown to anybody or written to RocksDB (`commit_log`, `read`, `writer`).
//! * One place syncs the log, and its first failure stops the store for good (`commit_log::flush`).
//! * One thread writes RocksDB (`writer`).
//! * What can be rebuilt from the log is rebuilt by the function that appending uses (`dispatch`).
//! * Nothing of the log below the durable watermark is ever removed by recovery
//!   (`commit_log::recover`).
//!
//! Every byte on disk: [`mod@format`].

mod adopt;
mod append;
pub mod bodies;
mod bug;
mod change;
mod command;
mod commit_log;
mod config;
mod core;
mod dispatch;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod group;
mod health;
mod index;
pub mod inspect;
mod keys;
mod lock;
mod num;
mod offset;
mod offsets;
mod open;
mod query;
mod queue;
mod queues;
mod read;
mod rebuild;
mod recover;
mod recovery;
pub mod replica;
mod retained;
mod retention;
mod seek;
mod space;
mod store;
mod table;
mod tail;
mod topic;
mod watermark;
mod writer;

#[doc = include_str!("../FORMAT.md")]
pub mod format {}

pub use adopt::{Concern, Migration, check as migrate_check};
pub use append::{AppendBatch, Appended};
pub use config::{Config, FlushMode};
pub use error::{AppendError, OpenError, Poison, ReadError, RetentionError, StateError};
pub use group::{GroupConfig, RetryPolicy, StaticSubscription};
pub use offset::{LogOffset, QueueOffset, TopicId};
pub use query::KeyQuery;
pub use queue::Queue;
pub use read::{Boundary, Entry, Mode, Read, ReadLimits, ReadStatus};
pub use recovery::{Cut, DamagedRange, Recovery};
pub use retention::{Deleted, Unconsumed};
pub use store::{Store, Usage};
pub use topic::{DataVersion, FilterType, Topic, TopicConfig};
