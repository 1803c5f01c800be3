//! `mqtool broker`: who leads. A change between two brokers that both answer loses nothing: the
//! master takes no more messages first, and leaves only when a slave has all of them.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use basaltmq::{Admin, ReplicationInfo};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::{
    Context,
    error::Failure,
    output::{Format, say},
};

/// How long a broker may take to serve again in its new role.
const SERVES_WITHIN: Duration = Duration::from_secs(60);
/// How long a forced change waits for a master that may hang: longer than it waits for its slaves.
const FORCED_WITHIN: Duration = Duration::from_secs(5);
/// How often it is asked whether it does.
const LOOK: Duration = Duration::from_millis(100);

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// Make the slave at an address the master; a master that can be reached becomes a slave first
    Promote(Change),
    /// Make the master at an address a slave, as soon as a slave has all its messages
    Demote(Change),
}

#[derive(Args)]
pub(crate) struct Change {
    /// Address of the broker, as `mqtool ha status` lists it
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Even if messages may be lost by it
    #[arg(long)]
    force: bool,
}

/// A change that was made.
#[derive(Serialize)]
struct Changed {
    address: String,
    role: &'static str,
    id: i64,
    epoch: Option<i64>,
    log_end: i64,
}

pub(crate) async fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let admin = client.admin();
    let changed = match verb {
        Verb::Promote(change) => promote(&admin, &change).await?,
        Verb::Demote(change) => demote(&admin, &change).await?,
    };
    client.close().await;
    match context.output.format() {
        Format::Json => context.output.json(&changed)?,
        Format::Table => {
            let Changed { address, role, id, log_end, .. } = &changed;
            let epoch = changed.epoch.unwrap_or(0);
            let line =
                format!("{address} is a {role} now: id {id}, epoch {epoch}, log end {log_end}");
            context.output.line(&line)?;
        }
    }
    Ok(())
}

async fn promote(admin: &Admin, change: &Change) -> Result<Changed, Failure> {
    let address = &change.address;
    let before = admin.replication(address).await?;
    let Some(master) = &before.master else {
        return Err(Failure::Role(format!("{address} is a master already")));
    };
    let (lag, known) = (master.lag_bytes, before.log_end.saturating_add(master.lag_bytes));
    say(&format!(
        "the log of {address} ends at {}, {lag} bytes before the last that it knows of its master's \
         ({known})",
        before.log_end
    ));
    if !before.serves && !change.force {
        return Err(Failure::Role(format!(
            "{address} has not caught up with what it was sent; wait, or --force it"
        )));
    }
    match &master.address {
        Some(leader) if master.connected => {
            confirm(change, &format!("{leader} becomes a slave, {address} the master"))?;
            hand_over(admin, leader, change).await?;
        }
        None if master.connected && lag > 0 && !change.force => {
            return Err(Failure::Role(format!(
                "{address} is {lag} bytes behind a master that can be reached; wait, or --force it"
            )));
        }
        _ => {
            say("its master cannot be reached: what only the master has is lost to this name");
            confirm(change, &format!("{address} becomes the master"))?;
        }
    }
    let made = admin.promote(address, change.force).await?;
    let now = serving(admin, address, true).await?;
    let (address, log_end) = (address.clone(), made.log_end);
    Ok(Changed { address, role: "master", id: made.id, epoch: now.epoch, log_end })
}

/// Lets a master that answers become a slave, and waits until the slave that will be the master has
/// all of its log.
async fn hand_over(admin: &Admin, leader: &str, change: &Change) -> Result<(), Failure> {
    let asked = admin.demote(leader, change.force);
    let left = if change.force {
        match tokio::time::timeout(FORCED_WITHIN, asked).await {
            Ok(Ok(left)) => left,
            Ok(Err(error)) => {
                say(&format!("{leader} could not be made a slave: {error}"));
                return Ok(());
            }
            Err(_) => {
                let seconds = FORCED_WITHIN.as_secs();
                say(&format!("{leader} has not become a slave within {seconds} s"));
                return Ok(());
            }
        }
    } else {
        asked.await?
    };
    let slave = admin.replication(&change.address).await?;
    if slave.log_end < left.log_end && !change.force {
        return Err(Failure::Role(format!(
            "{leader} is a slave now, but {} lacks {} bytes of its log, which another slave has: promote \
             that one, or {leader} again",
            change.address,
            left.log_end - slave.log_end
        )));
    }
    say(&format!("{leader} is a slave now; its log ends at {}", left.log_end));
    Ok(())
}

async fn demote(admin: &Admin, change: &Change) -> Result<Changed, Failure> {
    let address = &change.address;
    let before = admin.replication(address).await?;
    if !before.is_master {
        return Err(Failure::Role(format!("{address} is a slave already")));
    }
    let what = "nobody takes messages of this name until a slave is promoted";
    confirm(change, &format!("{address} becomes a slave; {what}"))?;
    let made = admin.demote(address, change.force).await?;
    let now = serving(admin, address, false).await?;
    let (address, log_end) = (address.clone(), made.log_end);
    Ok(Changed { address, role: "slave", id: made.id, epoch: now.epoch, log_end })
}

/// Waits until the broker serves again, with its new role.
async fn serving(
    admin: &Admin,
    address: &str,
    as_master: bool,
) -> Result<ReplicationInfo, Failure> {
    let deadline = Instant::now() + SERVES_WITHIN;
    loop {
        match admin.replication(address).await {
            Ok(now) if now.is_master == as_master => return Ok(now),
            _ if Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error.into()),
            Ok(_) => {
                return Err(Failure::Role(format!(
                    "{address} has not changed its role within {} s; see its log",
                    SERVES_WITHIN.as_secs()
                )));
            }
        }
    }
}

/// Asks, unless `--yes` was given. Only a person can answer.
fn confirm(change: &Change, what: &str) -> Result<(), Failure> {
    if change.yes {
        return Ok(());
    }
    let refused = |why: &str| Failure::Role(format!("nothing was changed: {why}"));
    if !io::stdin().is_terminal() {
        return Err(refused(&format!("{what}; --yes says that this is wanted")));
    }
    let mut answer = String::new();
    let asked = write!(io::stderr(), "{what}. Go on? [y/N] ")
        .and_then(|()| io::stdin().read_line(&mut answer));
    match asked {
        Ok(_) if answer.trim().eq_ignore_ascii_case("y") => Ok(()),
        _ => Err(refused("the answer was not y")),
    }
}
