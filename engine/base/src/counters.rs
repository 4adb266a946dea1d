//! The counters of capture threads: one struct for each stage, all of them together in [`Stages`].
//!
//! The program reads a counter by its field. Names are only for what is written outside: JSON and Prometheus.

use std::collections::BTreeMap;

use engine_core::ledger::{Field, Kind};
use engine_core::pipeline::{Held, Ledger, Unaccounted};
use engine_core::{decap, flow, http, message};

mod published;
mod rule_cells;

pub use published::{Published, RuleSetCounters, Sample, Tables};
pub use rule_cells::RuleCells;

engine_core::counters! {
    /// What happens to frames and bundles around the pipeline.
    pub struct ShardCounters {
        /// Frames handed to the pipeline.
        frames_read,
        /// Bytes of these frames.
        frames_read_bytes,
        /// Frames that the kernel put into the rings, and those for which it found no space.
        ring_frames,
        /// Frames that the kernel dropped because a ring was full.
        ring_dropped_full,
        /// Times that a ring had no free block.
        ring_freezes,
        /// Rings open now.
        #[gauge]
        rings_open,
        /// Used part of the fullest ring, in thousandths: the most since the kernel's counters were read before the last time.
        #[gauge]
        ring_used_permille,
        /// Part of its time that the thread works, in thousandths: of the last seconds, earlier ones with less weight.
        #[gauge]
        busy_permille,
        /// Calls in the open bundle and in closed ones not yet taken by the outbox, for the first sink.
        #[gauge]
        calls_held,
        /// Calls handed to the outboxes of all sinks.
        calls_pushed,
        /// Bundles handed to the outboxes.
        bundles_pushed,
        /// Calls in bundles that were given up because an outbox and the shard's own queue were full.
        calls_shed_queue_full,
        /// Calls that were counted and thrown away because nothing is to be sent.
        calls_withheld,
        /// Flows that another shard saw too: their directions came to different shards.
        flows_other_shard,
        /// Bundles not compressed because the shard could not keep up.
        bundles_plain_overload,
        /// Changes of the step of load shedding.
        overload_changes,
        /// Shards that do not compress now because they cannot keep up.
        #[gauge]
        overload_plain,
        /// Shards that cut bodies now because they cannot keep up.
        #[gauge]
        overload_thin,
        /// Shards that shed calls now because they cannot keep up.
        #[gauge]
        overload_shed,
        /// Per cent of their calls that these shards shed, summed.
        #[gauge]
        overload_shed_percent,
    }
}

engine_core::counters! {
    /// What one shard did with the calls for one sink.
    pub struct OutletCounters {
        /// Calls in bundles that were given to the sink.
        calls_pushed,
        /// Bundles that were given to the sink.
        bundles_pushed,
        /// Calls in bundles that were shed because the way to the sink was full.
        calls_shed_queue_full,
        /// Calls that were counted and discarded because nothing is to be sent.
        calls_withheld,
        /// Calls in closed bundles that wait at the shard.
        #[gauge]
        calls_waiting,
    }
}

/// Declares [`Stages`], so that a stage is named once.
macro_rules! stages {
    ($($(#[doc = $doc:literal])+ $stage:ident: $counters:ty,)*) => {
        /// The counters of all stages: of one shard, or summed over shards.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stages { $($(#[doc = $doc])+ pub $stage: $counters,)* }

        impl Stages {
            /// Name and cells of each stage, in the order of [`Self::values`].
            const NAMED: &'static [(&'static str, &'static [Field])] =
                &[$((stringify!($stage), <$counters>::FIELDS),)*];

            /// The values of all cells, in the order of [`Self::cells`].
            #[inline]
            pub fn values(&self) -> impl Iterator<Item = u64> + use<> {
                std::iter::empty()$(.chain(self.$stage.values()))*
            }

            /// Takes the next values, as [`Self::values`] gave them.
            fn from_values(values: &mut impl Iterator<Item = u64>) -> Self {
                Self { $($stage: <$counters>::from_values(values),)* }
            }

            /// Adds another shard's counters to these.
            pub fn add(&mut self, other: &Self) {
                $(self.$stage.add(&other.$stage);)*
            }
        }
    };
}

stages! {
    /// Removal of tunnels and tags.
    decap: decap::Counters,
    /// Reassembly.
    flow: flow::Counters,
    /// Messages, and their pairs.
    http: http::Counters,
    /// Lines, and what the rules did.
    message: message::Counters,
    /// What is on its way now.
    held: Held,
    /// What is in no bucket of the ledger.
    unaccounted: Unaccounted,
    /// Rings and bundles around the pipeline.
    shard: ShardCounters,
}

/// Stage, name and meaning of one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `decap`, `flow`, ...
    pub stage: &'static str,
    /// The counter's name in its stage.
    pub name: &'static str,
    /// What one unit is.
    pub help: &'static str,
    /// Whether its value can fall.
    pub kind: Kind,
}

impl Stages {
    /// Of one pipeline, and of the shard around it.
    #[inline]
    pub fn new(ledger: &Ledger, shard: &ShardCounters) -> Self {
        let Ledger {
            decap,
            flow,
            http,
            message,
            held,
        } = *ledger;
        Self {
            decap,
            flow,
            http,
            message,
            held,
            unaccounted: ledger.unaccounted(),
            shard: *shard,
        }
    }

    /// All cells, in the order of [`Self::values`].
    pub fn cells() -> impl Iterator<Item = Cell> {
        Self::NAMED.iter().flat_map(|&(stage, fields)| {
            fields.iter().map(move |&Field { name, help, kind }| Cell {
                stage,
                name,
                help,
                kind,
            })
        })
    }

    /// The values by stage and name, as they are written to JSON.
    pub fn by_name(&self) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut stages: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (cell, value) in Self::cells().zip(self.values()) {
            let stage = stages.entry(cell.stage.to_owned()).or_default();
            stage.insert(cell.name.to_owned(), value);
        }
        stages
    }
}

impl<'a> FromIterator<&'a Stages> for Stages {
    /// The sum over shards.
    fn from_iter<I: IntoIterator<Item = &'a Stages>>(shards: I) -> Self {
        let mut sum = Self::default();
        for shard in shards {
            sum.add(shard);
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_has_its_name_in_json() {
        let mut stages = Stages::default();
        stages.shard.frames_read = 3;
        stages.http.requests = 5;
        let sum = Stages::from_iter([&stages, &stages]);
        let named = sum.by_name();
        assert_eq!(
            (named["shard"]["frames_read"], named["http"]["requests"]),
            (6, 10)
        );
        assert_eq!(named.len(), 7);
        let count: usize = named.values().map(BTreeMap::len).sum();
        assert_eq!(count, Stages::cells().count());
    }
}
