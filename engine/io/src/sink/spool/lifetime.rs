//! The totals of all processes that have used a spool, in the file `ledger` of its folder. `docs/spool.md` describes it.
//!
//! Each process adds to what it found, and writes the sums after each change of the segments and every
//! [`IN_FLIGHT_EVERY`](limits::IN_FLIGHT_EVERY). The next one compares them with what waits on disk: calls that should be there
//! and are not were in flight when a process was killed. So the totals balance, whatever ended the processes between.
//!
//! There are two copies, written in turn, so that a power loss within a write leaves the other one.

use std::io;
use std::os::unix::fs::FileExt as _;

use store::folder::Folder;

use super::format::crc;
use crate::status::{self, Calls, DROP_REASONS as REASONS};

/// Name of the file.
const NAME: &str = "ledger";

/// What a copy begins with.
const MAGIC: [u8; 8] = *b"SNLEDGR1";

/// Octets of a copy.
const BYTES: usize = 256;

/// Where the copies are, in different pages of the file.
const PLACES: [u64; 2] = [0, 4096];

/// Where the checksum is in a copy.
const CRC_AT: usize = BYTES - 4;

/// Places for reasons; the last one is for those without a place of their own.
const REASONS_MAX: usize = 16;

const _: () = assert!(REASONS.len() < REASONS_MAX, "each reason has a place");

/// What became of the calls of processes that have ended, and of the present one as far as it is added:
/// `seen + stream_parts + found = sent + stopped + sampled + dropped + killed`, and what they left in the spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    /// When the first of them began, in milliseconds since 1970.
    pub began: u64,
    /// How many they are, the present one included.
    pub processes: u64,
    /// Calls that were in the spool although no ledger has them.
    pub found: u64,
    /// Calls that were in flight when a process was killed: lost, but for those delivered after its last write.
    pub killed: u64,
    /// See [`Calls::seen`].
    pub seen: u64,
    /// See [`Calls::stream_parts`].
    pub stream_parts: u64,
    /// See [`Calls::sent`].
    pub sent: u64,
    /// See [`Calls::stopped`].
    pub stopped: u64,
    /// See [`Calls::sampled`].
    pub sampled: u64,
    /// In the order of [`DROP_REASONS`](status::DROP_REASONS).
    dropped: [u64; REASONS_MAX],
}

impl Lifetime {
    /// With the calls of one more process, as far as they are decided.
    #[must_use]
    pub fn with(mut self, calls: &Calls) -> Self {
        self.seen += calls.seen;
        self.stream_parts += calls.stream_parts;
        self.sent += calls.sent;
        self.stopped += calls.stopped;
        self.sampled += calls.sampled;
        for (reason, count) in &calls.dropped {
            let place = REASONS.iter().position(|known| known == reason);
            let place = place.unwrap_or(REASONS_MAX - 1);
            if let Some(sum) = self.dropped.get_mut(place) {
                *sum += count;
            }
        }
        self
    }

    /// Calls dropped, by reason; those without any are left out.
    pub fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let names = REASONS.into_iter().map(Some).chain(std::iter::repeat(None));
        let counts = names.zip(self.dropped);
        counts
            .map(|(name, count)| (name.unwrap_or("other"), count))
            .filter(|(_, count)| *count > 0)
    }

    /// For people, with the calls of this process.
    pub fn status(&self, calls: &Calls) -> status::Lifetime {
        let sum = self.with(calls);
        let dropped = sum.dropped();
        let all = Calls {
            seen: sum.seen,
            stream_parts: sum.stream_parts,
            recovered: sum.found,
            sent: sum.sent,
            stopped: sum.stopped,
            sampled: sum.sampled,
            dropped: dropped
                .map(|(name, count)| (name.to_owned(), count))
                .collect(),
            spooled: calls.spooled,
            in_flight: calls.in_flight,
            unaccounted: 0,
        };
        let all = all.balanced();
        status::Lifetime {
            began_millis: sum.began,
            processes: sum.processes,
            killed: sum.killed,
            calls: Calls {
                unaccounted: all.unaccounted - sum.killed.cast_signed(),
                ..all
            },
        }
    }

    /// Calls that have come and are not decided: those in the spool and in flight.
    fn left(&self) -> u64 {
        let came = self.seen + self.stream_parts + self.found;
        let dropped: u64 = self.dropped.iter().sum();
        let decided = self.sent + self.stopped + self.sampled + dropped + self.killed;
        came.saturating_sub(decided)
    }

    /// Balanced with what waits in the spool.
    fn balanced_with(mut self, waiting: u64) -> Self {
        let left = self.left();
        self.killed += left.saturating_sub(waiting);
        self.found += waiting.saturating_sub(self.left());
        self
    }

    fn numbers(&self) -> [u64; 9] {
        [
            self.began,
            self.processes,
            self.found,
            self.killed,
            self.seen,
            self.stream_parts,
            self.sent,
            self.stopped,
            self.sampled,
        ]
    }

    fn octets(&self, write: u64) -> [u8; BYTES] {
        let mut octets = [0; BYTES];
        octets[..8].copy_from_slice(&MAGIC);
        let numbers = [write]
            .into_iter()
            .chain(self.numbers())
            .chain(self.dropped);
        for (place, number) in octets[8..CRC_AT].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let check = crc(&octets[..CRC_AT]);
        octets[CRC_AT..].copy_from_slice(&check.to_le_bytes());
        octets
    }

    /// A copy, and the number of its write.
    fn read(octets: &[u8; BYTES]) -> Option<(u64, Self)> {
        let (rest, check) = octets.split_last_chunk()?;
        let is_whole = rest.starts_with(&MAGIC) && crc(rest) == u32::from_le_bytes(*check);
        is_whole.then_some(())?;
        let (numbers, _) = rest.get(8..)?.as_chunks();
        let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
        let mut next = || numbers.next().unwrap_or_default();
        let write = next();
        let lifetime = Self {
            began: next(),
            processes: next(),
            found: next(),
            killed: next(),
            seen: next(),
            stream_parts: next(),
            sent: next(),
            stopped: next(),
            sampled: next(),
            dropped: std::array::from_fn(|_| next()),
        };
        Some((write, lifetime))
    }
}

/// The file.
pub(super) struct Ledger {
    folder: Folder,
    file: Option<std::fs::File>,
    /// The number of the next write.
    write: u64,
    /// What was there when this process began, balanced with what it found.
    before: Lifetime,
    /// What is there now, as far as the disk took it.
    written: Option<Lifetime>,
}

impl Ledger {
    /// Reads what earlier processes left, for one that found so many calls in the spool. `now`: milliseconds since 1970.
    pub(super) fn open(folder: &Folder, waiting: u64, now: u64) -> Self {
        let mut ledger = Self {
            folder: folder.clone(),
            file: None,
            write: 0,
            before: Lifetime::default(),
            written: None,
        };
        let newest = ledger.newest();
        let (write, before) = newest.unwrap_or_default();
        ledger.write = write + 1;
        ledger.before = before.balanced_with(waiting);
        ledger.before.processes += 1;
        if ledger.before.began == 0 {
            ledger.before.began = now;
        }
        // Both copies have their place on the disk from now on: a full one does not end the count.
        for _ in PLACES {
            ledger.written = None;
            ledger.write(&ledger.before.clone());
        }
        ledger
    }

    /// What was there when this process began.
    pub(super) fn before(&self) -> Lifetime {
        self.before
    }

    /// Writes the sums with the calls of this process. What fails is tried again with the next change: the disk may be full.
    pub(super) fn add(&mut self, calls: &Calls) {
        let sum = self.before.with(calls);
        self.write(&sum);
    }

    fn write(&mut self, sum: &Lifetime) {
        if self.written == Some(*sum) {
            return;
        }
        let octets = sum.octets(self.write);
        let place = PLACES[usize::from(self.write % 2 == 1)];
        let written = self
            .file()
            .and_then(|file| file.write_all_at(&octets, place));
        if written.is_ok() {
            self.write += 1;
            self.written = Some(*sum);
        }
    }

    /// Brings it to the disk itself.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), std::fs::File::sync_data)
    }

    /// The newest whole copy.
    fn newest(&mut self) -> Option<(u64, Lifetime)> {
        let file = self.file().ok()?;
        let copies = PLACES.into_iter().filter_map(|place| {
            let mut octets = [0; BYTES];
            file.read_exact_at(&mut octets, place).ok()?;
            Lifetime::read(&octets)
        });
        copies.max_by_key(|(write, _)| *write)
    }

    fn file(&mut self) -> io::Result<&std::fs::File> {
        if self.file.is_none() {
            let opened = self.folder.file(NAME).map_err(io::Error::other)?;
            self.file = Some(opened.file);
        }
        self.file
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, Folder) {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::open(home.path()).unwrap();
        (home, folder)
    }

    fn calls(seen: u64, sent: u64, refused: u64) -> Calls {
        Calls {
            seen,
            sent,
            dropped: [("refused".to_owned(), refused)].into(),
            ..Calls::default()
        }
    }

    /// What the next process finds, with so many calls waiting: found, killed, and how many are left.
    #[track_caller]
    fn check(folder: &Folder, waiting: u64, found: u64, killed: u64) -> Ledger {
        let ledger = Ledger::open(folder, waiting, 5);
        let before = ledger.before();
        assert_eq!((before.found, before.killed), (found, killed));
        assert_eq!(before.left(), waiting, "balanced");
        ledger
    }

    #[test]
    fn totals_balance_whatever_ended_a_process() {
        let (_home, folder) = folder();
        // A spool of a program that wrote no ledger.
        let mut ledger = check(&folder, 7, 7, 0);
        ledger.add(&calls(100, 90, 2));
        // Stopped: all that is left is on disk.
        let mut ledger = check(&folder, 15, 7, 0);
        assert_eq!(ledger.before().processes, 2);
        ledger.add(&calls(50, 40, 0));
        // Killed: 5 of 25 were in flight.
        let mut ledger = check(&folder, 20, 7, 5);
        ledger.add(&calls(50, 40, 0));
        // Killed within its last write: 3 more came to the disk than it has.
        let ledger = check(&folder, 33, 10, 5);
        let sum = ledger.before();
        assert_eq!((sum.seen, sum.sent, sum.began), (200, 170, 5));
        assert_eq!(sum.dropped().collect::<Vec<_>>(), [("refused", 2)]);
    }

    #[test]
    fn a_copy_that_is_torn_or_changed_costs_one_write() {
        for at in 0..BYTES {
            let (home, folder) = folder();
            let mut ledger = Ledger::open(&folder, 0, 5);
            ledger.add(&calls(10, 10, 0));
            ledger.add(&calls(20, 20, 0));
            drop(ledger.file.take());
            let newest = ledger.newest().unwrap();
            assert_eq!(newest.1.seen, 20);
            let path = home.path().join(NAME);
            let mut octets = std::fs::read(&path).unwrap();
            let place = PLACES[usize::from(newest.0 % 2 == 1)] as usize;
            octets[place + at] ^= 1 << (at % 8);
            std::fs::write(&path, &octets).unwrap();
            assert_eq!(Ledger::open(&folder, 0, 6).before().seen, 10, "{at}");
            // The next write has a larger number than any.
            let mut ledger = Ledger::open(&folder, 0, 7);
            ledger.add(&calls(1, 1, 0));
            assert_eq!(Ledger::open(&folder, 0, 8).before().seen, 11);
        }
    }

    #[test]
    fn a_file_without_a_whole_copy_begins_anew() {
        for octets in [&b""[..], b"SNLEDGR9", &[0xff; 5000]] {
            let (home, folder) = folder();
            std::fs::write(home.path().join(NAME), octets).unwrap();
            let mut ledger = check(&folder, 4, 4, 0);
            ledger.add(&calls(3, 0, 0));
            check(&folder, 7, 4, 0);
        }
    }

    #[test]
    fn a_reason_without_a_place_is_counted_all_the_same() {
        let mut new = calls(3, 0, 1);
        new.dropped.insert("a_new_one".to_owned(), 2);
        let sum = Lifetime::default().with(&new);
        assert_eq!(sum.left(), 0);
        let dropped: Vec<_> = sum.dropped().collect();
        assert_eq!(dropped, [("refused", 1), ("other", 2)]);
    }
}
