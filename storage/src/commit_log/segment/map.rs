//! The memory behind a segment: its file, mapped for reading.

use std::{
    ffi::{c_int, c_uchar, c_void},
    fs::File,
    io,
};

unsafe extern "C" {
    fn mincore(start: *mut c_void, len: usize, pages: *mut c_uchar) -> c_int;
}

/// The smallest page of any machine.
const PAGE_BYTES: usize = 4096;

#[derive(Debug)]
pub(crate) struct Map(memmap2::MmapRaw);

impl Map {
    /// Maps the first `size_bytes` of `file`, which must be that long: a mapping beyond the end of
    /// a file is a signal waiting to happen.
    pub(crate) fn new(file: &File, size_bytes: usize) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if length < u64::try_from(size_bytes).unwrap_or(u64::MAX) {
            return Err(io::Error::other(format!(
                "the file has {length} bytes, {size_bytes} were expected"
            )));
        }
        memmap2::MmapOptions::new().len(size_bytes).map_raw_read_only(file).map(Self)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    /// Tells the kernel whether to read ahead. Read-ahead past the end of the data would back the
    /// tail with huge folios.
    pub(crate) fn read_ahead(&self, wanted: bool) -> io::Result<()> {
        self.0.advise(if wanted { memmap2::Advice::Normal } else { memmap2::Advice::Random })
    }

    /// Whether the kernel holds any page of the file in memory. It says so of all pages when it
    /// does not want to tell.
    pub(crate) fn is_in_memory(&self) -> io::Result<bool> {
        let mut pages = vec![0; self.0.len().div_ceil(PAGE_BYTES)];
        // SAFETY: the mapping is `len` bytes long, and `pages` has a byte for each of its pages.
        let failed =
            unsafe { mincore(self.0.as_mut_ptr().cast(), self.0.len(), pages.as_mut_ptr()) };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pages.iter().any(|page| page & 1 != 0))
    }
}
