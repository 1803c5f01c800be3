//! How every request ends: an answer, or a refusal that becomes a response code and a sentence
//! here and nowhere else.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{
    code::ResponseCode,
    connection::{Body, Connection},
    frame::Ticket,
    header::{Encode, FieldError, NoFields},
    json::{self, JsonError},
    names::NameError,
};
use serde::Serialize;
use storage::{AppendError, Poison, ReadError, StateError};
use thiserror::Error;

/// What a handler that does not answer by itself returns.
pub(crate) type Handled = Result<Answer, Refusal>;

/// A reply that is ready to be written.
pub(crate) struct Answer {
    code: ResponseCode,
    remark: Option<String>,
    header: Box<dyn Encode + Send>,
    body: Body,
}

impl Answer {
    /// Done, nothing to say.
    pub(crate) fn done() -> Self {
        Self::header(NoFields)
    }

    /// Done, with a header.
    pub(crate) fn header(header: impl Encode + Send + 'static) -> Self {
        Self {
            code: ResponseCode::SUCCESS,
            remark: None,
            header: Box::new(header),
            body: Body::Empty,
        }
    }

    /// Done, with a body.
    pub(crate) fn bytes(body: Bytes) -> Self {
        Self { body: Body::Bytes(body), ..Self::done() }
    }

    /// The same answer with a body.
    pub(crate) fn with_body(self, body: Body) -> Self {
        Self { body, ..self }
    }

    /// The same answer with a JSON body.
    pub(crate) fn with_json(self, body: &impl Serialize) -> Self {
        self.with_body(Body::Bytes(json::encode(body)))
    }

    /// The same answer with a code other than success, which is no refusal: it has a header.
    pub(crate) fn with_code(self, code: ResponseCode, remark: impl Into<String>) -> Self {
        Self { code, remark: Some(remark.into()), ..self }
    }
}

/// Why a request is not served. The sentence says what to do about it.
#[derive(Debug, Error)]
pub(crate) enum Refusal {
    /// The header lacks something.
    #[error(transparent)]
    Header(#[from] FieldError),
    /// The body is not what the code calls for.
    #[error("the body cannot be read: {0}")]
    Json(#[from] JsonError),
    /// A name breaks a rule.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A field has a value that makes no sense.
    #[error("{field} is {value}, {expected}")]
    Parameter {
        /// The field.
        field: &'static str,
        /// What was sent.
        value: String,
        /// What would have been accepted.
        expected: String,
    },
    /// The broker's permission forbids it.
    #[error(
        "broker {broker} does not allow to {action} now (its permission is {permission}); use another broker"
    )]
    BrokerForbids {
        /// Broker name.
        broker: String,
        /// `write` or `read`.
        action: &'static str,
        /// The configured bits.
        permission: u32,
    },
    /// The topic's permission forbids it.
    #[error("topic {topic} does not allow to {action} (its permission is {permission})")]
    TopicForbids {
        /// Topic.
        topic: String,
        /// `write` or `read`.
        action: &'static str,
        /// The configured bits.
        permission: u32,
    },
    /// A topic that only brokers write.
    #[error("topic {topic} belongs to the broker; clients cannot write it")]
    SystemTopic {
        /// Topic.
        topic: String,
    },
    /// No such topic.
    #[error("topic {topic} does not exist on broker {broker}; create it first")]
    NoTopic {
        /// Topic.
        topic: String,
        /// Broker name.
        broker: String,
    },
    /// No such queue.
    #[error("topic {topic} has {queues} queues, there is no queue {queue_id}")]
    NoQueue {
        /// Topic.
        topic: String,
        /// What was asked for.
        queue_id: i32,
        /// How many there are.
        queues: u32,
    },
    /// No such consumer group.
    #[error("consumer group {group} does not exist; create it first")]
    NoGroup {
        /// Consumer group.
        group: String,
    },
    /// Nobody of the group is connected.
    #[error("no client of consumer group {group} is connected to this broker")]
    GroupOffline {
        /// Consumer group.
        group: String,
    },
    /// As before, where RocketMQ's tools expect a code of its own.
    #[error("consumer group {group} is not online")]
    NotOnline {
        /// Consumer group.
        group: String,
    },
    /// Nobody of the producer group is connected.
    #[error("no client of producer group {group} is connected to this broker")]
    ProducersOffline {
        /// Producer group.
        group: String,
    },
    /// The group may not consume. `kind` is RocketMQ's `forbiddenType`.
    #[error("consumer group {group} may not {action}")]
    GroupForbidden {
        /// Consumer group.
        group: String,
        /// What it may not.
        action: &'static str,
        /// Why, as a number for clients.
        kind: i32,
    },
    /// The message breaks a rule.
    #[error("the message is refused: {0}")]
    Illegal(String),
    /// A message that needs a feature which is not built yet.
    #[error("{what} are not supported by this broker yet; the message was not stored")]
    NotBuilt {
        /// Which messages.
        what: &'static str,
        /// RocketMQ's answer when it has the feature switched off.
        code: ResponseCode,
    },
    /// The subscription's expression does not compile.
    #[error("the expression {expression:?} on topic {topic} names no tag")]
    Expression {
        /// Topic.
        topic: String,
        /// The expression.
        expression: String,
    },
    /// An expression of a type that is not served.
    #[error("subscriptions of type {kind} are not supported by this broker; use TAG")]
    ExpressionType {
        /// The type.
        kind: String,
    },
    /// The group does not read the topic.
    #[error(
        "consumer group {group} is not subscribed to topic {topic} on this broker; its next heartbeat will say so"
    )]
    NoSubscription {
        /// Consumer group.
        group: String,
        /// Topic.
        topic: String,
    },
    /// Too many pulls wait.
    #[error("{held} pulls are waiting for messages already; pull again later")]
    TooManyHeld {
        /// How many.
        held: usize,
    },
    /// There is nothing to return.
    #[error("{0}")]
    NotFound(String),
    /// What was named is not a message.
    #[error(
        "no message starts at log offset {log_offset} of broker {broker}; it holds {min} to {max}"
    )]
    NoMessage {
        /// What was asked for.
        log_offset: i64,
        /// Broker name.
        broker: String,
        /// Start of the log.
        min: u64,
        /// End of the log.
        max: u64,
    },
    /// A send to a slave. RocketMQ's remark begins so, too.
    #[error(
        "[REJECTREQUEST]this broker is a slave of {broker} and takes no messages; send to the master"
    )]
    SlaveTakesNoMessages {
        /// Broker name.
        broker: String,
    },
    /// A change of state asked of a slave.
    #[error("this broker is a slave of {broker}; topics and groups are changed on the master")]
    SlaveChangesNothing {
        /// Broker name.
        broker: String,
    },
    /// A pull from a slave that may not serve it.
    #[error(
        "[REJECTREQUEST]this broker is a slave of {broker} and serves no pulls (slave_read is false); pull \
         from the master"
    )]
    SlaveServesNoPulls {
        /// Broker name.
        broker: String,
    },
    /// A read from a slave whose index is ahead of its log.
    #[error(
        "this slave of {broker} has not caught up yet; read from the master, or try again later"
    )]
    CatchingUp {
        /// Broker name.
        broker: String,
    },
    /// A master that is about to become a slave.
    #[error("broker {broker} is about to become a slave; try again, or use another broker")]
    Leaving {
        /// Broker name.
        broker: String,
    },
    /// A change of role that was not made.
    #[error("{0}")]
    Role(String),
    /// The store did not append.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A topic or group cannot be changed.
    #[error(transparent)]
    State(#[from] StateError),
    /// The store has failed.
    #[error(transparent)]
    Poisoned(#[from] Poison),
}

impl Refusal {
    /// The response code that RocketMQ's clients expect.
    pub(crate) fn code(&self) -> ResponseCode {
        match self {
            Self::Header(_)
            | Self::Json(_)
            | Self::GroupOffline { .. }
            | Self::ProducersOffline { .. }
            | Self::ExpressionType { .. }
            | Self::NoMessage { .. }
            | Self::Read(_)
            | Self::SlaveChangesNothing { .. }
            | Self::Role(_)
            | Self::Poisoned(_) => ResponseCode::SYSTEM_ERROR,
            Self::Name(_) | Self::Parameter { .. } | Self::NoQueue { .. } => {
                ResponseCode::INVALID_PARAMETER
            }
            Self::BrokerForbids { .. }
            | Self::TopicForbids { .. }
            | Self::SystemTopic { .. }
            | Self::GroupForbidden { .. } => ResponseCode::NO_PERMISSION,
            Self::NoTopic { .. } => ResponseCode::TOPIC_NOT_EXIST,
            Self::NoGroup { .. } => ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
            Self::NotOnline { .. } => ResponseCode::CONSUMER_NOT_ONLINE,
            Self::Illegal(_) => ResponseCode::MESSAGE_ILLEGAL,
            Self::NotBuilt { code, .. } => *code,
            Self::Expression { .. } => ResponseCode::SUBSCRIPTION_PARSE_FAILED,
            Self::NoSubscription { .. } => ResponseCode::SUBSCRIPTION_NOT_EXIST,
            Self::TooManyHeld { .. }
            | Self::SlaveTakesNoMessages { .. }
            | Self::SlaveServesNoPulls { .. } => ResponseCode::SYSTEM_BUSY,
            Self::CatchingUp { .. } | Self::Leaving { .. } => ResponseCode::SERVICE_NOT_AVAILABLE,
            Self::NotFound(_) => ResponseCode::QUERY_NOT_FOUND,
            Self::Append(error) => append_code(error),
            Self::State(error) => state_code(error),
        }
    }

    /// RocketMQ's `forbiddenType`, where a pull has one.
    pub(crate) fn forbidden_type(&self) -> Option<i32> {
        match self {
            Self::BrokerForbids { .. } => Some(1),
            Self::TopicForbids { .. } => Some(3),
            Self::GroupForbidden { kind, .. } => Some(*kind),
            _ => None,
        }
    }
}

fn append_code(error: &AppendError) -> ResponseCode {
    match error {
        AppendError::TooLarge { .. } | AppendError::Record(_) => ResponseCode::MESSAGE_ILLEGAL,
        AppendError::NoQueue { .. } => ResponseCode::INVALID_PARAMETER,
        AppendError::Busy { .. } => ResponseCode::SYSTEM_BUSY,
        AppendError::Poisoned(_)
        | AppendError::NoSpace { .. }
        | AppendError::DiskFull { .. }
        | AppendError::Slave
        | AppendError::Closed => ResponseCode::SERVICE_NOT_AVAILABLE,
        // The whole turn failed for one topic: clients try again on this code.
        AppendError::Torn(_) | AppendError::TopicDeleted { .. } | AppendError::Read(_) => {
            ResponseCode::SYSTEM_ERROR
        }
    }
}

fn state_code(error: &StateError) -> ResponseCode {
    match error {
        StateError::NoTopic { .. } => ResponseCode::TOPIC_NOT_EXIST,
        StateError::NoGroup { .. } => ResponseCode::SUBSCRIPTION_GROUP_NOT_EXIST,
        StateError::TooManyQueues { .. } => ResponseCode::INVALID_PARAMETER,
        StateError::Busy { .. } => ResponseCode::SYSTEM_BUSY,
        StateError::Poisoned(_) | StateError::Slave | StateError::Closed => {
            ResponseCode::SERVICE_NOT_AVAILABLE
        }
    }
}

/// Writes the outcome of a handler.
pub(crate) fn finish(connection: &Arc<Connection>, ticket: Ticket, handled: Handled) {
    match handled {
        Ok(Answer { code, remark, header, body }) => {
            connection.reply(ticket, code, remark.as_deref(), &*header, body);
        }
        Err(refusal) => refuse(connection, ticket, &refusal, &NoFields),
    }
}

/// Writes a refusal, with a header where clients read one from errors too.
pub(crate) fn refuse(
    connection: &Arc<Connection>,
    ticket: Ticket,
    refusal: &Refusal,
    header: &impl Encode,
) {
    let code = refusal.code();
    tracing::debug!(peer = %connection.peer(), request = ticket.code, answer = code.0, reason = %refusal, "refused");
    connection.reply(ticket, code, Some(&refusal.to_string()), header, Body::Empty);
}
