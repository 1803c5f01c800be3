//! Answers: headers made of constant pieces, and what waits to be written.

use std::{
    io::{self, IoSlice, Write as _},
    net::TcpStream,
    ops::Range,
};

use protocol::frame::Encoding;

use super::{log::Log, scan::Frame};

/// Most pieces of one write, as Linux has it.
const PIECES_MAX: usize = 1024;
/// Rust, version 479: what stands between code and opaque in a binary header.
const BINARY_PEER: [u8; 3] = [12, 0x01, 0xdf];

/// Answers that are not written yet.
#[derive(Default)]
pub(crate) struct Output {
    /// Headers and bodies.
    pub(crate) bytes: Vec<u8>,
    /// Ranges of the log, and before which of `bytes` they go.
    pub(crate) runs: Vec<(usize, Range<usize>)>,
    /// For properties without their escapes.
    pub(crate) scratch: Vec<u8>,
    /// How much of all that is written.
    written: usize,
}

impl Output {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Writes what the socket takes.
    pub(crate) fn write(&mut self, mut stream: &TcpStream, log: &Log) -> io::Result<()> {
        while !self.is_empty() {
            let outcome = if self.runs.is_empty() {
                stream.write(self.bytes.get(self.written..).unwrap_or_default())
            } else {
                stream.write_vectored(&self.pieces(log))
            };
            match outcome {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            let runs: usize = self.runs.iter().map(|(_, run)| run.len()).sum();
            if self.written == self.bytes.len() + runs {
                self.bytes.clear();
                self.runs.clear();
                self.written = 0;
            }
        }
        Ok(())
    }

    /// What is not written, in order.
    fn pieces<'a>(&'a self, log: &'a Log) -> Vec<IoSlice<'a>> {
        let mut pieces = Vec::with_capacity(2 * self.runs.len() + 1);
        let (mut from, mut skip) = (0, self.written);
        let mut add = |piece: &'a [u8]| {
            let skipped = skip.min(piece.len());
            skip -= skipped;
            if skipped < piece.len() && pieces.len() < PIECES_MAX {
                pieces.push(IoSlice::new(piece.get(skipped..).unwrap_or_default()));
            }
        };
        for (before, run) in &self.runs {
            add(self.bytes.get(from..*before).unwrap_or_default());
            add(log.bytes(run.clone()));
            from = *before;
        }
        add(self.bytes.get(from..).unwrap_or_default());
        pieces
    }
}

/// A header that is being written.
pub(crate) struct Reply<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    encoding: Encoding,
    opaque: i64,
    first: bool,
}

impl<'a> Reply<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, request: &Frame<'_>, code: u16) -> Self {
        let start = out.len();
        let (encoding, opaque) = (request.encoding, request.opaque);
        match encoding {
            Encoding::Json => {
                out.extend_from_slice(b"\0\0\0\0\0\0\0\0{\"code\":");
                number(out, code.into());
                out.extend_from_slice(b",\"extFields\":{");
            }
            Encoding::Binary => {
                out.extend_from_slice(&[0; 8]);
                out.extend_from_slice(&code.to_be_bytes());
                out.extend_from_slice(&BINARY_PEER);
                out.extend_from_slice(&low_half(opaque));
                // A reply, no remark, and room for the length of the fields.
                out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
            }
        }
        Self { out, start, encoding, opaque, first: true }
    }

    pub(crate) fn number(&mut self, name: &str, value: u64) {
        self.field(name, |out| number(out, value));
    }

    /// A field whose value is written by `value`, without anything that JSON would escape.
    pub(crate) fn field(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>)) {
        match self.encoding {
            Encoding::Json => {
                self.out.extend_from_slice(if self.first { b"\"" } else { b",\"" });
                self.first = false;
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":\"");
                value(self.out);
                self.out.push(b'"');
            }
            Encoding::Binary => {
                let length = u16::try_from(name.len()).unwrap_or_default();
                self.out.extend_from_slice(&length.to_be_bytes());
                self.out.extend_from_slice(name.as_bytes());
                let at = self.out.len();
                self.out.extend_from_slice(&[0; 4]);
                value(self.out);
                let length = self.out.len() - at - 4;
                put(self.out, at, length, 0);
            }
        }
    }

    /// The header is whole; `body` bytes follow.
    pub(crate) fn end(self, body: usize) {
        let Self { out, start, encoding, opaque, .. } = self;
        let mark = match encoding {
            Encoding::Json => {
                out.extend_from_slice(b"},\"flag\":1,\"language\":\"RUST\",\"opaque\":");
                number(out, opaque.unsigned_abs());
                out.extend_from_slice(b",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":479}");
                0
            }
            Encoding::Binary => {
                let length = out.len() - start - 29;
                put(out, start + 25, length, 0);
                1 << 24
            }
        };
        let header = out.len() - start - 8;
        put(out, start, 4 + header + body, 0);
        put(out, start + 4, header, mark);
    }
}

fn low_half(value: i64) -> [u8; 4] {
    let [_, _, _, _, low @ ..] = value.to_be_bytes();
    low
}

fn put(out: &mut [u8], at: usize, value: usize, mark: u32) {
    let value = u32::try_from(value).unwrap_or_default() | mark;
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// Writes a number in digits.
fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut length = 0;
    for digit in digits.iter_mut().rev() {
        let [.., low] = (value % 10).to_be_bytes();
        *digit = b'0' + low;
        value /= 10;
        length += 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(digits.len() - length..).unwrap_or_default());
}

/// Writes a number in 16 hexadecimal digits.
pub(crate) fn hex(out: &mut Vec<u8>, value: u64) {
    let digit = |shift: u32| match u8::try_from(value >> (60 - 4 * shift) & 15).unwrap_or_default()
    {
        low @ 0..10 => b'0' + low,
        high => b'A' - 10 + high,
    };
    let mut digits = [0; 16];
    for (shift, place) in (0..).zip(&mut digits) {
        *place = digit(shift);
    }
    out.extend_from_slice(&digits);
}
