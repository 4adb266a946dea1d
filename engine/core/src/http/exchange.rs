//! The seam between the readers of protocols and who writes exchanges.

use crate::flow::FlowStart;
use crate::http::Header;
use crate::time::Timestamp;

/// Which kind of message a half carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the client.
    Request,
    /// From the server.
    Response,
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Method token, case kept.
    pub method: &'a [u8],
    /// Request target as sent.
    pub target: &'a [u8],
    /// Minor version: HTTP/1.`minor`.
    pub minor: u8,
    /// In wire order.
    pub headers: &'a [Header<'a>],
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// Three digits.
    pub status: u16,
    /// Minor version: HTTP/1.`minor`.
    pub minor: u8,
    /// In wire order.
    pub headers: &'a [Header<'a>],
}

/// Where an exchange was seen.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The flow.
    pub flow: &'a FlowStart,
    /// Whether the flow's originator is the HTTP client (it is not when the capture began midstream with a response).
    pub client_is_originator: bool,
    /// Number of this exchange on its connection, from 1.
    pub call_index: u64,
    /// Offset of the head's first byte in its half.
    pub offset: u64,
    /// Packet time of the head's first byte.
    pub time: Timestamp,
}

/// How one side's message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyEnd {
    /// By its framing: length, last chunk, no body at all, or the close that delimits it.
    Complete,
    /// Bytes are missing or the framing broke; what was read is kept.
    Cut,
}

/// Why an exchange is half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// The flow was idle for too long, or the exchange waited too long.
    Timeout,
    /// The connection was reset or closed before the other half.
    Closed,
    /// The other half was lost in the capture.
    Gap,
    /// It made room.
    Evicted,
    /// The capture ended first.
    Shutdown,
}

/// Writes exchanges: the message writer in the engine, a recorder in tests.
///
/// Calls for one exchange come in this order: `request` or `orphan_response`, request body, `request_end`,
/// [`Self::response`], response body, `response_end`, then `finish`, `half`, or `unpair` and `half`. Response calls may come between request body
/// calls (a server may answer early). Bodies come with transfer coding undone, content coding not.
pub trait Exchanges {
    /// State of one open exchange.
    type Draft;
    /// A request head was read.
    fn request(&mut self, head: &RequestHead<'_>, origin: &Origin<'_>) -> Self::Draft;
    /// A response head without a known request was read (capture began in between, or the request was lost).
    fn orphan_response(&mut self, head: &ResponseHead<'_>, origin: &Origin<'_>) -> Self::Draft;
    /// Bytes of the request body.
    fn request_body(&mut self, draft: &mut Self::Draft, bytes: &[u8]);
    /// `missing` bytes of the request body were never captured.
    fn request_missing(&mut self, draft: &mut Self::Draft, missing: u64);
    /// The request is over.
    fn request_end(&mut self, draft: &mut Self::Draft, end: BodyEnd, time: Timestamp);
    /// The final response head (never 1xx except 101).
    fn response(&mut self, draft: &mut Self::Draft, head: &ResponseHead<'_>, origin: &Origin<'_>);
    /// Bytes of the response body.
    fn response_body(&mut self, draft: &mut Self::Draft, bytes: &[u8]);
    /// `missing` bytes of the response body were never captured.
    fn response_missing(&mut self, draft: &mut Self::Draft, missing: u64);
    /// The response is over.
    fn response_end(&mut self, draft: &mut Self::Draft, end: BodyEnd, time: Timestamp);
    /// What was taken for its response is another's: nothing of it may be told. Called after the response is over, and
    /// followed by [`Self::half`].
    fn unpair(&mut self, draft: &mut Self::Draft);
    /// Request and response are both there.
    fn finish(&mut self, draft: Self::Draft);
    /// The other half will not come.
    fn half(&mut self, draft: Self::Draft, why: Half);
    /// Whether a call that begins now will only be counted: then [`Self::request`] gets no headers but those that frame
    /// the body.
    fn sheds(&self, _origin: &Origin<'_>) -> bool {
        false
    }
    /// Whether a call is only counted: then [`Self::response`] gets no headers but those that frame the body.
    fn is_shed(&self, _draft: &Self::Draft) -> bool {
        false
    }
}
