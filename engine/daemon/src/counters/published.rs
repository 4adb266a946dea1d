//! What a shard publishes, where other threads can read it: plain stores by the shard, once a block, and no lock anywhere.
//!
//! The cells of one moment belong together (the ledger balances or does not), so a version number stands beside them:
//! odd while the shard writes. A reader that meets an odd or changed number reads again. The shard never waits.

use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::time::Duration;

use engine_core::flow::{CopiedPlaces, CopyTable};
use engine_core::http::{PortFlows, PortTable, Protocol};
use engine_core::limits::{
    COPY_PLACES_MAX, PORTS_NAMED_MAX, UPLOAD_SENDER_BYTES_MAX, UPLOAD_SENDERS_NAMED_MAX,
};
use engine_core::uploads::{Sender, SenderTable, SenderUploads};

use super::Stages;

/// Cells of the pairs of networks with copies, after the ports.
const COPY_CELLS: usize = COPY_PLACES_MAX * CopiedPlaces::CELLS;

/// Cells of one port, after the counters: its number, and its flows by protocol. All are 0 without such a port.
const PORT_CELLS: usize = 1 + Protocol::COLUMNS.len();

/// Cells of one other sniffer, after the ports: how many of its uploads were skipped, and its name. All are 0 without one.
const SENDER_CELLS: usize = 1 + UPLOAD_SENDER_BYTES_MAX / size_of::<u64>();

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
    /// Skipped uploads of other sniffers.
    pub senders: SenderTable,
    /// The pairs of networks in which the same connections were captured.
    pub copies: CopyTable,
}

impl Default for Published {
    fn default() -> Self {
        let count = Stages::cells().count()
            + PORTS_NAMED_MAX * PORT_CELLS
            + UPLOAD_SENDERS_NAMED_MAX * SENDER_CELLS
            + COPY_CELLS;
        Self {
            version: AtomicU64::new(0),
            cells: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Published {
    /// Publishes one moment. Only the owning shard calls this.
    pub fn store(
        &self,
        stages: &Stages,
        ports: &PortTable,
        senders: &SenderTable,
        copies: &CopyTable,
    ) {
        let rows = ports.rows().iter();
        let rows = rows.flat_map(|row| std::iter::once(row.port.into()).chain(row.flows));
        let senders = senders.rows().iter();
        let senders =
            senders.flat_map(|row| std::iter::once(row.uploads).chain(row.sender.words()));
        let values = stages.values().chain(rows);
        let places = copies.rows().iter().flat_map(CopiedPlaces::cells);
        let version = self.version.load(Ordering::Relaxed);
        self.version.store(version + 1, Ordering::Relaxed);
        // No cell is written before the version is odd.
        fence(Ordering::Release);
        for (cell, value) in self.cells.iter().zip(values) {
            cell.store(value, Ordering::Relaxed);
        }
        let (rest, last) = self.cells.split_at(self.cells.len() - COPY_CELLS);
        for (cell, value) in last.iter().zip(places) {
            cell.store(value, Ordering::Relaxed);
        }
        let behind = rest.len() - UPLOAD_SENDERS_NAMED_MAX * SENDER_CELLS;
        for (cell, value) in rest[behind..].iter().zip(senders) {
            cell.store(value, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    /// A number that grows with each moment that is published.
    pub fn beat(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// What was published last.
    pub fn sample(&self) -> Sample {
        let mut values = self.load().into_iter();
        let stages = Stages::from_values(&mut values);
        let mut ports = PortTable::default();
        let rest = values.as_slice();
        let (rest, places) = rest.split_at(rest.len().saturating_sub(COPY_CELLS));
        let (rows, behind) = rest.split_at(PORTS_NAMED_MAX * PORT_CELLS);
        let (rows, _) = rows.as_chunks();
        let rows = rows
            .iter()
            .map(|&[port, ref flows @ ..]: &[u64; PORT_CELLS]| PortFlows {
                // It was one when it was stored.
                port: u16::try_from(port).unwrap_or(u16::MAX),
                flows: *flows,
            });
        let is_used = |row: &PortFlows| row.flows.iter().any(|flows| *flows > 0);
        ports.extend(rows.take_while(is_used));
        let mut senders = SenderTable::default();
        let (rows, _) = behind.as_chunks();
        let rows =
            rows.iter().map(
                |&[uploads, ref name @ ..]: &[u64; SENDER_CELLS]| SenderUploads {
                    sender: Sender::from_words(*name),
                    uploads,
                },
            );
        senders.extend(rows.take_while(|row| row.uploads > 0));
        let (places, _) = places.as_chunks();
        let places = places.iter().map(|cells| CopiedPlaces::from_cells(*cells));
        let mut copies = CopyTable::default();
        copies.extend(places.take_while(|row| row.connections > 0));
        Sample {
            stages,
            ports,
            senders,
            copies,
        }
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
        let published = Published::default();
        let mut senders = SenderTable::default();
        senders.record(Sender::new(b"web-3"));
        let row = CopiedPlaces {
            connections: 3,
            ..CopiedPlaces::default()
        };
        let mut copies = CopyTable::default();
        copies.extend([row]);
        published.store(&stages, &ports, &senders, &copies);
        let sample = published.sample();
        assert_eq!(sample.senders.rows(), senders.rows());
        assert_eq!(sample.copies, copies);
        assert_eq!(sample.stages, stages);
        assert_eq!(sample.ports.rows(), ports.rows());
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
                    let (ports, senders) = (PortTable::default(), SenderTable::default());
                    published.store(&stages, &ports, &senders, &CopyTable::default());
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
