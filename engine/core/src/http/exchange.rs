//! The seam between the readers of protocols and the writer of exchanges.
//!
//! A reader reports to an [`Exchanges`] what it finds of each request and of its response. Nothing here depends on how a
//! protocol frames its messages: a message is named by its [`MessageId`], its head has a [`Version`], and its body comes in
//! slices.

use crate::flow::{FlowEnd, FlowStart};
use crate::http::header::Header;
use crate::time::Timestamp;

/// Which of the two messages of an exchange, and so which direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client.
    Request,
    /// From the server.
    Response,
}

/// The version of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// A request line without a version.
    Http09,
    /// HTTP/1.0, and what is older by its number.
    Http10,
    /// HTTP/1.1, and what a peer of 1.x reads as that.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Version {
    /// Whether its messages may be chunked (RFC 9112 §6.1), so that `Transfer-Encoding` and `Trailer` describe framing.
    pub const fn has_transfer_codings(self) -> bool {
        matches!(self, Self::Http11)
    }

    /// Its number.
    pub const fn number(self) -> &'static str {
        match self {
            Self::Http09 => "0.9",
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Method token, case kept; empty if it is not known.
    pub method: &'a [u8],
    /// Request target as sent; empty if it is not known.
    pub target: &'a [u8],
    /// Of the message.
    pub version: Version,
    /// In wire order. In HTTP/2 the first one is `host` with the authority, if that is known.
    pub headers: &'a [Header<'a>],
    /// Fields of which the name or the value is not known, since what they refer to was not captured: any header may be
    /// among them.
    pub unknown_fields: u32,
    /// What an extended CONNECT opens (RFC 8441).
    pub protocol: Option<&'a [u8]>,
    /// The server has made it for the client (RFC 9113 §8.4).
    pub is_pushed: bool,
}

impl<'a> RequestHead<'a> {
    /// A head of HTTP/1.
    pub const fn new(
        method: &'a [u8],
        target: &'a [u8],
        version: Version,
        headers: &'a [Header<'a>],
    ) -> Self {
        Self {
            method,
            target,
            version,
            headers,
            unknown_fields: 0,
            protocol: None,
            is_pushed: false,
        }
    }
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// Three digits; 0 if they are not known.
    pub status: u16,
    /// Of the message.
    pub version: Version,
    /// In wire order.
    pub headers: &'a [Header<'a>],
    /// As in [`RequestHead::unknown_fields`].
    pub unknown_fields: u32,
}

impl<'a> ResponseHead<'a> {
    /// A head of HTTP/1.
    pub const fn new(status: u16, version: Version, headers: &'a [Header<'a>]) -> Self {
        Self {
            status,
            version,
            headers,
            unknown_fields: 0,
        }
    }
}

/// What names a message among those of its direction: the same packets always give the same id.
///
/// In HTTP/1 it is the offset of the head's first byte, in HTTP/2 the number of the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageId(u64);

impl MessageId {
    /// The message whose head begins at `offset` in its direction.
    pub const fn at(offset: u64) -> Self {
        Self(offset)
    }

    /// The message on this stream. No offset is as high.
    pub const fn on_stream(id: u32) -> Self {
        Self(Self::STREAM | id as u64)
    }

    /// The number of its stream, if it has one.
    pub const fn stream(self) -> Option<u32> {
        if self.0 & Self::STREAM == 0 {
            None
        } else {
            Some(self.0 as u32)
        }
    }

    const STREAM: u64 = 1 << 63;

    /// The number that ids of exchanges are made of.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// Where a message was seen.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The flow.
    pub flow: &'a FlowStart,
    /// Whether the flow's originator is the HTTP client (it is not when the capture began midstream with a response).
    pub client_is_originator: bool,
    /// Number of the exchange on its connection, from 1.
    pub call_index: u64,
    /// Which message of its direction.
    pub message: MessageId,
    /// Packet time of the head's first byte.
    pub time: Timestamp,
}

impl Origin<'_> {
    /// The scheme of a URL whose request does not have one, by what the flow was read from: bytes in the clear.
    pub const fn scheme(&self) -> &'static str {
        "http"
    }
}

/// What a handshake of WebSocket has agreed on (RFC 7692 §7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// Messages may be compressed.
    pub is_compressed: bool,
    /// Compressed messages of the client refer to those before.
    pub client_has_context: bool,
    /// Those of the server do.
    pub server_has_context: bool,
}

/// What a message of WebSocket consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8, as it should be.
    Text,
    /// Any bytes.
    Binary,
}

/// Some bytes of one message of WebSocket, with the mask removed.
#[derive(Clone, Copy, Debug)]
pub struct MessagePart<'a> {
    /// When they came.
    pub time: Timestamp,
    /// Of the message.
    pub kind: MessageKind,
    /// The message is compressed, as the [`Opening`] allows.
    pub is_compressed: bool,
    /// Valid for the call only.
    pub bytes: &'a [u8],
    /// The message is over with them.
    pub is_last: bool,
}

/// How one side's message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// By its framing: length, last chunk, no body at all, or the close that delimits it.
    Complete,
    /// Bytes are missing or the framing broke; what was read is kept.
    Cut,
    /// Where what was read fits the bytes that followed: the lengths of the message, or of one before it, cannot be
    /// believed.
    Doubtful,
}

/// Why only one side of an exchange is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnpairedReason {
    /// The flow was idle for too long.
    Timeout,
    /// The connection was reset or closed before the other side came.
    Closed,
    /// The other side is missing from the capture, or cannot be attributed.
    Gap,
    /// The flow was evicted, or too many requests waited.
    Evicted,
    /// The capture ended first.
    Shutdown,
    /// A mirror or a snap length cut off the end of its head, or of the other side's.
    Truncated,
    /// Its stream was reset before the response came.
    Reset,
    /// The server refused its stream; the client may try again elsewhere.
    Refused,
    /// Its method, path or status refers to a header table whose beginning was not captured.
    Hpack,
    /// Its head, or the other side's, is too long.
    Oversized,
}

impl UnpairedReason {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
        Self::Timeout,
        Self::Closed,
        Self::Gap,
        Self::Evicted,
        Self::Shutdown,
        Self::Truncated,
        Self::Reset,
        Self::Refused,
        Self::Hpack,
        Self::Oversized,
    ];

    /// Whether nothing of the exchange can have followed that was not seen.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Closed | Self::Reset | Self::Refused)
    }

    /// Its name in annotations.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Gap => "gap",
            Self::Evicted => "evicted",
            Self::Shutdown => "shutdown",
            Self::Truncated => "truncated",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Hpack => "hpack",
            Self::Oversized => "oversized",
        }
    }
}

/// The reason for exchanges that were open when the flow ended, if nothing else is known.
impl From<FlowEnd> for UnpairedReason {
    fn from(end: FlowEnd) -> Self {
        match end {
            FlowEnd::Fin | FlowEnd::Reset | FlowEnd::Reused => Self::Closed,
            FlowEnd::Idle => Self::Timeout,
            FlowEnd::Evicted => Self::Evicted,
            FlowEnd::Shutdown => Self::Shutdown,
        }
    }
}

/// Writes exchanges: the message writer in the engine, a recorder in tests.
///
/// An exchange begins with [`request`](Self::request) or [`orphan_response`](Self::orphan_response), and ends with
/// [`finish`](Self::finish) or [`unpaired`](Self::unpaired). In between, each side that has a head gets any number of
/// [`body`](Self::body) and [`missing`](Self::missing), then one [`end`](Self::end); a server may answer early, so the two
/// sides interleave. Transfer codings are undone, content codings are not.
pub trait Exchanges {
    /// State of one open exchange.
    type Draft;
    /// A request head was read.
    fn request(&mut self, head: &RequestHead<'_>, origin: &Origin<'_>) -> Self::Draft;
    /// A response head without a known request was read (the capture began in between, or the request was lost).
    fn orphan_response(&mut self, head: &ResponseHead<'_>, origin: &Origin<'_>) -> Self::Draft;
    /// The final response head (never 1xx except 101).
    fn response(&mut self, draft: &mut Self::Draft, head: &ResponseHead<'_>, origin: &Origin<'_>);
    /// Bytes of a body, valid for the call only, with the packet time of the first of them. They may lie in the packet memory
    /// or in memory of the reader (joined, decrypted), so nothing may depend on where they lie.
    fn body(&mut self, draft: &mut Self::Draft, side: Side, bytes: &[u8], time: Timestamp);
    /// Further headers of a message, behind its body (RFC 9113 §8.1).
    fn trailers(
        &mut self,
        draft: &mut Self::Draft,
        side: Side,
        headers: &[Header<'_>],
        unknown_fields: u32,
    );
    /// Some fields of a message are not known: those of trailers that may have been lost, or of a head that was cut off. Where
    /// the message has no head, nothing of it is known.
    fn fields_lost(&mut self, _draft: &mut Self::Draft, _side: Side) {}
    /// A side has reset the exchange with this error code (RFC 9113 §7). It ends before the next call for it.
    fn reset(&mut self, draft: &mut Self::Draft, by: Side, code: u32);
    /// `count` bytes of a body were never captured.
    fn missing(&mut self, draft: &mut Self::Draft, side: Side, count: u64);
    /// A message is over.
    fn end(&mut self, draft: &mut Self::Draft, side: Side, end: BodyEnd, time: Timestamp);
    /// What was taken for its response is another's: it becomes an exchange of its own, whose request is not known, with
    /// this number on its connection. Comes after the end of both messages, and before [`Self::unpaired`] for each of the
    /// two exchanges.
    fn split_response(&mut self, draft: &mut Self::Draft, call_index: u64) -> Self::Draft;
    /// A handshake of WebSocket was answered: an exchange of its own for the messages, with the same details and without
    /// bodies. Nothing if the settings leave them out. It gets any number of [`Self::message`] and [`Self::message_missing`], at most
    /// one [`Self::closed`], then [`Self::end`] for both sides and [`Self::finish`].
    fn conversation(&mut self, _draft: &Self::Draft, _opening: Opening) -> Option<Self::Draft> {
        None
    }
    /// Some bytes of a message.
    fn message(&mut self, _draft: &mut Self::Draft, _side: Side, _part: &MessagePart<'_>) {}
    /// `count` bytes of a message were never captured, or of several: the one that is not over is left out. Where it
    /// `is_compressed`, later ones may refer to what is missing.
    fn message_missing(&mut self, _: &mut Self::Draft, _: Side, _count: u64, _is_compressed: bool) {
    }
    /// The first Close frame, with its code.
    fn closed(&mut self, _draft: &mut Self::Draft, _by: Side, _code: Option<u16>) {}
    /// Request and response are both there.
    fn finish(&mut self, draft: Self::Draft);
    /// The other side will not come.
    fn unpaired(&mut self, draft: Self::Draft, reason: UnpairedReason);
    /// Whether a call that begins now will only be counted: then [`Self::request`] gets no headers except those that frame
    /// the body.
    fn sheds(&self, _origin: &Origin<'_>) -> bool {
        false
    }
    /// Whether a call is only counted: then [`Self::response`] gets no headers except those that frame the body.
    fn is_shed(&self, _draft: &Self::Draft) -> bool {
        false
    }
}
