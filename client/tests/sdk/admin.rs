//! Topics, groups, lag and brokers, as tools see them.

use crate::common::{Cluster, bodies, create_topic, send_all, take, until};
use basaltmq::{ErrorKind, GroupSpec, Position, TopicSpec};

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_created_shown_counted_and_deleted() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let admin = client.admin();
    create_topic(&client, "orders", 3).await;
    assert!(admin.topics().await.unwrap().contains(&"orders".to_owned()));
    until("both brokers in the route", async || {
        admin.topic("orders").await.unwrap().brokers.len() == 2
    })
    .await;
    let shown = admin.topic("orders").await.unwrap();
    for (index, broker) in shown.brokers.iter().enumerate() {
        assert_eq!(broker.broker, format!("broker-{index}"));
        assert_eq!(broker.address, cluster.broker_address(index).to_string());
        assert_eq!((broker.read_queues, broker.write_queues, broker.permission), (3, 3, 6));
    }
    send_all(&client, "orders", &bodies(12)).await;
    let stats = admin.topic_stats("orders").await.unwrap();
    assert_eq!(stats.len(), 6);
    assert_eq!(stats.iter().map(|queue| queue.max - queue.min).sum::<i64>(), 12);

    admin.delete_topic("orders").await.unwrap();
    let error = admin.topic("orders").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    let error = admin.delete_topic("orders").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_names_are_refused_before_a_broker_is_asked() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let error = client.admin().create_topic(&TopicSpec::new("../../x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    let error = client.admin().create_group(&GroupSpec::new("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_of_a_group_and_its_members_are_shown() {
    let cluster = Cluster::start(1).await;
    let client = cluster.client().await;
    let admin = client.admin();
    create_topic(&client, "orders", 1).await;
    send_all(&client, "orders", &bodies(10)).await;
    let mut consumer = client
        .consumer("mail")
        .topic("orders")
        .start_at(Position::First)
        .commit_interval(std::time::Duration::from_millis(20))
        .start()
        .await
        .unwrap();
    take(&mut consumer, 4).await.into_iter().for_each(basaltmq::Delivery::ack);
    until("the commit", async || {
        let lag = admin.group_lag("mail").await.unwrap();
        lag.queues.iter().any(|queue| queue.queue.topic() == "orders" && queue.lag() == 6)
    })
    .await;
    let lag = admin.group_lag("mail").await.unwrap();
    let [member] = &lag.members[..] else { panic!("{lag:?}") };
    assert_eq!((member.client_id.as_str(), member.language.as_str()), (client.id(), "RUST"));
    consumer.close().await;
    let lag = admin.group_lag("mail").await.unwrap();
    assert!(lag.members.is_empty(), "{lag:?}");
    let error = admin.group_lag("nobody").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_created_listed_and_deleted() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let admin = client.admin();
    admin.create_group(&GroupSpec::new("mail").max_retries(3)).await.unwrap();
    let groups = admin.groups().await.unwrap();
    let group = groups.iter().find(|group| group.name == "mail").unwrap();
    assert_eq!((group.max_retries, group.enabled), (3, true));
    assert_eq!(group.brokers, ["broker-0", "broker-1"]);
    admin.delete_group("mail").await.unwrap();
    let error = admin.delete_group("mail").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    client.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_are_listed_with_their_figures() {
    let cluster = Cluster::start(2).await;
    let client = cluster.client().await;
    let brokers = client.admin().brokers().await.unwrap();
    let names: Vec<_> = brokers.iter().map(|broker| (broker.name.as_str(), broker.id)).collect();
    assert_eq!(names, [("broker-0", 0), ("broker-1", 0)]);
    let runtime = client.admin().broker_runtime(&brokers[0].address).await.unwrap();
    assert!(runtime.contains_key("putTps"), "{runtime:?}");
    client.close().await;
    cluster.stop().await;
}
