//! Topics: codes 206, 216, 217, 224, 304 and 311 to 313.

use protocol::{
    body::{route::TopicRoute, topic::TopicList},
    json,
    request::{route::Cluster, topic::Topic},
};

use super::{Failure, Request, cut};
use crate::route_table::{Kind, Queues};

pub(super) fn add(request: &Request<'_>) -> Result<(), Failure> {
    let Topic { topic, .. } = Topic::decode(&request.frame.fields)?;
    let route: TopicRoute = json::decode(&request.frame.body)?;
    let layout: Vec<(String, Queues)> = route
        .queue_datas
        .into_iter()
        .map(|queues| {
            let layout = Queues {
                read: queues.read_queue_nums,
                write: queues.write_queue_nums,
                perm: queues.perm,
                sys_flag: queues.topic_sys_flag,
            };
            (queues.broker_name, layout)
        })
        .collect();
    request.server.table.add_topic(topic, &layout)?;
    request.done()
}

pub(super) fn delete(request: &Request<'_>) -> Result<(), Failure> {
    let Topic { topic, cluster } = Topic::decode(&request.frame.fields)?;
    let cluster = cluster.filter(|cluster| !cluster.is_empty());
    let groups = request.server.table.delete_topic(topic, cluster);
    let topic = cut(topic);
    tracing::info!(peer = %request.connection.peer(), ?topic, groups, "topic removed from routes");
    request.done()
}

pub(super) fn all(request: &Request<'_>) -> Result<(), Failure> {
    if !request.server.config.load().enable_all_topic_list {
        return Err(Failure::ListsOff { key: "enable_all_topic_list" });
    }
    answer(request, request.server.table.topics(Kind::All))
}

pub(super) fn of_cluster(request: &Request<'_>) -> Result<(), Failure> {
    check_lists(request)?;
    let Cluster { cluster } = Cluster::decode(&request.frame.fields)?;
    answer(request, request.server.table.topics_of_cluster(cluster))
}

pub(super) fn list(request: &Request<'_>, kind: Kind) -> Result<(), Failure> {
    check_lists(request)?;
    answer(request, request.server.table.topics(kind))
}

/// The names of clusters and broker groups are topics too, and one broker's address comes with
/// them. # Source: `RouteInfoManager.getSystemTopicList`
pub(super) fn system(request: &Request<'_>) -> Result<(), Failure> {
    check_lists(request)?;
    let (topic_list, broker_addr) = request.server.table.system_topics();
    request.body(json::encode(&TopicList { topic_list, broker_addr }))
}

fn check_lists(request: &Request<'_>) -> Result<(), Failure> {
    let on = request.server.config.load().enable_topic_list;
    if on { Ok(()) } else { Err(Failure::ListsOff { key: "enable_topic_list" }) }
}

fn answer(request: &Request<'_>, topic_list: Vec<String>) -> Result<(), Failure> {
    request.body(json::encode(&TopicList { topic_list, broker_addr: None }))
}
