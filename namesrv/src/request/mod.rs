//! From request code to handler: the one `match`. And from failure to response code: also one.

mod kv;
mod register;
mod route;
mod settings;
mod topic;

use std::sync::Arc;

use bytes::Bytes;
use protocol::{
    body::register::RegisterError,
    code::{RequestCode, ResponseCode},
    connection::{Body, Connection, Service},
    frame::Frame,
    header::{Encode, FieldError, NoFields},
    json::JsonError,
    limits,
};

use crate::{
    config::ChangeError,
    expire::gone,
    kv::Error as KvError,
    route_table::{Kind, Refused},
    server::Shared,
};

/// A frame holds this and a header. Only a list of more than 300,000 topics comes close.
const ANSWER_MAX_BYTES: usize = limits::FRAME_MAX_BYTES - 64 * 1_024;

/// One request and all that its handler needs.
struct Request<'a> {
    server: &'a Shared,
    connection: &'a Arc<Connection>,
    frame: &'a Frame,
}

impl Request<'_> {
    fn reply(&self, header: &impl Encode, body: Body) -> Result<(), Failure> {
        let ticket = self.frame.ticket();
        self.connection.reply(ticket, ResponseCode::SUCCESS, None, header, body);
        Ok(())
    }

    fn done(&self) -> Result<(), Failure> {
        self.reply(&NoFields, Body::Empty)
    }

    fn body(&self, body: Bytes) -> Result<(), Failure> {
        if body.len() > ANSWER_MAX_BYTES {
            return Err(Failure::TooLong {
                what: "answer",
                bytes: body.len(),
                max: ANSWER_MAX_BYTES,
            });
        }
        self.reply(&NoFields, Body::Bytes(body))
    }
}

impl Service for Shared {
    type Turn = ();

    fn request(&self, connection: &Arc<Connection>, frame: Frame, (): &mut ()) {
        let request = Request { server: self, connection, frame: &frame };
        if let Err(failure) = handle(&request) {
            failure.answer(connection, &frame);
        }
    }

    fn closed(&self, connection: &Arc<Connection>) {
        self.links().remove(&connection.id());
        for removed in self.table.disconnected(connection.id()) {
            gone(self, removed, "disconnected");
        }
    }
}

fn handle(request: &Request<'_>) -> Result<(), Failure> {
    use RequestCode as Code;
    let Some(code) = Code::from_i32(request.frame.code) else {
        return Err(Failure::Unsupported);
    };
    match code {
        Code::GetRouteInfoByTopic => route::route(request),
        Code::GetBrokerClusterInfo => route::clusters(request),
        Code::RegisterBroker => register::register(request),
        Code::UnregisterBroker => register::unregister(request),
        Code::BrokerHeartbeat => register::heartbeat(request),
        Code::QueryDataVersion => register::version(request),
        Code::GetBrokerMemberGroup => register::members(request),
        Code::WipeWritePermOfBroker => register::wipe_write_permission(request),
        Code::AddWritePermOfBroker => register::add_write_permission(request),
        Code::RegisterTopicInNamesrv => topic::add(request),
        Code::DeleteTopicInNamesrv => topic::delete(request),
        Code::GetAllTopicListFromNameServer => topic::all(request),
        Code::GetTopicsByCluster => topic::of_cluster(request),
        Code::GetSystemTopicListFromNs => topic::system(request),
        Code::GetUnitTopicList => topic::list(request, Kind::Unit),
        Code::GetHasUnitSubTopicList => topic::list(request, Kind::UnitSubscription),
        Code::GetHasUnitSubUnUnitTopicList => topic::list(request, Kind::UnitSubscriptionOnly),
        Code::PutKvConfig => kv::put(request),
        Code::GetKvConfig => kv::get(request),
        Code::DeleteKvConfig => kv::delete(request),
        Code::GetKvListByNamespace => kv::list(request),
        Code::UpdateNamesrvConfig => settings::update(request),
        Code::GetNamesrvConfig => settings::get(request),
        _ => Err(Failure::Unsupported), // a broker's or client's request at the wrong address
    }
}

/// Why a request is not answered with success. The sentence is the remark of the answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("unsupported")]
    Unsupported,
    #[error(transparent)]
    Header(#[from] FieldError),
    #[error("the body is not what this request needs: {0}")]
    Body(#[from] JsonError),
    #[error(transparent)]
    Registration(#[from] RegisterError),
    #[error("the body is not UTF-8 text")]
    Text,
    #[error("the {what} has {bytes} bytes, {max} are possible")]
    TooLong { what: &'static str, bytes: usize, max: usize },
    #[error("crc32 not match: the header says {header:#010x}, the body has {body:#010x}")]
    Checksum { header: i32, body: u32 },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("No topic route info in name server for the topic: {topic}")]
    NoRoute { topic: String },
    #[error("name server not ready: brokers have {wait_seconds} s after its start to register")]
    NotReady { wait_seconds: u32 },
    #[error("No config item, Namespace: {namespace} Key: {key}")]
    NoKey { namespace: String, key: String },
    #[error("No config item, Namespace: {namespace}")]
    NoNamespace { namespace: String },
    #[error("topic lists are switched off by {key} in the name server's configuration")]
    ListsOff { key: &'static str },
    #[error(transparent)]
    Kv(#[from] KvError),
    #[error(transparent)]
    Config(#[from] ChangeError),
}

impl Failure {
    /// The one place where a failure becomes a response code.
    fn code(&self) -> ResponseCode {
        match self {
            Self::Unsupported => ResponseCode::REQUEST_CODE_NOT_SUPPORTED,
            Self::NoRoute { .. } => ResponseCode::TOPIC_NOT_EXIST,
            Self::NoKey { .. } | Self::NoNamespace { .. } => ResponseCode::QUERY_NOT_FOUND,
            Self::Config(ChangeError::NotAllowed { .. }) => ResponseCode::NO_PERMISSION,
            Self::Header(_)
            | Self::Body(_)
            | Self::Registration(_)
            | Self::Text
            | Self::TooLong { .. }
            | Self::Checksum { .. }
            | Self::Refused(_)
            | Self::NotReady { .. }
            | Self::ListsOff { .. }
            | Self::Kv(_)
            | Self::Config(ChangeError::Value(_)) => ResponseCode::SYSTEM_ERROR,
        }
    }

    fn answer(&self, connection: &Arc<Connection>, frame: &Frame) {
        let ticket = frame.ticket();
        match self {
            Self::Unsupported => connection.unsupported(ticket),
            Self::Header(error) => connection.bad_header(ticket, error),
            // Clients ask for topics before they exist as a matter of course.
            Self::NoRoute { .. } => connection.reject(ticket, self.code(), &self.to_string()),
            _ => {
                let remark = self.to_string();
                // Quoted, because it may repeat what the peer wrote.
                tracing::warn!(peer = %connection.peer(), code = frame.code, ?remark, "request refused");
                connection.reject(ticket, self.code(), &remark);
            }
        }
    }
}

/// A name that a peer sent, short enough to be logged and repeated to it.
fn cut(name: &str) -> String {
    name.chars().take(256).collect()
}
