//! Stored records, read and written.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz_wire::records::read(data);
    fuzz_wire::records::write(data);
});
