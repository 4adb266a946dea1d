//! Unknown ground: after a loss, after rubbish and in the middle of a flow the next start line is looked for.
//!
//! Every byte is looked at once. Of lines only an unfinished one is kept, bounded by
//! [`limits::RESYNC_LINE_BYTES_MAX`]; all bytes passed over are counted.

use memchr::{memchr, memmem, memrchr};

use super::{Connection, other};
use crate::flow::Direction;
use crate::http::h1::direction::{HalfReader, Input, Step};
use crate::http::h1::start_line::find_start;
use crate::http::{Exchanges, Http, Side, Speech};
use crate::limits;
use crate::time::Timestamp;

impl<D> Connection<D> {
    /// Bytes are lost between messages or within a head: goes on at the next start line.
    pub(super) fn lose<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        len: u64,
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        half.step = Step::Hunt;
        half.lost = half.lost.saturating_add(len);
        let passed = half.buffer.len();
        shared.buffers.release(&mut half.buffer);
        self.pass_over(direction, passed, shared);
        if let Some(client) = self.client
            && matches!(self.half(client).step, Step::Hold)
        {
            // The answer to the CONNECT may be among what was lost.
            self.half_mut(client).step = Step::Hunt;
        }
    }

    pub(super) fn head_cut<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        shared.counters.heads_cut += u64::from(matches!(self.half(direction).step, Step::Head));
    }

    pub(super) fn pass_over<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        len: usize,
        shared: &mut Http<X>,
    ) {
        shared.counters.bytes_hunted += len as u64;
        let half = self.half_mut(direction);
        half.lost = half.lost.saturating_add(len as u64);
    }

    /// Looks for the next start line. Lines end with LF, so all that has to be kept is one unfinished line.
    pub(super) fn hunt<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        if !self.half(direction).buffer.is_empty() {
            return self.finish_line(direction, input, shared);
        }
        if let Some((place, side)) = find_in(input.bytes, self.side(direction)) {
            self.pass_over(direction, input.take(place).len(), shared);
            self.half_mut(direction).step = Step::Start;
            return self.set_client(
                if side == Side::Request {
                    direction
                } else {
                    other(direction)
                },
                shared,
            );
        }
        let unfinished = memrchr(b'\n', input.bytes).map_or(0, |end| end + 1);
        self.pass_over(direction, input.take(unfinished).len(), shared);
        self.half_mut(direction).mark(input);
        self.keep_line(direction, input.take(usize::MAX), shared);
        self.give_up_hunting(shared);
    }

    /// Adds to the unfinished line, and looks at it when it is finished.
    pub(super) fn finish_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        self.half_mut(direction).mark_newer(input);
        let end = memchr(b'\n', input.bytes).map(|end| end + 1);
        let piece = input.take(end.unwrap_or(usize::MAX));
        self.keep_line(direction, piece, shared);
        if end.is_some() {
            self.hunt_in_buffer(direction, Some((piece.len(), input.time)), shared);
        }
        self.give_up_hunting(shared);
    }

    pub(super) fn keep_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        let half = self.half_mut(direction);
        if !shared.buffers.append(&mut half.buffer, bytes) {
            shared.counters.heads_shed += 1;
            return self.lose(direction, bytes.len() as u64, shared);
        }
        shared.counters.bytes_copied += bytes.len() as u64;
        let length = half.buffer.len();
        if length > limits::RESYNC_LINE_BYTES_MAX {
            let dropped = length - limits::RESYNC_TAIL_BYTES;
            shared.buffers.drop_front(&mut half.buffer, dropped);
            half.offset += dropped as u64;
            self.pass_over(direction, dropped, shared);
        }
    }

    /// Looks at the buffered line; `newest` says how many of its last bytes came when.
    pub(super) fn hunt_in_buffer<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        newest: Option<(usize, Timestamp)>,
        shared: &mut Http<X>,
    ) {
        let want = self.side(direction);
        let half = self.half_mut(direction);
        if !half.buffer.ends_with(b"\n") {
            return;
        }
        let Some((place, side)) = find_start(&half.buffer, want) else {
            let passed = half.buffer.len();
            shared.buffers.release(&mut half.buffer);
            return self.pass_over(direction, passed, shared);
        };
        // Where the start lies before the newer mark the line's own holds: it does not acknowledge more.
        let (newer, acked) = half.newer;
        if half.offset + place as u64 >= newer {
            half.acked = acked;
        }
        if let Some((_, time)) = newest.filter(|&(length, _)| place + length >= half.buffer.len()) {
            half.time = time;
        }
        shared.buffers.drop_front(&mut half.buffer, place);
        half.offset += place as u64;
        half.line_is_start();
        self.pass_over(direction, place, shared);
        self.set_client(
            if side == Side::Request {
                direction
            } else {
                other(direction)
            },
            shared,
        );
    }

    /// A flow whose beginning was not seen is not HTTP if both sides have shown enough without a start line.
    pub(super) fn give_up_hunting<X: Exchanges<Draft = D>>(&mut self, shared: &mut Http<X>) {
        let shown = |half: &HalfReader| half.lost + half.buffer.len() as u64;
        let least = shown(&self.originator).min(shown(&self.responder));
        if self.client.is_none() && least >= limits::RESYNC_GIVE_UP_BYTES {
            self.ignore(Speech::Other, shared);
        }
    }
}

/// The first message start in the finished lines of `bytes`.
fn find_in(bytes: &[u8], want: Option<Side>) -> Option<(usize, Side)> {
    let mut from = 0;
    while let Some(version) = memmem::find(bytes.get(from..)?, b"HTTP/1.").map(|place| from + place)
    {
        let begin = memrchr(b'\n', bytes.get(from..version)?).map_or(from, |end| from + end + 1);
        let end = version + memchr(b'\n', bytes.get(version..)?)? + 1;
        if let Some((place, side)) = find_start(bytes.get(begin..end)?, want) {
            return Some((begin + place, side));
        }
        from = end;
    }
    None
}
