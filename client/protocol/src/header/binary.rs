//! The binary header ("ROCKETMQ" serialization, type byte 1). Layout: WIRE.md.

use std::mem;

use bytes::{BufMut as _, Bytes, BytesMut};
use bytestring::ByteString;

use super::fields::{Fields, Span};
use crate::frame::{Encoding, Frame, Head, Language, Malformed};

/// Reads a binary header; the caller adds the body.
pub(crate) fn decode(header: Bytes) -> Result<Frame, Malformed> {
    let mut reader = Reader { bytes: header.to_vec(), position: 0 };
    let mut frame = reader.fixed_part()?;
    let read = reader.fields(&mut frame.fields);
    // One check of what was read instead of one for every name and value. It comes before the
    // error that ended the reading, as the text does.
    reader.bytes.truncate(reader.position);
    let text = String::from_utf8(reader.bytes).map_err(|error| {
        let in_value = frame.fields.is_in_value(error.utf8_error().valid_up_to());
        Malformed::Utf8 { what: if in_value { "field value" } else { "field name" } }
    })?;
    read?;
    frame.fields.set_header(text);
    Ok(frame)
}

/// Writes the fixed part and the remark; the fields' length and the fields follow.
pub(crate) fn write_head(out: &mut BytesMut, head: &Head<'_>) {
    // Codes beyond 16 bits are cut as RocketMQ cuts them; peers that send them use JSON.
    let code = head.code.to_be_bytes();
    out.put_slice(code.get(2..).unwrap_or_default());
    out.put_u8(head.language.as_byte());
    out.put_i16(i16::try_from(head.version).unwrap_or(i16::MAX));
    out.put_i32(head.opaque);
    out.put_i32(head.flag);
    let remark = head.remark.unwrap_or_default();
    out.put_u32(u32::try_from(remark.len()).unwrap_or_default());
    out.put_slice(remark.as_bytes());
}

/// Writes one field. A name or value that its length field cannot count is left out.
pub(super) fn write_field(out: &mut BytesMut, name: &str, value: &str) {
    let (Ok(name_length), Ok(value_length)) =
        (i16::try_from(name.len()), i32::try_from(value.len()))
    else {
        return;
    };
    out.put_i16(name_length);
    out.put_slice(name.as_bytes());
    out.put_i32(value_length);
    out.put_slice(value.as_bytes());
}

/// Reads a copy of a header and overwrites its numbers with zeros: what is left is text, of which
/// every piece ends before a byte that is a whole character. So the copy is UTF-8 exactly if all its
/// pieces are.
struct Reader {
    bytes: Vec<u8>,
    position: usize,
}

impl Reader {
    /// Everything before the fields.
    fn fixed_part(&mut self) -> Result<Frame, Malformed> {
        let code = i32::from(self.i16("code")?);
        let language = Language::from_byte(self.u8("language")?);
        let version = i32::from(self.i16("version")?);
        let opaque = self.i32("opaque")?;
        let flag = self.i32("flag")?;
        let remark_length = self.i32("remark length")?;
        let (start, end) = self.text(remark_length, "remark")?;
        let remark = std::str::from_utf8(self.bytes.get(start..end).unwrap_or_default())
            .map_err(|_| Malformed::Utf8 { what: "remark" })?;
        Ok(Frame {
            code,
            language,
            version,
            opaque,
            flag,
            encoding: Encoding::Binary,
            remark: (!remark.is_empty()).then(|| remark.to_owned()),
            fields: Fields::new(ByteString::new()),
            body: Bytes::new(),
        })
    }

    /// Where the fields lie in the header. It is not known to be text yet.
    fn fields(&mut self, fields: &mut Fields) -> Result<(), Malformed> {
        let length = self.i32("fields length")?;
        let length = usize::try_from(length)
            .map_err(|_| Malformed::Length { what: "fields", length: i64::from(length) })?;
        if length > self.bytes.len().saturating_sub(self.position) {
            return Err(Malformed::Truncated { what: "fields" });
        }
        let end = self.position + length;
        while self.position < end {
            let name_length = self.i16("field name length")?;
            let (start, stop) = self.text(i32::from(name_length), "field name")?;
            let name = Span::Header { start, end: stop };
            let value_length = self.i32("field value length")?;
            let (start, stop) = self.text(value_length, "field value")?;
            fields.push(name, Span::Header { start, end: stop })?;
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let bytes = self
            .bytes
            .get_mut(self.position..)
            .and_then(|rest| rest.first_chunk_mut::<N>())
            .ok_or(Malformed::Truncated { what })?;
        self.position += N;
        Ok(mem::replace(bytes, [0; N]))
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, Malformed> {
        let [byte] = self.take(what)?;
        Ok(byte)
    }

    fn i16(&mut self, what: &'static str) -> Result<i16, Malformed> {
        self.take(what).map(i16::from_be_bytes)
    }

    fn i32(&mut self, what: &'static str) -> Result<i32, Malformed> {
        self.take(what).map(i32::from_be_bytes)
    }

    /// Steps over `length` bytes of text, which the caller checks, and returns where they lie.
    fn text(&mut self, length: i32, what: &'static str) -> Result<(usize, usize), Malformed> {
        let length = usize::try_from(length)
            .map_err(|_| Malformed::Length { what, length: i64::from(length) })?;
        let start = self.position;
        let end = start.checked_add(length).ok_or(Malformed::Truncated { what })?;
        if end > self.bytes.len() {
            return Err(Malformed::Truncated { what });
        }
        self.position = end;
        Ok((start, end))
    }
}
