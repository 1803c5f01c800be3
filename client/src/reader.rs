//! Reading one queue without a group.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    code::RequestCode,
    request::offset::{Offset, Queue as QueueHeader, Search},
};

use crate::{
    core::{Core, header},
    error::Error,
    pull::{Ask, Outcome},
    queue::Queue,
    stored::StoredMessage,
};

/// The group that tools pull under; every broker knows it.
///
/// # Source: `MixAll.TOOLS_CONSUMER_GROUP`
pub(crate) const TOOLS_GROUP: &str = "TOOLS_CONSUMER";

/// Reads a queue at offsets of the caller's choice. No group is created, nobody's offset moves.
#[derive(Clone, Debug)]
pub struct Reader {
    core: Arc<Core>,
    queue: Queue,
}

/// What one read brought.
#[derive(Debug)]
pub struct Page {
    /// The messages, in order; none at the end of the queue.
    pub messages: Vec<StoredMessage>,
    /// Where to read next.
    pub next: i64,
    /// The queue's first offset.
    pub min: i64,
    /// The offset after the queue's last message.
    pub max: i64,
}

impl Reader {
    pub(crate) fn new(core: Arc<Core>, queue: Queue) -> Self {
        Self { core, queue }
    }

    /// The queue.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The offset of the first message that the broker still has.
    ///
    /// # Errors
    ///
    /// When the topic has no such queue or its broker does not answer.
    pub async fn min(&self) -> Result<i64, Error> {
        self.core.queue_offset(&self.queue, RequestCode::GetMinOffset).await
    }

    /// The offset after the last message.
    ///
    /// # Errors
    ///
    /// As [`Reader::min`].
    pub async fn max(&self) -> Result<i64, Error> {
        self.core.max_offset(&self.queue).await
    }

    /// The offset of the first message stored at or after `ms`, in Unix milliseconds.
    ///
    /// # Errors
    ///
    /// As [`Reader::min`].
    pub async fn offset_at_time(&self, ms: i64) -> Result<i64, Error> {
        self.core.offset_at_time(&self.queue, ms).await
    }

    /// Reads up to `max` messages from the offset `from` on; brokers may give fewer. Outside of
    /// the queue nothing is read, and [`Page::next`] is the nearest offset inside.
    ///
    /// # Errors
    ///
    /// As [`Reader::min`].
    pub async fn read(&self, from: i64, max: usize) -> Result<Page, Error> {
        self.page(from, max, None).await
    }

    /// As [`Reader::read`], but at the end of the queue the broker waits up to `wait` for a
    /// message.
    ///
    /// # Cancel safety
    ///
    /// May be dropped.
    ///
    /// # Errors
    ///
    /// As [`Reader::min`].
    pub async fn read_or_wait(&self, from: i64, max: usize, wait: Duration) -> Result<Page, Error> {
        self.page(from, max, Some(wait)).await
    }

    async fn page(&self, from: i64, max: usize, hold: Option<Duration>) -> Result<Page, Error> {
        let route = self.core.route(self.queue.topic()).await?;
        let (address, _) = route.reader(&self.queue, 0)?;
        let ask = Ask {
            group: TOOLS_GROUP,
            queue: &self.queue,
            from,
            max_messages: i32::try_from(max).unwrap_or(i32::MAX),
            subscription: ("*", 0),
            commit: None,
            hold,
        };
        let answer = self.core.pull(address, ask).await?;
        let messages = match answer.outcome {
            Outcome::Found(messages) => messages,
            Outcome::Nothing | Outcome::Filtered | Outcome::Moved => Vec::new(),
        };
        Ok(Page { messages, next: answer.next, min: answer.min, max: answer.max })
    }
}

impl Core {
    pub(crate) async fn max_offset(&self, queue: &Queue) -> Result<i64, Error> {
        self.queue_offset(queue, RequestCode::GetMaxOffset).await
    }

    async fn queue_offset(&self, queue: &Queue, code: RequestCode) -> Result<i64, Error> {
        let request = QueueHeader { topic: queue.topic(), queue_id: queue.id() };
        self.ask_offset(queue, code, &request).await
    }

    pub(crate) async fn offset_at_time(&self, queue: &Queue, ms: i64) -> Result<i64, Error> {
        let request = Search {
            topic: queue.topic(),
            queue_id: queue.id(),
            timestamp: ms,
            boundary: Some("LOWER"),
        };
        self.ask_offset(queue, RequestCode::SearchOffsetByTimestamp, &request).await
    }

    async fn ask_offset(
        &self,
        queue: &Queue,
        code: RequestCode,
        request: &(impl protocol::header::Encode + ?Sized),
    ) -> Result<i64, Error> {
        let route = self.route(queue.topic()).await?;
        let (address, _) = route.reader(queue, 0)?;
        let frame = self.call(address, code, request, Bytes::new()).await?;
        Ok(header(Offset::decode(&frame.fields), address, code)?.offset)
    }
}
