//! The bytes that a peer sends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_wire::frames::stream(data));
