//! `mqtool msg`: send, tail, find and get messages.

mod find;
mod get;
mod lines;
mod send;
mod tail;
pub(crate) mod view;

use clap::Subcommand;

use crate::{Context, error::Failure};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Send one message, or one for each line of standard input
    Send(send::Arguments),
    /// Print messages as they arrive; makes no group and moves nobody's offset
    Tail(tail::Arguments),
    /// Find messages by a key, or by the id that their producer gave them
    ///
    /// If none is found, standard error says which brokers answered, over which window, and how
    /// far their key indexes reach; the exit code is then 3, or 4 when a broker did not answer.
    Find(find::Arguments),
    /// Print the message at a place, or with an id
    Get(get::Arguments),
}

pub(crate) async fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    match verb {
        Verb::Send(arguments) => send::run(arguments, context).await,
        Verb::Tail(arguments) => tail::run(&arguments, context).await,
        Verb::Find(arguments) => find::run(&arguments, context).await,
        Verb::Get(arguments) => get::run(&arguments, context).await,
    }
}
