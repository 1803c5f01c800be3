//! Where a JSON string ends or has an escape, found eight bytes at a time: headers are many short
//! strings, for which a call into a vector search costs more than it saves.

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = ONES << 7;

/// Number of bytes before the first that cannot be in a JSON string as it is.
pub(super) fn plain_len(bytes: &[u8]) -> usize {
    len_before::<true>(bytes)
}

/// Number of bytes before the first quote or backslash. Control characters are no JSON, and accepted.
#[inline(always)]
pub(super) fn verbatim_len(bytes: &[u8]) -> usize {
    len_before::<false>(bytes)
}

fn is_special<const CONTROLS: bool>(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\') || CONTROLS && byte < b' '
}

#[inline(always)]
fn len_before<const CONTROLS: bool>(bytes: &[u8]) -> usize {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut at = 0;
    for chunk in chunks {
        // The first byte becomes the lowest one.
        let specials = specials::<CONTROLS>(u64::from_be_bytes(*chunk).swap_bytes());
        if specials != 0 {
            return at + usize::try_from(specials.trailing_zeros() / 8).unwrap_or_default();
        }
        at += chunk.len();
    }
    at + rest.iter().position(|&byte| is_special::<CONTROLS>(byte)).unwrap_or(rest.len())
}

/// Its lowest bit is the top bit of the lowest byte that is special. Bits above mean nothing: a
/// special byte may borrow from the byte above it.
#[inline(always)]
fn specials<const CONTROLS: bool>(chunk: u64) -> u64 {
    let below = |chunk: u64, limit: u8| chunk.wrapping_sub(ONES * u64::from(limit));
    let quotes = below(chunk ^ (ONES * u64::from(b'"')), 1);
    let backslashes = below(chunk ^ (ONES * u64::from(b'\\')), 1);
    let controls = if CONTROLS { below(chunk, b' ') } else { 0 };
    // Bytes that are not ASCII have the top bit before anything is subtracted.
    (quotes | backslashes | controls) & !chunk & TOPS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn every_byte_is_judged_alike_in_a_chunk_and_behind_it() {
        for byte in 0..=u8::MAX {
            let quote = matches!(byte, b'"' | b'\\');
            for at in 0..17 {
                let mut text = [b'x'; 17];
                text[at] = byte;
                let plain = if quote || byte < b' ' { at } else { 17 };
                assert_eq!(plain_len(&text), plain, "{byte} at {at}");
                assert_eq!(verbatim_len(&text), if quote { at } else { 17 }, "{byte} at {at}");
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
            let plain = bytes.iter().take_while(|&&byte| !is_special::<true>(byte)).count();
            prop_assert_eq!(plain_len(&bytes), plain);
            let verbatim = bytes.iter().take_while(|&&byte| !is_special::<false>(byte)).count();
            prop_assert_eq!(verbatim_len(&bytes), verbatim);
        }
    }
}
