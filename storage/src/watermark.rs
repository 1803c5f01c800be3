//! A position that only grows, and waiting for it: the one primitive to wait on.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::oneshot;

use crate::Poison;

/// A growing position, in bytes of the commit log.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    position: AtomicU64,
    /// Number of entries in `waiters`, so that advancing costs no lock when nobody waits.
    waiting: AtomicUsize,
    waiters: Mutex<Waiters>,
}

#[derive(Debug, Default)]
struct Waiters {
    heap: BinaryHeap<Reverse<Waiter>>,
    poison: Option<Poison>,
}

#[derive(Debug)]
struct Waiter {
    position: u64,
    reached: oneshot::Sender<Result<(), Poison>>,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.position == other.position
    }
}

impl Eq for Waiter {}

impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiter {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.position.cmp(&other.position)
    }
}

impl Watermark {
    pub(crate) fn new(position: u64) -> Self {
        Self { position: AtomicU64::new(position), ..Self::default() }
    }

    /// Begins at a smaller position after all. Nobody may have seen the larger one.
    pub(crate) fn begin_at(&self, position: u64) {
        self.position.store(position, Ordering::SeqCst);
    }

    pub(crate) fn get(&self) -> u64 {
        self.position.load(Ordering::SeqCst)
    }

    /// Moves the position forward and wakes who waited for it.
    pub(crate) fn advance(&self, position: u64) {
        self.position.fetch_max(position, Ordering::SeqCst);
        // A waiter counts itself before it looks at the position, so either it sees the new
        // position or it is counted here.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.wake(position);
        }
    }

    fn wake(&self, position: u64) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        while waiters.heap.peek().is_some_and(|Reverse(waiter)| waiter.position <= position) {
            if let Some(Reverse(waiter)) = waiters.heap.pop() {
                // A receiver that is gone was dropped by its owner: nobody to tell.
                let _gone = waiter.reached.send(Ok(()));
            }
        }
        self.waiting.store(waiters.heap.len(), Ordering::SeqCst);
    }

    /// Tells everyone who waits, now and later, that the position will not grow any more.
    pub(crate) fn fail(&self, poison: &Poison) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        waiters.poison = Some(poison.clone());
        for Reverse(waiter) in waiters.heap.drain() {
            let _gone = waiter.reached.send(Err(poison.clone()));
        }
        self.waiting.store(0, Ordering::SeqCst);
    }

    /// Waits until the position is at or beyond `position`.
    ///
    /// # Errors
    /// The store failed first.
    ///
    /// # Cancel safety
    /// May be dropped at any time.
    pub(crate) async fn wait_for(&self, position: u64) -> Result<(), Poison> {
        if self.get() >= position {
            return Ok(());
        }
        match self.register(position)? {
            None => Ok(()),
            Some(reached) => {
                reached.await.expect("a waiter is answered before it is removed from the heap")
            }
        }
    }

    /// `None` when the position is reached already.
    fn register(
        &self,
        position: u64,
    ) -> Result<Option<oneshot::Receiver<Result<(), Poison>>>, Poison> {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(waiters.heap.len() + 1, Ordering::SeqCst);
        if self.get() >= position {
            self.waiting.store(waiters.heap.len(), Ordering::SeqCst);
            return Ok(None);
        }
        if let Some(poison) = &waiters.poison {
            self.waiting.store(waiters.heap.len(), Ordering::SeqCst);
            return Err(poison.clone());
        }
        let (reached, receiver) = oneshot::channel();
        waiters.heap.push(Reverse(Waiter { position, reached }));
        Ok(Some(receiver))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn poison() -> Poison {
        Poison { reason: Arc::from("disk") }
    }

    #[tokio::test]
    async fn wait_ends_when_the_position_is_reached() {
        let mark = Arc::new(Watermark::new(10));
        mark.wait_for(10).await.unwrap();
        let waits: Vec<_> = [11, 30, 20]
            .map(|position| {
                let mark = Arc::clone(&mark);
                tokio::spawn(async move { mark.wait_for(position).await.map(|()| mark.get()) })
            })
            .into();
        while mark.waiting.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        mark.advance(20);
        mark.advance(15);
        assert_eq!(mark.get(), 20);
        assert_eq!(mark.waiting.load(Ordering::SeqCst), 1);
        mark.advance(30);
        for wait in waits {
            wait.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn dropped_wait_is_forgotten() {
        let mark = Watermark::default();
        let mut wait = Box::pin(mark.wait_for(5));
        assert!(futures_poll(&mut wait).is_none());
        drop(wait);
        mark.advance(9);
        assert_eq!(mark.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn failure_reaches_all_waiters() {
        let mark = Watermark::new(3);
        let mut wait = Box::pin(mark.wait_for(5));
        assert!(futures_poll(&mut wait).is_none());
        mark.fail(&poison());
        assert_eq!(wait.await, Err(poison()));
        assert_eq!(mark.wait_for(4).await, Err(poison()));
        mark.wait_for(3).await.unwrap();
    }

    fn futures_poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(future).poll(&mut context) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        }
    }
}
