//! The sinks as a shard sees them: closed bundles in, emptied ones back, and a level that the overload control reads.
//!
//! A shard has one [`Outlets`] for each distinct rule set, beside the bundler that collects the lines made under it. Sinks
//! with the same rules share each bundle. Each has a bound of its own on what waits here, so none waits for another.

use std::sync::Arc;

use engine_core::bundle::Bundle;

use super::column::Column;
use super::outbox::Outbox;
use super::shared::{Empty, Lease, Pool};
use crate::counters::OutletCounters;

/// A shard's end of one sink.
pub enum Outlet {
    /// Bundles go to a thread of the sink.
    Outbox(Outbox),
    /// They are counted and discarded here.
    Discard(Discarder),
}

/// A shard's ends of all sinks with the same rules.
pub struct Outlets {
    /// Each with the number of its sink.
    outlets: Vec<(usize, Outlet)>,
    pool: Pool,
}

impl Outlets {
    /// The ends of these sinks, each with the number of the sink.
    pub fn new(outlets: Vec<(usize, Outlet)>) -> Self {
        Self {
            outlets,
            pool: Pool::default(),
        }
    }

    /// Takes a closed bundle for every sink; it goes out with the next [`Self::send`].
    pub fn push(&mut self, bundle: Bundle) {
        let leases = self.pool.share(bundle, self.outlets.len());
        for ((_, outlet), lease) in self.outlets.iter_mut().zip(leases) {
            match outlet {
                Outlet::Outbox(outbox) => outbox.push(lease),
                Outlet::Discard(discarder) => {
                    if let Some(empty) = discarder.discard(lease) {
                        self.pool.put(empty);
                    }
                }
            }
        }
    }

    /// Moves what waits to the sinks as far as they have room; where too much waits, the oldest is shed.
    pub fn send(&mut self) {
        for outbox in outboxes(&mut self.outlets) {
            outbox.send(&mut self.pool);
        }
    }

    /// A bundle that every sink has released, for its memory.
    pub fn take_empty(&mut self) -> Option<Bundle> {
        self.pool.take()
    }

    /// Whether no bundle waits here for any sink.
    pub fn is_empty(&self) -> bool {
        self.outlets.iter().all(|(_, outlet)| match outlet {
            Outlet::Outbox(outbox) => outbox.is_empty(),
            Outlet::Discard(_) => true,
        })
    }

    /// Sheds all that waits here.
    pub fn shed_all(&mut self) {
        for outbox in outboxes(&mut self.outlets) {
            outbox.shed_above(0, &mut self.pool);
        }
    }

    /// How full the way to the sink with least room is, 0 to 1.
    pub fn fill(&self) -> f32 {
        let fill = |(_, outlet): &(usize, Outlet)| match outlet {
            Outlet::Outbox(outbox) => outbox.fill(),
            Outlet::Discard(_) => 0.0,
        };
        self.outlets.iter().map(fill).fold(0.0, f32::max)
    }

    /// What was done so far for each sink, by its number.
    pub fn counters(&self) -> impl Iterator<Item = (usize, OutletCounters)> {
        self.outlets.iter().map(|(number, outlet)| {
            let counters = match outlet {
                Outlet::Outbox(outbox) => outbox.counters(),
                Outlet::Discard(discarder) => discarder.counters,
            };
            (*number, counters)
        })
    }
}

/// The shard's end of a sink that delivers nothing.
#[derive(Debug, Default)]
pub struct Discarder {
    counters: OutletCounters,
    column: Arc<Column>,
}

impl Discarder {
    /// What is counted here, for other threads.
    pub fn column(&self) -> Arc<Column> {
        self.column.clone()
    }

    /// Counts the calls and releases the bundle.
    fn discard(&mut self, lease: Lease) -> Option<Empty> {
        self.counters.calls_withheld += u64::from(lease.bundle().calls);
        self.column.set_withheld(self.counters.calls_withheld);
        lease.release()
    }
}

fn outboxes(outlets: &mut [(usize, Outlet)]) -> impl Iterator<Item = &mut Outbox> {
    outlets.iter_mut().filter_map(|(_, outlet)| match outlet {
        Outlet::Outbox(outbox) => Some(outbox),
        Outlet::Discard(_) => None,
    })
}
