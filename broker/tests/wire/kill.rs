//! kill -9 of the daemon in the middle of load, again and again: what was acknowledged is found by
//! offset and by key. And how the daemon starts, refuses and stops.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::{
    code::RequestCode,
    frame::Encoding,
    request::{pull::Pull, query::ByKey, send::Send},
};
use tokio::task::JoinSet;

use crate::common::{Client, PATIENCE, TOPIC, message, number, properties, pull};

const ROUNDS: usize = 20;
/// Sends in flight at any moment.
const SENDERS: usize = 16;

pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
}

pub(crate) fn command(store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqbroker"));
    command
        .args(["--listen", "127.0.0.1:0", "--set", "name=broker-a"])
        .args(["--set", "segment_size_bytes=262144", "--set", "checkpoint_interval_ms=200"])
        .args(["--set", "disk_force_clean_percent=100", "--set", "disk_refuse_percent=100"])
        .arg("--store")
        .arg(store)
        .env_remove("NAMESRV_ADDR")
        .stderr(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

fn start(store: &Path) -> Daemon {
    start_as(&mut command(store))
}

/// Starts the daemon and waits until it serves.
pub(crate) fn start_as(command: &mut Command) -> Daemon {
    let mut daemon = Daemon { child: command.spawn().unwrap(), address: String::new() };
    let stderr = daemon.child.stderr.take().unwrap();
    let (sender, lines) = mpsc::channel();
    // Read to the end, or the daemon would block on a full pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut log = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        if let Some((_, rest)) = line.split_once("listen=") {
            daemon.address = rest.split_whitespace().next().unwrap().to_owned();
            return daemon;
        }
        log.push(line);
    }
    panic!("the daemon does not serve:\n{}", log.join("\n"));
}

/// kill -9, whatever ends the test.
impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn kill_9(self) {
        drop(self);
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }
}

/// Where each acknowledged message went.
type Acked = Arc<Mutex<HashMap<String, (i32, i64)>>>;

/// Sends until the connection breaks.
async fn load(address: &str, round: usize, acked: &Acked) {
    let client = Arc::new(Client::connect(address, Encoding::Binary).await);
    let mut senders = JoinSet::new();
    for sender in 0..SENDERS {
        let (client, acked) = (Arc::clone(&client), Arc::clone(acked));
        senders.spawn(async move {
            let queue_id = i32::try_from(sender % 4).unwrap();
            for n in 0.. {
                let key = format!("r{round}s{sender}n{n}");
                let text = properties(&[("KEYS", &key), ("UNIQ_KEY", &format!("U{key}"))]);
                let header = Send { properties: Some(&text), ..message(TOPIC, queue_id) };
                let body = Bytes::from(key.clone());
                let sent = client
                    .connection
                    .request(RequestCode::SendMessageV2, &header, body, PATIENCE)
                    .await;
                let Ok(sent) = sent else { return };
                assert_eq!(sent.code, 0, "{:?}", sent.remark);
                acked.lock().unwrap().insert(key, (queue_id, number(&sent, "queueOffset")));
            }
        });
    }
    while let Some(done) = senders.join_next().await {
        done.unwrap();
    }
}

/// Everything that a queue holds, by offset.
async fn read_queue(client: &Client, queue_id: i32) -> HashMap<i64, String> {
    let mut found = HashMap::new();
    let mut offset = 0;
    loop {
        let header = Pull { max_messages: 32, ..pull(TOPIC, queue_id, offset) };
        let answer = client.call(RequestCode::PullMessage, &header, Bytes::new()).await;
        if answer.code != 0 {
            assert_eq!(answer.code, 19, "{:?}", answer.remark);
            return found;
        }
        for record in crate::common::records(&answer) {
            record.verify().unwrap();
            assert_eq!(record.queue_offset, offset, "a gap in queue {queue_id}");
            found.insert(offset, String::from_utf8(record.body.to_vec()).unwrap());
            offset += 1;
        }
    }
}

/// Everything by offset, and by key what was sent in `round`, or all of it.
async fn check(address: &str, acked: &HashMap<String, (i32, i64)>, round: Option<usize>) {
    let client = Arc::new(Client::connect(address, Encoding::Binary).await);
    let mut queues = HashMap::new();
    for queue_id in 0..4 {
        queues.insert(queue_id, read_queue(&client, queue_id).await);
    }
    for (key, (queue_id, offset)) in acked {
        let found = queues[queue_id].get(offset);
        assert_eq!(found, Some(key), "round {round:?}: queue {queue_id} offset {offset}");
    }
    let prefix = round.map_or_else(|| "r".to_owned(), |round| format!("r{round}s"));
    let keys: Vec<String> = acked.keys().filter(|key| key.starts_with(&prefix)).cloned().collect();
    let mut queries = JoinSet::new();
    for part in keys.chunks(keys.len().div_ceil(SENDERS).max(1)) {
        let (client, part) = (Arc::clone(&client), part.to_vec());
        queries.spawn(async move {
            for key in part {
                for (key, unique_key) in [(key.clone(), false), (format!("U{key}"), true)] {
                    let header = ByKey {
                        topic: TOPIC,
                        key: &key,
                        max_messages: 32,
                        begin_timestamp: 0,
                        end_timestamp: i64::MAX,
                        unique_key,
                    };
                    let answer =
                        client.call(RequestCode::QueryMessage, &header, Bytes::new()).await;
                    let bodies = crate::common::bodies(&answer);
                    assert_eq!(
                        bodies,
                        [key.trim_start_matches('U')],
                        "round {round:?}: {:?}",
                        answer.remark
                    );
                }
            }
        });
    }
    while let Some(done) = queries.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9_in_mid_load() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let acked: Acked = Arc::default();
    let started = Instant::now();
    for round in 0..ROUNDS {
        let daemon = start(&store);
        let address = daemon.address.clone();
        if round > 0 {
            let acked = acked.lock().unwrap().clone();
            check(&address, &acked, Some(round - 1)).await;
        }
        let loading = {
            let acked = Arc::clone(&acked);
            let address = address.clone();
            tokio::spawn(async move { load(&address, round, &acked).await })
        };
        // Another amount of acknowledged messages each time, so that the end falls elsewhere.
        let before = acked.lock().unwrap().len();
        let wanted = 200 + round * 37;
        while acked.lock().unwrap().len() < before + wanted {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(!loading.is_finished(), "the load ended early");
        }
        daemon.kill_9();
        loading.await.unwrap();
    }
    let daemon = start(&store);
    let all = acked.lock().unwrap().clone();
    check(&daemon.address, &all, None).await;
    println!("{ROUNDS} rounds, {} acknowledged messages, {:?}", all.len(), started.elapsed());
    daemon.kill_9();
}

fn finish(mut command: Command) -> Output {
    command.output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn sigterm_stops_with_exit_code_0_and_the_store_opens_again() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let mut daemon = start(dir.path());
        daemon.terminate();
        assert_eq!(daemon.child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn a_second_daemon_on_the_same_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let daemon = start(dir.path());
    let second = finish(command(dir.path()));
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("is in use by"), "{}", stderr(&second));
    daemon.kill_9();
}

#[test]
fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = command(dir.path());
    command.args(["--set", &format!("listen={}", taken.local_addr().unwrap())]);
    let output = finish(command);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("another process uses this port"), "{}", stderr(&output));
}

#[test]
fn an_unknown_key_is_refused_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.toml");
    std::fs::write(&file, "# mine\nnam = 'x'\n").unwrap();
    let store = dir.path().join("store");
    let mut command = command(&store);
    command.arg("-c").arg(&file);
    let output = finish(command);
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("broker.toml:2: unknown key \"nam\"; did you mean \"name\"?"), "{text}");
    assert!(!store.exists());
}

#[test]
fn print_config_shows_the_effective_values_and_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = command(dir.path());
    first.args(["-n", "a:1;b:2", "--print-config"]);
    let output = finish(first);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("namesrv = [\"a:1\", \"b:2\"]"), "{text}");
    assert!(text.contains("RocketMQ: brokerName"), "{text}");
    let file = dir.path().join("broker.toml");
    std::fs::write(&file, &text).unwrap();
    let mut again = Command::new(env!("CARGO_BIN_EXE_mqbroker"));
    again.arg("-c").arg(&file).arg("-p").env_remove("NAMESRV_ADDR");
    assert_eq!(String::from_utf8(finish(again).stdout).unwrap(), text);
}

#[test]
fn a_rocketmq_file_is_accepted_with_one_table_of_warnings() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("broker.conf");
    std::fs::write(
        &file,
        "brokerClusterName = C\nbrokerName = b\nsendMessageThreadPoolNums = 16\nstoreType = defaultRocksDB\n",
    )
    .unwrap();
    let mut child = command(&dir.path().join("store")).arg("-c").arg(&file).spawn().unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        let serves = line.contains("listen=");
        log.push_str(&line);
        log.push('\n');
        if serves {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(log.contains("have no effect"), "{log}");
    assert!(log.contains("line   3  sendMessageThreadPoolNums = 16: "), "{log}");
    assert!(log.contains("line   4  storeType = defaultRocksDB: "), "{log}");
    assert_eq!(log.matches("have no effect").count(), 1, "{log}");
}
