//! `mqtool group`: list consumer groups, and how far they are behind.

use std::collections::BTreeMap;

use basaltmq::{Admin, GroupInfo, GroupLag, QueueLag};
use clap::Subcommand;
use protocol::{clock::Clock, names};
use serde::Serialize;

use crate::{
    Context,
    error::Failure,
    output::{Align, Row, say},
    time::{length, stamp},
};

#[derive(Subcommand)]
pub(crate) enum Verb {
    /// List consumer groups
    Ls {
        /// Also those of the system
        #[arg(short, long)]
        all: bool,
    },
    /// Show how far groups are behind: all of them by topic, or one by queue
    Lag {
        /// The group
        group: Option<String>,
    },
}

pub(crate) async fn run(verb: Verb, context: &mut Context) -> Result<(), Failure> {
    let client = context.client().await?;
    let admin = client.admin();
    match verb {
        Verb::Ls { all } => {
            let groups = groups(&admin, all).await?;
            let rows: Vec<_> = groups.into_iter().map(Group::new).collect();
            context.output.rows(&rows)?;
        }
        Verb::Lag { group: Some(group) } => {
            let lag = admin.group_lag(&group).await?;
            let now_ms = Clock::system().now_ms();
            let rows: Vec<_> = lag.queues.iter().map(|queue| OfQueue::new(queue, now_ms)).collect();
            context.output.rows(&rows)?;
            say(&members(&lag));
        }
        Verb::Lag { group: None } => {
            let mut rows = Vec::new();
            for group in groups(&admin, false).await? {
                rows.extend(by_topic(&admin.group_lag(&group.name).await?));
            }
            context.output.rows(&rows)?;
        }
    }
    client.close().await;
    Ok(())
}

async fn groups(admin: &Admin, all: bool) -> Result<Vec<GroupInfo>, Failure> {
    let mut groups = admin.groups().await?;
    groups.retain(|group| all || !names::is_system_group(&group.name));
    Ok(groups)
}

fn members(lag: &GroupLag) -> String {
    if lag.members.is_empty() {
        return format!("nobody of group {} is online", lag.group);
    }
    let each = lag
        .members
        .iter()
        .map(|member| format!("{} ({}, {})", member.client_id, member.address, member.language));
    format!("online: {}", each.collect::<Vec<_>>().join("; "))
}

#[derive(Serialize)]
struct Group {
    group: String,
    brokers: Vec<String>,
    enabled: bool,
    max_retries: i32,
}

impl Group {
    fn new(group: GroupInfo) -> Self {
        let GroupInfo { name, brokers, enabled, max_retries } = group;
        Self { group: name, brokers, enabled, max_retries }
    }
}

impl Row for Group {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("GROUP", Align::Left),
        ("BROKERS", Align::Left),
        ("ENABLED", Align::Left),
        ("MAX RETRIES", Align::Right),
    ];

    fn cells(&self) -> Vec<String> {
        let enabled = if self.enabled { "yes" } else { "no" };
        vec![
            self.group.clone(),
            self.brokers.join(" "),
            enabled.to_owned(),
            self.max_retries.to_string(),
        ]
    }
}

/// One topic of a group.
#[derive(Serialize)]
struct OfTopic {
    group: String,
    topic: String,
    lag: i64,
    /// Age of the oldest message that is not consumed; none if nothing is left or it is unknown.
    behind_ms: Option<i64>,
    members: usize,
}

fn by_topic(lag: &GroupLag) -> Vec<OfTopic> {
    let now_ms = Clock::system().now_ms();
    let mut topics: BTreeMap<&str, OfTopic> = BTreeMap::new();
    for queue in &lag.queues {
        let topic = topics.entry(queue.queue.topic()).or_insert_with_key(|topic| OfTopic {
            group: lag.group.clone(),
            topic: (*topic).to_owned(),
            lag: 0,
            behind_ms: None,
            members: lag.members.len(),
        });
        topic.lag += queue.lag();
        topic.behind_ms = topic.behind_ms.max(behind_ms(queue, now_ms));
    }
    topics.into_values().collect()
}

/// The age of the last message that was consumed, if others follow it.
fn behind_ms(queue: &QueueLag, now_ms: i64) -> Option<i64> {
    (queue.lag() > 0 && queue.last_timestamp_ms > 0).then(|| now_ms - queue.last_timestamp_ms)
}

fn behind(ms: Option<i64>) -> String {
    ms.map_or_else(|| "-".to_owned(), length)
}

impl Row for OfTopic {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("GROUP", Align::Left),
        ("TOPIC", Align::Left),
        ("LAG", Align::Right),
        ("BEHIND", Align::Right),
        ("MEMBERS", Align::Right),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.group.clone(),
            self.topic.clone(),
            self.lag.to_string(),
            behind(self.behind_ms),
            self.members.to_string(),
        ]
    }
}

/// One queue of a group.
#[derive(Serialize)]
struct OfQueue {
    topic: String,
    broker: String,
    queue: i32,
    consumer_offset: i64,
    max_offset: i64,
    lag: i64,
    behind_ms: Option<i64>,
    last_consumed_ms: i64,
}

impl OfQueue {
    fn new(queue: &QueueLag, now_ms: i64) -> Self {
        Self {
            topic: queue.queue.topic().to_owned(),
            broker: queue.queue.broker().to_owned(),
            queue: queue.queue.id(),
            consumer_offset: queue.consumer_offset,
            max_offset: queue.broker_offset,
            lag: queue.lag(),
            behind_ms: behind_ms(queue, now_ms),
            last_consumed_ms: queue.last_timestamp_ms,
        }
    }
}

impl Row for OfQueue {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("TOPIC", Align::Left),
        ("BROKER", Align::Left),
        ("QUEUE", Align::Right),
        ("CONSUMED", Align::Right),
        ("MAX OFFSET", Align::Right),
        ("LAG", Align::Right),
        ("BEHIND", Align::Right),
        ("LAST CONSUMED WAS STORED", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.topic.clone(),
            self.broker.clone(),
            self.queue.to_string(),
            self.consumer_offset.to_string(),
            self.max_offset.to_string(),
            self.lag.to_string(),
            behind(self.behind_ms),
            stamp(self.last_consumed_ms),
        ]
    }
}

#[cfg(test)]
mod tests {
    use basaltmq::Queue;

    use super::*;

    fn queue(topic: &str, id: i32, (consumed, max): (i64, i64), last_ms: i64) -> QueueLag {
        QueueLag {
            queue: Queue::new(topic, "a", id),
            broker_offset: max,
            consumer_offset: consumed,
            last_timestamp_ms: last_ms,
        }
    }

    #[test]
    fn the_queues_of_a_topic_add_up() {
        let lag = GroupLag {
            group: "g".into(),
            messages_per_second: 0.0,
            queues: vec![
                queue("t", 0, (5, 9), 0),
                queue("t", 1, (9, 9), 1_000),
                queue("u", 0, (1, 2), 0),
            ],
            members: Vec::new(),
        };
        let topics = by_topic(&lag);
        let sums: Vec<_> = topics.iter().map(|row| (row.topic.as_str(), row.lag)).collect();
        assert_eq!(sums, [("t", 4), ("u", 1)]);
        assert_eq!(topics[0].behind_ms, None, "a queue without lag is not behind");
    }

    #[test]
    fn a_queue_is_behind_by_the_age_of_what_it_consumed_last() {
        assert_eq!(behind_ms(&queue("t", 0, (5, 9), 1_000), 5_000), Some(4_000));
        assert_eq!(behind_ms(&queue("t", 0, (9, 9), 1_000), 5_000), None);
        assert_eq!(behind_ms(&queue("t", 0, (0, 9), 0), 5_000), None);
    }
}
