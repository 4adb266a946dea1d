//! Bytes of POSTs in memory, divided between senders: the store's own capture, this host and the network have an amount each, and a
//! sender on the network has at most a part of the latter.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use crate::sender::Sender;

/// Bytes are counted in these.
pub(crate) const UNIT_BYTES: usize = 1 << 10;

/// An amount of bytes that is divided.
#[derive(Debug)]
pub(crate) struct Shares {
    capture: Arc<Semaphore>,
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

/// How many bytes there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amounts {
    /// For the store's own capture.
    pub(crate) capture: usize,
    /// For all other processes on this host.
    pub(crate) local: usize,
    /// For the network.
    pub(crate) network: usize,
    /// The part of that which one sender may hold.
    pub(crate) sender: usize,
}

impl Shares {
    pub(crate) fn new(bytes: Amounts) -> Self {
        let semaphore = |bytes| Arc::new(Semaphore::new(units(bytes) as usize));
        Self {
            capture: semaphore(bytes.capture),
            local: semaphore(bytes.local),
            network: semaphore(bytes.network),
            sender_bytes: bytes.sender,
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
        match sender {
            Sender::Capture => return vec![Arc::clone(&self.capture)],
            Sender::Local => return vec![Arc::clone(&self.local)],
            Sender::V4(_) | Sender::V6(_) => {}
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

/// Lines of bundles in the queue of the backend: a bundle from this host waits for no more than a certain number of the network's,
/// and one of the store's own capture for no more than that of others on this host in addition.
#[derive(Debug)]
pub(crate) struct QueuedLines {
    local: Arc<Semaphore>,
    network: Arc<Semaphore>,
}

impl QueuedLines {
    /// `lines_max` is at least what one bundle has.
    pub(crate) fn new(lines_max: usize) -> Self {
        Self {
            local: Arc::new(Semaphore::new(lines_max)),
            network: Arc::new(Semaphore::new(lines_max)),
        }
    }

    /// Waits until so many lines may be queued; those of the capture may always.
    pub(crate) async fn take(
        &self,
        sender: Sender,
        lines: usize,
    ) -> Result<Option<OwnedSemaphorePermit>, AcquireError> {
        let queued = match sender {
            Sender::Capture => return Ok(None),
            Sender::Local => &self.local,
            Sender::V4(_) | Sender::V6(_) => &self.network,
        };
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        let permit = Arc::clone(queued).acquire_many_owned(lines);
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
    fn lines_of_others_wait_and_those_of_the_capture_do_not() {
        let queued = QueuedLines::new(10);
        let taken = |sender, lines| queued.take(sender, lines).now_or_never();
        let first = taken(A, 9);
        assert!(first.is_some());
        assert!(taken(B, 2).is_none());
        assert!(taken(B, 1).is_some());
        let local = taken(Sender::Local, 10);
        assert!(local.is_some() && taken(Sender::Local, 1).is_none());
        assert!(taken(Sender::Capture, 1000).is_some());
        drop(first);
        assert!(taken(B, 10).is_some());
    }

    #[test]
    fn a_sender_has_a_part_and_this_host_an_amount_of_its_own() {
        let shares = Shares::new(Amounts {
            capture: 2 * KIB,
            local: 8 * KIB,
            network: 6 * KIB,
            sender: 4 * KIB,
        });
        let mut held = shares.try_take(A, 3 * KIB).expect("free");
        assert!(shares.try_take(A, 2 * KIB).is_none());
        held.merge(shares.try_take(A, KIB).expect("the rest of the share"));
        assert!(shares.try_take(B, 3 * KIB).is_none());
        assert!(shares.is_short_of(3 * KIB) && !shares.is_short_of(2 * KIB));
        let other = shares.try_take(B, 2 * KIB).expect("the rest");
        let local = shares.try_take(Sender::Local, 8 * KIB);
        assert!(local.is_some() && shares.try_take(Sender::Local, KIB).is_none());
        assert!(shares.try_take(Sender::Capture, 2 * KIB).is_some());
        held.shrink_to(KIB);
        assert!(shares.try_take(A, 3 * KIB).is_some());
        drop((held, other));
        assert!(shares.try_take(B, 4 * KIB).is_some());
        drop(shares.semaphores(A));
        assert_eq!(shares.senders.lock().expect("whole").len(), 1);
    }
}
