//! Recovery of a log over arbitrary bytes, in a directory of this process.
#![no_main]

use std::{path::PathBuf, sync::LazyLock};

static DIR: LazyLock<PathBuf> = LazyLock::new(|| {
    let memory = PathBuf::from("/dev/shm");
    let root = if memory.is_dir() { memory } else { std::env::temp_dir() };
    root.join(format!("fuzz-recovery-{}", std::process::id()))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| storage::fuzzing::recovery(&DIR, data));
