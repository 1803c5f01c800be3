//! Compressed message bodies. Only consumers look into them; brokers pass them through.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use thiserror::Error;

use crate::sys_flag;

/// Level that RocketMQ's clients compress with.
const LEVEL: u32 = 5;
/// Largest window of a Zstandard frame that is accepted, as a power of two: 32 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 25;

/// Why a body cannot be decompressed: the message is damaged or hostile; skip it.
#[derive(Debug, Error)]
pub enum Error {
    /// The type bits name no algorithm.
    #[error("the message is compressed with type {kind}, known are 0 to 3")]
    UnknownType {
        /// The type bits, moved to the right end.
        kind: i32,
    },
    /// More bytes come out than allowed.
    #[error("the body has more than {max} bytes after decompression; raise the limit to read it")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The bytes are not what the type says.
    #[error("the body is no intact {algorithm} data: {source}")]
    Damaged {
        /// Name of the algorithm.
        algorithm: &'static str,
        /// What the decoder says.
        source: io::Error,
    },
}

/// `body` as a zlib stream, which every client reads. Set [`sys_flag::COMPRESSED`] and
/// [`sys_flag::COMPRESSION_ZLIB`] with it.
#[must_use]
pub fn compress_zlib(body: &[u8]) -> Vec<u8> {
    compress_zlib_at(body, LEVEL)
}

pub(crate) fn compress_zlib_at(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::new(level));
    encoder
        .write_all(bytes)
        .and_then(|()| encoder.finish())
        .expect("writing to memory does not fail")
}

/// The body as its producer gave it: decompressed if `sys_flag` says that it is compressed,
/// borrowed otherwise.
///
/// An LZ4 frame may lack its end mark: the decoder takes the end of the body for it. Whether the
/// body is whole is what the record's checksum tells.
///
/// # Errors
/// [`enum@Error`]: damaged, of an unknown type, or longer than `max` bytes. No more than `max` bytes
/// and a decoder's window are ever allocated.
pub fn decompress(sys_flag: i32, body: &[u8], max: usize) -> Result<Cow<'_, [u8]>, Error> {
    if sys_flag & sys_flag::COMPRESSED == 0 {
        return Ok(Cow::Borrowed(body));
    }
    match sys_flag & sys_flag::COMPRESSION_MASK {
        0 | sys_flag::COMPRESSION_ZLIB => decompress_zlib(body, max),
        sys_flag::COMPRESSION_LZ4 => {
            read_bounded("LZ4", lz4_flex::frame::FrameDecoder::new(body), max)
        }
        sys_flag::COMPRESSION_ZSTD => zstd::Decoder::with_buffer(body)
            .and_then(|mut decoder| {
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Ok(decoder)
            })
            .map_err(|source| Error::Damaged { algorithm: "Zstandard", source })
            .and_then(|decoder| read_bounded("Zstandard", decoder, max)),
        kind => Err(Error::UnknownType { kind: kind >> 8 }),
    }
    .map(Cow::Owned)
}

pub(crate) fn decompress_zlib(bytes: &[u8], max: usize) -> Result<Vec<u8>, Error> {
    read_bounded("zlib", ZlibDecoder::new(bytes), max)
}

fn read_bounded(algorithm: &'static str, reader: impl Read, max: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let one_more = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    reader
        .take(one_more)
        .read_to_end(&mut out)
        .map_err(|source| Error::Damaged { algorithm, source })?;
    if out.len() > max { Err(Error::TooLarge { max }) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    const ZLIB: i32 = sys_flag::COMPRESSED | sys_flag::COMPRESSION_ZLIB;
    const LZ4: i32 = sys_flag::COMPRESSED | sys_flag::COMPRESSION_LZ4;
    const ZSTD: i32 = sys_flag::COMPRESSED | sys_flag::COMPRESSION_ZSTD;

    fn compress(flag: i32, body: &[u8]) -> Vec<u8> {
        match flag {
            ZLIB => compress_zlib(body),
            LZ4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(body).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::encode_all(body, 3).unwrap(),
        }
    }

    #[test]
    fn uncompressed_bodies_are_borrowed() {
        // The type bits alone mean nothing.
        let body = decompress(sys_flag::COMPRESSION_LZ4, b"plain", 3).unwrap();
        assert!(matches!(body, Cow::Borrowed(b"plain")));
    }

    #[test]
    fn bombs_are_defused_at_the_limit() {
        let bomb = vec![0; 1 << 20];
        for flag in [ZLIB, LZ4, ZSTD] {
            let packed = compress(flag, &bomb);
            assert!(packed.len() < 20_000, "{flag:#x} has {} bytes", packed.len());
            assert!(matches!(
                decompress(flag, &packed, (1 << 20) - 1),
                Err(Error::TooLarge { max: 1_048_575 })
            ));
            assert_eq!(decompress(flag, &packed, 1 << 20).unwrap(), bomb);
        }
    }

    #[test]
    fn cut_streams_are_errors() {
        let body: Vec<u8> = (0..=255).cycle().take(3000).collect();
        for flag in [ZLIB, LZ4, ZSTD] {
            let packed = compress(flag, &body);
            for cut in [1, 5, packed.len() / 2, packed.len() - 5] {
                assert!(
                    matches!(decompress(flag, &packed[..cut], 4000), Err(Error::Damaged { .. })),
                    "{flag:#x} cut to {cut} of {} bytes was accepted",
                    packed.len()
                );
            }
        }
    }

    #[test]
    fn unknown_types_are_named() {
        let error = decompress(sys_flag::COMPRESSED | 0x500, b"", 10).unwrap_err();
        assert_eq!(error.to_string(), "the message is compressed with type 5, known are 0 to 3");
    }

    proptest! {
        #[test]
        fn bodies_survive(body: Vec<u8>) {
            for flag in [ZLIB, LZ4, ZSTD, sys_flag::COMPRESSED] {
                let packed = compress(if flag == sys_flag::COMPRESSED { ZLIB } else { flag }, &body);
                let unpacked = decompress(flag, &packed, body.len()).unwrap();
                prop_assert_eq!(&*unpacked, &*body);
            }
        }

        #[test]
        fn damage_never_panics(body: Vec<u8>, at in any::<usize>(), bit in 0..8_u32) {
            for flag in [ZLIB, LZ4, ZSTD] {
                let mut packed = compress(flag, &body);
                let at = at % packed.len();
                packed[at] ^= 1_u8 << bit;
                let _result = decompress(flag, &packed, 10_000);
                let _garbage = decompress(flag, &body, 10_000);
            }
        }
    }
}
