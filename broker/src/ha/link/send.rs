//! The thread that sends to one slave.

use std::{net::TcpStream, thread, time::Duration};

use super::{
    TICK,
    hub::{Hub, Over},
    send,
};
use crate::ha::{
    acks::{Reach, SessionId},
    frame::Hello,
    plan::Plan,
    replica::Master,
    source::Feed,
};

/// How long a group that waits for no slave gathers before it sends again. A wake-up, a frame and
/// its acknowledgement for each turn of each producer would cost the master more than its producers.
const GATHER: Duration = Duration::from_millis(1);

/// Sends until the session is over; woken by the store and by acknowledgements.
pub(super) fn run<S: Master>(
    hub: &Hub<S>,
    stream: &mut TcpStream,
    hello: &Hello,
    (epoch, plan, session): (u64, &Plan, SessionId),
) -> Result<(), Over> {
    let _watch = hub.store.watch(thread::current());
    let mut feed = feed(hub, hello, (epoch, plan))?;
    let outcome = pump(hub, stream, &mut feed, session);
    if let Some(snapshot) = feed.into_snapshot() {
        hub.park(hello.broker_id, snapshot);
    }
    outcome
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

fn pump<S: Master>(
    hub: &Hub<S>,
    stream: &mut TcpStream,
    feed: &mut Feed<S>,
    session: SessionId,
) -> Result<(), Over> {
    while !hub.stopped() {
        let heard = hub.acks().last(session)?;
        let frames = feed.poll(&hub.store, heard, hub.clock.now_ms())?;
        if frames.is_empty() {
            thread::park_timeout(TICK);
            continue;
        }
        if let Some(sent) = feed.sent() {
            hub.acks().sent(session, sent)?;
        }
        send(stream, &frames)?;
        if hub.acks().needed() == 0 {
            thread::sleep(GATHER);
        }
    }
    Err(Over::Stopped)
}
