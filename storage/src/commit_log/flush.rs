//! Making the log durable: the one place that syncs it.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use crate::{
    FlushMode,
    bug::{self, Bug},
    core::Core,
};

/// The durable watermark is written at most this often, because it costs a sync of its own.
const MARK_INTERVAL: Duration = Duration::from_secs(1);

/// Syncs in its own thread; [`Flusher::run`] is that thread.
#[derive(Debug)]
pub(crate) struct Flusher {
    core: Arc<Core>,
    marked: u64,
    marked_at: Instant,
}

impl Flusher {
    /// Recovery has written the durable watermark for the current end.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        let marked = core.log.flushed();
        Self { core, marked, marked_at: Instant::now() }
    }

    /// Syncs until the store fails, or closes: then once more. Unpark the thread to make it look.
    pub(crate) fn run(mut self) {
        loop {
            let closing = self.core.health.is_closed();
            if self.core.health.check().is_err() {
                return;
            }
            if let Err(error) = self.sync_once()
                && !bug::on(Bug::RetryFailedSync)
            {
                // No second try: it would succeed over data that is lost.
                self.core.fail(&format!("the commit log cannot be synced: {error}"));
            }
            if closing {
                return;
            }
            match self.core.config.flush {
                FlushMode::Async { interval_ms } => {
                    thread::park_timeout(Duration::from_millis(interval_ms));
                }
                FlushMode::Sync if self.core.log.appended() == self.core.log.flushed() => {
                    thread::park();
                }
                FlushMode::Sync => {}
            }
        }
    }

    fn sync_once(&mut self) -> io::Result<()> {
        let log = &self.core.log;
        let (from, to) = (log.flushed(), log.appended());
        // In the order of the log: a record is durable only if everything before it is.
        for segment in log.segments_between(from, to) {
            segment.sync()?;
        }
        log.set_flushed(to);
        self.core.confirm();
        if to > self.marked && self.marked_at.elapsed() >= MARK_INTERVAL {
            self.core.mark().write(to, self.core.index.durable_sequence(), false)?;
            self.marked = to;
            self.marked_at = Instant::now();
        }
        Ok(())
    }
}
