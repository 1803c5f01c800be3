//! The one renderer: data goes to standard output as tables or as one JSON object per line, words
//! go to standard error.

use std::{
    borrow::Cow,
    io::{self, BufWriter, Stdout, Write},
};

use clap::ValueEnum;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

/// How data is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// For people: columns, nothing cut.
    Table,
    /// For programs: one JSON object per line.
    Json,
}

/// Where a column's cells stand.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Something that is one row of a table and one JSON object.
pub(crate) trait Row: Serialize {
    /// Header and alignment of each column.
    const COLUMNS: &'static [(&'static str, Align)];

    /// One text per column. Control characters need no care here.
    fn cells(&self) -> Vec<String>;
}

/// Standard output.
#[derive(Debug)]
pub(crate) struct Output {
    format: Format,
    out: BufWriter<Stdout>,
}

impl Output {
    /// Writes in this format.
    pub(crate) fn new(format: Format) -> Self {
        Self { format, out: BufWriter::new(io::stdout()) }
    }

    /// The format that was asked for.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Writes rows: a table with its header, also when it is empty, or JSON lines.
    pub(crate) fn rows<R: Row>(&mut self, rows: &[R]) -> io::Result<()> {
        match self.format {
            Format::Table => {
                let header = R::COLUMNS.iter().map(|(name, _)| (*name).to_owned()).collect();
                let aligns: Vec<_> = R::COLUMNS.iter().map(|(_, align)| *align).collect();
                self.columns(Some(header), &aligns, rows.iter().map(Row::cells))
            }
            Format::Json => rows.iter().try_for_each(|row| self.json(row)),
        }
    }

    /// Writes one object: names and values below each other, or a JSON line.
    pub(crate) fn object(
        &mut self,
        pairs: &[(&str, String)],
        object: &impl Serialize,
    ) -> io::Result<()> {
        match self.format {
            Format::Table => {
                let cells =
                    pairs.iter().map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
                self.columns(None, &[Align::Left, Align::Left], cells)
            }
            Format::Json => self.json(object),
        }
    }

    /// Writes a JSON line, whatever the format.
    pub(crate) fn json(&mut self, object: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, object)?;
        self.out.write_all(b"\n")
    }

    /// Writes a line of text, whatever the format.
    pub(crate) fn line(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Writes bytes, whatever the format.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)
    }

    /// Hands over what was written so far.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    fn columns(
        &mut self,
        header: Option<Vec<String>>,
        aligns: &[Align],
        rows: impl Iterator<Item = Vec<String>>,
    ) -> io::Result<()> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).force_no_tty();
        if let Some(header) = header {
            table.set_header(header);
        }
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell).into_owned()));
        }
        for (column, align) in table.column_iter_mut().zip(aligns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(match align {
                Align::Left => CellAlignment::Left,
                Align::Right => CellAlignment::Right,
            });
        }
        table.lines().try_for_each(|line| writeln!(self.out, "{}", line.trim_end()))
    }
}

/// Says something that is not data. Nobody can be told when standard error is closed.
pub(crate) fn say(words: &str) {
    let _ = writeln!(io::stderr(), "{words}");
}

/// The text with control characters escaped: names, keys and bodies come from strangers, and a
/// terminal obeys what it is shown.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("grün 4711"), "grün 4711");
        assert_eq!(printable("a\x1b[2J\nb\u{9b}"), "a\\u{1b}[2J\\nb\\u{9b}");
    }
}
