//! The dialect and its limits. Literal bodies of real peers are in `tests/golden.rs`.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use serde_json::Value;

use super::*;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Sample {
    count: i64,
    kind: Kind,
    list: Vec<i32>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    on: bool,
    rate: f64,
    table: BTreeMap<i64, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
enum Kind {
    First,
    Second,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            count: 16,
            kind: Kind::First,
            list: Vec::new(),
            name: String::new(),
            note: None,
            on: true,
            rate: 0.0,
            table: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(default)]
struct Key {
    a: String,
    b: i32,
}

fn read(text: &str) -> Sample {
    decode(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn null_and_references_and_missing_fields_leave_the_default() {
    let default = Sample::default();
    assert_eq!(read("{}"), default);
    assert_eq!(read("null"), default);
    assert_eq!(read(r#"{"count":null,"on":null,"list":null,"table":null,"kind":null}"#), default);
    assert_eq!(read(r#"{"table":{"$ref":"$.x"},"list":{ '$ref' : ".."},"note":null}"#), default);
    assert_eq!(read(r#"{"unknown":{"a":[{},[1,"}"]]},"extra":null}"#), default);
}

#[test]
fn numbers_and_text_and_truth_stand_for_each_other() {
    let sample =
        read(r#"{"count":"-5","list":["1",2,3.0],"name":7,"on":"false","rate":"1.5","kind":1}"#);
    assert_eq!(
        (sample.count, &sample.list[..], sample.name.as_str(), sample.on, sample.rate, sample.kind),
        (-5, &[1, 2, 3][..], "7", false, 1.5, Kind::Second)
    );
    assert_eq!(read(r#"{"kind":"Second","on":0,"count":""}"#).count, 0);
    assert_eq!(read(r#"{"name":{"a":[1, 2]}}"#).name, r#"{"a":[1, 2]}"#);
}

#[test]
fn keys_may_be_bare_or_in_single_quotes() {
    let sample = read("{count:1,'name':'it\"s',\t\"table\" : {0:\"a\",'1':'b',\"2\":\"c\",},}\n");
    assert_eq!(sample.table.into_values().collect::<String>(), "abc");
}

#[test]
fn strings_keep_raw_line_breaks_and_every_escape() {
    let sample = read("{\"name\":\"a\nb\tc\\n\\t\\\"\\'\\/\\\\\\u4e2d\\ud83d\\ude00\\x41\\v\\0\"}");
    assert_eq!(sample.name, "a\nb\tc\n\t\"'/\\中😀A\u{b}\0");
    assert_eq!(read(r#"{"name":"\ud83d!"}"#).name, "\u{fffd}!");
}

#[test]
fn objects_are_keys_in_all_known_forms() {
    let expected: BTreeMap<Key, i64> =
        [(0, 5), (1, 6)].map(|(b, n)| (Key { a: "x".to_owned(), b }, n)).into();
    for form in [
        r#"{{"a":"x","b":0}:5,{"a":"x","b":1}:6}"#,
        "{ {\n\"a\" : \"x\", \"b\" : \"0\"\n} : 5 , {'a':'x',b:1}:\"6\" }",
        r#"[[{"a":"x","b":0},5],[{"a":"x","b":1},6]]"#,
        r#"{"{\"a\":\"x\",\"b\":0}":5,"{\"a\":\"x\",\"b\":1}":6}"#,
        r#"{{"a":"x","b":0}:5,{"$ref":"$.other"}:9,null:9,{"a":"y"}:null,{"a":"x","b":1}:6}"#,
    ] {
        let map: BTreeMap<Key, i64> =
            decode(form.as_bytes()).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert_eq!(map, expected, "{form}");
    }
    assert_eq!(encode(&expected), r#"{{"a":"x","b":0}:5,{"a":"x","b":1}:6}"#);
    assert_eq!(decode::<BTreeMap<Key, i64>>(b"[]"), Ok(BTreeMap::new()));
}

#[test]
fn writes_compact_sorted_json_without_nulls_and_with_quoted_keys() {
    let sample = Sample { table: [(0, "a".to_owned())].into(), rate: 2.0, ..Sample::default() };
    assert_eq!(
        encode(&sample),
        r#"{"count":16,"kind":"First","list":[],"name":"","on":true,"rate":2.0,"table":{"0":"a"}}"#
    );
    let nulls: BTreeMap<&str, Option<i32>> = [("a", None), ("b", Some(1)), ("c", None)].into();
    assert_eq!(encode(&nulls), r#"{"b":1}"#);
    assert_eq!(encode(&[f64::NAN]), "[null]");
    assert_eq!(encode("a\"\\\n\u{1}中"), r#""a\"\\\n\u0001中""#);
}

#[test]
fn errors_say_where_and_what() {
    let error = |text: &str| decode::<Sample>(text.as_bytes()).unwrap_err().to_string();
    assert_eq!(error(""), "the body is empty, a JSON object is expected");
    assert_eq!(
        error(r#"{"count":1 "name":2}"#),
        "the JSON is damaged at byte 11: expected a comma or the end of the list, \
         found \"\\\"name\\\":2}\""
    );
    assert_eq!(
        error(r#"{"count":"many"}"#),
        "the JSON does not fit before byte 15: \"many\" is no whole number"
    );
    assert!(error(r#"{"list":[99999999999]}"#).contains("99999999999"));
    for damaged in ["{", "{\"a", "{\"count\":", "[1]x", "{}{}", "{\"a\\q\":1}", "\u{0}", "{:1}"] {
        decode::<Sample>(damaged.as_bytes()).unwrap_err();
    }
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    decode::<Value>(nested(64).as_bytes()).unwrap();
    let error = decode::<Value>(nested(65).as_bytes()).unwrap_err();
    assert_eq!(error, JsonError::TooDeep { at: 65, max: 64 });
    let deep = "{\"a\":".repeat(100_000);
    assert!(matches!(decode::<Sample>(deep.as_bytes()), Err(JsonError::TooDeep { .. })));
    let huge = vec![b' '; limits::JSON_MAX_BYTES + 1];
    assert!(matches!(decode::<Sample>(&huge), Err(JsonError::TooLarge { .. })));
}

#[test]
fn bytes_that_are_not_utf8_are_replaced_as_java_does() {
    assert_eq!(decode::<Vec<String>>(b"[\"a\xFF\"]"), Ok(vec!["a\u{fffd}".to_owned()]));
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e9..1e9).prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_a_strict_parser_on_strict_json(value in any_value()) {
        let compact = serde_json::to_string(&value).unwrap();
        prop_assert_eq!(decode::<Value>(compact.as_bytes()), Ok(value.clone()));
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        prop_assert_eq!(decode::<Value>(pretty.as_bytes()), Ok(value));
    }

    #[test]
    fn any_text_survives(name: String, note: Option<String>, count: i64, list: Vec<i32>) {
        let sample = Sample { name, note, count, list, ..Sample::default() };
        let body = encode(&sample);
        prop_assert_eq!(decode::<Sample>(&body), Ok(sample.clone()));
        prop_assert_eq!(serde_json::from_slice::<Sample>(&body).unwrap(), sample);
    }

    #[test]
    fn damage_never_panics(cut in any::<usize>(), at in any::<usize>(), byte: u8) {
        let mut body =
            br#"{"count":"1",table:{0:'a\u0041'},"list":[1,2],{"a":"b"}:{"$ref":"x"}}"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        body.truncate(cut % (body.len() + 1));
        let _sample = decode::<Sample>(&body);
        let _value = decode::<Value>(&body);
        let _keys = decode::<BTreeMap<Key, Value>>(&body);
    }

    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>) {
        let _value = decode::<Value>(&body);
        let _keys = decode::<BTreeMap<Key, i32>>(&body);
    }
}
