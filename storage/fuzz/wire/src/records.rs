//! Stored records, batches and properties.

use std::borrow::Cow;

use bytes::BytesMut;
use protocol::{
    batch, limits,
    message_id::{OffsetId, UniqueId},
    names, property,
    record::{self, Head, NewRecord, RecordView, Version},
    sys_flag,
};

/// Bytes as a log or a pull response holds them.
pub fn read(data: &[u8]) {
    let mut total = 0;
    for record in record::iter(data) {
        let Ok(record) = record else { break };
        let size = usize::try_from(record.total_size).expect("addresses have 64 bits");
        let bytes = data.get(total..total + size).expect("a record lies in its bytes");
        let head = Head::Record { size: record.total_size, version: record.version };
        assert_eq!(record::frame_len(bytes), Some(head));
        total += size;
        repeat(&record, bytes);
        pairs(record.properties);
    }
    if let Some(head) = record::frame_len(data) {
        assert!(usize::try_from(head.size()).expect("64 bits") >= record::BLANK_BYTES);
    }
}

fn repeat(record: &RecordView<'_>, bytes: &[u8]) {
    let representable = !record.topic.is_empty()
        && !record.is_torn()
        && record.version == Version::for_topic(record.topic.len())
        && record.topic.len() <= limits::TOPIC_INTERNAL_MAX_BYTES;
    if !representable || record.verify().is_err() {
        return;
    }
    let new = NewRecord {
        topic: record.topic,
        queue_id: record.queue_id,
        flag: record.flag,
        sys_flag: record.sys_flag,
        born_timestamp: record.born_timestamp,
        born_host: record.born_host,
        store_host: record.store_host,
        reconsume_times: record.reconsume_times,
        prepared_transaction_offset: record.prepared_transaction_offset,
        body: record.body,
        properties: &[record.properties],
    };
    let mut out = BytesMut::new();
    new.encode(&mut out).expect("a record that was read is within the limits");
    record::patch(&mut out, record.queue_offset, record.log_offset, record.store_timestamp)
        .expect("a whole record");
    assert_eq!(out, bytes, "encoding gives the bytes that were decoded");
    assert_eq!(new.encoded_len(), bytes.len());
}

/// The parts of a record, cut out of `data`: what we encode, we read.
pub fn write(data: &[u8]) {
    let Some((head, rest)) = data.split_first_chunk::<48>() else { return };
    let number = |at: usize| {
        let bytes = head.get(at..at + 8).and_then(|bytes| bytes.first_chunk());
        i64::from_be_bytes(*bytes.expect("inside of the head"))
    };
    let small = |at| i32::try_from(number(at) >> 32).expect("32 bits are left");
    let text = String::from_utf8_lossy(rest);
    let topic_chars = usize::from(head[0]) % 40;
    let topic: String = text.chars().take(topic_chars).collect();
    let properties: String = text.chars().skip(topic_chars).collect();
    let v4 = std::net::SocketAddr::from(([head[1], 2, 3, 4], 10911));
    let v6 = std::net::SocketAddr::from(([head[1].into(), 0, 0, 0, 0, 0, 0, 1], 10911));
    let new = NewRecord {
        topic: &topic,
        queue_id: small(8),
        flag: small(16),
        sys_flag: small(24),
        born_timestamp: number(24),
        born_host: if head[2] & 1 == 0 { v4 } else { v6 },
        store_host: if head[2] & 2 == 0 { v4 } else { v6 },
        reconsume_times: small(40),
        prepared_transaction_offset: number(40),
        body: rest,
        properties: &[&properties],
    };
    let mut out = BytesMut::new();
    let sealed = head[3] & 1 == 0;
    let encoded = if sealed { new.encode_sealed(&mut out) } else { new.encode(&mut out) };
    if encoded.is_err() {
        assert!(out.is_empty(), "an error leaves nothing behind");
        return;
    }
    record::patch(&mut out, number(8), number(16), number(32)).expect("a whole record");
    let read = RecordView::parse(&out).expect("what we encode, we read");
    // Text of a record without a seal may look like one.
    assert!(!sealed || read.verify().is_ok(), "its checksums are right");
    assert_eq!((read.topic, read.body), (&*topic, rest));
    assert!(!sealed || read.properties.starts_with(&properties));
    assert!(sealed || read.properties.len() == properties.len());
    assert!(!read.is_torn());
    assert_eq!((read.born_host, read.store_host), (new.born_host, new.store_host));
    assert_eq!(
        (read.queue_offset, read.log_offset, read.store_timestamp),
        (number(8), number(16), number(32))
    );
    let families = sys_flag::BORN_HOST_V6 | sys_flag::STORE_HOST_V6;
    assert_eq!(read.sys_flag & !families, new.sys_flag & !families);
}

/// The body of a client-side batch.
pub fn batches(data: &[u8]) {
    let mut out = BytesMut::new();
    let mut messages = Vec::new();
    let mut total = 0;
    for message in batch::iter(data) {
        let Ok(message) = message else { break };
        message.encode(&mut out).expect("a message that was read is within the limits");
        total += message.encoded_len();
        messages.push(message);
    }
    assert!(total <= data.len() && out.len() == total && messages.len() <= data.len() / 22);
    let again: Vec<_> = batch::iter(&out).collect::<Result<_, _>>().expect("we read our own");
    assert_eq!(again, messages);
}

/// Properties, names and ids.
pub fn properties(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    pairs(&text);
    let _lengths = (names::check_topic(&text).is_ok(), names::check_group(&text).is_ok());
    if let Ok(id) = text.parse::<OffsetId>() {
        assert_eq!(id.to_string().to_uppercase(), text.to_uppercase());
    }
    if let Ok(id) = text.parse::<UniqueId>() {
        let _time = id.near_time_ms(1_700_000_000_000);
    }
}

fn pairs(text: &str) {
    let read: Vec<_> = property::iter(text).collect();
    let mut out = String::new();
    for &(name, value) in &read {
        property::push(&mut out, name, value);
        let last = read.iter().rev().find(|(other, _)| *other == name).map(|(_, value)| *value);
        assert_eq!(property::find(text, name), last);
        assert!(property::keys(value).all(|key| !key.is_empty()));
        assert_eq!(i64::from(i32::try_from(property::tag_hash(value)).expect("32 bits")), {
            property::tag_hash(value)
        });
    }
    assert!(property::iter(&out).eq(read.iter().copied()), "pairs survive");
    if let Some(&(name, _)) = read.first() {
        let rest = property::without(text, &[name]);
        assert_eq!(property::find(&rest, name), None);
        let kept = read.iter().filter(|(other, _)| *other != name).copied();
        assert!(property::iter(&rest).eq(kept));
    } else {
        assert!(matches!(property::without(text, &["a"]), Cow::Borrowed(_)));
    }
}
