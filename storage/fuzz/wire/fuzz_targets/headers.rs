//! Headers of either encoding and what is read out of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_wire::headers::scan(data));
