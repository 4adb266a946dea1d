//! Ordered bytes in, paired HTTP/1.x exchanges out, body bytes by reference.
//!
//! [`Connection`] reads one flow through [`Consumer`](crate::flow::Consumer) and tells an [`Exchanges`] what it finds;
//! [`Http`] is what all flows of a shard share. The source is RFC 9112. Heads are bounded by
//! [`limits::HEAD_BYTES_MAX`](crate::limits::HEAD_BYTES_MAX) and
//! [`limits::HEADERS_MAX`](crate::limits::HEADERS_MAX), waiting exchanges by
//! [`limits::PIPELINE_DEPTH_MAX`](crate::limits::PIPELINE_DEPTH_MAX).
//!
//! Content codings are not undone here. TLS, HTTP/2 and what follows a `101` or a `CONNECT` are recognised, counted and
//! not read.

mod chunked;
mod connection;
mod detect;
mod framing;
mod half;
mod head;
mod header;
mod lines;
mod pairing;
mod ports;
mod skim;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

pub use self::connection::Connection;
use self::detect::Side;
use self::half::Buffers;
pub use self::header::{Header, Known};
use self::pairing::Exchange;
pub use self::ports::{PortError, PortFlows, PortSet, PortTable, Speech};
use crate::flow::FlowStart;
use crate::limits::HEADS_BUFFERED_BYTES_MAX;
use crate::time::Timestamp;

/// What to read.
#[derive(Clone, Debug)]
pub struct Config {
    /// Server ports wanted; any port by default, HTTP then is detected.
    pub ports: PortSet,
    /// Bytes of memory that unfinished heads and lines of all flows may hold.
    pub heads_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ports: PortSet::default(),
            heads_bytes_max: HEADS_BUFFERED_BYTES_MAX,
        }
    }
}

/// What all flows of a shard share: the receiver of exchanges, counters, recycled buffers.
pub struct Http<X: Exchanges> {
    /// Who writes the exchanges.
    pub exchanges: X,
    /// What was read, and what was not.
    pub counters: Counters,
    /// What each server port speaks.
    pub ports_seen: PortTable,
    config: Config,
    buffers: Buffers,
    /// Emptied between heads; only its memory stays.
    fields: Vec<Header<'static>>,
    /// A head without its folds.
    unfolded: Vec<u8>,
    /// Emptied queues of connections that wait for nothing.
    queues: Vec<VecDeque<Exchange<X::Draft>>>,
}

impl<X: Exchanges> Http<X> {
    /// Tells `exchanges` what flows speak on the ports of `config`.
    pub fn new(config: Config, exchanges: X) -> Self {
        Self {
            exchanges,
            counters: Counters::default(),
            ports_seen: PortTable::default(),
            buffers: Buffers::new(config.heads_bytes_max),
            config,
            fields: Vec::new(),
            unfolded: Vec::new(),
            queues: Vec::new(),
        }
    }

    /// Memory of unfinished heads and lines of all flows of the shard: a gauge, bounded by [`Config::heads_bytes_max`].
    pub fn buffered_bytes(&self) -> usize {
        self.buffers.held()
    }
}

crate::counters! {
    /// Calls: `exchanges_opened` = `exchanges_finished` + all `half_*` + [`Counters::open`].
    pub struct Counters {
        /// Flows that turned out to speak HTTP/1.x.
        flows_http,
        /// Flows with no wanted port, not read.
        flows_unwanted,
        /// Flows that spoke TLS, not read.
        flows_tls,
        /// Flows that spoke HTTP/2 in the clear, not read.
        flows_http2,
        /// Flows that spoke something else, not read.
        flows_other,
        /// Flows not read further because too many requests waited for their response.
        flows_overflowed,
        /// Flows that became a tunnel (101, or 2xx to CONNECT), not read further.
        flows_tunnelled,
        /// Request heads read.
        requests,
        /// Final response heads read.
        responses,
        /// Interim responses (1xx except 101) passed over.
        responses_interim,
        /// Exchanges begun, by a request or by a response without one.
        exchanges_opened,
        /// Exchanges with request and response.
        exchanges_finished,
        /// Responses without a request, each of them also counted in its `half_*`.
        orphans,
        /// Half exchanges: the flow was idle for too long.
        half_timeout,
        /// Half exchanges: the connection ended before the other half.
        half_closed,
        /// Half exchanges: the other half was lost in the capture, or cannot be told from another's.
        half_gap,
        /// Half exchanges: the flow made room, or too many requests waited.
        half_evicted,
        /// Half exchanges: the capture ended first.
        half_shutdown,
        /// Connections on which losses among pipelined messages made pairing impossible; from then on all are halves.
        pairings_given_up,
        /// Heads with too many bytes or too many fields, passed over.
        heads_oversized,
        /// Heads given up because the shard's head buffers were full.
        heads_shed,
        /// Probable pairs that the next message refuted: the request was told as a half, the response not at all.
        pairs_refuted,
        /// Places where a message had to start and none did.
        heads_malformed,
        /// Heads cut by a loss or by the end of the flow.
        heads_cut,
        /// Header lines left out: no colon, no name, or a fold after nothing.
        header_lines_odd,
        /// Messages whose lengths contradict each other or are no lengths.
        framing_conflicts,
        /// Bodies whose chunked coding broke.
        bodies_broken,
        /// Bodies that ended before their framing said so.
        bodies_cut,
        /// Times that a half found its next message after a loss or rubbish.
        resynchronised,
        /// Bytes passed over in search of a message.
        bytes_hunted,
        /// Bytes of flows that are not read, delivered before the flow table knew.
        bytes_ignored,
        /// Bytes of tunnels delivered before the flow table knew.
        bytes_tunnelled,
        /// Bytes of heads and lines that were copied because they did not lie in one piece.
        bytes_copied,
        /// Bytes of request bodies that were never captured.
        request_bytes_missing,
        /// Bytes of response bodies that were never captured.
        response_bytes_missing,
    }
}

impl Counters {
    /// Half exchanges for any reason.
    pub fn halves(&self) -> u64 {
        self.half_timeout
            + self.half_closed
            + self.half_gap
            + self.half_evicted
            + self.half_shutdown
    }

    /// Exchanges open now: a gauge.
    pub fn open(&self) -> u64 {
        self.exchanges_opened
            .saturating_sub(self.exchanges_finished + self.halves())
    }
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
