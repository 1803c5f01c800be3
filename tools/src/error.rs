//! Why a command failed: one sentence with the values, what to do next, and the exit code.

use std::{io, path::PathBuf, process::ExitCode};

use basaltmq::ErrorKind;
use thiserror::Error;

use crate::time;

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The client could not do it.
    #[error(transparent)]
    Client(#[from] basaltmq::Error),
    /// Lines of standard input were not stored.
    #[error("{sent} messages are stored; lines {first} to {last} are not known to be: {source}")]
    Lines {
        /// Messages that brokers have confirmed.
        sent: u64,
        /// First line of the batch that failed, from 1.
        first: u64,
        /// Its last line.
        last: u64,
        /// What the client said.
        source: basaltmq::Error,
    },
    /// A search by key found nothing on brokers that all answered.
    #[error("{report}")]
    NoMatch {
        /// What was asked of whom, and how far they could see.
        report: String,
    },
    /// A search by key found nothing, and somebody did not answer.
    #[error("{report}")]
    NoAnswer {
        /// What was asked of whom, and who failed.
        report: String,
    },
    /// The topic has no such queue.
    #[error("topic {topic:?} has no queue {queue}{on}; `mqtool topic show {topic}` lists them")]
    NoQueue {
        /// The topic.
        topic: String,
        /// The queue that was asked for.
        queue: i32,
        /// ` on broker …` if one was named.
        on: String,
    },
    /// Several brokers have the queue.
    #[error("queue {queue} of topic {topic:?} is on {brokers}; name one with --broker")]
    WhichBroker {
        /// The topic.
        topic: String,
        /// The queue that was asked for.
        queue: i32,
        /// The brokers that have it.
        brokers: String,
    },
    /// There is nothing to read in a bench.
    #[error("topic {topic:?} holds no messages; fill it with `mqtool bench send --topic {topic}`")]
    Empty {
        /// The topic.
        topic: String,
    },
    /// A bench cannot go on.
    #[error("the bench with {address} stopped: {reason}")]
    Bench {
        /// The broker.
        address: String,
        /// What happened.
        reason: String,
    },
    /// A bench cannot reach its broker.
    #[error("broker {address} cannot be reached: {source}; check that it runs")]
    BenchConnect {
        /// The broker.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// A bench finds no broker that could take writes.
    #[error("the name server knows no master; start one, or name it with --broker HOST:PORT")]
    BenchNoMaster,
    /// Brokers refused requests of a bench.
    #[error("{count} requests were refused, the figures do not count them; the first: {reason}")]
    BenchRefused {
        /// How many.
        count: u64,
        /// The first refusal.
        reason: String,
    },
    /// A request of a bench would not fit into a frame.
    #[error("a request would carry {bytes} bytes, {max} are possible; lower --size or --batch")]
    BenchTooLarge {
        /// Bytes of bodies.
        bytes: u64,
        /// Most of them.
        max: u64,
    },
    /// Messages did not reach the consumers of a bench once each and in order.
    #[error(
        "deliveries are wrong: {lost} confirmed messages never came, {twice} came twice, \
         {disordered} out of order; the broker's log may say why"
    )]
    BenchDelivery {
        /// Confirmed messages that a consumer of their queue never got.
        lost: u64,
        /// Messages that came again.
        twice: u64,
        /// Messages that came after later ones, or not at the offset that was due.
        disordered: u64,
    },
    /// A process whose CPU time and memory are wanted does not exist.
    #[error("process {pid} cannot be read in /proc/{pid}: {source}; check --server-pid")]
    NoProcess {
        /// Its id.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The embedded name server does not start.
    #[error("{0}; choose another address with --namesrv HOST:PORT (port 0 takes a free one)")]
    NameServer(#[from] namesrv::StartError),
    /// The embedded broker does not start.
    #[error("{0}; --broker HOST:PORT (port 0 takes a free one) and --data-dir choose others")]
    Broker(#[from] broker::StartError),
    /// The embedded broker failed while it ran.
    #[error("the broker stopped: {0}")]
    Stopped(String),
    /// The embedded broker did not get its route.
    #[error("the broker started but the name server has no route to it after {0} s; see the log")]
    NotRegistered(u64),
    /// A store cannot be looked at.
    #[error(transparent)]
    Store(#[from] storage::inspect::Error),
    /// A store is not as it should be.
    #[error(
        "problems of the store {path}: {problems}; `mqtool store repair {path}` says what to do",
        path = path.display()
    )]
    Problems {
        /// How many.
        problems: u64,
        /// The store's directory.
        path: PathBuf,
    },
    /// A directory of RocketMQ cannot be looked at.
    #[error(transparent)]
    Migrate(#[from] storage::OpenError),
    /// Something of RocketMQ's would stay behind.
    #[error(
        "kinds of things in {path} that do not carry over: {kinds}; the rest does",
        path = path.display()
    )]
    NotCarriedOver {
        /// How many kinds.
        kinds: usize,
        /// The store's directory.
        path: PathBuf,
    },
    /// There is no such message in a store.
    #[error("there is no message at {what}")]
    NoMessage {
        /// Where it was looked for.
        what: String,
    },
    /// A file or directory cannot be used.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// A log filter cannot be read.
    #[error("--log {filter:?} is no filter: {reason}; try warn, info, debug or broker=debug,warn")]
    Log {
        /// What was given.
        filter: String,
        /// What is wrong.
        reason: String,
    },
    /// A point in time cannot be read.
    #[error(transparent)]
    Time(#[from] time::ParseError),
    /// A change of roles was not made, or not to its end.
    #[error("{0}")]
    Role(String),
    /// A broker broke a promise.
    #[error("rule {rule} is broken: {what}; the evidence is in {evidence}", evidence = evidence.display())]
    Broken {
        /// The rule, as `tools/torture/HISTORY.md` counts them.
        rule: u8,
        /// What was found.
        what: String,
        /// History, log and store.
        evidence: PathBuf,
    },
    /// A broker cannot be tortured here.
    #[error("there is no torture: {what}")]
    CannotTorture {
        /// What is missing.
        what: String,
    },
    /// Standard output is gone or full.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

impl Failure {
    /// What a script sees: 1 failed, 2 used wrongly, 3 not found, 4 unreachable.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Client(error) | Self::Lines { source: error, .. } => match error.kind() {
                ErrorKind::NotFound => 3,
                ErrorKind::Unreachable => 4,
                ErrorKind::Invalid => 2,
                _ => 1,
            },
            Self::BenchNoMaster
            | Self::NoMatch { .. }
            | Self::NoQueue { .. }
            | Self::Empty { .. }
            | Self::NoMessage { .. }
            | Self::Store(storage::inspect::Error::NoStore { .. }) => 3,
            Self::NoAnswer { .. } | Self::BenchConnect { .. } => 4,
            Self::BenchTooLarge { .. }
            | Self::WhichBroker { .. }
            | Self::Log { .. }
            | Self::Time(_) => 2,
            Self::Bench { .. }
            | Self::BenchRefused { .. }
            | Self::BenchDelivery { .. }
            | Self::NoProcess { .. }
            | Self::NameServer(_)
            | Self::Broker(_)
            | Self::Stopped(_)
            | Self::NotRegistered(_)
            | Self::Store(_)
            | Self::Problems { .. }
            | Self::Migrate(_)
            | Self::NotCarriedOver { .. }
            | Self::Io { .. }
            | Self::Role(_)
            | Self::Broken { .. }
            | Self::CannotTorture { .. }
            | Self::Output(_) => 1,
        })
    }

    /// Whether nobody reads the output any more, which is not worth a word.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// What to do next, where the sentence itself cannot know this tool.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Client(basaltmq::Error::NameServerUnreachable { .. }) => {
                Some("Start one with `mqtool dev`, or name another with -n HOST:PORT.")
            }
            Self::Client(basaltmq::Error::TopicNotFound { .. }) => {
                Some("`mqtool topic ls` lists the topics, `mqtool topic create` makes one.")
            }
            Self::Client(basaltmq::Error::GroupNotFound { .. }) => {
                Some("`mqtool group ls` lists the groups.")
            }
            _ => None,
        }
    }
}

impl From<io::Error> for Failure {
    /// All other I/O has an action of its own.
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
