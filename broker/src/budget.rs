//! Memory for messages that are read from the disk on their way to peers: a limit over all of
//! them. Messages from the mapped log need none.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most bytes that are read and not yet taken by the peers' sockets.
const MAX_BYTES: usize = 128 << 20;
/// What is counted: a permit for each byte would be too many for a semaphore.
const UNIT_BYTES: usize = 1 << 10;

/// Counts what is read and not yet sent.
#[derive(Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

/// Bytes that give their part of the budget back when they have been sent.
struct Counted {
    bytes: Bytes,
    _share: Arc<Share>,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { units: Arc::new(Semaphore::new(MAX_BYTES / UNIT_BYTES)) }
    }
}

impl Budget {
    /// Waits until so many bytes may be read. Peers that do not take theirs are left after a
    /// while, so this ends.
    pub(crate) async fn share(&self, bytes: usize) -> Share {
        let units = units(bytes.min(MAX_BYTES));
        let permit = Arc::clone(&self.units).acquire_many_owned(units).await;
        Share(permit.expect("the semaphore is never closed"))
    }
}

impl Share {
    /// Ties it to what was read; what was not needed is given back at once.
    pub(crate) fn spend(mut self, slices: Vec<Bytes>) -> Vec<Bytes> {
        let spent = units(slices.iter().map(Bytes::len).sum());
        let unused = self.0.num_permits().saturating_sub(usize::try_from(spent).unwrap_or(0));
        drop(self.0.split(unused));
        let share = Arc::new(self);
        let counted = |bytes| Counted { bytes, _share: Arc::clone(&share) };
        slices.into_iter().map(|bytes| Bytes::from_owner(counted(bytes))).collect()
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_sent_or_not_needed_is_given_back() {
        let budget = Budget::default();
        let all = budget.units.available_permits();
        let share = budget.share(4 << 20).await;
        assert_eq!(budget.units.available_permits(), all - 4096);
        let read = vec![Bytes::from(vec![1; 1000]), Bytes::from(vec![2; 9000])];
        let sent = share.spend(read.clone());
        assert_eq!(sent, read);
        assert_eq!(budget.units.available_permits(), all - 10);
        let part = sent[1].slice(5000..);
        drop(sent);
        assert_eq!(budget.units.available_permits(), all - 10, "a part waits");
        drop(part);
        assert_eq!(budget.units.available_permits(), all);
        drop(budget.share(usize::MAX).await);
    }
}
