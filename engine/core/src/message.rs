//! Messages: from an exchange to one finished line.
//!
//! Source: `docs/contract.md`, sections 1 and 9, with the differences M1 to M14. [`LineWriter`] receives the events of the
//! HTTP parser, applies the rules to each detail and passes finished lines to an [`Output`]. A line is a JSON array of
//! `[key, value]` pairs.

mod annotate;
mod content;
mod conversation;
mod cookies;
mod derive;
mod draft;
mod facts;
mod identity;
mod json;
mod kept;
mod keys;
mod measures;
mod messages;
mod observer;
mod operation;
pub mod protobuf;
mod rpc;
mod schemas;
mod tail;
mod text;
mod url;
mod writer;
mod writers;

pub use draft::Draft;
pub use facts::{Class, Details, Fact};
pub use measures::{
    DURATION_BUCKETS, Durations, Measures, NETWORKS_MAX, NetworkCalls, NetworkTable,
};
pub use schemas::Schemas;
pub use writer::LineWriter;
pub use writers::{Drafts, LineWriters, Writers};

use std::sync::Arc;
use std::time::Duration;

use crate::http::UnpairedReason;
use crate::{limits, uploads};

/// Properties of a call that go with its line; no part of the line itself unless annotations are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// The annotation `exchange_id`, as a number.
    pub exchange_id: u128,
    /// First byte of the request (of the response where there is no request), nanoseconds since the epoch.
    pub started_nanos: u64,
    /// Last byte of the response (of the request where there is no response), nanoseconds since the epoch.
    pub ended_nanos: u64,
    /// First request byte to first response byte, in nanoseconds.
    pub took_nanos: u64,
    /// Full length of the request body after decoding, as far as known, in bytes.
    pub request_body_bytes: u64,
    /// Full length of the response body after decoding, as far as known, in bytes.
    pub response_body_bytes: u64,
    /// Bytes of bodies that were never captured.
    pub missing_bytes: u64,
    /// Innermost VNI, if any.
    pub vni: Option<u32>,
    /// The response code as the line has it; 0 if it has none.
    pub status: u16,
    /// A half call: only its request or only its response is known.
    pub unpaired: bool,
    /// A message ended before its framing was complete.
    pub incomplete: bool,
    /// A body was truncated, or fields were left out, at one of our bounds.
    pub truncated: bool,
    /// A body was given up, in whole or in part, because memory was short or the shard could not keep up.
    pub shed: bool,
}

/// Which parts of new calls are given up, so that a shard which cannot keep up loses as little as it must. Chosen call by
/// call, so that one connection that carries everything loses the same share as many connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShedPolicy {
    /// In how many of [`Self::CALLS`] calls bodies are truncated.
    pub truncated: u16,
    /// Bytes of a truncated body that go into a message, where that is less than [`Config::body_bytes_max`] and no rule
    /// needs the body; the rest is given up and marked as by the limit, counted as `bodies_truncated`.
    pub body_bytes_max: usize,
    /// How many of [`Self::CALLS`] calls are not written, counted as `calls_shed_overload`.
    pub shed: u16,
}

impl ShedPolicy {
    /// The number of calls of which a share is truncated or shed: fine enough to hold a rate within half a per cent.
    pub const CALLS: u16 = 256;
}

impl Default for ShedPolicy {
    /// Nothing is given up.
    fn default() -> Self {
        Self {
            truncated: 0,
            body_bytes_max: limits::OVERLOAD_BODY_BYTES,
            shed: 0,
        }
    }
}

/// Messages of remote procedure calls. They are counted with the bodies that they are in, in the stage `http`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RpcCounts {
    /// Whole ones, in a line or not.
    pub messages: u64,
    /// Messages and frames that could not be decompressed, or of which bytes were never captured.
    pub undecodable: u64,
}

/// Why an exchange is only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwritten {
    /// Open exchanges held all the memory that there is for them.
    Memory,
    /// The shard could not keep up ([`ShedPolicy::shed`]).
    Overload,
    /// It is an upload of a sniffer, and no call.
    Upload,
    /// It is written, in parts: the writer keeps it in this place.
    Kept(u32),
    /// It is the conversation of a WebSocket that only another rule set writes, and no call under this one.
    Elsewhere,
}

/// Receives finished lines: the bundler in the daemon, a printer in `sniffer read`.
pub trait Output {
    /// One line without its newline: a JSON array of `[key, value]` pairs.
    fn line(&mut self, line: &[u8], notes: &Notes);

    /// The same line in its parts, in order. An output that copies the line anyway joins them in its own buffer; for all
    /// others they are joined in `buffer`.
    fn parts(&mut self, parts: &[&[u8]], buffer: &mut Vec<u8>, notes: &Notes) {
        buffer.clear();
        for part in parts {
            buffer.extend_from_slice(part);
        }
        self.line(buffer, notes);
    }
}

/// Configuration of the line writer.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the host that logs: the detail `host`.
    pub host: String,
    /// Bytes of a decoded body that go into a message; the rest is truncated. `USAGE_LOGGERS_BODY_LIMIT`.
    pub body_bytes_max: usize,
    /// Bytes of the end of a body behind its limit that go into a message as well; 0 for none.
    pub body_tail_bytes: usize,
    /// Bytes that all open exchanges of the writer may hold.
    pub open_bytes_max: usize,
    /// Bytes of memory for what the searches of rules keep, those of former rules included.
    pub rules_bytes_max: usize,
    /// Emit half calls too.
    pub half_calls: bool,
    /// Emit the messages of WebSockets, as a line of their own.
    pub websocket: bool,
    /// Time after which a stream of messages is written in parts, and between these.
    pub stream_parts: Option<Duration>,
    /// Add the annotations of `message/annotate.rs` after the rules.
    pub annotate: bool,
    /// Show facts that are numbers or from a closed list although the rules changed what they come from.
    pub keep_facts: bool,
    /// Leave messages of protobuf as the bytes that they are.
    pub protobuf_raw: bool,
    /// What the messages of methods are, by which protobuf becomes JSON with names.
    pub schemas: Option<Arc<Schemas>>,
    /// Add the fields of form bodies as params.
    pub form_params: bool,
    /// Add the client's address as `request_header:x-forwarded-for`.
    pub client_address: bool,
    /// A request header that gets the client's address for its value. `SNIFFER_REALIP_HEADER`.
    pub realip_header: Option<String>,
    /// Seed of the sample rule's draws.
    pub sample_seed: u64,
    /// Which uploads of sniffers are skipped.
    pub uploads: uploads::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "unknown".to_owned(),
            body_bytes_max: limits::BODY_BYTES_MAX,
            body_tail_bytes: 0,
            open_bytes_max: limits::OPEN_BYTES_MAX,
            rules_bytes_max: limits::RULES_STATES_BYTES,
            half_calls: false,
            websocket: false,
            stream_parts: None,
            annotate: false,
            keep_facts: false,
            protobuf_raw: false,
            schemas: None,
            form_params: false,
            client_address: false,
            realip_header: None,
            sample_seed: 0,
            uploads: uploads::Config::default(),
        }
    }
}

crate::counters! {
    /// Outcomes of exchanges: `calls_seen = lines_written + calls_stopped + calls_sampled + calls_shed +
    /// calls_shed_overload`.
    pub struct Counters {
        /// Calls that ended: those with both sides, and half calls if they are emitted.
        calls_seen,
        /// Of these, half calls.
        calls_half,
        /// Calls written.
        lines_written,
        /// Calls dropped by the rules: by a stop rule, or because the rules left nothing of them.
        calls_stopped,
        /// Of the calls dropped by the rules, those of which the rules left nothing.
        calls_emptied,
        /// Calls dropped by the sample rule.
        calls_sampled,
        /// Calls not written because memory was short.
        calls_shed,
        /// Calls not written because the shard could not keep up.
        calls_shed_overload,
        /// Requests skipped because they are uploads of this process, with their answers. They are no calls.
        uploads_own,
        /// Requests skipped because they are uploads of other sniffers, with their answers. They are no calls.
        uploads_other,
        /// Of the skipped requests, those that have ended with their answer.
        uploads_answered,
        /// Requests with the marker of an upload that are no uploads, or whose marker is forged. They are calls.
        upload_markers_refused,
        /// Of the calls, the messages of WebSockets, which are a line of their own beside that of the handshake.
        websocket,
        /// WebSockets without such a line: no message came, or only another rule set keeps the handshake.
        websocket_silent,
        /// Messages of WebSockets left out because they cannot be decompressed: what they refer to is not known.
        websocket_messages_undecodable,
        /// Half calls that were idle for too long; emitted or not.
        half_timeout,
        /// Half calls whose connection was reset or closed.
        half_closed,
        /// Half calls whose other side is in a gap of the capture.
        half_gap,
        /// Half calls that were evicted to free memory.
        half_evicted,
        /// Half calls that were open when the capture ended.
        half_shutdown,
        /// Half calls of whose head, or of the other side's, a mirror or a snap length cut off the end.
        half_truncated,
        /// Half calls whose stream was reset before the response came.
        half_reset,
        /// Half calls whose stream the server refused.
        half_refused,
        /// Half calls whose method, path or status refers to a header table that is not known.
        half_hpack,
        /// Half calls of which a head is too long.
        half_oversized,
        /// Bytes of bodies, before decoding.
        payload_bytes,
        /// Of these, bytes copied before they were escaped (to decode them, or because a rule needs the whole).
        copied_bytes,
        /// Bytes of finished lines, without newlines.
        line_bytes,
        /// Bodies collected whole.
        bodies_collected,
        /// Bodies truncated at the body limit, in bytes or in their text in the line.
        bodies_limited,
        /// Bodies with their end behind the limit, and some of them left out before it; each is counted as truncated, too.
        bodies_with_tail,
        /// Bytes left out before these ends.
        tail_left_out_bytes,
        /// Bodies truncated because their content codings make too many bytes of each that was sent.
        bodies_expanded,
        /// Bodies truncated because the shard could not keep up.
        bodies_truncated,
        /// Bodies truncated because memory was short.
        bodies_shed,
        /// Bodies left out because their coding is unknown or failed at once.
        bodies_undecodable,
        /// Bodies left out because a rule needs the whole and a piece was missing.
        bodies_withheld,
        /// Bodies left out because a rule looks into them and they could not be parsed, or were truncated.
        bodies_unreadable,
        /// Calls of status 200 whose body reports an error (GraphQL, JSON-RPC, MCP). Bodies are searched where annotations are on.
        calls_application_errors,
        /// Query parameters, form fields and session fields left out because their line has no room for them.
        fields_limited,
        /// Answers of patterns that were not known when the call's budget of work was spent; the values were hidden. Rules
        /// that ask for a detail which is not known; the calls were stopped.
        rules_doubts,
        /// Answers of rules on bodies that were not there as a whole, or could not be read; each acted as if the rest had what
        /// it looks for.
        rules_unseen,
        /// Names of headers with credentials that the rules let through as they are, each once.
        credentials_headers,
        /// The same for names of cookies, and of headers with cookies.
        credentials_cookies,
        /// The same for names of params.
        credentials_params,
        /// Times that the cache of detail keys was full and was cleared.
        keys_forgotten,
        /// Times that what the searches of rules keep had reached its bound and was forgotten.
        rules_states_forgotten,
    }
}

impl Counters {
    /// Half calls for this reason; emitted or not.
    pub fn unpaired_for(mut self, reason: UnpairedReason) -> u64 {
        *self.unpaired_mut(reason)
    }

    fn unpaired_mut(&mut self, reason: UnpairedReason) -> &mut u64 {
        match reason {
            UnpairedReason::Timeout => &mut self.half_timeout,
            UnpairedReason::Closed => &mut self.half_closed,
            UnpairedReason::Gap => &mut self.half_gap,
            UnpairedReason::Evicted => &mut self.half_evicted,
            UnpairedReason::Shutdown => &mut self.half_shutdown,
            UnpairedReason::Truncated => &mut self.half_truncated,
            UnpairedReason::Reset => &mut self.half_reset,
            UnpairedReason::Refused => &mut self.half_refused,
            UnpairedReason::Hpack => &mut self.half_hpack,
            UnpairedReason::Oversized => &mut self.half_oversized,
        }
    }
}

#[cfg(test)]
mod tests;
