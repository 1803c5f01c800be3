//! The reader as a serde deserializer. It never lends text of the input, so that it can also read
//! text that it unescaped itself.

use std::fmt::Display;

use serde::de::{
    DeserializeSeed, Deserializer, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::JsonError;
use super::reader::{Reader, Scalar};

impl Error for JsonError {
    fn custom<T: Display>(message: T) -> Self {
        Self::Mismatch { at: 0, message: message.to_string() }
    }
}

/// What a container does with entries that count as absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nulls {
    /// The type of the target is not known, so they may matter.
    Keep,
    /// As fastjson does when it fills a class.
    Drop,
}

/// Serde's method for a type, by the function that reads such values.
macro_rules! read_as {
    ($($read:ident: $($method:ident)+;)+) => {$($(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
            self.$read(visitor)
        }
    )+)+};
}

impl Reader<'_> {
    fn integer<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        let scalar = self.scalar()?;
        let text = scalar.as_str().trim();
        // A whole number may carry a fraction of zeros: some languages know only floats.
        let whole = match text.split_once('.') {
            Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
            _ => text,
        };
        if let Ok(number) = whole.parse::<i64>() {
            visitor.visit_i64(number)
        } else if let Ok(number) = whole.parse::<u64>() {
            visitor.visit_u64(number)
        } else if text.is_empty() || text == "null" {
            visitor.visit_i64(0)
        } else {
            Err(JsonError::custom(format_args!("{text:?} is no whole number")))
        }
    }

    fn float<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        let scalar = self.scalar()?;
        match scalar.as_str().trim() {
            "" | "null" => visitor.visit_f64(0.0),
            text => match text.parse() {
                Ok(number) => visitor.visit_f64(number),
                Err(_) => Err(JsonError::custom(format_args!("{text:?} is no number"))),
            },
        }
    }

    fn boolean<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        let scalar = self.scalar()?;
        let text = scalar.as_str().trim();
        let is = |names: &[&str]| names.iter().any(|name| text.eq_ignore_ascii_case(name));
        if is(&["true", "1"]) {
            visitor.visit_bool(true)
        } else if is(&["false", "0", "", "null"]) {
            visitor.visit_bool(false)
        } else {
            Err(JsonError::custom(format_args!("{text:?} is neither true nor false")))
        }
    }

    /// Text, or the text of whatever else is there.
    fn text<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        if self.null_ahead() {
            self.skip()?;
            return visitor.visit_str("");
        }
        match self.peek() {
            Some(b'{' | b'[') => visitor.visit_str(self.skip()?),
            _ => visitor.visit_str(self.scalar()?.as_str()),
        }
    }

    fn ignored<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn list<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        self.items(visitor, Nulls::Drop)
    }

    fn map<'de, V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, JsonError> {
        self.object(visitor, Nulls::Drop)
    }

    fn items<'de, V: Visitor<'de>>(
        &mut self,
        visitor: V,
        nulls: Nulls,
    ) -> Result<V::Value, JsonError> {
        if nulls == Nulls::Drop && self.null_ahead() {
            self.skip()?;
            return visitor.visit_seq(Nothing);
        }
        self.expect(b'[', "a list")?;
        self.enter()?;
        let mut items = Items { reader: self, first: true, ended: false, nulls };
        let value = visitor.visit_seq(&mut items)?;
        while items.advance()? {
            items.reader.skip()?;
        }
        self.leave();
        Ok(value)
    }

    fn object<'de, V: Visitor<'de>>(
        &mut self,
        visitor: V,
        nulls: Nulls,
    ) -> Result<V::Value, JsonError> {
        if nulls == Nulls::Drop && self.null_ahead() {
            self.skip()?;
            return visitor.visit_map(Nothing);
        }
        let pairs = match self.peek() {
            Some(b'{') => false,
            Some(b'[') => true,
            Some(b'"' | b'\'') => return self.object_in_string(visitor, nulls),
            _ => return Err(self.unexpected("an object")),
        };
        self.skip_byte();
        self.enter()?;
        let mut entries = Entries { reader: self, pairs, first: true, ended: false, nulls };
        let value = visitor.visit_map(&mut entries)?;
        while !entries.ended && entries.advance()? {
            entries.reader.skip()?;
            entries.between()?;
            entries.reader.skip()?;
            entries.after()?;
        }
        self.leave();
        Ok(value)
    }

    fn object_in_string<'de, V: Visitor<'de>>(
        &mut self,
        visitor: V,
        nulls: Nulls,
    ) -> Result<V::Value, JsonError> {
        let scalar = self.scalar()?;
        let mut inner = self.nested(scalar.as_str());
        if inner.peek() != Some(b'{') {
            return Err(inner.unexpected("an object"));
        }
        inner.enter()?;
        let value = inner.object(visitor, nulls)?;
        inner.expect_end()?;
        Ok(value)
    }

    fn skip_byte(&mut self) {
        self.rewind(self.at() + 1);
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'_> {
    type Error = JsonError;

    /// Decides by what is there: for targets that take anything.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        match self.peek() {
            Some(b'{') => return self.object(visitor, Nulls::Keep),
            Some(b'[') => return self.items(visitor, Nulls::Keep),
            _ => {}
        }
        match self.scalar()? {
            Scalar::Text(text) => visitor.visit_str(&text),
            Scalar::Word("null") => visitor.visit_unit(),
            Scalar::Word("true") => visitor.visit_bool(true),
            Scalar::Word("false") => visitor.visit_bool(false),
            Scalar::Word(word) => {
                if let Ok(number) = word.parse::<u64>() {
                    visitor.visit_u64(number)
                } else if let Ok(number) = word.parse::<i64>() {
                    visitor.visit_i64(number)
                } else if let Ok(number) = word.parse::<f64>() {
                    visitor.visit_f64(number)
                } else {
                    visitor.visit_str(word)
                }
            }
        }
    }

    read_as! {
        boolean: deserialize_bool;
        integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64;
        integer: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64;
        float: deserialize_f32 deserialize_f64;
        text: deserialize_char deserialize_str deserialize_string deserialize_identifier;
        map: deserialize_map;
        list: deserialize_seq;
        ignored: deserialize_ignored_any;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, JsonError> {
        if self.null_ahead() {
            self.skip()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _length: usize,
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.items(visitor, Nulls::Keep)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        self.object(visitor, Nulls::Drop)
    }

    /// Enums are names or ordinals.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, JsonError> {
        let scalar = self.scalar()?;
        match scalar.as_str().parse::<u32>() {
            Ok(ordinal) => visitor.visit_enum(ordinal.into_deserializer()),
            Err(_) => visitor.visit_enum(scalar.as_str().into_deserializer()),
        }
    }

    forward_to_deserialize_any! {
        i128 u128 bytes byte_buf unit unit_struct tuple_struct
    }
}

/// Items of a list.
struct Items<'r, 't> {
    reader: &'r mut Reader<'t>,
    first: bool,
    ended: bool,
    nulls: Nulls,
}

impl Items<'_, '_> {
    fn advance(&mut self) -> Result<bool, JsonError> {
        self.ended = self.ended || !self.reader.next_item(b']', &mut self.first)?;
        Ok(!self.ended)
    }
}

impl<'de> SeqAccess<'de> for &mut Items<'_, '_> {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, JsonError> {
        while self.advance()? {
            if self.nulls == Nulls::Keep || !self.reader.null_ahead() {
                return seed.deserialize(&mut *self.reader).map(Some);
            }
            self.reader.skip()?;
        }
        Ok(None)
    }
}

/// Entries of an object, or of a list of pairs.
struct Entries<'r, 't> {
    reader: &'r mut Reader<'t>,
    pairs: bool,
    first: bool,
    ended: bool,
    nulls: Nulls,
}

impl Entries<'_, '_> {
    /// Steps to the next key.
    fn advance(&mut self) -> Result<bool, JsonError> {
        let close = if self.pairs { b']' } else { b'}' };
        self.ended = self.ended || !self.reader.next_item(close, &mut self.first)?;
        if self.pairs && !self.ended {
            self.reader.expect(b'[', "a pair")?;
        }
        Ok(!self.ended)
    }

    /// Steps from a key to its value.
    fn between(&mut self) -> Result<(), JsonError> {
        if self.pairs {
            self.reader.expect(b',', "a comma")
        } else {
            self.reader.expect(b':', "a colon")
        }
    }

    /// Steps over what ends an entry.
    fn after(&mut self) -> Result<(), JsonError> {
        if self.pairs { self.reader.expect(b']', "the end of a pair") } else { Ok(()) }
    }

    /// Steps over the entry that starts here, if its key or its value counts as absent.
    fn drop_absent(&mut self) -> Result<bool, JsonError> {
        let start = self.reader.at();
        let key_absent = self.reader.null_ahead();
        self.reader.skip()?;
        self.between()?;
        let absent = key_absent || self.reader.null_ahead();
        if absent {
            self.reader.skip()?;
            self.after()?;
        } else {
            self.reader.rewind(start);
        }
        Ok(absent)
    }
}

impl<'de> MapAccess<'de> for &mut Entries<'_, '_> {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        while self.advance()? {
            if self.nulls == Nulls::Keep || !self.drop_absent()? {
                return seed.deserialize(&mut *self.reader).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, JsonError> {
        self.between()?;
        let value = seed.deserialize(&mut *self.reader)?;
        self.after()?;
        Ok(value)
    }
}

/// The empty list and the empty object.
struct Nothing;

impl<'de> SeqAccess<'de> for Nothing {
    type Error = JsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        _seed: T,
    ) -> Result<Option<T::Value>, JsonError> {
        Ok(None)
    }
}

impl<'de> MapAccess<'de> for Nothing {
    type Error = JsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        _seed: K,
    ) -> Result<Option<K::Value>, JsonError> {
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        _seed: V,
    ) -> Result<V::Value, JsonError> {
        Err(JsonError::custom("there is no value"))
    }
}
