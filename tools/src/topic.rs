//! `mqtool topic`: list, show, create, delete.

use basaltmq::{BrokerInfo, QueueBounds, TopicOnBroker, TopicSpec};
use clap::{Args, Subcommand, ValueEnum};
use protocol::names;
use serde::Serialize;

use crate::{
    Context,
    error::Failure,
    output::{Align, Format, Row, say},
    time::stamp,
};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List topics
    Ls {
        /// Also those of the system, of retries and of dead letters
        #[arg(short, long)]
        all: bool,
    },
    /// Show a topic's brokers, and its queues with their offsets
    Show {
        /// The topic
        topic: String,
    },
    /// Create a topic on every broker, or change it there
    Create(Create),
    /// Delete a topic with all its messages from every broker
    Delete {
        /// The topic
        topic: String,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// The topic: letters, digits, '-', '_', '%' and '|', at most 127
    topic: String,
    /// Queues on each broker
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(i32).range(1..=4096))]
    queues: i32,
    /// What clients may do
    #[arg(long, value_enum, default_value_t = Permission::Rw)]
    perm: Permission,
    /// Queues keep their brokers when one is down, for strictly ordered messages
    #[arg(long)]
    order: bool,
}

/// What clients may do with a topic.
#[derive(Clone, Copy, ValueEnum)]
enum Permission {
    /// Read only
    R,
    /// Write only
    W,
    /// Read and write
    Rw,
}

impl Permission {
    /// The bits of RocketMQ.
    fn bits(self) -> i32 {
        match self {
            Self::R => 4,
            Self::W => 2,
            Self::Rw => 6,
        }
    }
}

pub(crate) async fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let admin = client.admin();
    match verb {
        Verb::Ls { all } => {
            let (topics, brokers) = (admin.topics().await?, admin.brokers().await?);
            let topics = topics.into_iter().map(|topic| Topic::new(topic, &brokers));
            let rows: Vec<_> = topics.filter(|topic| all || topic.kind == "normal").collect();
            context.output.rows(&rows)?;
        }
        Verb::Show { topic } => {
            let brokers = admin.topic(&topic).await?.brokers;
            let queues = admin.topic_stats(&topic).await?;
            show(context, &topic, &brokers, &queues)?;
        }
        Verb::Create(create) => {
            let spec = TopicSpec::new(&create.topic)
                .queues(create.queues)
                .permission(create.perm.bits())
                .order(create.order);
            admin.create_topic(&spec).await?;
            say(&format!("topic {} has {} queues on each broker", create.topic, create.queues));
        }
        Verb::Delete { topic } => {
            admin.delete_topic(&topic).await?;
            say(&format!("topic {topic} is deleted"));
        }
    }
    client.close().await;
    Ok(())
}

#[derive(Serialize)]
struct Topic {
    topic: String,
    kind: &'static str,
}

impl Topic {
    fn new(topic: String, brokers: &[BrokerInfo]) -> Self {
        // Every broker has topics with its own name, its cluster's, and one for replies.
        let of_broker = |broker: &BrokerInfo| {
            topic == broker.name
                || topic == broker.cluster
                || topic == names::reply_topic(&broker.cluster)
        };
        let kind = if names::is_retry_topic(&topic) {
            "retry"
        } else if names::is_dlq_topic(&topic) {
            "dead letters"
        } else if names::is_system_topic(&topic) || brokers.iter().any(of_broker) {
            "system"
        } else {
            "normal"
        };
        Self { topic, kind }
    }
}

impl Row for Topic {
    const COLUMNS: &'static [(&'static str, Align)] =
        &[("TOPIC", Align::Left), ("KIND", Align::Left)];

    fn cells(&self) -> Vec<String> {
        vec![self.topic.clone(), self.kind.to_owned()]
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    topic: &'a str,
    brokers: Vec<OnBroker>,
    queues: Vec<Queue>,
}

fn show(
    context: &mut Context,
    topic: &str,
    brokers: &[TopicOnBroker],
    queues: &[QueueBounds],
) -> Result<(), Failure> {
    let shown = Shown {
        topic,
        brokers: brokers.iter().map(OnBroker::new).collect(),
        queues: queues.iter().map(Queue::new).collect(),
    };
    match context.output.format() {
        Format::Json => context.output.json(&shown)?,
        Format::Table => {
            context.output.rows(&shown.brokers)?;
            context.output.line("")?;
            context.output.rows(&shown.queues)?;
        }
    }
    Ok(())
}

#[derive(Serialize)]
struct OnBroker {
    broker: String,
    address: String,
    read_queues: i32,
    write_queues: i32,
    permission: &'static str,
}

impl OnBroker {
    fn new(on: &TopicOnBroker) -> Self {
        Self {
            broker: on.broker.clone(),
            address: on.address.clone(),
            read_queues: on.read_queues,
            write_queues: on.write_queues,
            permission: match on.permission & 6 {
                6 => "rw",
                4 => "r",
                2 => "w",
                _ => "none",
            },
        }
    }
}

impl Row for OnBroker {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("BROKER", Align::Left),
        ("ADDRESS", Align::Left),
        ("READ QUEUES", Align::Right),
        ("WRITE QUEUES", Align::Right),
        ("PERM", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.broker.clone(),
            self.address.clone(),
            self.read_queues.to_string(),
            self.write_queues.to_string(),
            self.permission.to_owned(),
        ]
    }
}

#[derive(Serialize)]
struct Queue {
    broker: String,
    queue: i32,
    min_offset: i64,
    max_offset: i64,
    messages: i64,
    last_stored_ms: i64,
}

impl Queue {
    fn new(bounds: &QueueBounds) -> Self {
        Self {
            broker: bounds.queue.broker().to_owned(),
            queue: bounds.queue.id(),
            min_offset: bounds.min,
            max_offset: bounds.max,
            messages: bounds.max - bounds.min,
            last_stored_ms: bounds.last_update_ms,
        }
    }
}

impl Row for Queue {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("BROKER", Align::Left),
        ("QUEUE", Align::Right),
        ("MIN OFFSET", Align::Right),
        ("MAX OFFSET", Align::Right),
        ("MESSAGES", Align::Right),
        ("LAST STORED", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.broker.clone(),
            self.queue.to_string(),
            self.min_offset.to_string(),
            self.max_offset.to_string(),
            self.messages.to_string(),
            stamp(self.last_stored_ms),
        ]
    }
}
