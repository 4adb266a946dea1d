//! Messages within a body: one observer finds them, whatever delimits them.
//!
//! An [`Observer`] gets the bytes of a body as they come, decoded and before the body limit, and divides them into [`Piece`]s:
//! the time of the bytes, the [`Kind`] of the message they belong to, and the slice itself, which is borrowed. A message is
//! over with the piece that [ends](Piece::is_last) it. [`Seen`] has what is known of all of them.
//!
//! ```text
//! while let Some(piece) = observer.next(time, &mut rest) { ... }    // for each slice of the body
//! observer.missing(count);                                         // where bytes were never captured
//! observer.end(end, time);                                         // once, after the last byte
//! ```
//!
//! Bound: an observer has a constant size and holds nothing of a message but the first octets of a line, or of its length. A body without
//! messages has none ([`Observer::of_type`]), and costs one look at its content type.
//!
//! A further kind of messages is a module here with the functions `next` and `missing`, a case of [`Framing`] and of [`Kind`],
//! and its types in [`Observer::of_type`]. What becomes of the pieces is decided where the writer takes them
//! (`writer/body.rs`, `observe`): those of an event stream are only counted, since its body stays as it is.

mod envelopes;
mod events;
mod kind;
mod lines;

use envelopes::Envelopes;
use events::{Events, Outcome};
pub(super) use kind::Kind;
use lines::Lines;

use crate::http::BodyEnd;
use crate::time::Timestamp;

/// Finds the messages of one body.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    framing: Framing,
    pub(super) seen: Seen,
    /// The body ended before its framing was complete.
    is_cut: bool,
}

/// What is known of the messages of a body, whether they fit into its limit or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Messages that are over.
    pub(super) messages: u64,
    /// When the first of them was over, by packet time.
    pub(super) first: Option<Timestamp>,
    /// When the last one was.
    pub(super) last: Option<Timestamp>,
}

/// What delimits messages.
#[derive(Clone, Debug)]
enum Framing {
    Events(Events),
    Lines(Lines),
    Envelopes(Envelopes),
}

/// Some bytes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// When they came.
    pub(super) time: Timestamp,
    pub(super) kind: Kind,
    /// Borrowed from the slice that was given.
    pub(super) bytes: &'a [u8],
    /// The message is over with them.
    pub(super) is_last: bool,
}

impl Observer {
    /// The observer for bodies of this content type.
    #[inline]
    pub(super) fn of_content_type(content_type: &[u8]) -> Option<Box<Self>> {
        Self::of_type(content_type).map(Box::new)
    }

    /// The observer for bodies of this content type; nothing for those that have no messages.
    #[inline]
    fn of_type(content_type: &[u8]) -> Option<Self> {
        // What nearly all bodies are: JSON, HTML, plain text, images, forms.
        let may_have_messages = match content_type {
            [b't' | b'T', _, _, _, b'/', b'e' | b'E', ..] => true,
            [
                b'a' | b'A',
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                _,
                b'/',
                first,
                rest @ ..,
            ] => {
                let is_json = first | 0x20 == b'j' && matches!(rest.get(3), None | Some(b';'));
                matches!(first | 0x20, b'j' | b'n' | b's' | b'x') && !is_json
            }
            _ => false,
        };
        if may_have_messages {
            Self::of_known_type(content_type)
        } else {
            None
        }
    }

    #[cold]
    fn of_known_type(content_type: &[u8]) -> Option<Self> {
        const LINES: [&str; 8] = [
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-jsonl",
            "application/jsonlines",
            "application/x-jsonlines",
            "application/json-seq",
            "application/stream+json",
        ];
        let media = content_type.split(|byte| *byte == b';').next();
        let media = media.unwrap_or_default().trim_ascii();
        let is = |name: &&str| media.eq_ignore_ascii_case(name.as_bytes());
        let framing = if is(&"text/event-stream") {
            Framing::Events(Events::default())
        } else if LINES.iter().any(is) {
            Framing::Lines(Lines::default())
        } else {
            return None;
        };
        Some(Self {
            framing,
            seen: Seen::default(),
            is_cut: false,
        })
    }

    /// The observer for the messages of a remote procedure call, perhaps in the memory of another one. `special`: the flag of a
    /// frame that is none, and what it is.
    pub(super) fn of_envelopes(special: Option<(u8, Kind)>, kept: Option<Box<Self>>) -> Box<Self> {
        let observer = Self {
            framing: Framing::Envelopes(Envelopes::new(special)),
            seen: Seen::default(),
            is_cut: false,
        };
        match kept {
            Some(mut kept) => {
                *kept = observer;
                kept
            }
            None => Box::new(observer),
        }
    }

    /// Takes the next piece from the front of `rest`, of which the first byte came at `time`; nothing once it is empty.
    pub(super) fn next<'a>(&mut self, time: Timestamp, rest: &mut &'a [u8]) -> Option<Piece<'a>> {
        if rest.is_empty() {
            return None;
        }
        let (kind, (bytes, is_last)) = match &mut self.framing {
            Framing::Events(events) => (Kind::Event, events.next(rest)),
            Framing::Lines(lines) => (Kind::Line, lines.next(rest)),
            Framing::Envelopes(envelopes) => {
                let taken = envelopes.next(rest);
                (envelopes.kind(), taken)
            }
        };
        if is_last && kind.is_message() {
            self.seen.add(time);
        }
        Some(Piece {
            time,
            kind,
            bytes,
            is_last,
        })
    }

    /// Finds the messages of a whole body that had a coding: when each came is not known any more.
    pub(super) fn read_decoded(&mut self, mut body: &[u8]) {
        while self.next(Timestamp::ZERO, &mut body).is_some() {}
        self.forget_times();
    }

    /// When the messages came is not known.
    pub(super) fn forget_times(&mut self) {
        (self.seen.first, self.seen.last) = (None, None);
    }

    /// `count` bytes of the body were never captured here: unless a length says it, the message that they belong to is not
    /// known, nor whether there were others.
    pub(super) fn missing(&mut self, count: u64) {
        match &mut self.framing {
            Framing::Events(events) => events.missing(),
            Framing::Lines(lines) => lines.missing(),
            Framing::Envelopes(envelopes) => envelopes.missing(count),
        }
    }

    /// The body is over: a last message that needs no delimiter is one, too.
    pub(super) fn end(&mut self, end: BodyEnd, time: Timestamp) {
        self.is_cut = end != BodyEnd::Complete;
        if let Framing::Lines(lines) = &mut self.framing
            && lines.end()
        {
            self.seen.add(time);
        }
    }

    /// What is known of whole messages, as of a body that ends with the last of them; the one that is not over goes on.
    pub(super) fn take_part(&mut self) -> Box<Self> {
        let framing = match &self.framing {
            Framing::Envelopes(envelopes) => Framing::Envelopes(envelopes.begun_anew()),
            other => other.clone(),
        };
        Box::new(Self {
            framing,
            seen: std::mem::take(&mut self.seen),
            is_cut: false,
        })
    }

    /// Whether the body has ended before its end.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Nothing more of the body can be read.
    pub(super) fn stop(&mut self) {
        if let Framing::Envelopes(envelopes) = &mut self.framing {
            envelopes.stop();
        }
    }

    /// Whether the body ends within a message that has a length, or could not be read to its end.
    pub(super) fn ends_within(&self) -> bool {
        match &self.framing {
            Framing::Envelopes(envelopes) => envelopes.is_cut(),
            Framing::Events(_) | Framing::Lines(_) => false,
        }
    }

    /// What the messages are.
    pub(super) fn kind(&self) -> Kind {
        match self.framing {
            Framing::Events(_) => Kind::Event,
            Framing::Lines(_) => Kind::Line,
            Framing::Envelopes(envelopes) => envelopes.kind(),
        }
    }

    /// How the sender has ended the messages, if one of them shows it.
    fn outcome(&self) -> Option<Outcome> {
        match &self.framing {
            Framing::Events(events) => events.outcome(),
            Framing::Lines(_) | Framing::Envelopes(_) => None,
        }
    }

    /// How the body ended, for one that was a stream.
    pub(super) fn stream_end(&self, is_reset: bool) -> &'static str {
        match self.outcome() {
            Some(Outcome::Error) => "error",
            Some(Outcome::Done) => "done",
            None if is_reset => "reset",
            None if self.is_cut => "cut",
            None => "done",
        }
    }
}

impl Seen {
    /// One more message is over.
    pub(super) fn add(&mut self, time: Timestamp) {
        self.messages += 1;
        self.first.get_or_insert(time);
        self.last = Some(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a body as an observer finds them in slices of `length` bytes.
    fn messages(content_type: &str, body: &[u8], length: usize) -> (Vec<Vec<u8>>, Observer) {
        let mut observer = Observer::of_type(content_type.as_bytes()).expect("a stream");
        let (mut whole, mut open) = (Vec::new(), Vec::new());
        for slice in body.chunks(length) {
            let mut rest = slice;
            while let Some(piece) = observer.next(Timestamp::ZERO, &mut rest) {
                open.extend_from_slice(piece.bytes);
                if piece.is_last {
                    whole.push(std::mem::take(&mut open));
                }
            }
        }
        observer.end(BodyEnd::Complete, Timestamp::ZERO);
        (whole, observer)
    }

    #[track_caller]
    fn check(content_type: &str, body: &[u8], expected: u64) -> Option<Outcome> {
        let outcome = messages(content_type, body, usize::MAX).1.outcome();
        for length in 1..=body.len() {
            let (_, observer) = messages(content_type, body, length);
            assert_eq!(observer.seen.messages, expected, "slices of {length}");
            assert_eq!(observer.outcome(), outcome, "slices of {length}");
        }
        outcome
    }

    const EVENTS: &str = "Text/Event-Stream; charset=utf-8";

    #[test]
    fn an_event_is_a_blank_line_after_data() {
        assert_eq!(check(EVENTS, b"data: a\n\ndata: b\n\n", 2), None);
        check(EVENTS, b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\rdata\n\n", 3);
        check(EVENTS, b": comment\n\nevent: x\n\nid: 1\n\nretry: 5\n\n", 0);
        check(EVENTS, b"data: a\ndata: b\nid: 7\n\n\n\n", 1);
        check(EVENTS, b"database: a\n\n data: b\n\ndata: c\n", 0);
        check(EVENTS, &[b"data: ", &[b'x'; 900][..], b"\n\n"].concat(), 1);
    }

    #[test]
    fn some_events_say_how_the_stream_ends() {
        let done = Some(Outcome::Done);
        assert_eq!(check(EVENTS, b"data: {}\n\ndata: [DONE]\n\n", 2), done);
        assert_eq!(check(EVENTS, b"event:message_stop\ndata: {}\n\n", 1), done);
        let error = Some(Outcome::Error);
        assert_eq!(check(EVENTS, b"event: error\ndata: {}\n\n", 1), error);
        let text = b"data: { \"error\": {}}\n\ndata: [DONE]\n\n";
        assert_eq!(check(EVENTS, text, 2), error);
        assert_eq!(check(EVENTS, b"event: error\n\ndata: x\n\n", 1), None);
        assert_eq!(check(EVENTS, b"data: [DONE] and more\n\n", 1), None);
        assert_eq!(check(EVENTS, b"data: {\"errors\":1}\n\n", 1), None);
        let none = b"data: {\"error\": null,\"result\":1}\n\ndata:{\"error\":false}\r\r";
        assert_eq!(check(EVENTS, none, 2), None);
        assert_eq!(check(EVENTS, b"data: {\"error\":\"x\"}\n\n", 1), error);
    }

    #[test]
    fn a_line_is_a_document() {
        check("application/x-ndjson", b"{\"a\":1}\n\n{\"b\":2}\r\n[3]", 3);
        check("application/json-seq", b"\x1e{}\n\x1e{}\n", 2);
        check("application/jsonl", b" \r\n\t\n", 0);
    }

    #[test]
    fn pieces_are_the_body() {
        let body = b": hello\r\ndata: a\n\ndata: b\n\ndata: c";
        for length in 1..=body.len() {
            let (whole, _) = messages(EVENTS, body, length);
            let joined = whole.concat();
            assert!(body.starts_with(&joined) && whole.len() == 2, "{length}");
        }
    }

    #[test]
    fn what_is_missing_is_no_message() {
        let mut observer = Observer::of_type(b"text/event-stream").unwrap();
        for (bytes, messages) in [
            (&b"data: a\n\ndata: b"[..], 1),
            // It may be the rest of any line.
            (b"data: c\n\n", 1),
            (b"data: d\n\n", 2),
        ] {
            let mut rest = bytes;
            while observer.next(Timestamp::ZERO, &mut rest).is_some() {}
            assert_eq!(observer.seen.messages, messages);
            if messages == 1 && bytes.ends_with(b"b") {
                observer.missing(1);
            }
        }
    }

    #[test]
    fn other_bodies_have_no_observer() {
        for content_type in [
            "",
            "application/json",
            "application/json; charset=utf-8",
            "text/html",
            "text/event-streams",
            "application/x-www-form-urlencoded",
            "image/png",
        ] {
            assert!(
                Observer::of_type(content_type.as_bytes()).is_none(),
                "{content_type}"
            );
        }
    }
}
