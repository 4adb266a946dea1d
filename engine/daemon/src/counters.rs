//! A shard's counters, and what each port spoke, where others can read them: plain stores by the shard, once a block, and
//! no lock anywhere.
//!
//! The cells of one moment belong together (the ledger balances or does not), so a version number stands beside them:
//! odd while the shard writes. A reader that meets an odd or changed number reads again. The shard never waits.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use engine_core::http::{PortFlows, PortTable};
use engine_core::ledger::{Field, Kind};
use engine_core::limits::PORTS_NAMED_MAX;
use engine_core::pipeline::{Held, Ledger, Unaccounted};
use engine_core::{decap, flow, http, message};

mod rule_cells;

pub use rule_cells::HitCells;

engine_core::counters! {
    /// What happens to frames and bundles around the pipeline.
    pub struct ShardCounters {
        /// Frames handed to the pipeline.
        frames_read,
        /// Bytes of these frames.
        frames_read_bytes,
        /// Frames of our own upload, not read.
        frames_ignored_own_upload,
        /// Frames that the kernel put into our rings or wanted to.
        ring_frames,
        /// Frames that the kernel dropped because a ring was full.
        ring_dropped_full,
        /// Times that a ring had no free block.
        ring_freezes,
        /// Rings open now.
        #[gauge]
        rings_open,
        /// Calls in the open bundle and in closed ones not yet taken by the outbox.
        #[gauge]
        calls_held,
        /// Calls handed to the outbox.
        calls_pushed,
        /// Bundles handed to the outbox.
        bundles_pushed,
        /// Calls in bundles that were given up because the outbox and the shard's own queue were full.
        calls_shed_queue_full,
        /// Calls that were counted and thrown away because nothing is to be sent.
        calls_withheld,
        /// Flows that another shard saw too: their directions came to different shards.
        flows_other_shard,
        /// Bundles not compressed because the shard could not keep up.
        bundles_plain_overload,
        /// Changes of the step of what is left out because a shard cannot keep up.
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

/// Stages in the order of the cells.
const STAGES: [(&str, &[Field]); 7] = [
    ("decap", decap::Counters::FIELDS),
    ("flow", flow::Counters::FIELDS),
    ("http", http::Counters::FIELDS),
    ("message", message::Counters::FIELDS),
    ("held", Held::FIELDS),
    ("unaccounted", Unaccounted::FIELDS),
    ("shard", ShardCounters::FIELDS),
];

/// What a cell counts.
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

impl Cell {
    /// Whether its value can fall.
    pub fn is_gauge(&self) -> bool {
        self.kind == Kind::Gauge
    }
}

/// All cells, in the order of [`Published::load`].
pub fn cells() -> impl Iterator<Item = Cell> {
    STAGES.into_iter().flat_map(|(stage, fields)| {
        fields.iter().map(move |&Field { name, help, kind }| Cell {
            stage,
            name,
            help,
            kind,
        })
    })
}

/// Cells of one port, behind the counters: its number, and its flows by what they spoke. All are 0 without such a port.
const PORT_CELLS: usize = 5;

/// Adds up what each port spoke, of the cells of all shards.
pub fn ports_of(shards: impl IntoIterator<Item = impl AsRef<[u64]>>) -> PortTable {
    let mut sum = PortTable::default();
    for shard in shards {
        let ports = shard.as_ref().get(cells().count()..).unwrap_or_default();
        let rows = ports.as_chunks().0.iter();
        let rows = rows.map(
            |&[port, http, tls, http2, other]: &[u64; PORT_CELLS]| PortFlows {
                // It was one when it was stored.
                port: u16::try_from(port).unwrap_or(u16::MAX),
                http,
                tls,
                http2,
                other,
            },
        );
        let is_used = |row: &PortFlows| row.http + row.tls + row.http2 + row.other > 0;
        sum.extend(rows.take_while(is_used));
    }
    sum
}

/// Reads that may meet a writing shard before the reader takes what it gets: a write is a microsecond in a hundred, but
/// the shard may lose its core in the middle of it.
const READ_TRIES_MAX: usize = 1000;

/// Tries without a pause between them.
const READ_TRIES_AT_ONCE: usize = 100;

/// The pause, long for a write and short for somebody who asks for a status.
const READ_PAUSE: Duration = Duration::from_micros(100);

/// The cells. One shard writes, anybody reads.
#[derive(Debug)]
pub struct Published {
    version: AtomicU64,
    cells: Box<[AtomicU64]>,
}

impl Default for Published {
    fn default() -> Self {
        let count = cells().count() + PORTS_NAMED_MAX * PORT_CELLS;
        Self {
            version: AtomicU64::new(0),
            cells: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Published {
    /// Publishes one moment. Only the owning shard calls this.
    pub fn store(&self, ledger: &Ledger, shard: &ShardCounters, ports: &PortTable) {
        let ports = ports.rows().iter();
        let ports =
            ports.flat_map(|row| [row.port.into(), row.http, row.tls, row.http2, row.other]);
        let values = (ledger.decap.values())
            .chain(ledger.flow.values())
            .chain(ledger.http.values())
            .chain(ledger.message.values())
            .chain(ledger.held.values())
            .chain(ledger.unaccounted().values())
            .chain(shard.values())
            .chain(ports);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // No cell is written before the version is odd.
        fence(Ordering::Release);
        for (cell, value) in self.cells.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// A number that grows with each moment that is published.
    pub fn beat(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// The cells of one moment.
    pub fn load(&self) -> Vec<u64> {
        let mut values = Vec::new();
        for tries in 0..READ_TRIES_MAX {
            let before = self.version.load(Ordering::Acquire);
            values = self
                .cells
                .iter()
                .map(|cell| cell.load(Ordering::Relaxed))
                .collect();
            // No cell is read after the version is compared.
            fence(Ordering::Acquire);
            if before.is_multiple_of(2) && self.version.load(Ordering::Relaxed) == before {
                break;
            }
            match tries < READ_TRIES_AT_ONCE {
                true => std::hint::spin_loop(),
                false => std::thread::sleep(READ_PAUSE),
            }
        }
        values
    }
}

/// All counters by stage and name, summed over shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stages(pub BTreeMap<String, BTreeMap<String, u64>>);

impl Stages {
    /// Of all shards.
    pub fn sum<'a>(shards: impl IntoIterator<Item = &'a Published>) -> Self {
        Self::sum_of(shards.into_iter().map(Published::load))
    }

    /// Of the cells of all shards.
    pub fn sum_of(shards: impl IntoIterator<Item = impl AsRef<[u64]>>) -> Self {
        let mut sum = Self::default();
        for shard in shards {
            for (cell, value) in cells().zip(shard.as_ref()) {
                let stage = sum.0.entry(cell.stage.to_owned()).or_default();
                *stage.entry(cell.name.to_owned()).or_default() += value;
            }
        }
        sum
    }

    /// Of one pipeline that stands still, and of what was read for it.
    pub fn of(ledger: &Ledger, shard: &ShardCounters) -> Self {
        let published = Published::default();
        published.store(ledger, shard, &PortTable::default());
        Self::sum([&published])
    }

    /// One counter; 0 when there is none of that name.
    pub fn get(&self, stage: &str, name: &str) -> u64 {
        self.0
            .get(stage)
            .and_then(|cells| cells.get(name))
            .copied()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_arrives_under_its_name() {
        let shards = [Published::default(), Published::default()];
        let counters = ShardCounters {
            frames_read: 3,
            calls_withheld: 5,
            ..ShardCounters::default()
        };
        for shard in &shards {
            let mut ports = PortTable::default();
            ports.extend([443, 80].map(|port| PortFlows {
                port,
                tls: 60,
                ..PortFlows::default()
            }));
            shard.store(&Ledger::default(), &counters, &ports);
        }
        let stages = Stages::sum(&shards);
        assert_eq!(
            (
                stages.get("shard", "frames_read"),
                stages.get("shard", "calls_withheld")
            ),
            (6, 10)
        );
        assert_eq!(stages.0.len(), 7);
        let ports = ports_of(shards.iter().map(Published::load));
        let named: Vec<_> = ports.rows().iter().map(|row| (row.port, row.tls)).collect();
        assert_eq!(named, [(443, 120), (80, 120)]);
    }

    #[test]
    fn a_reader_never_sees_half_a_moment() {
        let published = Published::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for moment in 1..=20_000 {
                    let counters = ShardCounters {
                        frames_read: moment,
                        calls_withheld: moment,
                        ..ShardCounters::default()
                    };
                    published.store(&Ledger::default(), &counters, &PortTable::default());
                    // A shard reads a block between two of these.
                    (0..1000).for_each(|_| std::hint::spin_loop());
                }
            });
            for _ in 0..2_000 {
                let stages = Stages::sum([&published]);
                assert_eq!(
                    stages.get("shard", "frames_read"),
                    stages.get("shard", "calls_withheld")
                );
            }
        });
    }
}
