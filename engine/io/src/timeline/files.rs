//! Which files are read: those that are named, and those in named folders.
//!
//! Whatever rotates a capture gives its files names of its own: `x.pcap`, `x.pcap1`, ... (tcpdump -C), `x.pcap00` (-W),
//! `x_00001_20260102030405.pcapng` (dumpcap -b), `x.pcap.1` (logrotate), each also compressed. Names only decide which
//! files of a folder are captures, and the order of files that start at the same time; their packets decide the rest.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use crate::diagnostic::{Code, Diagnostic, system_words};

/// Suffixes of files in a folder that are read; a file named on the command line may be called anything.
const SUFFIXES: [&str; 4] = ["pcap", "pcapng", "cap", "dmp"];

/// Suffixes of compressed files, behind one of [`SUFFIXES`].
const COMPRESSED: [&str; 2] = ["gz", "zst"];

/// The files to read: those of folders in the order of their names, with numbers in them compared as numbers. A folder
/// without any is an error, unless it `may_be_empty`.
pub fn files(paths: &[PathBuf], may_be_empty: bool) -> Result<Vec<PathBuf>, Diagnostic> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let inside = captures_in(path).map_err(|error| {
            Diagnostic::new(
                Code::E080,
                format!("{}: {}", path.display(), system_words(&error)),
            )
        })?;
        if inside.is_empty() && !may_be_empty {
            return Err(Diagnostic::new(
                Code::E080,
                format!("{}: no capture file in this folder", path.display()),
            )
            .cause(format!(
                "looked for names that end in .{}, also with a number or with .{} behind",
                SUFFIXES.join(", ."),
                COMPRESSED.join(" or .")
            )));
        }
        files.extend(inside);
    }
    Ok(files)
}

/// The capture files in a folder and the folders in it, in the order of their names.
pub(super) fn captures_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut inside = Vec::new();
    collect(folder, &mut inside)?;
    inside.sort_by(|one, other| by_name(one, other));
    Ok(inside)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Links are not followed: a folder may lead back to itself.
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if is_capture_name(&entry.path()) {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// Whether the name is that of a compressed file.
pub(super) fn is_compressed_name(path: &Path) -> bool {
    suffix(path).is_some_and(|suffix| COMPRESSED.contains(&suffix.as_str()))
}

fn is_capture_name(path: &Path) -> bool {
    let mut plain = path.to_owned();
    if is_compressed_name(&plain) {
        plain.set_extension("");
    }
    let is_number = |suffix: &str| suffix.bytes().all(|byte| byte.is_ascii_digit());
    if suffix(&plain).is_some_and(|suffix| is_number(&suffix)) {
        plain.set_extension("");
    }
    suffix(&plain).is_some_and(|suffix| {
        SUFFIXES.contains(&suffix.trim_end_matches(|letter: char| letter.is_ascii_digit()))
    })
}

fn suffix(path: &Path) -> Option<String> {
    path.extension()
        .and_then(OsStr::to_str)
        .map(str::to_ascii_lowercase)
}

/// What the names of the files of one rotated capture have in common: the folder, and the name without its numbers.
pub(super) fn family(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut common = String::new();
    for letter in name.chars() {
        if !letter.is_ascii_digit() {
            common.push(letter);
        } else if !common.ends_with('#') {
            common.push('#');
        }
    }
    let common = common.trim_end_matches('#').trim_end_matches('.');
    path.with_file_name(common)
}

/// The order of names, in which numbers count as numbers: `t2` is before `t10`.
fn by_name(one: &Path, other: &Path) -> Ordering {
    let (one_text, other_text) = (one.to_string_lossy(), other.to_string_lossy());
    let order = parts(&one_text).cmp(parts(&other_text));
    order.then_with(|| one.cmp(other))
}

/// A part of a name: a number, without leading zeros, or text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Number(usize, &'a str),
    Text(&'a str),
}

fn parts(name: &str) -> impl Iterator<Item = Part<'_>> {
    let is_digit = |letter: char| letter.is_ascii_digit();
    let mut rest = name;
    std::iter::from_fn(move || {
        let is_number = rest.starts_with(is_digit);
        let end = rest
            .find(|letter| is_digit(letter) != is_number)
            .unwrap_or(rest.len());
        let (part, behind) = rest.split_at(end);
        rest = behind;
        let number = part.trim_start_matches('0');
        match part {
            "" => None,
            _ if is_number => Some(Part::Number(number.len(), number)),
            text => Some(Part::Text(text)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(there: &[&str], expected: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        for name in there {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = files(&[folder.path().to_owned(), PathBuf::from("-")], false).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(folder.path()).unwrap_or(path))
            .collect();
        let expected = expected.iter().map(Path::new).chain([Path::new("-")]);
        assert_eq!(names, expected.collect::<Vec<_>>());
    }

    #[test]
    fn folders_are_read_in_order_and_only_captures_of_them() {
        check(
            &[
                "b.pcap",
                "a.pcapng.gz",
                "c.pcap.zst",
                "notes.txt",
                "d.gz",
                "E.CAP",
                "deep/f.pcap",
            ],
            &[
                "E.CAP",
                "a.pcapng.gz",
                "b.pcap",
                "c.pcap.zst",
                "deep/f.pcap",
            ],
        );
    }

    #[test]
    fn rotated_files_are_captures_and_their_numbers_count() {
        check(
            &[
                "x.pcap",
                "x.pcap1",
                "x.pcap10",
                "x.pcap2",
                "x.pcap3.gz",
                "x.1",
                "x.log.1",
            ],
            &["x.pcap", "x.pcap1", "x.pcap2", "x.pcap3.gz", "x.pcap10"],
        );
        check(
            &["y.pcap.2", "y.pcap.10.gz", "y.pcap", "y.pcap.1"],
            &["y.pcap", "y.pcap.1", "y.pcap.2", "y.pcap.10.gz"],
        );
        check(
            &["t10.pcap", "t2.pcap", "t1.pcap", "t002.pcap"],
            &["t1.pcap", "t002.pcap", "t2.pcap", "t10.pcap"],
        );
    }

    #[test]
    fn an_empty_folder_is_an_error_unless_files_may_come() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().to_owned()];
        assert_eq!(files(&paths, false).unwrap_err().code, Code::E080);
        assert_eq!(files(&paths, true).unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn the_files_of_a_rotated_capture_are_one_family() {
        let check = |one: &str, other: &str, same: bool| {
            assert_eq!(family(Path::new(one)) == family(Path::new(other)), same);
        };
        check("a/x.pcap", "a/x.pcap1", true);
        check("a/x.pcap00", "a/x.pcap11", true);
        check("a/x.pcap.1", "a/x.pcap", true);
        check("x_00001_20260102.pcapng", "x_00012_20260103.pcapng", true);
        check("trace-0102.pcap", "trace-0303.pcap", true);
        check("a/x.pcap", "b/x.pcap", false);
        check("eth.pcap", "lo.pcap", false);
    }
}
