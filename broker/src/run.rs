//! A broker that starts anew, in the same process, when its role changes or its store has to be
//! opened again.

use thiserror::Error;

use crate::{broker::Broker, config::Config, start::StartError};

/// Why a broker ended by itself.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum Ended {
    /// It cannot go on: the process should end with an error, so that somebody looks and clients
    /// go elsewhere.
    #[error("{0}")]
    Failed(String),
    /// Work is planned for the store that needs it closed.
    #[error("the store is to be opened anew")]
    Reopen,
    /// It will be the master.
    #[error("it is to be the master")]
    Promoted,
    /// It will be a slave.
    #[error("it is to be a slave, which one broker alone cannot be")]
    Demoted,
}

/// Why a broker runs no longer although nobody stopped it.
#[derive(Debug, Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

/// Runs a broker until `stop` resolves. `serving` is called whenever it serves: at first, and after
/// each change of its role. A port that was chosen by the system stays the same.
///
/// # Errors
///
/// When the broker cannot be started, or started again, or fails.
pub async fn run(
    mut config: Config,
    stop: impl Future<Output = ()>,
    mut serving: impl FnMut(&Broker),
) -> Result<(), RunError> {
    let mut stop = std::pin::pin!(stop);
    if config.listen.port() == 0 && config.ha_listen.is_none() {
        config.ha_listen = Some(config.listen);
    }
    loop {
        let broker = Broker::start(config.clone()).await?;
        config.listen.set_port(broker.local_addr().port());
        serving(&broker);
        let ended = tokio::select! {
            () = &mut stop => None,
            ended = broker.ended() => Some(ended),
        };
        broker.shutdown().await;
        match ended {
            None => return Ok(()),
            Some(Ended::Failed(reason)) => return Err(RunError::Failed(reason)),
            Some(Ended::Reopen) => {
                tracing::info!(
                    "the store is opened anew, for what cannot be done while it is open"
                );
            }
            Some(Ended::Promoted) => tracing::warn!("the broker starts anew as the master"),
            Some(Ended::Demoted) => tracing::warn!("the broker starts anew as a slave"),
        }
    }
}
