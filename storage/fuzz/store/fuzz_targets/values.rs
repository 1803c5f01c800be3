//! Values of the index and slots of the watermark.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzzing::value(data));
