//! Finding messages of a store without its index.

use std::ops::ControlFlow;

use clap::Args;
use storage::inspect::{Messages, Place, Wanted};

use super::{Directory, Printing, say_damaged};
use crate::{Context, error::Failure, time::Moment};

#[derive(Args)]
#[command(after_help = "A message must fit everything that is given.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// What the body, decompressed, or a property contains
    text: Option<String>,
    /// The topic
    #[arg(short, long)]
    topic: Option<String>,
    /// One of the message's keys, or the id that its producer gave it
    #[arg(short, long)]
    key: Option<String>,
    /// Earliest time of storing: @UNIX_MS, 10m (ago), or a date and time
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Latest time of storing
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Most messages [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    #[command(flatten)]
    printing: Printing,
}

pub(super) fn run(arguments: Arguments, context: &mut Context) -> Result<(), Failure> {
    let Arguments { directory, text, topic, key, from, to, max, mut printing } = arguments;
    let messages = Messages::open(&directory.path)?;
    let wanted =
        Wanted { topic, key, text, from_ms: from.map(|from| from.0), to_ms: to.map(|to| to.0) };
    let max = max.unwrap_or(u64::MAX);
    let mut outcome = Ok(());
    messages.read(
        &Place::Log(0),
        &mut |record| {
            if !wanted.fits(record) {
                return ControlFlow::Continue(());
            }
            outcome = printing.print(record, context);
            if printing.printed >= max || outcome.is_err() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
        &mut |range, reason| say_damaged(range, reason),
    )?;
    outcome?;
    if printing.printed == 0 {
        let path = directory.path.display();
        return Err(Failure::NoMatch { report: format!("no such message in the log of {path}") });
    }
    Ok(())
}
