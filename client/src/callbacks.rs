//! Requests that brokers send to this client over its own connections.

use std::sync::Arc;

use protocol::{
    body::offset::ResetOffsets as ResetTable,
    code::{RequestCode, ResponseCode},
    connection::{Body, Connection},
    frame::Frame,
    header::NoFields,
    json,
    request::{heartbeat::ConsumerGroup, offset::ResetOffsets},
    server::Service,
};

use crate::{queue::Queue, registry::Registry};

/// Serves what brokers ask of a client.
#[derive(Debug)]
pub(crate) struct Callbacks {
    registry: Arc<Registry>,
}

impl Callbacks {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// The members of a group changed.
    fn members_changed(&self, connection: &Connection, frame: &Frame) {
        match ConsumerGroup::decode(&frame.fields) {
            Ok(header) => {
                if let Some(member) = self.registry.consumer(header.consumer_group) {
                    member.nudge.notify_one();
                }
                done(connection, frame);
            }
            Err(error) => connection.bad_header(frame.ticket(), &error),
        }
    }

    /// An operator set a group's offsets.
    fn offsets_reset(&self, connection: &Connection, frame: &Frame) {
        let group = match ResetOffsets::decode(&frame.fields) {
            Ok(header) => header.group,
            Err(error) => return connection.bad_header(frame.ticket(), &error),
        };
        match json::decode::<ResetTable>(&frame.body) {
            Ok(body) => {
                if let Some(member) = self.registry.consumer(group) {
                    member.reset(body.offset_table.into_iter().map(|(queue, offset)| {
                        (Queue::new(queue.topic, queue.broker_name, queue.queue_id), offset)
                    }));
                }
                done(connection, frame);
            }
            Err(error) => {
                connection.reject(frame.ticket(), ResponseCode::SYSTEM_ERROR, &error.to_string());
            }
        }
    }
}

fn done(connection: &Connection, frame: &Frame) {
    connection.reply(frame.ticket(), ResponseCode::SUCCESS, None, &NoFields, Body::Empty);
}

impl Service for Callbacks {
    type Turn = ();

    fn request(&self, connection: &Arc<Connection>, frame: Frame, (): &mut ()) {
        match RequestCode::from_i32(frame.code) {
            Some(RequestCode::NotifyConsumerIdsChanged) => self.members_changed(connection, &frame),
            Some(RequestCode::ResetConsumerClientOffset) => {
                self.offsets_reset(connection, &frame);
            }
            _ => connection.unsupported(frame.ticket()),
        }
    }

    /// A broker forgets a client with its connection, so it must hear of this client over the
    /// next one before the regular heartbeat.
    fn closed(&self, _: &Arc<Connection>) {
        self.registry.beat.notify_one();
    }
}
