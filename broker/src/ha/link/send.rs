//! What is sent to one slave.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    net::tcp::OwnedWriteHalf,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    TICK,
    hub::{AtWork, Hub, Over, Shared, lock},
    wire,
};
use crate::{
    ha::{
        acks::{Reach, SessionId},
        frame::Hello,
        plan::Plan,
        replica::Master,
        source::Feed,
    },
    state::blocking,
};

/// How long a group that waits for no slave gathers before it sends again. A wake-up, a frame and
/// its acknowledgement for each turn of each producer would cost the master more than its producers.
const GATHER: Duration = Duration::from_millis(1);

/// Sends until the session is over; `news` comes from the store and from acknowledgements.
///
/// # Cancel safety
/// May be dropped, and the connection with it.
pub(super) async fn run<S: Shared>(
    hub: &AtWork<S>,
    stream: &mut OwnedWriteHalf,
    hello: &Arc<Hello>,
    (epoch, plan, session): (u64, Plan, SessionId),
    news: &Arc<Notify>,
) -> Over {
    let of_store = Arc::clone(news);
    let _watch = hub.store.watch(Arc::new(move || of_store.notify_one()));
    let begin = {
        let (hub, hello) = (hub.clone(), Arc::clone(hello));
        move || feed(&hub, &hello, (epoch, &plan))
    };
    let feed = match blocking(begin).await {
        Ok(feed) => Arc::new(Mutex::new(feed)),
        Err(over) => return over,
    };
    let _parking = Parking { hub, broker_id: hello.broker_id, feed: &feed };
    let Err(over) = pump(hub, stream, &feed, session, news).await;
    over
}

/// Keeps what is left of a snapshot, however the sending ends.
struct Parking<'a, S: Master> {
    hub: &'a Hub<S>,
    broker_id: u64,
    feed: &'a Mutex<Feed<S>>,
}

impl<S: Master> Drop for Parking<'_, S> {
    fn drop(&mut self) {
        if let Some(snapshot) = lock(self.feed).take_snapshot() {
            self.hub.park(self.broker_id, snapshot);
        }
    }
}

fn feed<S: Master>(
    hub: &Hub<S>,
    hello: &Hello,
    (epoch, plan): (u64, &Plan),
) -> Result<Feed<S>, Over> {
    let now_ms = hub.clock.now_ms();
    if plan.streams() {
        let from = Reach { log: hello.received, sequence: hello.sequence };
        return Ok(Feed::stream(epoch, plan, from, now_ms));
    }
    if !plan.snapshot {
        return Ok(Feed::prepare(epoch, None, now_ms));
    }
    let snapshot = match hub.take_parked(hello)? {
        Some(parked) => (parked, hello.have.clone()),
        None => (hub.store.snapshot()?, Vec::new()),
    };
    Ok(Feed::prepare(epoch, Some(snapshot), now_ms))
}

async fn pump<S: Shared>(
    hub: &AtWork<S>,
    stream: &mut OwnedWriteHalf,
    feed: &Arc<Mutex<Feed<S>>>,
    session: SessionId,
    news: &Notify,
) -> Result<Infallible, Over> {
    loop {
        let heard = hub.acks().last(session)?;
        let now_ms = hub.clock.now_ms();
        let quick = {
            let mut feed = lock(feed);
            feed.is_quick(&hub.store, now_ms).then(|| feed.poll(&hub.store, heard, now_ms))
        };
        let frames = match quick {
            Some(frames) => frames,
            None => {
                let (hub, feed) = (hub.clone(), Arc::clone(feed));
                blocking(move || lock(&feed).poll(&hub.store, heard, now_ms)).await
            }
        }?;
        if frames.is_empty() {
            // Without news it is time to look at the time.
            let _ = timeout(TICK, news.notified()).await;
            continue;
        }
        if let Some(sent) = lock(feed).sent() {
            hub.acks().sent(session, sent)?;
        }
        wire::send(stream, &frames).await?;
        if hub.acks().needed() == 0 {
            sleep(GATHER).await;
        }
    }
}
