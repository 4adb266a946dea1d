//! The files of a folder: the one that grows, and the complete ones with their bounds.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{CWD, FlockOperation, OFlags, RenameFlags, flock, renameat_with};
use rustix::process::geteuid;
use store::folder::Folder;
use zstd::bulk::Compressor;

use super::names::{self, LOCK, PART};
use crate::config::FolderUrl;
use crate::diagnostic::system_words;
use crate::sink::writing::{Target, Write};

/// The level of compression: the fastest of the usual ones, since one thread compresses for all shards.
const ZSTD_LEVEL: i32 = 1;

/// Bytes that are read at once while the last line end of a file is looked for.
const TAIL_BYTES: u64 = 64 << 10;

/// What was done so far, for other threads.
#[derive(Debug, Default)]
pub(super) struct Counts {
    completed: AtomicU64,
    deleted: AtomicU64,
    written: AtomicU64,
}

impl Counts {
    pub(super) fn completed(&self) -> u64 {
        self.completed.load(Ordering::Relaxed)
    }

    pub(super) fn deleted(&self) -> u64 {
        self.deleted.load(Ordering::Relaxed)
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

/// A complete file.
#[derive(Debug)]
struct Complete {
    name: String,
    bytes: u64,
    ended: SystemTime,
}

/// The file that grows.
#[derive(Debug)]
struct Growing {
    file: File,
    /// The name that it will have.
    name: String,
    since: Instant,
    bytes: u64,
    calls: u64,
}

/// The folder, for one process.
pub(super) struct Files {
    folder: Folder,
    /// Locked as long as it is open.
    _lock: File,
    sink: String,
    bounds: FolderUrl,
    /// Oldest first.
    complete: VecDeque<Complete>,
    complete_bytes: u64,
    growing: Option<Growing>,
    next: u64,
    compressor: Option<Compressor<'static>>,
    compressed: Vec<u8>,
    counts: Arc<Counts>,
}

impl Files {
    /// Opens the folder for this process alone, and completes what an earlier one left.
    pub(super) fn open(sink: &str, url: &FolderUrl) -> Result<Self, String> {
        let folder = Folder::open(&url.folder).map_err(|error| {
            // The outermost context names the folder as that of a store.
            let words: Vec<_> = error.chain().skip(1).map(ToString::to_string).collect();
            words.join(": ")
        })?;
        let words = |error: io::Error| system_words(&error).to_string();
        let owner = folder.path().metadata().map_err(words)?.uid();
        let user = geteuid().as_raw();
        if owner != user {
            // A capture of root gives up the right to write to folders of others.
            return Err(format!(
                "it belongs to user {owner}; chown {user} it, or use another folder"
            ));
        }
        let lock = folder
            .file(LOCK)
            .map_err(|error| format!("{error:#}"))?
            .file;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| "another process, or another sink, uses it".to_owned())?;
        let compressor = url.is_compressed.then(|| Compressor::new(ZSTD_LEVEL));
        let mut files = Self {
            folder,
            _lock: lock,
            sink: sink.to_owned(),
            bounds: url.clone(),
            complete: VecDeque::new(),
            complete_bytes: 0,
            growing: None,
            next: 1,
            compressor: compressor.transpose().map_err(words)?,
            compressed: Vec::new(),
            counts: Arc::default(),
        };
        files.recover().map_err(words)?;
        Ok(files)
    }

    /// The folder without links in its path.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// For other threads.
    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Finds the files of this sink; one that an earlier process left growing is completed, without the line that it did not
    /// end.
    fn recover(&mut self) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder.path())? {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(number) = names::number(&self.sink, name) {
                names.push((number, name.to_owned()));
                self.next = self.next.max(number + 1);
            }
        }
        names.sort();
        for (_, name) in names {
            let path = self.folder.path().join(&name);
            let found = fs::symlink_metadata(&path)?;
            if !found.is_file() {
                continue;
            }
            let mut bytes = found.len();
            let name = match name.strip_suffix(PART) {
                None => name,
                Some(complete) => {
                    if complete.ends_with(".ndjson") {
                        bytes = cut_after_last_line(&path)?;
                    }
                    if bytes == 0 {
                        fs::remove_file(&path)?;
                        continue;
                    }
                    self.rename(complete)?;
                    complete.to_owned()
                }
            };
            self.complete_bytes += bytes;
            self.complete.push_back(Complete {
                name,
                bytes,
                ended: found.modified()?,
            });
        }
        Ok(())
    }

    /// Gives a growing file the name that it is to have, unless there is such a file.
    fn rename(&self, name: &str) -> io::Result<()> {
        let complete = self.folder.path().join(name);
        let part = self.folder.path().join(format!("{name}{PART}"));
        match renameat_with(CWD, &part, CWD, &complete, RenameFlags::NOREPLACE) {
            // Some file systems cannot be asked not to replace. Nobody else makes files here, so the look is enough.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                if fs::symlink_metadata(&complete).is_ok() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                fs::rename(&part, &complete)
            }
            renamed => Ok(renamed?),
        }
    }

    fn begin(&mut self, now: Instant) -> io::Result<&mut Growing> {
        let begun = SystemTime::now();
        let name = names::name(&self.sink, begun, self.next, self.bounds.is_compressed);
        let path = self.folder.path().join(format!("{name}{PART}"));
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)?;
        self.next += 1;
        Ok(self.growing.insert(Growing {
            file,
            name,
            since: now,
            bytes: 0,
            calls: 0,
        }))
    }

    /// Whether the growing file has reached one of its bounds.
    fn is_full(&self, now: Instant) -> bool {
        let bounds = &self.bounds;
        self.growing.as_ref().is_some_and(|growing| {
            growing.bytes >= bounds.file_bytes
                || growing.calls >= bounds.file_calls
                || now.saturating_duration_since(growing.since) >= bounds.file_time
        })
    }

    /// Completes the growing file. Where that fails it stays as it is, and the next call tries again.
    fn end(&mut self) -> io::Result<()> {
        let Some(growing) = &self.growing else {
            return Ok(());
        };
        // Before it has its name: a complete file is whole after a loss of power, too.
        growing.file.sync_data()?;
        self.rename(&growing.name)?;
        if let Some(Growing { name, bytes, .. }) = self.growing.take() {
            self.complete_bytes += bytes;
            self.complete.push_back(Complete {
                name,
                bytes,
                ended: SystemTime::now(),
            });
            self.counts.completed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Deletes the oldest files until there is room for `more` bytes, and those that are too old.
    fn delete_old(&mut self, more: u64) -> io::Result<()> {
        let now = SystemTime::now();
        while let Some(oldest) = self.complete.front() {
            let growing = self.growing.as_ref().map_or(0, |growing| growing.bytes);
            let is_full = self.complete_bytes + growing + more > self.bounds.keep_bytes;
            let age = now.duration_since(oldest.ended).unwrap_or(Duration::ZERO);
            if !is_full && age <= self.bounds.keep_time {
                break;
            }
            match fs::remove_file(self.folder.path().join(&oldest.name)) {
                Ok(()) => {
                    self.counts.deleted.fetch_add(1, Ordering::Relaxed);
                }
                // Somebody else has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.complete_bytes = self.complete_bytes.saturating_sub(oldest.bytes);
            self.complete.pop_front();
        }
        Ok(())
    }

    fn append(&mut self, lines: &[u8], calls: u64, now: Instant) -> io::Result<()> {
        if self.is_full(now) {
            self.end()?;
        }
        let mut compressed = std::mem::take(&mut self.compressed);
        compressed.clear();
        let appended = match &mut self.compressor {
            None => self.append_bytes(lines, calls, now),
            Some(compressor) => {
                // A frame of its own, so that what was written before is whole whatever happens to this one.
                compressed.reserve(zstd::zstd_safe::compress_bound(lines.len()));
                (compressor.compress_to_buffer(lines, &mut compressed))
                    .and_then(|_| self.append_bytes(&compressed, calls, now))
            }
        };
        self.compressed = compressed;
        appended
    }

    /// All of it, or nothing.
    fn append_bytes(&mut self, bytes: &[u8], calls: u64, now: Instant) -> io::Result<()> {
        let length = bytes.len() as u64;
        self.delete_old(length)?;
        if self.growing.is_none() {
            self.begin(now)?;
        }
        let Some(growing) = &mut self.growing else {
            return Ok(());
        };
        if let Err(error) = growing.file.write_all(bytes) {
            // A part of a line would be read as one.
            growing.file.set_len(growing.bytes)?;
            return Err(error);
        }
        growing.bytes += length;
        growing.calls += calls;
        self.counts.written.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }
}

impl Target for Files {
    fn write(&mut self, lines: &[u8], calls: u64, now: Instant) -> Write {
        match self.append(lines, calls, now) {
            Ok(()) => Write::Done,
            Err(error) => Write::Failed(system_words(&error).to_string()),
        }
    }

    fn tick(&mut self, now: Instant) -> Result<(), String> {
        let words = |error: io::Error| system_words(&error).to_string();
        if self.is_full(now) {
            self.end().map_err(words)?;
        }
        self.delete_old(0).map_err(words)
    }

    fn close(&mut self) -> Result<(), String> {
        let ended = self.end();
        ended.map_err(|error| system_words(&error).to_string())
    }
}

/// Cuts a file behind its last line end; its length afterwards.
fn cut_after_last_line(path: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    let mut end = file.metadata()?.len();
    let mut piece = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        piece.clear();
        Read::take(&file, end - start).read_to_end(&mut piece)?;
        if let Some(place) = piece.iter().rposition(|byte| *byte == b'\n') {
            end = start + place as u64 + 1;
            break;
        }
        end = start;
    }
    file.set_len(end)?;
    Ok(end)
}
