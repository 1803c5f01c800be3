//! A reader over borrowed bytes that checks every bound and says which field did not fit.

/// What a field lacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Fewer bytes are left than the field needs.
    Short { field: &'static str, needed: usize, left: usize },
    /// A length below zero.
    Negative { field: &'static str, length: i64 },
}

/// Reads big-endian fields from the front of a slice.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn left(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Fault::Short {
            field,
            needed: length,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Fault> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(Fault::Short {
            field,
            needed: N,
            left: self.rest.len(),
        })?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, Fault> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, Fault> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, Fault> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, Fault> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, Fault> {
        self.array(field).map(i64::from_be_bytes)
    }

    /// Bytes after a length of 16 signed bits.
    pub(crate) fn bytes_i16(&mut self, field: &'static str) -> Result<&'a [u8], Fault> {
        let length = i16::from_be_bytes(self.array(field)?);
        let checked = usize::try_from(length)
            .map_err(|_| Fault::Negative { field, length: length.into() })?;
        self.bytes(checked, field)
    }

    /// Bytes after a length of 32 signed bits.
    pub(crate) fn bytes_i32(&mut self, field: &'static str) -> Result<&'a [u8], Fault> {
        let length = self.i32(field)?;
        let checked = usize::try_from(length)
            .map_err(|_| Fault::Negative { field, length: length.into() })?;
        self.bytes(checked, field)
    }
}
