//! `mqtool store`: look at and repair the store of a broker that is down.

mod cat;
mod digest;
mod grep;
mod repair;
mod tree;
mod verify;

use std::{ops::Range, path::PathBuf};

use basaltmq::StoredMessage;
use clap::{Args, Subcommand};
use protocol::record::RecordView;

use crate::{
    Context,
    error::Failure,
    msg::view,
    output::{Format, say},
};

/// Stands where a broker's name would: nobody knows it here.
const NO_BROKER: &str = "-";

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Check every record and every row against each other
    ///
    /// Changes nothing. Exit code 1 if there are problems; what is only worth knowing is none.
    Verify(Directory),
    /// Print checksums of everything, which are the same on a master and its slave
    ///
    /// The broker must have been stopped in order.
    Digest(Directory),
    /// List segments, watermark, RocksDB's families and topics
    Tree(tree::Arguments),
    /// Print messages
    Cat(cat::Arguments),
    /// Find messages by topic, key, text and time; needs no index
    Grep(grep::Arguments),
    /// Say what would put the store right, and do it with --apply
    ///
    /// Nothing is deleted: what is replaced is set aside in the store's directory.
    Repair(repair::Arguments),
}

#[derive(Args)]
pub(crate) struct Directory {
    /// The store's directory: the one that holds commitlog/ and rocksdb/
    #[arg(value_name = "DIR")]
    path: PathBuf,
}

pub(crate) fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Verify(arguments) => verify::run(&arguments, context),
        Verb::Digest(arguments) => digest::run(&arguments, context),
        Verb::Tree(arguments) => tree::run(&arguments, context),
        Verb::Cat(arguments) => cat::run(&arguments, context),
        Verb::Grep(arguments) => grep::run(arguments, context),
        Verb::Repair(arguments) => repair::run(&arguments, context),
    }
}

/// How messages are printed.
#[derive(Args)]
struct Printing {
    /// One line for each message
    #[arg(short, long)]
    short: bool,
    #[arg(skip)]
    printed: u64,
}

impl Printing {
    fn print(&mut self, record: &RecordView<'_>, context: &mut Context) -> Result<(), Failure> {
        let message = StoredMessage::of_record(record, NO_BROKER);
        let first = self.printed == 0;
        self.printed += 1;
        if self.short {
            return view::show_line(&message, context);
        }
        if !first && context.output.format() == Format::Table {
            context.output.line("")?;
        }
        view::show(&message, context)
    }
}

/// Says that a part of the log cannot be read.
fn say_damaged(range: Range<u64>, reason: &str) {
    say(&format!("no readable message at log offsets {} to {}: {reason}", range.start, range.end));
}

/// A range as text; nothing if there is none.
fn text_of(range: Option<&Range<u64>>) -> String {
    match range {
        Some(range) if range.start == range.end => format!("log {}", range.start),
        Some(range) => format!("log {}..{}", range.start, range.end),
        None => String::new(),
    }
}
