//! The packets of all inputs in the order of their times: files whatever their names, files that overlap, streams.
//!
//! The time of the first packet of each file is read beforehand, and a file is opened when that packet is due. So the files
//! of a rotated capture are open one at a time, and files that overlap (one for each direction of a tap, or for each
//! interface) are merged. Memory is that of the files that are open together, at most
//! [`CAPTURE_FILES_OPEN_MAX`]. Within a file packets stay in their order, unless it
//! was put together from several captures: see `timeline/parts.rs`.
//!
//! A stream of which no packet is there holds the others up, since its next packet may be the earliest. Where packets are
//! of the present time, that wait is bounded by `LIVE_WAIT`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use engine_core::decap::Frame;
use engine_core::limits::REORDER_GRACE;
use engine_core::time::Timestamp;

use crate::capture_file::{CaptureFile, Error, STDIN, STDIN_NAME, open_input};
use crate::clock;
use crate::diagnostic::{Code, Console, Diagnostic};
use crate::limits::{
    CAPTURE_FILES_OPEN_MAX, CAPTURE_WINDOW_BYTES_FIRST, CAPTURE_WINDOW_BYTES_MANY,
};
use crate::quantity::plural;
use growing::{Ends, Growing, Names};
use parts::{Part, parts};
use stream::Stream;

pub mod files;
mod growing;
mod parts;
mod stream;

/// Packets whose time is nearer to the present than this come from a live capture.
const LIVE: Duration = Duration::from_secs(60);

/// How long a packet of a live capture waits for earlier ones of inputs that have none: longer than the retire time of a
/// ring and the way through a pipe, and short for who watches.
const LIVE_WAIT: Duration = Duration::from_millis(500);

/// Silence of a growing file after which packets of others do not wait for it.
const GROWING_QUIET: Duration = Duration::from_secs(2);

/// Time between two looks at inputs that had nothing, while others have packets.
const RETRY: Duration = Duration::from_millis(10);

/// The longest pause of [`Timeline::wait`]: how late a signal or a growing file is noticed.
const PAUSE: Duration = Duration::from_millis(100);

/// After a signal: how long streams may still deliver, and the silence that ends this before.
const DRAIN: Duration = Duration::from_secs(1);
const DRAIN_QUIET: Duration = Duration::from_millis(200);

/// What comes next.
pub enum Next<'a> {
    /// The next packet.
    Packet(Frame<'a>),
    /// No packet is there yet: [`Timeline::wait`], then look again.
    Nothing,
    /// There are no more packets.
    End,
}

/// What was found out about the inputs.
#[derive(Debug, Default)]
pub struct Findings {
    /// Files that could not be opened, or not read to their end.
    pub unreadable: u64,
    /// Files that end early.
    pub cut: u64,
    /// Files with packets cut by a snap length.
    pub snapped: u64,
    /// The packets that were cut in them.
    pub snapped_packets: u64,
    /// Files in which times go back, and the first of these places.
    back: u64,
    first_back: String,
    /// Files that were read as several parts, and the parts.
    split: u64,
    parts: u64,
    /// Whether files were opened late because too many were open.
    is_late: bool,
}

/// All inputs.
pub struct Timeline {
    console: Console,
    stop: Arc<AtomicBool>,
    /// Since when the timeline is ending after a signal, and when there was nothing left for the first time since.
    stopping: Option<(Instant, Option<Instant>)>,
    /// Files that have not been opened, the one that starts last first.
    planned: Vec<Planned>,
    sources: Vec<Option<Source>>,
    /// Open sources with the time of their next packet.
    ready: BinaryHeap<Reverse<(Timestamp, usize)>>,
    /// The source that the last packet came from; it is not in `ready`.
    current: Option<usize>,
    /// Sources without a packet at present.
    waiting: Vec<usize>,
    next_retry: Instant,
    names: Option<Names>,
    window_bytes: usize,
    /// Inputs that may be open together: fewer than the bound where the process has fewer descriptors.
    open_max: usize,
    findings: Findings,
}

/// A file that has not been opened.
struct Planned {
    first: Timestamp,
    path: PathBuf,
    /// Which packets of it, once that is known.
    part: Option<Part>,
}

/// An open input.
struct Source {
    file: CaptureFile,
    name: String,
    kind: Kind,
    /// Packets that belong to this input and were not taken yet.
    left: u64,
    /// Packets before those which the capture cut.
    cut_before: u64,
    latest: Timestamp,
    is_back: bool,
    /// Since when it has had no packet.
    quiet_since: Instant,
}

impl Source {
    /// The time of the next packet of this input.
    fn next_time(&mut self) -> Result<Option<Timestamp>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.file.next_time()
    }
}

#[derive(Debug)]
enum Kind {
    Fixed,
    Stream,
    Growing(Ends),
}

/// How the inputs are read.
pub struct Reading<'a> {
    /// The inputs as they are named: files, folders, `-`.
    pub paths: &'a [PathBuf],
    /// The files that were [found](files::files) under these names.
    pub files: &'a [PathBuf],
    /// Whether files may grow and others may join them.
    pub follow: bool,
    /// Ends the reading when it is set.
    pub stop: Arc<AtomicBool>,
    /// Where problems are reported.
    pub console: Console,
}

impl Timeline {
    /// Looks at the first packet of each file. What cannot be read is reported, and the others are read all the same.
    pub fn new(reading: &Reading<'_>) -> Self {
        let is_stream = |path: &&PathBuf| {
            path.as_os_str() == STDIN
                || path
                    .metadata()
                    .is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
        };
        let (streams, files): (Vec<&PathBuf>, Vec<&PathBuf>) =
            reading.files.iter().partition(is_stream);
        let is_many = files.len() + streams.len() > 16;
        let mut timeline = Self {
            console: reading.console,
            stop: Arc::clone(&reading.stop),
            stopping: None,
            planned: Vec::new(),
            sources: Vec::new(),
            ready: BinaryHeap::new(),
            current: None,
            waiting: Vec::new(),
            next_retry: Instant::now(),
            names: None,
            window_bytes: if is_many {
                CAPTURE_WINDOW_BYTES_MANY
            } else {
                4 * CAPTURE_WINDOW_BYTES_MANY
            },
            open_max: CAPTURE_FILES_OPEN_MAX,
            findings: Findings::default(),
        };
        for path in streams {
            timeline.open_stream(path);
        }
        if reading.follow {
            let files: Vec<_> = files.into_iter().cloned().collect();
            let paths = reading.paths.iter().filter(|path| !is_stream(path));
            let paths: Vec<_> = paths.cloned().collect();
            timeline.names = Some(Names::new(&paths, &files));
            // The newest ones may grow.
            let fixed = files.len().saturating_sub(CAPTURE_FILES_OPEN_MAX / 2);
            let (fixed, growing) = files.split_at(fixed);
            timeline.plan(&fixed.iter().collect::<Vec<_>>());
            for path in growing {
                timeline.open_growing(path);
            }
        } else {
            timeline.plan(&files);
        }
        timeline
    }

    /// What is known of the inputs so far; complete after [`Next::End`] and [`Self::close_all`].
    pub fn findings(&self) -> &Findings {
        &self.findings
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Puts files in the order of their first packets. One file alone needs no look.
    fn plan(&mut self, files: &[&PathBuf]) {
        let is_alone = files.len() == 1 && self.sources.is_empty();
        for path in files {
            if self.is_stopped() {
                break;
            }
            let first = if is_alone {
                Ok(Some(Timestamp::ZERO))
            } else {
                first_time(path)
            };
            match first {
                Ok(Some(first)) => self.planned.push(Planned {
                    first,
                    path: (*path).clone(),
                    part: None,
                }),
                Ok(None) => {}
                Err(error) => self.failed(&error),
            }
        }
        self.sort_planned();
    }

    /// The sort is stable: files that start together stay in the order in which they were given.
    fn sort_planned(&mut self) {
        self.planned.sort_by_key(|planned| planned.first);
        self.planned.reverse();
    }

    fn open_stream(&mut self, path: &Path) {
        let stream = if path.as_os_str() == STDIN {
            Stream::open(|| Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?)))
        } else {
            let path = path.to_owned();
            Stream::open(move || File::open(path))
        };
        let name = if path.as_os_str() == STDIN {
            STDIN_NAME.to_owned()
        } else {
            path.to_string_lossy().into_owned()
        };
        match stream {
            Ok(stream) => match CaptureFile::with_window(&name, stream, self.window_bytes) {
                Ok(file) => self.add(name, file, Kind::Stream),
                Err(error) => self.failed(&error),
            },
            Err(error) => {
                self.findings.unreadable += 1;
                self.console
                    .report(&Diagnostic::new(Code::E080, format!("{name}: {error}")));
            }
        }
    }

    fn open_growing(&mut self, path: &Path) {
        let ends = self.names.as_ref().map(|names| names.ends(path));
        let ends = ends.unwrap_or_default();
        let name = path.to_string_lossy().into_owned();
        if self.is_full() {
            self.end_quietest();
        }
        let input = open_input(&name).map(|file| Growing::new(file, ends.clone()));
        match input.and_then(|input| CaptureFile::with_window(&name, input, self.window_bytes)) {
            Ok(file) => self.add(name, file, Kind::Growing(ends)),
            Err(error) => self.failed(&error),
        }
    }

    /// Opens the planned file that is due.
    fn open_planned(&mut self) {
        let Some(planned) = self.planned.pop() else {
            return;
        };
        let Some(part) = planned.part else {
            self.plan_parts(planned);
            return;
        };
        let name = planned.path.to_string_lossy().into_owned();
        let file = open_input(&name)
            .and_then(|input| CaptureFile::with_window(&name, input, self.window_bytes))
            .and_then(|mut file| {
                for _ in 0..part.start {
                    file.next()?;
                }
                Ok(file)
            });
        match file {
            Ok(file) => self.add_part(name, file, Kind::Fixed, part.packets),
            Err(error) if error.is_out_of_descriptors() && self.open() > 0 => {
                self.open_max = self.open();
                self.planned.push(planned);
            }
            Err(error) => self.failed(&error),
        }
    }

    /// Plans the parts of a file that is due, or the file as a whole.
    fn plan_parts(&mut self, planned: Planned) {
        let parts = parts(&planned.path);
        if parts.is_empty() {
            let whole = Part {
                first: planned.first,
                start: 0,
                packets: u64::MAX,
            };
            self.planned.push(Planned {
                part: Some(whole),
                ..planned
            });
            return;
        }
        self.findings.split += 1;
        self.findings.parts += parts.len() as u64;
        // The list has the earliest file at its end, and the sort wants it in front.
        self.planned.reverse();
        self.planned.extend(parts.into_iter().map(|part| Planned {
            first: part.first,
            path: planned.path.clone(),
            part: Some(part),
        }));
        self.sort_planned();
    }

    fn add(&mut self, name: String, file: CaptureFile, kind: Kind) {
        self.add_part(name, file, kind, u64::MAX);
    }

    fn add_part(&mut self, name: String, file: CaptureFile, kind: Kind, packets: u64) {
        let source = Some(Source {
            left: packets,
            cut_before: file.packets_cut(),
            file,
            name,
            kind,
            latest: Timestamp::ZERO,
            is_back: false,
            quiet_since: Instant::now(),
        });
        let free = self.sources.iter().position(Option::is_none);
        let index = free.unwrap_or(self.sources.len());
        match free {
            Some(free) => self.sources[free] = source,
            None => self.sources.push(source),
        }
        self.look_at(index);
    }

    fn is_full(&self) -> bool {
        self.open() >= self.open_max
    }

    fn open(&self) -> usize {
        self.sources.iter().flatten().count()
    }

    /// Gives up the growing file that has been quiet longest, so that another one can be opened.
    fn end_quietest(&mut self) {
        let quiet = self.waiting.iter().filter_map(|&index| {
            let source = self.sources.get(index)?.as_ref()?;
            let Kind::Growing(ends) = &source.kind else {
                return None;
            };
            Some((source.quiet_since, index, ends))
        });
        if let Some((_, index, ends)) = quiet.min_by_key(|(since, ..)| *since) {
            ends.set();
            self.waiting.retain(|waiting| *waiting != index);
            self.look_at(index);
        }
    }

    /// Enters a source by its next packet, or closes it.
    fn look_at(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        match source.next_time() {
            Ok(Some(time)) => self.ready.push(Reverse((time, index))),
            Ok(None) => self.close(index),
            Err(error) if error.is_waiting() => self.waiting.push(index),
            Err(error) => {
                self.failed(&error);
                self.close(index);
            }
        }
    }

    fn close(&mut self, index: usize) {
        let Some(source) = self.sources.get_mut(index).and_then(Option::take) else {
            return;
        };
        let cut = source.file.packets_cut() - source.cut_before;
        self.findings.snapped += u64::from(cut > 0);
        self.findings.snapped_packets += cut;
        self.findings.back += u64::from(source.is_back);
    }

    fn failed(&mut self, error: &Error) {
        let code = if error.is_cut() {
            self.findings.cut += 1;
            Code::W080
        } else {
            self.findings.unreadable += 1;
            Code::E080
        };
        self.console
            .report(&Diagnostic::new(code, error.to_string()));
    }

    /// The next packet of all inputs.
    pub fn next_packet(&mut self) -> Next<'_> {
        if self.is_stopped() && self.stop_reading() {
            return Next::End;
        }
        if (!self.waiting.is_empty() || self.names.is_some()) && Instant::now() >= self.next_retry {
            self.retry();
        }
        match self.earliest() {
            Some((index, time)) if !self.has_to_wait(time) => {
                self.current = Some(index);
                self.take(index)
            }
            Some((index, time)) => {
                self.ready.push(Reverse((time, index)));
                Next::Nothing
            }
            None if self.waiting.is_empty() && self.names.is_none() => Next::End,
            None => Next::Nothing,
        }
    }

    /// The source of the earliest packet, which is then not in `ready`, and the time of the packet.
    fn earliest(&mut self) -> Option<(usize, Timestamp)> {
        loop {
            if let Some(index) = self.current.take()
                && let Some(source) = self.sources.get_mut(index).and_then(Option::as_mut)
            {
                match source.next_time() {
                    // Nearly every packet: the source stays the one with the earliest packet.
                    Ok(Some(time)) => {
                        if self.is_first(time) {
                            return Some((index, time));
                        }
                        self.ready.push(Reverse((time, index)));
                    }
                    Ok(None) => self.close(index),
                    Err(error) if error.is_waiting() => {
                        source.quiet_since = Instant::now();
                        self.waiting.push(index);
                    }
                    Err(error) => {
                        self.failed(&error);
                        self.close(index);
                    }
                }
            }
            let due = self.ready.peek().map(|Reverse((time, _))| *time);
            let planned = self.planned.last().map(|planned| planned.first);
            let is_due = planned.is_some_and(|first| due.is_none_or(|due| first <= due));
            if is_due && !self.is_full() {
                self.open_planned();
                continue;
            }
            self.findings.is_late |= is_due;
            let Reverse((time, index)) = self.ready.pop()?;
            return Some((index, time));
        }
    }

    /// Whether no other source has an earlier packet.
    fn is_first(&self, time: Timestamp) -> bool {
        self.ready
            .peek()
            .is_none_or(|Reverse((other, _))| time <= *other)
            && self
                .planned
                .last()
                .is_none_or(|planned| time <= planned.first)
    }

    /// The packet of a source that is known to have one.
    fn take(&mut self, index: usize) -> Next<'_> {
        let Some(source) = self.sources.get_mut(index).and_then(Option::as_mut) else {
            return Next::Nothing;
        };
        let number = source.file.packets() + 1;
        source.left -= 1;
        let Ok(Some(frame)) = source.file.next() else {
            return Next::Nothing;
        };
        if frame.time > source.latest {
            source.latest = frame.time;
        } else if !source.is_back && source.latest.since(frame.time) > REORDER_GRACE {
            source.is_back = true;
            if self.findings.first_back.is_empty() {
                self.findings.first_back = format!(
                    "{}: packet {number} is {:.3} s earlier than one before it",
                    source.name,
                    source.latest.since(frame.time).as_secs_f64()
                );
            }
        }
        Next::Packet(frame)
    }

    /// Looks again at what had no packet, and at the names that are followed.
    fn retry(&mut self) {
        self.next_retry = Instant::now() + RETRY;
        for index in std::mem::take(&mut self.waiting) {
            self.look_at(index);
        }
        let new = self.names.as_mut().map(Names::new_files);
        for path in new.unwrap_or_default() {
            self.open_growing(&path);
        }
    }

    /// Whether an earlier packet than this one may still come.
    fn has_to_wait(&self, time: Timestamp) -> bool {
        if self.waiting.is_empty() || self.stopping.is_some() {
            return false;
        }
        let now = clock::now();
        let age = now.since(time).max(time.since(now));
        let is_live = age < LIVE;
        let mut waiting = self.waiting.iter();
        waiting.any(|&index| {
            let source = self.sources.get(index).and_then(Option::as_ref);
            source.is_some_and(|source| match source.kind {
                Kind::Fixed => false,
                Kind::Stream => !is_live || age < LIVE_WAIT,
                Kind::Growing(_) => {
                    is_live && age < LIVE_WAIT && source.quiet_since.elapsed() < GROWING_QUIET
                }
            })
        })
    }

    /// Waits until there may be something new.
    pub fn wait(&mut self) {
        thread::park_timeout(PAUSE);
        self.next_retry = Instant::now();
    }

    /// After a signal: files end where they are, growing ones at their present end, and streams may deliver for a moment
    /// what is on its way. Whether that is over.
    fn stop_reading(&mut self) -> bool {
        let now = Instant::now();
        let Some((since, quiet)) = self.stopping else {
            self.stopping = Some((now, None));
            self.planned.clear();
            self.names = None;
            for index in 0..self.sources.len() {
                match self.sources.get(index).and_then(Option::as_ref) {
                    Some(Source {
                        kind: Kind::Fixed, ..
                    }) => self.close(index),
                    Some(Source {
                        kind: Kind::Growing(ends),
                        ..
                    }) => ends.set(),
                    _ => {}
                }
            }
            let is_open = |index: usize| self.sources.get(index).is_some_and(Option::is_some);
            self.current = self.current.filter(|index| is_open(*index));
            let mut ready = std::mem::take(&mut self.ready).into_vec();
            ready.retain(|Reverse((_, index))| is_open(*index));
            self.ready = ready.into();
            self.next_retry = now;
            return false;
        };
        let has_packets = self.current.is_some() || !self.ready.is_empty();
        let quiet = if has_packets {
            None
        } else {
            Some(quiet.unwrap_or(now))
        };
        self.stopping = Some((since, quiet));
        now.duration_since(since) > DRAIN
            || quiet.is_some_and(|quiet| now.duration_since(quiet) > DRAIN_QUIET)
    }

    /// Closes what is still open, and reports what was found out about the inputs.
    pub fn close_all(&mut self) {
        for index in 0..self.sources.len() {
            self.close(index);
        }
        let Findings {
            snapped,
            snapped_packets,
            back,
            ref first_back,
            split,
            parts,
            is_late,
            ..
        } = self.findings;
        if snapped > 0 {
            let text = format!(
                "{} of {} were cut when captured; heads and bodies may be missing",
                plural(snapped_packets, "packet"),
                plural(snapped, "file")
            );
            self.console
                .report(&Diagnostic::new(Code::W081, text).fix("capture with tcpdump -s 0"));
        }
        if back > 0 {
            let text = format!(
                "times go back in {}; {first_back}; calls across such a place may be incomplete",
                plural(back, "file")
            );
            self.console.report(
                &Diagnostic::new(Code::W082, text)
                    .fix("reordercap FILE SORTED    or read the parts as separate files"),
            );
        }
        if split > 0 {
            let text = format!(
                "times go back in {}, put together from several captures; {} were read in the order of their times",
                plural(split, "file"),
                plural(parts, "part"),
            );
            self.console.report(&Diagnostic::new(Code::W082, text));
        }
        if is_late {
            let text = format!(
                "more than {} overlap; some were read later than their times demand",
                plural(CAPTURE_FILES_OPEN_MAX as u64, "file"),
            );
            self.console.report(
                &Diagnostic::new(Code::W082, text)
                    .fix("mergecap -w MERGED FILES    for part of them"),
            );
        }
    }
}

/// The time of the first packet; `None` without packets.
fn first_time(path: &Path) -> Result<Option<Timestamp>, Error> {
    let name = path.to_string_lossy();
    let input = open_input(&name)?;
    CaptureFile::with_window(&name, input, CAPTURE_WINDOW_BYTES_FIRST)?.next_time()
}
