//! Resynchronisation: in the midst of a connection and after a lost frame the next frame is looked for.
//!
//! Endpoints write whole frames, so most segments begin with one; others are searched from byte to byte. Bytes that may be
//! frames are held, up to [`limits::HELD_BYTES_MAX`], until that is certain. Bytes passed over are counted.

use super::Connection;
use crate::flow::Direction;
use crate::http::h2::frame::{self, Chain, HEADER, Run};
use crate::http::h2::reading::{Input, Step};
use crate::http::{Exchanges, Http, Protocol, Side};
use crate::limits;

impl<D> Connection<D> {
    /// A frame is lost, or the beginning of one: the next one is looked for, and of the table nothing is known.
    #[cold]
    pub(super) fn lose<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        self.forget_block(direction, shared);
        let side = self.side(direction);
        let reading = &mut self.readings[direction];
        // No frame is at hand of which anything could end.
        (reading.step, reading.left) = (Step::Resync, 1);
        shared.counters.bytes_passed_over += reading.held.len() as u64;
        shared.buffers.release(&mut reading.held);
        (reading.is_lossy, reading.lost_block) = (true, true);
        reading.lose_frames();
        if let Some(side) = side {
            self.streams.for_each(|stream| {
                let part = stream.part(side);
                (part.is_damaged, part.lost_frames) = (true, true);
                if let Some(websocket) = &mut stream.websocket {
                    websocket.lose(side);
                }
            });
        }
    }

    /// Looks for the next frame.
    #[cold]
    pub(super) fn resync<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        let held = self.readings[direction].held.len();
        if held > 0 {
            match self.held_run(direction, input.bytes, shared) {
                Run::Frames => return self.synchronise(direction, held, shared),
                Run::Begun(_) => {
                    input.take(usize::MAX);
                    return;
                }
                Run::Nothing => {}
            }
        }
        let (place, run) = find(input.bytes, self.stream_in_use());
        let passed = input.take(place).len();
        shared.counters.bytes_passed_over += passed as u64;
        let reading = &mut self.readings[direction];
        reading.passed = reading.passed.saturating_add(passed as u32);
        match run {
            Run::Frames => self.synchronise(direction, 0, shared),
            Run::Begun(_) => {
                reading.held_since = input.time;
                let bytes = input.take(usize::MAX);
                self.held_run(direction, bytes, shared);
            }
            Run::Nothing => self.give_up_detection(),
        }
    }

    /// Adds bytes to those that are held, and returns what all of them are; what is nothing is no longer held.
    fn held_run<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) -> Run {
        let stream = self.stream_in_use();
        let reading = &mut self.readings[direction];
        let fits = reading.held.len() + bytes.len() <= limits::HELD_BYTES_MAX;
        let before = reading.held.len();
        let found = if fits && shared.buffers.append(&mut reading.held, bytes) {
            run(&reading.held, stream)
        } else {
            Run::Nothing
        };
        if found == Run::Nothing {
            shared.counters.bytes_passed_over += before as u64;
            shared.buffers.release(&mut reading.held);
        }
        found
    }

    /// A stream that is in use, of those with the largest numbers; 0 if none is known.
    fn stream_in_use(&self) -> u32 {
        let readings = self.readings.both().into_iter();
        let streams = readings.map(|reading| reading.highest.max(reading.frame.stream));
        streams.max().unwrap_or_default()
    }

    /// It is certain where a frame begins; the first `held` of the bytes that are held come before those at hand.
    fn synchronise<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        held: usize,
        shared: &mut Http<X>,
    ) {
        shared.counters.http2_resynchronised += 1;
        let reading = &mut self.readings[direction];
        reading.expect_frame();
        (reading.passed, reading.is_trial) = (0, true);
        let mut bytes = std::mem::take(&mut reading.held);
        let mut input = Input {
            bytes: bytes.get(..held).unwrap_or_default(),
            offset: 0,
            time: reading.held_since,
        };
        if !self.is_confirmed && self.readings[direction.reverse()].step != Step::Resync {
            self.confirm(shared);
        }
        while !input.bytes.is_empty() && self.next.is_none() {
            self.read(direction, &mut input, shared);
        }
        shared.buffers.release(&mut bytes);
    }

    /// A connection that is not certain to be HTTP/2 is something else if both sides have shown enough without a frame.
    fn give_up_detection(&mut self) {
        let [originator, responder] = self.readings.both();
        let passed = u64::from(originator.passed.min(responder.passed));
        if !self.is_confirmed && passed >= limits::RESYNC_GIVE_UP_BYTES {
            self.next = Some(Protocol::Other);
        }
    }

    /// The direction is not read any more: what only it could complete ends.
    pub(super) fn stop_reading<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        self.forget_block(direction, shared);
        let reading = &mut self.readings[direction];
        (reading.step, reading.is_lossy) = (Step::Stopped, true);
        reading.lose_frames();
        if let Some(side) = self.side(direction) {
            self.streams.for_each(|stream| {
                stream.part(side).lost_frames = true;
                if let Some(websocket) = &mut stream.websocket {
                    websocket.lose(side);
                }
            });
        }
        match self.side(direction) {
            Some(Side::Request) => self.end_requests(shared),
            Some(Side::Response) => self.end_all(self.loss(Side::Response), shared),
            None => {}
        }
    }

    /// What was read of a header block is of no use, nor is the table any more.
    fn forget_block<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        if let Some(open) = self.readings[direction].open.take() {
            shared.counters.heads_cut += 1;
            shared.buffers.let_go(open.held);
            shared.h2.recycle(open);
        }
        if let Some(key) = &self.tables {
            if let Some(mut table) = shared.h2.tables.get(key, direction) {
                table.forget();
            }
            shared.counters.http2_tables_shed += shared.h2.tables.settle(key);
        }
    }
}

/// The first place in `bytes` where frames begin, or may begin; `stream` is one in use.
fn find(bytes: &[u8], stream: u32) -> (usize, Run) {
    let mut begun = None;
    for place in 0..bytes.len().saturating_sub(HEADER - 1) {
        let rest = bytes.get(place..).unwrap_or_default();
        // Longer frames than the default are not looked for.
        if rest.first() != Some(&0) {
            continue;
        }
        match run(rest, stream) {
            Run::Frames => return (place, Run::Frames),
            found @ Run::Begun(_) if begun.is_none() => begun = Some((place, found)),
            Run::Begun(_) | Run::Nothing => {}
        }
    }
    begun.unwrap_or((bytes.len(), Run::Nothing))
}

/// What `bytes` begin with.
fn run(bytes: &[u8], stream: u32) -> Run {
    frame::run(bytes, Chain::default(), stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pieces: &[&[u8]], expected: (usize, bool)) {
        let (place, found) = find(&pieces.concat(), 0);
        assert_eq!((place, found == Run::Frames), expected);
    }

    #[test]
    fn a_run_is_found_from_its_beginning() {
        let data = &b"\0\0\x03\0\0\0\0\0\x01abc"[..];
        let begun = &b"\0\0\x63\0\0\0\0\0\x01abc"[..];
        check(&[b"rest of a body", data, data, data], (14, true));
        check(&[b"rest of a body", data, data, begun], (14, true));
        check(&[b"rest of a body", begun], (14, false));
        check(&[b"rest", &[1; 40], data, b"x"], (44, false));
        check(&[b"text without frames"], (19, false));
    }

    #[test]
    fn tables_of_numbers_are_no_frames() {
        for width in [2, 4, 8] {
            for first in 0..600_u64 {
                for step in 0..4 {
                    for is_big in [false, true] {
                        let numbers = (0..200).map(|place| first + step * place);
                        let octets = |number: u64| {
                            let (big, little) = (number.to_be_bytes(), number.to_le_bytes());
                            if is_big {
                                big[8 - width..].to_vec()
                            } else {
                                little[..width].to_vec()
                            }
                        };
                        let table: Vec<u8> = numbers.flat_map(octets).collect();
                        let (place, run) = find(&table, 0);
                        assert!(
                            run != Run::Frames,
                            "{width} octets, {first} + {step} n, {is_big}: {:x?}",
                            &table[place..(place + 40).min(table.len())]
                        );
                    }
                }
            }
        }
    }
}
