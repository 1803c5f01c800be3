//! The rules of registration, one test each, with times and connections as plain numbers.

use super::*;

const T0: i64 = 1_000_000;

fn version(counter: i64) -> DataVersion {
    DataVersion { counter, state_version: 0, timestamp: 5 }
}

fn topics(names: &[&str]) -> Vec<(String, Queues)> {
    let queues = Queues { read: 4, write: 4, perm: 6, sys_flag: 0 };
    names.iter().map(|name| ((*name).to_owned(), queues)).collect()
}

fn who<'a>(broker: &'a str, address: &'a str) -> Identity<'a> {
    Identity { cluster: "C", broker, address }
}

fn registration<'a>(
    broker: &'a str,
    id: i64,
    address: &'a str,
    topics: &'a [(String, Queues)],
) -> Registration<'a> {
    Registration {
        identity: who(broker, address),
        id,
        ha_address: "ha",
        zone: None,
        enable_acting_master: None,
        silence_max_ms: None,
        fingerprint: 0,
        topics: Some(Topics { version: version(1), layout: topics }),
        complete: false,
        connection: 1,
        now_ms: T0,
    }
}

fn route(table: &RouteTable, topic: &str) -> Option<String> {
    route_with(table, topic, RouteOptions::default())
}

fn route_with(table: &RouteTable, topic: &str, options: RouteOptions) -> Option<String> {
    table.route(topic, || options).map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// `broker:perm` of each group of a topic, and whether its addresses are `expected`.
fn perms(table: &RouteTable, topic: &str) -> Vec<(String, i32)> {
    let state = table.read();
    let groups = state.topics.get(topic).into_iter().flatten();
    groups.map(|(broker, queues)| (broker.to_string(), queues.perm)).collect()
}

fn addresses(table: &RouteTable, broker: &str) -> Vec<(i64, String)> {
    table.members("C", broker).broker_addrs.into_iter().collect()
}

#[test]
fn route_is_the_strict_json_of_rocketmq() {
    let table = RouteTable::default();
    let two = topics(&["TopicTest", "Other"]);
    let mut master = registration("broker-a", 0, "10.0.0.1:10911", &two);
    master.identity.cluster = "DefaultCluster";
    table.register(&master).unwrap();
    let mut slave = registration("broker-a", 1, "10.0.0.2:10911", &two);
    slave.identity.cluster = "DefaultCluster";
    table.register(&slave).unwrap();
    let expected = r#"{"brokerDatas":[{"brokerAddrs":{"0":"10.0.0.1:10911","1":"10.0.0.2:10911"},"brokerName":"broker-a","cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},"queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":4,"topicSysFlag":0,"writeQueueNums":4}]}"#;
    assert_eq!(route(&table, "TopicTest").unwrap(), expected);
    assert_eq!(route(&table, "Unknown"), None);
    let ordered = RouteOptions { order: Some("broker-a:4".into()), ..RouteOptions::default() };
    let ordered = route_with(&table, "Other", ordered).unwrap();
    assert!(ordered.contains(r#""orderTopicConf":"broker-a:4","queueDatas""#), "{ordered}");
}

#[test]
fn route_is_made_once_until_something_in_it_changes() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    table.register(&registration("a", 0, "a0", &two)).unwrap();
    let made = std::cell::Cell::new(0);
    let ask = |topic: &str| {
        table.route(topic, || {
            made.set(made.get() + 1);
            RouteOptions::default()
        })
    };
    ask("T").unwrap();
    ask("U").unwrap();
    ask("T").unwrap();
    table.register(&registration("a", 0, "a0", &two)).unwrap();
    ask("T").unwrap();
    assert_eq!(made.get(), 2, "an unchanged registration keeps routes");

    let mut changed = topics(&["T", "U"]);
    changed[1].1.read = 8;
    let mut again = registration("a", 0, "a0", &changed);
    again.topics.as_mut().unwrap().version = version(2);
    table.register(&again).unwrap();
    ask("T").unwrap();
    assert_eq!(made.get(), 2, "a change of U keeps the route of T");
    assert!(String::from_utf8_lossy(&ask("U").unwrap()).contains(r#""readQueueNums":8"#));
    assert_eq!(made.get(), 3);

    table.register(&registration("a", 1, "a1", &two)).unwrap();
    assert!(String::from_utf8_lossy(&ask("T").unwrap()).contains(r#""1":"a1""#));
    table.forget_all();
    ask("T").unwrap();
    assert_eq!(made.get(), 5);
}

#[test]
fn promoted_slave_has_one_entry() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    table.register(&registration("a", 1, "x", &two)).unwrap();
    assert_eq!(route(&table, "T"), None, "a slave brings no topics");
    table.register(&registration("a", 0, "x", &two)).unwrap();
    assert_eq!(addresses(&table, "a"), [(0, "x".to_owned())]);
    assert!(route(&table, "T").is_some());
}

#[test]
fn stale_master_is_ignored_with_success() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    let mut new = registration("a", 0, "new", &two);
    new.topics.as_mut().unwrap().version.state_version = 2;
    table.register(&new).unwrap();
    let mut old = registration("a", 0, "old", &two);
    old.topics.as_mut().unwrap().version.state_version = 1;
    old.connection = 9;
    assert_eq!(table.register(&old).unwrap(), Registered::default());
    assert_eq!(addresses(&table, "a"), [(0, "new".to_owned())]);
    assert!(table.disconnected(9).is_empty());
    old.topics.as_mut().unwrap().version.state_version = 2;
    table.register(&old).unwrap();
    assert_eq!(addresses(&table, "a"), [(0, "old".to_owned())], "an equal one takes over");
}

#[test]
fn first_registration_with_one_topic_is_refused_and_leaves_nothing() {
    let table = RouteTable::default();
    let one = topics(&["T"]);
    let refused = table.register(&registration("a", 0, "a0", &one)).unwrap_err();
    assert_eq!(refused.to_string(), "register broker failed");
    assert!(table.clusters().broker_addr_table.is_empty());
    assert!(table.clusters().cluster_addr_table.is_empty());
    table.register(&registration("a", 0, "a0", &topics(&["T", "U"]))).unwrap();
    let mut one_more = registration("a", 0, "a0", &one);
    one_more.topics.as_mut().unwrap().version = version(2);
    table.register(&one_more).unwrap();
    assert!(route(&table, "U").is_some(), "a single topic after a full registration adds");
}

#[test]
fn topics_are_replaced_only_by_another_version_of_the_master() {
    let table = RouteTable::default();
    let before = topics(&["T", "U"]);
    table.register(&registration("a", 0, "a0", &before)).unwrap();
    let mut after = topics(&["T", "U", "V"]);
    after[0].1.perm = 4;
    table.register(&registration("a", 0, "a0", &after)).unwrap();
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 6)], "same version");
    let mut slave = registration("a", 1, "a1", &after);
    slave.topics.as_mut().unwrap().version = version(3);
    table.register(&slave).unwrap();
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 6)], "from a slave");
    let mut master = registration("a", 0, "a0", &after);
    master.topics.as_mut().unwrap().version = version(2);
    table.register(&master).unwrap();
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 4)]);
    assert!(route(&table, "V").is_some());
}

#[test]
fn complete_registrations_drop_missing_topics_but_single_ones_do_not() {
    let table = RouteTable::default();
    table.register(&registration("a", 0, "a0", &topics(&["T", "U", "V"]))).unwrap();
    let register = |names: &[&str], counter| {
        let topics = topics(names);
        let mut new = registration("a", 0, "a0", &topics);
        new.complete = true;
        new.topics.as_mut().unwrap().version = version(counter);
        table.register(&new).unwrap();
    };
    register(&["T"], 2);
    assert!(route(&table, "V").is_some());
    register(&["T", "U"], 3);
    assert_eq!(route(&table, "V"), None);
    assert_eq!(table.topics(Kind::All), ["T", "U"]);
}

#[test]
fn lowest_slave_of_a_group_without_master_brings_topics_that_cannot_be_written() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    let mut slave = registration("a", 2, "a2", &two);
    slave.enable_acting_master = Some(true);
    table.register(&slave).unwrap();
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 4)]);
    let plain = route(&table, "T").unwrap();
    assert!(plain.contains(r#"{"2":"a2"}"#), "{plain}");
    table.forget_all();
    let acting = RouteOptions { acting_master: true, ..RouteOptions::default() };
    let acting = route_with(&table, "T", acting).unwrap();
    assert!(acting.contains(r#"{"0":"a2"}"#), "{acting}");
    assert!(acting.contains(r#""enableActingMaster":true"#), "{acting}");
}

#[test]
fn group_that_loses_its_master_can_not_be_written() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    for (id, address) in [(0, "a0"), (1, "a1")] {
        let mut new = registration("a", id, address, &two);
        new.enable_acting_master = Some(true);
        table.register(&new).unwrap();
    }
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 6)]);
    let removed = table.unregister(who("a", "a0")).unwrap();
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 4)]);
    let lowest = removed.lowest.unwrap();
    assert_eq!((lowest.id, lowest.gone.as_deref()), (1, Some("a0")));
    assert_eq!(lowest.tell, ["a1"]);
}

#[test]
fn slave_learns_its_master_and_lower_ids_are_announced() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    let slave = table.register(&registration("a", 1, "a1", &two)).unwrap();
    assert_eq!((slave.master, slave.lowest, slave.first), (None, None, true));
    let master = table.register(&registration("a", 0, "a0", &two)).unwrap();
    let lowest = master.lowest.unwrap();
    assert_eq!((lowest.id, lowest.address.as_str(), lowest.gone), (0, "a0", None));
    assert_eq!(lowest.tell, ["a1"]);
    let slave = table.register(&registration("a", 1, "a1", &two)).unwrap();
    assert_eq!(slave.master, Some(("a0".to_owned(), "ha".to_owned())));
    assert!(!slave.first);
}

#[test]
fn last_member_takes_the_group_and_its_topics_along() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    table.register(&registration("a", 0, "a0", &two)).unwrap();
    table.register(&registration("b", 0, "b0", &two[..1])).unwrap_err();
    table.register(&registration("b", 0, "b0", &topics(&["T", "W"]))).unwrap();
    assert!(table.unregister(who("a", "another address")).is_none());
    table.unregister(who("a", "a0")).unwrap();
    assert_eq!(table.topics(Kind::All), ["T", "W"]);
    assert!(!route(&table, "T").unwrap().contains("a0"));
    table.unregister(who("b", "b0")).unwrap();
    let state = table.read();
    assert!(state.groups.is_empty() && state.topics.is_empty());
    assert_eq!(state.entries, 0);
    assert!(!state.has_connection(1));
}

#[test]
fn disconnect_removes_exactly_what_registered_over_it() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    let register = |broker, id, address, connection| {
        let mut new = registration(broker, id, address, &two);
        new.connection = connection;
        table.register(&new).unwrap();
    };
    register("a", 0, "a0", 1);
    register("a", 1, "a1", 2);
    register("b", 0, "b0", 1);
    register("c", 0, "c0", 3);
    register("c", 0, "c0", 4); // the same broker over a new connection
    assert!(!table.read().has_connection(3), "what holds nothing is forgotten");
    assert!(table.disconnected(3).is_empty());
    let removed = table.disconnected(1);
    let names: Vec<_> = removed.iter().map(|r| (r.broker.as_str(), r.id)).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&("a", 0)) && names.contains(&("b", 0)));
    assert_eq!(addresses(&table, "a"), [(1, "a1".to_owned())]);
    assert!(route(&table, "T").unwrap().contains(r#"{"1":"a1"}"#), "consumers can go on");
    assert_eq!(addresses(&table, "c"), [(0, "c0".to_owned())]);
    assert!(table.disconnected(1).is_empty());
}

#[test]
fn silence_expires_after_two_minutes_or_the_brokers_own_limit() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    table.register(&registration("slow", 0, "s0", &two)).unwrap();
    let mut quick = registration("quick", 0, "q0", &two);
    quick.silence_max_ms = Some(10_000);
    quick.connection = 2;
    table.register(&quick).unwrap();
    assert!(table.expire(T0 + 10_000).is_empty(), "exactly the limit is in time");
    let removed = table.expire(T0 + 10_001);
    assert_eq!((removed.len(), removed[0].broker.as_str()), (1, "quick"));
    assert_eq!(removed[0].connection, 2);
    assert!(table.heartbeat(who("slow", "s0"), T0 + 60_000));
    assert!(!table.heartbeat(who("slow", "other"), T0 + 60_000));
    assert!(table.expire(T0 + 180_000).is_empty());
    assert_eq!(table.expire(T0 + 180_001).len(), 1);
    assert_eq!(route(&table, "T"), None);
}

#[test]
fn deleted_topic_comes_back_only_with_its_broker() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    table.register(&registration("a", 0, "a0", &two)).unwrap();
    let mut other = registration("b", 0, "b0", &two);
    other.identity.cluster = "D";
    table.register(&other).unwrap();
    table.wipe_write_permission("a");
    table.delete_topic("T", Some("C"));
    assert_eq!(perms(&table, "T"), [("b".to_owned(), 6)]);
    table.delete_topic("T", None);
    assert_eq!(route(&table, "T"), None);
    table.register(&registration("a", 0, "a0", &two)).unwrap();
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 6)]);
    assert_eq!(perms(&table, "U")[0], ("a".to_owned(), 4), "a wiped permission stays wiped");
}

#[test]
fn write_permission_is_wiped_and_added_for_a_whole_group() {
    let table = RouteTable::default();
    table.register(&registration("a", 0, "a0", &topics(&["T", "U"]))).unwrap();
    table.register(&registration("b", 0, "b0", &topics(&["T", "W"]))).unwrap();
    route(&table, "T").unwrap();
    assert_eq!(table.wipe_write_permission("a"), 2);
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 4), ("b".to_owned(), 6)]);
    assert!(route(&table, "T").unwrap().contains(r#""brokerName":"a","perm":4"#));
    assert_eq!(table.add_write_permission("a"), 2);
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 6), ("b".to_owned(), 6)]);
    assert_eq!(table.wipe_write_permission("unknown"), 0);
}

#[test]
fn single_topic_is_added_only_where_it_is_missing() {
    let table = RouteTable::default();
    table.register(&registration("a", 0, "a0", &topics(&["T", "U"]))).unwrap();
    let queues = Queues { read: 1, write: 1, perm: 4, sys_flag: 0 };
    let layout = |broker: &str| vec![(broker.to_owned(), queues)];
    table.add_topic("T", &layout("a")).unwrap();
    table.add_topic("N", &layout("a")).unwrap();
    table.add_topic("N", &layout("unknown")).unwrap();
    assert_eq!(perms(&table, "T"), [("a".to_owned(), 6)]);
    assert_eq!(perms(&table, "N"), [("a".to_owned(), 4)]);
    let error = table.add_topic("", &layout("a")).unwrap_err();
    assert_eq!(error.to_string(), "the topic name has 0 bytes, 1 to 255 are possible");
}

#[test]
fn lists_are_by_cluster_and_kind() {
    let table = RouteTable::default();
    let mut mixed = topics(&["none", "unit", "both", "sub"]);
    for (entry, flag) in mixed.iter_mut().zip([0, 1, 3, 2]) {
        entry.1.sys_flag = flag;
    }
    table.register(&registration("a", 0, "a0", &mixed)).unwrap();
    let mut other = registration("b", 0, "b0", &mixed[..2]);
    other.identity.cluster = "D";
    table.register(&other).unwrap();
    assert_eq!(table.topics(Kind::Unit), ["both", "unit"]);
    assert_eq!(table.topics(Kind::UnitSubscription), ["both", "sub"]);
    assert_eq!(table.topics(Kind::UnitSubscriptionOnly), ["sub"]);
    assert_eq!(table.topics_of_cluster("D"), ["none", "unit"]);
    assert!(table.topics_of_cluster("unknown").is_empty());
    let (names, address) = table.system_topics();
    assert_eq!(names, ["C", "D", "a", "b"]);
    assert_eq!(address.as_deref(), Some("a0"));
}

#[test]
fn zone_keeps_its_own_groups_and_those_without_master() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    for (broker, id, zone) in [("here", 0, "Z1"), ("there", 0, "z2"), ("orphan", 0, "z2")] {
        let mut new = registration(broker, id, broker, &two);
        new.zone = Some(zone);
        table.register(&new).unwrap();
    }
    let mut slave = registration("orphan", 1, "o1", &two);
    slave.zone = Some("z2");
    table.register(&slave).unwrap();
    table.unregister(who("orphan", "orphan")).unwrap();
    let route = table.route_in_zone("T", "z1", &RouteOptions::default()).unwrap();
    let route = String::from_utf8(route.to_vec()).unwrap();
    assert!(route.contains("here") && route.contains("orphan"), "{route}");
    assert!(!route.contains("there"), "{route}");
    assert!(route.contains(r#""zoneName":"Z1""#), "{route}");
}

#[test]
fn names_and_numbers_are_bounded() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    let long = "n".repeat(256);
    let refused = table.register(&registration(&long, 0, "a0", &two)).unwrap_err();
    assert_eq!(refused, Refused::Name { what: "broker name", bytes: 256 });
    table.register(&registration("a", 0, "", &two)).unwrap_err();
    let odd = topics(&[&long, "", "fine"]);
    table.register(&registration("a", 0, "a0", &odd)).unwrap();
    assert_eq!(table.topics(Kind::All), ["fine"], "impossible topic names are left out");
    for id in 1..10_000 {
        let address = format!("a{id}");
        table.register(&registration("a", id, &address, &two)).unwrap();
    }
    let refused = table.register(&registration("b", 0, "b0", &two)).unwrap_err();
    assert_eq!(refused, Refused::TooManyBrokers);
    table.register(&registration("a", 5, "a5", &two)).unwrap();
}

#[test]
fn repeated_registration_is_known_by_its_fingerprint() {
    let table = RouteTable::default();
    let two = topics(&["T", "U"]);
    let repeat = |fingerprint: u64, address: &str| {
        let mut new = registration("a", 0, address, &[]);
        (new.fingerprint, new.topics, new.now_ms) = (fingerprint, None, T0 + 100_000);
        table.register(&new)
    };
    assert_eq!(repeat(7, "a0"), Err(Refused::NotTheSame), "unknown");
    let mut new = registration("a", 0, "a0", &two);
    new.fingerprint = 7;
    table.register(&new).unwrap();
    assert_eq!(repeat(8, "a0"), Err(Refused::NotTheSame));
    assert_eq!(repeat(7, "other"), Err(Refused::NotTheSame));
    assert_eq!(repeat(7, "a0"), Ok(Registered::default()));
    assert!(table.expire(T0 + 200_000).is_empty(), "it renews");
    assert_eq!(table.version(who("a", "a0")), Some(version(1)));
    assert!(route(&table, "T").is_some());
    table.delete_topic("T", None);
    assert_eq!(repeat(7, "a0"), Err(Refused::NotTheSame), "a topic has to come back");
    table.register(&new).unwrap();
    assert_eq!(repeat(7, "a0"), Ok(Registered::default()));
}
