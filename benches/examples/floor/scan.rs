//! Finding the fields of a request in its bytes: one pass, no tree, nothing copied. What it does not
//! look for it does not check.

use protocol::{
    frame::Encoding,
    limits::{FRAME_MAX_BYTES, HEADER_MAX_BYTES},
};

/// What lies at the start of the bytes that were read.
pub(crate) enum Next<'a> {
    /// A frame, and what follows it.
    Frame(Frame<'a>, &'a [u8]),
    /// Not all of one.
    Partial,
    /// Something else.
    Malformed,
}

/// What is looked for in a frame; 0 and empty where it is not there.
pub(crate) struct Frame<'a> {
    pub(crate) encoding: Encoding,
    pub(crate) code: i64,
    pub(crate) opaque: i64,
    pub(crate) flag: i64,
    pub(crate) topic: &'a [u8],
    pub(crate) queue: i64,
    pub(crate) queue_offset: i64,
    pub(crate) max_messages: i64,
    pub(crate) sys_flag: i64,
    pub(crate) born_ms: i64,
    pub(crate) user_flag: i64,
    /// As written: with escapes if the header is JSON.
    pub(crate) properties: &'a [u8],
    pub(crate) deliveries: i64,
    pub(crate) body: &'a [u8],
}

/// Length of a frame with its prefix, once the prefix is there.
pub(crate) fn frame_len(bytes: &[u8]) -> Option<usize> {
    let length = usize::try_from(u32::from_be_bytes(*bytes.first_chunk()?)).ok()?;
    Some((length + 4).min(FRAME_MAX_BYTES))
}

/// The first frame of `bytes`.
pub(crate) fn frame(bytes: &[u8]) -> Next<'_> {
    let Some(length) = frame_len(bytes) else { return Next::Partial };
    if length >= FRAME_MAX_BYTES {
        return Next::Malformed;
    }
    let Some((frame, rest)) = bytes.split_at_checked(length) else { return Next::Partial };
    match header(frame) {
        Some(frame) => Next::Frame(frame, rest),
        None => Next::Malformed,
    }
}

fn header(frame: &[u8]) -> Option<Frame<'_>> {
    let (mark, rest) = frame.get(4..)?.split_first_chunk()?;
    let mark = u32::from_be_bytes(*mark);
    let length = usize::try_from(mark & 0x00ff_ffff).ok()?;
    if length > HEADER_MAX_BYTES {
        return None;
    }
    let (header, body) = rest.split_at_checked(length)?;
    let mut frame = Frame {
        encoding: if mark >> 24 == 0 { Encoding::Json } else { Encoding::Binary },
        code: 0,
        opaque: 0,
        flag: 0,
        topic: b"",
        queue: 0,
        queue_offset: 0,
        max_messages: 0,
        sys_flag: 0,
        born_ms: 0,
        user_flag: 0,
        properties: b"",
        deliveries: 0,
        body,
    };
    match frame.encoding {
        Encoding::Json => frame.json(header)?,
        Encoding::Binary => frame.binary(header)?,
    }
    Some(frame)
}

impl<'a> Frame<'a> {
    fn binary(&mut self, header: &'a [u8]) -> Option<()> {
        let (code, rest) = header.split_first_chunk()?;
        self.code = u16::from_be_bytes(*code).into();
        // Language and version.
        let (opaque, rest) = rest.get(3..)?.split_first_chunk()?;
        self.opaque = i32::from_be_bytes(*opaque).into();
        let (flag, rest) = rest.split_first_chunk()?;
        self.flag = i32::from_be_bytes(*flag).into();
        let (_remark, rest) = counted(rest)?;
        let (mut fields, _) = counted(rest)?;
        while let Some((length, rest)) = fields.split_first_chunk() {
            let (name, rest) = rest.split_at_checked(u16::from_be_bytes(*length).into())?;
            let (value, rest) = counted(rest)?;
            self.field(name, value);
            fields = rest;
        }
        Some(())
    }

    /// Objects are walked through as one list of members; only their depth tells them apart.
    fn json(&mut self, header: &'a [u8]) -> Option<()> {
        let mut rest = header;
        let mut depth = 0;
        while let Some((first, after)) = rest.split_first() {
            rest = after;
            match first {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                b'"' => {
                    let (name, after) = text(rest)?;
                    let at = after.iter().position(|byte| !matches!(byte, b':' | b' '))?;
                    let (value, after) = match after.get(at..)?.split_first()? {
                        (b'"', value) => text(value)?,
                        (b'{', _) => (&[][..], after.get(at..)?),
                        _ => after.get(at..)?.split_at(bare_len(after.get(at..)?)),
                    };
                    rest = after;
                    match (depth, name) {
                        (1, b"code") => self.code = number(value),
                        (1, b"opaque") => self.opaque = number(value),
                        (1, b"flag") => self.flag = number(value),
                        (1, _) => {}
                        _ => self.field(name, value),
                    }
                }
                _ => {}
            }
        }
        Some(())
    }

    fn field(&mut self, name: &[u8], value: &'a [u8]) {
        match name {
            b"b" | b"topic" => self.topic = value,
            b"e" | b"queueId" => self.queue = number(value),
            b"f" | b"sysFlag" => self.sys_flag = number(value),
            b"g" | b"bornTimestamp" => self.born_ms = number(value),
            b"h" | b"flag" => self.user_flag = number(value),
            b"i" | b"properties" => self.properties = value,
            b"j" | b"reconsumeTimes" => self.deliveries = number(value),
            b"queueOffset" => self.queue_offset = number(value),
            b"maxMsgNums" => self.max_messages = number(value),
            _ => {}
        }
    }
}

/// Bytes behind their length.
fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// A text behind its first quote, escapes as they are, and what follows its last one.
fn text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => return Some((bytes.get(..at)?, bytes.get(at + 1..)?)),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// How long a number, `true`, `false` or `null` is.
fn bare_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|byte| matches!(byte, b',' | b'}' | b' ')).unwrap_or(bytes.len())
}

fn number(text: &[u8]) -> i64 {
    let (sign, digits) = match text.split_first() {
        Some((b'-', digits)) => (-1, digits),
        _ => (1, text),
    };
    let mut value = 0_i64;
    for digit in digits {
        value = value.wrapping_mul(10).wrapping_add(i64::from(digit.wrapping_sub(b'0')));
    }
    value.wrapping_mul(sign)
}

/// Resolves the escapes of a JSON text into `out`, which is emptied. What is no character of one
/// UTF-16 unit becomes a question mark.
pub(crate) fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(rest.get(..at)?);
        let (kind, after) = rest.get(at + 1..)?.split_first()?;
        rest = after;
        match kind {
            b'u' => {
                let (digits, after) = rest.split_first_chunk::<4>()?;
                rest = after;
                let unit = u32::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
                let unit = char::from_u32(unit).unwrap_or('?');
                out.extend_from_slice(unit.encode_utf8(&mut [0; 4]).as_bytes());
            }
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            same => out.push(*same),
        }
    }
    out.extend_from_slice(rest);
    Some(())
}
