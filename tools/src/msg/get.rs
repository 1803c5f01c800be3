//! Getting one message by its place or its id.

use basaltmq::{Client, Queue, StoredMessage};
use clap::Args;

use super::view;
use crate::{Context, error::Failure, output::say};

#[derive(Args)]
#[command(after_help = "Either --id, or --topic with --queue and --offset.")]
pub(crate) struct Arguments {
    /// The topic; with --id it is needed for the id that a producer gave
    #[arg(short, long, required_unless_present = "id")]
    topic: Option<String>,
    /// The queue's number
    #[arg(short, long, required_unless_present = "id", conflicts_with = "id", value_parser = clap::value_parser!(i32).range(0..))]
    queue: Option<i32>,
    /// The message's offset in its queue
    #[arg(long, required_unless_present = "id", conflicts_with = "id", value_parser = clap::value_parser!(i64).range(0..))]
    offset: Option<i64>,
    /// The broker's name, needed if several have the queue
    #[arg(long, conflicts_with = "id")]
    broker: Option<String>,
    /// The message's id: the one that says where it is stored, or the one that its producer gave
    #[arg(long)]
    id: Option<String>,
}

pub(super) async fn run(arguments: &Arguments, context: &mut Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let message = match (&arguments.id, &arguments.topic) {
        (Some(id), topic) => by_id(&client, id, topic.as_deref()).await?,
        (None, topic) => by_place(&client, topic.as_deref().unwrap_or_default(), arguments).await?,
    };
    view::show(&message, context)?;
    client.close().await;
    Ok(())
}

async fn by_id(client: &Client, id: &str, topic: Option<&str>) -> Result<StoredMessage, Failure> {
    let found = client.message_by_id(id, topic).await;
    if topic.is_none() && matches!(found, Err(basaltmq::Error::MessageNotFound { .. })) {
        say("An id that a producer gave can be looked up with --topic.");
    }
    Ok(found?)
}

async fn by_place(
    client: &Client,
    topic: &str,
    arguments: &Arguments,
) -> Result<StoredMessage, Failure> {
    let id = arguments.queue.unwrap_or_default();
    let queues = client.queues(topic).await?;
    let queue = choose(&queues, topic, id, arguments.broker.as_deref())?;
    Ok(client.message_at(queue, arguments.offset.unwrap_or_default()).await?)
}

/// The only queue with this number, on this broker if one is named.
fn choose<'a>(
    queues: &'a [Queue],
    topic: &str,
    id: i32,
    broker: Option<&str>,
) -> Result<&'a Queue, Failure> {
    let fits =
        |queue: &&Queue| queue.id() == id && broker.is_none_or(|broker| queue.broker() == broker);
    let found: Vec<_> = queues.iter().filter(fits).collect();
    match found.as_slice() {
        [only] => Ok(only),
        [] => Err(Failure::NoQueue {
            topic: topic.to_owned(),
            queue: id,
            on: broker.map(|broker| format!(" on broker {broker:?}")).unwrap_or_default(),
        }),
        several => {
            let brokers: Vec<_> = several.iter().map(|queue| queue.broker()).collect();
            Err(Failure::WhichBroker {
                topic: topic.to_owned(),
                queue: id,
                brokers: brokers.join(" and "),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_that_several_brokers_have_needs_a_broker() {
        let queues = [Queue::new("t", "a", 0), Queue::new("t", "b", 0), Queue::new("t", "b", 1)];
        assert_eq!(choose(&queues, "t", 1, None).unwrap(), &queues[2]);
        assert_eq!(choose(&queues, "t", 0, Some("b")).unwrap(), &queues[1]);
        let several = choose(&queues, "t", 0, None).unwrap_err();
        assert!(several.to_string().contains("is on a and b"), "{several}");
        let none = choose(&queues, "t", 1, Some("a")).unwrap_err();
        assert!(none.to_string().contains("no queue 1 on broker \"a\""), "{none}");
    }
}
