//! The primary rows: what the index says about itself, topics, groups and consumer offsets.

use std::collections::HashMap;

use prost::Message;

use super::{
    Kind, Problem, QueueRange,
    queues::{Queues, Report, TopicRef, row_damaged},
};
use crate::{
    ReadError, TopicId,
    index::{Family, Guard, consumer_offset, for_each, group::GroupRow, meta, topic::TopicRow},
};

/// What the `default` family says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meta {
    pub(super) checkpoint: u64,
    pub(super) log_end: u64,
    pub(super) next_topic_id: u32,
    pub(super) unclamped: bool,
    pub(super) log_min: u64,
}

/// Reads the `default` family; what cannot be decoded is reported and missing.
pub(super) fn meta(guard: &Guard<'_>, report: Report<'_>) -> Meta {
    let mut failed = |error: ReadError| {
        report(Problem::new(Kind::RowDamaged, error.to_string()).count(1));
    };
    Meta {
        checkpoint: meta::checkpoint(guard).map_or_else(
            |error| {
                failed(error);
                0
            },
            |checkpoint| checkpoint.log_offset,
        ),
        log_end: meta::log_end(guard).unwrap_or_else(|error| {
            failed(error);
            u64::MAX
        }),
        next_topic_id: meta::next_topic_id(guard).unwrap_or_else(|error| {
            failed(error);
            u32::MAX
        }),
        unclamped: meta::unclamped(guard).unwrap_or(false),
        log_min: meta::log_min(guard).unwrap_or_default(),
    }
}

/// Topics by name, groups by number.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) topics: HashMap<String, TopicRef>,
    pub(super) groups: u64,
    /// Names of topics whose rows cannot be decoded.
    pub(super) unreadable: Vec<String>,
}

/// Reads topics and groups and checks them. No topic begins behind `end`, where the log does.
pub(super) fn read(
    guard: &Guard<'_>,
    (meta, end): (Meta, u64),
    report: Report<'_>,
) -> Result<Rows, ReadError> {
    let mut rows = Rows::default();
    let mut ids: HashMap<u32, String> = HashMap::new();
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Topic)), |key, value| {
        let name = std::str::from_utf8(key).ok().filter(|name| !name.is_empty());
        let (Some(name), Ok(row)) = (name, TopicRow::decode(value)) else {
            rows.unreadable.extend(name.map(str::to_owned));
            report(row_damaged(Family::Topic, key));
            return Ok(());
        };
        if let Some(why) = contradiction(name, &row, meta, &mut ids) {
            report(Problem::new(Kind::RowContradicts, why).count(1));
        }
        if row.since_log_offset > meta.log_end {
            let detail = format!("topic {name} begins at log offset {}", row.since_log_offset);
            report(Problem::new(Kind::BeyondLogEnd, detail).count(1));
        }
        let topic = TopicRef {
            id: TopicId(row.id),
            name: name.to_owned(),
            queues: row.queues,
            since: row.since_log_offset.min(end),
        };
        rows.topics.insert(name.to_owned(), topic);
        Ok(())
    })?;
    for_each(guard.db().raw_iterator_cf(guard.family(Family::Group)), |key, value| {
        if std::str::from_utf8(key).is_err() || GroupRow::decode(value).is_err() {
            report(row_damaged(Family::Group, key));
        } else {
            rows.groups += 1;
        }
        Ok(())
    })?;
    Ok(rows)
}

/// What is wrong with a topic's row although it can be decoded.
fn contradiction(
    name: &str,
    row: &TopicRow,
    meta: Meta,
    ids: &mut HashMap<u32, String>,
) -> Option<String> {
    if let Some(other) = ids.insert(row.id, name.to_owned()) {
        return Some(format!("topics {other} and {name} have the same id {}", row.id));
    }
    if row.id == 0 || row.id >= meta.next_topic_id {
        let next = meta.next_topic_id;
        return Some(format!("topic {name} has id {}; the next new id is {next}", row.id));
    }
    let visible = row.clone().into_config(name.to_owned()).visible_queues();
    (visible > row.queues)
        .then(|| format!("topic {name} has {visible} queues in use, its row knows {}", row.queues))
}

/// Checks every consumer offset against the end of its queue. Returns how many there are, and how
/// many belong to nothing.
pub(super) fn offsets(
    guard: &Guard<'_>,
    topics: &HashMap<TopicId, TopicRef>,
    (queues, clamped_later): (&Queues, bool),
    report: Report<'_>,
) -> Result<(u64, u64), ReadError> {
    let (mut count, mut orphans) = (0, 0);
    for_each(guard.db().raw_iterator_cf(guard.family(Family::ConsumerOffset)), |key, value| {
        count += 1;
        let Ok((group, id, queue_id, offset)) = consumer_offset::decode(key, value) else {
            report(row_damaged(Family::ConsumerOffset, key));
            return Ok(());
        };
        let Some(topic) = topics.get(&id).filter(|topic| queue_id < topic.queues) else {
            orphans += 1;
            return Ok(());
        };
        let max = queues.get(id, queue_id).map_or(0, super::queues::QueueState::max);
        if offset.0 > max && !clamped_later {
            let detail = format!("group {group} is at offset {offset}, the queue ends at {max}");
            let topic = topic.name.clone();
            let range = QueueRange { topic, queue_id, from: max, to: offset.0 };
            report(Problem::new(Kind::ConsumerBeyond, detail).of(range).count(1));
        }
        Ok(())
    })?;
    Ok((count, orphans))
}
