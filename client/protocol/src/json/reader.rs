//! The tokens of the dialect, with every bound checked.

use std::borrow::Cow;

use super::JsonError;
use crate::limits;

/// Reads tokens from the front of a text.
#[derive(Debug)]
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

/// A value that is neither an object nor an array.
#[derive(Debug)]
pub(super) enum Scalar<'t> {
    /// In quotes.
    Text(Cow<'t, str>),
    /// Bare: a number, `true`, `null`, an unquoted key.
    Word(&'t str),
}

impl Scalar<'_> {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Word(word) => word,
        }
    }
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// A reader for text that was found inside of a string; the levels count on.
    pub(super) fn nested<'n>(&self, text: &'n str) -> Reader<'n> {
        Reader { text, at: 0, depth: self.depth }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to where [`Reader::at`] was.
    pub(super) fn rewind(&mut self, at: usize) {
        self.at = at;
    }

    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The first byte that is no white space; nothing at the end.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let rest = self.rest().as_bytes();
        let blank = rest.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.at += blank;
        rest.get(blank).copied()
    }

    /// Steps over `byte` if it comes next.
    pub(super) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    pub(super) fn expect(&mut self, byte: u8, expected: &'static str) -> Result<(), JsonError> {
        if self.eat(byte) { Ok(()) } else { Err(self.unexpected(expected)) }
    }

    pub(super) fn expect_end(&mut self) -> Result<(), JsonError> {
        if self.peek().is_none() { Ok(()) } else { Err(self.unexpected("the end")) }
    }

    pub(super) fn unexpected(&mut self, expected: &'static str) -> JsonError {
        self.peek();
        let found = match self.rest() {
            "" => "the end".to_owned(),
            rest => format!("{:?}", rest.chars().take(16).collect::<String>()),
        };
        JsonError::Syntax { at: self.at, expected, found }
    }

    /// Goes one level deeper; [`Reader::leave`] comes back.
    pub(super) fn enter(&mut self) -> Result<(), JsonError> {
        self.depth += 1;
        if self.depth > limits::JSON_DEPTH_MAX {
            return Err(JsonError::TooDeep { at: self.at, max: limits::JSON_DEPTH_MAX });
        }
        Ok(())
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    /// Steps to the next item of an object or array. `first` is cleared by the first one.
    pub(super) fn next_item(&mut self, close: u8, first: &mut bool) -> Result<bool, JsonError> {
        if self.eat(close) {
            return Ok(false);
        }
        if !*first {
            self.expect(b',', "a comma or the end of the list")?;
            if self.eat(close) {
                return Ok(false); // after a trailing comma
            }
        }
        *first = false;
        Ok(true)
    }

    /// Whether what comes next counts as absent: `null`, or a reference to another value.
    pub(super) fn null_ahead(&mut self) -> bool {
        match self.peek() {
            Some(b'n') => {
                let end_of_word = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
                self.rest().strip_prefix("null").is_some_and(end_of_word)
            }
            Some(b'{') => {
                let inside = self.rest().get(1..).unwrap_or_default().trim_start();
                inside.trim_start_matches(['"', '\'']).starts_with("$ref")
            }
            _ => false,
        }
    }

    /// A value that is neither an object nor an array.
    pub(super) fn scalar(&mut self) -> Result<Scalar<'t>, JsonError> {
        match self.peek() {
            Some(quote @ (b'"' | b'\'')) => self.string(char::from(quote)).map(Scalar::Text),
            _ => self.word().map(Scalar::Word),
        }
    }

    fn word(&mut self) -> Result<&'t str, JsonError> {
        let ends = |c: char| c.is_ascii_whitespace() || ",:{}[]\"'".contains(c);
        let rest = self.rest();
        let word = rest.find(ends).map_or(rest, |end| rest.get(..end).unwrap_or_default());
        if word.is_empty() {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(word)
    }

    /// The string that starts with `quote` here. Line breaks and tabs inside may be raw.
    fn string(&mut self, quote: char) -> Result<Cow<'t, str>, JsonError> {
        self.at += 1;
        let mut plain = Cow::Borrowed("");
        loop {
            let rest = self.rest();
            let Some(end) = rest.find([quote, '\\']) else {
                self.at = self.text.len();
                return Err(self.unexpected("the end of a string"));
            };
            let piece = rest.get(..end).unwrap_or_default();
            if plain.is_empty() {
                plain = Cow::Borrowed(piece);
            } else {
                plain.to_mut().push_str(piece);
            }
            self.at += end;
            if self.rest().starts_with(quote) {
                self.at += 1;
                return Ok(plain);
            }
            let unescaped = self.escape()?;
            plain.to_mut().push(unescaped);
        }
    }

    /// The character that the escape sequence here stands for.
    fn escape(&mut self) -> Result<char, JsonError> {
        let mut sequence = self.rest().chars().skip(1);
        let unescaped = match sequence.next() {
            Some('u') => return self.unicode_escape(),
            Some('x') => return self.code_unit("\\x", 2).map(lone),
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(digit @ '0'..='7') => lone(digit.to_digit(8).unwrap_or_default()),
            Some(other @ ('"' | '\'' | '\\' | '/')) => other,
            _ => return Err(self.unexpected("an escape sequence")),
        };
        self.at += 2;
        Ok(unescaped)
    }

    /// `\uXXXX`, or two of them that make one character.
    fn unicode_escape(&mut self) -> Result<char, JsonError> {
        let high = self.code_unit("\\u", 4)?;
        if !(0xD800..0xDC00).contains(&high) {
            return Ok(lone(high));
        }
        let after_high = self.at;
        match self.code_unit("\\u", 4) {
            Ok(low @ 0xDC00..0xE000) => {
                Ok(lone(0x1_0000 + ((high - 0xD800) << 10) + (low - 0xDC00)))
            }
            _ => {
                self.at = after_high;
                Ok(char::REPLACEMENT_CHARACTER)
            }
        }
    }

    fn code_unit(&mut self, prefix: &str, digits: usize) -> Result<u32, JsonError> {
        let parsed = self
            .rest()
            .strip_prefix(prefix)
            .and_then(|rest| rest.get(..digits))
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let unit = parsed.ok_or_else(|| self.unexpected("hexadecimal digits of an escape"))?;
        self.at += prefix.len() + digits;
        Ok(unit)
    }

    /// Steps over one value of any kind and returns its text.
    pub(super) fn skip(&mut self) -> Result<&'t str, JsonError> {
        let close = match self.peek() {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            start => {
                let from = self.at;
                if start.is_none() {
                    return Err(self.unexpected("a value"));
                }
                self.scalar()?;
                return Ok(self.text.get(from..self.at).unwrap_or_default());
            }
        };
        let from = self.at;
        self.at += 1;
        self.enter()?;
        let mut first = true;
        while self.next_item(close, &mut first)? {
            self.skip()?;
            if close == b'}' {
                self.expect(b':', "a colon")?;
                self.skip()?;
            }
        }
        self.leave();
        Ok(self.text.get(from..self.at).unwrap_or_default())
    }
}

/// The character with this number, or the replacement character if there is none.
fn lone(number: u32) -> char {
    char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)
}
