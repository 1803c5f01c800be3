//! What a slave, and a master that is about to become one, do not serve. A master passes with one
//! comparison.

use protocol::code::RequestCode;

use super::reply::Refusal;
use crate::state::State;

/// What a request needs of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// A master: it stores messages.
    Append,
    /// A master: it changes topics or groups.
    Change,
    /// Messages to consume.
    Pull,
    /// An index that says where messages are.
    Read,
    /// Nothing of the store that a slave lacks.
    Nothing,
}

fn need(code: RequestCode) -> Need {
    use RequestCode as Code;
    match code {
        Code::SendMessage
        | Code::SendMessageV2
        | Code::SendBatchMessage
        | Code::ConsumerSendMsgBack => Need::Append,
        Code::UpdateAndCreateTopic
        | Code::DeleteTopicInBroker
        | Code::UpdateAndCreateSubscriptionGroup
        | Code::DeleteSubscriptionGroup => Need::Change,
        Code::PullMessage | Code::LitePullMessage => Need::Pull,
        Code::QueryMessage
        | Code::ViewMessageById
        | Code::QueryConsumerOffset
        | Code::GetMaxOffset
        | Code::GetMinOffset
        | Code::SearchOffsetByTimestamp
        | Code::GetEarliestMsgStoreTime
        | Code::GetTopicStatsInfo
        | Code::GetConsumeStats => Need::Read,
        _ => Need::Nothing,
    }
}

/// Whether the broker serves such a request in its role.
///
/// # Errors
///
/// The refusal.
///
/// # Source: `SendMessageProcessor.rejectRequest`, `PullMessageProcessor.rejectRequest`,
/// `AdminBrokerProcessor.validateSlave`
pub(super) fn check(state: &State, code: RequestCode) -> Result<(), Refusal> {
    if state.takes_writes() {
        return Ok(());
    }
    let broker = || state.config.name.clone();
    match need(code) {
        Need::Nothing => Ok(()),
        _ if state.is_master() => match need(code) {
            Need::Append | Need::Change => Err(Refusal::Leaving { broker: broker() }),
            _ => Ok(()),
        },
        Need::Append => Err(Refusal::SlaveTakesNoMessages { broker: broker() }),
        Need::Change => Err(Refusal::SlaveChangesNothing { broker: broker() }),
        Need::Pull if !state.config.slave_read => {
            Err(Refusal::SlaveServesNoPulls { broker: broker() })
        }
        Need::Pull | Need::Read if !state.store.serves() => {
            Err(Refusal::CatchingUp { broker: broker() })
        }
        Need::Pull | Need::Read => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_change_something_need_a_master() {
        use RequestCode as Code;
        for code in [Code::SendMessage, Code::SendMessageV2, Code::SendBatchMessage] {
            assert_eq!(need(code), Need::Append);
        }
        assert_eq!(need(Code::ConsumerSendMsgBack), Need::Append);
        assert_eq!(need(Code::DeleteTopicInBroker), Need::Change);
        // A slave keeps these until it can tell the master, or they live in memory only.
        for code in [Code::UpdateConsumerOffset, Code::HeartBeat, Code::LockBatchMq] {
            assert_eq!(need(code), Need::Nothing);
        }
    }
}
