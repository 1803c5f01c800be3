//! Headers of requests and replies, one file per family. Fields that some client generation
//! leaves out have defaults, as RocketMQ treats them; wire names are RocketMQ's, misspelt ones
//! included.

pub mod admin;
pub mod group;
pub mod ha;
pub mod heartbeat;
pub mod kv;
pub mod offset;
pub mod pull;
pub mod query;
pub mod register;
pub mod route;
pub mod send;
pub mod topic;
