//! Streams that are written in parts: a line each so many seconds, as long as messages come.
//!
//! The writer keeps the draft of such an exchange itself, in a place that its holder has the number of, so that a part is written
//! when it is due and not only when the next bytes come. Where a part ends is decided by packet time alone: it has the messages
//! that ended before it was due. What there is of a message that goes on belongs to the next part.

use std::cmp::Reverse;
use std::time::Duration;

use super::super::draft::{Body, Draft, Extra, Mode};
use super::super::{Output, Unwritten};
use super::LineWriter;
use super::body::kind_of;
use super::filter::set_of;
use crate::http::{BodyEnd, Side};
use crate::time::Timestamp;

/// A draft, or why there is none.
pub(super) type Handle = Result<Box<Draft>, Unwritten>;

impl<O: Output> LineWriter<O> {
    /// Keeps a draft whose line comes in parts from so long after `start` on.
    #[cold]
    pub(super) fn keep(&mut self, draft: &mut Handle, start: Timestamp) {
        let Some(every) = self.config.stream_parts else {
            return;
        };
        let kept = std::mem::replace(draft, Err(Unwritten::Upload));
        *draft = match kept {
            Ok(open) => Err(Unwritten::Kept(self.kept.insert(open, start.after(every)))),
            unwritten => unwritten,
        };
    }

    /// Acts on a draft that is kept.
    #[cold]
    pub(super) fn with_kept(
        &mut self,
        draft: &mut Handle,
        act: impl FnOnce(&mut Self, &mut Handle),
    ) {
        let Err(Unwritten::Kept(place)) = *draft else {
            return;
        };
        let Some(open) = self.kept.take(place) else {
            return;
        };
        let mut own = Ok(open);
        act(self, &mut own);
        match own {
            Ok(open) => self.kept.put(place, open),
            unwritten => {
                self.kept.free.push(place);
                *draft = unwritten;
            }
        }
    }

    /// Gives up the place of a draft.
    #[inline]
    pub(super) fn unkept(&mut self, draft: Handle) -> Handle {
        match draft {
            Err(Unwritten::Kept(place)) => self.take_kept(place),
            draft => draft,
        }
    }

    #[cold]
    fn take_kept(&mut self, place: u32) -> Handle {
        let Some(mut open) = self.kept.take(place) else {
            return Err(Unwritten::Kept(place));
        };
        self.kept.free.push(place);
        if let Some(parts) = open.parts.take().filter(|parts| parts.number > 0) {
            (open.state.part, open.state.is_last_part) = (parts.number + 1, true);
        }
        Ok(open)
    }

    /// Writes the parts that are due at `now`.
    pub fn tick(&mut self, now: Timestamp) {
        if let Some(every) = self.config.stream_parts {
            self.kept.set_clock(now, every);
        }
        while let Some(Reverse((due, serial, place))) = self.kept.due.peek().copied()
            && due <= now
        {
            self.kept.due.pop();
            let Some(mut open) = self.kept.take(place) else {
                continue;
            };
            if open.parts.is_some_and(|parts| parts.serial == serial) {
                self.write_due_part(&mut open, now);
                let due = open.parts.map_or(now, |parts| parts.due);
                self.kept.due.push(Reverse((due, serial, place)));
            }
            self.kept.put(place, open);
        }
    }

    /// Writes a part that is due at `now`, if messages have come since the one before.
    pub(super) fn write_due_part(&mut self, draft: &mut Draft, now: Timestamp) {
        let (Some(every), Some(parts)) = (self.config.stream_parts, &mut draft.parts) else {
            return;
        };
        if now < parts.due {
            return;
        }
        parts.due = next_due(parts.due, every, now);
        let has_messages = draft.has_messages();
        if has_messages && !draft.state.findings.is_stopped() {
            self.write_part(draft);
        }
    }

    /// Writes what has come since the part before as a line of its own.
    fn write_part(&mut self, draft: &mut Draft) {
        let mut part = self.empty_draft();
        part.copy_details(draft);
        if let Some((times, last)) = part.state.response_times.as_mut().zip(draft.last_message()) {
            times.last = last;
        }
        let Some(set) = set_of(&mut self.set, &mut self.retired, draft.state.rule_set) else {
            return;
        };
        set.open += 1;
        let mut openings = [Side::Request, Side::Response]
            .map(|side| set.key(kind_of(side), b"").opening().to_vec())
            .into_iter();
        draft.state.incomplete = false;
        if let Some(conversation) = &mut draft.conversation {
            part.conversation = Some(Box::new(conversation.take_part()));
        }
        let Some(mut parts) = draft.parts.take() else {
            return;
        };
        parts.number = parts.number.saturating_add(1);
        part.state.part = parts.number;
        for (side, at) in [(Side::Request, 0), (Side::Response, 1)] {
            let opening = openings.next().unwrap_or_default();
            let (ends, behind) = (&mut parts.ends, &mut parts.behind);
            let end = ends.get_mut(at).and_then(Option::take);
            let behind = behind.get_mut(at).map(|behind| *behind).unwrap_or_default();
            *part.body(side) = take_body(draft.body(side), end, behind, &opening);
        }
        draft.parts = Some(parts);
        self.account(draft);
        self.account(&mut part);
        self.end_body(&mut part, Side::Request, BodyEnd::Complete);
        self.end_body(&mut part, Side::Response, BodyEnd::Complete);
        self.conclude(&mut part, None);
        draft.state.has_errors |= part.state.has_errors;
        // A rule that drops a part drops what follows it, too.
        let own = draft.state.findings;
        draft.state.findings.also(&part.state.findings);
        let findings = &mut draft.state.findings;
        (findings.doubts, findings.unseen, findings.unreadable) =
            (own.doubts, own.unseen, own.unreadable);
        self.release(part);
    }

    /// Adds bytes of a body that is cut into its messages, and notes where the last one ended.
    pub(super) fn add_pieces(
        &mut self,
        draft: &mut Draft,
        side: Side,
        bytes: &[u8],
        time: Timestamp,
    ) {
        let Some(mut observer) = draft.body(side).observer.take() else {
            return;
        };
        let at = usize::from(side == Side::Response);
        let mut rest = bytes;
        while let Some(piece) = observer.next(time, &mut rest) {
            self.add_text(draft, side, piece.bytes);
            let length = draft.body(side).bytes.len();
            let Some(parts) = &mut draft.parts else {
                continue;
            };
            if let (Some(end), Some(behind)) = (parts.ends.get_mut(at), parts.behind.get_mut(at)) {
                if piece.is_last {
                    (*end, *behind) = (Some(length), 0);
                } else {
                    *behind += piece.bytes.len();
                }
            }
        }
        draft.body(side).observer = Some(observer);
    }
}

/// The first time after `now` that is a multiple of `every` away from `due`.
fn next_due(due: Timestamp, every: Duration, now: Timestamp) -> Timestamp {
    let every = u64::try_from(every.as_nanos()).unwrap_or(u64::MAX).max(1);
    let passed = now.nanos().saturating_sub(due.nanos()) / every;
    Timestamp::from_nanos(
        due.nanos()
            .saturating_add(every.saturating_mul(passed.saturating_add(1))),
    )
}

/// Takes what there is of a body up to `end`; what goes on keeps the `behind` bytes behind it.
fn take_body(body: &mut Body, end: Option<usize>, behind: usize, opening: &[u8]) -> Body {
    let is_split = !body.state.over && !body.state.sealed;
    let end = end.filter(|_| is_split).unwrap_or(body.bytes.len());
    let rest = body.bytes.get(end..).unwrap_or_default().to_vec();
    let mut part = Body {
        state: body.state,
        bytes: std::mem::take(&mut body.bytes),
        observer: body.observer.as_mut().map(|observer| observer.take_part()),
        messages: body
            .messages
            .as_mut()
            .map(|messages| Box::new(messages.take_part())),
        extra: body.tail().map(|tail| {
            Box::new(Extra {
                decoder: None,
                tail: Some(tail.take_part()),
            })
        }),
        spare: None,
    };
    part.bytes.truncate(end);
    if !rest.is_empty() {
        if body.state.mode == Mode::Streamed {
            body.bytes.extend_from_slice(opening);
        }
        body.bytes.extend_from_slice(&rest);
    }
    let state = &mut body.state;
    let behind = if rest.is_empty() { 0 } else { behind };
    (state.len, state.taken) = (behind as u64, behind);
    part.state.len -= (behind as u64).min(part.state.len);
    part.state.taken -= behind.min(part.state.taken);
    (state.missing, state.has_gap, state.sealed) = (0, false, false);
    (state.truncated, state.shed) = (false, false);
    part.state.tail = Default::default();
    part
}
