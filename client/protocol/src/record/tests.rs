//! Round trips, limits and damage; the golden vectors are in `tests/golden.rs`.

use std::net::SocketAddr;

use bytes::BytesMut;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use super::*;

fn host(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn sample<'a>(topic: &'a str, properties: &'a [&'a str]) -> NewRecord<'a> {
    NewRecord {
        topic,
        queue_id: 3,
        flag: -7,
        sys_flag: 0x1,
        born_timestamp: 1_700_000_000_000,
        born_host: host("10.0.0.9:55555"),
        store_host: host("10.0.0.1:10911"),
        reconsume_times: 2,
        prepared_transaction_offset: 77,
        body: b"Hello",
        properties,
    }
}

fn encode(record: &NewRecord<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    record.encode(&mut out).unwrap();
    assert_eq!(out.len(), record.encoded_len());
    out
}

#[test]
fn reads_what_it_encodes() {
    let properties = ["TAGS\u{1}a\u{2}", "KEYS\u{1}k\u{2}"];
    let mut bytes = encode(&sample("T", &properties));
    patch(&mut bytes, 100, 4096, 1_700_000_000_123).unwrap();
    let view = RecordView::parse(&bytes).unwrap();
    view.verify().unwrap();
    assert_eq!(view.queue_offset, 100);
    assert_eq!(view.log_offset, 4096);
    assert_eq!(view.store_timestamp, 1_700_000_000_123);
    assert_eq!(view.flag, -7);
    assert_eq!(view.born_host, host("10.0.0.9:55555"));
    assert_eq!(view.properties, "TAGS\u{1}a\u{2}KEYS\u{1}k\u{2}");
    assert_eq!(view.property("KEYS"), Some("k"));
}

#[test]
fn patch_finds_the_store_timestamp_behind_an_ipv6_born_host() {
    let mut record = sample("T", &[]);
    record.born_host = host("[2001:db8::9]:1");
    let mut bytes = encode(&record);
    patch(&mut bytes, -1, i64::MAX, 5).unwrap();
    let view = RecordView::parse(&bytes).unwrap();
    assert_eq!((view.queue_offset, view.log_offset), (-1, i64::MAX));
    assert_eq!(view.store_timestamp, 5);
    assert_eq!(view.born_host, record.born_host);
    assert_eq!(view.store_host, record.store_host);
}

#[test]
fn address_family_bits_follow_the_hosts_and_not_the_caller() {
    let mut record = sample("T", &[]);
    record.sys_flag = 0x30;
    assert_eq!(RecordView::parse(&encode(&record)).unwrap().sys_flag, 0);
    record.sys_flag = 0;
    record.store_host = host("[::1]:10911");
    assert_eq!(RecordView::parse(&encode(&record)).unwrap().sys_flag, 0x20);
}

#[test]
fn version_2_is_used_for_topics_over_127_bytes_only() {
    let version = |n: usize| {
        let topic = "t".repeat(n);
        RecordView::parse(&encode(&sample(&topic, &[]))).unwrap().version
    };
    assert_eq!(version(127), Version::V1);
    assert_eq!(version(128), Version::V2);
    assert_eq!(version(255), Version::V2);
}

#[test]
fn limits_are_enforced_and_nothing_is_written() {
    let long = "p".repeat(32_768);
    let mut out = BytesMut::from(&b"before"[..]);
    let error = sample("T", &[&long]).encode(&mut out).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the property string has 32768 bytes, the limit is 32767; make it shorter"
    );
    let topic = "t".repeat(256);
    assert!(matches!(
        sample(&topic, &[]).encode(&mut out),
        Err(RecordError::TooLong { field: "topic", .. })
    ));
    assert_eq!(sample("", &[]).encode(&mut out), Err(RecordError::NoTopic));
    let body = vec![0; limits::RECORD_MAX_BYTES];
    let mut record = sample("T", &[]);
    record.body = &body;
    assert!(matches!(record.encode(&mut out), Err(RecordError::TooLong { field: "record", .. })));
    assert_eq!(out, &b"before"[..]);
    assert_eq!(sample("T", &[&long[..32_767]]).encode(&mut out), Ok(()));
}

#[test]
fn empty_body_has_checksum_zero() {
    let mut record = sample("T", &[]);
    record.body = b"";
    let bytes = encode(&record);
    let view = RecordView::parse(&bytes).unwrap();
    assert_eq!(view.body_crc, 0);
    view.verify().unwrap();
}

#[test]
fn a_changed_body_is_noticed() {
    let mut bytes = encode(&sample("T", &[]));
    let at = bytes.windows(5).position(|w| w == b"Hello").unwrap();
    bytes[at] ^= 1;
    let view = RecordView::parse(&bytes).unwrap();
    assert!(matches!(view.verify(), Err(RecordError::Checksum { .. })));
}

#[test]
fn fields_must_fill_the_total_size_exactly() {
    let mut bytes = encode(&sample("T", &[]));
    bytes.extend_from_slice(b"xx");
    bytes[3] += 2;
    assert_eq!(
        RecordView::parse(&bytes),
        Err(RecordError::Unused { size: u32::from(bytes[3]), unused: 2 })
    );
}

#[test]
fn head_tells_records_from_blanks_and_garbage() {
    let bytes = encode(&sample("T", &[]));
    let size = u32::try_from(bytes.len()).unwrap();
    assert_eq!(frame_len(&bytes[..8]), Some(Head::Record { size, version: Version::V1 }));
    assert_eq!(frame_len(&bytes[..7]), None);
    assert_eq!(frame_len(&blank(4000)), Some(Head::Blank { size: 4000 }));
    assert_eq!(blank(4000), [0, 0, 0x0F, 0xA0, 0xCB, 0xD4, 0x31, 0x94]);
    assert_eq!(frame_len(&[0; 16]), None);
    let mut tiny = bytes.clone();
    tiny[..4].copy_from_slice(&90_u32.to_be_bytes());
    assert_eq!(frame_len(&tiny), None);
    assert_eq!(
        RecordView::parse(&tiny),
        Err(RecordError::Size { size: 90, min: 91, max: limits::RECORD_MAX_BYTES })
    );
    assert_eq!(RecordView::parse(&blank(4000)), Err(RecordError::Magic { magic: BLANK_MAGIC }));
}

#[test]
fn iterates_over_concatenated_records_and_stops_at_damage() {
    let mut bytes = encode(&sample("A", &[]));
    bytes.extend_from_slice(&encode(&sample("B", &[])));
    let topics: Vec<_> = iter(&bytes).map(|r| r.unwrap().topic).collect();
    assert_eq!(topics, ["A", "B"]);
    bytes.truncate(bytes.len() - 1);
    let read: Vec<_> = iter(&bytes).collect();
    assert_eq!(read.len(), 2);
    assert!(read[0].is_ok());
    assert!(matches!(read[1], Err(RecordError::Truncated { .. })));
}

#[test]
fn zeros_in_text_are_refused_and_mean_a_torn_record() {
    let mut out = BytesMut::new();
    let refused = sample("T", &["a\u{1}b", "\0\u{2}"]).encode(&mut out);
    assert_eq!(refused, Err(RecordError::Zero { field: "property string" }));
    assert_eq!(sample("T\0", &[]).encode(&mut out), Err(RecordError::Zero { field: "topic" }));
    assert!(out.is_empty());
    let mut bytes = encode(&sample("T", &["a\u{1}b\u{2}"]));
    assert!(!RecordView::parse(&bytes).unwrap().is_torn());
    let at = bytes.len() - 2;
    bytes[at..].fill(0);
    let torn = RecordView::parse(&bytes).unwrap();
    torn.verify().unwrap();
    assert!(torn.is_torn());
}

fn any_host() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from),
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from),
    ]
}

/// Topic, body, properties, hosts and numbers of an arbitrary legal message.
type Parts = (String, Vec<u8>, String, [SocketAddr; 2], [i32; 3], [i64; 5]);

fn any_parts() -> impl Strategy<Value = Parts> {
    (
        "[a-z]{1,255}",
        any::<Vec<u8>>(),
        prop_oneof![Just(String::new()), any::<String>()],
        [any_host(), any_host()],
        any::<[i32; 3]>(),
        any::<[i64; 5]>(),
    )
}

fn encode_parts(parts: &Parts) -> BytesMut {
    let (topic, body, properties, hosts, small, large) = parts;
    let mut bytes = encode(&NewRecord {
        topic,
        queue_id: small[0],
        flag: small[1],
        sys_flag: 0,
        born_timestamp: large[0],
        born_host: hosts[0],
        store_host: hosts[1],
        reconsume_times: small[2],
        prepared_transaction_offset: large[1],
        body,
        properties: &[properties],
    });
    patch(&mut bytes, large[2], large[3], large[4]).unwrap();
    bytes
}

proptest! {
    #[test]
    fn every_legal_message_survives(parts in any_parts()) {
        let bytes = encode_parts(&parts);
        let view = RecordView::parse(&bytes).unwrap();
        view.verify().unwrap();
        let (topic, body, properties, hosts, small, large) = &parts;
        prop_assert_eq!(view.topic, topic);
        prop_assert_eq!(view.body, body);
        prop_assert_eq!(view.properties, properties);
        prop_assert_eq!([view.born_host, view.store_host], *hosts);
        prop_assert_eq!([view.queue_id, view.flag, view.reconsume_times], *small);
        prop_assert_eq!(
            [
                view.born_timestamp,
                view.prepared_transaction_offset,
                view.queue_offset,
                view.log_offset,
                view.store_timestamp,
            ],
            *large
        );
    }

    #[test]
    fn a_cut_record_is_an_error(parts in any_parts(), cut in any::<usize>()) {
        let bytes = encode_parts(&parts);
        let cut = cut % bytes.len();
        RecordView::parse(&bytes[..cut]).unwrap_err();
    }

    #[test]
    fn flipped_bits_never_panic(parts in any_parts(), at in any::<usize>(), bit in 0..8_u32) {
        let mut bytes = encode_parts(&parts);
        let at = at % bytes.len();
        bytes[at] ^= 1_u8 << bit;
        for record in iter(&bytes).flatten() {
            let _checked = record.verify();
        }
        let _patched = patch(&mut bytes, 1, 2, 3);
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes: Vec<u8>) {
        let _head = frame_len(&bytes);
        assert!(iter(&bytes).count() <= 1);
        let _patched = patch(&mut bytes, 1, 2, 3);
    }
}

/// A sealed and patched record.
fn sealed(record: &NewRecord<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    record.encode_sealed(&mut out).unwrap();
    assert_eq!(out.len(), record.sealed_len());
    patch(&mut out, 100, 4096, 1_700_000_000_123).unwrap();
    out
}

#[test]
fn seal_is_the_last_property_and_keeps_the_others() {
    for (properties, stored) in [
        (&["TAGS\u{1}a\u{2}"][..], "TAGS\u{1}a\u{2}__CRC32#\u{1}"),
        (&["TAGS\u{1}a", ""][..], "TAGS\u{1}a\u{2}__CRC32#\u{1}"),
        (&[][..], "__CRC32#\u{1}"),
    ] {
        let record = sample("T", properties);
        let bytes = sealed(&record);
        let view = RecordView::parse(&bytes).unwrap();
        view.verify().unwrap();
        assert!(view.properties.starts_with(stored), "{:?}", view.properties);
        assert_eq!(view.properties.len(), record.sealed_properties_len());
        assert_eq!(view.property("__CRC32#").map(str::len), Some(10));
    }
}

#[test]
fn properties_that_leave_no_room_are_stored_without_a_seal() {
    let long = format!("a\u{1}{}\u{2}", "x".repeat(crate::limits::PROPERTIES_MAX_BYTES - 3));
    let bytes = sealed(&sample("T", &[&long]));
    let view = RecordView::parse(&bytes).unwrap();
    view.verify().unwrap();
    assert_eq!(view.properties, long);
}

#[test]
fn properties_without_room_that_end_like_a_seal_are_refused() {
    let end = "\u{2}__CRC32#\u{1}0123456789\u{2}";
    let room = crate::limits::PROPERTIES_MAX_BYTES - end.len();
    let properties = ["a\u{1}", &"x".repeat(room - 2), end];
    let mut out = BytesMut::from(&b"before"[..]);
    let refused = sample("T", &properties).encode_sealed(&mut out).unwrap_err();
    assert!(matches!(refused, RecordError::TooLong { max: 32_746, .. }), "{refused}");
    assert_eq!(&out[..], b"before");
}

#[test]
fn every_flipped_bit_of_a_sealed_record_is_noticed() {
    for topic in ["T", &"t".repeat(200)] {
        let bytes = sealed(&sample(topic, &["TAGS\u{1}a\u{2}", "KEYS\u{1}k"]));
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let noticed = RecordView::parse(&damaged).and_then(|view| view.verify()).is_err();
            assert!(noticed, "bit {bit}");
        }
    }
}
