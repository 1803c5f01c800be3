//! Where a JSON string ends or has an escape, found eight bytes at a time: headers are many short
//! strings, for which a call into a vector search costs more than it saves.

const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const ONES: u64 = 0x0101_0101_0101_0101;

/// Whether a byte cannot be in a JSON string as it is.
fn is_special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..=0x1f)
}

/// Number of bytes before the first special one.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for chunk in chunks {
        let specials = specials(u64::from_be_bytes(*chunk));
        if specials != 0 {
            return at + usize::try_from(specials.leading_zeros() / 8).unwrap_or_default();
        }
        at += chunk.len();
    }
    at + rest.iter().position(|&byte| is_special(byte)).unwrap_or(rest.len())
}

/// The top bit of each byte that is special.
fn specials(chunk: u64) -> u64 {
    let quotes = zeros(chunk ^ (ONES * u64::from(b'"')));
    let backslashes = zeros(chunk ^ (ONES * u64::from(b'\\')));
    let controls = zeros(chunk & (ONES * 0xe0));
    quotes | backslashes | controls
}

/// The top bit of each byte that is zero; no byte has an effect on another one.
fn zeros(chunk: u64) -> u64 {
    !(((chunk & LOW) + LOW) | chunk | LOW)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn every_byte_is_judged_alike_in_a_chunk_and_behind_it() {
        for byte in 0..=u8::MAX {
            let wanted = usize::from(!is_special(byte));
            for at in 0..17 {
                let mut text = [b'x'; 17];
                text[at] = byte;
                assert_eq!(plain_len(&text), at + wanted * (17 - at), "{byte} at {at}");
            }
        }
    }

    proptest! {
        #[test]
        fn it_finds_what_a_plain_loop_finds(bytes: Vec<u8>, quote in any::<u8>()) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(usize::from(quote)) {
                *byte = b'"';
            }
            let plain = bytes.iter().take_while(|&&byte| !is_special(byte)).count();
            prop_assert_eq!(plain_len(&bytes), plain);
        }
    }
}
