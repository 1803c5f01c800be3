//! What the targets check, apart from "no panic": what can be decoded is encoded to something that
//! decodes to the same. Each function takes the bytes that the fuzzer made.

pub mod bodies;
pub mod frames;
pub mod headers;
pub mod records;
