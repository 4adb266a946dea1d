//! Files that grow while they are read, and the files that join them: `--follow`.
//!
//! Whatever writes a capture may go on in another file: under a new name (tcpdump -C and -G, dumpcap -b), or under a name
//! that it used before (tcpdump -W, logrotate). Names are looked at twice a second, without inotify(7), which network file
//! systems do not support. A file that vanished, or whose place another one took, is read to its end. A file with a
//! compressed name that appears later is taken for a compressed copy of one that was read, as tcpdump -z makes them.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::files::{captures_in, family, is_compressed_name};
use crate::limits::CAPTURE_MARK_BYTES;

/// Time between two looks at the names.
const SCAN: Duration = Duration::from_millis(500);

/// A file that may grow: at its end a read fails with `WouldBlock`.
pub(super) struct Growing {
    file: File,
    position: u64,
    ends: Ends,
}

/// Whether the end of a growing file is its last: shared with who decides that.
#[derive(Clone, Debug, Default)]
pub(super) struct Ends(Rc<Cell<bool>>);

impl Ends {
    /// The file does not grow any more.
    pub(super) fn set(&self) {
        self.0.set(true);
    }
}

impl Growing {
    pub(super) fn new(file: File, ends: Ends) -> Self {
        Self {
            file,
            position: 0,
            ends,
        }
    }
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.position += count as u64;
        if count > 0 || buffer.is_empty() || self.ends.0.get() {
            return Ok(count);
        }
        // A file that is shorter than what was read of it is being written anew: this one has ended.
        let is_shorter = self.file.metadata()?.len() < self.position;
        if is_shorter {
            Ok(0)
        } else {
            Err(ErrorKind::WouldBlock.into())
        }
    }
}

/// The names that are followed, and the files that were found under them.
pub(super) struct Names {
    /// As on the command line: folders, and files with their [family].
    paths: Vec<PathBuf>,
    known: HashMap<PathBuf, Known>,
    next_scan: Instant,
}

/// What identifies a file, and what shows whether it has to be looked at again.
struct Known {
    inode: u64,
    len: u64,
    modified: Option<SystemTime>,
    /// Its first bytes.
    mark: Vec<u8>,
    ends: Ends,
}

impl Names {
    /// The names to follow; `files` are those that were found under them.
    pub(super) fn new(paths: &[PathBuf], files: &[PathBuf]) -> Self {
        let mut names = Self {
            paths: paths.to_vec(),
            known: HashMap::new(),
            next_scan: Instant::now() + SCAN,
        };
        for file in files {
            if let Some(known) = Known::of(file) {
                names.known.insert(file.clone(), known);
            }
        }
        // Older files of a rotated capture that was not named as a whole are not read.
        for path in names.found() {
            if let (false, Some(known)) = (names.known.contains_key(&path), Known::of(&path)) {
                known.ends.set();
                names.known.insert(path, known);
            }
        }
        names
    }

    /// Decides the end of the file of this name.
    pub(super) fn ends(&self, path: &Path) -> Ends {
        self.known
            .get(path)
            .map(|known| known.ends.clone())
            .unwrap_or_default()
    }

    /// Files that are new since the last look, the one that was changed first before the others.
    pub(super) fn new_files(&mut self) -> Vec<PathBuf> {
        if Instant::now() < self.next_scan {
            return Vec::new();
        }
        self.next_scan = Instant::now() + SCAN;
        let found = self.found();
        self.known.retain(|path, known| {
            let is_there = found.contains(path);
            if !is_there {
                known.ends.set();
            }
            is_there
        });
        let mut new = Vec::new();
        for path in found {
            let is_same = self.known.get_mut(&path).map(|known| known.is_still(&path));
            if is_same == Some(true) || (is_same.is_none() && is_compressed_name(&path)) {
                continue;
            }
            if let Some(known) = Known::of(&path) {
                new.push((known.modified, path.clone()));
                if let Some(before) = self.known.insert(path, known) {
                    before.ends.set();
                }
            }
        }
        new.sort_by_key(|(modified, _)| *modified);
        new.into_iter().map(|(_, path)| path).collect()
    }

    /// What is there under the names now.
    fn found(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for path in &self.paths {
            if path.is_dir() {
                found.extend(captures_in(path).unwrap_or_default());
                continue;
            }
            let family_name = family(path);
            let folder = match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder,
                _ => Path::new("."),
            };
            let siblings = std::fs::read_dir(folder).into_iter().flatten().flatten();
            let siblings = siblings.map(|entry| path.with_file_name(entry.file_name()));
            let mut siblings: Vec<_> = siblings
                .filter(|other| other == path || (family(other) == family_name && other.is_file()))
                .collect();
            siblings.sort();
            found.extend(siblings);
        }
        found
    }
}

impl Known {
    /// A regular file as it is now.
    fn of(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok().filter(Metadata::is_file)?;
        Some(Self {
            inode: metadata.ino(),
            len: metadata.len(),
            modified: metadata.modified().ok(),
            mark: mark(path)?,
            ends: Ends::default(),
        })
    }

    /// Whether the name is still that of this file, which may have grown.
    fn is_still(&mut self, path: &Path) -> bool {
        let Ok(metadata) = path.metadata() else {
            return true;
        };
        let modified = metadata.modified().ok();
        if metadata.ino() != self.inode {
            return false;
        }
        if metadata.len() == self.len && modified == self.modified {
            return true;
        }
        let Some(mark) = mark(path) else {
            return true;
        };
        if !mark.starts_with(&self.mark) {
            return false;
        }
        (self.len, self.modified, self.mark) = (metadata.len(), modified, mark);
        true
    }
}

/// The first bytes of a file.
fn mark(path: &Path) -> Option<Vec<u8>> {
    let mut mark = Vec::new();
    let file = File::open(path).ok()?;
    file.take(CAPTURE_MARK_BYTES as u64)
        .read_to_end(&mut mark)
        .ok()?;
    Some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.path(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    fn scan(names: &mut Names) -> Vec<String> {
        names.next_scan = Instant::now();
        let new = names.new_files();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        new.iter().map(name).collect()
    }

    #[test]
    fn a_growing_file_waits_at_its_end_until_that_is_its_last() {
        let folder = Folder::new();
        let path = folder.write("x.pcap", "first");
        let ends = Ends::default();
        let mut growing = Growing::new(File::open(&path).unwrap(), ends.clone());
        let mut text = String::new();
        let mut read = || {
            growing
                .read_to_string(&mut text)
                .map_err(|error| error.kind())
        };
        assert_eq!(read(), Err(ErrorKind::WouldBlock));
        fs::write(&path, "first and more").unwrap();
        assert_eq!(read(), Err(ErrorKind::WouldBlock));
        fs::write(&path, "new").unwrap();
        assert_eq!(read(), Ok(0));
        ends.set();
        fs::write(&path, "first and more at last").unwrap();
        assert_eq!(read(), Ok(8));
    }

    #[test]
    fn names_of_the_same_capture_are_followed() {
        let folder = Folder::new();
        folder.write("x.pcap0", "of an earlier day");
        let path = folder.write("x.pcap", "one");
        let mut names = Names::new(std::slice::from_ref(&path), std::slice::from_ref(&path));
        assert_eq!(scan(&mut names), [""; 0]);
        folder.write("x.pcap", "one grows");
        folder.write("other.pcap", "one");
        assert_eq!(scan(&mut names), [""; 0]);
        folder.write("x.pcap1", "two");
        assert_eq!(scan(&mut names), ["x.pcap1"]);
        let first = names.ends(&path);
        folder.write("x.pcap", "three, in the place of one");
        assert_eq!(scan(&mut names), ["x.pcap"]);
        assert!(first.0.get() && !names.ends(&path).0.get());
        fs::rename(folder.path("x.pcap1"), folder.path("x.pcap1.gz")).unwrap();
        assert_eq!(scan(&mut names), [""; 0]);
    }

    #[test]
    fn folders_are_followed() {
        let folder = Folder::new();
        let path = folder.write("a.pcap", "one");
        let paths = [folder.0.path().to_owned()];
        let mut names = Names::new(&paths, std::slice::from_ref(&path));
        folder.write("b.pcap", "two");
        folder.write("notes", "two");
        assert_eq!(scan(&mut names), ["b.pcap"]);
        let ends = names.ends(&path);
        fs::remove_file(&path).unwrap();
        assert_eq!(scan(&mut names), [""; 0]);
        assert!(ends.0.get());
    }
}
