//! The name server's own configuration at run time: codes 318 and 319.

use std::sync::Arc;

use super::{Failure, Request};

/// Bytes of one change: all keys at once need less than 1 kB.
const CHANGE_MAX_BYTES: usize = 16 * 1_024;

/// Changes keys of the allow-list, all or none. The change lasts until the process ends.
pub(super) fn update(request: &Request<'_>) -> Result<(), Failure> {
    let bytes = request.frame.body.len();
    if bytes > CHANGE_MAX_BYTES {
        return Err(Failure::TooLong { what: "change", bytes, max: CHANGE_MAX_BYTES });
    }
    let lines = std::str::from_utf8(&request.frame.body).map_err(|_| Failure::Text)?;
    let config = request.server.config.load().changed(lines)?;
    request.server.config.store(Arc::new(config));
    request.server.table.forget_all(); // made with the old configuration
    tracing::info!(peer = %request.connection.peer(), ?lines, "configuration changed");
    request.done()
}

pub(super) fn get(request: &Request<'_>) -> Result<(), Failure> {
    request.body(request.server.config.load().java_lines().into())
}
