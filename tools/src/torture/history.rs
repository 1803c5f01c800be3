//! History files: what was asked and what was answered, written before and after each call, to a
//! disk that is not under test. Format: `tools/torture/HISTORY.md`.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::Instant,
};

use protocol::record::body_crc;

/// The one clock of all histories.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time(Instant);

impl Time {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// Microseconds since the start.
    pub(super) fn now_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// The history of one thread.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    lines: String,
}

impl Log {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::create(path)?, lines: String::new() })
    }

    /// Adds a line; [`Log::flush`] hands it to the system.
    pub(super) fn line(&mut self, line: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.lines, "{line}");
    }

    /// Hands all lines to the system. Before a call goes out, and before the thread waits.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(self.lines.as_bytes())?;
        self.lines.clear();
        Ok(())
    }
}

/// The unique id of a message. It says what the body must be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Id {
    pub(super) producer: u8,
    pub(super) sequence: u32,
    /// CRC-32 of the body without its top bit.
    pub(super) crc: u32,
}

impl Id {
    pub(super) fn new(producer: u8, sequence: u32, body: &[u8]) -> Self {
        Self { producer, sequence, crc: body_crc(body) }
    }

    /// Reads what [`fmt::Display`] writes.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let number = |from, to| u32::from_str_radix(text.get(from..to)?, 16).ok();
        let producer = u8::try_from(number(0, 2)?).ok()?;
        let (sequence, crc) = (number(2, 10)?, number(10, 18)?);
        (text.len() == 18).then_some(Self { producer, sequence, crc })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}{:08x}{:08x}", self.producer, self.sequence, self.crc)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_read_back() {
        let id = Id::new(3, 77, b"body");
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        for wrong in ["", "0300000", "zz0000004d00000000", "030000004d000000001"] {
            assert_eq!(Id::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lines_reach_the_file_when_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::create(&path).unwrap();
        log.line(format_args!("I {}", 1));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "");
        log.flush().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "I 1\n");
    }
}
