//! Frames (RFC 9113 §4.1 and §6): their headers, and what is wrong with one.
//!
//! ```text
//! frame = length(24) type(8) flags(8) reserved(1) stream(31) payload
//! ```

/// Octets of a frame header.
pub(super) const HEADER: usize = 9;

/// The length that a frame may have unless the peer has set another one.
const LENGTH_DEFAULT: u32 = 16_384;

/// Up to here a stream is plausible by itself: in tables of numbers of four and of eight octets, what looks like a stream is a
/// larger one. Beyond it, two frames near to each other are as good as one.
const STREAM_PLAUSIBLE: u32 = 1 << 16;

/// Streams that are in use at the same time are not further from each other.
const STREAMS_NEAR: u32 = 1 << 10;

/// The error code of what is no error (§7).
pub(super) const NO_ERROR: u32 = 0;

pub(super) const END_STREAM: u8 = 0x01;
pub(super) const END_HEADERS: u8 = 0x04;
pub(super) const PADDED: u8 = 0x08;
pub(super) const PRIORITY: u8 = 0x20;
const ACK: u8 = 0x01;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) length: u32,
    kind: u8,
    flags: u8,
    pub(super) stream: u32,
}

/// The type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Headers,
    Priority,
    Reset,
    Settings,
    PushPromise,
    Ping,
    GoAway,
    WindowUpdate,
    Continuation,
    Unknown,
}

/// What is wrong with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Its length: where the next frame begins cannot be believed.
    Length,
    /// Its stream: it has to be on one, or on none.
    Stream,
}

impl Frame {
    pub(super) const NONE: Self = Self::parse(&[0; HEADER]);

    /// The reserved bit is ignored (§4.1).
    pub(super) const fn parse(header: &[u8; HEADER]) -> Self {
        let &[high, middle, low, kind, flags, a, b, c, d] = header;
        Self {
            length: u32::from_be_bytes([0, high, middle, low]),
            kind,
            flags,
            stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
        }
    }

    pub(super) const fn kind(self) -> Kind {
        match self.kind {
            0 => Kind::Data,
            1 => Kind::Headers,
            2 => Kind::Priority,
            3 => Kind::Reset,
            4 => Kind::Settings,
            5 => Kind::PushPromise,
            6 => Kind::Ping,
            7 => Kind::GoAway,
            8 => Kind::WindowUpdate,
            9 => Kind::Continuation,
            _ => Kind::Unknown,
        }
    }

    pub(super) const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Octets of fixed meaning before the payload proper: pad length, priority, promised stream, codes.
    pub(super) const fn prefix(self) -> u32 {
        let padding = self.has(PADDED) as u32;
        match self.kind() {
            Kind::Data => padding,
            Kind::Headers if self.has(PRIORITY) => padding + 5,
            Kind::Headers => padding,
            Kind::PushPromise => padding + 4,
            Kind::Reset => 4,
            Kind::GoAway => 8,
            _ => 0,
        }
    }

    /// Whether its payload is a fragment of a header block.
    pub(super) const fn has_block(self) -> bool {
        matches!(
            self.kind(),
            Kind::Headers | Kind::PushPromise | Kind::Continuation
        )
    }

    /// Whether it may have padding.
    pub(super) const fn is_padded(self) -> bool {
        self.has(PADDED) && matches!(self.kind(), Kind::Data | Kind::Headers | Kind::PushPromise)
    }

    pub(super) const fn fault(self) -> Option<Fault> {
        let length = self.length;
        let fits = match self.kind() {
            Kind::Data | Kind::Headers | Kind::PushPromise => length >= self.prefix(),
            Kind::Priority => length == 5,
            Kind::Reset | Kind::WindowUpdate => length == 4,
            Kind::Settings if self.has(ACK) => length == 0,
            Kind::Settings => length.is_multiple_of(6),
            Kind::Ping => length == 8,
            Kind::GoAway => length >= 8,
            Kind::Continuation | Kind::Unknown => true,
        };
        let on_stream = self.stream != 0;
        let may_be_there = match self.kind() {
            Kind::Data
            | Kind::Headers
            | Kind::Priority
            | Kind::Reset
            | Kind::PushPromise
            | Kind::Continuation => on_stream,
            Kind::Settings | Kind::Ping | Kind::GoAway => !on_stream,
            Kind::WindowUpdate | Kind::Unknown => true,
        };
        match (fits, may_be_there) {
            (false, _) => Some(Fault::Length),
            (true, false) => Some(Fault::Stream),
            (true, true) => None,
        }
    }

    /// Whether these bytes look like the header of a frame, in the midst of a connection; `before` is the frame before it that is
    /// on a stream.
    ///
    /// Tables of numbers look like headers in many places, for most of their octets are zeros: so a body follows another on the
    /// same stream or one near to it, and is not empty. Peers that allow longer frames than the default use them for bodies.
    pub(super) fn is_plausible(header: &[u8; HEADER], before: Option<Self>) -> bool {
        let frame = Self::parse(header);
        let allowed = match frame.kind() {
            Kind::Data => END_STREAM | PADDED,
            Kind::Headers => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            Kind::PushPromise => END_HEADERS | PADDED,
            Kind::Continuation => END_HEADERS,
            Kind::Settings | Kind::Ping => ACK,
            Kind::Priority | Kind::Reset | Kind::GoAway | Kind::WindowUpdate => 0,
            Kind::Unknown => return false,
        };
        let is_data = frame.kind() == Kind::Data;
        let is_empty = frame.length == 0
            && (frame.kind() == Kind::Headers || (is_data && !frame.has(END_STREAM)));
        let is_long = frame.length > LENGTH_DEFAULT
            && !(is_data && before.is_some_and(|before| before.stream == frame.stream));
        let is_far = before.is_some_and(|before| {
            let is_body = is_data && before.kind() == Kind::Data;
            (is_body || frame.stream >= STREAM_PLAUSIBLE) && !frame.is_near(before.stream)
        });
        // Nothing comes between the fragments of a block (§6.10).
        let is_in_order = before.is_none_or(|before| {
            let is_fragment = frame.kind() == Kind::Continuation;
            before.is_open() == is_fragment && (!is_fragment || before.stream == frame.stream)
        });
        let is_reserved_clear = header[5] & 0x80 == 0;
        frame.flags & !allowed == 0
            && is_reserved_clear
            && !is_empty
            && !is_long
            && !is_far
            && is_in_order
            && frame.fault().is_none()
    }

    /// Whether the rest of its header block follows.
    fn is_open(self) -> bool {
        self.has_block() && !self.has(END_HEADERS)
    }

    /// Whether it is on this stream, or on one that was opened soon before or behind it.
    fn is_near(self, stream: u32) -> bool {
        self.stream.abs_diff(stream) < STREAMS_NEAR
    }
}

/// What begins at the front of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// Frames: three, or up to the end of the bytes with one that is not DATA.
    Frames,
    /// Too few for an answer: so many headers, whether one of them is not of DATA, and how far behind the bytes the next
    /// one has to be.
    Begun(Chain),
    Nothing,
}

/// Headers of frames that followed each other so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct Chain {
    /// Headers seen.
    pub(super) frames: u8,
    /// One of them is not of DATA.
    pub(super) has_other: bool,
    /// Where the next one begins, counted from the front of the bytes.
    pub(super) next: u32,
}

impl Chain {
    /// Follows the frames that a segment begins with, or that began in one before; whether they are certain to be frames.
    pub(in crate::http) fn follow(&mut self, bytes: &[u8]) -> bool {
        let goes_on = self.frames > 0 && (self.next as usize) < bytes.len();
        let from = if goes_on || self.frames == 0 {
            *self
        } else {
            Self::default()
        };
        let mut found = run(bytes, from, 0);
        if goes_on && found == Run::Nothing {
            found = run(bytes, Self::default(), 0);
        }
        match found {
            Run::Frames => return true,
            Run::Begun(chain) if goes_on || self.frames == 0 => *self = chain,
            Run::Nothing if goes_on => *self = Self::default(),
            Run::Begun(_) | Run::Nothing => {}
        }
        self.next = self.next.saturating_sub(bytes.len() as u32);
        false
    }

    /// Whether a frame has begun that is not over.
    pub(in crate::http) const fn has_begun(self) -> bool {
        self.frames > 0
    }
}

/// Frames in a row that are certain to be frames.
const CERTAIN: u8 = 3;

/// Follows the frames at the front of `bytes`, of which some were seen before; `stream` is one that is known to be in use, or none
/// (0).
pub(super) fn run(bytes: &[u8], mut chain: Chain, stream: u32) -> Run {
    let mut before: Option<Frame> = None;
    loop {
        let Some(rest) = bytes.get(chain.next as usize..) else {
            // The last one goes on behind the bytes.
            return if chain.frames > 1 && chain.has_other {
                Run::Frames
            } else {
                Run::Begun(chain)
            };
        };
        let Some(header) = rest.first_chunk() else {
            // Endpoints write the fragments of a block together.
            let is_open = before.is_some_and(Frame::is_open);
            let is_end = rest.is_empty() && chain.has_other && !is_open;
            return match chain.frames {
                0 => Run::Nothing,
                _ if is_end => Run::Frames,
                2.. if chain.has_other => Run::Frames,
                _ => Run::Begun(chain),
            };
        };
        if !Frame::is_plausible(header, before) {
            return Run::Nothing;
        }
        let frame = Frame::parse(header);
        let is_other = frame.kind() != Kind::Data;
        chain.frames = chain.frames.saturating_add(1);
        let is_plausible = frame.stream < STREAM_PLAUSIBLE || frame.is_near(stream);
        chain.has_other |= if is_plausible {
            is_other
        } else {
            before.is_some_and(|before| is_other || before.kind() != Kind::Data)
        };
        if chain.frames >= CERTAIN && (chain.has_other || is_plausible) {
            return Run::Frames;
        }
        chain.next += HEADER as u32 + frame.length;
        before = Some(frame).filter(|frame| frame.stream > 0).or(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: bool) {
        assert_eq!(
            Chain::default().follow(bytes),
            expected,
            "{}",
            bytes.escape_ascii()
        );
    }

    #[test]
    fn frames_and_what_resembles_them() {
        let ping = b"\0\0\x08\x06\0\0\0\0\0pingping";
        let update = b"\0\0\x04\x08\0\0\0\0\x05\0\x01\0\0";
        let headers = b"\0\0\x03\x01\x04\0\0\0\x07\x82\x86\x84";
        let data = b"\0\x40\0\0\0\0\0\0\x07{\"a\":";
        let whole = b"\0\0\x02\0\0\0\0\0\x07{}";
        check(ping, true);
        check(update, true);
        check(headers, true);
        check(&[&headers[..], data].concat(), true);
        // After some million calls, and a body in longer frames than the default.
        let late = b"\0\0\x03\x01\x04\x7f\xff\xff\xfb\x82\x86\x84";
        let later = b"\0\0\x03\x01\x04\x7f\xff\xff\xfd\x82\x86\x84";
        let reserved = b"\0\0\x03\x01\x04\xff\xff\xff\xfd\x82\x86\x84";
        check(late, false);
        check(&[&late[..], later].concat(), true);
        check(
            &[&late[..], b"\0\0\x02\0\0\x7f\xff\xff\xfb{}"].concat(),
            true,
        );
        check(&[&late[..], headers].concat(), true);
        check(&[&headers[..], late].concat(), false);
        check(&[&late[..], reserved].concat(), false);
        let long = b"\x01\x86\xa0\0\0\0\0\0\x07{\"a\":";
        check(&[&headers[..], long].concat(), true);
        check(&[&update[..], long].concat(), false);
        check(long, false);
        check(data, false);
        check(whole, false);
        check(&[&whole[..], whole].concat(), false);
        check(&[&whole[..], whole, whole].concat(), true);
        check(&ping[..12], false);
        check(b"", false);
        check(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0d", true);
        check(b"\0\0\0\x2d\0\x03\0\x09\0\0\0\x05\0\x08producer", false);
        check(b"\0\0\x08\x06\x02\0\0\0\0pingping", false);
        check(b"GET / HTTP/1.1\r\n\r\n", false);
        check(&[0; 64], false);
    }

    #[test]
    fn faults() {
        let fault = |header: &[u8; HEADER]| Frame::parse(header).fault();
        for (header, expected) in [
            (b"\0\0\x05\0\x01\0\0\0\x01", None),
            (b"\0\0\x05\0\x01\x80\0\0\x01", None),
            (b"\0\0\x05\0\0\0\0\0\0", Some(Fault::Stream)),
            (b"\0\0\0\0\x08\0\0\0\x01", Some(Fault::Length)),
            (b"\0\0\x05\x01\x28\0\0\0\x01", Some(Fault::Length)),
            (b"\0\0\x05\x03\0\0\0\0\x01", Some(Fault::Length)),
            (b"\0\0\x04\x03\0\0\0\0\0", Some(Fault::Stream)),
            (b"\0\0\x05\x04\0\0\0\0\0", Some(Fault::Length)),
            (b"\0\0\x06\x04\x01\0\0\0\0", Some(Fault::Length)),
            (b"\0\0\x06\x04\0\0\0\0\x01", Some(Fault::Stream)),
            (b"\0\0\x07\x06\0\0\0\0\0", Some(Fault::Length)),
            (b"\0\0\x07\x07\0\0\0\0\0", Some(Fault::Length)),
            (b"\0\0\x03\x05\0\0\0\0\x01", Some(Fault::Length)),
            (b"\0\0\x03\x63\0\0\0\0\0", None),
        ] {
            assert_eq!(fault(header), expected, "{}", header.escape_ascii());
        }
    }
}
