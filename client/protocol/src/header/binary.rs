//! The binary header ("ROCKETMQ" serialization, type byte 1). Layout: WIRE.md.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::fields::{Fields, Header, Span};
use crate::frame::{Encoding, Frame, Head, Language, Malformed};

/// Reads a binary header; the caller adds the body.
pub(crate) fn decode(header: Bytes) -> Result<Frame, Malformed> {
    let mut reader = Reader { bytes: &header, position: 0 };
    let code = i32::from(reader.i16("code")?);
    let language = Language::from_byte(reader.u8("language")?);
    let version = i32::from(reader.i16("version")?);
    let opaque = reader.i32("opaque")?;
    let flag = reader.i32("flag")?;
    let remark_length = reader.i32("remark length")?;
    let remark = reader.text(remark_length, "remark")?;
    let remark = header.get(remark.0..remark.1).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let remark = remark.filter(|text| !text.is_empty()).map(str::to_owned);

    let fields_length = reader.i32("fields length")?;
    let fields_length = usize::try_from(fields_length)
        .map_err(|_| Malformed::Length { what: "fields", length: i64::from(fields_length) })?;
    if fields_length > reader.rest() {
        return Err(Malformed::Truncated { what: "fields" });
    }
    let end = reader.position + fields_length;
    let mut fields = Fields::new(Header::Binary(header.clone()));
    while reader.position < end {
        let name_length = reader.i16("field name length")?;
        let (start, stop) = reader.text(i32::from(name_length), "field name")?;
        let name = Span::Header { start, end: stop };
        let value_length = reader.i32("field value length")?;
        let (start, stop) = reader.text(value_length, "field value")?;
        fields.push(name, Span::Header { start, end: stop })?;
    }
    Ok(Frame {
        code,
        language,
        version,
        opaque,
        flag,
        encoding: Encoding::Binary,
        remark,
        fields,
        body: Bytes::new(),
    })
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

struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Reader<'_> {
    fn rest(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    fn take<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], Malformed> {
        let bytes = self
            .bytes
            .get(self.position..)
            .and_then(|rest| rest.first_chunk::<N>())
            .ok_or(Malformed::Truncated { what })?;
        self.position += N;
        Ok(*bytes)
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

    /// Steps over `length` bytes of UTF-8 and returns where they lie.
    fn text(&mut self, length: i32, what: &'static str) -> Result<(usize, usize), Malformed> {
        let length = usize::try_from(length)
            .map_err(|_| Malformed::Length { what, length: i64::from(length) })?;
        let start = self.position;
        let end = start.checked_add(length).ok_or(Malformed::Truncated { what })?;
        let bytes = self.bytes.get(start..end).ok_or(Malformed::Truncated { what })?;
        std::str::from_utf8(bytes).map_err(|_| Malformed::Utf8 { what })?;
        self.position = end;
        Ok((start, end))
    }
}
