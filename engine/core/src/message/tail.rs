//! The end of a body behind its limit (`--body-tail`): the last bytes of it, and how many are left out before them.
//!
//! The usage of a model's answer stands in its last event, and a list often ends with what it adds up to. The body in the line is
//! then its beginning, a mark with the number of bytes between, and its end. A body that a rule has to see has no such end:
//! what a rule looks for may begin in the part that is not there.
//!
//! Bound: as many bytes as are set, at most `BODY_TAIL_BYTES_MAX`, and their memory is that of the open exchange.

use crate::ndjson;

/// The end of one body.
#[derive(Debug)]
pub(super) struct BodyTail {
    bytes_max: usize,
    /// The last bytes; a ring once it is full.
    ring: Vec<u8>,
    /// Where the oldest of them is.
    start: usize,
    /// Bytes between the beginning of the body and these.
    pub(super) left_out: u64,
}

impl BodyTail {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            ring: Vec::new(),
            start: 0,
            left_out: 0,
        }
    }

    /// As at the start, for the next part of a stream.
    pub(super) fn take_part(&mut self) -> Self {
        let anew = Self::new(self.bytes_max);
        std::mem::replace(self, anew)
    }

    /// Its memory.
    pub(super) fn memory(&self) -> usize {
        self.ring.capacity()
    }

    /// Appends bytes, in the place of the oldest where there is no other.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.bytes_max);
        let (passed, bytes) = bytes.split_at(bytes.len() - kept);
        self.left_out += passed.len() as u64;
        let free = self.bytes_max - self.ring.len();
        let (fresh, bytes) = bytes.split_at(bytes.len().min(free));
        if !fresh.is_empty() {
            // Nothing was taken from the front so far.
            self.ring.extend_from_slice(fresh);
        }
        self.left_out += bytes.len() as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            let places = self.ring.get_mut(self.start..).unwrap_or_default();
            let count = places.len().min(rest.len());
            let (now, later) = rest.split_at(count);
            for (place, byte) in places.iter_mut().zip(now) {
                *place = *byte;
            }
            self.start += count;
            if self.start >= self.ring.len() {
                self.start = 0;
            }
            rest = later;
        }
    }

    /// Bytes of the body are missing here: what lies before them is left out as well.
    pub(super) fn missing(&mut self, count: u64) {
        let lost = count.saturating_add(self.ring.len() as u64);
        self.left_out = self.left_out.saturating_add(lost);
        self.ring.clear();
        self.start = 0;
    }

    /// Bytes that stand before it have no room in the beginning of the body, of which some are left out.
    pub(super) fn leave_out_before(&mut self, count: usize) {
        self.left_out += count as u64;
    }

    /// The bytes behind the beginning, if none is left out.
    pub(super) fn whole(&self) -> Option<&[u8]> {
        (self.left_out == 0).then_some(self.ring.as_slice())
    }

    /// Whether there is anything behind the beginning.
    pub(super) fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.left_out == 0
    }

    /// Appends it, as text of JSON, to the beginning of the body, of which `tail` has a character that the limit divided. With
    /// nothing left out it continues the beginning.
    pub(super) fn write(&mut self, tail: &mut ndjson::Tail, out: &mut Vec<u8>) {
        let (second, first) = self.ring.split_at_checked(self.start).unwrap_or_default();
        let mut parts = [first, second];
        if self.left_out > 0 {
            ndjson::escape_end(tail, out);
            // The first character may be divided.
            let is_rest = |byte: &&u8| **byte & 0xc0 == 0x80;
            let joined = first.iter().chain(second);
            let divided = joined.take(3).take_while(is_rest).count();
            let of_first = divided.min(first.len());
            parts = [
                first.get(of_first..).unwrap_or_default(),
                second.get(divided - of_first..).unwrap_or_default(),
            ];
            self.left_out += divided as u64;
            out.extend_from_slice(b"\\n[");
            ndjson::decimal(self.left_out, out);
            out.extend_from_slice(b" bytes left out]\\n");
        }
        for part in parts {
            ndjson::escape_part(tail, part, out);
        }
        ndjson::escape_end(tail, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a tail of five bytes after these slices.
    fn text(slices: &[&str]) -> (String, u64) {
        let mut tail = BodyTail::new(5);
        for slice in slices {
            tail.push(slice.as_bytes());
        }
        let mut out = Vec::new();
        tail.write(&mut Default::default(), &mut out);
        (String::from_utf8(out).unwrap(), tail.left_out)
    }

    #[test]
    fn the_last_bytes_stay() {
        let all = "abcdefghijklmnopqrstuvwxyz";
        for length in 1..all.len() {
            let body = &all[..length];
            for size in 1..=length {
                let slices: Vec<&str> = body
                    .as_bytes()
                    .chunks(size)
                    .map(|slice| str::from_utf8(slice).unwrap())
                    .collect();
                let kept = length.min(5);
                let left_out = length - kept;
                let mark = format!("\\n[{left_out} bytes left out]\\n");
                let mark = if left_out > 0 { mark.as_str() } else { "" };
                let expected = format!("{mark}{}", &body[left_out..]);
                assert_eq!(text(&slices), (expected, left_out as u64), "{size}");
            }
        }
    }

    #[test]
    fn a_divided_character_is_left_out() {
        let (found, left_out) = text(&["x€€"]);
        assert_eq!(found, "\\n[4 bytes left out]\\n€");
        assert_eq!(left_out, 4);
    }

    #[test]
    fn what_is_missing_is_left_out_with_what_lies_before_it() {
        let mut tail = BodyTail::new(5);
        tail.push(b"0123456");
        tail.missing(10);
        tail.push(b"ab");
        let mut out = Vec::new();
        tail.write(&mut Default::default(), &mut out);
        assert_eq!(out, b"\\n[17 bytes left out]\\nab");
    }
}
