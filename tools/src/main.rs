//! `mqtool`: one command line for BasaltMQ and Apache RocketMQ.
//!
//! Here: the command line itself, and what all commands share. Each noun has a file or folder of
//! its own; `output` is the only place that writes data, `error` the only one that knows exit
//! codes.

mod bench;
mod cluster;
mod dev;
mod error;
mod group;
mod ha;
mod migrate;
mod msg;
mod output;
mod role;
mod store;
mod time;
mod topic;
mod torture;

use std::{io, process::ExitCode, time::Duration};

use basaltmq::Client;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::{
    error::Failure,
    output::{Format, Output, say},
};

/// Where a name server is, unless somebody says otherwise.
const NAME_SERVER: &str = "127.0.0.1:9876";
/// The variable that RocketMQ's own tools and clients read.
const NAME_SERVER_VARIABLE: &str = "NAMESRV_ADDR";

/// Send, read and find messages; look after topics, groups and clusters; run a broker to try.
///
/// Data goes to standard output, words to standard error. Exit codes: 0 done, 1 failed, 2 wrong
/// usage, 3 not found, 4 unreachable.
#[derive(Parser)]
#[command(name = "mqtool", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    noun: Noun,
}

/// What every command understands.
#[derive(Args)]
struct Options {
    /// Name servers, several separated by ';' [env: NAMESRV_ADDR] [default: 127.0.0.1:9876]
    #[arg(short, long, global = true, value_name = "HOST:PORT")]
    namesrv: Option<String>,
    /// How data is written
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    /// How long a server may take to answer
    #[arg(long, global = true, value_name = "TIME", default_value = "3s", value_parser = time::duration)]
    timeout: Duration,
}

#[derive(Subcommand)]
enum Noun {
    /// Run a name server and a broker in this process, on the loopback interface
    Dev(dev::Arguments),
    /// Send, read and find messages
    #[command(subcommand)]
    Msg(msg::Verb),
    /// List, show, create and delete topics
    #[command(subcommand)]
    Topic(topic::Verb),
    /// List consumer groups and how far they are behind
    #[command(subcommand)]
    Group(group::Verb),
    /// List clusters and their brokers
    #[command(subcommand)]
    Cluster(cluster::Verb),
    /// Show masters and slaves, and how far each is
    #[command(subcommand)]
    Ha(ha::Verb),
    /// Make a slave the master, or a master a slave
    #[command(subcommand)]
    Broker(role::Verb),
    /// Measure a broker: ours or any that is compatible with RocketMQ
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Look at and repair the store of a broker that is down
    #[command(subcommand)]
    Store(store::Verb),
    /// Move to BasaltMQ from a directory of Apache RocketMQ
    #[command(subcommand)]
    Migrate(migrate::Verb),
    /// Break a broker again and again, and check that it keeps its promises
    #[command(subcommand)]
    Torture(torture::Verb),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What a command works with.
pub(crate) struct Context {
    /// The name servers that were named on the command line.
    named: Option<String>,
    timeout: Duration,
    pub(crate) output: Output,
}

impl Context {
    /// The name servers to ask: flag, environment, default.
    fn name_servers(&self) -> String {
        let variable = || std::env::var(NAME_SERVER_VARIABLE).ok().filter(|list| !list.is_empty());
        self.named.clone().or_else(variable).unwrap_or_else(|| NAME_SERVER.to_owned())
    }

    /// Connects to a name server.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let builder = Client::builder(self.name_servers())
            .request_timeout(self.timeout)
            .connect_timeout(self.timeout);
        Ok(builder.connect().await?)
    }

    /// How long a server may take to answer.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Where `dev` should listen. The environment names servers to use, so it does not count.
    pub(crate) fn listen(&self) -> &str {
        self.named.as_deref().unwrap_or(NAME_SERVER)
    }
}

fn main() -> ExitCode {
    let Cli { options, noun } = Cli::parse();
    let mut context = Context {
        named: options.namesrv,
        timeout: options.timeout,
        output: Output::new(options.output),
    };
    let outcome = run(noun, &mut context);
    let flushed = context.output.flush().map_err(Failure::from);
    match outcome.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("mqtool: {failure}"));
            if let Some(advice) = failure.advice() {
                say(advice);
            }
            failure.exit_code()
        }
    }
}

fn run(noun: Noun, context: &mut Context) -> Result<(), Failure> {
    match noun {
        Noun::Dev(arguments) => dev::run(&arguments, context),
        Noun::Msg(verb) => block_on(msg::run(verb, context)),
        Noun::Topic(verb) => block_on(topic::run(verb, context)),
        Noun::Group(verb) => block_on(group::run(verb, context)),
        Noun::Cluster(verb) => block_on(cluster::run(verb, context)),
        Noun::Ha(verb) => block_on(ha::run(verb, context)),
        Noun::Broker(verb) => block_on(role::run(verb, context)),
        Noun::Bench(verb) => bench::run(verb, context),
        Noun::Store(verb) => store::run(verb, context),
        Noun::Migrate(verb) => migrate::run(&verb, context),
        Noun::Torture(verb) => torture::run(verb, context),
        Noun::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "mqtool", &mut script);
            Ok(context.output.bytes(&script)?)
        }
    }
}

/// Runs a client's command. One thread is enough for all that a client does, and starts fastest.
fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_failure("start the event loop"))?
        .block_on(command)
}

/// Gives an I/O error the action that it ended.
fn io_failure(action: &str) -> impl FnOnce(io::Error) -> Failure {
    move |source| Failure::Io { action: action.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_may_stand_before_or_after_the_command() {
        for line in [["mqtool", "-n", "a:1", "topic", "ls"], ["mqtool", "topic", "ls", "-n", "a:1"]]
        {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.options.namesrv.as_deref(), Some("a:1"));
        }
    }
}
