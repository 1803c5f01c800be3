//! Headers: scanning either encoding, and every typed header out of the fields.

use protocol::{
    frame::Encoding,
    header::{FieldError, Fields},
    request::{admin, group, heartbeat, kv, offset, pull, query, register, route, send, topic},
};

use crate::frames;

/// The first byte chooses the encoding, the second the typed header.
pub fn scan(data: &[u8]) {
    let Some((&[encoding, kind], header)) = data.split_first_chunk() else { return };
    let mut bytes = vec![encoding];
    bytes.extend_from_slice(header);
    let Some(frame) = frames::header(&bytes) else { return };
    let detached = frames::repeat(&frame).detached();
    assert!(detached.fields.iter().eq(frame.fields.iter()));
    typed(kind, &frame.fields, frame.encoding);
}

macro_rules! read {
    ($kind:expr, $fields:expr, $encoding:expr, $($header:ty),*) => {{
        let readers: &[fn(&Fields, Encoding)] = &[$(|fields, encoding| {
            let read: Result<_, FieldError> = <$header>::decode(fields);
            if let Ok(read) = read {
                let frame = frames::send(encoding, &read);
                let again = <$header>::decode(&frame.fields).expect("what we write, we read");
                assert_eq!(format!("{again:?}"), format!("{read:?}"));
            }
        }),*];
        if let Some(read) = readers.get(usize::from($kind) % readers.len()) {
            read($fields, $encoding);
        }
    }};
}

fn typed(kind: u8, fields: &Fields, encoding: Encoding) {
    read!(
        kind,
        fields,
        encoding,
        send::Send,
        send::Sent,
        send::SendBack,
        pull::Pull,
        pull::Pulled,
        query::ByKey,
        query::Found,
        query::ById,
        offset::Queue,
        offset::Offset,
        offset::Search,
        offset::Query,
        offset::Commit,
        offset::ResetOffsets,
        topic::CreateTopic,
        topic::AllTopics,
        group::DeleteGroup,
        group::ConsumeStats,
        heartbeat::Unregister,
        heartbeat::HeartbeatReply,
        kv::Put,
        kv::Value,
        register::Broker,
        register::LowestBroker,
        route::RouteInfo,
        admin::ConfigVersion
    );
}
