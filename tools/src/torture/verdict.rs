//! The two judges that are not part of this program's checks: the checker, which shares no code
//! with the broker, and the offline verification of a store.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

/// The checker itself, so that it is there wherever this program is.
const CHECKER: &str = include_str!("../../torture/checker.py");

/// What the checker says.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(super) struct Verdict {
    /// Broken rules, the worst first.
    pub(super) red: Vec<Broken>,
    /// Acknowledged messages that were looked for.
    pub(super) acked: u64,
    /// Messages that were read from the broker.
    pub(super) scanned: u64,
    /// Acknowledged messages that power cuts took, where the mode allows that.
    pub(super) lost: u64,
    /// Longest time from the oldest lost message to its cut.
    pub(super) window_us: u64,
    /// Offsets that got a second message behind such a cut.
    pub(super) rewritten: u64,
    /// Messages that a group has read more than once.
    pub(super) duplicates: u64,
    /// How far a committed offset went back at most.
    pub(super) regress: u64,
}

/// A broken rule.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Broken {
    pub(super) rule: u8,
    pub(super) what: String,
}

/// Runs the checker over a history, and over the broker if there is one.
pub(super) fn check(history: &Path, broker: Option<SocketAddr>) -> io::Result<Verdict> {
    let script = history.join("checker.py");
    fs::write(&script, CHECKER)?;
    let mut command = Command::new("python3");
    command.arg(&script).arg(history);
    if let Some(broker) = broker {
        command.arg("--broker").arg(broker.to_string());
    }
    let output = command.stdin(Stdio::null()).output().map_err(|error| {
        io::Error::new(error.kind(), format!("python3: {error}; install the package python3"))
    })?;
    let out = String::from_utf8_lossy(&output.stdout);
    let last = out.lines().last().unwrap_or_default();
    serde_json::from_str(last).map_err(|error| {
        let words = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!("the checker gave no verdict ({error}): {}", words.trim()))
    })
}

/// What offline verification says.
pub(super) enum Audit {
    Sound,
    /// This program has no such command.
    Missing,
    Unsound(String),
}

/// Verifies the store of a broker that is down.
pub(super) fn audit(store: &Path) -> io::Result<Audit> {
    let tool: PathBuf = std::env::current_exe()?;
    let run = |arguments: &[&str]| {
        Command::new(&tool).args(arguments).arg(store).stdin(Stdio::null()).output()
    };
    let output = run(&["store", "verify"])?;
    let out = String::from_utf8_lossy(&output.stdout);
    let words = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => Ok(Audit::Sound),
        Some(2) if words.contains("unrecognized subcommand") => Ok(Audit::Missing),
        _ => Ok(Audit::Unsound(format!("{}\n{}", words.trim(), out.trim()))),
    }
}
