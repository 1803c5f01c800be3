//! Typed headers: what a request or reply says beside its body, and how it becomes the named
//! string fields of either encoding.

pub(crate) mod binary;
pub(crate) mod fields;
pub(crate) mod json;
mod plain;
mod scanner;

use bytes::BytesMut;
pub use fields::Fields;
use thiserror::Error;

use crate::frame::Encoding;

/// Why the fields of a header do not make the header that its code calls for.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FieldError {
    /// A field without which the request means nothing is absent.
    #[error("header field {field} is missing")]
    Missing {
        /// The field's name on the wire.
        field: &'static str,
    },
    /// A field's text does not read as its type.
    #[error("header field {field} is {value:?}, expected {expected}")]
    Invalid {
        /// The field's name on the wire.
        field: &'static str,
        /// What was received, cut to 64 characters.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
}

impl FieldError {
    fn invalid(field: &'static str, value: &str, expected: &'static str) -> Self {
        Self::Invalid { field, value: value.chars().take(64).collect(), expected }
    }
}

/// A header that can be sent.
pub trait Encode {
    /// Writes every field that has a value.
    fn encode(&self, fields: &mut FieldWriter<'_>);
}

/// A header without fields.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFields;

impl Encode for NoFields {
    fn encode(&self, _: &mut FieldWriter<'_>) {}
}

/// Two headers in one: the typed fields and extras that a reply carries beside them.
impl<A: Encode, B: Encode> Encode for (A, B) {
    fn encode(&self, fields: &mut FieldWriter<'_>) {
        self.0.encode(fields);
        self.1.encode(fields);
    }
}

impl<T: Encode> Encode for &T {
    fn encode(&self, fields: &mut FieldWriter<'_>) {
        (*self).encode(fields);
    }
}

/// Free-form fields by name.
impl Encode for [(&str, &str)] {
    fn encode(&self, fields: &mut FieldWriter<'_>) {
        for (name, value) in self {
            fields.text(name, value);
        }
    }
}

impl<const N: usize> Encode for [(&str, &str); N] {
    fn encode(&self, fields: &mut FieldWriter<'_>) {
        self.as_slice().encode(fields);
    }
}

/// Appends fields to a frame under construction, in the frame's encoding.
#[derive(Debug)]
pub struct FieldWriter<'a> {
    out: &'a mut BytesMut,
    encoding: Encoding,
    first: bool,
}

impl<'a> FieldWriter<'a> {
    pub(crate) fn new(out: &'a mut BytesMut, encoding: Encoding) -> Self {
        Self { out, encoding, first: true }
    }

    /// Writes one field.
    pub fn text(&mut self, name: &str, value: &str) {
        match self.encoding {
            Encoding::Json => json::write_field(self.out, name, value, self.first),
            Encoding::Binary => binary::write_field(self.out, name, value),
        }
        self.first = false;
    }

    /// Writes one number.
    pub fn number(&mut self, name: &str, value: impl Into<i64>) {
        let mut text = Decimal::default();
        let text = text.format(value.into());
        self.text(name, text);
    }
}

/// Digits of the longest `i64`, and its sign.
const DECIMAL_BYTES: usize = 20;

/// Decimal text of an `i64` without an allocation.
#[derive(Default)]
struct Decimal {
    text: [u8; DECIMAL_BYTES],
}

impl Decimal {
    fn format(&mut self, value: i64) -> &str {
        let mut rest = value.unsigned_abs();
        let mut left = DECIMAL_BYTES;
        for place in self.text.iter_mut().rev() {
            *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
            rest /= 10;
            left -= 1;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            left -= 1;
            if let Some(sign) = self.text.get_mut(left) {
                *sign = b'-';
            }
        }
        self.text.get(left..).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default()
    }
}

/// A type that one field can have.
pub trait FieldValue<'a>: Sized {
    /// Reads the field's text, or decides what its absence means.
    ///
    /// # Errors
    ///
    /// When the text does not read as this type, or the field is absent and has no default.
    fn read(field: &'static str, text: Option<&'a str>) -> Result<Self, FieldError>;

    /// Writes the field unless it has no value.
    fn write(&self, field: &'static str, fields: &mut FieldWriter<'_>);
}

impl<'a> FieldValue<'a> for &'a str {
    fn read(field: &'static str, text: Option<&'a str>) -> Result<Self, FieldError> {
        text.ok_or(FieldError::Missing { field })
    }

    fn write(&self, field: &'static str, fields: &mut FieldWriter<'_>) {
        fields.text(field, self);
    }
}

impl<'a> FieldValue<'a> for String {
    fn read(field: &'static str, text: Option<&'a str>) -> Result<Self, FieldError> {
        text.map(str::to_owned).ok_or(FieldError::Missing { field })
    }

    fn write(&self, field: &'static str, fields: &mut FieldWriter<'_>) {
        fields.text(field, self);
    }
}

macro_rules! number_field {
    ($($ty:ty => $expected:literal),*) => {$(
        /// RocketMQ reads an absent number as 0: clients of other generations leave fields out.
        impl<'a> FieldValue<'a> for $ty {
            fn read(field: &'static str, text: Option<&'a str>) -> Result<Self, FieldError> {
                match text {
                    None | Some("") => Ok(0),
                    Some(text) => text
                        .parse()
                        .or_else(|_| text.trim().parse())
                        .map_err(|_| FieldError::invalid(field, text, $expected)),
                }
            }

            fn write(&self, field: &'static str, fields: &mut FieldWriter<'_>) {
                fields.number(field, *self);
            }
        }
    )*};
}

number_field!(i32 => "a 32-bit integer", i64 => "a 64-bit integer");

/// As Java's `parseBoolean`: only "true", in any case, is true.
impl<'a> FieldValue<'a> for bool {
    fn read(_: &'static str, text: Option<&'a str>) -> Result<Self, FieldError> {
        Ok(text.is_some_and(|text| text.trim().eq_ignore_ascii_case("true")))
    }

    fn write(&self, field: &'static str, fields: &mut FieldWriter<'_>) {
        fields.text(field, if *self { "true" } else { "false" });
    }
}

impl<'a, T: FieldValue<'a>> FieldValue<'a> for Option<T> {
    fn read(field: &'static str, text: Option<&'a str>) -> Result<Self, FieldError> {
        match text {
            None => Ok(None),
            Some(_) => T::read(field, text).map(Some),
        }
    }

    fn write(&self, field: &'static str, fields: &mut FieldWriter<'_>) {
        if let Some(value) = self {
            value.write(field, fields);
        }
    }
}

/// Declares a header: a struct, its wire names (the first is sent, all are read), `decode` and
/// [`Encode`].
macro_rules! header {
    ($(#[$meta:meta])* pub struct $name:ident<$lt:lifetime> {
        $($(#[$field_meta:meta])* pub $field:ident: $ty:ty = $wire:literal $(| $alias:literal)*,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name<$lt> { $($(#[$field_meta])* pub $field: $ty,)* }

        impl<$lt> $name<$lt> {
            $crate::header::decode_fn!($lt, $($field: $ty = $wire $(| $alias)*,)*);
        }

        impl $crate::header::Encode for $name<'_> {
            $crate::header::encode_fn!($($field = $wire,)*);
        }
    };
    ($(#[$meta:meta])* pub struct $name:ident {
        $($(#[$field_meta:meta])* pub $field:ident: $ty:ty = $wire:literal $(| $alias:literal)*,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name { $($(#[$field_meta])* pub $field: $ty,)* }

        impl $name {
            $crate::header::decode_fn!('_, $($field: $ty = $wire $(| $alias)*,)*);
        }

        impl $crate::header::Encode for $name {
            $crate::header::encode_fn!($($field = $wire,)*);
        }
    };
}

macro_rules! decode_fn {
    ($lt:lifetime, $($field:ident: $ty:ty = $wire:literal $(| $alias:literal)*,)*) => {
        /// Reads the header out of a frame's fields, in one pass.
        ///
        /// # Errors
        ///
        /// When a field that has no default is absent, or a field does not read as its type.
        pub fn decode(
            fields: &$lt $crate::header::Fields,
        ) -> Result<Self, $crate::header::FieldError> {
            $(let mut $field = None;)*
            for (name, value) in fields.iter() {
                match name {
                    $($wire $(| $alias)* => $field = Some(value),)*
                    _ => {}
                }
            }
            Ok(Self { $($field: $crate::header::FieldValue::read($wire, $field)?,)* })
        }
    };
}

macro_rules! encode_fn {
    ($($field:ident = $wire:literal,)*) => {
        fn encode(&self, fields: &mut $crate::header::FieldWriter<'_>) {
            $($crate::header::FieldValue::write(&self.$field, $wire, fields);)*
        }
    };
}

pub(crate) use decode_fn;
pub(crate) use encode_fn;
pub(crate) use header;

#[cfg(test)]
mod tests;
