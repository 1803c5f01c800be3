//! Sending: codes 10, 310 and 320, and the return of a failed message, 36.

use crate::header::header;

header! {
    /// Header of a send. Sent with the one-letter names of code 310; read with either form, so the
    /// code does not matter, as RocketMQ's clients mix them.
    pub struct Send<'a> {
        /// Group of the producer.
        pub producer_group: &'a str = "a" | "producerGroup",
        /// Topic.
        pub topic: &'a str = "b" | "topic",
        /// Template for a topic that has to be created.
        pub default_topic: Option<&'a str> = "c" | "defaultTopic",
        /// Queues of a topic that has to be created.
        pub default_topic_queues: i32 = "d" | "defaultTopicQueueNums",
        /// Queue; negative lets the broker choose.
        pub queue_id: i32 = "e" | "queueId",
        /// See [`crate::sys_flag`].
        pub sys_flag: i32 = "f" | "sysFlag",
        /// When the client made the message, Unix milliseconds.
        pub born_timestamp: i64 = "g" | "bornTimestamp",
        /// The application's own flag.
        pub flag: i32 = "h" | "flag",
        /// Encoded properties.
        pub properties: Option<&'a str> = "i" | "properties",
        /// How often consumption has failed.
        pub reconsume_times: i32 = "j" | "reconsumeTimes",
        /// Unit mode.
        pub unit_mode: bool = "k" | "unitMode",
        /// Most times consumption may fail.
        pub max_reconsume_times: Option<i32> = "l" | "maxReconsumeTimes",
        /// Whether the body is a batch.
        pub batch: bool = "m" | "batch",
        /// Broker name, as routes have it.
        pub broker_name: Option<&'a str> = "n" | "brokerName",
    }
}

header! {
    /// Reply to a send.
    pub struct Sent {
        /// Offset id; for a batch all of them, joined by commas.
        pub message_id: String = "msgId",
        /// Queue.
        pub queue_id: i32 = "queueId",
        /// Queue offset; for a batch that of the first message.
        pub queue_offset: i64 = "queueOffset",
        /// The producer's unique id.
        pub transaction_id: Option<String> = "transactionId",
        /// Region that the message was stored in.
        pub region_id: Option<String> = "MSG_REGION",
        /// Whether the message is traced.
        pub trace_on: Option<String> = "TRACE_ON",
    }
}

header! {
    /// Return of a message whose consumption failed, code 36.
    pub struct SendBack<'a> {
        /// Commit-log offset of the message.
        pub log_offset: i64 = "offset",
        /// Consumer group.
        pub group: &'a str = "group",
        /// Delay level; 0 lets the broker choose, negative means dead letter.
        pub delay_level: i32 = "delayLevel",
        /// Offset id of the message.
        pub origin_message_id: Option<&'a str> = "originMsgId",
        /// Topic of the message.
        pub origin_topic: Option<&'a str> = "originTopic",
        /// Unit mode.
        pub unit_mode: bool = "unitMode",
        /// Most times consumption may fail.
        pub max_reconsume_times: Option<i32> = "maxReconsumeTimes",
    }
}
