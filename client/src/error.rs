//! The one error of the crate. Each sentence carries the values and what to do next.

use protocol::{
    code::{RequestCode, ResponseCode},
    names::NameError,
};
use thiserror::Error;

use crate::message::Fault;

/// Why an operation failed.
///
/// [`Error::kind`] groups the variants by what a caller would do about them.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// No name server of the list could be asked.
    #[error(
        "no name server answers (tried {addresses}): {reason}; check the address, and that a name \
         server runs there"
    )]
    NameServerUnreachable {
        /// The addresses tried, separated by `;`.
        addresses: String,
        /// What went wrong with the last one.
        reason: String,
    },
    /// An address that is not `host:port`.
    #[error("{address:?} is not an address; write host:port, several separated by ';'")]
    Address {
        /// What was given.
        address: String,
    },
    /// A broker could not be asked, or did not answer in time.
    #[error(
        "broker {address} did not answer {request}: {reason}; check that it runs and that the \
         address it registered can be reached from here"
    )]
    BrokerUnreachable {
        /// The broker's address.
        address: String,
        /// What it was asked.
        request: &'static str,
        /// What went wrong with the connection.
        reason: String,
    },
    /// The route knows no such broker.
    #[error("no broker {broker:?} is registered for {topic:?}; it may be down or renamed")]
    BrokerNotFound {
        /// The broker's name.
        broker: String,
        /// The topic, or the cluster, that was looked at.
        topic: String,
    },
    /// The topic has no such queue there.
    #[error("topic {topic:?} has no readable queue {id} on {broker}; it has {queues} there")]
    QueueNotFound {
        /// The topic.
        topic: String,
        /// The broker's name.
        broker: String,
        /// The queue that was asked for.
        id: i32,
        /// How many readable queues the topic has on this broker.
        queues: usize,
    },
    /// The topic does not exist, or no live broker has it.
    #[error(
        "topic {topic:?} does not exist on any live broker; create it first, or let a producer \
         create it on brokers that allow that"
    )]
    TopicNotFound {
        /// The topic.
        topic: String,
    },
    /// The consumer group does not exist.
    #[error("consumer group {group:?} does not exist on any live broker; check its name")]
    GroupNotFound {
        /// The group.
        group: String,
    },
    /// There is no such message (any more).
    #[error("no message {what}; it may never have been stored, or its retention has passed")]
    MessageNotFound {
        /// What was looked for.
        what: String,
    },
    /// All brokers of the topic refuse writes.
    #[error("topic {topic:?} has no queue that can be written to; look at its permissions")]
    NotWritable {
        /// The topic.
        topic: String,
    },
    /// A broker or name server refused the request.
    #[error("{address} refused {request}: {code}, {remark}")]
    Refused {
        /// Who refused.
        address: String,
        /// What was asked.
        request: &'static str,
        /// The response code.
        code: ResponseCode,
        /// The server's own words.
        remark: String,
    },
    /// The message cannot be sent as it is.
    #[error("the message for topic {topic:?} cannot be sent: {fault}")]
    Message {
        /// The message's topic.
        topic: String,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A topic or group name breaks the rules.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A setting is out of bounds.
    #[error("{setting} is {value}; {rule}")]
    Setting {
        /// The setting's name.
        setting: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        rule: &'static str,
    },
    /// The group already has a consumer in this client.
    #[error(
        "group {group:?} already consumes with this client; use one consumer with several topics, \
         or a second client"
    )]
    GroupInUse {
        /// The group.
        group: String,
    },
    /// An answer does not make sense.
    #[error("{address} answered {request} with something unreadable: {reason}")]
    Unreadable {
        /// Who answered.
        address: String,
        /// What was asked.
        request: &'static str,
        /// What was wrong with the answer.
        reason: String,
    },
    /// A local offset file could not be read or written.
    #[error("offset file {path}: {reason}")]
    OffsetFile {
        /// The file.
        path: String,
        /// What went wrong.
        reason: String,
    },
    /// The client, producer or consumer was closed.
    #[error("the client is closed; connect a new one")]
    Closed,
}

/// What a caller would do about an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// What was asked for does not exist.
    NotFound,
    /// A server cannot be reached or does not answer; trying again later may help.
    Unreachable,
    /// A server answered and refused.
    Refused,
    /// The call itself is wrong: a name, a size, a setting.
    Invalid,
    /// Anything else.
    Other,
}

impl Error {
    /// What a caller would do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Self::NameServerUnreachable { .. } | Self::BrokerUnreachable { .. } => {
                Kind::Unreachable
            }
            Self::TopicNotFound { .. }
            | Self::GroupNotFound { .. }
            | Self::MessageNotFound { .. }
            | Self::QueueNotFound { .. }
            | Self::BrokerNotFound { .. } => Kind::NotFound,
            Self::Refused { .. } | Self::NotWritable { .. } => Kind::Refused,
            Self::Address { .. }
            | Self::Message { .. }
            | Self::Name(_)
            | Self::Setting { .. }
            | Self::GroupInUse { .. } => Kind::Invalid,
            Self::Unreadable { .. } | Self::OffsetFile { .. } | Self::Closed => Kind::Other,
        }
    }

    /// Whether another broker, or the same one a little later, may do what this one did not.
    ///
    /// # Source: `DefaultMQProducer.retryResponseCodes`
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NameServerUnreachable { .. } | Self::BrokerUnreachable { .. } => true,
            Self::Refused { code, .. } => RETRYABLE.contains(code),
            _ => false,
        }
    }

    /// The response code, if a server refused.
    pub fn response_code(&self) -> Option<ResponseCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

/// Codes after which a producer tries another broker. 204 and 205 are RocketMQ's buyer and unit
/// codes, which only its own brokers answer.
const RETRYABLE: [ResponseCode; 8] = [
    ResponseCode::SYSTEM_ERROR,
    ResponseCode::SYSTEM_BUSY,
    ResponseCode::SERVICE_NOT_AVAILABLE,
    ResponseCode::NO_PERMISSION,
    ResponseCode::TOPIC_NOT_EXIST,
    ResponseCode(204),
    ResponseCode(205),
    ResponseCode::GO_AWAY,
];

/// What a request is called in an error.
pub(crate) fn request_name(code: RequestCode) -> &'static str {
    match code {
        RequestCode::SendMessageV2 | RequestCode::SendMessage => "a send",
        RequestCode::SendBatchMessage => "a batch send",
        RequestCode::PullMessage => "a pull",
        RequestCode::QueryMessage => "a query by key",
        RequestCode::ViewMessageById => "a view by id",
        RequestCode::QueryConsumerOffset => "a query of the committed offset",
        RequestCode::UpdateConsumerOffset => "an offset commit",
        RequestCode::SearchOffsetByTimestamp => "a search by time",
        RequestCode::GetMaxOffset | RequestCode::GetMinOffset => "a query of a queue's bounds",
        RequestCode::HeartBeat => "a heartbeat",
        RequestCode::UnregisterClient => "the leave-taking of a group",
        RequestCode::ConsumerSendMsgBack => "the return of a message",
        RequestCode::GetConsumerListByGroup => "a query of a group's members",
        RequestCode::GetRouteInfoByTopic => "a route query",
        RequestCode::GetBrokerClusterInfo => "a cluster query",
        RequestCode::GetAllTopicListFromNameServer => "a topic list",
        RequestCode::UpdateAndCreateTopic => "the creation of a topic",
        RequestCode::DeleteTopicInBroker | RequestCode::DeleteTopicInNamesrv => {
            "the deletion of a topic"
        }
        RequestCode::GetTopicConfig => "a query of a topic's configuration",
        RequestCode::GetTopicStatsInfo => "a query of a topic's offsets",
        RequestCode::UpdateAndCreateSubscriptionGroup => "the creation of a group",
        RequestCode::DeleteSubscriptionGroup => "the deletion of a group",
        RequestCode::GetAllSubscriptionGroupConfig => "a group list",
        RequestCode::GetConsumeStats => "a query of a group's progress",
        RequestCode::GetConsumerConnectionList => "a query of a group's connections",
        RequestCode::GetBrokerRuntimeInfo => "a query of the broker's state",
        _ => "a request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: ResponseCode) -> Error {
        Error::Refused {
            address: "10.0.0.1:10911".into(),
            request: request_name(RequestCode::SendMessageV2),
            code,
            remark: "the topic is full".into(),
        }
    }

    #[test]
    fn only_codes_that_another_broker_may_cure_are_retryable() {
        assert!(refused(ResponseCode::SYSTEM_BUSY).is_retryable());
        assert!(refused(ResponseCode::GO_AWAY).is_retryable());
        assert!(!refused(ResponseCode::MESSAGE_ILLEGAL).is_retryable());
        assert!(!Error::Closed.is_retryable());
    }

    #[test]
    fn a_refusal_names_who_what_and_why() {
        assert_eq!(
            refused(ResponseCode::SYSTEM_BUSY).to_string(),
            "10.0.0.1:10911 refused a send: SYSTEM_BUSY (2), the topic is full"
        );
    }
}
