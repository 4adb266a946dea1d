//! The parts of a capture file in which times go back: files that were put one behind the other (`mergecap -a`, `cat` of
//! pcapng), such as the two directions of a tap. Each part is then an input of its own, and they are merged by time.
//!
//! A file is looked through beforehand for this, which costs a second pass over it; files above
//! [`CAPTURE_PARTS_BYTES_MAX`] are read as they are, and W082 names what to do.

use std::path::Path;

use engine_core::limits::REORDER_GRACE;
use engine_core::time::Timestamp;

use crate::capture_file::{CaptureFile, open_input};
use crate::limits::{
    CAPTURE_PART_PACKETS_MIN, CAPTURE_PARTS_BYTES_MAX, CAPTURE_PARTS_MAX, CAPTURE_WINDOW_BYTES_MANY,
};

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

/// Where times go back to the first half of a part, and stay behind its end for some packets, a further capture begins.
/// A clock that was set goes back less, and a packet with a wrong time stands alone.
fn split(times: impl Iterator<Item = Timestamp>) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    // The part that is read: its latest time, and of the part before it, with the packets that are behind that.
    let (mut latest, mut before, mut behind) = (Timestamp::ZERO, Timestamp::ZERO, 0);
    for (number, time) in (0..).zip(times) {
        let goes_back = latest.since(time) > REORDER_GRACE;
        let is_in_first_half = |part: &Part| time.since(part.first) <= latest.since(part.first) / 2;
        if parts
            .last()
            .is_none_or(|part| goes_back && is_in_first_half(part))
        {
            join_if_alone(&mut parts, behind);
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
            (before, behind) = (latest, 0);
            latest = time;
        }
        behind += u64::from(before.since(time) > REORDER_GRACE);
        latest = latest.max(time);
    }
    join_if_alone(&mut parts, behind);
    if parts.len() < 2 {
        parts.clear();
    }
    parts
}

/// Gives the packets of the last part to the one before it, if too few of them are behind that.
fn join_if_alone(parts: &mut Vec<Part>, behind: u64) {
    if parts.len() > 1 && behind < CAPTURE_PART_PACKETS_MIN {
        parts.pop();
        if let Some(last) = parts.last_mut() {
            last.packets = u64::MAX;
        }
    }
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

    /// `count` packets, `step` ms apart.
    fn packets(from: u64, count: u64, step: u64) -> impl Iterator<Item = u64> {
        (0..count).map(move |n| from + n * step)
    }

    #[test]
    fn each_capture_in_a_file_is_a_part() {
        let file: Vec<u64> = (packets(0, 20, 10))
            .chain(packets(1, 20, 10))
            .chain(packets(2, 20, 10))
            .collect();
        assert_eq!(
            split_millis(&file),
            [(0, 0, 20), (1, 20, 20), (2, 40, u64::MAX)]
        );
    }

    #[test]
    fn a_wrong_time_and_a_clock_that_was_set_make_no_part() {
        let wrong: Vec<u64> = (packets(0, 20, 10))
            .chain([0])
            .chain(packets(200, 20, 10))
            .collect();
        assert_eq!(split_millis(&wrong), []);
        let set: Vec<u64> = (packets(0, 100, 10)).chain(packets(600, 100, 10)).collect();
        assert_eq!(split_millis(&set), []);
    }

    #[test]
    fn too_many_parts_are_none() {
        let file = |parts: usize| -> Vec<u64> {
            let parts = (0..parts as u64).flat_map(|part| packets(part, 20, 10));
            parts.collect()
        };
        assert_eq!(split_millis(&file(CAPTURE_PARTS_MAX + 1)), []);
        assert_eq!(
            split_millis(&file(CAPTURE_PARTS_MAX)).len(),
            CAPTURE_PARTS_MAX
        );
    }
}
