//! `mqtool store` on a directory whose broker is down.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::PathBuf,
};

use protocol::{clock::Clock, property, record::NewRecord};
use storage::{AppendBatch, Config, Store, TopicConfig};
use tempfile::TempDir;

use super::{data, fails, json, ok, run, words};

/// A closed store with five messages in queue 1 of topic T.
struct Closed {
    _dir: TempDir,
    config: Config,
    /// Log offset and size of each.
    places: Vec<(u64, u32)>,
}

fn push(batch: &mut AppendBatch, topic: &std::sync::Arc<storage::Topic>, number: u32) {
    let mut properties = String::new();
    property::push(&mut properties, "KEYS", &format!("key{number}"));
    let body = format!("body {number}");
    let host = "127.0.0.1:10911".parse().unwrap();
    let record = NewRecord {
        topic: "",
        queue_id: 0,
        flag: 0,
        sys_flag: 0,
        born_timestamp: 1,
        born_host: host,
        store_host: host,
        reconsume_times: 0,
        prepared_transaction_offset: 0,
        body: body.as_bytes(),
        properties: &[&properties],
    };
    batch.push(topic, 1, &record).unwrap();
}

impl Closed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::new(dir.path().join("store"));
        config.segment_size_bytes = 64 << 10;
        let store = Store::open(config.clone(), Clock::system()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let of = TopicConfig {
            name: "T".to_owned(),
            read_queues: 2,
            write_queues: 2,
            perm: 6,
            ..TopicConfig::default()
        };
        let topic = runtime.block_on(store.put_topic(of)).unwrap();
        let mut batch = AppendBatch::default();
        (0..5).for_each(|number| push(&mut batch, &topic, number));
        store.append(&mut batch).unwrap();
        let places = batch.results().iter().map(|at| (at.log_offset.0, at.size)).collect();
        store.close();
        Self { _dir: dir, config, places }
    }

    fn path(&self) -> String {
        self.config.path.to_str().unwrap().to_owned()
    }

    fn damage(&self, number: usize) {
        let (at, size) = self.places[number];
        let segment: PathBuf = self.config.path.join("commitlog").join(format!("{:020}", 0));
        let file = File::options().write(true).open(segment).unwrap();
        // The body lies before topic and properties.
        file.write_all_at(b"?", at + u64::from(size) - 20).unwrap();
    }
}

#[test]
fn clean_store_is_verified_and_listed() {
    let store = Closed::new();
    let output = run(&["store", "verify", &store.path()]);
    let text = ok(&output);
    assert!(text.contains("problems") && text.contains("5, damaged bytes: 0"), "{text}");
    let output = run(&["store", "verify", &store.path(), "-o", "json"]);
    let lines = json(&ok(&output));
    assert_eq!(
        (lines.len(), &lines[0]["records"], &lines[0]["problems"]),
        (1, &5.into(), &0.into())
    );
    let tree = ok(&run(&["store", "tree", "--count", &store.path()]));
    for part in ["SEGMENT", "WATERMARK", "consume_queue", "derived", "T ", "log ends at"] {
        assert!(tree.contains(part), "{part}: {tree}");
    }
    let tree = json(&ok(&run(&["store", "tree", &store.path(), "-o", "json"])));
    assert_eq!(tree[0]["topics"][0]["topic"], "T");
    assert_eq!(tree[0]["watermark"][0]["clean"], true);
}

#[test]
fn messages_are_printed_and_found() {
    let store = Closed::new();
    let path = store.path();
    let at = store.places[3].0.to_string();
    let page = ok(&run(&["store", "cat", &path, "--offset", &at]));
    assert!(page.contains("body 3") && page.contains("KEYS = key3"), "{page}");
    let lines = ok(&run(&["store", "cat", &path, "-t", "T", "-q", "1", "--from", "2", "-s"]));
    assert_eq!(lines.lines().count(), 3, "{lines}");
    let all = json(&ok(&run(&["store", "cat", &path, "--count", "4", "-o", "json"])));
    assert_eq!((all.len(), &all[3]["body"]), (4, &"body 3".into()));
    let found = json(&ok(&run(&["store", "grep", &path, "-k", "key4", "-o", "json"])));
    assert_eq!((found.len(), &found[0]["offset"]), (1, &4.into()));
    assert_eq!(ok(&run(&["store", "grep", &path, "body", "-s"])).lines().count(), 5);
    fails(&run(&["store", "grep", &path, "nobody wrote this"]), 3);
    fails(&run(&["store", "cat", &path, "-t", "T", "-q", "0"]), 3);
    fails(&run(&["store", "cat", &path, "--offset", "999999"]), 3);
}

#[test]
fn damage_is_a_failure_until_it_is_repaired() {
    let store = Closed::new();
    let path = store.path();
    store.damage(2);
    let output = run(&["store", "verify", &path]);
    assert_eq!(output.status.code(), Some(1), "{}", data(&output));
    assert!(data(&output).contains("LogDamage"), "{}", data(&output));
    assert!(words(&output).contains("mqtool store repair"), "{}", words(&output));
    let dry = run(&["store", "repair", &path]);
    assert_eq!(dry.status.code(), Some(1));
    assert!(data(&dry).contains("PassOver") && words(&dry).contains("--apply"), "{}", data(&dry));
    let output = run(&["store", "verify", &path]);
    assert_eq!(output.status.code(), Some(1), "the dry run has changed something");
    let done = ok(&run(&["store", "repair", &path, "--apply"]));
    assert!(done.contains("PassOver") && done.contains("Lost"), "{done}");
    ok(&run(&["store", "verify", &path]));
    let left = ok(&run(&["store", "cat", &path, "-t", "T", "-q", "1", "-s"]));
    assert_eq!(left.lines().count(), 4, "{left}");
}

#[test]
fn wrong_directories_and_stores_in_use_are_refused() {
    let store = Closed::new();
    let nowhere = store.config.path.join("nowhere");
    let error = fails(&run(&["store", "verify", nowhere.to_str().unwrap()]), 3);
    assert!(error.contains("is no store"), "{error}");
    let open = Store::open(store.config.clone(), Clock::system()).unwrap();
    let error = fails(&run(&["store", "verify", &store.path()]), 1);
    assert!(error.contains("is in use by process"), "{error}");
    fails(&run(&["store", "cat", &store.path(), "--queue", "1"]), 2);
    open.close();
    fs::remove_dir_all(&store.config.path).unwrap();
}
