//! What a shard publishes, where other threads can read it: plain stores by the shard, once a block, and no lock anywhere.
//!
//! The cells of one moment belong together (the ledger balances or does not), so a version number stands beside them:
//! odd while the shard writes. A reader that meets an odd or changed number reads again. The shard never waits.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use engine_core::decap::VniSeen;
use engine_core::flow::{CopiedPlaces, CopyTable};
use engine_core::http::{PortCounts, PortFlows, PortTable, Protocol};
use engine_core::limits::{
    COPY_PLACES_MAX, PORTS_NAMED_MAX, RULE_SETS_AT_ONCE_MAX, UPLOAD_SENDER_BYTES_MAX,
    UPLOAD_SENDERS_NAMED_MAX, VNIS_SEEN_MAX,
};
use engine_core::message;
use engine_core::message::{Durations, NETWORKS_MAX, NetworkCalls, NetworkTable};
use engine_core::uploads::{Sender, SenderTable, SenderUploads};

use super::{OutletCounters, Stages};
use crate::limits::SINKS_MAX;

/// Cells of one port: its number, and its flows by protocol. All are 0 without such a port.
const PORT_CELLS: usize = 1 + Protocol::COLUMNS.len();

/// Cells of one port that is not wanted: its number and its flows.
const UNWANTED_CELLS: usize = 2;

/// Cells of one network: its number, its frames, and 1 if it is wanted.
const VNI_CELLS: usize = 3;

/// Cells of one other sniffer: how many of its uploads were skipped, and its name. All are 0 without one.
const SENDER_CELLS: usize = 1 + UPLOAD_SENDER_BYTES_MAX / size_of::<u64>();

/// Cells of one sink: what the shard did with the calls for it.
const SINK_CELLS: usize = OutletCounters::FIELDS.len();

/// Cells of a rule set: its outcomes, and its stream parts.
const RULE_SET_CELLS: usize = message::Counters::FIELDS.len() + 1;

/// Cells of each table, in their order behind the counters.
const TABLES: [usize; 9] = [
    PORTS_NAMED_MAX * PORT_CELLS,
    PORTS_NAMED_MAX * UNWANTED_CELLS,
    VNIS_SEEN_MAX * VNI_CELLS,
    UPLOAD_SENDERS_NAMED_MAX * SENDER_CELLS,
    COPY_PLACES_MAX * CopiedPlaces::CELLS,
    SINKS_MAX * SINK_CELLS,
    (RULE_SETS_AT_ONCE_MAX - 1) * RULE_SET_CELLS,
    Durations::CELLS,
    NETWORKS_MAX * NetworkCalls::CELLS,
];

/// What became of the calls under one rule set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleSetCounters {
    /// The outcomes.
    pub message: message::Counters,
    /// Lines of streams that are written in parts, without the last line of each.
    pub stream_parts: u64,
}

impl RuleSetCounters {
    /// Those of the first rule set, which are counters of the stages.
    pub fn first(stages: &Stages) -> Self {
        Self {
            message: stages.message,
            stream_parts: stages.http.stream_parts,
        }
    }

    /// Adds another shard's counters to these.
    pub fn add(&mut self, other: &Self) {
        self.message.add(&other.message);
        self.stream_parts += other.stream_parts;
    }
}

/// Attempts to read while a shard may be writing, before the reader takes what it got: a write lasts a microsecond in a
/// hundred, but the shard may lose its core in the middle of it.
const READ_TRIES_MAX: usize = 1000;

/// Attempts without a pause between them.
const READ_TRIES_AT_ONCE: usize = 100;

/// The pause: long for a write, short for somebody who waits for a status.
const READ_PAUSE: Duration = Duration::from_micros(100);

/// The cells. One shard writes, any thread reads.
#[derive(Debug)]
pub struct Published {
    version: AtomicU64,
    cells: Box<[AtomicU64]>,
}

/// What one shard has counted at one moment.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// The counters.
    pub stages: Stages,
    /// Flows by server port and protocol.
    pub ports: PortTable,
    /// Flows with no wanted port, by server port.
    pub unwanted: PortCounts,
    /// Networks in tunnels.
    pub vnis: Vec<VniSeen>,
    /// Skipped uploads of other sniffers.
    pub senders: SenderTable,
    /// The pairs of networks in which the same connections were captured.
    pub copies: CopyTable,
    /// What the shard did with the calls for each sink; all zero for those that are not there.
    pub sinks: [OutletCounters; SINKS_MAX],
    /// Each rule set; all zero for those that are not there.
    pub rule_sets: [RuleSetCounters; RULE_SETS_AT_ONCE_MAX],
    /// How long calls took.
    pub durations: Durations,
    /// The calls of each network.
    pub networks: NetworkTable,
}

/// The tables that a shard publishes.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    /// Flows by server port and protocol.
    pub ports: &'a PortTable,
    /// Flows with no wanted port, by server port.
    pub unwanted: &'a PortCounts,
    /// Networks in tunnels.
    pub vnis: &'a [VniSeen],
    /// Skipped uploads of other sniffers.
    pub senders: &'a SenderTable,
    /// The pairs of networks in which the same connections were captured.
    pub copies: &'a CopyTable,
    /// What the shard did with the calls for each sink.
    pub sinks: &'a [OutletCounters],
    /// The rule sets behind the first one, whose counters are those of the stages.
    pub further: &'a [RuleSetCounters],
    /// How long calls took.
    pub durations: Durations,
    /// The calls of each network.
    pub networks: &'a [NetworkCalls],
}

impl Default for Published {
    fn default() -> Self {
        let count = Stages::cells().count() + TABLES.iter().sum::<usize>();
        Self {
            version: AtomicU64::new(0),
            cells: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Published {
    /// Publishes one moment. Only the owning shard calls this.
    #[inline]
    pub fn store(&self, stages: &Stages, tables: Tables<'_>) {
        let ports = tables.ports.rows().iter();
        let ports = ports.flat_map(|row| std::iter::once(row.port.into()).chain(row.flows));
        let unwanted = tables.unwanted.rows().iter();
        let unwanted = unwanted.flat_map(|&(port, flows)| [port.into(), flows]);
        let vnis = tables.vnis.iter();
        let vnis = vnis.flat_map(|seen| [seen.vni.into(), seen.frames, seen.wanted.into()]);
        let senders = tables.senders.rows().iter();
        let senders =
            senders.flat_map(|row| std::iter::once(row.uploads).chain(row.sender.words()));
        let copies = tables.copies.rows().iter().flat_map(CopiedPlaces::cells);
        let sinks = tables.sinks.iter().flat_map(OutletCounters::values);
        let further = tables.further.iter().flat_map(|set| {
            let outcomes = set.message.values();
            outcomes.chain(std::iter::once(set.stream_parts))
        });
        let networks = tables.networks.iter().flat_map(NetworkCalls::cells);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // No cell is written before the version is odd.
        fence(Ordering::Release);
        let [
            counters,
            of_ports,
            of_unwanted,
            of_vnis,
            of_senders,
            of_copies,
            of_sinks,
            of_further,
            of_durations,
            of_networks,
        ] = parts(&self.cells);
        put(counters, stages.values());
        put(of_ports, ports);
        put(of_unwanted, unwanted);
        put(of_vnis, vnis);
        put(of_senders, senders);
        put(of_copies, copies);
        put(of_sinks, sinks);
        put(of_further, further);
        put(of_durations, tables.durations.cells());
        put(of_networks, networks);
        self.version.store(version + 2, Ordering::Release);
    }

    /// A number that grows with each moment that is published.
    #[inline]
    pub fn beat(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// What was published last.
    pub fn sample(&self) -> Sample {
        let values = self.load();
        let [
            counters,
            ports,
            unwanted,
            vnis,
            senders,
            copies,
            sinks,
            further,
            durations,
            networks,
        ] = parts(&values);
        let mut sample = Sample {
            stages: Stages::from_values(&mut counters.iter().copied()),
            durations: Durations::from_cells(&mut durations.iter().copied()),
            ..Sample::default()
        };
        let (rows, _) = networks.as_chunks();
        let rows = rows.iter().map(|cells| NetworkCalls::from_cells(*cells));
        for row in rows.take_while(NetworkCalls::is_used) {
            sample.networks.add(&row);
        }
        let (rows, _) = sinks.as_chunks::<SINK_CELLS>();
        for (sink, cells) in sample.sinks.iter_mut().zip(rows) {
            *sink = OutletCounters::from_values(&mut cells.iter().copied());
        }
        let (rows, _) = further.as_chunks::<RULE_SET_CELLS>();
        let [first, rest @ ..] = &mut sample.rule_sets;
        *first = RuleSetCounters::first(&sample.stages);
        for (set, cells) in rest.iter_mut().zip(rows) {
            let mut cells = cells.iter().copied();
            set.message = message::Counters::from_values(&mut cells);
            set.stream_parts = cells.next().unwrap_or_default();
        }
        let (rows, _) = ports.as_chunks::<PORT_CELLS>();
        let rows = rows.iter().map(|&[port, ref flows @ ..]| PortFlows {
            port: number(port),
            flows: *flows,
        });
        let is_used = |row: &PortFlows| row.flows.iter().any(|flows| *flows > 0);
        sample.ports.extend(rows.take_while(is_used));
        let (rows, _) = unwanted.as_chunks::<UNWANTED_CELLS>();
        for &[port, flows] in rows.iter().take_while(|[_, flows]| *flows > 0) {
            sample.unwanted.add(number(port), flows);
        }
        let (rows, _) = vnis.as_chunks::<VNI_CELLS>();
        let rows = rows.iter().take_while(|[_, frames, _]| *frames > 0);
        sample
            .vnis
            .extend(rows.map(|&[vni, frames, wanted]| VniSeen {
                vni: number(vni),
                frames,
                wanted: wanted > 0,
            }));
        let (rows, _) = senders.as_chunks::<SENDER_CELLS>();
        let rows = rows.iter().map(|&[uploads, ref name @ ..]| SenderUploads {
            sender: Sender::from_words(*name),
            uploads,
        });
        sample
            .senders
            .extend(rows.take_while(|row| row.uploads > 0));
        let (rows, _) = copies.as_chunks();
        let rows = rows.iter().map(|cells| CopiedPlaces::from_cells(*cells));
        sample
            .copies
            .extend(rows.take_while(|row| row.connections > 0));
        sample
    }

    /// The cells of one moment.
    fn load(&self) -> Vec<u64> {
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
            if tries < READ_TRIES_AT_ONCE {
                std::hint::spin_loop();
            } else {
                std::thread::sleep(READ_PAUSE);
            }
        }
        values
    }
}

/// The cells of the counters, and those of each table.
#[inline]
fn parts<T>(cells: &[T]) -> [&[T]; TABLES.len() + 1] {
    let (counters, mut rest) = cells.split_at(cells.len() - TABLES.iter().sum::<usize>());
    let mut parts = [counters; TABLES.len() + 1];
    for (part, length) in parts[1..].iter_mut().zip(TABLES) {
        (*part, rest) = rest.split_at(length);
    }
    parts
}

#[inline]
fn put(cells: &[AtomicU64], values: impl Iterator<Item = u64>) {
    for (cell, value) in cells.iter().zip(values) {
        cell.store(value, Ordering::Relaxed);
    }
}

/// A number that was stored as a wider one.
fn number<T: TryFrom<u64> + Default>(value: u64) -> T {
    T::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shard_stores_is_what_others_read() {
        let mut stages = Stages::default();
        stages.shard.frames_read = 3;
        stages.decap.frames = 4;
        stages.unaccounted.lines = 5;
        let mut ports = PortTable::default();
        ports.extend([443, 80].map(|port| PortFlows {
            port,
            flows: Protocol::COLUMNS.map(|column| column as u64),
        }));
        let mut unwanted = PortCounts::default();
        unwanted.add(8080, 7);
        let vnis = [(5, true), (9, false)].map(|(vni, wanted)| VniSeen {
            vni,
            frames: 11,
            wanted,
        });
        let published = Published::default();
        let mut senders = SenderTable::default();
        senders.record(Sender::new(b"web-3"));
        let mut copies = CopyTable::default();
        copies.extend([CopiedPlaces {
            connections: 3,
            ..CopiedPlaces::default()
        }]);
        let mut further = RuleSetCounters {
            stream_parts: 13,
            ..RuleSetCounters::default()
        };
        further.message.calls_seen = 12;
        let tables = Tables {
            ports: &ports,
            unwanted: &unwanted,
            vnis: &vnis,
            senders: &senders,
            copies: &copies,
            sinks: &[1, 2].map(|calls_pushed| OutletCounters {
                calls_pushed,
                ..OutletCounters::default()
            }),
            further: &[further],
            durations: Durations::from_cells(&mut (1..)),
            networks: &[NetworkCalls::from_cells(std::array::from_fn(|cell| {
                cell as u64
            }))],
        };
        published.store(&stages, tables);
        let sample = published.sample();
        assert_eq!(sample.sinks.map(|sink| sink.calls_pushed)[..3], [1, 2, 0]);
        assert_eq!(sample.rule_sets[0], RuleSetCounters::first(&stages));
        assert_eq!(sample.rule_sets[1], further);
        assert_eq!(sample.rule_sets[2], RuleSetCounters::default());
        assert_eq!(sample.stages, stages);
        assert_eq!(sample.ports.rows(), ports.rows());
        assert_eq!(sample.unwanted, unwanted);
        assert_eq!(sample.vnis, vnis);
        assert_eq!(sample.senders.rows(), senders.rows());
        assert_eq!(sample.copies, copies);
        assert_eq!(sample.durations, tables.durations);
        assert_eq!(sample.networks.rows(), tables.networks);
    }

    #[test]
    fn a_reader_never_sees_parts_of_two_moments() {
        let published = Published::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for moment in 1..=20_000 {
                    let mut stages = Stages::default();
                    stages.decap.frames = moment;
                    stages.shard.calls_withheld = moment;
                    let tables = Tables {
                        ports: &PortTable::default(),
                        unwanted: &PortCounts::default(),
                        vnis: &[],
                        senders: &SenderTable::default(),
                        copies: &CopyTable::default(),
                        sinks: &[],
                        further: &[],
                        durations: Durations::default(),
                        networks: &[],
                    };
                    published.store(&stages, tables);
                    // A shard reads a block between two of these.
                    (0..1000).for_each(|_| std::hint::spin_loop());
                }
            });
            for _ in 0..2_000 {
                let stages = published.sample().stages;
                assert_eq!(stages.decap.frames, stages.shard.calls_withheld);
            }
        });
    }
}
