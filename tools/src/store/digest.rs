//! `mqtool store digest`: checksums by which the stores of a master and its slave can be compared.

use serde::Serialize;
use storage::replica::digest;

use super::Directory;
use crate::{
    Context,
    error::Failure,
    output::{Align, Row},
};

#[derive(Serialize)]
struct Part {
    part: String,
    /// Rows of a family, bytes of the log.
    count: u64,
    /// Change of the index, or log offset, at which it ends.
    end: u64,
    crc32: String,
}

impl Row for Part {
    const COLUMNS: &'static [(&'static str, Align)] = &[
        ("PART", Align::Left),
        ("ROWS OR BYTES", Align::Right),
        ("END", Align::Right),
        ("CRC-32", Align::Left),
    ];

    fn cells(&self) -> Vec<String> {
        vec![self.part.clone(), self.count.to_string(), self.end.to_string(), self.crc32.clone()]
    }
}

pub(super) fn run(arguments: &Directory, context: &mut Context) -> Result<(), Failure> {
    let found = digest(&arguments.path)?;
    let part =
        |part: String, count, end, crc: u32| Part { part, count, end, crc32: format!("{crc:08x}") };
    let families = found.families.into_iter();
    let mut parts: Vec<_> =
        families.map(|(name, rows, crc)| part(name, rows, found.sequence, crc)).collect();
    let bytes = found.log_end - found.log_min;
    parts.push(part("commit log".to_owned(), bytes, found.log_end, found.log_crc));
    Ok(context.output.rows(&parts)?)
}
