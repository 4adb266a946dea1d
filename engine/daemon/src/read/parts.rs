//! The parts of a capture file in which times go back: files that were put one behind the other (`mergecap -a`, `cat` of
//! pcapng), such as the two directions of a tap. Each part is then an input of its own, and they are merged by time.
//!
//! A file is looked through beforehand for this, which costs a second pass over it; files above
//! [`CAPTURE_PARTS_BYTES_MAX`] are read as they are, and W082 names what to do.

use std::path::Path;

use engine_core::limits::REORDER_GRACE;
use engine_core::time::Timestamp;

use crate::capture_file::{CaptureFile, open_input};
use crate::limits::{CAPTURE_PARTS_BYTES_MAX, CAPTURE_PARTS_MAX, CAPTURE_WINDOW_BYTES_MANY};

/// Packets of a file that are in the order of their times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The time of its first packet.
    pub(super) first: Timestamp,
    /// How many packets of the file stand before it.
    pub(super) start: u64,
    /// How many packets it has; the last part goes on to the end of the file, whatever is found there.
    pub(super) packets: u64,
}

/// The parts of the file; none if it has to be read as it is: in order, too large, or with too many parts.
pub(super) fn parts(path: &Path) -> Vec<Part> {
    let is_small = |bytes| bytes <= CAPTURE_PARTS_BYTES_MAX;
    if !path
        .metadata()
        .is_ok_and(|metadata| is_small(metadata.len()))
    {
        return Vec::new();
    }
    let name = path.to_string_lossy();
    let input = open_input(&name);
    match input.and_then(|input| CaptureFile::with_window(&name, input, CAPTURE_WINDOW_BYTES_MANY))
    {
        Ok(mut file) => split(std::iter::from_fn(|| {
            let time = file.next_time().ok().flatten()?;
            file.next().ok().flatten()?;
            Some(time)
        })),
        Err(_) => Vec::new(),
    }
}

fn split(times: impl Iterator<Item = Timestamp>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut latest = Timestamp::ZERO;
    for (number, time) in (0..).zip(times) {
        if parts.is_empty() || latest.since(time) > REORDER_GRACE {
            if parts.len() == CAPTURE_PARTS_MAX {
                return Vec::new();
            }
            if let Some(last) = parts.last_mut() {
                last.packets = number - last.start;
            }
            parts.push(Part {
                first: time,
                start: number,
                packets: u64::MAX,
            });
            latest = time;
        }
        latest = latest.max(time);
    }
    if parts.len() < 2 {
        parts.clear();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split_millis(millis: &[u64]) -> Vec<(u64, u64, u64)> {
        let times = millis
            .iter()
            .map(|&ms| Timestamp::from_nanos((1_000_000 + ms) * 1_000_000));
        split(times)
            .iter()
            .map(|part| {
                let first = part.first.nanos() / 1_000_000 - 1_000_000;
                (first, part.start, part.packets)
            })
            .collect()
    }

    #[test]
    fn a_file_in_order_has_no_parts() {
        assert_eq!(split_millis(&[]), []);
        assert_eq!(split_millis(&[5, 6, 7, 100]), []);
        // What a mirror reorders by is no part.
        assert_eq!(split_millis(&[100, 90, 101, 81]), []);
    }

    #[test]
    fn each_place_where_times_go_back_begins_a_part() {
        assert_eq!(
            split_millis(&[0, 50, 100, 1, 51, 101, 0]),
            [(0, 0, 3), (1, 3, 3), (0, 6, u64::MAX)]
        );
        // The latest time counts, not the one before.
        assert_eq!(
            split_millis(&[100, 90, 75]),
            [(100, 0, 2), (75, 2, u64::MAX)]
        );
    }

    #[test]
    fn too_many_parts_are_none() {
        let steps: Vec<u64> = (0..=CAPTURE_PARTS_MAX as u64)
            .map(|n| 100_000 - n * 100)
            .collect();
        assert_eq!(split_millis(&steps), []);
        assert_eq!(split_millis(&steps[1..]).len(), CAPTURE_PARTS_MAX);
    }
}
