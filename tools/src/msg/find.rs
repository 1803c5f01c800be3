//! Finding messages by key, and saying what an empty answer means.

use basaltmq::{BrokerAnswer, Error, KeyMatches, SearchWindow};
use clap::Args;
use protocol::clock::Clock;

use super::view;
use crate::{
    Context,
    error::Failure,
    output::{Format, say},
    time::{Moment, length, stamp},
};

#[derive(Args)]
pub(crate) struct Arguments {
    /// The topic
    #[arg(short, long)]
    topic: String,
    /// One of the message's keys, or the id that its producer gave it
    #[arg(short, long)]
    key: String,
    /// Earliest time of storing: @UNIX_MS, 10m (ago), or a date and time
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Latest time of storing
    #[arg(long, value_name = "TIME")]
    to: Option<Moment>,
    /// Most messages of each broker
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    max: u16,
}

pub(super) async fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let window = SearchWindow {
        max_messages: usize::from(arguments.max),
        begin_ms: arguments.from.map_or(0, |from| from.0),
        end_ms: arguments.to.map_or(i64::MAX, |to| to.0),
    };
    let matches = client.find_by_key(&arguments.topic, &arguments.key, window).await?;
    let silent = matches.brokers.iter().any(|answer| answer.outcome.is_err());
    if matches.messages.is_empty() {
        let report = report(arguments, &matches, Clock::system().now_ms());
        return Err(if silent {
            Failure::NoAnswer { report }
        } else {
            Failure::NoMatch { report }
        });
    }
    for (index, message) in matches.messages.iter().enumerate() {
        if index > 0 && context.output.format() == Format::Table {
            context.output.line("")?;
        }
        view::show(message, context)?;
    }
    for BrokerAnswer { broker, address, outcome } in &matches.brokers {
        if let Err(error) = outcome {
            say(&format!("broker {broker} ({address}) may have more, but: {error}"));
        }
    }
    client.close().await;
    Ok(())
}

/// Why nothing was found: which brokers answered, over which window, and how far their indexes
/// reach.
fn report(arguments: &Arguments, matches: &KeyMatches, now_ms: i64) -> String {
    let answered = matches.brokers.iter().filter(|answer| answer.outcome.is_ok()).count();
    let mut report = format!(
        "no message with key {:?} in topic {}\nbrokers asked: {}, answered: {answered}; searched by \
         store time: {}",
        arguments.key,
        arguments.topic,
        matches.brokers.len(),
        window(matches.window),
    );
    for BrokerAnswer { broker, address, outcome } in &matches.brokers {
        report.push_str(&format!("\n  {broker} ({address}): "));
        report.push_str(&match outcome {
            Ok(progress) if progress.indexed_to_time_ms <= 0 => "its key index is empty".to_owned(),
            Ok(progress) => format!(
                "its key index reaches to {} ({} ago), log offset {}",
                stamp(progress.indexed_to_time_ms),
                length(now_ms - progress.indexed_to_time_ms),
                progress.indexed_to
            ),
            Err(Error::BrokerUnreachable { reason, .. }) => format!("did not answer: {reason}"),
            Err(error) => error.to_string(),
        });
    }
    report
}

fn window(window: SearchWindow) -> String {
    match (window.begin_ms, window.end_ms) {
        (0, i64::MAX) => "all there is".to_owned(),
        (begin, i64::MAX) => format!("from {} on", stamp(begin)),
        (0, end) => format!("up to {}", stamp(end)),
        (begin, end) => format!("{} to {}", stamp(begin), stamp(end)),
    }
}

#[cfg(test)]
mod tests {
    use basaltmq::IndexProgress;

    use super::*;

    #[test]
    fn an_empty_answer_names_brokers_window_and_reach() {
        let arguments =
            Arguments { topic: "orders".into(), key: "4711".into(), from: None, to: None, max: 64 };
        let progress =
            IndexProgress { found: 0, indexed_to_time_ms: 1_795_428_000_000, indexed_to: 4096 };
        let silent = Error::BrokerUnreachable {
            address: "b:1".into(),
            request: "a query",
            reason: "refused".into(),
        };
        let answer = |broker: &str, outcome| BrokerAnswer {
            broker: broker.into(),
            address: format!("{broker}:1"),
            outcome,
        };
        let matches = KeyMatches {
            messages: Vec::new(),
            brokers: vec![answer("a", Ok(progress)), answer("b", Err(silent))],
            window: SearchWindow::default(),
        };
        let report = report(&arguments, &matches, 1_795_428_004_100);
        for part in [
            "no message with key \"4711\" in topic orders",
            "brokers asked: 2, answered: 1; searched by store time: all there is",
            "a (a:1): its key index reaches to",
            "(4.1 s ago), log offset 4096",
            "b (b:1): did not answer: refused",
        ] {
            assert!(report.contains(part), "{part:?} is missing in {report}");
        }
    }
}
