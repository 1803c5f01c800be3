//! `mqtool dev`: a name server and a broker in this process, for a laptop or a test.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use basaltmq::Client;
use broker::Broker;
use clap::Args;
use namesrv::NameServer;
use serde::Serialize;
use tempfile::TempDir;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    Context,
    error::Failure,
    io_failure,
    output::{Format, say},
};

/// Two threads serve a laptop's load; more would only hold memory.
const WORKERS: usize = 2;
/// Files of the commit log are small, so that starting and idling cost little.
const SEGMENT_BYTES: u64 = 64 << 20;
/// Memory for parts of the index that were read from disk.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
/// Messages are accepted until the disk is this full, a reserve aside.
const DISK_PERCENT: u64 = 100;
/// How long the broker may take to appear at the name server.
const ROUTED_WITHIN_S: u64 = 10;

/// It prints one line when it serves: `ready namesrv=HOST:PORT broker=HOST:PORT`. Topics and groups
/// are made on first use. SIGTERM and Ctrl-C stop it cleanly.
///
/// `-n, --namesrv` is the address that the name server listens on.
#[derive(Args)]
pub(crate) struct Arguments {
    /// Address that the broker listens on; port 0 takes a free one, also with --namesrv
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:10911")]
    broker: SocketAddr,
    /// Directory for messages and state; without it a temporary one, removed at the end
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug or a filter such as broker=debug
    #[arg(long, value_name = "FILTER", default_value = "warn")]
    log: String,
}

/// Where everything is.
#[derive(Serialize)]
struct Ready {
    namesrv: String,
    broker: String,
}

pub(crate) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    start_log(&arguments.log)?;
    let listen = context.listen();
    let listen: SocketAddr =
        listen.parse().map_err(|_| basaltmq::Error::Address { address: listen.to_owned() })?;
    let data = Data::open(arguments.data_dir.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .thread_name("mqtool-dev")
        .enable_all()
        .build()
        .map_err(io_failure("start the event loop"))?;
    let outcome = runtime.block_on(serve(arguments, listen, &data, context));
    drop(runtime);
    outcome.and(data.close())
}

async fn serve(
    arguments: &Arguments,
    listen: SocketAddr,
    data: &Data,
    context: &mut Context,
) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(io_failure("listen for signals"))?;
    let name_server = NameServer::start(namesrv::Config {
        bind_address: listen.ip(),
        listen_port: listen.port(),
        kv_config_path: data.path().join("namesrv").join("kvConfig.json"),
        ..namesrv::Config::default()
    })
    .await?;
    let namesrv = name_server.local_addr().to_string();
    let broker = match Broker::start(broker_config(arguments, data, &namesrv)).await {
        Ok(broker) => broker,
        Err(error) => {
            name_server.shutdown().await;
            return Err(error.into());
        }
    };
    let ready = Ready { namesrv, broker: broker.local_addr().to_string() };
    let served = async {
        routed(&ready).await?;
        announce(&ready, data, context)?;
        tokio::select! {
            () = signals.next() => Ok(()),
            ended = broker.ended() => Err(Failure::Stopped(ended.to_string())),
        }
    };
    let outcome = served.await;
    broker.shutdown().await;
    name_server.shutdown().await;
    outcome
}

fn broker_config(arguments: &Arguments, data: &Data, namesrv: &str) -> broker::Config {
    broker::Config {
        name: "dev".to_owned(),
        listen: arguments.broker,
        namesrv: vec![namesrv.to_owned()],
        store: data.path().join("store"),
        segment_size_bytes: SEGMENT_BYTES,
        block_cache_bytes: BLOCK_CACHE_BYTES,
        // The disk of a laptop may well be fuller than a broker's should be.
        disk_clean_percent: DISK_PERCENT,
        disk_force_clean_percent: DISK_PERCENT,
        disk_refuse_percent: DISK_PERCENT,
        ..broker::Config::default()
    }
}

/// Waits until a client that comes now finds the broker.
async fn routed(ready: &Ready) -> Result<(), Failure> {
    let client = Client::connect(&ready.namesrv).await?;
    let deadline = Instant::now() + Duration::from_secs(ROUTED_WITHIN_S);
    while client.admin().brokers().await?.is_empty() {
        if Instant::now() > deadline {
            return Err(Failure::NotRegistered(ROUTED_WITHIN_S));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    client.close().await;
    Ok(())
}

fn announce(ready: &Ready, data: &Data, context: &mut Context) -> Result<(), Failure> {
    match context.output.format() {
        Format::Json => context.output.json(ready)?,
        Format::Table => {
            let Ready { namesrv, broker } = ready;
            context.output.line(&format!("ready namesrv={namesrv} broker={broker}"))?;
        }
    }
    context.output.flush()?;
    let fate = if matches!(data, Data::Temporary(_)) { ", removed at the end" } else { "" };
    say(&format!("data in {}{fate}; Ctrl-C stops", data.path().display()));
    Ok(())
}

/// The directory of messages and state.
enum Data {
    Kept(PathBuf),
    Temporary(TempDir),
}

impl Data {
    fn open(kept: Option<&Path>) -> Result<Self, Failure> {
        match kept {
            Some(path) => {
                let action = format!("create the data directory {}", path.display());
                std::fs::create_dir_all(path).map_err(io_failure(&action))?;
                Ok(Self::Kept(path.to_owned()))
            }
            None => tempfile::Builder::new()
                .prefix("mqtool-dev-")
                .tempdir()
                .map(Self::Temporary)
                .map_err(io_failure("create a temporary directory; name one with --data-dir")),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self {
            Self::Kept(_) => Ok(()),
            Self::Temporary(directory) => {
                let action = format!("remove {}", directory.path().display());
                directory.close().map_err(io_failure(&action))
            }
        }
    }
}

/// What ends the process: being asked to, Ctrl-C, and the terminal being closed.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

fn start_log(filter: &str) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Failure::Log { filter: filter.to_owned(), reason: error.to_string() })?;
    let ansi = io::IsTerminal::is_terminal(&io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .init();
    Ok(())
}
