//! Steps through the text of a JSON header.

use memchr::memchr;

use super::{
    fields::{Fields, Span},
    plain::verbatim_len,
};
use crate::frame::Malformed;

/// Nested values deeper than this are refused; real headers have two levels.
const DEPTH_MAX: usize = 32;

/// A string of the header: where it lies, or that it had escapes and was unescaped elsewhere.
#[derive(Clone, Copy)]
pub(super) enum Token {
    Verbatim { start: usize, end: usize },
    Escaped,
}

/// A JSON text and how far it is read.
pub(super) struct Scanner<'a> {
    text: &'a str,
    position: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, position: 0 }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.position).copied()
    }

    pub(super) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.position += 1;
        }
    }

    pub(super) fn unexpected(&self, expected: &'static str) -> Malformed {
        Malformed::Json { expected, position: self.position }
    }

    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), Malformed> {
        self.skip_space();
        if self.peek() != Some(byte) {
            return Err(self.unexpected(expected));
        }
        self.position += 1;
        Ok(())
    }

    /// Walks an object; `entry` is called at each value, with the key.
    pub(super) fn object(
        &mut self,
        mut entry: impl FnMut(&mut Self, Token, &str) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        self.expect(b'{', "an object")?;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.position += 1;
            return Ok(());
        }
        let mut scratch = String::new();
        loop {
            scratch.clear();
            self.skip_space();
            let key = self.string(&mut scratch)?;
            self.expect(b':', "a colon")?;
            self.skip_space();
            entry(self, key, &scratch)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b'}') => {
                    self.position += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected("a comma or the end of the object")),
            }
        }
    }

    pub(super) fn key_text<'b>(&self, key: Token, scratch: &'b str) -> &'b str
    where
        'a: 'b,
    {
        match key {
            Token::Verbatim { start, end } => self.slice(start, end),
            Token::Escaped => scratch,
        }
    }

    pub(super) fn slice(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    /// The bytes that are not read yet.
    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.position..).unwrap_or_default()
    }

    /// Steps to the next quote or backslash, or to the end.
    fn skip_plain(&mut self) {
        self.position += verbatim_len(self.rest());
    }

    /// Steps over a quoted string that starts here and has no escapes, which nearly all are.
    #[inline(always)]
    fn verbatim(&mut self) -> Option<(usize, usize)> {
        let text = self.rest().strip_prefix(b"\"")?;
        let length = verbatim_len(text);
        if text.get(length) != Some(&b'"') {
            return None;
        }
        let start = self.position + 1;
        self.position = start + length + 1;
        Some((start, start + length))
    }

    /// Reads a quoted string; text with escapes is appended to `unescaped`.
    #[inline(always)]
    pub(super) fn string(&mut self, unescaped: &mut String) -> Result<Token, Malformed> {
        match self.verbatim() {
            Some((start, end)) => Ok(Token::Verbatim { start, end }),
            None => self.escaped_string(unescaped).map(|()| Token::Escaped),
        }
    }

    /// A string with escapes, or no string. Apart, so that the usual one is small enough to be inlined.
    #[inline(never)]
    fn escaped_string(&mut self, unescaped: &mut String) -> Result<(), Malformed> {
        self.expect(b'"', "a string")?;
        // Room for all of it at once, unless it has escaped quotes.
        unescaped.reserve(memchr(b'"', self.rest()).unwrap_or_default());
        loop {
            let plain = self.position;
            self.skip_plain();
            unescaped.push_str(self.slice(plain, self.position));
            match self.peek() {
                None => return Err(self.unexpected("the end of the string")),
                Some(b'"') => {
                    self.position += 1;
                    return Ok(());
                }
                Some(_) => self.escape(unescaped)?,
            }
        }
    }

    fn escape(&mut self, unescaped: &mut String) -> Result<(), Malformed> {
        // The separators of properties, nearly always.
        if let Some([b'\\', b'u', b'0', b'0', b'0', digit @ b'1'..=b'9']) =
            self.rest().first_chunk()
        {
            unescaped.push(char::from(digit - b'0'));
            self.position += 6;
            return Ok(());
        }
        self.position += 1;
        let byte = self.peek().ok_or_else(|| self.unexpected("an escape"))?;
        self.position += 1;
        unescaped.push(match byte {
            b'n' => '\n',
            b't' => '\t',
            b'r' => '\r',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'"' | b'\\' | b'/' | b'\'' => char::from(byte),
            b'u' => {
                let high = self.hex4()?;
                self.surrogate_pair(high)?
            }
            _ => return Err(self.unexpected("a known escape")),
        });
        Ok(())
    }

    /// Joins a surrogate pair; a lone half becomes the replacement character.
    fn surrogate_pair(&mut self, high: u32) -> Result<char, Malformed> {
        if !(0xd800..0xdc00).contains(&high) {
            return Ok(char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.rest().starts_with(b"\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let before = self.position;
        self.position += 2;
        let low = self.hex4()?;
        if !(0xdc00..0xe000).contains(&low) {
            self.position = before;
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let joined = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        Ok(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn hex4(&mut self) -> Result<u32, Malformed> {
        let end = self.position + 4;
        let value = self
            .text
            .get(self.position..end)
            .and_then(|digits| {
                digits.chars().try_fold(0, |value, digit| Some(value * 16 + digit.to_digit(16)?))
            })
            .ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
        self.position = end;
        Ok(value)
    }

    /// Reads one value as text: strings unquoted, anything else verbatim, null as absent.
    #[inline(always)]
    pub(super) fn value(&mut self, fields: &mut Fields) -> Result<Option<Span>, Malformed> {
        match self.verbatim() {
            Some((start, end)) => Ok(Some(Span::Header { start, end })),
            None => self.unusual_value(fields),
        }
    }

    /// A value that is no string, or one with escapes.
    #[inline(never)]
    fn unusual_value(&mut self, fields: &mut Fields) -> Result<Option<Span>, Malformed> {
        self.skip_space();
        if self.peek() == Some(b'"') {
            let from = fields.unescaped().len();
            return Ok(Some(match self.string(fields.unescaped())? {
                Token::Verbatim { start, end } => Span::Header { start, end },
                Token::Escaped => Span::Unescaped { start: from, end: fields.unescaped().len() },
            }));
        }
        let start = self.position;
        self.skip_value(0)?;
        let end = self.position;
        Ok((self.slice(start, end) != "null").then_some(Span::Header { start, end }))
    }

    /// Reads an integer that may be quoted; null is 0.
    pub(super) fn integer(&mut self, what: &'static str) -> Result<i32, Malformed> {
        let quoted = self.peek() == Some(b'"');
        if quoted {
            self.position += 1;
        }
        let start = self.position;
        let is_digit = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'-' | b'+');
        self.position += self.rest().iter().take_while(is_digit).count();
        let digits = self.slice(start, self.position);
        if digits.is_empty() && !quoted && self.rest().starts_with(b"null") {
            self.position += 4;
            return Ok(0);
        }
        let value = digits.parse().map_err(|_| Malformed::Number { what, position: start })?;
        if quoted {
            self.expect(b'"', "the end of the number")?;
        }
        Ok(value)
    }

    /// Steps over one value of any kind.
    pub(super) fn skip_value(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(self.unexpected("less nesting"));
        }
        self.skip_space();
        match self.peek() {
            Some(b'"') => self.string(&mut String::new()).map(drop),
            Some(b'{') => self.object(|scanner, _, _| scanner.skip_value(depth + 1)),
            Some(b'[') => self.skip_array(depth),
            _ => {
                let start = self.position;
                while matches!(
                    self.peek(),
                    Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'+' | b'-' | b'.')
                ) {
                    self.position += 1;
                }
                if self.position == start { Err(self.unexpected("a value")) } else { Ok(()) }
            }
        }
    }

    fn skip_array(&mut self, depth: usize) -> Result<(), Malformed> {
        self.expect(b'[', "an array")?;
        self.skip_space();
        if self.peek() == Some(b']') {
            self.position += 1;
            return Ok(());
        }
        loop {
            self.skip_value(depth + 1)?;
            self.skip_space();
            match self.peek() {
                Some(b',') => self.position += 1,
                Some(b']') => {
                    self.position += 1;
                    return Ok(());
                }
                _ => return Err(self.unexpected("a comma or the end of the array")),
            }
        }
    }
}
