//! `mqtool ha` and `mqtool broker`.

use crate::{fails, json, ok, server::Dev};

#[test]
fn a_master_without_slaves_says_so_and_does_not_leave() {
    let dev = Dev::start(&[]);
    let table = ok(&dev.run(&["ha", "status"]));
    assert!(table.starts_with("CLUSTER") && table.contains("no slaves"), "{table}");
    let rows = json(&ok(&dev.run(&["ha", "status", "-o", "json"])));
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!((&rows[0]["role"], &rows[0]["id"]), (&"master".into(), &0.into()));
    assert!(rows[0]["epoch"].as_i64().unwrap() > 0, "{rows:?}");

    let said = fails(&dev.run(&["broker", "promote", &dev.broker, "--yes"]), 1);
    assert!(said.contains("is a master already"), "{said}");
    let said = fails(&dev.run(&["broker", "demote", &dev.broker]), 1);
    assert!(said.contains("nothing was changed") && said.contains("--yes"), "{said}");
    let said = fails(&dev.run(&["broker", "demote", &dev.broker, "--yes"]), 1);
    assert!(said.contains("no slave of dev has everything"), "{said}");
    ok(&dev.run_with(&["msg", "send", "--topic", "orders", "-"], b"still a master\n"));
}
