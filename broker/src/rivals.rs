//! Other brokers of the same name: who is registered (code 901), what a master claims (code 906),
//! and what a master does about another one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use protocol::{
    body::cluster::MemberGroupBody,
    channel::{Channels, DialOptions},
    code::{RequestCode, ResponseCode},
    json,
    request::{ha::HaInfo, register::MemberGroup},
};
use storage::replica::{Role, save_role};
use tokio::task::JoinSet;

use crate::{
    config::Config,
    role::{Claim, Members, Standing, Verdict, contest, free_id},
    run::Ended,
    state::{State, blocking},
};

/// Looks for the other brokers of one name.
pub(crate) struct Lookout {
    cluster: String,
    broker_name: String,
    servers: Vec<String>,
    channels: Arc<Channels<()>>,
    patience: Duration,
}

/// Another master of this broker's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rival {
    /// Where its clients connect.
    pub(crate) address: String,
    /// What it claims.
    pub(crate) claim: Claim,
    /// The number that it had as a slave; 0 if it never was one.
    pub(crate) slave_id: u64,
}

/// What a broker says of itself.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Where slaves connect, if anywhere.
    pub(crate) ha_address: Option<String>,
    /// Where clients connect.
    pub(crate) address: String,
    /// End of what is durable in its log.
    pub(crate) flushed: u64,
    /// Whether it is a master.
    pub(crate) is_master: bool,
    /// What it claims.
    pub(crate) claim: Claim,
    /// Its number as a slave.
    pub(crate) slave_id: u64,
}

impl Lookout {
    pub(crate) fn new(config: &Config) -> Self {
        let patience = Duration::from_millis(config.register_timeout_ms);
        let options = DialOptions { connect_timeout: patience, ..DialOptions::default() };
        Self {
            cluster: config.cluster.clone(),
            broker_name: config.name.clone(),
            servers: config.namesrv.clone(),
            channels: Arc::new(Channels::new(Arc::new(()), options)),
            patience,
        }
    }

    /// Who is registered under this broker's name, as all name servers that answer say together.
    pub(crate) async fn members(&self) -> Members {
        let mut asked = JoinSet::new();
        for server in self.servers.clone() {
            let (cluster, name) = (self.cluster.clone(), self.broker_name.clone());
            let (channels, patience) = (Arc::clone(&self.channels), self.patience);
            asked.spawn(async move {
                let header = MemberGroup { cluster_name: &cluster, broker_name: &name };
                let code = RequestCode::GetBrokerMemberGroup;
                let reply =
                    channels.request(&server, code, &header, Bytes::new(), patience).await.ok()?;
                // Name servers of version 4 do not know the question.
                let answered = reply.response_code() == ResponseCode::SUCCESS;
                let body = json::decode::<MemberGroupBody>(&reply.body).ok();
                body.filter(|_| answered).map(|body| body.broker_member_group.broker_addrs)
            });
        }
        let mut members = Members::new();
        while let Some(answer) = asked.join_next().await {
            for (id, address) in answer.ok().flatten().into_iter().flatten() {
                if let Ok(id) = u64::try_from(id) {
                    members.entry(id).or_default().insert(address);
                }
            }
        }
        members
    }

    /// The masters of this name other than the one at `own.address`, as far as they answer.
    pub(crate) async fn rivals(&self, members: &Members, own: &Account) -> Vec<Rival> {
        let none = BTreeSet::new();
        let others = members.get(&0).unwrap_or(&none).iter();
        let mut rivals = Vec::new();
        for address in others.filter(|address| **address != own.address) {
            rivals.extend(self.ask(address, own).await);
        }
        rivals
    }

    /// Asks a broker for its account, and gives it ours. `None` if it does not answer, is no
    /// master, or is one of RocketMQ's, which claims nothing.
    pub(crate) async fn ask(&self, address: &str, own: &Account) -> Option<Rival> {
        let code = RequestCode::ExchangeBrokerHaInfo;
        let (channels, header) = (&self.channels, own.header());
        let reply = channels.request(address, code, &header, Bytes::new(), self.patience).await;
        let reply = match reply {
            Ok(reply) if reply.response_code() == ResponseCode::SUCCESS => reply,
            Ok(reply) => {
                tracing::debug!(address, code = reply.code, "no account from this broker");
                return None;
            }
            Err(error) => {
                tracing::debug!(address, %error, "a registered broker of this name is not there");
                return None;
            }
        };
        rival(&HaInfo::decode(&reply.fields).ok()?, address)
    }
}

/// What a header says of another master; `None` if it is not one of ours, or no master.
pub(crate) fn rival(info: &HaInfo, address: &str) -> Option<Rival> {
    let number = |text: &Option<String>| u64::from_str_radix(text.as_deref()?, 16).ok();
    let claim = Claim {
        store_id: number(&info.store_id)?,
        epoch: u64::try_from(info.epoch?).ok()?,
        leader: number(&info.leader)?,
        since_ms: info.since_ms?,
    };
    let slave_id = info.configured_id.and_then(|id| u64::try_from(id).ok()).unwrap_or(0);
    info.is_master?.then(|| Rival { address: address.to_owned(), claim, slave_id })
}

impl Account {
    /// As it travels.
    pub(crate) fn header(&self) -> HaInfo {
        HaInfo {
            master_ha_address: self.ha_address.clone(),
            master_flush_offset: Some(self.flushed.cast_signed()),
            master_address: Some(self.address.clone()),
            is_master: Some(self.is_master),
            store_id: Some(hex(self.claim.store_id)),
            epoch: Some(self.claim.epoch.cast_signed()),
            leader: Some(hex(self.claim.leader)),
            since_ms: Some(self.claim.since_ms),
            configured_id: Some(self.slave_id.cast_signed()),
        }
    }
}

/// What this broker says of itself.
pub(crate) fn account(state: &State) -> Account {
    let part = &state.part;
    Account {
        ha_address: part.ha.local_addr().map(|_| state.registrar.ha_address().to_owned()),
        address: state.address.clone(),
        flushed: state.store.flushed().0,
        is_master: state.is_master(),
        claim: part.claim,
        slave_id: part.standing.slave_id,
    }
}

/// A master's regular look for another one of its name.
pub(crate) async fn look(state: &Arc<State>) {
    if !state.is_master() {
        return;
    }
    let lookout = &state.part.lookout;
    let members = lookout.members().await;
    for rival in lookout.rivals(&members, &account(state)).await {
        meet(state, &rival).await;
    }
}

/// Does what follows from there being another master of this name.
pub(crate) async fn meet(state: &Arc<State>, rival: &Rival) {
    let Rival { address, claim, slave_id } = rival;
    let ours = state.part.claim.epoch;
    match contest(&state.part.claim, claim) {
        Verdict::Keep => {
            tracing::warn!(
                other = address,
                other_epoch = claim.epoch,
                epoch = ours,
                "another master has this broker's name; it is older and will become a slave"
            );
        }
        Verdict::Foreign => {
            tracing::error!(
                other = address,
                other_store = hex(claim.store_id),
                "another broker with another store is a master of this name: give one of them another \
                 name"
            );
        }
        Verdict::Outdated => {
            tracing::warn!(
                other = address,
                other_epoch = claim.epoch,
                epoch = ours,
                "another master has taken this broker's place; this one becomes its slave"
            );
            give_up(state, claim.epoch, *slave_id).await;
        }
        Verdict::Later => {
            tracing::error!(
                other = address,
                epoch = ours,
                "another master claims the same epoch and was there first; this one becomes its slave"
            );
            give_up(state, claim.epoch, *slave_id).await;
        }
    }
}

/// Makes this master a slave: for the next start, which follows at once. `wish` is the number that
/// the new master had as a slave.
pub(crate) async fn give_up(state: &Arc<State>, seen_epoch: u64, wish: u64) {
    let slave_id = slave_id(state, wish).await;
    let standing = Standing { role: Role::Slave, slave_id, seen_epoch };
    if let Err(reason) = change_role(state, standing, Ended::Demoted).await {
        tracing::error!(%reason, "this broker must become a slave, and ends because it cannot");
        state.end(Ended::Failed(reason));
    }
}

/// The number that this master would have as a slave.
pub(crate) async fn slave_id(state: &State, wish: u64) -> u64 {
    let members = state.part.lookout.members().await;
    let wishes = [state.part.standing.slave_id, state.config.broker_id, wish];
    free_id(&members, &state.address, wishes)
}

/// Saves another role, and ends this broker so that it starts anew with it.
///
/// # Errors
///
/// The role cannot be saved; the broker goes on with the one that it has.
pub(crate) async fn change_role(
    state: &Arc<State>,
    standing: Standing,
    why: Ended,
) -> Result<(), String> {
    let seen_epoch = standing.seen_epoch.max(state.part.standing.seen_epoch);
    let saved = Standing { seen_epoch, ..standing }.saved();
    let path = state.config.store.clone();
    let outcome = blocking(move || save_role(&path, &saved)).await;
    outcome.map_err(|error| {
        format!("the role cannot be saved in {}: {error}", state.config.store.display())
    })?;
    state.end(why);
    Ok(())
}

/// A random number as it travels and is shown.
pub(crate) fn hex(number: u64) -> String {
    format!("{number:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_reads_back_as_a_rival() {
        let claim = Claim { store_id: u64::MAX, epoch: 3, leader: 9, since_ms: 5 };
        let account = Account {
            ha_address: Some("a:2".to_owned()),
            address: "a:1".to_owned(),
            flushed: 7,
            is_master: true,
            claim,
            slave_id: 2,
        };
        let header = account.header();
        let expected = Rival { address: "a:1".to_owned(), claim, slave_id: 2 };
        assert_eq!(rival(&header, "a:1"), Some(expected));
        assert_eq!(rival(&HaInfo { is_master: Some(false), ..header.clone() }, "a:1"), None);
        assert_eq!(rival(&HaInfo { epoch: None, ..header }, "a:1"), None, "RocketMQ's");
    }
}
