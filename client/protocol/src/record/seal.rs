//! The seal: a checksum of the whole record in its last property. The record's own checksum covers
//! the body alone, so a flipped bit in the properties or a time would go unnoticed.
//!
//! # Source: `enabledAppendPropCRC`, `MessageDecoder.createCrc32`, property `__CRC32#`

/// A seal that is not computed yet, behind properties that end with their separator.
pub(super) const BLANK: &str = "__CRC32#\u{1}0000000000\u{2}";
/// The same behind properties without a separator at their end.
pub(super) const SEPARATED_BLANK: &str = "\u{2}__CRC32#\u{1}0000000000\u{2}";

const SEAL_BYTES: usize = BLANK.len();
/// Where the ten digits are, the lowest first.
const DIGITS: std::ops::Range<usize> = 9..19;
/// A seal that is damaged itself still has most of its other bytes.
const STRANGE_MAX: usize = 2;

/// What the end of a record says about the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seal {
    /// There is none.
    Absent,
    /// It should be this number.
    Stored(u32),
    /// There is one that cannot be right.
    Damaged,
}

fn split(record: &[u8]) -> Option<(&[u8], &[u8; SEAL_BYTES])> {
    record.split_last_chunk::<SEAL_BYTES>()
}

/// The checksum of a sealed record, CRC-32 (IEEE) without its top bit.
fn checksum(sealed: &[u8]) -> u32 {
    crc32fast::hash(sealed) & 0x7FFF_FFFF
}

/// Fills in the seal, if the record has one.
pub(super) fn close(record: &mut [u8]) {
    let Some((sealed, BLANK_SEAL)) = split(record) else { return };
    let mut rest = checksum(sealed);
    let at = sealed.len();
    let digits = record.get_mut(at..).and_then(|seal| seal.get_mut(DIGITS)).unwrap_or_default();
    for digit in digits {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
}

/// The seal of a record, and the checksum that it should have.
pub(super) fn read(record: &[u8]) -> (Seal, u32) {
    let Some((sealed, seal)) = split(record) else { return (Seal::Absent, 0) };
    let fixed = |at: &usize| !DIGITS.contains(at);
    let pairs = seal.iter().zip(BLANK.as_bytes()).enumerate();
    let strange = pairs.filter(|(at, (found, wanted))| fixed(at) && found != wanted).count();
    if strange > STRANGE_MAX {
        return (Seal::Absent, 0);
    }
    let digits = seal.get(DIGITS).unwrap_or_default();
    let stored = digits.iter().rev().try_fold(0_u32, |number, digit| {
        let digit = u32::from(digit.checked_sub(b'0').filter(|&digit| digit < 10)?);
        number.checked_mul(10)?.checked_add(digit)
    });
    match stored.filter(|_| strange == 0) {
        Some(stored) => (Seal::Stored(stored), checksum(sealed)),
        None => (Seal::Damaged, checksum(sealed)),
    }
}

const BLANK_SEAL: &[u8; SEAL_BYTES] = match BLANK.as_bytes().first_chunk() {
    Some(blank) => blank,
    None => panic!("the blank seal has the length of a seal"),
};
