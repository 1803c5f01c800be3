//! JSON, registrations and compressed bodies.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_wire::bodies::read(data));
