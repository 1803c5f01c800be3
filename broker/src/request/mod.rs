//! The one place that knows which request goes to which handler.
//!
//! Sends and pulls answer by themselves. Everything else returns an answer or a refusal, and runs
//! in one of three ways: at once, on a thread that may block, or in a task that may wait.

mod admin;
mod gate;
mod group;
mod ha;
pub(crate) mod heartbeat;
mod lock;
mod offset;
pub(crate) mod pull;
mod query;
pub(crate) mod reply;
pub(crate) mod retry;
mod runtime;
mod send;
pub(crate) mod stamp;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
pub(crate) mod topic;

use std::sync::Arc;

use protocol::{
    code::RequestCode,
    connection::{Connection, Service},
    frame::Frame,
};
use reply::{Handled, finish, refuse};

use crate::state::{State, blocking};

/// The requests of clients and tools, served.
pub(crate) struct Requests(pub(crate) Arc<State>);

impl Service for Requests {
    type Turn = send::Turn;

    fn request(&self, connection: &Arc<Connection>, frame: Frame, turn: &mut send::Turn) {
        let Some(code) = RequestCode::from_i32(frame.code) else {
            return connection.unsupported(frame.ticket());
        };
        if let Err(refusal) = gate::check(&self.0, code) {
            return refuse(connection, frame.ticket(), &refusal, &send::Stamp(&self.0));
        }
        let on = On { state: &self.0, connection, frame };
        match code {
            RequestCode::SendMessage
            | RequestCode::SendMessageV2
            | RequestCode::SendBatchMessage => {
                send::request(on.state, connection, on.frame, turn);
            }
            RequestCode::PullMessage | RequestCode::LitePullMessage => {
                pull::request(on.state, connection, on.frame);
            }
            RequestCode::ConsumerSendMsgBack => on.waiting(retry::send_back),

            RequestCode::HeartBeat => heartbeat::beat(on.state, connection, on.frame),
            RequestCode::UnregisterClient => heartbeat::unregister(on.state, connection, &on.frame),
            RequestCode::CheckClientConfig => on.now(heartbeat::check_subscription),
            RequestCode::GetConsumerListByGroup => on.now(heartbeat::consumer_list),
            RequestCode::LockBatchMq => on.now(lock::lock),
            RequestCode::UnlockBatchMq => on.now(lock::unlock),

            RequestCode::UpdateConsumerOffset => on.now(offset::commit),
            RequestCode::QueryConsumerOffset => on.blocking(offset::query),
            RequestCode::GetMaxOffset => on.blocking(offset::max),
            RequestCode::GetMinOffset => on.blocking(offset::min),
            RequestCode::SearchOffsetByTimestamp => on.blocking(offset::search),
            RequestCode::GetEarliestMsgStoreTime => on.blocking(offset::earliest_store_time),

            RequestCode::QueryMessage => on.waiting(query::by_key),
            RequestCode::ViewMessageById => on.waiting(query::by_id),

            RequestCode::UpdateAndCreateTopic => on.waiting(topic::create),
            RequestCode::DeleteTopicInBroker => on.waiting(topic::delete),
            RequestCode::GetAllTopicConfig => on.blocking(topic::all),
            RequestCode::GetTopicConfig => on.now(topic::one),
            RequestCode::GetTopicStatsInfo => on.blocking(topic::stats),
            RequestCode::GetSystemTopicListFromBroker => on.blocking(topic::system_list),

            RequestCode::UpdateAndCreateSubscriptionGroup => on.waiting(group::create),
            RequestCode::DeleteSubscriptionGroup => on.waiting(group::delete),
            RequestCode::GetAllSubscriptionGroupConfig => on.blocking(group::all),
            RequestCode::GetSubscriptionGroupConfig => on.now(group::one),
            RequestCode::GetConsumeStats => on.blocking(group::consume_stats),
            RequestCode::QueryTopicConsumeByWho => on.blocking(group::groups_of_topic),
            RequestCode::QueryTopicsByConsumer => on.blocking(group::topics_of_group),

            RequestCode::GetConsumerConnectionList => on.now(admin::consumer_connections),
            RequestCode::GetProducerConnectionList => on.now(admin::producer_connections),
            RequestCode::GetBrokerConfig => on.now(admin::config),
            RequestCode::GetBrokerRuntimeInfo => on.blocking(runtime::info),

            RequestCode::GetBrokerHaStatus => on.blocking(ha::status),
            RequestCode::ExchangeBrokerHaInfo => on.waiting(ha::exchange),
            RequestCode::PromoteBroker => on.waiting(ha::promote),
            RequestCode::DemoteBroker => on.waiting(ha::demote),

            // Name servers, clients and features that are not built yet.
            _ => connection.unsupported(on.frame.ticket()),
        }
    }

    fn turn_end(&self, connection: &Arc<Connection>, turn: &mut send::Turn) {
        send::turn_end(&self.0, connection, turn);
    }

    fn closed(&self, connection: &Arc<Connection>) {
        let state = &self.0;
        state.notify(state.clients.gone(connection.id(), state.clock.now_ms()));
    }
}

/// One request on its way to a handler that returns its answer.
struct On<'a> {
    state: &'a Arc<State>,
    connection: &'a Arc<Connection>,
    frame: Frame,
}

impl On<'_> {
    /// Runs a handler that never waits.
    fn now(self, handler: fn(&State, &Frame) -> Handled) {
        finish(self.connection, self.frame.ticket(), handler(self.state, &self.frame));
    }

    /// Runs a handler that may read RocksDB or the disk, or whose answer may be large.
    fn blocking(self, handler: fn(&State, &Frame) -> Handled) {
        let (state, connection) = (Arc::clone(self.state), Arc::clone(self.connection));
        let (ticket, frame) = (self.frame.ticket(), self.frame);
        self.connection.spawn(ticket, async move {
            let _room = connection.room().await;
            let handled = blocking(move || handler(&state, &frame)).await;
            finish(&connection, ticket, handled);
        });
    }

    /// Runs a handler that waits.
    fn waiting<F>(self, handler: fn(Arc<State>, Frame) -> F)
    where
        F: Future<Output = Handled> + Send + 'static,
    {
        let (state, connection) = (Arc::clone(self.state), Arc::clone(self.connection));
        let (ticket, frame) = (self.frame.ticket(), self.frame);
        self.connection.spawn(ticket, async move {
            finish(&connection, ticket, handler(state, frame).await);
        });
    }
}
