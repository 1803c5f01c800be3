//! What brokers hear of this client: its groups and what they want.

use std::sync::Arc;

use bytes::Bytes;
use protocol::{
    body::heartbeat::{ConsumerData, Heartbeat, ProducerData, SubscriptionData},
    code::RequestCode,
    header::{Encode, NoFields},
    json,
};
use tokio::task::JoinSet;

use crate::{
    consumer::subscription::Subscription,
    core::Core,
    registry::{Member, Registry},
};

impl Core {
    /// Tells every broker of the routes in use about this client, all at once. False when one of
    /// them could not be told.
    pub(crate) async fn heartbeat(self: &Arc<Self>) -> bool {
        let addresses = self.routes.brokers_to_tell();
        if self.registry.is_empty() {
            return true;
        }
        let body = encode(&self.id, &self.registry);
        let mut told = JoinSet::new();
        for address in addresses {
            let (core, body) = (Arc::clone(self), body.clone());
            told.spawn(async move {
                let outcome = core.call(&address, RequestCode::HeartBeat, &NoFields, body).await;
                if let Err(error) = &outcome {
                    tracing::debug!(broker = %address, %error, "a heartbeat failed");
                }
                outcome.is_ok()
            });
        }
        told.join_all().await.into_iter().all(|told| told)
    }

    /// Sends a request without a body to every broker of the routes in use, one after the other.
    /// It is a courtesy: what a broker does not hear it finds out by itself later.
    pub(crate) async fn tell_brokers(&self, code: RequestCode, header: &(impl Encode + ?Sized)) {
        for address in self.routes.brokers_to_tell() {
            if let Err(error) = self.call(&address, code, header, Bytes::new()).await {
                tracing::debug!(broker = %address, %error, "a broker was not told");
            }
        }
    }
}

fn encode(client_id: &str, registry: &Registry) -> Bytes {
    let producers = registry.producers().into_iter();
    json::encode(&Heartbeat {
        client_id: client_id.to_owned(),
        consumer_data_set: registry.consumers().iter().map(|member| consumer(member)).collect(),
        producer_data_set: producers.map(|group_name| ProducerData { group_name }).collect(),
        heartbeat_fingerprint: 0,
        without_sub: false,
    })
}

fn consumer(member: &Member) -> ConsumerData {
    let model = if member.broadcasting { "BROADCASTING" } else { "CLUSTERING" };
    ConsumerData {
        group_name: member.group.clone(),
        consume_type: "CONSUME_PASSIVELY".to_owned(),
        message_model: model.to_owned(),
        consume_from_where: member.position.name().to_owned(),
        subscription_data_set: member.subscriptions.iter().map(subscription).collect(),
        unit_mode: false,
    }
}

fn subscription(subscription: &Subscription) -> SubscriptionData {
    SubscriptionData {
        class_filter_mode: false,
        topic: subscription.topic().to_string(),
        sub_string: subscription.expression().to_owned(),
        tags_set: subscription.tags().to_vec(),
        code_set: subscription.hashes(),
        sub_version: subscription.version_ms(),
        expression_type: "TAG".to_owned(),
    }
}
