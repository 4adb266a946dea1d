//! A spool as another process reads it, without taking it: what waits in it, segment by segment, and its lines.
//!
//! The sniffer that uses the folder may remove a segment meanwhile; then what it had is delivered, and left out here.

use std::fs::File;
use std::io;
use std::path::Path;

use engine_core::bundle::CallEntry;

use super::format::State;
use super::segment::{Damage, Files, Segment, index_name, is_of_later_version, members_name};
use super::segments::{damaged, numbers};

/// A segment, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// Its number.
    pub number: u64,
    /// The fingerprint of the rules under which its lines were made; 0 is unknown.
    pub rules: u64,
    /// It is delivered although the rules may have changed.
    pub is_released: bool,
    /// Bundles that wait.
    pub bundles: u64,
    /// Calls in them.
    pub calls: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// What cannot be read.
    pub damage: Damage,
}

/// Whether the folder is a spool: it has at least one segment.
pub fn is_spool(folder: &Path) -> bool {
    folder.is_dir() && numbers(folder).is_ok_and(|numbers| !numbers.is_empty())
}

/// What is in the folder: its segments, and the number of files that were kept aside.
///
/// # Errors
///
/// The folder cannot be read.
pub fn overview(folder: &Path) -> io::Result<(Vec<Overview>, usize)> {
    let mut found = Vec::new();
    each(folder, |segment, _, damage| {
        let header = segment.header;
        found.push(Overview {
            number: header.number,
            rules: header.rules,
            is_released: header.is_released,
            bundles: segment.waiting as u64,
            calls: segment.waiting_calls,
            bytes: segment.bytes(),
            damage,
        });
        true
    })?;
    Ok((found, damaged(folder).len()))
}

/// Calls `line` with each line that waits, oldest first, until it returns false. Returns the number of calls that cannot be read.
///
/// # Errors
///
/// The folder cannot be read.
pub fn each_line(
    folder: &Path,
    mut line: impl FnMut(&[u8], &CallEntry) -> bool,
) -> io::Result<u64> {
    let mut unreadable = 0;
    each(folder, |segment, files, damage| {
        unreadable += damage.calls;
        for (number, slot) in segment.slots.iter().enumerate() {
            if slot.state != State::Waiting {
                continue;
            }
            let stored = segment.read(files, number).ok().flatten();
            let lines = stored.and_then(|stored| Some((stored.lines()?, stored.index)));
            let Some((lines, index)) = lines else {
                unreadable += u64::from(slot.calls);
                continue;
            };
            for entry in &index {
                if let Some(text) = entry.line(&lines)
                    && !line(text, entry)
                {
                    return false;
                }
            }
        }
        true
    })?;
    Ok(unreadable)
}

fn each(
    folder: &Path,
    mut segment: impl FnMut(&Segment, &Files, Damage) -> bool,
) -> io::Result<()> {
    for number in numbers(folder)? {
        let open = |name: String| File::open(folder.join(name));
        let files = open(index_name(number)).and_then(|index| {
            let members = open(members_name(number))?;
            Ok(Files { index, members })
        });
        let scanned = files.and_then(|files| match is_of_later_version(&files)? {
            true => Ok(None),
            false => Ok(Some((Segment::scan(number, &files)?, files))),
        });
        match scanned {
            Ok(None) => {}
            Ok(Some(((found, damage), files))) => {
                if !segment(&found, &files, damage) {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
