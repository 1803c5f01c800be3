//! Printing messages of a store.

use std::ops::ControlFlow;

use clap::Args;
use storage::inspect::{Messages, Place};

use super::{Directory, Printing, say_damaged};
use crate::{Context, error::Failure};

#[derive(Args)]
#[command(after_help = "Without --topic, --from is a log offset and the whole log is printed.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    directory: Directory,
    /// The message that begins at this log offset, and no other
    #[arg(long, value_name = "LOG_OFFSET", conflicts_with_all = ["topic", "queue", "from", "count"])]
    offset: Option<u64>,
    /// The topic
    #[arg(short, long, requires = "queue")]
    topic: Option<String>,
    /// The queue's number
    #[arg(short, long, requires = "topic")]
    queue: Option<u32>,
    /// The first one: its offset in the queue, or in the log
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: u64,
    /// Most messages [default: all]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    printing: Printing,
}

pub(super) fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let messages = Messages::open(&arguments.directory.path)?;
    let mut printing = Printing { short: arguments.printing.short, printed: 0 };
    let mut outcome = Ok(());
    if let Some(offset) = arguments.offset {
        let found = messages.at(offset, &mut |record| outcome = printing.print(record, context))?;
        outcome?;
        let what = format!("log offset {offset}");
        return if found { Ok(()) } else { Err(Failure::NoMessage { what }) };
    }
    let place = match (&arguments.topic, arguments.queue) {
        (Some(topic), Some(queue_id)) => {
            Place::Queue { topic: topic.clone(), queue_id, from: arguments.from }
        }
        _ => Place::Log(arguments.from),
    };
    let mut left = arguments.count.unwrap_or(u64::MAX);
    if left > 0 {
        messages.read(
            &place,
            &mut |record| {
                outcome = printing.print(record, context);
                left -= 1;
                if left == 0 || outcome.is_err() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
            &mut |range, reason| say_damaged(range, reason),
        )?;
    }
    outcome?;
    if printing.printed == 0 && left > 0 {
        let what = match place {
            Place::Log(from) => format!("log offset {from} or behind it"),
            Place::Queue { topic, queue_id, from } => {
                format!("offset {from} of queue {queue_id} of topic {topic}, or behind it")
            }
        };
        return Err(Failure::NoMessage { what });
    }
    Ok(())
}
