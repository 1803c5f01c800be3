//! The `topic` family: name to incarnation and configuration.

use std::collections::BTreeMap;

use prost::Message;

use crate::{FilterType, TopicConfig, TopicId};

/// What is stored of a topic; the name is the key.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct TopicRow {
    #[prost(uint32, tag = "1")]
    pub(crate) id: u32,
    /// Records of this name before this log offset belong to an earlier incarnation.
    #[prost(uint64, tag = "2")]
    pub(crate) since_log_offset: u64,
    /// Queues that exist; grows only, so that a smaller configuration hides messages and a larger
    /// one shows them again.
    #[prost(uint32, tag = "3")]
    pub(crate) queues: u32,
    #[prost(uint32, tag = "4")]
    read_queues: u32,
    #[prost(uint32, tag = "5")]
    write_queues: u32,
    #[prost(uint32, tag = "6")]
    perm: u32,
    #[prost(bool, tag = "7")]
    multi_tag: bool,
    #[prost(sint32, tag = "8")]
    sys_flag: i32,
    #[prost(bool, tag = "9")]
    order: bool,
    #[prost(btree_map = "string, string", tag = "10")]
    attributes: BTreeMap<String, String>,
}

impl TopicRow {
    pub(crate) fn new(id: TopicId, since_log_offset: u64, queues: u32, of: &TopicConfig) -> Self {
        Self {
            id: id.0,
            since_log_offset,
            queues,
            read_queues: of.read_queues,
            write_queues: of.write_queues,
            perm: of.perm,
            multi_tag: of.filter_type == FilterType::MultiTag,
            sys_flag: of.sys_flag,
            order: of.order,
            attributes: of.attributes.clone(),
        }
    }

    pub(crate) fn into_config(self, name: String) -> TopicConfig {
        TopicConfig {
            name,
            read_queues: self.read_queues,
            write_queues: self.write_queues,
            perm: self.perm,
            filter_type: if self.multi_tag { FilterType::MultiTag } else { FilterType::SingleTag },
            sys_flag: self.sys_flag,
            order: self.order,
            attributes: self.attributes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row_survives() {
        let config = TopicConfig {
            name: "T".to_owned(),
            read_queues: 8,
            write_queues: 4,
            perm: 6,
            filter_type: FilterType::MultiTag,
            sys_flag: -1,
            order: true,
            attributes: [("message.type".to_owned(), "FIFO".to_owned())].into(),
        };
        let row = TopicRow::new(TopicId(7), 1 << 40, 8, &config);
        let read = TopicRow::decode(row.encode_to_vec().as_slice()).unwrap();
        assert_eq!((read.id, read.since_log_offset, read.queues), (7, 1 << 40, 8));
        assert_eq!(read.into_config("T".to_owned()), config);
    }
}
