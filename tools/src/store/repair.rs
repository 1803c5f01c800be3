//! Putting a store right.

use std::ops::Range;

use clap::Args;
use protocol::clock::Clock;
use serde::Serialize;
use storage::inspect::{self, Change};

use super::{Directory, text_of};
use crate::{
    Context,
    error::Failure,
    output::{Align, Row, say},
};

#[derive(Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// Do it; without this nothing is changed
    #[arg(long)]
    apply: bool,
}

#[derive(Serialize)]
struct Line {
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<Range<u64>>,
    count: u64,
    what: String,
}

impl Row for Line {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("ACTION", Align::Left),
        ("WHERE", Align::Left),
        ("COUNT", Align::Right),
        ("WHAT", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.action.clone(),
            text_of(self.log.as_ref()),
            if self.count > 0 { self.count.to_string() } else { String::new() },
            self.what.clone(),
        ]
    }
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let path = &arguments.directory.path;
    let clock = arguments.apply.then(Clock::system);
    let mut lines = Vec::new();
    let outcome = inspect::repair(path, clock.as_ref(), &mut |change| {
        let Change { action, log, count, detail } = change;
        lines.push(Line { action: format!("{action:?}"), log, count, what: detail });
    });
    // What was done until a failure is worth knowing too.
    context.output.rows(&lines)?;
    let repaired = outcome?;
    let before = repaired.before.problems;
    match repaired.after {
        _ if before == 0 => {
            say("there are no problems; nothing is to be done");
            Ok(())
        }
        None => {
            say("this is what --apply would do; nothing was changed");
            Err(Failure::Problems { problems: before, path: path.clone() })
        }
        Some(after) if after.problems == 0 => {
            say(&format!(
                "{before} problems are put right; {} messages can be read",
                after.records
            ));
            Ok(())
        }
        Some(after) => Err(Failure::Problems { problems: after.problems, path: path.clone() }),
    }
}
