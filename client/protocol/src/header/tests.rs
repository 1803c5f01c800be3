//! Headers and frames as real clients make them, and as damage makes them.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::{FieldWriter, NoFields};
use crate::{
    code::{RequestCode, ResponseCode},
    frame::{self, Encoding, Frame, Head, Language, Malformed, Ticket},
    request::{pull::Pull, route::RouteInfo, send::Send},
};

fn bytes(hex: &str) -> BytesMut {
    let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
    (0..digits.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap())
        .collect()
}

fn decode(mut buffer: BytesMut) -> Frame {
    let frame = frame::split(&mut buffer).unwrap().expect("a whole frame");
    assert!(buffer.is_empty(), "one frame only");
    Frame::decode(frame).unwrap()
}

fn json_frame(header: &str) -> Result<Frame, Malformed> {
    let mut frame = BytesMut::new();
    frame.extend_from_slice(&u32::try_from(header.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(header.as_bytes());
    Frame::decode(frame.freeze())
}

const V1: &str = include_str!("../../tests/golden/v01-route-request-json.hex");
const V2: &str = include_str!("../../tests/golden/v02-route-request-binary.hex");
const V4: &str = include_str!("../../tests/golden/v04-error-reply-binary.hex");
const V5: &str = include_str!("../../tests/golden/v05-send-v2-binary.hex");
const V6: &str = include_str!("../../tests/golden/v06-pull-cpp-json.hex");
const V7: &str = include_str!("../../tests/golden/v07-truncated-code-binary.hex");

fn java(code: i32, opaque: i32, flag: i32, encoding: Encoding) -> Head<'static> {
    Head { code, language: Language::Java, version: 479, opaque, flag, remark: None, encoding }
}

#[test]
fn route_request_is_the_same_bytes_as_java_in_both_encodings() {
    let route = [("topic", "TopicTest")];
    for (golden, encoding) in [(V1, Encoding::Json), (V2, Encoding::Binary)] {
        let frame = decode(bytes(golden));
        assert_eq!(frame.code, RequestCode::GetRouteInfoByTopic.as_i32());
        assert_eq!((frame.language, frame.version, frame.opaque), (Language::Java, 479, 1));
        assert_eq!(frame.encoding, encoding);
        assert_eq!(RouteInfo::decode(&frame.fields).unwrap().topic, "TopicTest");
        let mut out = BytesMut::new();
        frame::write(&mut out, &java(105, 1, 0, encoding), &route, 0);
        assert_eq!(out, bytes(golden));
    }
}

#[test]
fn error_reply_is_the_same_bytes_as_java() {
    let frame = decode(bytes(V4));
    assert_eq!(frame.response_code(), ResponseCode::TOPIC_NOT_EXIST);
    assert!(frame.is_reply());
    assert_eq!(frame.remark.as_deref(), Some("No topic route info"));
    let mut head = java(17, 1, 1, Encoding::Binary);
    head.remark = Some("No topic route info");
    let mut out = BytesMut::new();
    frame::write(&mut out, &head, &NoFields, 0);
    assert_eq!(out, bytes(V4));
}

#[test]
fn send_v2_decodes_and_encodes_as_java() {
    let frame = decode(bytes(V5));
    let send = Send::decode(&frame.fields).unwrap();
    assert_eq!((send.producer_group, send.topic, send.queue_id), ("PG", "TopicTest", 2));
    assert_eq!(send.default_topic, Some("TBW102"));
    assert_eq!(send.born_timestamp, 1_700_000_000_000);
    assert!(send.properties.unwrap().starts_with("KEYS\u{1}k1\u{2}"));
    assert!(!send.batch);
    assert_eq!(&frame.body[..], b"Hello");
    let mut out = BytesMut::new();
    frame::write(&mut out, &java(310, 7, 0, Encoding::Binary), &send, 5);
    out.extend_from_slice(b"Hello");
    assert_eq!(Send::decode(&decode(out).fields).unwrap().properties, send.properties);
}

#[test]
fn pull_of_the_cpp_client_decodes() {
    let frame = decode(bytes(V6));
    assert_eq!(frame.language, Language::Cpp);
    assert_eq!(frame.version, 333);
    let pull = Pull::decode(&frame.fields).unwrap();
    assert_eq!((pull.queue_id, pull.queue_offset, pull.max_messages), (2, 100, 32));
    assert_eq!(pull.subscription, Some("*"));
}

#[test]
fn truncated_pop_code_decodes_as_sent() {
    let frame = crate::header::binary::decode(bytes(V7).freeze()).unwrap();
    assert_eq!(frame.code, 3442);
}

#[test]
fn lenient_headers_are_accepted() {
    let frame = json_frame(
        r#" { "version" : "317", "extFields": {"queueId": 3, "flag": true, "nothing": null,
        "topic":"a\u4e2d\ud83d\ude00\n\"b\"", "map":{"x":[1,2]}}, "code":"11", "language":"KLINGON",
        "opaque":-5, "remark":null, "unknown":[{"a":1}], "flag": null } "#,
    )
    .unwrap();
    assert_eq!((frame.code, frame.version, frame.opaque, frame.flag), (11, 317, -5, 0));
    assert_eq!(frame.language, Language::Other);
    assert_eq!(frame.remark, None);
    assert_eq!(frame.fields.get("queueId"), Some("3"));
    assert_eq!(frame.fields.get("flag"), Some("true"));
    assert_eq!(frame.fields.get("nothing"), None);
    assert_eq!(frame.fields.get("topic"), Some("a中😀\n\"b\""));
    assert_eq!(frame.fields.get("map"), Some(r#"{"x":[1,2]}"#));
    assert_eq!(json_frame(r#"{"code":1,"language":9}"#).unwrap().language, Language::Go);
}

#[test]
fn undecodable_headers_say_what_is_wrong() {
    assert_eq!(json_frame("{}").unwrap_err(), Malformed::NoCode);
    assert_eq!(
        json_frame(r#"{"code":1,}"#).unwrap_err().to_string(),
        "the JSON header has something else than a string at byte 10"
    );
    assert!(matches!(json_frame(r#"{"code":99999999999}"#), Err(Malformed::Number { .. })));
    let mut deep = String::from(r#"{"code":1,"x":"#);
    deep.push_str(&"[".repeat(100_000));
    assert!(matches!(json_frame(&deep), Err(Malformed::Json { .. })));
    let many: String = (0..2_000).map(|i| format!(r#""k{i}":1,"#)).collect();
    let many = format!(r#"{{"code":1,"extFields":{{{many}"z":1}}}}"#);
    assert_eq!(json_frame(&many).unwrap_err(), Malformed::TooManyFields);
    assert_eq!(
        Frame::decode(Bytes::from_static(&[9, 0, 0, 1, 0])).unwrap_err(),
        Malformed::UnknownEncoding(9)
    );
    let long = Frame::decode(Bytes::from_static(&[0, 0, 1, 0, b'{'])).unwrap_err();
    assert_eq!(long, Malformed::HeaderTooLong { header: 256, frame: 5 });
}

#[test]
fn impossible_lengths_are_refused_before_memory_is_taken() {
    let mut gib = BytesMut::from(&[0x40_u8, 0, 0, 0][..]);
    let error = frame::split(&mut gib).unwrap_err();
    assert!(error.to_string().contains("1073741824 bytes"), "{error}");
    let mut tls = BytesMut::from(&[0x16_u8, 3, 1, 0][..]);
    assert!(frame::split(&mut tls).unwrap_err().to_string().contains("TLS"));
    let mut short = BytesMut::from(&[0_u8, 0, 0, 4][..]);
    assert_eq!(frame::split(&mut short).unwrap_err(), Malformed::TooShort { length: 4 });
    assert_eq!(frame::split(&mut BytesMut::from(&[0_u8, 0][..])).unwrap(), None);
}

#[test]
fn numbers_keep_their_extremes() {
    let mut out = BytesMut::new();
    let mut fields = FieldWriter::new(&mut out, Encoding::Json);
    fields.number("min", i64::MIN);
    fields.number("max", i64::MAX);
    assert_eq!(&out[..], br#""min":"-9223372036854775808","max":"9223372036854775807""#);
}

proptest! {
    #[test]
    fn fields_survive_both_encodings(
        fields in proptest::collection::vec(("[a-zA-Z_]{1,12}", any::<String>()), 0..20),
        remark in any::<String>(), opaque in any::<i32>(), body in proptest::collection::vec(any::<u8>(), 0..64),
        binary in any::<bool>(),
    ) {
        let encoding = if binary { Encoding::Binary } else { Encoding::Json };
        let ticket = Ticket { code: 10, opaque, encoding, oneway: false };
        let pairs: Vec<(&str, &str)> = fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let mut out = BytesMut::new();
        let head = Head::reply(ticket, ResponseCode(-1000), Some(&remark));
        frame::write(&mut out, &head, pairs.as_slice(), body.len());
        out.extend_from_slice(&body);
        let frame = decode(out);
        prop_assert_eq!(frame.opaque, opaque);
        prop_assert_eq!(frame.code, -1000);
        prop_assert_eq!(frame.remark.unwrap_or_default(), remark);
        prop_assert_eq!(&frame.body[..], &body[..]);
        let read: Vec<(&str, &str)> = frame.fields.iter().collect();
        prop_assert_eq!(read, pairs);
    }

    #[test]
    fn damage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let _ = Frame::decode(Bytes::from(bytes));
    }

    #[test]
    fn damaged_real_frames_never_panic(at in 0_usize..200, byte in any::<u8>(), cut in 4_usize..200, which in 0_usize..4) {
        let golden = [V1, V2, V5, V6][which];
        let mut frame = bytes(golden).split_off(4);
        let at = at % frame.len();
        frame[at] = byte;
        frame.truncate(cut);
        let _ = Frame::decode(frame.freeze());
    }
}
