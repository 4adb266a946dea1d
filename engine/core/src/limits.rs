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

/// Headers of one frame that are walked before it is skipped as too deep: eight encapsulations with link header, tags,
/// IP, extension headers and UDP each, and then some. It bounds the work that a frame of nothing but tags makes.
pub const LAYERS_MAX: usize = 96;

/// Bytes of one packet on the wire. A longer claim is malformed: Linux merges segments up to 524 280 bytes
/// (GSO_MAX_SIZE), and a length from the wire becomes a hole of that size in the flow.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// Datagrams of one shard that wait for IP fragments; the oldest makes room, counted as evicted.
pub const FRAGMENT_DATAGRAMS_MAX: usize = 256;

/// Bytes of fragments kept by one shard; the oldest datagram makes room, counted as evicted.
pub const FRAGMENT_BYTES_MAX: usize = 4 << 20;

/// Pieces of one datagram; more are refused, counted. 64 KiB at the smallest MTU of IPv4 in the field (576) is 118.
pub const FRAGMENT_PIECES_MAX: usize = 256;

/// Seconds of packet time that fragments wait for the others, as in Linux (`ipfrag_time`); then counted as expired.
pub const FRAGMENT_WAIT_SECONDS: u64 = 30;

/// Payloads put together from fragments on the way through one frame (outer ones carrying inner ones); more are too
/// deep.
pub const FRAGMENT_NESTING_MAX: usize = 3;

/// VNIs kept with their frame counts for status and metrics; frames of further ones are counted together.
pub const VNIS_SEEN_MAX: usize = 64;

const _: () = assert!(FRAGMENT_BYTES_MAX >= 2 * 65_535 && FRAGMENT_NESTING_MAX < DECAP_DEPTH_MAX);
/// Steps of a backtracking pattern on one value; past it the pattern is in doubt: stop and remove rules act, replace
/// removes the value, counted as `rules_doubts`. The engine needs at least one step per byte of a body, so: that, and
/// as much again.
pub const BACKTRACK_STEPS_MAX: usize = 2 * BODY_BYTES_MAX;

/// Bytes one compiled pattern may take; a larger one is refused when rules are read.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 8 << 20;

/// Bytes of one packet in a capture file; a longer one is an error, since the length is then most likely not one.
/// The largest that Linux hands out are merged segments of 524 280 bytes with their headers.
pub const CAPTURE_PACKET_BYTES_MAX: usize = PACKET_BYTES_MAX;

/// Interfaces of one pcapng section; one more is an error.
pub const CAPTURE_INTERFACES_MAX: usize = 4096;
