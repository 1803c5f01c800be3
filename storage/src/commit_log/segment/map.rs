//! The memory behind a segment: a mapped file, or a heap buffer under Miri, which cannot map files.

use std::{fs::File, io};

#[cfg(not(miri))]
#[derive(Debug)]
pub(crate) struct Map(memmap2::MmapRaw);

#[cfg(not(miri))]
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
        memmap2::MmapOptions::new().len(size_bytes).map_raw(file).map(Self)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// Makes the bytes durable; returns when the disk has them.
    pub(crate) fn sync(&self, at: usize, len: usize) -> io::Result<()> {
        self.0.flush_range(at, len)
    }

    /// Backs the pages with memory before they are written to.
    pub(crate) fn populate(&self, at: usize, len: usize) -> io::Result<()> {
        self.0.advise_range(memmap2::Advice::PopulateWrite, at, len)
    }

    /// Tells the kernel whether to read ahead. Read-ahead past the end of the data would back the
    /// tail with huge folios, and every small sync would then write a whole one.
    pub(crate) fn read_ahead(&self, wanted: bool) -> io::Result<()> {
        self.0.advise(if wanted { memmap2::Advice::Normal } else { memmap2::Advice::Random })
    }
}

#[cfg(miri)]
#[derive(Debug)]
pub(crate) struct Map(Box<[std::cell::UnsafeCell<u8>]>);

// SAFETY: callers follow the three rules of the parent module, the same as for a mapped file.
#[cfg(miri)]
unsafe impl Sync for Map {}

#[cfg(miri)]
impl Map {
    pub(crate) fn new(_: &File, size_bytes: usize) -> io::Result<Self> {
        Ok(Self((0..size_bytes).map(|_| std::cell::UnsafeCell::new(0)).collect()))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr().cast()
    }

    pub(crate) fn as_mut_ptr(&self) -> *mut u8 {
        std::cell::UnsafeCell::raw_get(self.0.as_ptr())
    }

    pub(crate) fn sync(&self, _: usize, _: usize) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn populate(&self, _: usize, _: usize) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn read_ahead(&self, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
pub(crate) fn scratch_file(size_bytes: u64) -> File {
    #[cfg(miri)]
    return {
        let _ = size_bytes;
        File::open("/dev/null").expect("the null device opens")
    };
    #[cfg(not(miri))]
    {
        let file = tempfile::tempfile().expect("a temporary file");
        file.set_len(size_bytes).expect("a small file");
        file
    }
}
