//! `mqnamesrv`: the name server as a process.

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use namesrv::{Config, FILE_VARIABLE, LISTEN_VARIABLE, NameServer};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Name server of BasaltMQ: tells clients which broker serves a topic.
///
/// Configuration: defaults, then the file, then environment variables `BASALTMQ_NAMESRV_<KEY>`, then
/// flags. Stops cleanly on SIGTERM and SIGINT.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file: TOML, or RocketMQ's when it is named .conf or .properties.
    #[arg(short, long, value_name = "FILE", env = FILE_VARIABLE)]
    config: Option<PathBuf>,
    /// Port, or address and port, to listen on.
    #[arg(short = 'p', long, value_name = "[ADDRESS:]PORT", env = LISTEN_VARIABLE)]
    listen: Option<String>,
    /// Print the configuration as TOML and exit.
    #[arg(long)]
    print_config: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to be told if standard error is closed.
            let _ = writeln!(io::stderr(), "mqnamesrv: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let (config, warnings) =
        Config::load(arguments.config.as_deref(), arguments.listen.as_deref())?;
    if arguments.print_config {
        io::stdout().write_all(config.print().as_bytes())?;
        return Ok(());
    }
    start_log(&config.log)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    raise_file_limit();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(serve(config))
}

async fn serve(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let server = NameServer::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    server.shutdown().await;
    tracing::info!("stopped");
    Ok(())
}

/// Every connection is an open file, and the usual limit of 1,024 is only a suggestion: the process
/// may raise it up to the hard one.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Logs go to standard error, with colours only on a terminal.
fn start_log(filter: &str) -> Result<(), Box<dyn std::error::Error>> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| format!("`log` = {filter:?} is not possible: {error}"))?;
    let ansi = io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(ansi)
        .init();
    Ok(())
}
