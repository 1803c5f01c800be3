//! Sends: codes 10, 310 and 320. A turn's messages are checked and encoded one by one, appended
//! together at the turn's end, and answered in one write.

use std::{net::SocketAddr, ops::Range, sync::Arc};

use protocol::{
    batch,
    code::ResponseCode,
    connection::{Body, Connection},
    frame::{Frame, Ticket},
    header::{Encode, FieldWriter},
    limits, names,
    record::NewRecord,
    request::send::Send,
    sys_flag,
};
use storage::{AppendBatch, Appended, LogOffset, Mode, ReadError, Topic};

use super::{
    reply::{Refusal, refuse},
    retry, stamp,
};
use crate::{
    confirm::{self, Unconfirmed},
    state::{State, blocking},
    topics,
};

/// What the sends of one turn have gathered.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    batch: AppendBatch,
    sends: Vec<Pending>,
    /// Unique ids of `sends`, one after the other: one allocation for all turns, not one a message.
    ids: String,
}

/// A send whose answer waits for the append.
#[derive(Clone, Debug)]
struct Pending {
    ticket: Ticket,
    queue_id: u32,
    /// Its records in the batch.
    records: Range<usize>,
    /// Its unique id in [`Turn::ids`]; empty if the client gave none for a batch.
    id: Range<usize>,
    /// Whether the producer waits for the disk and the slaves.
    wait: bool,
}

/// One send that passed the checks.
struct Admitted<'a> {
    frame: &'a Frame,
    header: &'a Send<'a>,
    topic: &'a Arc<Topic>,
    queue_id: u32,
    born_host: SocketAddr,
}

/// Checks a send and adds it to the turn.
pub(crate) fn request(
    state: &Arc<State>,
    connection: &Arc<Connection>,
    frame: Frame,
    turn: &mut Turn,
) {
    match admit(state, connection, &frame, turn, Mode::HotOnly) {
        Ok(()) => {}
        Err(Refusal::NoTopic { .. }) if topics::for_send(state, &frame).is_some() => {
            send_later(state, connection, frame);
        }
        Err(Refusal::Read(ReadError::Cold)) => send_later(state, connection, frame),
        Err(refusal) => refuse(connection, frame.ticket(), &refusal, &Stamp(state)),
    }
}

/// The first send to a topic creates it, and the first one to a queue reads where the queue ends:
/// outside of the turn because that waits.
fn send_later(state: &Arc<State>, connection: &Arc<Connection>, frame: Frame) {
    let (ticket, state, connection_) = (frame.ticket(), Arc::clone(state), Arc::clone(connection));
    connection.spawn(ticket, async move {
        let connection = connection_;
        let created = match topics::for_send(&state, &frame) {
            Some(config) => topics::create(&state, config).await.map(drop),
            None => Ok(()),
        };
        if let Err(refusal) = created {
            return refuse(&connection, ticket, &refusal, &Stamp(&state));
        }
        blocking(move || {
            let mut turn = Turn::default();
            match admit(&state, &connection, &frame, &mut turn, Mode::MayBlock) {
                Ok(()) => turn_end(&state, &connection, &mut turn),
                Err(refusal) => refuse(&connection, ticket, &refusal, &Stamp(&state)),
            }
        })
        .await;
    });
}

fn admit(
    state: &State,
    connection: &Connection,
    frame: &Frame,
    turn: &mut Turn,
    mode: Mode,
) -> Result<(), Refusal> {
    let header = Send::decode(&frame.fields)?;
    if state.config.permission & topics::PERM_WRITE == 0 {
        return Err(state.forbids("write"));
    }
    names::check_topic(header.topic)?;
    if names::is_send_forbidden(header.topic) {
        return Err(Refusal::SystemTopic { topic: header.topic.to_owned() });
    }
    check_body(state, frame)?;
    let name = retry::destination(state, &header, frame.version)?;
    let topic = state.topic(&name)?;
    if topic.config.perm & topics::PERM_WRITE == 0 {
        return Err(topics::forbids(&topic, "write"));
    }
    let queue_id = pick_queue(state, &topic, header.queue_id)?;
    if mode == Mode::HotOnly && !topic.is_loaded(queue_id) {
        return Err(ReadError::Cold.into());
    }
    let peer = connection.peer();
    let born_host = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if !matches!(sys_flag::transaction(header.sys_flag), 0 | sys_flag::TRANSACTION_COMMIT) {
        return Err(stamp::transactional());
    }
    let send = Admitted { frame, header: &header, topic: &topic, queue_id, born_host };
    if header.batch { send.push_batch(state, turn) } else { send.push_one(state, turn) }
}

fn check_body(state: &State, frame: &Frame) -> Result<(), Refusal> {
    let (length, max) = (frame.body.len(), state.body_max_bytes);
    if length == 0 {
        return Err(Refusal::Illegal("its body is empty; send at least one byte".to_owned()));
    }
    if length > max {
        return Err(Refusal::Illegal(format!(
            "its body has {length} bytes, the limit of this broker is {max}"
        )));
    }
    Ok(())
}

/// The queue that was asked for, or any writable one.
fn pick_queue(state: &State, topic: &Topic, wanted: i32) -> Result<u32, Refusal> {
    let config = &topic.config;
    match u32::try_from(wanted) {
        Err(_) => Ok(state.any_below(config.write_queues)),
        Ok(id) if id < config.write_queues.max(config.read_queues) => Ok(id),
        Ok(_) => Err(topics::no_queue(topic, wanted)),
    }
}

fn illegal(error: batch::Error) -> Refusal {
    Refusal::Illegal(error.to_string())
}

impl Admitted<'_> {
    fn push_one(&self, state: &State, turn: &mut Turn) -> Result<(), Refusal> {
        let properties = self.header.properties.unwrap_or_default();
        let scan = stamp::scan(properties)?;
        if scan.delayed && !names::is_retry_topic(self.header.topic) {
            return Err(stamp::delayed());
        }
        let id_start = turn.ids.len();
        match scan.unique_id {
            Some(id) => turn.ids.push_str(id),
            None => state.push_unique_id(&mut turn.ids),
        }
        let id = id_start..turn.ids.len();
        let [name, end] = match scan.unique_id {
            Some(_) => ["", ""],
            None => ["UNIQ_KEY\u{1}", "\u{2}"],
        };
        let new_id = if scan.unique_id.is_some() {
            ""
        } else {
            turn.ids.get(id.clone()).unwrap_or_default()
        };
        let kept = scan.kept(properties);
        let pieces = [&*kept, stamp::separator(&kept), &state.stamps, name, new_id, end];
        let first = turn.batch.len();
        let record = self.record(state, self.header.flag, &self.frame.body, &pieces)?;
        turn.batch.push(self.topic, self.queue_id, &record)?;
        turn.sends.push(self.pending(first..first + 1, id, scan.wait));
        Ok(())
    }

    /// A batch becomes one record per message; their properties are stored as they came.
    fn push_batch(&self, state: &State, turn: &mut Turn) -> Result<(), Refusal> {
        if names::is_retry_topic(self.header.topic) {
            return Err(Refusal::Illegal("a batch cannot go to a retry topic".to_owned()));
        }
        if self.topic.config.name.len() > limits::TOPIC_MAX_BYTES {
            return Err(Refusal::Illegal("the topic's name is too long for batches".to_owned()));
        }
        let outer = stamp::scan(self.header.properties.unwrap_or_default())?;
        if outer.delayed {
            return Err(stamp::delayed());
        }
        // Everything that can be wrong with one message is found before the first is taken, so
        // that a batch is stored whole or not at all.
        let messages = batch::iter(&self.frame.body).collect::<Result<Vec<_>, _>>();
        let messages = messages.map_err(illegal)?;
        for (index, message) in messages.iter().enumerate() {
            if stamp::scan(message.properties)?.delayed {
                return Err(Refusal::Illegal(format!(
                    "message {index} of the batch has a delay level; send delayed messages alone"
                )));
            }
        }
        if messages.is_empty() {
            return Err(Refusal::Illegal("the batch holds no message".to_owned()));
        }
        let first = turn.batch.len();
        for message in &messages {
            let pieces = [message.properties];
            let record = self.record(state, message.flag, message.body, &pieces)?;
            turn.batch.push(self.topic, self.queue_id, &record)?;
        }
        let id_start = turn.ids.len();
        turn.ids.push_str(outer.unique_id.unwrap_or_default());
        let pending =
            self.pending(first..first + messages.len(), id_start..turn.ids.len(), outer.wait);
        turn.sends.push(pending);
        Ok(())
    }

    fn record<'r>(
        &'r self,
        state: &State,
        flag: i32,
        body: &'r [u8],
        properties: &'r [&'r str],
    ) -> Result<NewRecord<'r>, Refusal> {
        let queue_id = i32::try_from(self.queue_id)
            .map_err(|_| topics::no_queue(self.topic, self.header.queue_id))?;
        Ok(NewRecord {
            topic: &self.topic.config.name,
            queue_id,
            flag,
            sys_flag: self.header.sys_flag,
            born_timestamp: self.header.born_timestamp,
            born_host: self.born_host,
            store_host: state.store_host,
            reconsume_times: self.header.reconsume_times,
            prepared_transaction_offset: 0,
            body,
            properties,
        })
    }

    fn pending(&self, records: Range<usize>, id: Range<usize>, wait: bool) -> Pending {
        Pending { ticket: self.frame.ticket(), queue_id: self.queue_id, records, id, wait }
    }
}

/// Appends what the turn gathered and answers, at once or when the disk and the slaves have it.
pub(crate) fn turn_end(state: &Arc<State>, connection: &Arc<Connection>, turn: &mut Turn) {
    if turn.batch.is_empty() {
        turn.ids.clear();
        return;
    }
    let appended = if state.takes_writes() {
        state.store.append(&mut turn.batch).map_err(Refusal::from)
    } else {
        Err(Refusal::Leaving { broker: state.config.name.clone() })
    };
    match appended {
        Ok(()) => {
            let results = turn.batch.results();
            let end = results.last().map_or(0, |last| last.log_offset.0 + u64::from(last.size));
            let bytes = results.iter().map(|record| u64::from(record.size)).sum();
            state.stats.put(results.len(), bytes);
            let sends = Stored { sends: &turn.sends, results, ids: &turn.ids };
            if state.store.confirmed() >= LogOffset(end) {
                sends.answer(state, connection, None);
            } else {
                answer_when_confirmed(state, connection, &sends, LogOffset(end));
            }
        }
        Err(refusal) => {
            state.stats.put_failed(turn.batch.len());
            for send in &turn.sends {
                refuse(connection, send.ticket, &refusal, &Stamp(state));
            }
        }
    }
    turn.batch.clear();
    turn.sends.clear();
    turn.ids.clear();
}

/// One task waits for the whole turn.
fn answer_when_confirmed(
    state: &Arc<State>,
    connection: &Arc<Connection>,
    stored: &Stored<'_>,
    end: LogOffset,
) {
    let (later, now): (Vec<Pending>, Vec<Pending>) =
        stored.sends.iter().cloned().partition(|send| send.wait);
    Stored { sends: &now, ..*stored }.answer(state, connection, None);
    let Some(first) = later.first() else { return };
    let (results, ids) = (stored.results.to_vec(), stored.ids.to_owned());
    let (state, connection_) = (Arc::clone(state), Arc::clone(connection));
    connection.spawn(first.ticket, async move {
        let stored = Stored { sends: &later, results: &results, ids: &ids };
        let outcome = confirm::records(&state, end).await;
        stored.answer(&state, &connection_, outcome.err().as_ref());
    });
}

/// Sends with the places of their records.
struct Stored<'a> {
    sends: &'a [Pending],
    results: &'a [Appended],
    ids: &'a str,
}

impl Stored<'_> {
    /// `unconfirmed` says why it is not known whether the messages are as safe as promised.
    fn answer(&self, state: &State, connection: &Connection, unconfirmed: Option<&Unconfirmed>) {
        let code = unconfirmed.map_or(ResponseCode::SUCCESS, Unconfirmed::code);
        let remark = unconfirmed.map(Unconfirmed::to_string);
        let remark = remark.as_deref();
        let mut message_ids = String::new();
        for send in self.sends {
            let records = self.results.get(send.records.clone()).unwrap_or_default();
            message_ids.clear();
            for record in records {
                if !message_ids.is_empty() {
                    message_ids.push(',');
                }
                state.push_message_id(&mut message_ids, record.log_offset);
            }
            let header = Sent {
                message_ids: &message_ids,
                queue_id: send.queue_id,
                queue_offset: records.first().map_or(0, |record| record.queue_offset.0),
                transaction_id: self.ids.get(send.id.clone()).unwrap_or_default(),
            };
            connection.reply(send.ticket, code, remark, &(header, Stamp(state)), Body::Empty);
        }
    }
}

/// The reply to a send, borrowed: `protocol`'s own would need four strings a message.
struct Sent<'a> {
    message_ids: &'a str,
    queue_id: u32,
    queue_offset: u64,
    transaction_id: &'a str,
}

impl Encode for Sent<'_> {
    fn encode(&self, fields: &mut FieldWriter<'_>) {
        fields.text("msgId", self.message_ids);
        fields.number("queueId", self.queue_id);
        fields.number("queueOffset", self.queue_offset.cast_signed());
        if !self.transaction_id.is_empty() {
            fields.text("transactionId", self.transaction_id);
        }
    }
}

/// What every answer to a send carries, errors too: Java clients read it unasked.
pub(super) struct Stamp<'a>(pub(super) &'a State);

impl Encode for Stamp<'_> {
    fn encode(&self, fields: &mut FieldWriter<'_>) {
        fields.text("MSG_REGION", &self.0.config.region);
        fields.text("TRACE_ON", if self.0.config.trace_on { "true" } else { "false" });
    }
}
