//! The bounds of the program around the engine: its unit, why it has this size, and what happens when it is reached.
//!
//! Grouped by the module that keeps the bound. The bounds of the engine are in [`engine_core::limits`].

use std::time::Duration;

use engine_core::limits::{BUNDLE_BYTES, PACKET_BYTES_MAX};

// ---- capture files ----

/// Bytes of one packet in a capture file; a longer one is an error, since the length is then most likely not one.
/// The largest that Linux hands out are merged segments of 524 280 bytes with their headers.
pub const CAPTURE_PACKET_BYTES_MAX: usize = PACKET_BYTES_MAX;

/// Interfaces of one pcapng section; one more is an error.
pub const CAPTURE_INTERFACES_MAX: usize = 4096;

/// Capture files that are open at the same time, with [`CAPTURE_WINDOW_BYTES_MANY`] each. Files are opened when their first
/// packet is due, so only files that overlap are open together; of more than these, the rest is read late, which W082
/// reports. Below the usual limit of descriptors of a process, 1024.
pub const CAPTURE_FILES_OPEN_MAX: usize = 256;

/// Bytes that are read at once of each of many files.
pub const CAPTURE_WINDOW_BYTES_MANY: usize = 64 * 1024;

/// Bytes that are read of a file for the time of its first packet.
pub const CAPTURE_WINDOW_BYTES_FIRST: usize = 4 * 1024;

/// Bytes of a capture file up to which it is looked through for places where times go back. The look is a second pass over
/// what the page cache then holds; a larger file is read as it is, and W082 reports such a place.
pub const CAPTURE_PARTS_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Packets of a part that are earlier than the end of the part before it; fewer are packets with a wrong time.
pub const CAPTURE_PART_PACKETS_MIN: u64 = 8;

/// Parts in order that a file is read as; one with more of them is read as it is.
pub const CAPTURE_PARTS_MAX: usize = 16;

/// Bytes at the start of a followed file by which it is recognised when its name is used for another one.
pub const CAPTURE_MARK_BYTES: usize = 256;

/// Bytes that are read of a stream at once: what a pipe holds.
pub const STREAM_CHUNK_BYTES: usize = 64 * 1024;

/// Chunks of a stream that are read ahead; then its thread waits, and the pipe fills.
pub const STREAM_CHUNKS_MAX: usize = 16;

// ---- rings ----

/// Bytes of the smallest block of a ring: twice the longest frame that receive offload merges.
pub const RING_BLOCK_BYTES_MIN: usize = 128 << 10;

/// Fewest blocks of a ring: one is ours while the kernel fills the others.
pub const RING_BLOCKS_MIN: usize = 4;

/// Bytes of the smallest ring that can be set.
pub const RING_BYTES_MIN: usize = RING_BLOCKS_MIN * RING_BLOCK_BYTES_MIN;

// ---- packets that are kept ----

/// Fewest bytes that can be set for packets that are kept (`--keep-packets`).
pub const KEPT_PACKETS_BYTES_MIN: usize = 1 << 20;

/// Bytes of one chunk of them, at most, and a quarter of the part of its shard where that is less: the oldest chunk is used for
/// the next packets.
pub const KEPT_CHUNK_BYTES_MAX: usize = 256 << 10;

/// Bytes of the smallest chunk.
pub const KEPT_CHUNK_BYTES_MIN: usize = 1 << 10;

/// Time in which a shard has to hand over the packets that came last, which it does ten times a second; a file lacks them past it.
pub const KEPT_PACKETS_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a file of packets, which is in memory until it is taken; older packets are left out, which the file states.
pub const PACKETS_FILE_BYTES_MAX: usize = 16 << 20;

const _: () = assert!(
    PACKETS_FILE_BYTES_MAX == store::limits::PACKETS_FILE_BYTES_MAX,
    "the store takes what the capture makes"
);

/// Time for a file of packets from the capture.
pub const PACKETS_FILE_WAIT: Duration = Duration::from_secs(5);

// ---- shards ----

/// A shard publishes its counters at least ten times a second; one that has not in this time counts as stuck.
pub const SHARD_BEAT_MAX: Duration = Duration::from_secs(2);

/// Time that the destination may be down before a sniffer that needs it reports that it is not ready.
pub const OUTPUT_DOWN_MAX: Duration = Duration::from_secs(60);

// ---- sinks ----

/// Sinks, that of the capture URL included: each has a thread and its share of the memory for bundles that wait. More are
/// refused at the start.
pub const SINKS_MAX: usize = 8;

/// Bytes of the name of a sink, which stands in settings, status, metrics and names of files.
pub const SINK_NAME_BYTES_MAX: usize = 32;

/// Bytes of the smallest file of a folder, and of the smallest folder, that can be set: a file ends after the bundle that
/// reaches its bound.
pub const FOLDER_FILE_BYTES_MIN: u64 = 64 << 10;
/// See [`FOLDER_FILE_BYTES_MIN`].
pub const FOLDER_BYTES_MIN: u64 = 1 << 20;

// ---- uploads ----

/// Bundles on their way from one shard to the uploader. The uploader takes them at once, so this only bridges the time
/// it needs to wake; when full, the bundle stays with the shard.
pub const OUTBOX_BUNDLES_MAX: usize = 16;

/// Bundles that the uploader keeps, those under way included, while the collector does not take them; one more sheds the
/// oldest, counted as `queue_full`. The number of network-sniffer 1.x; `USAGE_LOGGERS_BUNDLE_QUEUE_SIZE`.
pub const UPLOAD_BUNDLES_MAX: usize = 128;

/// Bytes of the bodies of those bundles; more shed the oldest. All bundles at their usual size, uncompressed.
pub const UPLOAD_BYTES_MAX: usize = UPLOAD_BUNDLES_MAX * BUNDLE_BYTES;

/// Connections to the collector, and so posts at the same time.
pub const UPLOAD_CONNECTIONS: usize = 2;

/// Time to connect to one address, encryption included; then the next address is tried.
pub const UPLOAD_CONNECT_MAX: Duration = Duration::from_secs(5);

/// Time from the start of a post to the head of its answer. Long, for a bundle may be large and a store busy.
pub const UPLOAD_ANSWER_MAX: Duration = Duration::from_secs(30);

/// Time from the start of a post after which it is reported that the answer has not come yet.
pub const UPLOAD_SILENCE_MAX: Duration = Duration::from_secs(5);

/// Bytes of an answer's body that are read, to keep the connection; a longer answer closes it.
pub const UPLOAD_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Bytes of them that are looked at: a server says there that it does not accept the client certificate.
pub const UPLOAD_ANSWER_BYTES_KEPT: usize = 4 * 1024;

/// Bytes of the head of a proxy's answer to CONNECT; with a longer one there is no tunnel.
pub const UPLOAD_PROXY_HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes that the collector may send from one post to the next: the handshake of TLS, an answer, and the interim answers
/// before it. With more the connection is given up, and the bundle is posted again later. Twice the longest body.
pub const UPLOAD_RECEIVED_BYTES_MAX: usize = 2 * UPLOAD_ANSWER_BYTES_MAX;

/// Time after the head of an answer in which the connection must be ready for the next post; else it is closed.
pub const UPLOAD_REUSE_MAX: Duration = Duration::from_secs(1);

/// The first wait after a failed post; each further failure doubles it.
pub const UPLOAD_BACK_OFF_MIN: Duration = Duration::from_millis(250);

/// The longest wait after failed posts: how late we notice that the collector is back.
pub const UPLOAD_BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// The longest wait that a collector may ask for (`Retry-After`). Longer ones would fill the queue for what may be a mistake.
pub const UPLOAD_RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// The first wait after an answer that stays the same until somebody corrects something (401, 403, 404, 405, 407); it doubles,
/// too.
pub const UPLOAD_REFUSED_WAIT_MIN: Duration = Duration::from_secs(2);

/// The longest wait after such answers: people take minutes.
pub const UPLOAD_REFUSED_WAIT_MAX: Duration = Duration::from_secs(60);

/// The longest wait once the program is stopping.
pub const UPLOAD_BACK_OFF_STOPPING: Duration = Duration::from_millis(250);

// ---- spool ----

/// Bytes of a spool segment after which the next one begins; less where the bound of the spool is less than four of them. Where
/// that bound is reached, one segment is given up.
pub const SPOOL_SEGMENT_BYTES: u64 = 8 << 20;

/// Fewest bytes that the spool may have.
pub const SPOOL_BYTES_MIN: usize = 1 << 20;

/// Bytes of bundles on their way to the thread that writes them; what comes while there are more stays in memory, and is
/// written once there are fewer. It bridges a disk that stalls.
pub const SPOOL_PENDING_BYTES_MAX: usize = 32 << 20;

/// Bundles of the spool that are in memory again to be delivered: one for each connection.
pub const SPOOL_LOADED_MAX: usize = UPLOAD_CONNECTIONS;

/// Age of a written bundle at which it is brought to the disk itself, if it is not delivered by then: what a loss of power
/// may cost beyond that is nothing.
pub const SPOOL_SYNC_AFTER: Duration = Duration::from_secs(1);

/// Time after a failed write in which no other is tried.
pub const SPOOL_RETRY_AFTER: Duration = Duration::from_secs(1);

/// Time from the moment at which the shards have new rules to the first spool segment with their fingerprint: a bundle that
/// was open then is closed and here by that time.
pub const SPOOL_RULES_AFTER: Duration = Duration::from_secs(3);

/// Bundles that the collector refused for good and that are kept for diagnosis; of further ones only the calls are counted.
pub const SPOOL_REFUSED_MAX: usize = 8;

/// Spool segments with damage that are kept aside; one more replaces the oldest.
pub const SPOOL_DAMAGED_MAX: usize = 4;

// ---- supervisor ----

/// How often a capture prints the number of its calls in flight for its supervisor, if it has changed: how old that number
/// may be when the capture is killed.
pub const IN_FLIGHT_EVERY: Duration = Duration::from_millis(100);

/// How often a sink posts its ledger to a store: a minute of its statistics.
pub const LEDGER_EVERY: Duration = Duration::from_secs(60);

/// Time of such a post, which the end of the capture may wait for; past it the next post has its numbers.
pub const LEDGER_WAIT: Duration = Duration::from_secs(2);

// ---- delegates ----

/// Bytes of what a delegate finds: the addresses of a name, or the file of the rules. A longer file is refused. The
/// largest rule sets known have some kilobytes.
pub const DELEGATE_ANSWER_BYTES_MAX: usize = 16 << 20;

// ---- children of the supervisor ----

/// Bytes of one line of a child's standard output, many times a report; a longer one is read in pieces, which are no report.
pub const CHILD_LINE_BYTES_MAX: u64 = 256 * 1024;

/// Pause before the next request of the store is read: however many it sends, the supervisor has time for others.
pub const STORE_REQUEST_PAUSE: Duration = Duration::from_millis(100);

/// Lines of a child that were not taken yet; one more replaces the oldest, since a report has the state as it is now.
pub const CHILD_LINES_MAX: usize = 64;

// ---- control socket ----

/// Clients of the control socket that are answered at the same time, each by a thread; more wait in the kernel's queue. People
/// and scripts need one.
pub const CONTROL_CLIENTS_MAX: usize = 16;

/// Those of one process, of which further connections are closed at once.
pub const CONTROL_CLIENTS_PER_PROCESS_MAX: usize = CONTROL_CLIENTS_MAX / 4;

/// Bytes of one request; a longer one is truncated and then refused as invalid JSON.
pub const CONTROL_REQUEST_BYTES_MAX: u64 = 4096;

/// Time in which a client of the control socket has to send its request, and to take its answer, once there are as many clients as
/// may be; then it is closed.
pub const CONTROL_SILENCE_MAX: Duration = Duration::from_millis(500);

/// Time that a request for a file of packets waits for the end of another one; then it is refused.
pub const CONTROL_FILE_WAIT: Duration = Duration::from_millis(50);

/// Time in which a request has to arrive, and in which a response has to be taken; then the connection is closed.
pub const CONTROL_REQUEST_MAX: Duration = Duration::from_secs(5);

/// Time in which the answers to the last requests have to be taken when the program ends.
pub const CONTROL_LAST_ANSWERS_MAX: Duration = Duration::from_secs(1);

/// Bytes of one answer, or of one event, of a store that a command reads; it is given up past it.
pub const STORE_ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Time in which a store has to answer a command, or to go on with its answer.
pub const STORE_ANSWER_WAIT: Duration = Duration::from_secs(60);

/// Time for a connection to a store.
pub const STORE_CONNECT_WAIT: Duration = Duration::from_secs(5);

/// Connections that `sniffer canary serve` answers at once, a thread each; past it a new one is closed.
pub const CANARY_CLIENTS_MAX: usize = 64;

/// Bytes of the head of a request to it; past it the connection is closed.
pub const CANARY_HEAD_BYTES_MAX: u64 = 8 << 10;

/// Time for one canary and its answer, and time without a new one in the store after which the rest counts as missing.
pub const CANARY_WAIT: Duration = Duration::from_secs(10);

/// Bytes of metrics of another sniffer that `sniffer check --canary 100` reads; the rest is ignored.
pub const METRICS_ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Bytes of the metrics of one node that `sniffer top` reads; they are given up past it. A page of metrics has some hundred
/// kilobytes.
pub const NODE_ANSWER_BYTES_MAX: u64 = 8 << 20;

/// Time for a connection to the metrics port of a node, and again for its answer.
pub const NODE_WAIT: Duration = Duration::from_secs(5);

/// Nodes that `sniffer top` reads at the same time, each by a thread of its own.
pub const NODES_MAX: usize = 64;

/// Bytes of one response that a client reads: many times the size of a status.
pub const CONTROL_RESPONSE_BYTES_MAX: u64 = 4 << 20;

// ---- metrics port ----

/// Clients of the metrics port at the same time. Past it, the one that has waited longest is closed for the next one, counted as
/// `closed` in `sniffer_metrics_clients_total`. A client needs milliseconds, so only those that stall wait for long.
pub const METRICS_CONNECTIONS_MAX: usize = 64;

/// Those of them that are kept for this host.
pub const METRICS_CONNECTIONS_LOCAL: usize = 16;

/// Clients of one host on the network, in the same way: some scrape, some probe.
pub const METRICS_CONNECTIONS_SENDER_MAX: usize = 16;

/// Clients that are accepted before those that are there have their turn.
pub const METRICS_ACCEPTS_MAX: usize = 8;

/// Time for a request to the metrics port and its answer; then the connection is closed.
pub const METRICS_REQUEST_MAX: Duration = Duration::from_secs(5);

/// Bytes of a request's head at the metrics port; a longer one is refused (431).
pub const METRICS_HEAD_BYTES_MAX: usize = 8 * 1024;

/// Steps of hyper for one request at the metrics port. Each step reads or writes what it can, so a handful is used.
pub const METRICS_POLLS_MAX: usize = 64;

/// The pause after a connection to the metrics port could not be accepted because descriptors or memory are used up.
pub const METRICS_ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a file with descriptors of protobuf; a larger one is refused. All of a large company's API takes a few MiB.
pub const DESCRIPTORS_BYTES_MAX: usize = 64 << 20;
