//! Reading a topic as it grows, without a group.

use std::{collections::HashSet, str::FromStr, time::Duration};

use basaltmq::{Client, Error, ErrorKind, Queue, Reader, StoredMessage};
use clap::Args;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::view;
use crate::{
    Context,
    error::Failure,
    io_failure,
    output::say,
    time::{Moment, ParseError},
};

/// Messages that one read asks for; brokers give 32 or fewer unless configured otherwise.
const READ_MESSAGES: usize = 32;
/// How long a broker holds a read that finds nothing.
const HOLD: Duration = Duration::from_secs(15);
/// How often new queues are looked for.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// Pause before a broker that did not answer is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// Reads that may wait to be printed.
const READS_WAITING: usize = 16;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The topic
    #[arg(short, long)]
    topic: String,
    /// Where to start: first, last, or a time: @UNIX_MS, 10m (ago), or a date and time
    ///
    /// Queues are read side by side: order holds within each queue.
    #[arg(long, value_name = "PLACE", default_value = "last")]
    from: Start,
    /// End after so many messages
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Only messages with one of these tags, separated by '||'
    #[arg(long)]
    tag: Option<String>,
}

/// Where reading starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Start {
    First,
    Last,
    At(Moment),
}

impl FromStr for Start {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "first" => Ok(Self::First),
            "last" => Ok(Self::Last),
            time => time.parse().map(Self::At),
        }
    }
}

impl Start {
    async fn offset(self, reader: &Reader) -> Result<i64, Error> {
        match self {
            Self::First => reader.min().await,
            Self::Last => reader.max().await,
            Self::At(Moment(ms)) => reader.offset_at_time(ms).await,
        }
    }
}

pub(super) async fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let (sender, mut reads) = mpsc::channel(READS_WAITING);
    let mut readers =
        Readers { client: client.clone(), sender, known: HashSet::new(), tasks: JoinSet::new() };
    readers.add(&arguments.topic, arguments.from).await?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(io_failure("listen for Ctrl-C"))?;
    let mut look = interval(LOOK_AGAIN);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut printed = 0;
    let wanted = arguments.count.unwrap_or(u64::MAX);
    while printed < wanted {
        tokio::select! {
            read = reads.recv() => {
                let messages = read.expect("this function holds a sender")?;
                let fitting = messages.iter().filter(|message| fits(message, arguments.tag.as_deref()));
                for message in fitting.take(usize::try_from(wanted - printed).unwrap_or(usize::MAX)) {
                    view::show_line(message, context)?;
                    printed += 1;
                }
                context.output.flush()?;
            }
            _ = look.tick() => {
                // What is new was empty a moment ago, so it is read from its start. A name server
                // that does not answer is asked again soon.
                let _ = readers.add(&arguments.topic, Start::First).await;
            }
            _ = interrupt.recv() => break,
        }
    }
    say(&format!("messages printed: {printed}; no group was made, nobody's offset moved"));
    client.close().await;
    Ok(())
}

fn fits(message: &StoredMessage, tags: Option<&str>) -> bool {
    tags.is_none_or(|tags| {
        tags.split("||").any(|tag| tag.trim() == message.tag().unwrap_or_default())
    })
}

/// One task for each queue.
struct Readers {
    client: Client,
    sender: mpsc::Sender<Result<Vec<StoredMessage>, Error>>,
    known: HashSet<Queue>,
    tasks: JoinSet<()>,
}

impl Readers {
    /// Starts to read the queues that are not read yet.
    async fn add(&mut self, topic: &str, start: Start) -> Result<(), Error> {
        for queue in self.client.queues(topic).await? {
            if self.known.insert(queue.clone()) {
                let reader = self.client.reader(queue);
                self.tasks.spawn(follow(reader, start, self.sender.clone()));
            }
        }
        Ok(())
    }
}

/// Reads one queue on and on. A broker that does not answer is asked until it does.
async fn follow(
    reader: Reader,
    start: Start,
    sender: mpsc::Sender<Result<Vec<StoredMessage>, Error>>,
) {
    let mut next = None;
    let mut silent = false;
    loop {
        let page = async {
            let from = match next {
                Some(next) => next,
                None => start.offset(&reader).await?,
            };
            reader.read_or_wait(from, READ_MESSAGES, HOLD).await
        };
        match page.await {
            Ok(page) => {
                next = Some(page.next);
                if std::mem::take(&mut silent) {
                    say(&format!("{} answers again", reader.queue()));
                }
                if !page.messages.is_empty() && sender.send(Ok(page.messages)).await.is_err() {
                    return;
                }
            }
            // A broker that restarts is not even found for a moment.
            Err(error)
                if error.kind() == ErrorKind::Unreachable
                    || next.is_some() && error.kind() == ErrorKind::NotFound =>
            {
                if !std::mem::replace(&mut silent, true) {
                    say(&format!("waiting for {}: {error}", reader.queue()));
                }
                sleep(PAUSE).await;
            }
            Err(error) => {
                // If nobody listens any more, nobody wants to know.
                let _ = sender.send(Err(error)).await;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_word_or_a_time() {
        assert_eq!("first".parse::<Start>().unwrap(), Start::First);
        assert_eq!("last".parse::<Start>().unwrap(), Start::Last);
        assert_eq!("@17".parse::<Start>().unwrap(), Start::At(Moment(17)));
        assert!("sometime".parse::<Start>().is_err());
    }
}
