//! Storage of one broker: the commit log, its index, and the state of topics, groups and
//! consumer offsets.
//!
//! Files and their bytes are described in FORMAT.md. Nothing here knows a socket.

mod append;
mod config;
mod error;
mod group;
mod offset;
mod queue;
mod store;
mod topic;

pub use append::{AppendBatch, Appended};
pub use config::{Config, FlushMode};
pub use error::{AppendError, OpenError, Poison, ReadError, StateError};
pub use group::{GroupConfig, RetryPolicy, StaticSubscription};
pub use offset::{LogOffset, QueueOffset, TopicId};
pub use queue::{Boundary, Entry, Mode, Queue, Read, ReadLimits, ReadStatus};
pub use store::{DamagedRange, KeyQuery, Store, Usage};
pub use topic::{DataVersion, FilterType, Topic, TopicConfig};
