//! Conversions between the widths of the disk and of memory.

/// A length or position as the disk stores it, for use in memory. Every supported machine has
/// 64-bit addresses.
pub(crate) fn to_usize(n: u64) -> usize {
    usize::try_from(n).expect("addresses have 64 bits")
}

/// A length in memory, for the disk.
pub(crate) fn to_u64(n: usize) -> u64 {
    u64::try_from(n).expect("addresses have 64 bits")
}

/// Splits a big-endian number off the front of `bytes`.
macro_rules! take {
    ($number:ty, $bytes:expr) => {
        $bytes
            .split_first_chunk::<{ size_of::<$number>() }>()
            .map(|(head, rest)| (<$number>::from_be_bytes(*head), rest))
    };
}
pub(crate) use take;
