//! The writer as a serde serializer.

use std::fmt::Display;

use serde::Serialize;
use serde::ser::{
    Error, Impossible, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple,
    SerializeTupleStruct, Serializer,
};

/// Appends JSON to a buffer.
#[derive(Debug)]
pub(super) struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

/// A type cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("this cannot be written as JSON: {0}")]
pub(super) struct Refused(String);

impl Error for Refused {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

impl<'o> Writer<'o> {
    pub(super) fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }

    /// A number or text, for which plain JSON is fine.
    fn plain<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        serde_json::to_writer(self.out, value).map_err(Refused::custom)
    }

    fn open(self, open: u8, close: u8) -> List<'o> {
        self.out.push(open);
        let entry_start = self.out.len();
        List { out: self.out, close, entry_start, empty: true }
    }
}

macro_rules! plain {
    ($($method:ident $kind:ty,)+) => {$(
        fn $method(self, value: $kind) -> Result<(), Refused> {
            self.plain(&value)
        }
    )+};
}

impl<'o> Serializer for Writer<'o> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = List<'o>;
    type SerializeTuple = List<'o>;
    type SerializeTupleStruct = List<'o>;
    type SerializeTupleVariant = Impossible<(), Refused>;
    type SerializeMap = List<'o>;
    type SerializeStruct = List<'o>;
    type SerializeStructVariant = Impossible<(), Refused>;

    plain! {
        serialize_bool bool,
        serialize_i8 i8,
        serialize_i16 i16,
        serialize_i32 i32,
        serialize_i64 i64,
        serialize_u8 u8,
        serialize_u16 u16,
        serialize_u32 u32,
        serialize_u64 u64,
        serialize_f32 f32,
        serialize_f64 f64,
        serialize_char char,
        serialize_str &str,
        serialize_bytes &[u8],
    }

    fn serialize_none(self) -> Result<(), Refused> {
        self.plain(&())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Refused> {
        self.plain(&())
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<(), Refused> {
        self.plain(&())
    }

    fn serialize_unit_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
    ) -> Result<(), Refused> {
        self.plain(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _value: &T,
    ) -> Result<(), Refused> {
        Err(variant_with_data(variant))
    }

    fn serialize_seq(self, _length: Option<usize>) -> Result<List<'o>, Refused> {
        Ok(self.open(b'[', b']'))
    }

    fn serialize_tuple(self, _length: usize) -> Result<List<'o>, Refused> {
        Ok(self.open(b'[', b']'))
    }

    fn serialize_tuple_struct(
        self,
        _name: &'static str,
        _length: usize,
    ) -> Result<List<'o>, Refused> {
        Ok(self.open(b'[', b']'))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeTupleVariant, Refused> {
        Err(variant_with_data(variant))
    }

    fn serialize_map(self, _length: Option<usize>) -> Result<List<'o>, Refused> {
        Ok(self.open(b'{', b'}'))
    }

    fn serialize_struct(self, _name: &'static str, _length: usize) -> Result<List<'o>, Refused> {
        Ok(self.open(b'{', b'}'))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _length: usize,
    ) -> Result<Self::SerializeStructVariant, Refused> {
        Err(variant_with_data(variant))
    }
}

/// RocketMQ's enums are names. There is nothing that an enum with data would look like.
fn variant_with_data(variant: &'static str) -> Refused {
    Refused::custom(format_args!("the enum variant {variant} has data"))
}

/// A list or an object that is being written.
#[derive(Debug)]
pub(super) struct List<'o> {
    out: &'o mut Vec<u8>,
    close: u8,
    /// Where the current entry begins, its comma included.
    entry_start: usize,
    empty: bool,
}

impl List<'_> {
    fn begin_entry(&mut self) {
        self.entry_start = self.out.len();
        if !self.empty {
            self.out.push(b',');
        }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.begin_entry();
        self.empty = false;
        value.serialize(Writer::new(self.out))
    }

    /// A key: quoted, unless it is an object, as the queues of RocketMQ's offset tables are.
    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.begin_entry();
        let start = self.out.len();
        key.serialize(Writer::new(self.out))?;
        if !matches!(self.out.get(start), Some(b'"' | b'{')) {
            self.out.insert(start, b'"');
            self.out.push(b'"');
        }
        self.out.push(b':');
        Ok(())
    }

    /// The value after a key. Without one, the key goes too.
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        let start = self.out.len();
        value.serialize(Writer::new(self.out))?;
        if self.out.get(start..) == Some(b"null") {
            self.out.truncate(self.entry_start);
        } else {
            self.empty = false;
        }
        Ok(())
    }

    fn close(self) -> Result<(), Refused> {
        self.out.push(self.close);
        Ok(())
    }
}

macro_rules! sequence {
    ($($kind:ident $method:ident,)+) => {$(
        impl $kind for List<'_> {
            type Ok = ();
            type Error = Refused;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
                self.item(value)
            }

            fn end(self) -> Result<(), Refused> {
                self.close()
            }
        }
    )+};
}

sequence! {
    SerializeSeq serialize_element,
    SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field,
}

impl SerializeMap for List<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Refused> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Refused> {
        self.value(value)
    }

    fn end(self) -> Result<(), Refused> {
        self.close()
    }
}

impl SerializeStruct for List<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        key: &'static str,
        value: &T,
    ) -> Result<(), Refused> {
        self.key(key)?;
        self.value(value)
    }

    fn end(self) -> Result<(), Refused> {
        self.close()
    }
}
