//! A master and its slave: what the slave has and serves, what a send waits for, and how one takes
//! the other's place.

use broker::{Broker, Config};
use bytes::Bytes;
use protocol::{
    code::RequestCode,
    frame::Frame,
    header::NoFields,
    request::{
        offset::{Commit, Query, Queue},
        query::{ById, ByKey},
        send::Send,
        topic::CreateTopic,
    },
};
use tempfile::TempDir;

use crate::{
    cluster::{Names, Running, eventually},
    common::{Client, GROUP, TOPIC, bodies, message, number, outcome, properties, pull, records},
};

fn dirs() -> (TempDir, TempDir) {
    (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap())
}

fn queue(queue_id: i32) -> Queue<'static> {
    Queue { topic: TOPIC, queue_id }
}

fn by_key<'a>(key: &'a str, unique_key: bool) -> ByKey<'a> {
    ByKey {
        topic: TOPIC,
        key,
        max_messages: 32,
        begin_timestamp: 0,
        end_timestamp: i64::MAX,
        unique_key,
    }
}

fn commit(commit_offset: i64) -> Commit<'static> {
    Commit { consumer_group: GROUP, topic: TOPIC, queue_id: 0, commit_offset }
}

async fn committed(client: &Client) -> Frame {
    let query = Query {
        consumer_group: GROUP,
        topic: TOPIC,
        queue_id: 0,
        set_zero_if_not_found: Some(false),
    };
    client.call(RequestCode::QueryConsumerOffset, &query, Bytes::new()).await
}

async fn created(client: &Client, topic: &str) -> Frame {
    let create = CreateTopic {
        topic,
        default_topic: None,
        read_queues: 1,
        write_queues: 1,
        perm: 6,
        filter_type: None,
        sys_flag: 0,
        order: false,
        attributes: None,
    };
    client.call(RequestCode::UpdateAndCreateTopic, &create, Bytes::new()).await
}

/// A slave looks once a second whether its master is there, and sends readers there then.
async fn knows_its_master(at_slave: &Client) {
    eventually(async || {
        let frame = at_slave.pull(TOPIC, 0, 0).await;
        (number(&frame, "suggestWhichBrokerId") == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slave_has_and_serves_the_bytes_of_its_master() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let master = Running::start(names.broker(&m)).await;
    let slave = Running::start(names.slave(&s, 1)).await;
    let at_master = master.client().await;
    for at in 0..40 {
        let (key, id) = (format!("key-{at}"), format!("0A00000100002A9F0000000000000{at:03}"));
        let body = format!("body {at}");
        at_master.put(TOPIC, at % 4, &body, &[("KEYS", &key), ("UNIQ_KEY", &id)]).await;
    }
    at_master.pull(TOPIC, 0, 0).await;
    at_master.ok(RequestCode::UpdateConsumerOffset, &commit(3), Bytes::new()).await;
    eventually(async || (committed(&at_master).await.code == 0).then_some(())).await;
    slave.catches_up(&master).await;
    let at_slave = slave.client().await;
    knows_its_master(&at_slave).await;
    for queue_id in 0..4 {
        let (here, there) =
            (at_master.pull(TOPIC, queue_id, 0).await, at_slave.pull(TOPIC, queue_id, 0).await);
        assert_eq!(outcome(&there), (0, "FOUND"));
        assert_eq!(there.body, here.body);
        assert_eq!(number(&there, "suggestWhichBrokerId"), 0, "it has caught up");
        for code in [RequestCode::GetMaxOffset, RequestCode::GetMinOffset] {
            let here = at_master.ok(code, &queue(queue_id), Bytes::new()).await;
            let there = at_slave.ok(code, &queue(queue_id), Bytes::new()).await;
            assert_eq!(number(&here, "offset"), number(&there, "offset"));
        }
    }
    let found = at_slave.ok(RequestCode::QueryMessage, &by_key("key-7", false), Bytes::new()).await;
    assert_eq!(bodies(&found), ["body 7"]);
    let id = "0A00000100002A9F0000000000000011";
    let found = at_slave.ok(RequestCode::QueryMessage, &by_key(id, true), Bytes::new()).await;
    assert_eq!(bodies(&found), ["body 11"]);
    let by_id = ById { topic: None, log_offset: records(&found)[0].log_offset };
    let viewed = at_slave.ok(RequestCode::ViewMessageById, &by_id, Bytes::new()).await;
    assert_eq!(viewed.body, found.body);
    // Offsets are written with the next batch, at the latest a second later.
    let offset = eventually(async || {
        let frame = committed(&at_slave).await;
        (frame.code == 0).then(|| number(&frame, "offset"))
    });
    assert_eq!(offset.await, 3);

    let config = at_slave.ok(RequestCode::GetBrokerConfig, &NoFields, Bytes::new()).await;
    let config = String::from_utf8(config.body.to_vec()).unwrap();
    assert!(config.contains("brokerRole=SLAVE\n") && config.contains("brokerId=1\n"), "{config}");
    let members = names.members().await;
    assert_eq!(members, [(0, master.address()), (1, slave.address())]);
    let status = master.status().await;
    assert_eq!((status.master, status.in_sync_slave_nums), (true, 1));
    let connection = &status.ha_connection_info[0];
    assert_eq!((connection.broker_id, connection.diff, connection.in_sync), (1, 0, true));
    slave.stop().await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slave_takes_no_messages_and_changes_nothing() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let master = Running::start(names.broker(&m)).await;
    let slave = Running::start(names.slave(&s, 1)).await;
    let at_master = master.client().await;
    at_master.put(TOPIC, 0, "x", &[]).await;
    at_master.pull(TOPIC, 0, 0).await;
    slave.catches_up(&master).await;
    let at_slave = slave.client().await;
    for topic in [TOPIC, "Unknown"] {
        let frame = at_slave.send(&message(topic, 0), "x").await;
        let (code, remark) = outcome(&frame);
        assert_eq!(code, 2, "{remark}");
        assert!(remark.starts_with("[REJECTREQUEST]") && remark.contains("slave"), "{remark}");
        assert!(frame.fields.get("MSG_REGION").is_some(), "Java clients read it unasked");
    }
    let frame = created(&at_slave, "New").await;
    assert_eq!(frame.code, 1);
    assert!(outcome(&frame).1.contains("changed on the master"), "{:?}", frame.remark);
    // An offset beyond the slave's end may be right: the master knows.
    knows_its_master(&at_slave).await;
    let beyond = at_slave.pull(TOPIC, 0, 5).await;
    assert_eq!(outcome(&beyond), (20, "NO_MATCHED_MESSAGE"));
    assert_eq!(number(&beyond, "nextBeginOffset"), 5);
    assert_eq!(number(&beyond, "suggestWhichBrokerId"), 0);
    let frame = slave.change(RequestCode::DemoteBroker, false).await;
    assert!(outcome(&frame).1.contains("is a slave of broker-a already"), "{:?}", frame.remark);
    slave.stop().await;
    let config = Config { slave_read: false, ..names.slave(&s, 1) };
    let slave = Running::start(config).await;
    let frame = slave.client().await.pull(TOPIC, 0, 0).await;
    assert_eq!(frame.code, 2);
    assert!(outcome(&frame).1.starts_with("[REJECTREQUEST]"), "{:?}", frame.remark);
    slave.stop().await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_master_says_when_no_slave_has_a_message() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let sync = Config { role: "sync_master".to_owned(), ..names.broker(&m) };
    let master = Running::start(sync.clone()).await;
    let client = master.client().await;
    let alone = client.send(&message(TOPIC, 0), "alone").await;
    assert_eq!(alone.code, 11, "{:?}", alone.remark);
    assert_eq!(number(&alone, "queueOffset"), 0, "stored all the same");
    let hasty = properties(&[("WAIT", "false")]);
    let hasty = Send { properties: Some(&hasty), ..message(TOPIC, 0) };
    assert_eq!(client.send(&hasty, "hasty").await.code, 0);
    let frame = created(&client, "Alone").await;
    assert_eq!(frame.code, 11, "{:?}", frame.remark);
    assert_eq!(client.pull(TOPIC, 0, 0).await.code, 19, "nobody reads what could be lost");

    let slave = Running::start(names.slave(&s, 1)).await;
    slave.catches_up(&master).await;
    // The slave has them a moment before the master knows.
    let read = eventually(async || {
        let frame = client.pull(TOPIC, 0, 0).await;
        (frame.code == 0).then_some(frame)
    });
    assert_eq!(bodies(&read.await), ["alone", "hasty"]);
    assert_eq!(client.send(&message(TOPIC, 0), "together").await.code, 0);
    assert_eq!(created(&client, "Together").await.code, 0);
    assert_eq!(bodies(&client.pull(TOPIC, 0, 2).await), ["together"]);
    slave.stop().await;
    eventually(async || (client.send(&message(TOPIC, 0), "again").await.code == 11).then_some(()))
        .await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_master_says_when_slaves_are_slow() {
    let names = Names::start().await;
    let (m, s) = dirs();
    // No slave writes 3 MiB durably within a millisecond.
    let master = Running::start(Config {
        role: "sync_master".to_owned(),
        slave_timeout_ms: 1,
        replica_ack: "durable".to_owned(),
        ..names.broker(&m)
    })
    .await;
    let slave = Running::start(names.slave(&s, 1)).await;
    slave.catches_up(&master).await;
    let client = master.client().await;
    let late = client.send(&message(TOPIC, 0), vec![b'x'; 3 << 20]).await;
    assert_eq!(late.code, 12, "{:?}", late.remark);
    assert!(outcome(&late).1.contains("did not confirm it within 1 ms"), "{:?}", late.remark);
    let read = eventually(async || {
        let frame = client.pull(TOPIC, 0, 0).await;
        (frame.code == 0).then_some(frame)
    });
    assert_eq!(records(&read.await)[0].body.len(), 3 << 20);
    slave.stop().await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_slave_leads_and_the_old_master_follows_it_when_it_is_back() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let old = Running::start(names.broker(&m)).await;
    let new = Running::start(names.slave(&s, 1)).await;
    let client = old.client().await;
    for at in 0..10 {
        client.put(TOPIC, 0, &format!("before {at}"), &[]).await;
    }
    new.catches_up(&old).await;
    old.stop().await;
    new.promote(false).await;
    let client = new.client().await;
    assert_eq!(client.put(TOPIC, 0, "after", &[]).await, 10);
    let again = new.change(RequestCode::PromoteBroker, false).await;
    assert!(outcome(&again).1.contains("is the master of broker-a already"), "{:?}", again.remark);

    // Its configuration still says master.
    let old = Running::start(names.broker(&m)).await;
    old.follows().await;
    old.catches_up(&new).await;
    eventually(async || {
        let members = names.members().await;
        (members == [(0, new.address()), (1, old.address())]).then_some(())
    })
    .await;
    client.pull(TOPIC, 0, 0).await;
    old.catches_up(&new).await;
    let read = bodies(&old.client().await.pull(TOPIC, 0, 9).await);
    assert_eq!(read, ["before 9", "after"]);
    new.stop().await;

    // The role was saved: the configuration still says slave.
    let new = Running::start(names.slave(&s, 1)).await;
    new.leads().await;
    old.catches_up(&new).await;
    old.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_still_there_gives_way_to_a_promoted_slave() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let old = Running::start(names.broker(&m)).await;
    let new = Running::start(names.slave(&s, 3)).await;
    old.client().await.put(TOPIC, 0, "before", &[]).await;
    new.catches_up(&old).await;
    new.promote(true).await;
    old.follows().await;
    old.catches_up(&new).await;
    eventually(async || {
        let members = names.members().await;
        (members == [(0, new.address()), (3, old.address())]).then_some(())
    })
    .await;
    new.client().await.put(TOPIC, 0, "after", &[]).await;
    old.stop().await;
    new.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_leaves_only_when_a_slave_has_everything() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let master = Running::start(Config { slave_timeout_ms: 500, ..names.broker(&m) }).await;
    let client = master.client().await;
    client.put(TOPIC, 0, "first", &[]).await;
    let refused = master.change(RequestCode::DemoteBroker, false).await;
    assert_eq!(refused.code, 1);
    assert!(outcome(&refused).1.contains("still the master"), "{:?}", refused.remark);
    client.put(TOPIC, 0, "second", &[]).await;
    let slave = Running::start(names.slave(&s, 1)).await;
    slave.catches_up(&master).await;
    let left = master.change(RequestCode::DemoteBroker, false).await;
    assert_eq!(left.code, 0, "{:?}", left.remark);
    assert!(number(&left, "brokerId") > 1, "1 is the slave's");
    master.follows().await;
    assert_eq!(master.client().await.send(&message(TOPIC, 0), "x").await.code, 2);
    slave.promote(false).await;
    let client = slave.client().await;
    assert_eq!(client.put(TOPIC, 0, "third", &[]).await, 2, "nothing was lost");
    master.catches_up(&slave).await;
    master.stop().await;
    slave.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_committed_on_a_slave_reach_the_master_when_it_is_back() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let master = Running::start(names.broker(&m)).await;
    let slave = Running::start(names.slave(&s, 1)).await;
    let client = master.client().await;
    for at in 0..10 {
        client.put(TOPIC, 0, &format!("m{at}"), &[]).await;
    }
    client.pull(TOPIC, 0, 0).await;
    client.ok(RequestCode::UpdateConsumerOffset, &commit(2), Bytes::new()).await;
    slave.catches_up(&master).await;
    master.stop().await;
    let client = slave.client().await;
    // The slave knows within a second that nobody leads.
    let pulled = eventually(async || {
        let frame = client.call(RequestCode::PullMessage, &pull(TOPIC, 0, 2), Bytes::new()).await;
        (number(&frame, "suggestWhichBrokerId") == 1).then_some(frame)
    });
    assert_eq!(bodies(&pulled.await).len(), 8);
    assert_eq!(client.pull(TOPIC, 0, 10).await.code, 19, "it tells the end by itself");
    client.ok(RequestCode::UpdateConsumerOffset, &commit(7), Bytes::new()).await;
    assert_eq!(number(&committed(&client).await, "offset"), 7);

    let master = Running::start(names.broker(&m)).await;
    let client = master.client().await;
    eventually(async || (number(&committed(&client).await, "offset") == 7).then_some(())).await;
    slave.stop().await;
    master.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stores_that_do_not_belong_together_stay_apart() {
    let names = Names::start().await;
    let (m, s) = dirs();
    let foreign = Broker::start(crate::common::config(&s)).await.unwrap();
    foreign.shutdown().await;
    let master = Running::start(names.broker(&m)).await;
    let slave = Running::start(names.slave(&s, 1)).await;
    let client = slave.client().await;
    let refused = eventually(async || {
        let frame = client.ok(RequestCode::GetBrokerRuntimeInfo, &NoFields, Bytes::new()).await;
        let body = String::from_utf8(frame.body.to_vec()).unwrap();
        body.contains("masterLastError").then_some(body)
    });
    assert!(refused.await.contains("store"), "it says why");
    assert!(!slave.status().await.ha_client_runtime_info.activated);
    assert!(master.status().await.ha_connection_info.is_empty());
    slave.stop().await;
    // As a master, it would take the name from the other one.
    std::fs::remove_file(s.path().join("store/replica")).ok();
    let error = Broker::start(names.broker(&s)).await.unwrap_err().to_string();
    assert!(error.contains(&master.address()) && error.contains("another name"), "{error}");
    master.stop().await;
}

#[tokio::test]
async fn contradictions_do_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { broker_id: 1, ..crate::common::config(&dir) };
    let error = Broker::start(config).await.unwrap_err().to_string();
    assert!(error.contains("a master has broker_id 0"), "{error}");
}
