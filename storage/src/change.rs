//! Deciding changes of topics and groups, in the index writer's one order.

use std::sync::Arc;

use prost::Message;

use crate::{
    DataVersion, GroupConfig, ReadError, StateError, Topic, TopicConfig, TopicId,
    bug::{self, Bug},
    command::{Command, Reply},
    index::{
        Family, consume_queue, consumer_offset,
        group::GroupRow,
        meta::{self, Versioned},
    },
    writer::{IndexWriter, Step},
};

/// A change that is part of a batch, and who waits for it.
#[derive(Debug)]
pub(crate) enum Change {
    Topic(Reply<Arc<Topic>>, Arc<Topic>),
    Group(Reply<Arc<GroupConfig>>, Arc<GroupConfig>),
    Deleted(Reply<()>),
}

impl Change {
    /// Answers who waits. They may have gone; the change stands all the same.
    pub(crate) fn done(self) {
        match self {
            Self::Topic(reply, topic) => drop(reply.send(Ok(topic))),
            Self::Group(reply, group) => drop(reply.send(Ok(group))),
            Self::Deleted(reply) => drop(reply.send(Ok(()))),
        }
    }
}

impl Command {
    fn refuse(self, error: StateError) {
        match self {
            Self::PutTopic(_, reply) => drop(reply.send(Err(error))),
            Self::PutGroup(_, reply) => drop(reply.send(Err(error))),
            Self::DeleteTopic(_, reply)
            | Self::DeleteGroup { reply, .. }
            | Self::Settle(reply)
            | Self::Forget(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Step {
    fn topic(&self, writer: &IndexWriter, name: &str) -> Option<Arc<Topic>> {
        match self.topics.get(name) {
            Some(changed) => changed.as_ref().map(Arc::clone),
            None => writer.shared.topics.get(name),
        }
    }

    fn group(&self, writer: &IndexWriter, name: &str) -> Option<Arc<GroupConfig>> {
        match self.groups.get(name) {
            Some(changed) => changed.as_ref().map(Arc::clone),
            None => writer.shared.groups.get(name),
        }
    }
}

impl IndexWriter {
    /// Adds everything that was commanded.
    pub(crate) fn add_commands(&mut self, step: &mut Step) -> Result<(), ReadError> {
        let mut commands = self.shared.input.commands.take();
        while let Some(command) = commands.pop_front() {
            match command {
                Command::PutTopic(config, reply) => self.put_topic(step, config, reply)?,
                Command::DeleteTopic(name, reply) => self.delete_topic(step, &name, reply)?,
                Command::PutGroup(config, reply) => self.put_group(step, config, reply)?,
                Command::DeleteGroup { name, clean_offsets, reply } => {
                    self.delete_group(step, (&name, clean_offsets), reply)?;
                }
                Command::Settle(reply) => self.settling.push(reply),
                Command::Forget(forget, reply) => {
                    self.forget(step, &forget)?;
                    step.changes.push(Change::Deleted(reply));
                }
            }
        }
        let guard = self.shared.core.index.db()?;
        let now_ms = self.shared.core.clock.now_ms();
        let next = |version: DataVersion| DataVersion {
            counter: version.counter + 1,
            timestamp: now_ms,
            ..version
        };
        // One step for all changes of a batch: the version only tells that there were some.
        if !step.topics.is_empty() {
            let version = next(*self.shared.topic_version());
            meta::put_version(&mut step.batch, &guard, Versioned::Topics, version);
            step.topic_version = Some(version);
            step.sync = !bug::on(Bug::UnsyncedTopic);
        }
        if !step.groups.is_empty() {
            let version = next(*self.shared.group_version());
            meta::put_version(&mut step.batch, &guard, Versioned::Groups, version);
            step.group_version = Some(version);
            step.sync = true;
        }
        Ok(())
    }

    /// Answers everything that was commanded with the failure of the store.
    pub(crate) fn refuse_all(&self) {
        let Err(poison) = self.shared.core.health.check() else { return };
        for command in self.shared.input.commands.take() {
            command.refuse(StateError::Poisoned(poison.clone()));
        }
    }

    fn put_topic(
        &mut self,
        step: &mut Step,
        config: TopicConfig,
        reply: Reply<Arc<Topic>>,
    ) -> Result<(), ReadError> {
        let before = step.topic(self, &config.name);
        if let Some(same) = before.as_ref().filter(|topic| topic.config == config) {
            step.changes.push(Change::Topic(reply, Arc::clone(same)));
            return Ok(());
        }
        let core = Arc::clone(&self.shared.core);
        let guard = core.index.db()?;
        let topic = match &before {
            Some(topic) => topic.with_config(config),
            None => {
                let id = TopicId(self.next_topic_id);
                self.next_topic_id += 1;
                meta::put_next_topic_id(&mut step.batch, &guard, self.next_topic_id);
                // No record of this name can be appended before the topic is known, and none of
                // an earlier incarnation after it was marked as deleted.
                Topic::new(&core, id, core.log.appended(), config)
            }
        };
        step.log_end = step.log_end.max(topic.since_log_offset);
        let row = topic.row().encode_to_vec();
        step.batch.put_cf(guard.family(Family::Topic), &topic.config.name, row);
        let topic = Arc::new(topic);
        step.topics.insert(topic.config.name.clone(), Some(Arc::clone(&topic)));
        step.changes.push(Change::Topic(reply, topic));
        Ok(())
    }

    fn delete_topic(
        &mut self,
        step: &mut Step,
        name: &str,
        reply: Reply<()>,
    ) -> Result<(), ReadError> {
        let Some(topic) = step.topic(self, name) else {
            drop(reply.send(Err(StateError::NoTopic { name: name.to_owned() })));
            return Ok(());
        };
        {
            // With this lock no append is under way, so the log offset of a later incarnation is
            // behind the last record of this one.
            let _appender = self.shared.appender();
            topic.set_deleted();
        }
        let guard = self.shared.core.index.db()?;
        step.batch.delete_cf(guard.family(Family::Topic), name);
        let (from, to) = consume_queue::topic_range(topic.id);
        step.batch.delete_range_cf(guard.family(Family::ConsumeQueue), from, to);
        meta::delete_queue_ends(&mut step.batch, &guard, topic.id);
        self.shared.input.offsets.forget_topic(topic.id);
        let mut removed: u64 = 0;
        consumer_offset::of_topic(&guard, topic.id, |group, of, queue_id, _| {
            let key = consumer_offset::key(group, of, queue_id);
            step.batch.delete_cf(guard.family(Family::ConsumerOffset), key);
            removed += 1;
        })?;
        let queues = topic.queue_count;
        tracing::info!(topic = name, id = topic.id.0, queues, offsets = removed, "topic deleted");
        step.topics.insert(name.to_owned(), None);
        step.changes.push(Change::Deleted(reply));
        Ok(())
    }

    fn put_group(
        &mut self,
        step: &mut Step,
        config: GroupConfig,
        reply: Reply<Arc<GroupConfig>>,
    ) -> Result<(), ReadError> {
        if let Some(same) = step.group(self, &config.name).filter(|group| **group == config) {
            step.changes.push(Change::Group(reply, same));
            return Ok(());
        }
        let guard = self.shared.core.index.db()?;
        let row = GroupRow::new(config.clone());
        step.batch.put_cf(guard.family(Family::Group), &config.name, row.encode_to_vec());
        let group = Arc::new(config);
        step.groups.insert(group.name.clone(), Some(Arc::clone(&group)));
        step.changes.push(Change::Group(reply, group));
        Ok(())
    }

    fn delete_group(
        &mut self,
        step: &mut Step,
        (name, clean_offsets): (&str, bool),
        reply: Reply<()>,
    ) -> Result<(), ReadError> {
        if step.group(self, name).is_none() {
            drop(reply.send(Err(StateError::NoGroup { name: name.to_owned() })));
            return Ok(());
        }
        let guard = self.shared.core.index.db()?;
        step.batch.delete_cf(guard.family(Family::Group), name);
        if clean_offsets {
            self.shared.input.offsets.forget(name);
            let (from, to) = (consumer_offset::group_start(name), consumer_offset::group_end(name));
            step.batch.delete_range_cf(guard.family(Family::ConsumerOffset), from, to);
        }
        step.groups.insert(name.to_owned(), None);
        step.changes.push(Change::Deleted(reply));
        Ok(())
    }
}
