//! One spool segment, which has nothing to do with those of TCP: its two files, what its index says, and what is damaged in it.
//!
//! The record of a bundle is written before its member. So a process that is killed between the two leaves a record whose
//! member is not there, which is noticed and counted; it never leaves a member whose key is unknown.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use engine_core::bundle::CallEntry;
use store::folder::Folder;

use super::content::Ticket;
use super::format::{self, Header, RECORD_BYTES, RECORD_MAGIC, Record, State};
use super::members;

/// The files of a segment while they are open.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) index: File,
    pub(super) members: File,
}

/// Name of the index of this segment.
pub(super) fn index_name(number: u64) -> String {
    format!("{number:010}.index")
}

/// Name of its members.
pub(super) fn members_name(number: u64) -> String {
    format!("{number:010}.zz")
}

impl Files {
    /// Opens them, and makes those that are missing.
    pub(super) fn open(folder: &Folder, number: u64) -> io::Result<Self> {
        let file = |name: String| {
            let opened = folder.file(&name);
            let opened = opened.map_err(|error| match error.downcast::<io::Error>() {
                Ok(error) => error,
                Err(error) => io::Error::other(format!("{error:#}")),
            });
            opened.map(|opened| opened.file)
        };
        Ok(Self {
            index: file(index_name(number))?,
            members: file(members_name(number))?,
        })
    }
}

/// A bundle of a segment, as far as it is kept in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// Where its record is in the index.
    pub(super) at: u64,
    pub(super) calls: u32,
    pub(super) state: State,
    /// The uploader has it in memory, under this name.
    pub(super) ticket: Option<Ticket>,
}

/// A segment as far as it is kept in memory.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) header: Header,
    pub(super) index_bytes: u64,
    pub(super) member_bytes: u64,
    pub(super) slots: Vec<Slot>,
    /// Slots that wait.
    pub(super) waiting: usize,
    /// Calls in them.
    pub(super) waiting_calls: u64,
    /// When the last bundle was written, in milliseconds since 1970.
    pub(super) newest: u64,
    /// A part of it cannot be read; its files are kept.
    pub(super) is_damaged: bool,
    /// No slot before this one is on disk alone.
    pub(super) next: usize,
}

/// What damage cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Waiting calls whose bundle cannot be read.
    pub calls: u64,
    /// Calls in members without a record: whether they were delivered is unknown.
    pub unknown: u64,
    /// Segments that a later version of this program wrote: they stay as they are.
    pub later_segments: u64,
}

/// A bundle that was read back.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) member: Vec<u8>,
    pub(super) index: Vec<CallEntry>,
}

impl Stored {
    /// Its lines.
    pub(super) fn lines(&self) -> Option<Vec<u8>> {
        members::lines(&self.member, self.record.line_bytes)
    }
}

/// Whether a later version of this program wrote the segment.
pub(super) fn is_of_later_version(files: &Files) -> io::Result<bool> {
    let mut start = [0; 8];
    let is_there = read_at(&files.index, &mut start, 0)?;
    Ok(is_there && Header::is_of_later_version(&start))
}

impl Segment {
    /// An empty one.
    pub(super) fn new(header: Header) -> Self {
        Self {
            header,
            index_bytes: format::HEADER_BYTES as u64,
            member_bytes: 0,
            slots: Vec::new(),
            waiting: 0,
            waiting_calls: 0,
            newest: header.created,
            is_damaged: false,
            next: 0,
        }
    }

    /// What these files hold.
    pub(super) fn scan(number: u64, files: &Files) -> io::Result<(Self, Damage)> {
        let mut octets = vec![0; files.index.metadata()?.len() as usize];
        files.index.read_exact_at(&mut octets, 0)?;
        let unknown = Header {
            number,
            rules: 0,
            created: 0,
            is_released: false,
        };
        let header = Header::read(&octets);
        let mut segment = Self::new(header.unwrap_or(unknown));
        segment.header.number = number;
        segment.index_bytes = octets.len() as u64;
        segment.member_bytes = files.members.metadata()?.len();
        segment.is_damaged = header.is_none();
        let mut damage = Damage::default();
        let mut covered = 0;
        let mut at = format::HEADER_BYTES;
        while let Some(rest) = octets.get(at..).filter(|rest| !rest.is_empty()) {
            let Some(record) = Record::read(rest) else {
                segment.is_damaged = true;
                at += 1 + find_record(&rest[1..]).unwrap_or(rest.len());
                continue;
            };
            if record.offset > covered {
                damage.unknown += orphans(files, covered, record.offset)?;
                segment.is_damaged = true;
            }
            covered = covered.max(record.end());
            segment.newest = segment.newest.max(record.written);
            let mut state = record.state;
            if record.end() > segment.member_bytes && state == State::Waiting {
                // The process was killed, or the file was cut.
                damage.calls += u64::from(record.calls);
                segment.is_damaged = true;
                state = State::GivenUp;
            }
            segment.push(Slot {
                at: at as u64,
                calls: record.calls,
                state,
                ticket: None,
            });
            at += record.bytes() as usize;
        }
        if covered < segment.member_bytes {
            damage.unknown += orphans(files, covered, segment.member_bytes)?;
            segment.is_damaged = true;
        }
        Ok((segment, damage))
    }

    /// Adds a bundle.
    pub(super) fn push(&mut self, slot: Slot) {
        if slot.state == State::Waiting {
            self.waiting += 1;
            self.waiting_calls += u64::from(slot.calls);
        }
        self.slots.push(slot);
    }

    /// A bundle does not wait any longer. Returns where its state is in the index.
    pub(super) fn settle(&mut self, slot: usize, state: State) -> Option<u64> {
        let slot = self.slots.get_mut(slot)?;
        let waits = slot.state == State::Waiting;
        waits.then(|| {
            slot.state = state;
            slot.ticket = None;
            self.waiting -= 1;
            self.waiting_calls -= u64::from(slot.calls);
            slot.at + format::STATE_AT
        })
    }

    /// Bytes of both files.
    pub(super) fn bytes(&self) -> u64 {
        self.index_bytes + self.member_bytes
    }

    /// The first bundle that is on disk alone.
    pub(super) fn first_on_disk(&mut self) -> Option<usize> {
        while let Some(slot) = self.slots.get(self.next) {
            if slot.state == State::Waiting && slot.ticket.is_none() {
                return Some(self.next);
            }
            self.next += 1;
        }
        None
    }

    /// Reads a bundle back; none where it is damaged. The index is made from the lines where only that is.
    pub(super) fn read(&self, files: &Files, slot: usize) -> io::Result<Option<Stored>> {
        let Some(slot) = self.slots.get(slot) else {
            return Ok(None);
        };
        let mut octets = [0; RECORD_BYTES];
        let is_there = read_at(&files.index, &mut octets, slot.at)?;
        let Some(record) = Record::read(&octets).filter(|_| is_there) else {
            return Ok(None);
        };
        if record.end() > files.members.metadata()?.len() {
            return Ok(None);
        }
        let mut member = vec![0; record.length as usize];
        let is_there = read_at(&files.members, &mut member, record.offset)?;
        if !is_there || format::crc(&member) != record.member_crc {
            return Ok(None);
        }
        let index_end = slot.at + record.bytes();
        let mut entries = Vec::new();
        if index_end <= files.index.metadata()?.len() {
            entries.resize(record.entries as usize * format::ENTRY_BYTES, 0);
            read_at(&files.index, &mut entries, slot.at + RECORD_BYTES as u64)?;
        }
        let is_whole = entries.len() == record.entries as usize * format::ENTRY_BYTES
            && format::crc(&entries) == record.entries_crc;
        let mut stored = Stored {
            record,
            member,
            index: Vec::new(),
        };
        if is_whole {
            stored.index = format::read_entries(&entries);
            return Ok(Some(stored));
        }
        let Some(lines) = stored.lines() else {
            return Ok(None);
        };
        stored.index = members::index_of(&lines);
        Ok(Some(stored))
    }
}

/// Fills the buffer; false where the file ends before.
fn read_at(file: &File, buffer: &mut [u8], at: u64) -> io::Result<bool> {
    match file.read_exact_at(buffer, at) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where the next whole record is.
fn find_record(octets: &[u8]) -> Option<usize> {
    let mut places = octets.windows(RECORD_MAGIC.len()).enumerate();
    places.find_map(|(at, magic)| {
        let is_one = magic == RECORD_MAGIC && Record::read(octets.get(at..)?).is_some();
        is_one.then_some(at)
    })
}

/// Calls in members that no record names.
fn orphans(files: &Files, from: u64, to: u64) -> io::Result<u64> {
    let to = to.min(files.members.metadata()?.len());
    let mut bytes = vec![0; to.saturating_sub(from) as usize];
    let is_there = read_at(&files.members, &mut bytes, from)?;
    Ok(if is_there {
        members::count_lines(&bytes)
    } else {
        0
    })
}
