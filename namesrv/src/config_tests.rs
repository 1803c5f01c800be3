//! The table of keys and the struct say the same, and a change at run time stays in the allow-list.

use super::*;

#[test]
fn every_field_has_a_key_and_every_key_a_field() {
    let table = toml::Table::try_from(Config::default()).unwrap();
    let mut fields: Vec<_> = table.keys().map(String::as_str).collect();
    let mut keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    fields.sort_unstable();
    keys.sort_unstable();
    assert_eq!(keys, fields);
}

#[test]
fn printed_defaults_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("namesrv.toml");
    std::fs::write(&path, Config::default().print()).unwrap();
    let (config, warnings) = Config::load(Some(&path), None).unwrap();
    assert_eq!(config, Config::default());
    assert!(warnings.is_empty());
}

#[test]
fn rocketmq_file_is_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("namesrv.conf");
    let text = "listenPort=19876\nkvConfigPath=/tmp/kv.json\norderMessageEnable=TRUE\n\
                serverWorkerThreads=8\nscanNotActiveBrokerInterval = 2000\n";
    std::fs::write(&path, text).unwrap();
    let (config, warnings) = Config::load(Some(&path), Some("[::1]:0")).unwrap();
    assert_eq!(config.listen(), "[::1]:0".parse().unwrap());
    assert!(config.order_message_enable);
    assert_eq!(config.scan_not_active_broker_interval_ms, 2_000);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("line 4: `serverWorkerThreads` has no effect"));
}

#[test]
fn listen_takes_a_port_or_an_address() {
    let listen = |text| Config::load(None, Some(text)).map(|(config, _)| config.listen());
    assert_eq!(listen("7").unwrap(), "0.0.0.0:7".parse().unwrap());
    assert_eq!(listen("127.0.0.1:8").unwrap(), "127.0.0.1:8".parse().unwrap());
    let error = listen("localhost:8").unwrap_err().to_string();
    assert!(error.contains("--listen: `bind_address` = \"localhost\""), "{error}");
    assert!(listen("127.0.0.1:http").is_err());
    assert!(listen("65536").is_err());
}

#[test]
fn only_allowed_keys_change_at_run_time_and_all_or_none() {
    let config = Config::default();
    let changed = config.changed("supportActingMaster=true\nwaitSecondsForService=7\n").unwrap();
    assert!(changed.support_acting_master);
    assert_eq!(changed.wait_seconds_for_service, 7);
    for forbidden in ["kvConfigPath=/etc/passwd", "configStorePath=x", "listenPort=1", "x=1"] {
        let error = config.changed(&format!("supportActingMaster=true\n{forbidden}")).unwrap_err();
        assert!(matches!(error, ChangeError::NotAllowed { .. }), "{error}");
    }
    let error = config.changed("supportActingMaster=maybe").unwrap_err();
    assert!(matches!(error, ChangeError::Value(_)), "{error}");
    assert!(config.java_lines().contains("supportActingMaster=false\n"));
    assert!(config.java_lines().contains("listenPort=9876\n"));
}
