//! Every bound of the engine: its unit, why it has this size, and what happens when it is reached.
//!
//! Grouped by the module that keeps the bound, in the order of the modules. A bound that a user may want to change is a
//! default here and a field of a configuration; all others are constants. Counters are named as in the ledger. The
//! bounds of the daemon (uploads, metrics port, capture files) are in its own `limits.rs`.

use std::time::Duration;

// ---- decap ----

/// Bytes of one packet on the wire. A longer claim is malformed: Linux merges segments up to 524 280 bytes
/// (`GSO_MAX_SIZE`), and a length from the wire becomes a hole of that size in the flow.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// Nested encapsulations that are removed before a frame is skipped, counted as `skipped_too_deep`.
pub const DECAP_DEPTH_MAX: usize = 8;

/// Headers of one frame that are read before it is skipped, counted as `skipped_too_deep`: room for eight encapsulations
/// with link header, tags, IP, extension headers and UDP each. It bounds the work for a frame that consists of tags.
pub const LAYERS_MAX: usize = 96;

/// Datagrams of one shard that wait for IP fragments; one more evicts the oldest, whose fragments are counted as
/// `fragments_evicted`.
pub const FRAGMENT_DATAGRAMS_MAX: usize = 256;

/// Bytes of fragments kept by one shard; more evict the oldest datagram, counted as `fragments_evicted`.
pub const FRAGMENT_BYTES_MAX: usize = 4 << 20;

/// Pieces of one datagram; more are refused, counted as `fragments_refused`. 64 KiB at the smallest MTU of IPv4 in the
/// field (576) is 118.
pub const FRAGMENT_PIECES_MAX: usize = 256;

/// Seconds of packet time that fragments wait for the others, as in Linux (`ipfrag_time`); then they are counted as
/// `fragments_expired`.
pub const FRAGMENT_WAIT_SECONDS: u64 = 30;

/// Payloads of one frame that are put together from fragments (outer ones that carry inner ones); a frame with more is
/// skipped, counted as `skipped_too_deep`.
pub const FRAGMENT_NESTING_MAX: usize = 3;

/// VNIs that are counted one by one for status and metrics; frames of further ones are counted together, as
/// `vni_frames_untracked`.
pub const VNIS_SEEN_MAX: usize = 64;

const _: () = assert!(FRAGMENT_BYTES_MAX >= 2 * 65_535 && FRAGMENT_NESTING_MAX < DECAP_DEPTH_MAX);

// ---- flow ----

/// Flows of one shard. One more evicts the flow that has been idle longest, counted as `flow_ended_evicted`.
pub const FLOWS_MAX: usize = 1 << 20;

/// Flows of one shard that have carried payload. One more evicts the one that has been idle longest, counted as
/// `flow_ended_evicted`: its open exchanges become half calls, and its further segments open a midstream flow.
pub const STREAMS_MAX: usize = 1 << 17;

/// Bytes that a flow with payload takes in addition to its entries in the tables: its queue of exchanges and the
/// rounding of the allocator. Measured at 100 000 such flows with calls now and then: 760 bytes each, table included.
pub const STREAM_HEAP_BYTES: usize = 384;

/// Out-of-order bytes kept per direction until the hole before them fills; more turn the hole into a gap, counted as
/// `flow_holes_over_bounds`. A receive window of 256 KiB is common on API connections; in addition all directions of a
/// shard share [`FLOW_BUFFERED_BYTES_MAX`].
pub const DIRECTION_BUFFERED_BYTES_MAX: usize = 1 << 20;

/// Out-of-order segments kept per direction; more turn the hole into a gap, counted as `flow_holes_over_bounds`.
pub const DIRECTION_BUFFERED_SEGMENTS_MAX: usize = 1024;

/// Gaps of a direction that are remembered, 16 bytes each. Bytes that arrive for one of them are counted as
/// `flow_discarded_late_bytes`; bytes before the oldest of more gaps are counted so too.
pub const GAPS_KEPT_MAX: usize = 32;

/// Ended flows of a shard of which it is remembered what was missing, up to 1.2 kB each: late bytes of others count as
/// duplicates.
pub const ENDED_FLOWS_KEPT_MAX: usize = 1024;

/// Out-of-order and held bytes of all flows of a shard, with what their buffers occupy. Beyond it the flow that has
/// waited longest gives up its holes, counted as `flow_holes_over_bounds`.
pub const FLOW_BUFFERED_BYTES_MAX: usize = 64 << 20;

/// Bytes by which the start of a direction may be moved back for a segment that was sent before the first one seen (a
/// midstream start out of order); the bytes of a segment farther back count as `flow_duplicate_bytes`.
pub const REBASE_BYTES_MAX: u64 = 1 << 20;

/// Distance in bytes from the expected sequence number within which a segment or an acknowledgement can belong to the
/// connection: ten times the receive windows in use (Linux' `tcp_rmem` allows 6 MiB unless changed), so that whole
/// missing windows are a gap, and a forged segment is not one. Farther ones count as `flow_segments_out_of_window`.
pub const SEQUENCE_JUMP_MAX: u64 = 64 << 20;

/// Segments of one direction, all outside of [`SEQUENCE_JUMP_MAX`] and near each other, after which it is certain that
/// the capture has missed more than that; the direction continues there, and what lies between is a gap.
pub const RESYNC_SEGMENTS: u8 = 4;

/// Packet time that bytes which the peer has acknowledged may still arrive in: they reached the peer, so only the
/// mirror's reordering can bring them. Two retire times of a ring block (the two directions may come through two rings),
/// far above what load balancers and offloads reorder by; then they are a gap.
pub const REORDER_GRACE: Duration = Duration::from_millis(20);

/// Segments of the same flow after which [`REORDER_GRACE`] ends in any case. At 10 Gbit/s and 1500 bytes it is 300 µs,
/// more than parallel paths differ by, and it bounds the wait where frames have no usable time.
pub const REORDER_SEGMENTS_MAX: u32 = 256;

/// Packet time that replaces [`REORDER_GRACE`] for a flow of which fewer than [`REORDER_SEGMENTS_MIN`] segments were
/// captured in it: in a quiet flow, packets that change places are as far apart in time as the packets are. What waits
/// meanwhile is no more than these segments carry.
pub const REORDER_GRACE_QUIET: Duration = Duration::from_millis(200);

/// Segments of the same flow before which its grace is [`REORDER_GRACE_QUIET`]: paths that reorder move a packet behind a
/// few others (TCP itself allows for three, RFC 5681).
pub const REORDER_SEGMENTS_MIN: u32 = 8;

/// Packet time that a hole may last which no acknowledgement covers: a sender's second or third retransmission has come
/// by then, and one-sided traffic has no acknowledgements to wait for. Then it is a gap, counted as
/// `flow_holes_expired`.
pub const HOLE_AGE_MAX: Duration = Duration::from_secs(10);

/// Distance in bytes from the expected sequence number within which a reset is accepted; farther ones count as
/// `flow_resets_out_of_window`.
pub const RESET_WINDOW: u64 = 1 << 20;

/// How long a reset whose number is not exactly the next one may be revoked by a further segment of its sender, counted
/// as `flow_resets_ignored`.
pub const RESET_DOUBT: Duration = Duration::from_secs(2);

/// Age (by the frames' own times) up to which a SYN with the number of an open flow is the same packet captured twice; a
/// SYN is sent again after a second at the earliest (RFC 6298, section 2).
pub const COPY_DELAY_MAX: Duration = Duration::from_millis(900);

/// How long holes wait for copies that are as late as one that was seen.
pub const COPY_DELAY_KNOWN: Duration = Duration::from_secs(60);

/// Distance in bytes from the numbers expected next within which a flow without its SYN is taken for a copy of one in
/// another network. Both sides have to be as near, which chance makes of one pair of connections in 260 000.
pub const COPY_DISTANCE_MAX: u64 = 4 << 20;

/// Pairs of networks with copies that are named for status and messages; connections of further pairs are in the sums.
pub const COPY_PLACES_MAX: usize = 16;

/// Silence after which a SYN with another number opens a new connection without further proof.
pub const SYN_REUSE_SILENCE: Duration = Duration::from_secs(30);

/// Time without a segment after which a flow that carried payload ends, counted as `flow_ended_idle`. Slow servers pause
/// for minutes in the middle of a body; Zeek waits 5 minutes, Linux' own connection tracking 5 days.
pub const FLOW_IDLE: Duration = Duration::from_secs(600);

/// The same for a flow that has carried no payload: a scan, a half-open connection, a pool's spare connection (which
/// later becomes a midstream flow).
pub const FLOW_EMPTY_IDLE: Duration = Duration::from_secs(60);

/// How long an ended flow stays in the table, so that its last acknowledgements and repeated segments do not look like a
/// new midstream flow. Ended flows are the first ones evicted.
pub const FLOW_LINGER: Duration = Duration::from_secs(10);

/// A packet clock that goes back by more than this was set; less is reordering between rings.
pub const CLOCK_STEP_BACK: Duration = Duration::from_secs(60);

/// New flows that a shard notes for comparison with other shards, until they are collected; further ones are not
/// compared. The frames between two collections open fewer, unless each opens one.
pub const NEW_FLOWS_NOTED_MAX: usize = 4096;

/// Flows that one frame may evict to free memory; more are left to the next frames, so that no frame waits long.
pub const EVICTIONS_PER_FRAME_MAX: usize = 8;

const _: () = assert!(REBASE_BYTES_MAX <= SEQUENCE_JUMP_MAX && RESET_WINDOW <= SEQUENCE_JUMP_MAX);
const _: () = assert!(DIRECTION_BUFFERED_BYTES_MAX <= FLOW_BUFFERED_BYTES_MAX);
const _: () = assert!(STREAMS_MAX <= FLOWS_MAX);

// ---- http ----

/// Bytes of one message head (start line and headers). A longer head makes the direction unreadable from there to the
/// next start line; counted as `heads_oversized`. Apache accepts 8 kB a line, nginx 32 kB in all; users do send URLs of
/// 64 kB.
pub const HEAD_BYTES_MAX: usize = 256 * 1024;

/// Header lines of one message head. More make the head unreadable, counted as `heads_oversized`.
pub const HEADERS_MAX: usize = 2048;

/// Requests of one connection that wait for their response. One more ends the reading of the flow (a peer that sends
/// requests and never an answer), counted as `flows_overflowed`.
pub const PIPELINE_DEPTH_MAX: usize = 1024;

/// Bytes of one chunk's size line (size and extensions). More break the body, counted as `bodies_broken`. Extensions are
/// not in use; 16 KiB is what servers bound them by.
pub const CHUNK_LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the shortest message there is, `GET / HTTP/1.1` or `HTTP/1.1 200` with two line ends of one byte: a shorter
/// gap between messages has not swallowed one.
pub const MESSAGE_BYTES_MIN: u64 = 14;

/// Bytes of an unfinished line kept while a direction resynchronises; of a longer line the last [`RESYNC_TAIL_BYTES`]
/// are kept. Large enough for the 64 kB URLs that users do send.
pub const RESYNC_LINE_BYTES_MAX: usize = 80 * 1024;

/// Bytes that stay of a line longer than [`RESYNC_LINE_BYTES_MAX`]: a start line that starts before them is not found.
pub const RESYNC_TAIL_BYTES: usize = 1024;

/// Bytes that each direction of a flow whose start was not seen may carry without the start of a message before the flow
/// counts as not HTTP. Above the initial window (10 segments) that a bulk sender fills at once.
pub const RESYNC_GIVE_UP_BYTES: u64 = 16 * 1024;

/// Bytes of one direction that are held until it is known what they are: the first ones that begin no message, until the
/// other direction has shown its first bytes, and those behind a CONNECT, until its answer. More end the wait. What a peer
/// sends at once is bounded by the receive window, at first 64 KiB.
pub const HELD_BYTES_MAX: usize = 64 * 1024;

/// Bytes that one direction may carry that begin no message before the other direction has shown a byte. More end the wait
/// for an answer in HTTP. Above the longest head, which a server may refuse.
pub const UNANSWERED_BYTES_MAX: u64 = 2 * HEAD_BYTES_MAX as u64;

/// Bytes of unfinished heads and lines of all flows of a shard. More make the head unreadable, counted as `heads_shed`;
/// the direction continues at the next start line.
pub const HEADS_BUFFERED_BYTES_MAX: usize = 64 << 20;

/// Bytes of an unfinished head that are always granted, as long as there is memory at all. While more than half of
/// [`HEADS_BUFFERED_BYTES_MAX`] is held, a head that outgrows this and its share is given up, counted as `heads_shed`.
pub const HEAD_SHARE_BYTES_MIN: usize = 8 * 1024;

/// Bytes of an HTTP/2 header table that are kept for one direction, as RFC 7541 counts them: the largest tables that browsers
/// and gRPC use. Of a larger one the oldest entries are forgotten, counted as `http2_table_entries_forgotten`; what
/// refers to them is unknown.
pub const HTTP2_TABLE_BYTES_MAX: usize = 64 * 1024;

/// Bytes of memory of the HTTP/2 header tables of one shard; only what is filled counts, and an entry that several tables have
/// counts once, as it is held. Beyond it the tables of the connection that has been silent longest are forgotten, counted as
/// `http2_tables_shed`: what refers to them is unknown.
pub const HTTP2_TABLES_BYTES_MAX: usize = 32 << 20;

/// Coded strings of HTTP/2 whose texts a shard keeps, names and values apart: a sender without a header table sends some twenty in
/// each message. A power of two. Another one takes the place of one that has not come again.
pub const HTTP2_STRINGS_MAX: usize = 128;

/// Octets of the longest of them: as many as the names of most browsers have.
pub const HTTP2_STRING_OCTETS_MAX: usize = 96;

/// Open streams of one HTTP/2 connection: servers allow 100 to 250. One more evicts the one that has been silent longest,
/// counted as `http2_streams_evicted`.
pub const HTTP2_STREAMS_MAX: usize = 4096;

/// Bytes of a WebSocket message from which the mask is removed at once, in a buffer of the shard.
pub const UNMASKED_BYTES_MAX: usize = 4096;

/// Server ports in the table of protocols by port; further ports are counted in the sums only.
pub const PORTS_NAMED_MAX: usize = 64;

const _: () = assert!(HEAD_BYTES_MAX <= DIRECTION_BUFFERED_BYTES_MAX);
const _: () =
    assert!(RESYNC_TAIL_BYTES < RESYNC_LINE_BYTES_MAX && RESYNC_LINE_BYTES_MAX <= HEAD_BYTES_MAX);

// ---- uploads ----

/// Bytes of the body, as sent, of a request with the marker of an upload by which it is decided whether it is one: room
/// for the tables of a compressed block and a few details. More are not kept.
pub const UPLOAD_BEGINNING_BYTES_MAX: usize = 4096;

/// Bytes of them after decompression that have to look like a call; more are not decompressed.
pub const UPLOAD_LINE_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the body that the hash in a marker covers: beyond the tables of a compressed block they differ in each bundle,
/// and they lie in one packet.
pub const UPLOAD_HASHED_BYTES: usize = 64;

/// Age, by packet time, up to which the marker of this process counts as its own: longer than a proxy keeps a request
/// for a server that is away. An older one counts as another sniffer's.
pub const UPLOAD_MARKER_AGE_MAX: Duration = Duration::from_secs(600);

/// Bytes of a sender's name; the rest is left out. A pod's name fits, and it is a multiple of eight.
pub const UPLOAD_SENDER_BYTES_MAX: usize = 48;

/// Other sniffers whose skipped uploads are counted by name; those of further ones are counted in the sum only.
pub const UPLOAD_SENDERS_NAMED_MAX: usize = 8;

const _: () = assert!(UPLOAD_HASHED_BYTES <= UPLOAD_BEGINNING_BYTES_MAX);
const _: () = assert!(UPLOAD_SENDER_BYTES_MAX.is_multiple_of(8));

// ---- rules ----

/// Rules of one set, those of predefined sets included; a larger set is refused. Each costs every new name a test, and every value that
/// it is for a search.
pub const RULES_MAX: usize = 4096;

/// Bytes one compiled pattern may take; a larger one is refused when rules are read.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 8 << 20;

/// Bytes that the compiled patterns of one rule set may take; a larger set is refused. 50 ordinary rules take 5 MiB.
pub const RULES_COMPILED_BYTES_MAX: usize = 64 << 20;

/// The part of the memory limit that is for rules, at least: a sixteenth. It is more where they need more, also so that others can
/// replace them while calls are open that began before; rules for which there is not enough are refused.
pub const RULES_SHARE_DIVISOR: usize = 16;

/// Bytes of memory for what the searches of rules keep in a shard, where no memory limit is given. Past it all is forgotten and made
/// again, counted as `rules_states_forgotten`; what is made from then on is taken from the budget of the call.
pub const RULES_STATES_BYTES: usize = 16 << 20;

/// Bytes of it for each pattern of a rule set, or a quarter where the memory limit is small; an ordinary pattern has all its states in
/// them.
pub const PATTERN_STATES_BYTES_MIN: usize = 64 * 1024;

/// The same for the scopes of a rule set that are searched together.
pub const SCOPES_STATES_BYTES_MIN: usize = 256 * 1024;

/// Bytes that the searches of a pattern may read until its states are measured again: a state for each byte, at most, and what a
/// last search adds, within [`PATTERN_STATES_BYTES_MAX`] for each direction.
pub const STATES_MEASURED_BYTES: usize = 1024;

/// Bytes of the states that a pattern's automaton keeps, for each direction and shard. An ordinary pattern has some hundred
/// states, in 30 KiB; one with counted repetitions and more than fit is searched with each state counted as work.
pub const PATTERN_STATES_BYTES_MAX: usize = 2 << 20;

/// Work that it may take to count the states of a pattern, once, in the unit of [`WORK_BYTES_FREE`]; one for which that is
/// not enough counts as having too many.
pub const PATTERN_COUNTING_BYTES_MAX: u64 = 8 << 20;

/// Bytes that one scope may look at for one name, in addition to [`WORK_BYTES_PER_BYTE`]: a call may have thousands of names.
pub const NAME_WORK_BYTES_FREE: u64 = 64 * 1024;

/// Bytes that all scopes together may look at for the new names of one message; past it the rules apply to each further new name,
/// and session fields are not copied. Ordinary names and scopes need a thousandth of it.
pub const NAMES_WORK_BYTES_MAX: u64 = 32 << 20;

/// Bytes that the rules may look at for one call, however small it is; see `rules/work.rs` for what one costs.
pub const WORK_BYTES_FREE: u64 = 1 << 20;

/// Bytes that the rules may look at in addition, for each byte that a pattern is applied to. A mask without look-around
/// needs one to three, one with it some twenty; a quadratic search needs half the length of the value.
pub const WORK_BYTES_PER_BYTE: u64 = 64;

/// Bytes that the rules may look at for one call, whatever is in it: half a second of a shard. 50 masks on two bodies of
/// [`BODY_BYTES_MAX`] need a fifth of it. Past any of the three, the values that are still to be tested or replaced are in
/// doubt, counted as `rules_doubts`: stop and remove rules act, and replace rules remove the value.
pub const WORK_BYTES_MAX: u64 = 512 << 20;

/// Bytes by which the replacements of a call may make one value longer than it was sent; past it the value is removed,
/// counted as `rules_doubts`.
pub const REPLACED_GROWTH_BYTES_MAX: usize = 1 << 20;

/// Instructions of one pattern with look-around; a larger one is refused when rules are read.
pub const BACKTRACK_INSTRUCTIONS_MAX: usize = 64 * 1024;

/// Places to which the search of such a pattern may return, 32 bytes each, freed after the search; past it the value is in
/// doubt. A match that decides at each character has one place for each.
pub const BACKTRACK_PLACES_MAX: usize = 1 << 18;

/// Steps of one path that reaches into a body; a longer path is refused when rules are read.
pub const PATH_STEPS_MAX: usize = 32;

/// Parts of the name of a form field, as in `card[number]`; with more of them the body counts as unreadable. As many as
/// JSON may have levels.
pub const FIELD_PARTS_MAX: usize = JSON_DEPTH_MAX;

/// Objects and lists inside each other that masks follow; deeper JSON counts as unreadable, and then nothing of the body
/// leaves. The usual bound of JSON readers.
pub const JSON_DEPTH_MAX: usize = 128;

// ---- message ----

/// Bytes of a decoded body that go into a line, per side; the rest is cut off, marked in the line, and the body counted
/// as `bodies_limited`. The limit of network-sniffer 1.x (`docs/contract.md`, section 1.6); `USAGE_LOGGERS_BODY_LIMIT`.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes of a body's text in its line, for each byte of the limit of the body; past it the body is cut and marked as at
/// that limit. What is text grows by a few quotes and line ends; what is none, such as 1 MiB of NULs, by as much as six.
pub const BODY_TEXT_FACTOR: usize = 3;

/// Bytes of text that a body may have in addition, so that the smallest limits leave something of any body.
pub const BODY_TEXT_BYTES_MIN: usize = 64;

/// Bytes that one byte of a body, as sent, may become by its content codings together; past it the body is cut and marked,
/// counted as `bodies_expanded`. Lists that repeat themselves reach 50; Brotli, zstd and nested codings any number.
pub const CODING_RATIO_MAX: usize = 256;

/// Bytes that the messages of WebSockets of a shard may become in a second of packet time beyond [`CODING_RATIO_MAX`] for each byte
/// as sent; past it a message is undecodable, counted as `websocket_messages_undecodable`, and with it those that refer to it. A
/// message has no limit as a body has it, since later ones may refer to all of it; one that repeats the message before it
/// becomes up to 1 032 bytes for each.
pub const INFLATE_EXCESS_BYTES_MAX: u64 = 16 << 20;

/// Bytes that a coded body counts as if it is shorter: what fits into so few is hardly ever more than 16 KiB.
pub const CODED_BYTES_MIN: usize = 64;

/// Bytes behind the body limit that rules see of a body that one of them needs: a shorter rest decides them, and a match that
/// the limit divides is found. What may still be half a match is cut off, however long it is.
pub const RULES_BEYOND_BYTES: usize = 16 * 1024;

/// Bytes of a body that no rule has to see, while bodies are truncated because a shard cannot keep up, counted as
/// `bodies_truncated`. The bodies of API calls fit as a rule; what is cut off is pages, files and lists.
pub const OVERLOAD_BODY_BYTES: usize = 4 * 1024;

/// Bytes that a coded body may be longer than the part of the decoded body that is needed: incompressible content grows
/// by headers and block marks only.
pub const CODED_OVERHEAD_BYTES: usize = 64 * 1024;

/// Bytes that a decoder of Brotli or zstd which decodes a body as it comes counts as beside its window: tables, and a block.
pub const DECODER_STATE_BYTES: usize = 192 * 1024;

/// Bytes of the end of a body behind its limit that are kept at most (`SNIFFER_BODY_TAIL`): the last events of a stream, with
/// what they add up. They are memory of the open exchange.
pub const BODY_TAIL_BYTES_MAX: usize = 64 * 1024;

/// Content codings of one body; a body with more is left out, counted as `bodies_undecodable`. More than two are not in
/// use.
pub const CODINGS_MAX: usize = 4;

/// Bytes of the text of a fact, such as the method of a call; more are cut off. Names that people choose have a few dozen.
pub const FACT_BYTES_MAX: usize = 256;

/// Operations of a batch that are named; further ones are not. People send a handful.
pub const OPERATIONS_MAX: usize = 8;

/// Messages inside each other that are read without a schema; a deeper one is written as a string. Each level is scanned once,
/// so this is also the number of times that a byte of a message is looked at.
pub const PROTOBUF_DEPTH_MAX: usize = 64;

/// Bytes of the messages of one side of a WebSocket to which compressed ones may refer (RFC 7692, RFC 1951): kept where a
/// handshake has agreed on that, as far as there are as many, within [`OPEN_BYTES_MAX`].
pub const INFLATE_WINDOW_BYTES: usize = 32 * 1024;

/// Bytes that the decompression of a message counts as, as long as the message is not over: its window and its tables.
pub const INFLATE_STATE_BYTES: usize = 48 * 1024;

/// Decompressors of messages that a shard keeps for the next ones; more are freed.
pub const INFLATERS_SPARE_MAX: usize = 8;

/// Details of one line: what receivers accept at least (`docs/contract.md`, section 1.8). Each is a row of a page, and of a
/// table where the collector has one. The query parameters, form fields and session fields that would exceed it are left out,
/// counted as `fields_limited`; all others are bounded by [`HEADERS_MAX`] for each head.
pub const LINE_DETAILS_MAX: usize = 16 * 1024;

/// Details of a line that are no headers, parameters, form fields or session fields, annotations included.
pub const LINE_DETAILS_OTHER: usize = 64;

/// Bytes of text of the request headers and the fields of one line, or of its session fields; what would exceed it is left out,
/// counted as `fields_limited`. A form of [`BODY_BYTES_MAX`] that is escaped as bodies are fits.
pub const FIELDS_BYTES_MAX: usize = 2 << 20;

/// Log2 of the largest zstd window: RFC 9659 lets HTTP use no more than 8 MiB.
pub const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes of memory that all open exchanges of one shard may hold. Past three quarters of it bodies are truncated, counted
/// as `bodies_shed`; past it new exchanges are not written at all, counted as `calls_shed`.
pub const OPEN_BYTES_MAX: usize = 64 << 20;

/// Bytes of a body that an exchange may hold whatever the others do, as long as there is memory at all. While more than
/// half of [`OPEN_BYTES_MAX`] is held, a body that outgrows this and its share of a quarter of it is given up, counted as
/// `bodies_shed`: the exchanges that need most are cut, not those that come next.
pub const BODY_SHARE_BYTES_MIN: usize = 4 * 1024;

/// Bytes of memory that buffers of finished exchanges may keep for later ones, at most an eighth of what open ones may
/// hold; more is freed.
pub const POOL_BYTES_MAX: usize = 8 << 20;

/// Bytes that one reused buffer keeps; a larger one is freed after its call.
pub const BUFFER_KEPT_BYTES: usize = 64 * 1024;

/// Detail keys per shard whose rules are remembered; one more forgets all of them, counted as `keys_forgotten`. Real
/// traffic has a few hundred; a hostile peer may send a new name with each call.
pub const KEYS_MAX: usize = 8192;

/// Bytes of memory of these keys: their names, also as they are in the line, where a byte may take six, the rules that apply to
/// them, and the values that are remembered with them. Past it all of them are forgotten, too.
pub const KEYS_BYTES_MAX: usize = 4 << 20;

/// Bytes of a detail's name up to which its rules are remembered.
pub const KEY_BYTES_MAX: usize = 256;

/// Bytes of a value up to which it is remembered with its key, since the next one is often the same.
pub const VALUE_BYTES_MAX: usize = 256;

/// Rule sets that are kept because exchanges are still open under them; one more reload sheds the exchanges of the
/// oldest.
pub const RULE_SETS_MAX: usize = 16;

/// Rule sets that a pipeline writes lines under at the same time: each costs the message stage once more. The settings
/// refuse more.
pub const RULE_SETS_AT_ONCE_MAX: usize = 4;

const _: () = assert!(2 * HEADERS_MAX + LINE_DETAILS_OTHER < LINE_DETAILS_MAX);
const _: () = assert!(KEYS_BYTES_MAX <= POOL_BYTES_MAX);

// ---- bundle ----

/// Bytes of the lines of one bundle before compression; larger ones save next to nothing (50 KiB loses 5 % of ratio) and
/// cost latency and memory. `USAGE_LOGGERS_BUNDLE_SIZE`.
pub const BUNDLE_BYTES: usize = 512 * 1024;

/// Calls of one bundle, which is closed when it has as many: what the embedded store accepts, and 3 MiB of index.
pub const BUNDLE_CALLS_MAX: usize = 64 * 1024;

// ---- memory, divided by pipeline ----

/// Smallest memory budget of a shard that is divided, in bytes; a smaller one counts as this, so that on a machine of very
/// many cores each shard can hold a head of [`HEAD_BYTES_MAX`].
pub const SHARD_MEMORY_BYTES_MIN: usize = 4 << 20;

/// Smallest memory limit of the whole program, in bytes; less is refused.
pub const MEMORY_BYTES_MIN: usize = 16 << 20;

/// Largest default of the memory limit of the whole program, in bytes; `SNIFFER_MEMORY_LIMIT`.
pub const MEMORY_BYTES_MAX: usize = 512 << 20;

const _: () = assert!(HEAD_BYTES_MAX <= SHARD_MEMORY_BYTES_MIN / 8);
const _: () = assert!(SHARD_MEMORY_BYTES_MIN <= MEMORY_BYTES_MIN);
