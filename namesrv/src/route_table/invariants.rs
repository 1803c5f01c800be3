//! Whatever happens in whatever order, the registry agrees with itself and ready routes with it.

use proptest::prelude::{any, prop, proptest};

use super::*;

const TOPICS: [&str; 4] = ["T", "U", "V", "W"];
const BROKERS: [&str; 3] = ["a", "b", "c"];
const ADDRESSES: [&str; 4] = ["1", "2", "3", "4"];

/// One step: what to do, and numbers that say to whom.
type Step = (u8, u8, u8, u8);

fn pick<const N: usize>(names: [&'static str; N], number: u8) -> &'static str {
    names[usize::from(number) % N]
}

fn run(table: &RouteTable, (what, x, y, z): Step, now_ms: i64) {
    let who = Identity { cluster: "C", broker: pick(BROKERS, x), address: pick(ADDRESSES, y) };
    let queues = |perm| Queues { read: 4, write: 4, perm, sys_flag: 0 };
    match what % 9 {
        0..=2 => {
            let held = TOPICS.iter().enumerate().filter(|(bit, _)| z >> bit & 1 == 1);
            let layout: Vec<_> = held.map(|(_, topic)| ((*topic).to_owned(), queues(6))).collect();
            let counter = i64::from(z >> 6);
            let version = DataVersion { counter, state_version: counter, timestamp: 0 };
            let repeat = what % 9 == 2;
            let _refused_or_not = table.register(&Registration {
                identity: who,
                id: i64::from(y / 4 % 3),
                ha_address: "",
                zone: None,
                enable_acting_master: (x & 0x80 != 0).then_some(true),
                silence_max_ms: (z & 0x20 != 0).then_some(5),
                fingerprint: u64::from(z),
                topics: (!repeat).then_some(Topics { version, layout: &layout }),
                complete: y & 0x80 != 0,
                connection: u64::from(x / 3 % 4),
                now_ms,
            });
        }
        3 => drop(table.unregister(who)),
        4 => drop(table.disconnected(u64::from(x % 4))),
        5 => drop(table.expire(now_ms)),
        6 => {
            let _deleted = table.delete_topic(pick(TOPICS, z), (x & 1 == 0).then_some("C"));
        }
        7 => {
            let layout = [(who.broker.to_owned(), queues(4))];
            table.add_topic(pick(TOPICS, z), &layout).unwrap();
        }
        _ if z & 1 == 0 => drop(table.wipe_write_permission(who.broker)),
        _ => drop(table.add_write_permission(who.broker)),
    }
}

fn check(table: &RouteTable) {
    for topic in TOPICS {
        let ready = table.route(topic, RouteOptions::default);
        let fresh = table.read().route(topic, &RouteOptions::default());
        assert_eq!(ready, fresh.map(|(_, route)| json::encode(&route)), "route of {topic}");
    }
    table.read().check();
}

proptest! {
    #[test]
    fn registry_agrees_with_itself(steps in prop::collection::vec(any::<Step>(), 1..60)) {
        let table = RouteTable::default();
        for (now_ms, step) in (0..).zip(steps) {
            run(&table, step, now_ms);
            check(&table);
        }
    }
}
