//! A name server, and brokers of one name that change their roles, all in this process.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use broker::{Broker, Config, RunError};
use bytes::Bytes;
use namesrv::NameServer;
use protocol::{
    body::ha::HaStatus,
    channel::{Channels, DialOptions},
    code::{RequestCode, ResponseCode},
    frame::{Encoding, Frame},
    header::NoFields,
    json,
    request::ha::ChangeRole,
};
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use crate::common::{Client, config};

/// Changes of roles take several starts.
const PATIENCE: Duration = Duration::from_secs(60);

/// A name server.
pub(crate) struct Names {
    server: NameServer,
    channels: Channels<()>,
    _dir: TempDir,
}

impl Names {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = NameServer::start(namesrv::Config {
            bind_address: "127.0.0.1".parse().unwrap(),
            listen_port: 0,
            kv_config_path: dir.path().join("kv.json"),
            ..namesrv::Config::default()
        });
        let channels = Channels::new(Arc::new(()), DialOptions::default());
        Self { server: server.await.unwrap(), channels, _dir: dir }
    }

    /// The configuration of a broker that is known here.
    pub(crate) fn broker(&self, dir: &TempDir) -> Config {
        Config {
            namesrv: vec![self.server.local_addr().to_string()],
            register_interval_ms: 1_000,
            ..config(dir)
        }
    }

    /// The configuration of a slave.
    pub(crate) fn slave(&self, dir: &TempDir, broker_id: u64) -> Config {
        Config { role: "slave".to_owned(), broker_id, ..self.broker(dir) }
    }

    /// The registered addresses of the broker's name, by id.
    pub(crate) async fn members(&self) -> Vec<(i64, String)> {
        let address = self.server.local_addr().to_string();
        let header = [("clusterName", "DefaultCluster"), ("brokerName", "broker-a")];
        let (code, none) = (RequestCode::GetBrokerMemberGroup, Bytes::new());
        let frame = self.channels.request(&address, code, &header, none, PATIENCE).await.unwrap();
        let body: protocol::body::cluster::MemberGroupBody = json::decode(&frame.body).unwrap();
        body.broker_member_group.broker_addrs.into_iter().collect()
    }
}

/// What a broker was when it last began to serve.
#[derive(Clone, Debug, Default)]
struct Serving {
    starts: u32,
    address: String,
    is_master: bool,
}

/// A broker that runs, whatever its role, until it is stopped.
pub(crate) struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RunError>>,
    serving: watch::Receiver<Serving>,
    /// One connection for all questions, made anew when the broker starts anew.
    channels: Channels<()>,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, serving) = watch::channel(Serving::default());
        let task = tokio::spawn(async move {
            let told = |broker: &Broker| {
                tell.send_modify(|serving| {
                    serving.starts += 1;
                    serving.address = broker.local_addr().to_string();
                    serving.is_master = broker.is_master();
                });
            };
            let stopped = async { drop(stopped.await) };
            broker::run(config, stopped, told).await
        });
        let channels = Channels::new(Arc::new(()), DialOptions::default());
        let running = Self { stop: Some(stop), task, serving, channels };
        running.until(|serving| serving.starts > 0).await;
        running
    }

    async fn until(&self, fits: impl Fn(&Serving) -> bool) {
        let mut serving = self.serving.clone();
        let waited = tokio::time::timeout(PATIENCE, serving.wait_for(fits)).await;
        waited.expect("the broker does not become that").expect("the broker has ended");
    }

    /// Waits until the broker serves as a master.
    pub(crate) async fn leads(&self) {
        self.until(|serving| serving.is_master).await;
    }

    /// Waits until the broker serves as a slave.
    pub(crate) async fn follows(&self) {
        self.until(|serving| !serving.is_master).await;
    }

    pub(crate) fn address(&self) -> String {
        self.serving.borrow().address.clone()
    }

    /// A new connection.
    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.address(), Encoding::Json).await
    }

    /// Code 907. A broker that starts anew is asked again.
    pub(crate) async fn status(&self) -> HaStatus {
        let code = RequestCode::GetBrokerHaStatus;
        eventually(async || {
            let (address, none) = (self.address(), Bytes::new());
            let frame =
                self.channels.request(&address, code, &NoFields, none, PATIENCE).await.ok()?;
            json::decode(&frame.body).ok()
        })
        .await
    }

    /// Waits until this slave follows `master` and has all that it has.
    pub(crate) async fn catches_up(&self, master: &Self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (ours, theirs) = (self.status().await, master.status().await);
            let same = ours.master_commit_log_max_offset == theirs.master_commit_log_max_offset;
            let (a, b) = (ours.replication.clone().unwrap(), theirs.replication.clone().unwrap());
            let streams = ours.ha_client_runtime_info.activated && theirs.in_sync_slave_nums > 0;
            if streams && same && a.serves && a.sequence == b.sequence {
                return;
            }
            assert!(Instant::now() < deadline, "slave {ours:?}, master {theirs:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Changes the role.
    pub(crate) async fn change(&self, code: RequestCode, force: bool) -> Frame {
        let (address, header) = (self.address(), ChangeRole { force });
        self.channels.request(&address, code, &header, Bytes::new(), PATIENCE).await.unwrap()
    }

    /// Makes it the master.
    pub(crate) async fn promote(&self, force: bool) {
        let frame = self.change(RequestCode::PromoteBroker, force).await;
        assert_eq!(frame.response_code(), ResponseCode::SUCCESS, "{:?}", frame.remark);
        self.leads().await;
    }

    /// Ends it as an operator would.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        let ended = tokio::time::timeout(PATIENCE, self.task).await;
        ended.expect("the broker does not stop").unwrap().unwrap();
    }
}

/// Asks until the answer fits.
pub(crate) async fn eventually<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never came to that");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
