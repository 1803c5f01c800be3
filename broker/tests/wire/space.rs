//! A disk that fills up, for real: a small file system of its own. Needs root to mount it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use protocol::{code::ResponseCode, frame::Frame};

use crate::common::{Client, Node, PATIENCE, TOPIC, bodies, message, node_with, number, outcome};

const MIB: u64 = 1 << 20;

/// A file system of 64 MiB in memory; unmounted when dropped.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where mounting is not allowed; says so.
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"])
            .arg(dir.path())
            .output();
        match mount {
            Ok(output) if output.status.success() => Some(Self { dir }),
            failed => {
                #[expect(clippy::print_stdout, reason = "what was not tested must be seen")]
                {
                    println!("skipped: a file system cannot be mounted here: {failed:?}");
                }
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Fills the disk until so many bytes are free.
    fn leave_free(&self, bytes: u64) {
        let free = |dir: &Path| {
            let output =
                Command::new("df").args(["-B1", "--output=avail"]).arg(dir).output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            text.lines().nth(1).unwrap().trim().parse::<u64>().unwrap()
        };
        let excess = free(self.path()).saturating_sub(bytes);
        fs::write(self.filler(), vec![1; usize::try_from(excess).unwrap()]).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(self.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()));
    }
}

async fn broker_on(disk: &SmallDisk) -> Node {
    let store = disk.path().join("store");
    node_with(|config| {
        config.store = store;
        config.segment_size_bytes = MIB;
        config.disk_refuse_percent = 90;
    })
    .await
}

/// Sends until the answer has this code.
async fn send_until(client: &Client, code: ResponseCode) -> Frame {
    let begun = Instant::now();
    loop {
        let answer = client.send(&message(TOPIC, 0), "again").await;
        if answer.response_code() == code {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "still {:?}", outcome(&answer));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn full_disk_refuses_sends_with_code_14_and_recovers_by_itself() {
    let Some(disk) = SmallDisk::mount() else { return };
    let node = broker_on(&disk).await;
    let client = node.client().await;
    client.put(TOPIC, 0, "before", &[]).await;
    for free in [5 * MIB, 0] {
        disk.leave_free(free);
        let refused = send_until(&client, ResponseCode::SERVICE_NOT_AVAILABLE).await;
        let (code, remark) = outcome(&refused);
        assert_eq!(code, 14);
        assert!(remark.contains("disk is full") && remark.contains("% of it are used"), "{remark}");
        assert!(remark.contains("free some space"), "{remark}");
        // Everything else goes on.
        let pulled = client.pull(TOPIC, 0, 0).await;
        assert_eq!(bodies(&pulled)[0], "before");
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        client.pull(TOPIC, 0, 0).await;
        fs::remove_file(disk.filler()).unwrap();
        send_until(&client, ResponseCode::SUCCESS).await;
    }
    node.broker.shutdown().await;
}

#[tokio::test]
async fn broker_makes_room_by_itself_when_others_fill_the_disk() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = disk.path().join("store");
    let node = node_with(|config| {
        config.store = store;
        config.segment_size_bytes = MIB;
        config.checkpoint_interval_ms = 200;
        config.disk_force_clean_percent = 85;
        config.disk_refuse_percent = 90;
    })
    .await;
    let client = node.client().await;
    let body = "x".repeat(100_000);
    for _ in 0..300 {
        assert_eq!(client.send(&message(TOPIC, 0), body.clone()).await.code, 0);
    }
    // So that there is a checkpoint behind most of it.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    disk.leave_free(0);
    send_until(&client, ResponseCode::SERVICE_NOT_AVAILABLE).await;
    send_until(&client, ResponseCode::SUCCESS).await;
    let pulled = client.pull(TOPIC, 0, 0).await;
    assert_eq!(outcome(&pulled), (21, "OFFSET_TOO_SMALL"), "the oldest are gone");
    let next = number(&pulled, "nextBeginOffset");
    assert!((30..290).contains(&next), "{next} of 300 messages are gone");
    let pulled = client.pull(TOPIC, 0, next).await;
    assert_eq!(bodies(&pulled)[0], body);
    node.broker.shutdown().await;
}

#[tokio::test]
async fn broker_that_fills_its_disk_stops_before_the_end_and_keeps_everything() {
    let Some(disk) = SmallDisk::mount() else { return };
    let node = broker_on(&disk).await;
    let client = node.client().await;
    let body = "x".repeat(100_000);
    let mut stored = 0_u64;
    // Far more than the disk has.
    for _ in 0..2_000 {
        let answer = client.send(&message(TOPIC, 0), body.clone()).await;
        match answer.code {
            0 => stored += 1,
            14 => break,
            _ => panic!("{:?}", outcome(&answer)),
        }
    }
    assert!((300..700).contains(&stored), "{stored} messages of 100 kB");
    node.broker.shutdown().await;
    let node = broker_on(&disk).await;
    let client = node.client().await;
    let mut next = 0;
    while next < stored {
        let pulled = client.pull(TOPIC, 0, i64::try_from(next).unwrap()).await;
        assert_eq!(pulled.code, 0, "{:?} at {next} of {stored}", outcome(&pulled));
        next += bodies(&pulled).len() as u64;
    }
    node.broker.shutdown().await;
}
