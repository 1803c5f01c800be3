//! The body of a client-side batch.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_wire::records::batches(data));
