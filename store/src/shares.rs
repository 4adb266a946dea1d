//! Bytes of POSTs in memory, divided between senders: this host and the network have an amount each, and a sender on the network
//! has at most a part of the latter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::sender::Sender;

/// Bytes are counted in these.
const UNIT_BYTES: usize = 1 << 10;

/// An amount of bytes that is divided.
#[derive(Debug)]
pub(crate) struct Shares {
    local: Arc<Semaphore>,
    network: Arc<Semaphore>,
    sender_bytes: usize,
    /// Senders on the network that hold or wait for bytes.
    senders: Mutex<HashMap<Sender, Arc<Semaphore>>>,
}

/// Bytes that are held, free again when dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    permits: Vec<OwnedSemaphorePermit>,
}

impl Held {
    /// Gives back all but this many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        for permit in &mut self.permits {
            let surplus = permit.num_permits().saturating_sub(units(bytes) as usize);
            drop(permit.split(surplus));
        }
    }

    /// Adds what was taken later by the same sender.
    pub(crate) fn merge(&mut self, other: Self) {
        if self.permits.is_empty() {
            *self = other;
        } else {
            for (permit, more) in self.permits.iter_mut().zip(other.permits) {
                permit.merge(more);
            }
        }
    }
}

impl Shares {
    /// `sender_bytes` is the part of `network_bytes` that one sender may hold.
    pub(crate) fn new(local_bytes: usize, network_bytes: usize, sender_bytes: usize) -> Self {
        let semaphore = |bytes| Arc::new(Semaphore::new(units(bytes) as usize));
        Self {
            local: semaphore(local_bytes),
            network: semaphore(network_bytes),
            sender_bytes,
            senders: Mutex::default(),
        }
    }

    /// Takes bytes if they are free.
    pub(crate) fn try_take(&self, sender: Sender, bytes: usize) -> Option<Held> {
        let permits = self
            .semaphores(sender)
            .into_iter()
            .map(|semaphore| semaphore.try_acquire_many_owned(units(bytes)).ok())
            .collect::<Option<_>>()?;
        Some(Held { permits })
    }

    /// Takes bytes as soon as they are free, in the order of arrival; the sender's own come first, so that one that waits for
    /// those is not in the way of others.
    pub(crate) async fn take(&self, sender: Sender, bytes: usize) -> Result<Held, AcquireError> {
        let mut permits = Vec::new();
        for semaphore in self.semaphores(sender) {
            permits.push(semaphore.acquire_many_owned(units(bytes)).await?);
        }
        Ok(Held { permits })
    }

    /// Whether a sender on the network that holds nothing would have to wait for so many bytes.
    pub(crate) fn is_short_of(&self, bytes: usize) -> bool {
        self.network.available_permits() < units(bytes) as usize
    }

    fn semaphores(&self, sender: Sender) -> Vec<Arc<Semaphore>> {
        if sender == Sender::Local {
            return vec![Arc::clone(&self.local)];
        }
        let mut senders = self.senders.lock().unwrap_or_else(PoisonError::into_inner);
        // A sender that holds nothing has all of its share; each permit holds on to its semaphore.
        senders.retain(|_, share| Arc::strong_count(share) > 1);
        let share = senders
            .entry(sender)
            .or_insert_with(|| Arc::new(Semaphore::new(units(self.sender_bytes) as usize)));
        vec![Arc::clone(share), Arc::clone(&self.network)]
    }
}

/// Lines of bundles from the network in the queue of the backend, so that a bundle from this host waits for no more than these.
#[derive(Debug)]
pub(crate) struct QueuedLines {
    network: Arc<Semaphore>,
}

impl QueuedLines {
    /// `lines_max` is at least what one bundle has.
    pub(crate) fn new(lines_max: usize) -> Self {
        Self {
            network: Arc::new(Semaphore::new(lines_max)),
        }
    }

    /// Waits until so many lines may be queued; those of this host may always.
    pub(crate) async fn take(
        &self,
        sender: Sender,
        lines: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, AcquireError> {
        if sender == Sender::Local {
            return Ok(None);
        }
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.network).acquire_many_owned(lines);
        permit.await.map(Some)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const A: Sender = Sender::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const B: Sender = Sender::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));
    const KIB: usize = 1 << 10;

    #[test]
    fn lines_of_the_network_wait_and_those_of_this_host_do_not() {
        let queued = QueuedLines::new(10);
        let taken = |sender, lines| queued.take(sender, lines).now_or_never();
        let first = taken(A, 9);
        assert!(first.is_some());
        assert!(taken(B, 2).is_none());
        assert!(taken(B, 1).is_some());
        assert!(taken(Sender::Local, 1000).is_some());
        drop(first);
        assert!(taken(B, 10).is_some());
    }

    #[test]
    fn a_sender_has_a_part_and_this_host_an_amount_of_its_own() {
        let shares = Shares::new(8 * KIB, 6 * KIB, 4 * KIB);
        let mut held = shares.try_take(A, 3 * KIB).expect("free");
        assert!(shares.try_take(A, 2 * KIB).is_none());
        held.merge(shares.try_take(A, KIB).expect("the rest of the share"));
        assert!(shares.try_take(B, 3 * KIB).is_none());
        assert!(shares.is_short_of(3 * KIB) && !shares.is_short_of(2 * KIB));
        let other = shares.try_take(B, 2 * KIB).expect("the rest");
        assert!(shares.try_take(Sender::Local, 8 * KIB).is_some());
        held.shrink_to(KIB);
        assert!(shares.try_take(A, 3 * KIB).is_some());
        drop((held, other));
        assert!(shares.try_take(B, 4 * KIB).is_some());
        drop(shares.semaphores(A));
        assert_eq!(shares.senders.lock().expect("whole").len(), 1);
    }
}
