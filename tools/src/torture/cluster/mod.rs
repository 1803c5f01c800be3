//! `mqtool torture cluster`: a master and a slave, each on a machine of its own as far as the network
//! can tell. They are killed, cut off from each other, stopped and promoted under load; what was
//! acknowledged must be on both in the end, and both must be equal.
//!
//! `scene` is one cluster from first message to last check, `episode` what is done to it, `net` the
//! machines and the lines between them, `node` the processes. Producers, readers, histories and the
//! checker are those of the torture of a single broker.

mod checks;
mod episode;
mod figures;
mod net;
mod node;
mod scene;
mod status;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use protocol::clock::Clock;

use self::{episode::Nemesis, figures::Figures, net::Net, scene::Scene};
use super::{
    Mode, failure,
    ground::Trouble,
    medium::{self, Fs},
    seed::Seed,
    watch_signals,
};
use crate::{Context, error::Failure, io_failure, output::say, time::duration};

#[derive(Args)]
pub(crate) struct Arguments {
    /// What is done to the cluster, one after the other at random [default: all but power]
    #[arg(long, value_enum, value_delimiter = ',')]
    nemesis: Vec<Nemesis>,
    /// What the stores lie on
    #[arg(long, value_enum, default_value_t = Fs::Dir)]
    fs: Fs,
    /// How both brokers flush; with `sync` a slave's copy counts when it is on its disk
    #[arg(long, value_enum, default_value_t = Mode::Async)]
    mode: Mode,
    /// Episodes in all
    #[arg(long, value_name = "N", default_value_t = 20)]
    cycles: u64,
    /// End after this time, whatever the number of episodes
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// What everything random comes from; the schedule repeats, the kernel's does not
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The broker to start [default: the mqbroker beside this program]
    #[arg(long, value_name = "FILE")]
    broker: Option<PathBuf>,
    /// The name server to start [default: the mqnamesrv beside this program]
    #[arg(long, value_name = "FILE")]
    name_server: Option<PathBuf>,
    /// Directory for histories, on a disk that is not under test
    #[arg(long, value_name = "DIRECTORY", default_value = "torture")]
    work: PathBuf,
    /// Episodes of one pair of stores before it gives way to a fresh one
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    store_cycles: u64,
    /// Add a row to this file if all went well
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

/// One of the two brokers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Side {
    /// The master of the first day.
    A,
    /// Its slave.
    B,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// What belongs to this side.
    fn of<T>(self, pair: &[T; 2]) -> &T {
        let [a, b] = pair;
        match self {
            Self::A => a,
            Self::B => b,
        }
    }

    fn of_mut<T>(self, pair: &mut [T; 2]) -> &mut T {
        let [a, b] = pair;
        match self {
            Self::A => a,
            Self::B => b,
        }
    }
}

/// What a run does.
#[derive(Debug)]
struct Plan {
    nemeses: Vec<Nemesis>,
    fs: Fs,
    mode: Mode,
    seed: u64,
    broker: PathBuf,
    name_server: PathBuf,
    work: PathBuf,
}

impl Plan {
    /// What counts as the slave's copy.
    fn ack(&self) -> &'static str {
        match self.mode {
            Mode::Sync => "durable",
            Mode::Async => "received",
        }
    }
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let plan = plan(arguments)?;
    // Before any thread is started, so that all of them are in the network too.
    let net = Net::enter().map_err(io_failure("make a network to test on"))?;
    watch_signals()?;
    say(&format!("seed {}", plan.seed));
    let began = Instant::now();
    let mut figures = Figures::default();
    let outcome = stores((&plan, &net), arguments, &mut figures);
    let (episodes, seconds) = (figures.episodes, began.elapsed().as_secs_f64());
    say(&format!("{episodes} episodes on {} pairs of stores in {seconds:.1} s", figures.stores));
    context.output.object(&figures.pairs(&plan), &figures)?;
    outcome?;
    // Unless an earlier run with this seed has left something.
    let _not_empty = std::fs::remove_dir(&plan.work);
    if let Some(path) = &arguments.ledger {
        figures.append_to(path, &plan).map_err(io_failure("write the ledger"))?;
    }
    Ok(())
}

fn plan(arguments: &Arguments) -> Result<Plan, Failure> {
    let lacking = |what: String| Failure::CannotTorture { what };
    let program = |named: &Option<PathBuf>, name: &str| {
        let beside = || Some(std::env::current_exe().ok()?.with_file_name(name));
        let path = named.clone().or_else(beside).filter(|path| path.is_file());
        let path = path.ok_or_else(|| lacking(format!("there is no {name} to start")))?;
        std::path::absolute(path).map_err(io_failure("find a program"))
    };
    let (broker, name_server) =
        (program(&arguments.broker, "mqbroker")?, program(&arguments.name_server, "mqnamesrv")?);
    if arguments.nemesis.contains(&Nemesis::Power) && arguments.fs == Fs::Dir {
        return Err(lacking("power needs --fs ext4 or --fs xfs".to_owned()));
    }
    if let Some(what) = net::lacks().or_else(|| medium::lacks(arguments.fs)) {
        return Err(lacking(what));
    }
    let usual = arguments.nemesis.is_empty();
    let nemeses = if usual { Nemesis::USUAL.to_vec() } else { arguments.nemesis.clone() };
    let seed = arguments.seed.unwrap_or_else(|| Clock::system().now_ms().unsigned_abs());
    // What another run has left as evidence stays.
    let work = arguments.work.join(format!("cluster-{seed}"));
    Ok(Plan {
        nemeses,
        fs: arguments.fs,
        mode: arguments.mode,
        seed,
        broker,
        name_server,
        work: std::path::absolute(work).map_err(io_failure("find the work directory"))?,
    })
}

/// Pair after pair of stores, until the episodes or the time are used up.
fn stores(
    (plan, net): (&Plan, &Net),
    arguments: &Arguments,
    figures: &mut Figures,
) -> Result<(), Failure> {
    let mut seed = Seed::new(plan.seed);
    let until = arguments.time.map(|time| Instant::now() + time);
    let over = || until.is_some_and(|until| Instant::now() > until);
    while figures.episodes < arguments.cycles && !over() {
        let episodes = arguments.store_cycles.min(arguments.cycles - figures.episodes);
        let store = plan.work.join(format!("store-{}", figures.stores));
        let broken = |trouble, episodes| match trouble {
            Trouble::Red(red) => Failure::Broken {
                rule: red.rule,
                what: format!("{} (episode {episodes}, seed {})", red.what, plan.seed),
                evidence: store.clone(),
            },
            other => failure(other),
        };
        let scene = Scene::new((plan, net), &store, seed.branch());
        let mut scene = scene.map_err(|trouble| broken(trouble, figures.episodes))?;
        let done = one_store(&mut scene, episodes, figures, &over);
        net.heal().map_err(io_failure("end a partition"))?;
        if let Err(trouble) = done {
            scene.keep();
            return Err(broken(trouble, figures.episodes));
        }
    }
    Ok(())
}

fn one_store(
    scene: &mut Scene<'_>,
    episodes: u64,
    figures: &mut Figures,
    over: &impl Fn() -> bool,
) -> Result<(), Trouble> {
    for _ in 0..episodes {
        if over() {
            break;
        }
        let Some(nemesis) = scene.seed.pick(&scene.plan.nemeses).copied() else { break };
        let began = Instant::now();
        scene.episode(nemesis, figures)?;
        figures.episodes += 1;
        let (number, took) = (figures.episodes, began.elapsed().as_secs_f64());
        say(&format!("{number} {} {took:.1} s", nemesis.name()));
    }
    scene.finish(figures)
}
