//! A bundle that several sinks hold at the same time, and the way of its memory back to the shard that made it.
//!
//! Each sink has a [`Lease`] on the bundle, reads it as long as it needs to, and releases it. The last release gives an
//! [`Empty`], which that sink sends back to the shard; no other sink gets one, so the memory comes back exactly once and
//! only then. The shard's [`Pool`] takes the buffers out for the next bundle and keeps the rest of the allocation for the
//! next [`Pool::share`]. In a steady state nothing is allocated here, and nothing is ever copied.
//!
//! A sink may still have bytes of the body in the hands of the kernel when it releases its lease (a cancelled send). The
//! pool sees that by the reference count and leaves such a bundle alone until the last of those bytes is released. A lease
//! that is dropped without a release (a sink that has ended) costs the way back and nothing else: the memory is freed
//! with the last reference.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use engine_core::bundle::Bundle;

/// Emptied bundles that a shard keeps, for their memory; more are freed.
const KEPT_MAX: usize = 8;

/// A bundle, and how many sinks hold it.
#[derive(Debug)]
struct Held {
    bundle: Bundle,
    leases: AtomicUsize,
}

/// One sink's hold on a bundle.
#[derive(Debug)]
pub struct Lease(Arc<Held>);

impl Lease {
    /// What is to be delivered.
    pub fn bundle(&self) -> &Bundle {
        &self.0.bundle
    }

    /// The body, without a copy. It may outlive the lease.
    pub fn body(&self) -> Bytes {
        Bytes::from_owner(Body(Arc::clone(&self.0)))
    }

    /// A reference for another thread of this sink, which may outlive the lease.
    pub fn hold(&self) -> Hold {
        Hold(Arc::clone(&self.0))
    }

    /// Ends this sink's hold; the last one gets what goes back to the shard.
    pub fn release(self) -> Option<Empty> {
        // Acquire and release: what any sink did with the bundle comes before its reuse.
        let was_last = self.0.leases.fetch_sub(1, Ordering::AcqRel) == 1;
        was_last.then_some(Empty(self.0))
    }
}

/// Keeps a bundle in memory. Its buffers are used again only once this is dropped, too.
#[derive(Debug)]
pub struct Hold(Arc<Held>);

impl Hold {
    /// What is held.
    pub fn bundle(&self) -> &Bundle {
        &self.0.bundle
    }
}

/// What keeps a body in memory that bytes refer to.
struct Body(Arc<Held>);

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.0.bundle.body
    }
}

/// A bundle that no sink holds any longer, on its way back.
#[derive(Debug)]
pub struct Empty(Arc<Held>);

/// A shard's emptied bundles.
#[derive(Debug, Default)]
pub struct Pool {
    /// They came back, and some thread may still have a reference.
    returned: Vec<Arc<Held>>,
    /// Without their bundle, ready for the next.
    idle: Vec<Arc<Held>>,
}

impl Pool {
    /// Leases on `bundle`, one for each of `sinks`.
    pub fn share(&mut self, bundle: Bundle, sinks: usize) -> impl Iterator<Item = Lease> + use<> {
        let leases = AtomicUsize::new(sinks);
        let held = Held { bundle, leases };
        let held = match self.idle.pop() {
            Some(mut idle) => match Arc::get_mut(&mut idle) {
                Some(place) => {
                    *place = held;
                    idle
                }
                // Nobody else has a reference to what is idle.
                None => Arc::new(held),
            },
            None => Arc::new(held),
        };
        std::iter::repeat_n(held, sinks).map(Lease)
    }

    /// Takes back what a sink released last.
    pub fn put(&mut self, empty: Empty) {
        if self.returned.len() == KEPT_MAX {
            // The one that was held for longest; it is freed when its last reference is dropped.
            self.returned.remove(0);
        }
        self.returned.push(empty.0);
    }

    /// A bundle whose buffers can be used again: of those that came back, the last, which the caches may still hold.
    pub fn take(&mut self) -> Option<Bundle> {
        let is_free = |held: &mut Arc<Held>| Arc::get_mut(held).is_some();
        let index = self.returned.iter_mut().rposition(is_free)?;
        let mut held = self.returned.remove(index);
        let mut bundle = std::mem::take(&mut Arc::get_mut(&mut held)?.bundle);
        bundle.body.clear();
        if self.idle.len() < KEPT_MAX {
            self.idle.push(held);
        }
        Some(bundle)
    }
}
