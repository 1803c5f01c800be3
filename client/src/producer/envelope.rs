//! A message, or a batch of them, ready to be sent: checked, encoded, compressed.

use bytes::{Bytes, BytesMut};
use protocol::{batch, code::RequestCode, compression, limits::BODY_MAX_BYTES, names, sys_flag};

use super::Shared;
use crate::{
    error::Error,
    message::{Fault, Message},
};

/// Compressing a body of this size takes a millisecond or more, which other tasks must not wait
/// for.
const COMPRESS_ELSEWHERE_BYTES: usize = 128 * 1024;

/// What is sent, the same for every try.
#[derive(Debug)]
pub(super) struct Envelope {
    topic: String,
    ids: Vec<String>,
    sharding: Option<String>,
    properties: String,
    body: Bytes,
    sys_flag: i32,
    flag: i32,
    born_timestamp_ms: i64,
    batch: bool,
}

impl Envelope {
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// The messages' unique ids.
    pub(super) fn ids(&self) -> &[String] {
        &self.ids
    }

    pub(super) fn sharding(&self) -> Option<&str> {
        self.sharding.as_deref()
    }

    pub(super) fn properties(&self) -> &str {
        &self.properties
    }

    pub(super) fn body(&self) -> Bytes {
        self.body.clone()
    }

    pub(super) fn sys_flag(&self) -> i32 {
        self.sys_flag
    }

    pub(super) fn flag(&self) -> i32 {
        self.flag
    }

    pub(super) fn born_timestamp_ms(&self) -> i64 {
        self.born_timestamp_ms
    }

    pub(super) fn is_batch(&self) -> bool {
        self.batch
    }

    pub(super) fn code(&self) -> RequestCode {
        if self.batch { RequestCode::SendBatchMessage } else { RequestCode::SendMessageV2 }
    }
}

impl Shared {
    pub(super) async fn wrap(&self, message: Message) -> Result<Envelope, Error> {
        names::check_topic(message.topic())?;
        let id = self.core.ids.make().to_string();
        let properties =
            message.encode_properties(&id).map_err(|fault| refuse(message.topic(), fault))?;
        let compressed = self.compress(message.body()).await;
        let sys_flag = match compressed {
            Some(_) => sys_flag::COMPRESSED | sys_flag::COMPRESSION_ZLIB,
            None => 0,
        };
        Ok(Envelope {
            topic: message.topic().to_owned(),
            ids: vec![id],
            sharding: message.sharding().map(str::to_owned),
            properties,
            body: compressed.unwrap_or_else(|| message.body().clone()),
            sys_flag,
            flag: message.flag_bits(),
            born_timestamp_ms: self.core.now_ms(),
            batch: false,
        })
    }

    pub(super) fn wrap_batch(&self, messages: &[Message]) -> Result<Envelope, Error> {
        let Some(first) = messages.first() else {
            return Err(refuse("", Fault::EmptyBatch));
        };
        let topic = first.topic();
        names::check_topic(topic)?;
        let differ = |same: fn(&Message, &Message) -> bool| {
            messages.iter().any(|message| !same(first, message))
        };
        let mixed = [
            ("topics", differ(|a, b| a.topic() == b.topic())),
            ("sharding keys", differ(|a, b| a.sharding() == b.sharding())),
            ("wait_for_store", differ(|a, b| a.waits_for_store() == b.waits_for_store())),
        ];
        if let Some((what, _)) = mixed.into_iter().find(|(_, mixed)| *mixed) {
            return Err(refuse(topic, Fault::Mixed { what }));
        }
        let (ids, body) = self.encode_batch(messages).map_err(|fault| refuse(topic, fault))?;
        Ok(Envelope {
            topic: topic.to_owned(),
            ids,
            sharding: first.sharding().map(str::to_owned),
            properties: first.shared_properties(),
            body,
            sys_flag: 0,
            flag: 0,
            born_timestamp_ms: self.core.now_ms(),
            batch: true,
        })
    }

    fn encode_batch(&self, messages: &[Message]) -> Result<(Vec<String>, Bytes), Fault> {
        let mut ids = Vec::with_capacity(messages.len());
        let mut body = BytesMut::new();
        for message in messages {
            let id = self.core.ids.make().to_string();
            let properties = message.encode_properties(&id)?;
            let flag = message.flag_bits();
            batch::Message { flag, body: message.body(), properties: &properties }
                .encode(&mut body)
                .map_err(|error| Fault::Batch { reason: error.to_string() })?;
            if body.len() > BODY_MAX_BYTES {
                return Err(Fault::TooLarge { bytes: body.len(), max: BODY_MAX_BYTES });
            }
            ids.push(id);
        }
        Ok((ids, body.freeze()))
    }

    /// The compressed body, if it is long enough and gets smaller.
    async fn compress(&self, body: &Bytes) -> Option<Bytes> {
        if body.len() <= self.settings.compress_above_bytes {
            return None;
        }
        let compressed = if body.len() < COMPRESS_ELSEWHERE_BYTES {
            compression::compress_zlib(body)
        } else {
            let body = body.clone();
            // Only a runtime that ends gives no answer; the message then goes as it is.
            tokio::task::spawn_blocking(move || compression::compress_zlib(&body)).await.ok()?
        };
        (compressed.len() < body.len()).then(|| compressed.into())
    }
}

fn refuse(topic: &str, fault: Fault) -> Error {
    Error::Message { topic: topic.to_owned(), fault }
}
