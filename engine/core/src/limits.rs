//! Every bound of the engine: its unit, why it has this size, and what happens when it is reached.
//!
//! A bound that a user may want to change is a default here and a field of a configuration; all others are constants.

/// Bytes of a decoded body that go into a message, per side; the rest is cut, and the cut is marked.
/// The predecessor's own limit (contract 1.6); `USAGE_LOGGERS_BODY_LIMIT`.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes of one message head (start line and headers). A longer head makes the half unreadable from there until the
/// next start line is found; counted as `http_heads_oversized`. Apache takes 8 kB a line, nginx 32 kB in all; users
/// do send 64 kB URLs.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Header lines of one message head. More make the head unreadable, counted as `http_heads_oversized`.
pub const HEADERS_MAX: usize = 2048;

/// Requests of one connection that wait for their response. One more ends the reading of the flow (a peer that sends
/// requests and never an answer), counted.
pub const PIPELINE_DEPTH_MAX: usize = 1024;

/// Nested encapsulations that are undone before a frame is skipped, counted as too deep.
pub const DECAP_DEPTH_MAX: usize = 8;

/// Out-of-order bytes kept per half until the hole before them fills; more make the hole a gap.
/// A 256 KiB receive window is common on API connections; the assembler also has the table's budget.
pub const HALF_BUFFERED_BYTES_MAX: usize = 1 << 20;

/// Out-of-order segments kept per half; more make the hole a gap.
pub const HALF_BUFFERED_SEGMENTS_MAX: usize = 1024;

/// Flows of one shard. The oldest idle flow is evicted for a new one, counted.
pub const FLOWS_MAX: usize = 1 << 20;

/// Bundle size in bytes of lines before compression; larger ones save next to nothing (50 KiB loses 5 % of ratio) and
/// cost latency and memory. `USAGE_LOGGERS_BUNDLE_SIZE`.
pub const BUNDLE_BYTES: usize = 512 * 1024;

const _: () = assert!(HEAD_BYTES_MAX <= HALF_BUFFERED_BYTES_MAX);
