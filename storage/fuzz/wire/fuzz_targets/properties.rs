//! Properties, names and ids.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_wire::records::properties(data));
