//! Changes of topics and groups on their way to the index writer, which decides them one after the
//! other.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::oneshot;

use crate::{GroupConfig, StateError, Topic, TopicConfig, retention::forget::Forget};

/// Most changes that wait at a time.
const WAITING_MAX: usize = 4096;

/// Where the answer to a command goes; nobody may be waiting any more.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StateError>>;

/// One change.
#[derive(Debug)]
pub(crate) enum Command {
    PutTopic(TopicConfig, Reply<Arc<Topic>>),
    DeleteTopic(String, Reply<()>),
    PutGroup(GroupConfig, Reply<Arc<GroupConfig>>),
    DeleteGroup {
        name: String,
        clean_offsets: bool,
        reply: Reply<()>,
    },
    Forget(Forget, Reply<()>),
    /// Write a checkpoint.
    Settle(Reply<()>),
}

/// A bounded queue.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    waiting: Mutex<VecDeque<Command>>,
}

impl Commands {
    /// # Errors
    /// [`StateError::Busy`].
    pub(crate) fn push(&self, command: Command) -> Result<(), StateError> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = waiting.len();
        if pending >= WAITING_MAX {
            return Err(StateError::Busy { pending });
        }
        waiting.push_back(command);
        Ok(())
    }

    pub(crate) fn take(&self) -> VecDeque<Command> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
