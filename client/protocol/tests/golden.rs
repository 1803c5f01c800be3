//! Bytes and bodies as RocketMQ's own classes make them, in `tests/golden/`: we read them, and we
//! write the same. Frames are in `src/header/tests.rs`.

#[cfg(test)]
mod golden {
    mod bodies;
    mod deviations;
    mod layouts;
}
