//! Resynchronisation: after a gap, after malformed bytes and in the middle of a flow the next start line is looked for.
//!
//! Every byte is looked at once. Of lines only an unfinished one is kept, bounded by
//! [`limits::RESYNC_LINE_BYTES_MAX`]; all bytes passed over are counted.

use memchr::{memchr, memmem, memrchr};

use super::Connection;
use crate::flow::Direction;
use crate::http::h1::direction::{Input, Reading, Step};
use crate::http::h1::start_line::find_start;
use crate::http::{Exchanges, Http, Protocol, Side};
use crate::limits;
use crate::time::Timestamp;

/// What a client of HTTP/2 sends first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Its first line.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0\r\n";

impl<D> Connection<D> {
    /// Bytes are lost between messages or within a head: goes on at the next start line.
    pub(super) fn lose<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        len: u64,
        shared: &mut Http<X>,
    ) {
        let reading = &mut self.readings[direction];
        reading.step = Step::Resync;
        reading.lost = reading.lost.saturating_add(len);
        let passed = reading.collected.bytes.len();
        shared.buffers.release(&mut reading.collected.bytes);
        self.pass_over(direction, passed, shared);
        if let Some(client) = self.client {
            // The answer to the CONNECT may be among what was lost.
            self.read_held(client, Step::Resync, shared);
        }
    }

    pub(super) fn count_cut_head<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        shared: &mut Http<X>,
    ) {
        let is_cut = matches!(self.readings[direction].step, Step::Head(_));
        shared.counters.heads_cut += u64::from(is_cut);
    }

    pub(super) fn pass_over<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        len: usize,
        shared: &mut Http<X>,
    ) {
        shared.counters.bytes_passed_over += len as u64;
        let reading = &mut self.readings[direction];
        reading.lost = reading.lost.saturating_add(len as u64);
    }

    /// Looks for the next start line. Lines end with LF, so all that has to be kept is one unfinished line.
    pub(super) fn resync<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        if self.client.is_none() && self.find_http2(direction, input, shared) {
            return;
        }
        if !self.readings[direction].collected.bytes.is_empty() {
            return self.finish_line(direction, input, shared);
        }
        if let Some((place, side)) = find_in(input.bytes, self.side(direction)) {
            self.pass_over(direction, input.take(place).len(), shared);
            self.readings[direction].step = Step::Start;
            return self.set_client(client_of(direction, side), shared);
        }
        let unfinished = memrchr(b'\n', input.bytes).map_or(0, |end| end + 1);
        self.pass_over(direction, input.take(unfinished).len(), shared);
        self.readings[direction].collected.begin(input);
        self.keep_line(direction, input.take(usize::MAX), shared);
        self.give_up_detection();
    }

    /// HTTP/2 in a flow that is not known yet: its frames in the midst of a connection, or its preface behind a preamble.
    fn find_http2<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) -> bool {
        let is_late = self.flow.midstream || self.readings[direction].gapped;
        if is_late && self.frames[direction].follow(input.bytes) {
            self.next = Some(Protocol::Http2Midstream);
            return true;
        }
        let Some(place) = memmem::find(input.bytes, PREFACE) else {
            return false;
        };
        // What was collected is no part of it.
        let before = &mut self.readings[direction].collected.bytes;
        let passed = before.len();
        shared.buffers.release(before);
        self.pass_over(direction, passed + input.take(place).len(), shared);
        self.begin_http2();
        true
    }

    /// The preface of HTTP/2 follows: whatever was lost before it had no header block, of neither side.
    fn begin_http2(&mut self) {
        for reading in self.readings.both_mut() {
            reading.gapped = false;
        }
        self.next = Some(Protocol::Http2);
    }

    /// Adds to the unfinished line, and searches it when it is finished.
    fn finish_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        input: &mut Input<'_>,
        shared: &mut Http<X>,
    ) {
        self.readings[direction].collected.go_on(input);
        let end = memchr(b'\n', input.bytes).map(|end| end + 1);
        let piece = input.take(end.unwrap_or(usize::MAX));
        self.keep_line(direction, piece, shared);
        if end.is_some() {
            self.find_start_in_line(direction, Some((piece.len(), input.time)), shared);
        }
        self.give_up_detection();
    }

    fn keep_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        shared: &mut Http<X>,
    ) {
        let collected = &mut self.readings[direction].collected;
        if !shared.buffers.append(&mut collected.bytes, bytes) {
            shared.counters.heads_shed += 1;
            return self.lose(direction, bytes.len() as u64, shared);
        }
        shared.counters.bytes_copied += bytes.len() as u64;
        let length = collected.bytes.len();
        if length > limits::RESYNC_LINE_BYTES_MAX {
            let dropped = length - limits::RESYNC_TAIL_BYTES;
            shared.buffers.drop_front(&mut collected.bytes, dropped);
            collected.offset += dropped as u64;
            self.pass_over(direction, dropped, shared);
        }
    }

    /// Searches the collected line for a start line; `newest` is how many of its last bytes came when.
    pub(super) fn find_start_in_line<X: Exchanges<Draft = D>>(
        &mut self,
        direction: Direction,
        newest: Option<(usize, Timestamp)>,
        shared: &mut Http<X>,
    ) {
        let wanted = self.side(direction);
        let reading = &mut self.readings[direction];
        let collected = &mut reading.collected;
        if !collected.bytes.ends_with(b"\n") {
            return;
        }
        let preface = memmem::find(&collected.bytes, PREFACE_LINE);
        if let Some(place) = preface.filter(|_| self.client.is_none()) {
            shared.buffers.drop_front(&mut collected.bytes, place);
            collected.offset += place as u64;
            self.pass_over(direction, place, shared);
            return self.begin_http2();
        }
        let Some((place, side)) = find_start(&collected.bytes, wanted) else {
            let passed = collected.bytes.len();
            shared.buffers.release(&mut collected.bytes);
            return self.pass_over(direction, passed, shared);
        };
        // Where the start lies before the newer segment the line's own number holds: it does not acknowledge more.
        let (newer, acked) = collected.newer;
        if collected.offset + place as u64 >= newer {
            collected.acked = acked;
        }
        let is_newest = |&(length, _): &(usize, Timestamp)| place + length >= collected.bytes.len();
        if let Some((_, time)) = newest.filter(is_newest) {
            collected.time = time;
        }
        shared.buffers.drop_front(&mut collected.bytes, place);
        collected.offset += place as u64;
        reading.read_as_head();
        self.pass_over(direction, place, shared);
        self.set_client(client_of(direction, side), shared);
    }

    /// A flow whose beginning was not seen is not HTTP if both sides have shown enough without a start line.
    fn give_up_detection(&mut self) {
        let shown = |reading: &Reading| reading.lost + reading.collected.bytes.len() as u64;
        let [originator, responder] = self.readings.both();
        let least = shown(originator).min(shown(responder));
        let has_frame = self
            .frames
            .both()
            .into_iter()
            .any(|chain| chain.has_begun());
        if self.client.is_none() && least >= limits::RESYNC_GIVE_UP_BYTES && !has_frame {
            self.next = Some(Protocol::Other);
        }
    }
}

/// Who the client is if `direction` carries messages of this side.
fn client_of(direction: Direction, side: Side) -> Direction {
    match side {
        Side::Request => direction,
        Side::Response => direction.reverse(),
    }
}

/// The first message start in the finished lines of `bytes`.
fn find_in(bytes: &[u8], wanted: Option<Side>) -> Option<(usize, Side)> {
    let mut from = 0;
    while let Some(version) = memmem::find(bytes.get(from..)?, b"HTTP/1.").map(|place| from + place)
    {
        let start = memrchr(b'\n', bytes.get(from..version)?).map_or(from, |end| from + end + 1);
        let end = version + memchr(b'\n', bytes.get(version..)?)? + 1;
        if let Some((place, side)) = find_start(bytes.get(start..end)?, wanted) {
            return Some((start + place, side));
        }
        from = end;
    }
    None
}
