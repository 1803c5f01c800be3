use super::*;

type Names = Clients<&'static str>;

fn member(name: &'static str, id: u64, seen_ms: i64) -> Member<&'static str> {
    Member {
        connection: name,
        connection_id: id,
        client_id: name.into(),
        address: "10.0.0.9:5".parse().unwrap(),
        language: Language::Java,
        version: 479,
        seen_ms,
    }
}

fn manner(broadcast: bool) -> Manner {
    Manner {
        consume_type: "CONSUME_PASSIVELY".to_owned(),
        broadcast,
        from: "CONSUME_FROM_LAST_OFFSET".to_owned(),
    }
}

fn subscription(topic: &str, version: i64) -> Subscription {
    Subscription {
        topic: topic.to_owned(),
        expression: "*".to_owned(),
        expression_type: "TAG".to_owned(),
        version,
        class_filter: false,
        tags: Vec::new(),
        codes: Vec::new(),
        filter: Some(Filter::All),
    }
}

fn told(notice: Option<Notice<&'static str>>) -> Vec<&'static str> {
    notice.map_or_else(Vec::new, |notice| notice.connections)
}

fn clients() -> Names {
    Clients::new(120_000, 600_000)
}

#[test]
fn all_members_hear_of_a_new_one_and_of_one_that_leaves() {
    let clients = clients();
    let join = |name, id| {
        let topics = Some(vec![subscription("T", 1)]);
        told(clients.consumes("g", member(name, id, 0), manner(false), topics).notice)
    };
    assert_eq!(join("a", 1), ["a"]);
    assert_eq!(join("b", 2), ["a", "b"]);
    assert_eq!(join("b", 2), [""; 0], "a mere renewal");
    assert_eq!(told(clients.leave(1, None, Some("g"), 5)), ["b"]);
    assert_eq!(told(clients.leave(1, None, Some("g"), 5)), [""; 0], "gone already");
    assert_eq!(clients.client_ids("g"), ["b"]);
}

#[test]
fn a_disconnect_removes_at_once_from_every_group() {
    let clients = clients();
    for group in ["g", "h"] {
        clients.consumes(group, member("a", 1, 0), manner(false), None);
        clients.consumes(group, member("b", 2, 0), manner(false), None);
    }
    clients.produces("p", member("a", 1, 0));
    let mut notices = clients.gone(1, 0);
    notices.sort_by(|x, y| x.group.cmp(&y.group));
    assert_eq!(notices.len(), 2);
    assert!(notices.iter().all(|notice| notice.connections == ["b"]));
    assert!(clients.producers("p").is_empty());
    assert!(clients.gone(1, 0).is_empty());
}

#[test]
fn broadcasting_groups_are_never_told() {
    let clients = clients();
    let first = clients.consumes("g", member("a", 1, 0), manner(true), None);
    assert!(first.notice.is_none());
    clients.consumes("g", member("b", 2, 0), manner(true), None);
    assert!(clients.gone(1, 0).is_empty());
}

#[test]
fn silent_clients_expire_and_others_are_told() {
    let clients = clients();
    clients.consumes("g", member("a", 1, 0), manner(false), None);
    clients.consumes("g", member("b", 2, 60_000), manner(false), None);
    clients.produces("p", member("a", 1, 0));
    let (notices, closed) = clients.expire(119_999);
    assert!(notices.is_empty() && closed.is_empty());
    let (notices, closed) = clients.expire(120_000);
    assert_eq!(closed, ["a"]);
    assert_eq!(notices.len(), 1);
    assert_eq!(notices[0].connections, ["b"]);
    assert!(clients.producers("p").is_empty());
}

#[test]
fn a_client_that_renews_one_group_only_leaves_the_other() {
    let clients = clients();
    clients.consumes("g", member("a", 1, 0), manner(false), None);
    clients.consumes("h", member("a", 1, 100_000), manner(false), None);
    let (_, closed) = clients.expire(130_000);
    assert!(closed.is_empty(), "the connection is alive");
    assert!(clients.client_ids("g").is_empty());
    assert_eq!(clients.client_ids("h"), ["a"]);
}

#[test]
fn subscriptions_outlive_the_last_member_for_a_while() {
    let clients = clients();
    let topics = Some(vec![subscription("T", 1)]);
    clients.consumes("g", member("a", 1, 0), manner(false), topics);
    clients.gone(1, 1_000);
    assert!(matches!(clients.lookup("g", "T"), Lookup::Subscribed { .. }));
    assert!(clients.consumer_group("g").is_none());
    clients.expire(600_999);
    assert!(matches!(clients.lookup("g", "T"), Lookup::Subscribed { .. }));
    clients.expire(601_000);
    assert!(matches!(clients.lookup("g", "T"), Lookup::NoGroup));
}

#[test]
fn the_last_member_to_speak_sets_the_groups_subscriptions() {
    let clients = clients();
    let beat = |topics| clients.consumes("g", member("a", 1, 0), manner(false), Some(topics));
    beat(vec![subscription("T", 2), subscription("U", 2)]);
    assert!(beat(vec![subscription("T", 2)]).notice.is_some(), "a topic went");
    assert!(matches!(clients.lookup("g", "U"), Lookup::NoSubscription));
    beat(vec![subscription("T", 1)]);
    let version = |clients: &Names| match clients.lookup("g", "T") {
        Lookup::Subscribed { subscription, .. } => subscription.version,
        other => panic!("{other:?}"),
    };
    assert_eq!(version(&clients), 2, "an older version does not replace a newer one");
    assert!(beat(vec![subscription("T", 3)]).notice.is_none(), "the same topics");
    assert_eq!(version(&clients), 3);
}

#[test]
fn a_heartbeat_without_subscriptions_keeps_or_wants_them() {
    let clients = clients();
    let bare = || clients.consumes("g", member("a", 1, 0), manner(false), None);
    assert!(bare().wants_subscriptions);
    clients.consumes("g", member("a", 1, 0), manner(false), Some(vec![subscription("T", 1)]));
    assert!(!bare().wants_subscriptions);
    assert!(matches!(clients.lookup("g", "T"), Lookup::Subscribed { .. }));
}

#[test]
fn a_changed_fingerprint_is_noticed_once() {
    let clients = clients();
    assert!(!clients.fingerprint("g", 7), "none was known");
    assert!(!clients.fingerprint("g", 7));
    assert!(clients.fingerprint("g", 8));
    assert!(!clients.fingerprint("g", 8));
}

#[test]
fn groups_and_topics_find_each_other() {
    let clients = clients();
    let topics = Some(vec![subscription("T", 1), subscription("%RETRY%g", 1)]);
    clients.consumes("g", member("a", 1, 0), manner(false), topics);
    assert_eq!(clients.groups_reading("T"), ["g"]);
    assert_eq!(clients.topics_of("g"), ["%RETRY%g", "T"]);
    clients.gone(1, 0);
    assert!(clients.groups_reading("T").is_empty());
}
