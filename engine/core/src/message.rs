//! Exchange in, details through the rules, one finished line out.
//!
//! Source: sections 1 and 9 of the contract with Resurface, with the differences M1 to M14. [`Writer`] takes the events
//! of the HTTP parser and gives finished lines to an [`Output`]. A line is a JSON array of `[key, value]` pairs.

mod annotate;
mod content;
mod cookies;
mod draft;
mod identity;
mod keys;
mod url;
mod writer;

pub use draft::Draft;
pub use writer::Writer;

use crate::http::UnpairedReason;
use crate::limits;

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
    /// A body was truncated at one of our bounds.
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
    /// needs the body; the rest is given up and marked as by the limit, counted as `bodies_thinned`.
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

/// Why a call is only counted, from its start on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Open exchanges held all the memory that there is for them.
    Memory,
    /// The shard could not keep up ([`ShedPolicy::shed`]).
    Overload,
}

/// Takes finished lines: the bundler in the daemon, a printer in `sniffer read`.
pub trait Output {
    /// One line without its newline: a JSON array of `[key, value]` pairs.
    fn line(&mut self, line: &[u8], notes: &Notes);

    /// The same line as the parts that it is made of, in order. Whoever copies it anyway joins them where it belongs;
    /// for all others they are joined in `room`.
    fn parts(&mut self, parts: &[&[u8]], room: &mut Vec<u8>, notes: &Notes) {
        room.clear();
        for part in parts {
            room.extend_from_slice(part);
        }
        self.line(room, notes);
    }
}

/// What the message writer is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Name of the host that logs: the detail `host`.
    pub host: String,
    /// Bytes of a decoded body that go into a message; the rest is cut. `USAGE_LOGGERS_BODY_LIMIT`.
    pub body_bytes_max: usize,
    /// Bytes that all open exchanges of the writer may hold.
    pub open_bytes_max: usize,
    /// Emit half calls too.
    pub half_calls: bool,
    /// Add the annotations of `message/annotate.rs` after the rules.
    pub annotate: bool,
    /// Add the fields of form bodies as params.
    pub form_params: bool,
    /// Add the client's address as `request_header:x-forwarded-for`.
    pub client_address: bool,
    /// A request header that gets the client's address for its value. `SNIFFER_REALIP_HEADER`.
    pub realip_header: Option<String>,
    /// Seed of the sample rule's draws.
    pub sample_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            host: "unknown".to_owned(),
            body_bytes_max: limits::BODY_BYTES_MAX,
            open_bytes_max: limits::OPEN_BYTES_MAX,
            half_calls: false,
            annotate: false,
            form_params: false,
            client_address: false,
            realip_header: None,
            sample_seed: 0,
        }
    }
}

crate::counters! {
    /// What became of exchanges: `calls_seen = lines_written + calls_stopped + calls_sampled + calls_shed +
    /// calls_shed_overload`.
    pub struct Counters {
        /// Calls that ended: those with both halves, and half calls if they are emitted.
        calls_seen,
        /// Of these, half calls.
        calls_half,
        /// Calls written.
        lines_written,
        /// Calls dropped by the rules: by a stop rule, or because nothing was left of them.
        calls_stopped,
        /// Of the calls dropped by the rules, those of which nothing was left.
        calls_emptied,
        /// Calls dropped by the sample rule.
        calls_sampled,
        /// Calls not written for want of memory.
        calls_shed,
        /// Calls not written because the shard could not keep up.
        calls_shed_overload,
        /// Half calls that were idle for too long; emitted or not.
        half_timeout,
        /// Half calls whose connection was reset or closed.
        half_closed,
        /// Half calls whose other half was lost in the capture.
        half_gap,
        /// Half calls that made room.
        half_evicted,
        /// Half calls that were open when the capture ended.
        half_shutdown,
        /// Bytes of bodies taken in, before codings are undone.
        payload_bytes,
        /// Of these, bytes copied before they were escaped (a coding to undo, a rule to see the whole).
        copied_bytes,
        /// Bytes of finished lines, without newlines.
        line_bytes,
        /// Bodies collected whole.
        bodies_collected,
        /// Bodies cut at the body limit.
        bodies_limited,
        /// Bodies cut because the shard could not keep up.
        bodies_thinned,
        /// Bodies cut for want of memory.
        bodies_shed,
        /// Bodies left out because their coding is unknown or failed at once.
        bodies_undecodable,
        /// Bodies left out because a rule had to see them whole and a piece was missing.
        bodies_withheld,
        /// Bodies left out because a rule had to look into them and they could not be read, or were cut.
        bodies_unreadable,
        /// Patterns that ran out of steps; the value was hidden.
        rules_doubts,
        /// Times the remembered detail keys became too many and were forgotten.
        keys_forgotten,
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
        }
    }
}

#[cfg(test)]
mod tests;
