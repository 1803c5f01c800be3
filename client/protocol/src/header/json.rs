//! The JSON header (type byte 0), scanned in place. It accepts what RocketMQ's parsers accept of
//! any client: any order, unknown keys, numbers as strings and strings as numbers, enums as
//! ordinals, a trailing newline. Layout: WIRE.md.

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use super::{
    fields::{Fields, Span},
    plain::plain_len,
    scanner::{Scanner, Token},
};
use crate::frame::{Encoding, Frame, Head, Language, Malformed};

/// Reads a JSON header; the caller adds the body.
pub(crate) fn decode(header: Bytes) -> Result<Frame, Malformed> {
    let header = ByteString::try_from(header).map_err(|_| Malformed::Utf8 { what: "header" })?;
    let mut scanner = Scanner::new(&header);
    let mut frame = Frame {
        code: 0,
        language: Language::Other,
        version: 0,
        opaque: 0,
        flag: 0,
        encoding: Encoding::Json,
        remark: None,
        fields: Fields::new(header.clone()),
        body: Bytes::new(),
    };
    let mut has_code = false;
    scanner.object(|scanner, key, scratch| {
        match scanner.key_text(key, scratch) {
            "code" => {
                frame.code = scanner.integer("code")?;
                has_code = true;
            }
            "flag" => frame.flag = scanner.integer("flag")?,
            "opaque" => frame.opaque = scanner.integer("opaque")?,
            "version" => frame.version = scanner.integer("version")?,
            "language" => {
                let value = scanner.value(&mut frame.fields)?;
                frame.language = value
                    .map_or(Language::Other, |span| Language::from_text(frame.fields.text(span)));
            }
            "remark" => {
                let value = scanner.value(&mut frame.fields)?;
                frame.remark = value
                    .map(|span| frame.fields.text(span).to_owned())
                    .filter(|text| !text.is_empty());
            }
            "extFields" => ext_fields(scanner, &mut frame.fields)?,
            _ => scanner.skip_value(0)?,
        }
        Ok(())
    })?;
    scanner.skip_space();
    if scanner.peek().is_some() {
        return Err(scanner.unexpected("the end of the header"));
    }
    if !has_code {
        return Err(Malformed::NoCode);
    }
    Ok(frame)
}

fn ext_fields(scanner: &mut Scanner<'_>, fields: &mut Fields) -> Result<(), Malformed> {
    scanner.skip_space();
    if scanner.peek() != Some(b'{') {
        return scanner.skip_value(0);
    }
    scanner.object(|scanner, key, scratch| {
        let key = match key {
            Token::Verbatim { start, end } => Span::Header { start, end },
            Token::Escaped => {
                let buffer = fields.unescaped();
                let start = buffer.len();
                buffer.push_str(scratch);
                Span::Unescaped { start, end: buffer.len() }
            }
        };
        if let Some(value) = scanner.value(fields)? {
            fields.push(key, value)?;
        }
        Ok(())
    })
}

/// Writes the header up to and including the `{` of the fields.
pub(crate) fn write_head(out: &mut BytesMut, head: &Head<'_>) {
    out.put_slice(b"{\"code\":");
    write_number(out, head.code);
    out.put_slice(b",\"extFields\":{");
}

/// Writes what follows the fields. Keys in alphabetical order, as RocketMQ writes them.
pub(crate) fn write_tail(out: &mut BytesMut, head: &Head<'_>) {
    out.put_slice(b"},\"flag\":");
    write_number(out, head.flag);
    out.put_slice(b",\"language\":\"");
    out.put_slice(head.language.name().as_bytes());
    out.put_slice(b"\",\"opaque\":");
    write_number(out, head.opaque);
    if let Some(remark) = head.remark {
        out.put_slice(b",\"remark\":");
        write_string(out, remark);
    }
    out.put_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":");
    write_number(out, head.version);
    out.put_u8(b'}');
}

pub(super) fn write_field(out: &mut BytesMut, name: &str, value: &str, first: bool) {
    if !first {
        out.put_u8(b',');
    }
    let is_plain = |text: &str| plain_len(text.as_bytes()) == text.len();
    if is_plain(name) && is_plain(value) {
        // Nearly every one.
        out.reserve(name.len() + value.len() + 5);
        out.put_u8(b'"');
        out.put_slice(name.as_bytes());
        out.put_slice(b"\":\"");
        out.put_slice(value.as_bytes());
        out.put_u8(b'"');
        return;
    }
    write_string(out, name);
    out.put_u8(b':');
    write_string(out, value);
}

fn write_number(out: &mut BytesMut, value: i32) {
    let mut text = super::Decimal::default();
    out.put_slice(text.format(i64::from(value)).as_bytes());
}

fn write_string(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.put_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        match byte {
            b'"' => out.put_slice(b"\\\""),
            b'\\' => out.put_slice(b"\\\\"),
            b'\n' => out.put_slice(b"\\n"),
            b'\r' => out.put_slice(b"\\r"),
            b'\t' => out.put_slice(b"\\t"),
            control => {
                out.put_slice(b"\\u00");
                out.put_u8(hex_digit(control >> 4));
                out.put_u8(hex_digit(control & 15));
            }
        }
        rest = after;
    }
    out.put_u8(b'"');
}

fn hex_digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 }
}
