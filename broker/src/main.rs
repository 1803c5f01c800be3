//! The broker daemon: command line, log, signals, exit codes.
//!
//! Exit codes: 0 stopped as asked, 1 could not start or the store failed, 2 wrong configuration.

use std::{path::PathBuf, process::ExitCode};

use broker::{Broker, Config, Layers, Loaded, Unmapped, run as run_broker};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Threads for cold reads and administration at most; more would only queue at the disk.
const BLOCKING_THREADS: usize = 64;

/// A message broker that Apache RocketMQ's clients can use.
#[derive(Debug, Parser)]
#[command(name = "mqbroker", version)]
struct Arguments {
    /// Configuration: TOML, or RocketMQ's broker.conf if the name ends in .conf or .properties.
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Name servers, HOST:PORT separated by semicolons.
    #[arg(short = 'n', long = "namesrv", value_name = "LIST")]
    namesrv: Option<String>,
    /// Address to listen on, IP:PORT.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Host that clients are told to connect to.
    #[arg(long, value_name = "HOST")]
    advertise: Option<String>,
    /// Directory of the message store.
    #[arg(long, value_name = "DIRECTORY")]
    store: Option<String>,
    /// Any key of the configuration, as KEY=VALUE; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    /// Print the effective configuration as TOML, every key explained, and exit.
    #[arg(short = 'p', long)]
    print_config: bool,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl Arguments {
    fn layers(self) -> Layers {
        let named = [
            ("namesrv", self.namesrv),
            ("listen", self.listen),
            ("advertise", self.advertise),
            ("store", self.store),
        ];
        let named = named.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
        Layers {
            file: self.config,
            environment: std::env::vars().collect(),
            arguments: named.chain(self.set).collect(),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let print_config = arguments.print_config;
    let loaded = match arguments.layers().load() {
        Ok(loaded) => loaded,
        Err(error) => return fail(2, &error),
    };
    if print_config {
        print(&loaded.config.to_toml());
        return ExitCode::SUCCESS;
    }
    let filter = match EnvFilter::try_new(&loaded.config.log) {
        Ok(filter) => filter,
        Err(error) => return fail(2, &format!("log = {:?}: {error}", loaded.config.log)),
    };
    // Colours only where somebody looks: log files stay plain.
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .with_writer(std::io::stderr)
        .init();
    warn_about(&loaded);
    raise_file_limit();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.enable_all().max_blocking_threads(BLOCKING_THREADS);
    let runtime = match runtime.build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &format!("cannot start threads: {error}")),
    };
    runtime.block_on(run(loaded.config))
}

async fn run(config: Config) -> ExitCode {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (mut interrupt, mut terminate) = match (interrupt, terminate) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            return fail(1, &format!("cannot listen for signals: {error}"));
        }
    };
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    let name = config.name.clone();
    let serving = |broker: &Broker| {
        tracing::info!(
            name,
            role = if broker.is_master() { "master" } else { "slave" },
            listen = %broker.local_addr(),
            advertised = broker.advertised(),
            "broker serves"
        );
    };
    match run_broker(config, stop, serving).await {
        Ok(()) => {
            tracing::info!("broker stopped");
            ExitCode::SUCCESS
        }
        Err(error) => fail(1, &error),
    }
}

/// Every connection and every segment is an open file, and the usual limit of 1,024 is only a
/// suggestion: the process may raise it up to the hard one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// One table of what a RocketMQ file says in vain.
fn warn_about(loaded: &Loaded) {
    if loaded.unmapped.is_empty() {
        return;
    }
    let row = |entry: &Unmapped| {
        format!("\n  line {:>3}  {} = {}: {}", entry.line, entry.key, entry.value, entry.reason)
    };
    let table: String = loaded.unmapped.iter().map(row).collect();
    tracing::warn!("these keys of the configuration file have no effect:{table}");
}

#[expect(clippy::print_stdout, reason = "what the user asked to see")]
fn print(text: &str) {
    println!("{}", text.trim_end());
}

#[expect(clippy::print_stderr, reason = "the log may not be set up yet")]
fn fail(code: u8, reason: &impl std::fmt::Display) -> ExitCode {
    eprintln!("mqbroker: {reason}");
    ExitCode::from(code)
}
