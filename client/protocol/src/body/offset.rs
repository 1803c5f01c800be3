//! Consumer offsets that an operator set: reply to code 222, and code 220 from broker to client.

use std::fmt::{self, Formatter};

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{MessageQueue, QueueMap};

/// New offsets by queue. This form is for every client except C++, see [`ResetOffsetList`]; both
/// forms are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetOffsets {
    /// The offset that each queue continues from, in messages.
    #[serde(deserialize_with = "table_or_list")]
    pub offset_table: QueueMap<i64>,
}

/// New offsets by queue in the form that C++ clients read.
///
/// # Source: `ResetOffsetBodyForC`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ResetOffsetList {
    /// One item per queue.
    pub offset_table: Vec<QueueOffset>,
}

/// A queue and an offset in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct QueueOffset {
    /// Broker name.
    pub broker_name: String,
    /// The offset, in messages.
    pub offset: i64,
    /// Number of the queue.
    pub queue_id: i32,
    /// Topic.
    pub topic: String,
}

impl From<&ResetOffsets> for ResetOffsetList {
    fn from(offsets: &ResetOffsets) -> Self {
        let item = |(queue, offset): (&MessageQueue, &i64)| QueueOffset {
            broker_name: queue.broker_name.clone(),
            offset: *offset,
            queue_id: queue.queue_id,
            topic: queue.topic.clone(),
        };
        Self { offset_table: offsets.offset_table.iter().map(item).collect() }
    }
}

/// Reads a map with queues as keys, or a list of pairs of queue and offset, or of [`QueueOffset`].
fn table_or_list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<QueueMap<i64>, D::Error> {
    deserializer.deserialize_any(Table)
}

struct Table;

impl<'de> Visitor<'de> for Table {
    type Value = QueueMap<i64>;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("offsets by queue")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut table = QueueMap::new();
        // Keys and values that are null or references count as absent.
        while let Some(entry) = map.next_entry()? {
            if let (Some(queue), Some(offset)) = entry {
                table.insert(queue, offset);
            }
        }
        Ok(table)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut table = QueueMap::new();
        while let Some(Item(queue, offset)) = list.next_element()? {
            table.insert(queue, offset);
        }
        Ok(table)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(QueueMap::new())
    }
}

/// One item of a list of offsets.
struct Item(MessageQueue, i64);

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("a queue and its offset")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
        let QueueOffset { broker_name, offset, queue_id, topic } =
            QueueOffset::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Item(MessageQueue { broker_name, queue_id, topic }, offset))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Item, A::Error> {
        let queue = pair.next_element()?.ok_or_else(|| Error::invalid_length(0, &self))?;
        let offset = pair.next_element()?.ok_or_else(|| Error::invalid_length(1, &self))?;
        Ok(Item(queue, offset))
    }
}
