//! The spool segments in a folder, oldest first: bundles are appended to the last and read back from the first.
//!
//! Nothing here waits or starts a thread. Time is an argument: milliseconds since 1970, of a clock that does not jump
//! while the process runs.

use std::collections::VecDeque;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_core::bundle::Encoding;
use engine_core::bundle::deflate::Encoder;
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use store::folder::Folder;

use super::content::{Content, Ticket};
use super::format::{self, Header, RELEASED, RELEASED_AT, Record, STATE_AT, State};
use super::segment::{self, Damage, Files, Segment, Slot, Stored};

use crate::diagnostic::{Code, Diagnostic};
use crate::limits;
use crate::sink::part::Whole;

/// Name of the file that one process at a time has locked; it holds the number of that process.
const LOCK_NAME: &str = "lock";

/// What the names of segments that could not be read as a whole begin with.
pub(super) const DAMAGED_PREFIX: &str = "damaged-";

/// What the names of bundles begin with that were refused for good.
const REFUSED_PREFIX: &str = "refused-";

/// What bounds the folder.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Time for which a bundle is kept.
    pub age: Duration,
}

impl Bounds {
    /// Bytes after which a segment is followed by the next one: what is given up at once where the bound is reached.
    fn segment_bytes(&self) -> u64 {
        limits::SPOOL_SEGMENT_BYTES.min(self.bytes / 4)
    }
}

/// Why a folder cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// The process with this number uses it; 0 is unknown.
    InUse(u32),
    /// Anything else, in words.
    Because(String),
}

impl Unusable {
    /// As a message about this folder.
    pub fn diagnostic(&self, folder: &Path) -> Diagnostic {
        let folder = folder.display();
        match self {
            Self::InUse(pid) => {
                let what = format!("another process uses the spool {folder}: pid {pid}");
                Diagnostic::new(Code::E055, what)
                    .fix("--spool DIR    another folder, one for each process")
            }
            Self::Because(why) => Diagnostic::new(
                Code::E055,
                format!("the spool {folder} cannot be used: {why}"),
            )
            .fix("--spool DIR    a folder that this user owns, and nobody else may write to"),
        }
    }
}

/// Where a bundle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    segment: u64,
    slot: usize,
}

impl Place {
    /// Whether it is in a segment before this one.
    pub(super) fn is_before(self, segment: u64) -> bool {
        self.segment < segment
    }
}

/// A bundle that was given up with its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GivenUp {
    pub(super) calls: u64,
    /// The uploader has it in memory, so it is not lost.
    pub(super) ticket: Option<Ticket>,
}

/// What is on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bundles that wait, those that are in memory as well included.
    pub bundles: u64,
    /// Calls in them.
    pub calls: u64,
    /// Of these, calls in segments that are held.
    pub held_calls: u64,
    /// Segments that are held because the rules have changed.
    pub held_segments: u64,
    /// All segments.
    pub segments: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// The folder.
pub(super) struct Segments {
    folder: Folder,
    /// Locked as long as it is open.
    _lock: std::fs::File,
    bounds: Bounds,
    rules: u64,
    segments: VecDeque<Segment>,
    /// The last segment, while bundles are appended to it.
    current: Option<Files>,
    /// Another one that was used last.
    other: Option<(u64, Files)>,
    next: u64,
    first_of_ours: u64,
    encoder: Box<Encoder>,
    /// The last segment has something that is not synced.
    is_dirty: bool,
}

impl Segments {
    /// Opens the folder for this process alone, and finds what earlier ones left.
    pub(super) fn open(
        path: &Path,
        bounds: Bounds,
        rules: u64,
    ) -> Result<(Self, Damage), Unusable> {
        let because = |error: &dyn std::fmt::Display| Unusable::Because(format!("{error:#}"));
        let folder = Folder::open(path).map_err(|error| {
            // The outermost context names the folder as that of a store.
            let words: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
            Unusable::Because(words.join(": "))
        })?;
        // A capture of root gives up the right to write to folders of others.
        let owner = folder
            .path()
            .metadata()
            .map_err(|error| because(&error))?
            .uid();
        if owner != geteuid().as_raw() {
            let user = geteuid().as_raw();
            let why = format!("it belongs to user {owner}; chown {user} it, or use another folder");
            return Err(Unusable::Because(why));
        }
        let lock = lock(&folder)?;
        let mut segments = Self {
            folder,
            _lock: lock,
            bounds,
            rules,
            segments: VecDeque::new(),
            current: None,
            other: None,
            next: 1,
            first_of_ours: 1,
            encoder: Box::default(),
            is_dirty: false,
        };
        let damage = segments.recover().map_err(|error| because(&error))?;
        segments.first_of_ours = segments.next;
        // That it can be written is known before anything is captured. A full disk may have room later.
        match segments.begin(0) {
            Err(error) if error.kind() != io::ErrorKind::StorageFull => Err(because(&error)),
            _ => Ok((segments, damage)),
        }
    }

    /// The folder.
    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    fn recover(&mut self) -> io::Result<Damage> {
        let mut sum = Damage::default();
        for number in numbers(self.folder.path())? {
            self.next = number + 1;
            let files = Files::open(&self.folder, number)?;
            if segment::is_of_later_version(&files)? {
                sum.later_segments += 1;
                continue;
            }
            let (segment, damage) = Segment::scan(number, &files)?;
            // What is given up is counted by one process, not by each that finds it.
            let given_up = segment.slots.iter();
            for slot in given_up.filter(|slot| slot.state == State::GivenUp) {
                let octet = [State::GivenUp.octet()];
                files.index.write_all_at(&octet, slot.at + STATE_AT)?;
            }
            sum.calls += damage.calls;
            sum.unknown += damage.unknown;
            self.segments.push_back(segment);
        }
        self.remove_settled();
        Ok(sum)
    }

    /// What is on disk.
    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for segment in &self.segments {
            let is_held = self.is_held(segment);
            totals.bundles += segment.waiting as u64;
            totals.calls += segment.waiting_calls;
            totals.held_calls += if is_held { segment.waiting_calls } else { 0 };
            totals.held_segments += u64::from(is_held);
            totals.segments += 1;
            totals.bytes += segment.bytes();
        }
        totals
    }

    /// The lines of it were made under other rules, and nobody has released it.
    fn is_held(&self, segment: &Segment) -> bool {
        let header = &segment.header;
        header.rules != self.rules && !header.is_released && segment.waiting > 0
    }

    /// Bundles that come from now on were made under these rules.
    pub(super) fn set_rules(&mut self, rules: u64) {
        self.rules = rules;
    }

    /// Writes a bundle to the end of the last segment. Where that fails, nothing of it is left there.
    pub(super) fn append(
        &mut self,
        content: &Content,
        ticket: Ticket,
        now: u64,
    ) -> io::Result<(Place, u64)> {
        if self.needs_next() {
            self.begin(now)?;
        }
        let (Some(files), Some(segment)) = (&self.current, self.segments.back_mut()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let whole = content.as_whole();
        let is_plain = whole.encoding == Encoding::Plain;
        let mut compressed = Vec::new();
        let member = member_of(&mut self.encoder, &whole, &mut compressed);
        let entries = format::entries(whole.index);
        let number = |length: usize| u32::try_from(length).map_err(|_| io::ErrorKind::InvalidInput);
        let record = Record {
            key: whole.key,
            written: now,
            offset: segment.member_bytes,
            length: number(member.len())?,
            line_bytes: number(content.line_bytes())?,
            calls: content.calls(),
            entries: number(whole.index.len())?,
            entries_crc: format::crc(&entries),
            member_crc: format::crc(member),
            is_plain,
            state: State::Waiting,
        };
        let written = [&record.octets()[..], &entries].concat();
        let done = (files.index.write_all_at(&written, segment.index_bytes))
            .and_then(|()| files.members.write_all_at(member, segment.member_bytes));
        if let Err(error) = done {
            // The disk may be full: what was written in part would be found as damage.
            let _ = files.members.set_len(segment.member_bytes);
            let _ = files.index.set_len(segment.index_bytes);
            return Err(error);
        }
        let slot = Slot {
            at: segment.index_bytes,
            calls: record.calls,
            state: State::Waiting,
            ticket: Some(ticket),
        };
        segment.index_bytes += written.len() as u64;
        segment.member_bytes += member.len() as u64;
        segment.newest = now;
        segment.push(slot);
        self.is_dirty = true;
        let place = Place {
            segment: segment.header.number,
            slot: segment.slots.len() - 1,
        };
        Ok((place, (written.len() + member.len()) as u64))
    }

    fn needs_next(&self) -> bool {
        let last = self.segments.back().filter(|_| self.current.is_some());
        last.is_none_or(|segment| {
            segment.bytes() >= self.bounds.segment_bytes() || segment.header.rules != self.rules
        })
    }

    /// Begins a new segment.
    fn begin(&mut self, now: u64) -> io::Result<()> {
        self.sync()?;
        self.current = None;
        let header = Header {
            number: self.next,
            rules: self.rules,
            created: now,
            is_released: false,
        };
        let made = Files::open(&self.folder, header.number).and_then(|files| {
            files.index.write_all_at(&header.octets(), 0)?;
            Ok(files)
        });
        match made {
            Ok(files) => self.current = Some(files),
            Err(error) => {
                self.remove_files(header.number);
                return Err(error);
            }
        }
        self.next += 1;
        self.segments.push_back(Segment::new(header));
        self.remove_settled();
        Ok(())
    }

    /// A bundle was settled, in memory or on disk.
    pub(super) fn settle(&mut self, place: Place, state: State) -> io::Result<()> {
        let Some(segment) = self.segment(place.segment) else {
            return Ok(());
        };
        let Some(at) = segment.settle(place.slot, state) else {
            return Ok(());
        };
        let is_empty = segment.waiting == 0;
        let files = self.files(place.segment)?;
        files.index.write_all_at(&[state.octet()], at)?;
        if is_empty {
            self.remove_settled();
        }
        Ok(())
    }

    /// The uploader has given up the memory of a bundle: what is on disk is its only copy. Returns its calls.
    pub(super) fn leave(&mut self, place: Place) {
        if let Some(segment) = self.segment(place.segment)
            && let Some(slot) = segment.slots.get_mut(place.slot)
        {
            slot.ticket = None;
            segment.next = segment.next.min(place.slot);
        }
    }

    /// The oldest bundle that is on disk alone and not held.
    pub(super) fn next_on_disk(&mut self) -> Option<Place> {
        for index in 0..self.segments.len() {
            let is_held = self.is_held(self.segments.get(index)?);
            let segment = self.segments.get_mut(index)?;
            if !is_held && let Some(slot) = segment.first_on_disk() {
                return Some(Place {
                    segment: segment.header.number,
                    slot,
                });
            }
        }
        None
    }

    /// Calls of a bundle.
    pub(super) fn calls(&mut self, place: Place) -> u64 {
        let slot = (self.segment(place.segment)).and_then(|segment| segment.slots.get(place.slot));
        slot.map_or(0, |slot| u64::from(slot.calls))
    }

    /// Reads a bundle, which the uploader has as `ticket` from now on; none where it is damaged.
    pub(super) fn load(&mut self, place: Place, ticket: Ticket) -> Option<Stored> {
        let stored = self.read(place)?;
        let segment = self.segment(place.segment)?;
        segment.slots.get_mut(place.slot)?.ticket = Some(ticket);
        Some(stored)
    }

    /// A bundle is damaged; its segment is kept aside once nothing waits in it.
    pub(super) fn give_up_damaged(&mut self, place: Place) -> io::Result<()> {
        if let Some(segment) = self.segment(place.segment) {
            segment.is_damaged = true;
        }
        self.settle(place, State::GivenUp)
    }

    fn read(&mut self, place: Place) -> Option<Stored> {
        self.files(place.segment).ok()?;
        let segment = self
            .segments
            .iter()
            .find(|segment| segment.header.number == place.segment)?;
        let is_last = self.last() == Some(place.segment);
        let files = match (&self.current, &self.other) {
            (Some(files), _) if is_last => files,
            (_, Some((_, files))) => files,
            _ => return None,
        };
        segment.read(files, place.slot).ok().flatten()
    }

    /// Gives up the oldest segments while the bounds are exceeded by `more` bytes, or their bundles are too old.
    pub(super) fn take_excess(&mut self, more: u64, now: u64) -> Option<(Vec<GivenUp>, bool)> {
        let age = u64::try_from(self.bounds.age.as_millis()).unwrap_or(u64::MAX);
        let oldest = self.segments.front()?;
        let is_old = oldest.waiting > 0 && now.saturating_sub(oldest.newest) > age;
        let bytes: u64 = self.segments.iter().map(Segment::bytes).sum();
        let around = (format::HEADER_BYTES + format::RECORD_BYTES) as u64;
        let more = if more > 0 { more + around } else { 0 };
        let is_too_much = bytes + more > self.bounds.bytes && oldest.waiting > 0;
        (is_old || is_too_much).then(|| (self.give_up(0), is_old))
    }

    /// Keeps a bundle that was refused for good in a file of its own, as long as there are few.
    pub(super) fn keep_refused(&mut self, content: &Content) -> io::Result<()> {
        if beginning_with(self.folder.path(), REFUSED_PREFIX).len() >= limits::SPOOL_REFUSED_MAX {
            return Ok(());
        }
        let whole = content.as_whole();
        let mut compressed = Vec::new();
        let member = member_of(&mut self.encoder, &whole, &mut compressed);
        let name = format!("{REFUSED_PREFIX}{:032x}.zz", whole.key);
        let opened = self.folder.file(&name).map_err(io::Error::other)?;
        let written = opened.file.write_all_at(member, 0);
        if written.is_err() {
            let _ = std::fs::remove_file(self.folder.path().join(name));
        }
        written
    }

    /// Gives up the segments that are held, or all of them.
    pub(super) fn discard(&mut self, all: bool) -> Vec<GivenUp> {
        let mut given_up = Vec::new();
        let wanted = self
            .segments
            .iter()
            .filter(|segment| all || self.is_held(segment));
        let numbers: Vec<u64> = wanted.map(|segment| segment.header.number).collect();
        for number in numbers {
            let Some(index) = self.position(number) else {
                continue;
            };
            given_up.extend(self.give_up(index));
        }
        given_up
    }

    /// Segments that are held are delivered from now on.
    pub(super) fn release(&mut self) -> io::Result<()> {
        for index in 0..self.segments.len() {
            let held = self
                .segments
                .get(index)
                .filter(|segment| self.is_held(segment));
            let Some(number) = held.map(|segment| segment.header.number) else {
                continue;
            };
            self.files(number)?
                .index
                .write_all_at(&[RELEASED], RELEASED_AT)?;
            if let Some(segment) = self.segments.get_mut(index) {
                segment.header.is_released = true;
            }
        }
        Ok(())
    }

    fn give_up(&mut self, index: usize) -> Vec<GivenUp> {
        let Some(segment) = self.segments.remove(index) else {
            return Vec::new();
        };
        let number = segment.header.number;
        if index == self.segments.len() {
            self.current = None;
            self.is_dirty = false;
        }
        self.remove_files(number);
        let waiting = segment
            .slots
            .iter()
            .filter(|slot| slot.state == State::Waiting);
        let given_up = waiting.map(|slot| GivenUp {
            calls: u64::from(slot.calls),
            ticket: slot.ticket,
        });
        given_up.collect()
    }

    /// Removes segments in which nothing waits; the last one is emptied instead, so that what was delivered never has to
    /// be written to the disk.
    pub(super) fn remove_settled(&mut self) {
        let last = self.last().filter(|_| self.current.is_some());
        let is_done =
            |segment: &Segment| segment.waiting == 0 && Some(segment.header.number) != last;
        while let Some(index) = self.segments.iter().position(is_done) {
            let Some(segment) = self.segments.remove(index) else {
                break;
            };
            if segment.is_damaged {
                self.keep_aside(segment.header.number);
            } else {
                self.remove_files(segment.header.number);
            }
        }
    }

    /// Empties the last segment where nothing waits in it.
    pub(super) fn empty_last(&mut self) {
        if let (Some(files), Some(segment)) = (&self.current, self.segments.back_mut())
            && segment.waiting == 0
            && !segment.slots.is_empty()
        {
            // The members first: a record without a member is known, a member without a record is not.
            let emptied = (files.members.set_len(0))
                .and_then(|()| files.index.set_len(format::HEADER_BYTES as u64));
            if emptied.is_ok() {
                let header = segment.header;
                *segment = Segment::new(header);
                self.is_dirty = false;
            }
        }
    }

    /// Brings what was written to the disk itself.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if let Some(files) = self.current.as_ref().filter(|_| self.is_dirty) {
            files.members.sync_data()?;
            files.index.sync_data()?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Nothing more is written. Files in which nothing waits are removed.
    pub(super) fn close(&mut self) {
        self.current = None;
        self.remove_settled();
    }

    /// The number of the first segment that this process began.
    pub(super) fn first_of_this_process(&self) -> u64 {
        self.first_of_ours
    }

    /// Whether something waits that is not synced.
    pub(super) fn is_dirty(&self) -> bool {
        self.is_dirty
            && self
                .segments
                .back()
                .is_some_and(|segment| segment.waiting > 0)
    }

    /// The files of this segment.
    fn files(&mut self, number: u64) -> io::Result<&Files> {
        if self.last() == Some(number) && self.current.is_some() {
            return self
                .current
                .as_ref()
                .ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        if self
            .other
            .as_ref()
            .is_none_or(|(known, _)| *known != number)
        {
            self.other = Some((number, Files::open(&self.folder, number)?));
        }
        let other = self.other.as_ref().map(|(_, files)| files);
        other.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn last(&self) -> Option<u64> {
        self.segments.back().map(|segment| segment.header.number)
    }

    fn position(&self, number: u64) -> Option<usize> {
        self.segments
            .iter()
            .position(|segment| segment.header.number == number)
    }

    fn segment(&mut self, number: u64) -> Option<&mut Segment> {
        let index = self.position(number)?;
        self.segments.get_mut(index)
    }

    fn remove_files(&mut self, number: u64) {
        self.forget_files(number);
        for name in [segment::members_name(number), segment::index_name(number)] {
            // One that stays is found by the next process, which has to settle it again.
            let _ = std::fs::remove_file(self.folder.path().join(name));
        }
    }

    /// Renames the files of a segment, so that a person can look at them. Of these the last ones stay.
    fn keep_aside(&mut self, number: u64) {
        self.forget_files(number);
        let path = self.folder.path().to_owned();
        for name in [segment::members_name(number), segment::index_name(number)] {
            let _ = std::fs::rename(
                path.join(&name),
                path.join(format!("{DAMAGED_PREFIX}{name}")),
            );
        }
        let mut aside = damaged(&path);
        aside.sort();
        let excess = aside.len().saturating_sub(2 * limits::SPOOL_DAMAGED_MAX);
        for file in aside.into_iter().take(excess) {
            let _ = std::fs::remove_file(file);
        }
    }

    fn forget_files(&mut self, number: u64) {
        if self
            .other
            .as_ref()
            .is_some_and(|(known, _)| *known == number)
        {
            self.other = None;
        }
    }
}

/// Takes the folder for this process.
fn lock(folder: &Folder) -> Result<std::fs::File, Unusable> {
    let opened = folder.file(LOCK_NAME);
    let opened = opened.map_err(|error| Unusable::Because(format!("{error:#}")))?;
    let mut file = opened.file;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(Unusable::InUse(text.trim().parse().unwrap_or(0)));
        }
        Err(error) => return Err(Unusable::Because(format!("it cannot be locked: {error}"))),
    }
    let written = (file.set_len(0))
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    // A full disk: the lock holds all the same.
    let _ = written;
    Ok(file)
}

/// The number of the process that uses the folder; none where it is free. 0 is unknown.
pub fn holder(folder: &Path) -> Option<u32> {
    let mut file = std::fs::File::open(folder.join(LOCK_NAME)).ok()?;
    if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
        return None;
    }
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    Some(text.trim().parse().unwrap_or(0))
}

/// The numbers of the segments in a folder, in order.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name();
        let number: Option<u64> = name.to_str().and_then(|name| {
            let stem = name
                .strip_suffix(".index")
                .or_else(|| name.strip_suffix(".zz"))?;
            let is_number = stem.len() >= 10 && stem.bytes().all(|octet| octet.is_ascii_digit());
            stem.parse().ok().filter(|_| is_number)
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The bundle as a zlib stream.
fn member_of<'a>(
    encoder: &mut Encoder,
    whole: &Whole<'a>,
    compressed: &'a mut Vec<u8>,
) -> &'a [u8] {
    if whole.encoding == Encoding::Deflated {
        return whole.body;
    }
    encoder.zlib(whole.body, compressed);
    compressed
}

/// Files that were kept aside.
pub(super) fn damaged(folder: &Path) -> Vec<PathBuf> {
    beginning_with(folder, DAMAGED_PREFIX)
}

fn beginning_with(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let aside = entries.filter(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| name.starts_with(prefix))
    });
    aside.map(|entry| entry.path()).collect()
}
