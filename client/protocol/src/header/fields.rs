//! The named string fields of a received header, kept as spans of its text.

use bytestring::ByteString;

use crate::{frame::Malformed, limits};

/// Most headers have no more fields: room for a send's fourteen.
const USUAL_FIELDS: usize = 16;

/// Fields in the order in which they were received. A lookup is a scan: headers have at most a
/// few dozen fields, and the hot ones are decoded in one pass.
#[derive(Clone, Debug, Default)]
pub struct Fields {
    /// Checked to be UTF-8 as a whole, so that its parts need no further check.
    header: ByteString,
    /// Text that was escaped in the header, unescaped.
    unescaped: String,
    spans: Vec<(Span, Span)>,
}

/// Where a piece of text lies.
#[derive(Clone, Copy, Debug)]
pub(super) enum Span {
    /// In the header, verbatim.
    Header { start: usize, end: usize },
    /// In [`Fields::unescaped`].
    Unescaped { start: usize, end: usize },
}

impl Fields {
    pub(super) fn new(header: ByteString) -> Self {
        Self { header, unescaped: String::new(), spans: Vec::with_capacity(USUAL_FIELDS) }
    }

    /// Copies the header out of the buffer that it was read into.
    pub(crate) fn detach(&mut self) {
        self.header = ByteString::from(&*self.header);
        self.spans.shrink_to_fit();
    }

    /// The buffer that unescaped text is appended to.
    pub(super) fn unescaped(&mut self) -> &mut String {
        &mut self.unescaped
    }

    pub(super) fn push(&mut self, key: Span, value: Span) -> Result<(), Malformed> {
        self.spans.push((key, value));
        if self.spans.len() > limits::HEADER_FIELDS_MAX {
            return Err(Malformed::TooManyFields);
        }
        Ok(())
    }

    /// The header, for whoever knows only at the end that it is text.
    pub(super) fn set_header(&mut self, header: String) {
        self.header = header.into();
    }

    /// Whether the byte at `at` of the header belongs to a field's value.
    pub(super) fn is_in_value(&self, at: usize) -> bool {
        self.spans.iter().any(
            |(_, value)| matches!(value, Span::Header { start, end } if (*start..*end).contains(&at)),
        )
    }

    #[inline]
    pub(super) fn text(&self, span: Span) -> &str {
        let text = match span {
            Span::Header { start, end } => self.header.get(start..end),
            Span::Unescaped { start, end } => self.unescaped.get(start..end),
        };
        text.unwrap_or_default()
    }

    /// The value of `name`; the last one when a peer repeats it, as RocketMQ's map has it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.spans
            .iter()
            .rev()
            .find(|(key, _)| self.text(*key) == name)
            .map(|(_, value)| self.text(*value))
    }

    /// All names and values in the order received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.spans.iter().map(|(key, value)| (self.text(*key), self.text(*value)))
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}
