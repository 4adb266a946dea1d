//! Every bound of the engine: its unit, why it has this size, and what happens when it is reached.
//!
//! A bound that a user may want to change is a default here and a field of a configuration; all others are constants.

use std::time::Duration;

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

/// Bytes of one chunk's size line (size and extensions). More break the body, counted as `http_bodies_broken`.
/// Nobody sends extensions; 16 KiB is what servers bound them by.
pub const CHUNK_LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the shortest message there is, `GET / HTTP/1.1` or `HTTP/1.1 200` with two line ends of one byte: a shorter
/// loss between messages has not swallowed one.
pub const MESSAGE_BYTES_MIN: u64 = 14;

/// Bytes of an unfinished line kept while a half looks for the next message; of a longer line the last
/// [`HUNT_TAIL_BYTES`] are kept. Large enough for the 64 kB URLs that users do send.
pub const HUNT_LINE_BYTES_MAX: usize = 80 * 1024;

/// Bytes that stay of a line which outgrew [`HUNT_LINE_BYTES_MAX`]: a start line that began before is not found.
pub const HUNT_TAIL_BYTES: usize = 1024;

/// Bytes that each half of a flow may show without a message start before the flow counts as not HTTP, where the
/// beginning was not seen. Above the initial window (10 segments) that a bulk sender fills at once.
pub const HUNT_GIVE_UP_BYTES: u64 = 16 * 1024;

/// Bytes of unfinished heads and lines of all flows of a shard. More make the head unreadable, counted as
/// `http_heads_shed`; the half goes on at the next start line.
pub const HEADS_BUFFERED_BYTES_MAX: usize = 64 << 20;

/// Server ports in the table of what each port speaks; further ports are counted in the sums only.
pub const PORTS_NAMED_MAX: usize = 64;

/// Nested encapsulations that are undone before a frame is skipped, counted as too deep.
pub const DECAP_DEPTH_MAX: usize = 8;

/// Out-of-order bytes kept per half until the hole before them fills; more make the hole a gap.
/// A 256 KiB receive window is common on API connections; the assembler also has the table's budget.
pub const HALF_BUFFERED_BYTES_MAX: usize = 1 << 20;

/// Out-of-order segments kept per half; more make the hole a gap.
pub const HALF_BUFFERED_SEGMENTS_MAX: usize = 1024;

/// Flows of one shard. The oldest idle flow is evicted for a new one, counted.
pub const FLOWS_MAX: usize = 1 << 20;

/// Bytes that a half's beginning may be moved back by a segment that was sent before the first one seen (a midstream
/// beginning out of order); farther ones count as duplicates.
pub const HALF_REBASE_BYTES_MAX: u64 = 1 << 20;

/// Out-of-order and held bytes of all flows of a shard, with what their buffers occupy. Beyond it the flow that has
/// waited longest gives up its holes, counted as `flow_holes_over_bounds`.
pub const FLOW_BUFFERED_BYTES_MAX: usize = 64 << 20;

/// Time without a segment after which a flow that carried payload ends as idle. Slow servers pause for minutes in the
/// middle of a body; Zeek waits 5 minutes, Linux' own connection tracking 5 days.
pub const FLOW_IDLE: Duration = Duration::from_secs(600);

/// The same for a flow that has carried no payload: a scan, a half-open connection, a pool's spare connection (which
/// is then picked up midstream).
pub const FLOW_EMPTY_IDLE: Duration = Duration::from_secs(60);

/// How long an ended flow is remembered, so that its last acknowledgements and repeated segments do not look like a
/// new midstream flow. The first one evicted when room is short.
pub const FLOW_LINGER: Duration = Duration::from_secs(10);

/// Packet time that bytes proven lost by the peer's acknowledgement may still come: only the mirror's reordering can
/// bring them. Two ring blocks' retire time (the two directions may come through two rings), far above what load
/// balancers and offloads reorder by; then they are a gap.
pub const REORDER_GRACE: Duration = Duration::from_millis(20);

/// Segments of the same flow after which that grace ends in any case. At 10 Gbit/s and 1500 bytes it is 300 µs, more
/// than parallel paths differ by, and it bounds the wait where frames carry no usable time.
pub const REORDER_SEGMENTS_MAX: u32 = 256;

/// Packet time that a hole without proof may last: a sender's second or third retransmission has come by then, and
/// one-sided traffic has no acknowledgements to wait for.
pub const HOLE_AGE_MAX: Duration = Duration::from_secs(10);

/// Distance in bytes from the expected number within which a reset is taken for one of this connection.
pub const RESET_WINDOW: u64 = 1 << 20;

/// How long a reset whose number is not exactly the next one may be revoked by a further segment of its sender.
pub const RESET_DOUBT: Duration = Duration::from_secs(2);

/// Age (by the frames' own times) up to which a SYN with the number of a flow that has ended is the same packet
/// captured twice: two interfaces, or both ends of a path, may show a whole short connection one after the other.
pub const SYN_DUPLICATE_AGE: Duration = Duration::from_millis(20);

/// Silence after which a SYN with another number begins a new connection without further proof.
pub const SYN_REUSE_SILENCE: Duration = Duration::from_secs(30);

/// A packet clock that goes back by more than this was set; less is reordering between rings.
pub const CLOCK_STEP_BACK: Duration = Duration::from_secs(60);

/// Distance in bytes from the expected number within which a segment or an acknowledgement can be one of this
/// connection: ten times the receive windows in use (Linux' `tcp_rmem` allows 6 MiB unless changed), so that a loss of
/// whole windows is a gap, and a forged segment is not one.
pub const SEQUENCE_JUMP_MAX: u64 = 64 << 20;

/// Segments of one half, all farther than that from what is expected and near each other, after which the capture has
/// missed more than [`SEQUENCE_JUMP_MAX`]; the half goes on there, and what lies between is a gap.
pub const RESYNC_SEGMENTS: u8 = 4;

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
const _: () =
    assert!(HUNT_TAIL_BYTES < HUNT_LINE_BYTES_MAX && HUNT_LINE_BYTES_MAX <= HEAD_BYTES_MAX);
/// Bytes that a coded body may be longer than the decoded body that is wanted of it: incompressible content grows by
/// headers and block marks only.
pub const CODED_OVERHEAD_BYTES: usize = 64 * 1024;

/// Content codings of one body; a body with more is left out, counted as undecodable. Nobody stacks more than two.
pub const CODINGS_MAX: usize = 4;

/// Log2 of the largest zstd window: RFC 9659 lets HTTP use no more than 8 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes of memory that all open exchanges of one shard may hold; past three quarters of it bodies are cut, past it new
/// exchanges are not written at all, both counted as shed.
pub const OPEN_BYTES_MAX: usize = 64 << 20;

/// Bytes of memory that buffers of finished exchanges may keep for later ones, at most an eighth of what open ones may
/// hold; more is given back.
pub const POOL_BYTES_MAX: usize = 8 << 20;

/// Bytes that one reused buffer keeps; a larger one is given back after its call.
pub const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Detail keys per shard whose rules are remembered; one more forgets all of them, counted. Real traffic has a few
/// hundred; a hostile peer may send a new name with each call.
pub const KEYS_MAX: usize = 8192;

/// Bytes of a detail's name up to which its rules are remembered.
pub const KEY_BYTES_MAX: usize = 256;

/// Bytes of a value up to which it is remembered beside its key, since the next one is often the same.
pub const VALUE_BYTES_MAX: usize = 256;

/// Rule sets that are kept because exchanges are still open under them; one more reload sheds the exchanges of the
/// oldest.
pub const RULE_SETS_MAX: usize = 16;

const _: () = assert!(KEYS_MAX * (KEY_BYTES_MAX + VALUE_BYTES_MAX) <= POOL_BYTES_MAX);

/// Bundles on their way from one shard to the uploader. The uploader takes them at once, so this only bridges the time
/// it needs to wake; when full, the bundle stays with the shard.
pub const OUTBOX_BUNDLES_MAX: usize = 16;

/// Bundles that the uploader keeps, those under way included, while the collector does not take them; for one more the
/// oldest is given up, counted as `queue_full`. The predecessor's number; `USAGE_LOGGERS_BUNDLE_QUEUE_SIZE`.
pub const UPLOAD_BUNDLES_MAX: usize = 128;

/// Bytes of the bodies of those bundles; more give up the oldest. All bundles at their usual size, uncompressed.
pub const UPLOAD_BYTES_MAX: usize = UPLOAD_BUNDLES_MAX * BUNDLE_BYTES;

/// Connections to the collector, and so posts at the same time.
pub const UPLOAD_CONNECTIONS: usize = 2;

/// Time to connect to one address, encryption included; then the next address is tried.
pub const UPLOAD_CONNECT_MAX: Duration = Duration::from_secs(5);

/// Time from the start of a post to the head of its answer. Long, for a bundle may be large and a store busy.
pub const UPLOAD_ANSWER_MAX: Duration = Duration::from_secs(30);

/// Bytes of an answer's body that are read, to keep the connection; a longer answer closes it.
pub const UPLOAD_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Time after the head of an answer in which the connection must be ready for the next post; else it is closed.
pub const UPLOAD_REUSE_MAX: Duration = Duration::from_secs(1);

/// The first wait after a failed post; each further failure doubles it.
pub const UPLOAD_BACK_OFF_MIN: Duration = Duration::from_millis(250);

/// The longest wait after failed posts: how late we notice that the collector is back.
pub const UPLOAD_BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// The longest wait once the program is stopping.
pub const UPLOAD_BACK_OFF_STOPPING: Duration = Duration::from_millis(250);

/// Steps of one path that reaches into a body; a longer path is refused when rules are read.
pub const PATH_STEPS_MAX: usize = 32;

/// Objects and lists inside each other that masks follow; deeper JSON counts as unreadable, and then nothing of the body
/// leaves. The usual bound of JSON readers.
pub const JSON_DEPTH_MAX: usize = 128;
/// Flows of one shard that have carried payload. One more evicts the one that has been silent longest, counted: what it
/// left open becomes half calls, what it still says is picked up midstream.
pub const STREAMS_MAX: usize = 1 << 17;

/// Bytes of a body that an exchange may hold whatever the others do, as long as there is memory at all. While more than
/// half of [`OPEN_BYTES_MAX`] is held, a body that outgrows this and its share of a quarter of it is given up, counted as
/// shed: those that need most make room, not those that come next.
pub const BODY_SHARE_BYTES_MIN: usize = 4 * 1024;

/// The same for the memory of an unfinished head, while more than half of [`HEADS_BUFFERED_BYTES_MAX`] is held.
pub const HEAD_SHARE_BYTES_MIN: usize = 8 * 1024;

/// Bytes that a flow with payload takes beside its entries in the tables: its queue of exchanges, the rounding of the
/// allocator. A hundred thousand of them, each with calls now and then, were measured at 760 bytes each, with what
/// the table itself takes.
pub const STREAM_HEAP_BYTES: usize = 384;

/// Flows that one frame may evict for want of memory; more are for the next frames, so that none waits long.
pub const EVICTIONS_PER_FRAME_MAX: usize = 8;

/// Smallest memory budget of a shard that is divided, in bytes; a smaller one counts as this, so that on a machine of very
/// many cores each can hold a head of [`HEAD_BYTES_MAX`].
pub const SHARD_MEMORY_BYTES_MIN: usize = 4 << 20;

/// Smallest memory limit of the whole program, in bytes; less is refused.
pub const MEMORY_BYTES_MIN: usize = 16 << 20;

/// Largest default of the memory limit of the whole program, in bytes; `SNIFFER_MEMORY_LIMIT`.
pub const MEMORY_BYTES_MAX: usize = 512 << 20;

/// Clients of the metrics port that are answered at the same time; more wait in the kernel's queue. One scrapes, another
/// probes, two are for people.
pub const METRICS_CONNECTIONS_MAX: usize = 4;

/// Time for a request to the metrics port and its answer; then the connection is closed.
pub const METRICS_REQUEST_MAX: Duration = Duration::from_secs(5);

/// Bytes of a request's head at the metrics port; a longer one is refused (431).
pub const METRICS_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Steps of hyper for one request at the metrics port. Each step reads or writes what it can, so a handful is used.
pub const METRICS_POLLS_MAX: usize = 64;

/// The pause after a connection to the metrics port could not be accepted for want of descriptors or memory.
pub const METRICS_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A shard publishes its counters at least ten times a second; one that has not in this time does not live.
pub const SHARD_BEAT_MAX: Duration = Duration::from_secs(2);

/// Time that the destination may be down before a sniffer that needs it says that it is not ready.
pub const OUTPUT_DOWN_MAX: Duration = Duration::from_secs(60);
/// Openings of flows that a shard notes for comparison with other shards, until they are taken; further ones are not
/// compared. The frames of one turn of a shard open fewer, unless each opens one.
pub const OPENINGS_NOTED_MAX: usize = 4096;

/// Bytes of a body that no rule has to see, while bodies are thinned because a shard cannot keep up; counted as
/// `bodies_thinned`. What API calls say fits as a rule; what is cut is pages, files and lists.
pub const THIN_BODY_BYTES: usize = 4 * 1024;
