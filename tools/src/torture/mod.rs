//! `mqtool torture`: breaks a broker again and again, and proves that it keeps its promises, or
//! shows where it does not.
//!
//! `ground` is one store from first message to last check, `nemesis` what is done to it, `medium`
//! the file system under it. Producers and consumers write histories; `model` checks quickly after
//! each start, and `verdict` calls the checker that shares no code with the broker.

mod board;
mod broker;
mod cluster;
mod consumer;
mod ground;
mod history;
mod ledger;
mod medium;
mod model;
mod nemesis;
mod pages;
mod producer;
mod seed;
mod tally;
mod verdict;
mod wire;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand, ValueEnum};
use protocol::clock::Clock;

use self::{
    ground::{Ground, INTERRUPTED, Trouble},
    medium::Fs,
    nemesis::Nemesis,
    seed::Seed,
    tally::Tally,
};
use crate::{Context, error::Failure, io_failure, output::say, time::duration};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Break a broker again and again under load, and check everything
    Run(Arguments),
    /// Break a master and its slave again and again under load, and promote one after the other
    Cluster(cluster::Arguments),
    /// Check the history of a run once more, without a broker as far as that goes
    Check {
        /// Directory of the history
        history: PathBuf,
        /// A broker that serves the store
        #[arg(long, value_name = "IP:PORT")]
        broker: Option<SocketAddr>,
    },
}

/// When a send is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Mode {
    /// When the message is on disk
    Sync,
    /// When the message is in the page cache
    Async,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Async => "async",
        }
    }
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// What is done to the broker, one after the other at random
    #[arg(long, value_enum, value_delimiter = ',', default_value = "kill")]
    nemesis: Vec<Nemesis>,
    /// What the store lies on; only `dir` works without root
    #[arg(long, value_enum, default_value_t = Fs::Dir)]
    fs: Fs,
    /// How the broker flushes
    #[arg(long, value_enum, default_value_t = Mode::Sync)]
    mode: Mode,
    /// Faults in all
    #[arg(long, value_name = "N", default_value_t = 30)]
    cycles: u64,
    /// End after this time, whatever the number of faults
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// What everything random comes from; the schedule repeats, the kernel's does not
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The broker to start [default: the mqbroker beside this program]
    #[arg(long, value_name = "FILE")]
    broker: Option<PathBuf>,
    /// Directory for histories, on a disk that is not under test
    #[arg(long, value_name = "DIRECTORY", default_value = "torture")]
    work: PathBuf,
    /// Faults of one store before it gives way to a fresh one
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    store_cycles: u64,
    /// Faults between two verdicts of the checker
    #[arg(long, value_name = "N", default_value_t = 25, value_parser = clap::value_parser!(u64).range(1..))]
    check_every: u64,
    /// Switch a deliberate bug of the broker on, if it was built with debug assertions
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
    /// Add a row to this file if all went well
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// What a run does.
#[derive(Debug)]
struct Plan {
    nemeses: Vec<Nemesis>,
    fs: Fs,
    mode: Mode,
    seed: u64,
    broker: PathBuf,
    work: PathBuf,
    bug: Option<String>,
    check_every: u64,
}

pub(crate) fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Run(arguments) => torture(&arguments, context),
        Verb::Cluster(arguments) => cluster::run(&arguments, context),
        Verb::Check { history, broker } => {
            let verdict = verdict::check(&history, broker).map_err(io_failure("check"))?;
            context.output.json(&verdict)?;
            verdict.red.first().map_or(Ok(()), |worst| {
                let (rule, what) = (worst.rule, worst.what.clone());
                Err(Failure::Broken { rule, what, evidence: history.clone() })
            })
        }
    }
}

fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let beside = || Some(std::env::current_exe().ok()?.with_file_name("mqbroker"));
    let broker = arguments.broker.clone().or_else(beside).filter(|path| path.is_file());
    let lacking = |what: String| Err(Failure::CannotTorture { what });
    let Some(broker) = broker else {
        return lacking("there is no mqbroker to start; name one with --broker".to_owned());
    };
    if let Some(needs) = arguments.nemesis.iter().find(|nemesis| nemesis.needs_disk())
        && arguments.fs == Fs::Dir
    {
        return lacking(format!("{} needs --fs ext4 or --fs xfs", needs.name()));
    }
    if let Some(what) = medium::lacks(arguments.fs) {
        return lacking(what);
    }
    let seed = arguments.seed.unwrap_or_else(|| Clock::system().now_ms().unsigned_abs());
    // What another run has left as evidence stays.
    let work = arguments.work.join(format!("seed-{seed}"));
    Ok(Plan {
        nemeses: arguments.nemesis.clone(),
        fs: arguments.fs,
        mode: arguments.mode,
        seed,
        broker: std::path::absolute(broker).map_err(io_failure("find the broker"))?,
        work: std::path::absolute(work).map_err(io_failure("find the work directory"))?,
        bug: arguments.bug.clone(),
        check_every: arguments.check_every,
    })
}

fn torture(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let plan = plan(arguments)?;
    watch_signals()?;
    say(&format!("seed {}", plan.seed));
    let began = Instant::now();
    let mut tally = Tally::default();
    let outcome = stores(&plan, arguments, &mut tally);
    let took = began.elapsed();
    say(&format!(
        "{} cycles on {} stores in {:.1} s",
        tally.cycles,
        tally.stores,
        took.as_secs_f64()
    ));
    report(&plan, &tally, context)?;
    outcome?;
    // Unless an earlier run with this seed has left something.
    let _not_empty = std::fs::remove_dir(&plan.work);
    if let Some(path) = &arguments.ledger {
        ledger::append(path, &plan, &tally).map_err(io_failure("write the ledger"))?;
    }
    Ok(())
}

/// Store after store, until the faults or the time are used up.
fn stores(plan: &Plan, arguments: &Arguments, tally: &mut Tally) -> Result<(), Failure> {
    let mut seed = Seed::new(plan.seed);
    let until = arguments.time.map(|time| Instant::now() + time);
    let over = || until.is_some_and(|until| Instant::now() > until);
    while tally.cycles < arguments.cycles && !over() {
        let left = arguments.cycles - tally.cycles;
        let cycles = arguments.store_cycles.min(left);
        let mut ground = Ground::new(plan, tally.stores, seed.branch()).map_err(failure)?;
        let done = one_store(&mut ground, cycles, tally, &over);
        tally.refused += ground.board.refused();
        match done {
            Ok(()) => tally.store_done(),
            Err(Trouble::Red(red)) => {
                let evidence = ground.keep();
                let what = format!("{} (cycle {}, seed {})", red.what, tally.cycles, plan.seed);
                return Err(Failure::Broken { rule: red.rule, what, evidence });
            }
            Err(other) => return Err(failure(other)),
        }
    }
    Ok(())
}

fn one_store(
    ground: &mut Ground<'_>,
    cycles: u64,
    tally: &mut Tally,
    over: &impl Fn() -> bool,
) -> Result<(), Trouble> {
    for cycle in 0..cycles {
        if over() {
            break;
        }
        let Some(nemesis) = ground.seed.pick(&ground.plan.nemeses).copied() else { break };
        if cycle > 0 && cycle % ground.plan.check_every == 0 {
            if ground.broker.is_none() {
                ground.start(tally)?;
            }
            ground.judge(tally)?;
        }
        ground.cycle(nemesis, tally)?;
        tally.cycles += 1;
        if tally.cycles.is_multiple_of(100) {
            let (cycles, worst) = (tally.cycles, tally.worst_restart_us / 1_000);
            say(&format!("{cycles} cycles, slowest restart {worst} ms"));
        }
    }
    ground.finish(tally)
}

fn failure(trouble: Trouble) -> Failure {
    match trouble {
        Trouble::Io { action, source } => Failure::Io { action: action.to_owned(), source },
        Trouble::Interrupted => Failure::CannotTorture { what: "interrupted".to_owned() },
        Trouble::Red(red) => {
            Failure::Broken { rule: red.rule, what: red.what, evidence: PathBuf::new() }
        }
    }
}

fn report(plan: &Plan, tally: &Tally, context: &mut Context) -> Result<(), Failure> {
    let names: Vec<_> = plan.nemeses.iter().map(|nemesis| nemesis.name()).collect();
    let pairs = [
        ("nemesis", names.join(", ")),
        ("file system", plan.fs.name().to_owned()),
        ("flush", plan.mode.name().to_owned()),
        ("seed", plan.seed.to_string()),
        ("cycles", tally.cycles.to_string()),
        ("acked messages checked", tally.acked.to_string()),
        ("lost where allowed", tally.lost.to_string()),
        ("offsets given again", tally.rewritten.to_string()),
        ("worst lost window", format!("{} ms", tally.worst_window_us / 1_000)),
        ("committed offsets back by", tally.regress.to_string()),
        ("read more than once", tally.duplicates.to_string()),
        ("refused sends", tally.refused.to_string()),
        ("restart, mean", format!("{} ms", tally.mean_restart_ms())),
        ("restart, worst", format!("{} ms", tally.worst_restart_us / 1_000)),
        ("verdicts of the checker", tally.verdicts.to_string()),
        ("stores verified offline", tally.verified.to_string()),
    ];
    Ok(context.output.object(&pairs, tally)?)
}

/// The first Ctrl-C or termination ends the run in order: mounts and devices must not stay.
fn watch_signals() -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(io_failure("start the event loop"))?;
    let watch = move || {
        runtime.block_on(async {
            let kinds = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
            let (Ok(mut interrupt), Ok(mut terminate)) = kinds else {
                say("signals cannot be watched; Ctrl-C would leave mounts behind");
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            INTERRUPTED.store(true, Ordering::Relaxed);
        });
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(watch)
        .map_err(io_failure("start a thread"))?;
    Ok(())
}
